package io.batchpersistence;

import java.time.Duration;
import java.util.Objects;
import java.util.random.RandomGenerator;

/**
 * When a failed batch is tried again, and how often. Immutable.
 *
 * <p>The delay after the {@code n}th failure in a row is {@code min(max, base × multiplier^(n-1))}, shortened by a
 * random part of up to {@code jitter} of it, so that many batches, or many instances, that failed together do not
 * return together. With jitter 1 this is the "full jitter" of Marc Brooker's <em>Exponential Backoff And Jitter</em>
 * (AWS Architecture Blog, 2015), with 0.5 the "equal jitter" of the same text.
 *
 * @param base delay after the first failure, positive
 * @param multiplier growth from failure to failure, at least 1
 * @param max longest delay, at least {@code base}
 * @param jitter share of the delay that is random, 0 to 1
 * @param maxRetries failed attempts after which a batch is a dead letter, at least 1
 */
public record RecoveryPolicy(Duration base, double multiplier, Duration max, double jitter, int maxRetries) {

    /** The defaults: 1 s, doubling up to 5 minutes, half of it random, 10 attempts. */
    public static final RecoveryPolicy DEFAULT =
            new RecoveryPolicy(Duration.ofSeconds(1), 2, Duration.ofMinutes(5), 0.5, 10);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is out of its range
     */
    public RecoveryPolicy {
        Objects.requireNonNull(base, "base must not be null");
        Objects.requireNonNull(max, "max must not be null");
        requirePositive(base, "backoff base");
        if (!(multiplier >= 1) || Double.isInfinite(multiplier)) {
            throw new IllegalArgumentException("backoff multiplier must be at least 1, but is " + multiplier);
        }
        if (max.compareTo(base) < 0) {
            throw new IllegalArgumentException("backoff max must be at least the base of " + base + ", but is " + max);
        }
        if (!(jitter >= 0 && jitter <= 1)) {
            throw new IllegalArgumentException("jitter must be between 0 and 1, but is " + jitter);
        }
        if (maxRetries < 1) {
            throw new IllegalArgumentException("max retries must be at least 1, but is " + maxRetries);
        }
    }

    /**
     * Computes the delay before the next attempt. Call it once per failure and store the result.
     *
     * @param failures failures so far, at least 1
     * @param random source of the jitter
     * @return between {@code (1 - jitter)} of the full delay and all of it, in whole milliseconds
     */
    public Duration delayAfter(int failures, RandomGenerator random) {
        double full =
                Math.min((double) max.toMillis(), base.toMillis() * Math.pow(multiplier, Math.max(0, failures - 1)));
        return Duration.ofMillis(Math.round(full * (1 - jitter * random.nextDouble())));
    }

    // Not in CollectorSettings, whose default needs this class: that would be a circle of initializations.
    static void requirePositive(Duration value, String name) {
        if (value.isNegative() || value.isZero()) {
            throw new IllegalArgumentException(name + " must be positive, but is " + value);
        }
    }
}
