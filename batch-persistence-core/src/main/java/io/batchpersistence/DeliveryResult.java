package io.batchpersistence;

import org.jspecify.annotations.Nullable;

/**
 * What became of a batch that was durably accepted. Immutable.
 *
 * @param outcome what became of the batch
 * @param failure what the sender threw; {@code null} if it threw nothing or was not called
 */
public record DeliveryResult(Outcome outcome, @Nullable Throwable failure) {

    /** What became of the batch. */
    public enum Outcome {
        /** The collector has it. */
        DELIVERED,
        /** It waits, and recovery will send it. */
        PENDING,
        /** The collector will never take it, or its only attempt is used up: a dead letter. */
        DEAD
    }

    /**
     * Whether the collector has the batch.
     *
     * @return whether the outcome is {@link Outcome#DELIVERED}
     */
    public boolean isDelivered() {
        return outcome == Outcome.DELIVERED;
    }
}
