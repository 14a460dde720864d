package io.batchpersistence;

import java.io.Serial;
import java.time.Duration;

/**
 * The collector asked to come back later, as with HTTP 429 or 503 and {@code Retry-After}. This delays only this batch;
 * if as many different batches in a row get it as make an outage, all batches of the collector type are delayed.
 */
public class RetryAfterException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    private final Duration delay;

    /**
     * Creates an exception with the delay that the collector asked for.
     *
     * @param delay how long to wait, not negative
     * @param reason why, as the operator will read it
     * @throws IllegalArgumentException if the delay is negative
     */
    public RetryAfterException(Duration delay, String reason) {
        super(reason);
        if (delay.isNegative()) {
            throw new IllegalArgumentException("delay must not be negative, but is " + delay);
        }
        this.delay = delay;
    }

    /**
     * Returns how long to wait.
     *
     * @return the delay, not negative
     */
    public Duration delay() {
        return delay;
    }
}
