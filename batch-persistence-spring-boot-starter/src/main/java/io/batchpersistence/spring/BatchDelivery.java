package io.batchpersistence.spring;

import io.batchpersistence.DeliveryResult;
import io.batchpersistence.LogEntry;
import java.util.List;
import java.util.Map;

/**
 * Persist, send, mark in one call. Thread-safe.
 *
 * <pre>{@code
 * delivery.deliver(UUID.randomUUID().toString(), entries, "loki");      // tries to send now, on this thread
 * delivery.deliverAsync(UUID.randomUUID().toString(), entries, "loki"); // leaves sending to recovery's threads
 * }</pre>
 *
 * <p>Both throw only if the batch was not persisted: then the caller still owns it. Once they return, the batch is on disk or
 * delivered, and nothing is left for the caller to do.
 *
 * <p>With {@code batch_persistence.jdbc.join_transaction: true} and within a transaction of the application, both only persist the
 * batch, as a part of that transaction; {@code deliver} returns {@link io.batchpersistence.DeliveryResult.Outcome#PENDING}. When
 * the transaction has been committed, recovery's threads send it at once. If it is rolled back, the batch has never been.
 *
 * <p>With {@code batch_persistence.enabled: false} nothing is kept: both send on the calling thread, and throw what the sender
 * throws, wrapped in a {@link io.batchpersistence.BatchPersistenceException}, because then, too, the caller still owns the
 * batch.
 */
public interface BatchDelivery {

    /**
     * Persists the batch, sends it on the calling thread, and marks it. It is not sent, but left to recovery without an attempt
     * being counted, when its collector is taken to be down, has asked to come back later, is coming back and takes no more at
     * the moment, or is paused, when {@code max_rate} is used up, and when it has no {@link io.batchpersistence.BatchSender}.
     *
     * @param batchId any non-blank text of at most 255 characters, not held at the moment
     * @param entries at least one
     * @param collectorType the destination's name
     * @return what became of it; a failure to send is not thrown
     * @throws IllegalArgumentException if an argument is not as {@code persistBatch} wants it
     * @throws io.batchpersistence.DuplicateBatchException if the id is already held
     * @throws io.batchpersistence.BatchRejectedException if the store is full
     * @throws io.batchpersistence.BatchPersistenceException if the batch could not be written
     */
    default DeliveryResult deliver(String batchId, List<LogEntry> entries, String collectorType) {
        return deliver(batchId, entries, collectorType, Map.of());
    }

    /**
     * The same with a context.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context free text that the sender gets with the batch, for instance a tenant
     * @return as above
     */
    DeliveryResult deliver(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Persists the batch and leaves sending to recovery, which begins at once if the collector's lane is free. The batch is
     * durable when this returns; its entries are not kept in memory, so a slow collector costs disk, not heap.
     *
     * @param batchId any non-blank text of at most 255 characters, not held at the moment
     * @param entries at least one
     * @param collectorType the destination's name
     * @throws IllegalArgumentException if an argument is not as {@code persistBatch} wants it
     * @throws io.batchpersistence.DuplicateBatchException if the id is already held
     * @throws io.batchpersistence.BatchRejectedException if the store is full
     * @throws io.batchpersistence.BatchPersistenceException if the batch could not be written
     */
    default void deliverAsync(String batchId, List<LogEntry> entries, String collectorType) {
        deliverAsync(batchId, entries, collectorType, Map.of());
    }

    /**
     * The same with a context.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context as above
     */
    void deliverAsync(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);
}
