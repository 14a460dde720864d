package io.batchpersistence;

import java.time.Duration;
import java.util.Objects;

/**
 * What holds for the batches of one collector type. Immutable.
 *
 * @param batchTimeout in flight longer than this counts as a failed attempt
 * @param batchTtl a batch older than this is removed, counted and announced
 * @param deadLetterTtl the same for dead letters, from the moment they were given up
 * @param retry when and how often to try again
 * @param recovery whether recovery runs for this collector type by itself; {@link BatchPersistence#recover(BatchSelector)}
 *     works all the same
 * @param concurrency batches handed over and not settled at a time, at least 1
 * @param maxRate batches handed over a second; 0 for no limit
 * @param order which of the due batches goes first
 * @param freshShare share of the batches handed over that are the newest of those due instead of the oldest, 0 to 1: what
 *     happens now is seen although a backlog drains; 0 with {@link BatchOrder#NEWEST_FIRST}
 * @param outageThreshold transient failures in a row after which the collector is taken to be down, and only probed; 0 for
 *     never
 * @param maxRetryAfter longest wait that a collector can ask for ({@link RetryAfterException}); a longer wish is taken as this
 *     one, and logged
 * @param replayAfterOutage whether dead letters that used up their retries are replayed when an outage of the collector ends;
 *     those that it rejected are not
 */
public record CollectorSettings(
        Duration batchTimeout,
        Duration batchTtl,
        Duration deadLetterTtl,
        RecoveryPolicy retry,
        boolean recovery,
        int concurrency,
        double maxRate,
        BatchOrder order,
        double freshShare,
        int outageThreshold,
        Duration maxRetryAfter,
        boolean replayAfterOutage) {

    /** 5 minutes, 24 hours, 7 days, one at a time, no rate limit, oldest first, outage after 3 failures, waits of up to an hour. */
    public static final CollectorSettings DEFAULT = new CollectorSettings(
            Duration.ofMinutes(5),
            Duration.ofHours(24),
            Duration.ofDays(7),
            RecoveryPolicy.DEFAULT,
            true,
            1,
            0,
            BatchOrder.OLDEST_FIRST,
            0,
            3,
            Duration.ofHours(1),
            false);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is out of its range
     */
    public CollectorSettings {
        Settings.positive(batchTimeout, "batch timeout");
        Settings.positive(batchTtl, "batch TTL");
        Settings.positive(deadLetterTtl, "dead letter TTL");
        Settings.positive(maxRetryAfter, "max retry after");
        Objects.requireNonNull(retry, "retry must not be null");
        Objects.requireNonNull(order, "order must not be null");
        if (concurrency < 1) {
            throw new IllegalArgumentException("concurrency must be at least 1, but is " + concurrency);
        }
        if (!(maxRate >= 0) || Double.isInfinite(maxRate)) {
            throw new IllegalArgumentException("max rate must be 0 (off) or positive, but is " + maxRate);
        }
        if (!(freshShare >= 0 && freshShare <= 1)) {
            throw new IllegalArgumentException("fresh share must be between 0 and 1, but is " + freshShare);
        }
        if (freshShare > 0 && order == BatchOrder.NEWEST_FIRST) {
            throw new IllegalArgumentException("fresh share must be 0 with order newest first, where all are");
        }
        if (outageThreshold < 0) {
            throw new IllegalArgumentException(
                    "outage threshold must be 0 (off) or positive, but is " + outageThreshold);
        }
    }
}
