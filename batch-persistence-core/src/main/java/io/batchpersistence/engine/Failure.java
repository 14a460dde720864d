package io.batchpersistence.engine;

import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RetryAfterException;
import java.time.Duration;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import org.jspecify.annotations.Nullable;

/**
 * An attempt that failed: how, and why in words for a person.
 *
 * @param kind how
 * @param reason at most {@link #MAX_REASON} characters, never blank
 * @param delay what the collector asked for; zero unless it did
 */
record Failure(Kind kind, String reason, Duration delay) {

    enum Kind {
        /** Could not be sent now. */
        TRANSIENT,
        /** The collector asked to come back later. */
        RETRY_AFTER,
        /** The collector answered that it will never take it. */
        PERMANENT
    }

    static final int MAX_REASON = 1_000;

    Failure {
        reason = trimmed(reason);
    }

    static Failure transientFailure(@Nullable String reason) {
        return new Failure(Kind.TRANSIENT, given(reason), Duration.ZERO);
    }

    static Failure permanent(@Nullable String reason) {
        return new Failure(Kind.PERMANENT, given(reason), Duration.ZERO);
    }

    static Failure retryAfter(@Nullable Duration delay, @Nullable String reason) {
        if (delay == null || delay.isNegative()) {
            throw new IllegalArgumentException("delay must be zero or positive, but is " + delay);
        }
        return new Failure(Kind.RETRY_AFTER, given(reason), delay);
    }

    /** What a target threw. Looks through the wrappers that waiting for a future puts around an exception. */
    static Failure of(Throwable thrown) {
        Throwable cause = thrown;
        while ((cause instanceof CompletionException || cause instanceof ExecutionException)
                && cause.getCause() != null) {
            cause = cause.getCause();
        }
        if (cause instanceof PermanentDeliveryException) {
            return new Failure(Kind.PERMANENT, described(cause), Duration.ZERO);
        }
        if (cause instanceof RetryAfterException later) {
            return new Failure(Kind.RETRY_AFTER, described(cause), later.delay());
        }
        return new Failure(Kind.TRANSIENT, described(cause), Duration.ZERO);
    }

    private static String given(@Nullable String reason) {
        if (reason == null) {
            throw new IllegalArgumentException("reason must not be null: say in a few words why the attempt failed");
        }
        return reason;
    }

    private static String described(Throwable cause) {
        try {
            boolean worded = cause instanceof PermanentDeliveryException || cause instanceof RetryAfterException;
            String message = worded ? cause.getMessage() : cause.toString();
            if (message != null && !message.isBlank()) {
                return message;
            }
        } catch (RuntimeException | StackOverflowError e) {
            // An exception that can't describe itself: its class still says something.
        }
        return cause.getClass().getName();
    }

    private static String trimmed(String reason) {
        String text = reason.strip();
        if (text.isEmpty()) {
            return "unknown";
        }
        if (text.length() <= MAX_REASON) {
            return text;
        }
        return text.substring(0, Character.isHighSurrogate(text.charAt(MAX_REASON - 1)) ? MAX_REASON - 1 : MAX_REASON);
    }
}
