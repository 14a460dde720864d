package io.batchpersistence;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * The state of one collector type's lane. Immutable.
 *
 * @param state open, closed or in between
 * @param failuresInARow transient failures since the last success
 * @param outageSince when the collector was marked down; {@code null} if it is not down
 * @param nextProbeAt when it is probed next; {@code null} if it is not down
 * @param probes probes sent since the collector was marked down; 0 if it is not down
 * @param rate current limit of batches handed over per second; 0 for no limit
 * @param unhandled whether recovery has batches for it but neither a sender nor a listener to hand them to
 * @param paused whether an operator has paused it: nothing is handed over until it is resumed
 * @param lastFailure the last failure's reason; {@code null} if there was none since the last success
 */
public record LaneStatus(
        State state,
        int failuresInARow,
        @Nullable Instant outageSince,
        @Nullable Instant nextProbeAt,
        int probes,
        double rate,
        boolean unhandled,
        boolean paused,
        @Nullable String lastFailure) {

    /** The state of a lane. */
    public enum State {
        /** The collector is up: due batches go out. */
        CLOSED,
        /** The collector is marked down: one probe at a time. */
        OPEN,
        /** The collector came back: the rate doubles every second. */
        RAMPING
    }
}
