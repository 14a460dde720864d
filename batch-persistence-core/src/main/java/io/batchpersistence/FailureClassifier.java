package io.batchpersistence;

import java.time.Duration;

/**
 * Classifies the exceptions of senders. Called for every exception whose type does not already say what it means, as
 * {@link PermanentDeliveryException} and {@link RetryAfterException} do; exceptions that only wrap another one, such as
 * those added by waiting for a future, are unwrapped first. Must be thread-safe and quick. If it throws, the failure
 * counts as transient.
 *
 * <p>When in doubt: transient. A batch misjudged as permanent needs a person to replay it; one misjudged as transient
 * is tried a few times too often, or, while nothing else is sent to its collector, until its TTL ends.
 */
@FunctionalInterface
public interface FailureClassifier {

    /** Classifies everything as transient. */
    FailureClassifier TRANSIENT = failure -> Classification.TRANSIENT;

    /**
     * Attributes failures caused by the batch to the batch ({@link Kind#BATCH}): {@link NullPointerException}, {@link
     * IllegalArgumentException}, and exceptions of Java, Jackson, Spring and Kafka that say that it could not be
     * serialized or is too large. Everything else is transient.
     */
    FailureClassifier DEFAULT = failure -> BatchFaults.isOne(failure) ? Classification.BATCH : Classification.TRANSIENT;

    /** How to treat a failure. */
    enum Kind {
        /** The batch could not be sent now; it, or any other batch, may be sent later. Many in a row are an outage. */
        TRANSIENT,
        /** The collector is up and asks to come back later, at least with this batch. */
        RETRY_AFTER,
        /**
         * The cause is this batch and not the collector: it could not be turned into a request, or the response is
         * about this particular batch. It is tried again, and becomes a dead letter when its retries are used up, also
         * while the collector is down. Any number of these failures is not an outage.
         */
        BATCH,
        /** The collector will never take this batch, but may take others: a dead letter at once. */
        PERMANENT
    }

    /**
     * The classification of a failure.
     *
     * @param kind how to treat it
     * @param delay with {@link Kind#RETRY_AFTER}, how long to wait; zero if the collector did not say
     */
    record Classification(Kind kind, Duration delay) {

        /** A failure that may not happen again. */
        public static final Classification TRANSIENT = new Classification(Kind.TRANSIENT, Duration.ZERO);

        /** A failure caused by the batch, that may not happen again. */
        public static final Classification BATCH = new Classification(Kind.BATCH, Duration.ZERO);

        /** A failure that will always happen again with this batch. */
        public static final Classification PERMANENT = new Classification(Kind.PERMANENT, Duration.ZERO);

        /**
         * Checks the delay.
         *
         * @throws IllegalArgumentException if the delay is negative
         */
        public Classification {
            if (delay.isNegative()) {
                throw new IllegalArgumentException("delay must not be negative, but is " + delay);
            }
        }

        /**
         * Returns the classification of a collector that asks to come back later.
         *
         * @param delay how long to wait; zero if it did not say
         * @return the classification
         */
        public static Classification retryAfter(Duration delay) {
            return new Classification(Kind.RETRY_AFTER, delay);
        }
    }

    /**
     * Classifies a failure.
     *
     * @param failure what was thrown
     * @return what it means
     */
    Classification classify(Throwable failure);
}
