package io.batchpersistence.spring;

import io.batchpersistence.DeliveryResult;
import io.batchpersistence.LogEntry;
import java.util.List;
import java.util.Map;

/**
 * Persists, sends and marks a batch in one call. Thread-safe.
 *
 * <pre>{@code
 * delivery.deliver(UUID.randomUUID().toString(), entries, "loki");      // tries to send now, on this thread
 * delivery.deliverAsync(UUID.randomUUID().toString(), entries, "loki"); // leaves sending to recovery's threads
 * }</pre>
 *
 * <p>Both methods throw only if the batch was not persisted; the caller then still owns it. Once they return, the batch
 * is on disk or delivered, and the caller has nothing left to do.
 *
 * <p>With {@code batch_persistence.jdbc.join_transaction: true} and within a transaction of the application, both
 * methods only persist the batch, as part of that transaction; {@code deliver} returns {@link
 * io.batchpersistence.DeliveryResult.Outcome#PENDING}. As soon as the transaction has committed, recovery's threads
 * send the batch. If the transaction is rolled back, the batch was never persisted.
 *
 * <p>With {@code batch_persistence.enabled: false} nothing is kept: both methods send on the calling thread and throw
 * what the sender throws, wrapped in a {@link io.batchpersistence.BatchPersistenceException}, because the caller still
 * owns the batch in this case, too.
 */
public interface BatchDelivery {

    /**
     * Persists the batch, sends it on the calling thread, and marks it. The batch is not sent but left to recovery,
     * without counting an attempt, if its collector is marked down, has asked for a later retry, is ramping up again
     * and takes no more at the moment, or is paused, if {@code max_rate} is used up, or if there is no {@link
     * io.batchpersistence.BatchSender} for it.
     *
     * @param batchId any non-blank text of at most 255 characters that the store does not hold at the moment
     * @param entries at least one entry
     * @param collectorType the destination's name
     * @return the outcome of the batch; a failure to send is not thrown
     * @throws IllegalArgumentException if {@code persistBatch} would not accept an argument
     * @throws io.batchpersistence.DuplicateBatchException if the id is already held
     * @throws io.batchpersistence.BatchRejectedException if the store is full
     * @throws io.batchpersistence.BatchPersistenceException if the batch could not be written
     */
    default DeliveryResult deliver(String batchId, List<LogEntry> entries, String collectorType) {
        return deliver(batchId, entries, collectorType, Map.of());
    }

    /**
     * Persists, sends and marks a batch with a context; otherwise like {@link #deliver(String, List, String)}.
     *
     * @param batchId any non-blank text of at most 255 characters that the store does not hold at the moment
     * @param entries at least one entry
     * @param collectorType the destination's name
     * @param context free text that is passed to the sender with the batch, for instance a tenant
     * @return the outcome of the batch; a failure to send is not thrown
     */
    DeliveryResult deliver(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Persists the batch and leaves sending to recovery, which starts at once if the collector's lane is free. The
     * batch is durable when this method returns; its entries are not kept in memory, so a slow collector costs disk
     * space, not heap.
     *
     * @param batchId any non-blank text of at most 255 characters that the store does not hold at the moment
     * @param entries at least one entry
     * @param collectorType the destination's name
     * @throws IllegalArgumentException if {@code persistBatch} would not accept an argument
     * @throws io.batchpersistence.DuplicateBatchException if the id is already held
     * @throws io.batchpersistence.BatchRejectedException if the store is full
     * @throws io.batchpersistence.BatchPersistenceException if the batch could not be written
     */
    default void deliverAsync(String batchId, List<LogEntry> entries, String collectorType) {
        deliverAsync(batchId, entries, collectorType, Map.of());
    }

    /**
     * Persists a batch with a context and leaves sending to recovery; otherwise like {@link #deliverAsync(String, List,
     * String)}.
     *
     * @param batchId any non-blank text of at most 255 characters that the store does not hold at the moment
     * @param entries at least one entry
     * @param collectorType the destination's name
     * @param context free text that is passed to the sender with the batch, for instance a tenant
     */
    void deliverAsync(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);
}
