package io.batchpersistence;

/**
 * Sends batches of one collector type. The recovery callback.
 *
 * <p>Returning normally means the collector has it: the batch is delivered. Any exception means a failed attempt, with
 * the exception as the reason, and the batch is tried again later. Two exceptions have a special meaning: {@link
 * PermanentDeliveryException} makes it a dead letter at once, {@link RetryAfterException} says when to try again.
 *
 * <p>Delivery is at least once: a batch whose sending was interrupted after the collector had accepted it is sent again
 * under the same id. May be called by several threads at a time, never for the same batch.
 */
@FunctionalInterface
public interface BatchSender {

    /**
     * Sends the batch and waits until the collector has it.
     *
     * @param batch what to send
     * @throws PermanentDeliveryException if the collector will never take it
     * @throws RetryAfterException if the collector asked to wait
     * @throws Exception if it could not be sent now
     */
    void send(PersistedBatch batch) throws Exception;
}
