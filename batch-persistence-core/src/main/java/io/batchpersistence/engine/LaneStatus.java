package io.batchpersistence.engine;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * How one collector type's lane is doing. Immutable.
 *
 * @param state open, closed or in between
 * @param failuresInARow transient failures since the last success
 * @param outageSince when the collector was taken to be down; {@code null} if it is not
 * @param nextProbeAt when it is tried next; {@code null} if it is not down
 * @param unhandled whether recovery has batches for it but neither a sender nor a listener to hand them to
 * @param lastFailure the last failure's reason; {@code null} if there was none since the last success
 */
public record LaneStatus(
        State state,
        int failuresInARow,
        @Nullable Instant outageSince,
        @Nullable Instant nextProbeAt,
        boolean unhandled,
        @Nullable String lastFailure) {

    /** The state of a lane. */
    public enum State {
        /** The collector is up: due batches go out. */
        CLOSED,
        /** The collector is taken to be down: one probe at a time. */
        OPEN,
        /** The collector came back: the rate doubles every second. */
        RAMPING
    }
}
