package io.batchpersistence;

import java.time.Instant;

/**
 * An attempt to send a batch that failed or timed out. Immutable.
 *
 * @param at when it failed
 * @param reason why
 */
public record FailedAttempt(Instant at, String reason) {

    /** Maximum number of failed attempts kept of one batch, besides the last one. */
    public static final int MAX_EARLIER = 4;
}
