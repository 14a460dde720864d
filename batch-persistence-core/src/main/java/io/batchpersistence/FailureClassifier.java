package io.batchpersistence;

import java.time.Duration;

/**
 * Says what an exception of a sender means. Asked for every exception that does not say so itself, as {@link
 * PermanentDeliveryException} and {@link RetryAfterException} do; exceptions that only wrap another because somebody waited for
 * a future are taken off before. Thread-safe, quick. If it throws, the failure is taken as transient.
 *
 * <p>When in doubt: transient. A batch misjudged as permanent needs a person to replay it; one misjudged as transient is tried
 * a few times too often, and while nothing else is sent to its collector, until its TTL is over.
 */
@FunctionalInterface
public interface FailureClassifier {

    /** Everything is transient. */
    FailureClassifier TRANSIENT = failure -> Classification.TRANSIENT;

    /**
     * What comes from the batch is laid to the batch ({@link Kind#BATCH}): {@link NullPointerException}, {@link
     * IllegalArgumentException}, and exceptions of Java, Jackson, Spring and Kafka that say that it could not be serialized or is
     * too large. Everything else is transient.
     */
    FailureClassifier DEFAULT = failure -> BatchFaults.isOne(failure) ? Classification.BATCH : Classification.TRANSIENT;

    /** What to make of a failure. */
    enum Kind {
        /** The batch could not be sent now; it, or any other, may be sent later. Many in a row are an outage. */
        TRANSIENT,
        /** The collector is there and asks to come back later, with this batch at least. */
        RETRY_AFTER,
        /**
         * It lies with this batch and not with the collector: it could not be turned into a request, or the answer is about this very
         * batch. It is tried again, and a dead letter when its retries are used up, also while the collector is down. However
         * many there are, they are no outage.
         */
        BATCH,
        /** The collector will never take this batch, and may well take others: a dead letter at once. */
        PERMANENT
    }

    /**
     * What a failure is.
     *
     * @param kind what to make of it
     * @param delay with {@link Kind#RETRY_AFTER}, how long to wait; zero if the collector did not say
     */
    record Classification(Kind kind, Duration delay) {

        /** A failure that may not happen again. */
        public static final Classification TRANSIENT = new Classification(Kind.TRANSIENT, Duration.ZERO);

        /** A failure that lies with the batch, and may not happen again. */
        public static final Classification BATCH = new Classification(Kind.BATCH, Duration.ZERO);

        /** A failure that will always happen again with this batch. */
        public static final Classification PERMANENT = new Classification(Kind.PERMANENT, Duration.ZERO);

        /**
         * Checks.
         *
         * @throws IllegalArgumentException if the delay is negative
         */
        public Classification {
            if (delay.isNegative()) {
                throw new IllegalArgumentException("delay must not be negative, but is " + delay);
            }
        }

        /**
         * The collector asks to come back later.
         *
         * @param delay how long to wait; zero if it did not say
         * @return the classification
         */
        public static Classification retryAfter(Duration delay) {
            return new Classification(Kind.RETRY_AFTER, delay);
        }
    }

    /**
     * Classifies.
     *
     * @param failure what was thrown
     * @return what it means
     */
    Classification classify(Throwable failure);
}
