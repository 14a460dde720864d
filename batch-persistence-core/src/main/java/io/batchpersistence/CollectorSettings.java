package io.batchpersistence;

import java.time.Duration;
import java.util.Objects;

/**
 * Settings for the batches of one collector type. Immutable.
 *
 * @param batchTimeout in flight longer than this counts as a failed attempt
 * @param batchTtl a batch older than this is removed, counted and announced
 * @param deadLetterTtl the TTL of dead letters, counted from when they were given up
 * @param retry when and how often to try again
 * @param recovery whether recovery runs for this collector type by itself; {@link
 *     BatchPersistence#recover(BatchSelector)} works all the same
 * @param concurrency maximum number of batches handed over and not yet settled, at least 1
 * @param maxRate maximum number of batches handed over per second; 0 for no limit
 * @param order which of the due batches go first
 * @param outageThreshold transient failures in a row after which the collector is marked down, and only probed; 0 for
 *     never
 * @param maxRetryAfter longest wait that a collector can ask for ({@link RetryAfterException}); a longer one is reduced
 *     to this, and logged
 * @param replayAfterOutage whether dead letters that used up their retries are replayed when an outage of the collector
 *     ends; those that the collector rejected are not
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
        int outageThreshold,
        Duration maxRetryAfter,
        boolean replayAfterOutage) {

    /**
     * The defaults: 5 minutes, 24 hours, 7 days, one at a time, no rate limit, oldest first, outage after 3 failures,
     * waits of up to 1 hour.
     */
    public static final CollectorSettings DEFAULT = new CollectorSettings(
            Duration.ofMinutes(5),
            Duration.ofHours(24),
            Duration.ofDays(7),
            RecoveryPolicy.DEFAULT,
            true,
            1,
            0,
            BatchOrder.OLDEST_FIRST,
            3,
            Duration.ofHours(1),
            false);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is out of its range
     */
    public CollectorSettings {
        RecoveryPolicy.requirePositive(batchTimeout, "batch timeout");
        RecoveryPolicy.requirePositive(batchTtl, "batch TTL");
        RecoveryPolicy.requirePositive(deadLetterTtl, "dead letter TTL");
        RecoveryPolicy.requirePositive(maxRetryAfter, "max retry after");
        Objects.requireNonNull(retry, "retry must not be null");
        Objects.requireNonNull(order, "order must not be null");
        if (concurrency < 1) {
            throw new IllegalArgumentException("concurrency must be at least 1, but is " + concurrency);
        }
        if (!(maxRate >= 0) || Double.isInfinite(maxRate)) {
            throw new IllegalArgumentException("max rate must be 0 (off) or positive, but is " + maxRate);
        }
        if (outageThreshold < 0) {
            throw new IllegalArgumentException(
                    "outage threshold must be 0 (off) or positive, but is " + outageThreshold);
        }
    }
}
