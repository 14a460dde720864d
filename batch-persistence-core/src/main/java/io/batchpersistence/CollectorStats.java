package io.batchpersistence;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * The accounting of one collector type. Immutable. The counters survive restarts.
 *
 * @param accepted batches that {@code persistBatch} took
 * @param delivered marked delivered
 * @param pending waiting for their next attempt
 * @param inFlight being sent
 * @param dead dead letters
 * @param expired removed by TTL
 * @param evicted dropped to make room
 * @param discarded removed on request
 * @param corrupt lost to damage on disk
 * @param failedAttempts attempts that failed since this process started; not part of the identity
 * @param bytes payload bytes on disk of what is pending, in flight and dead
 * @param oldestPending when the oldest batch that is not a dead letter was persisted (or replayed); {@code null} if there is
 *     none
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
        long bytes,
        @Nullable Instant oldestPending) {

    /** Nothing at all. */
    public static final CollectorStats NONE = new CollectorStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null);

    /**
     * The accounting identity: every accepted batch is somewhere.
     *
     * @return whether {@code accepted = delivered + pending + in flight + dead + expired + evicted + discarded + corrupt}
     */
    public boolean isBalanced() {
        return accepted == delivered + pending + inFlight + dead + expired + evicted + discarded + corrupt;
    }

    /**
     * Adds up.
     *
     * @param other another collector type's
     * @return the sum; of the oldest times the older
     */
    public CollectorStats plus(CollectorStats other) {
        Instant oldest = oldestPending;
        if (oldest == null || (other.oldestPending != null && other.oldestPending.isBefore(oldest))) {
            oldest = other.oldestPending;
        }
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
                bytes + other.bytes,
                oldest);
    }
}
