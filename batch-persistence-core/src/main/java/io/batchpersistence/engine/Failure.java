package io.batchpersistence.engine;

import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Classification;
import io.batchpersistence.FailureClassifier.Kind;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.internal.log.LogSanitizer;
import java.lang.reflect.UndeclaredThrowableException;
import java.time.Duration;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * A failed attempt: its kind, and a reason for humans to read.
 *
 * @param kind what kind of failure it is
 * @param reason one line of at most {@link #MAX_REASON} characters, never blank
 * @param delay how long the collector asked to wait; zero if it did not ask, or did not say how long
 */
record Failure(Kind kind, String reason, Duration delay) {

    private static final Logger log = LogSanitizer.logger(BatchPersistenceEngine.class);

    static final int MAX_REASON = 1_000;

    private static final int MAX_WRAPPERS = 100;

    Failure {
        // The text comes from an unknown source, and ends up in the store, in logs and in events.
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

    /**
     * Classifies what a target threw: by the exception itself if its type says what it means, otherwise by the
     * classifier. Unwraps the exceptions that waiting for a future adds.
     */
    static Failure of(Throwable thrown, FailureClassifier classifier) {
        Throwable cause = unwrapped(thrown);
        if (cause instanceof PermanentDeliveryException) {
            return new Failure(Kind.PERMANENT, described(cause), Duration.ZERO);
        }
        if (cause instanceof RetryAfterException later) {
            return new Failure(Kind.RETRY_AFTER, described(cause), later.delay());
        }
        Classification found = classified(cause, classifier);
        return new Failure(found.kind(), described(cause), found.delay());
    }

    private static Throwable unwrapped(Throwable thrown) {
        Throwable cause = thrown;
        // Causes may be cyclic, since any code can set them.
        for (int wrappers = 0; wrappers < MAX_WRAPPERS; wrappers++) {
            boolean wrapper = cause instanceof CompletionException
                    || cause instanceof ExecutionException
                    || cause instanceof UndeclaredThrowableException;
            Throwable inner = wrapper ? cause.getCause() : null;
            if (inner == null) {
                break;
            }
            cause = inner;
        }
        return cause;
    }

    private static Classification classified(Throwable cause, FailureClassifier classifier) {
        try {
            return classifier.classify(cause);
        } catch (Throwable e) {
            log.warn("{} could not classify a failure, which is taken as transient", classifier.getClass(), e);
            return Classification.TRANSIENT;
        }
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
            // The exception can't describe itself; its class name is still informative.
        }
        return cause.getClass().getName();
    }

    private static String trimmed(String reason) {
        String text = LogSanitizer.of(reason.strip());
        if (text.isEmpty()) {
            return "unknown";
        }
        if (text.length() <= MAX_REASON) {
            return text;
        }
        return text.substring(0, Character.isHighSurrogate(text.charAt(MAX_REASON - 1)) ? MAX_REASON - 1 : MAX_REASON);
    }
}
