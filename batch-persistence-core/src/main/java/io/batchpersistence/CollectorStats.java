package io.batchpersistence;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * The accounting of one collector type. Immutable. The counters survive restarts.
 *
 * @param accepted batches that {@code persistBatch} accepted
 * @param delivered marked delivered
 * @param pending waiting for their next attempt
 * @param inFlight being sent
 * @param dead dead letters
 * @param expired removed by TTL
 * @param evicted dropped to make room
 * @param discarded removed on request
 * @param corrupt lost to damage on disk
 * @param failedAttempts attempts that failed since this process started; not part of the accounting identity
 * @param pendingVolume volume of the pending batches
 * @param inFlightVolume volume of the batches in flight
 * @param deadVolume volume of the dead letters
 * @param oldestPending when the oldest batch that is not a dead letter was persisted (or replayed); {@code null} if
 *     there is none
 * @param oldestDead when the first of the dead letters was given up; {@code null} if there are none
 * @param nextAttemptAt when the first of the pending batches is due; any time in the past if some are due already;
 *     {@code null} if none has a due time
 */
public record CollectorStats(
        long accepted,
        long delivered,
        long pending,
        long inFlight,
        long dead,
        long expired,
        long evicted,
        long discarded,
        long corrupt,
        long failedAttempts,
        BatchVolume pendingVolume,
        BatchVolume inFlightVolume,
        BatchVolume deadVolume,
        @Nullable Instant oldestPending,
        @Nullable Instant oldestDead,
        @Nullable Instant nextAttemptAt) {

    /** All numbers zero. */
    public static final CollectorStats NONE = new CollectorStats(
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, BatchVolume.NONE, BatchVolume.NONE, BatchVolume.NONE, null, null, null);

    /**
     * Checks the accounting identity: every accepted batch is accounted for.
     *
     * @return whether {@code accepted = delivered + pending + in flight + dead + expired + evicted + discarded +
     *     corrupt}
     */
    public boolean isBalanced() {
        return accepted == delivered + pending + inFlight + dead + expired + evicted + discarded + corrupt;
    }

    /**
     * Adds up.
     *
     * @param other another collector type's
     * @return the sum; of two times, the earlier one
     */
    public CollectorStats plus(CollectorStats other) {
        return new CollectorStats(
                accepted + other.accepted,
                delivered + other.delivered,
                pending + other.pending,
                inFlight + other.inFlight,
                dead + other.dead,
                expired + other.expired,
                evicted + other.evicted,
                discarded + other.discarded,
                corrupt + other.corrupt,
                failedAttempts + other.failedAttempts,
                pendingVolume.plus(other.pendingVolume),
                inFlightVolume.plus(other.inFlightVolume),
                deadVolume.plus(other.deadVolume),
                earlier(oldestPending, other.oldestPending),
                earlier(oldestDead, other.oldestDead),
                earlier(nextAttemptAt, other.nextAttemptAt));
    }

    private static @Nullable Instant earlier(@Nullable Instant one, @Nullable Instant other) {
        if (one == null || other == null) {
            return one == null ? other : one;
        }
        return one.isBefore(other) ? one : other;
    }

    /**
     * Payload bytes on disk of all that is held.
     *
     * @return the bytes of pending batches, batches in flight and dead letters
     */
    public long bytes() {
        return pendingVolume.plus(inFlightVolume).plus(deadVolume).bytes();
    }
}
