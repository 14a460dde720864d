package io.batchpersistence.sample;

import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Accepts batches for delivery. Thread-safe. */
interface Outbox {

    /**
     * Persists a batch, which is durable when this method returns. Does not wait for its delivery.
     *
     * @param batchId the batch's id
     * @param entries at least one entry
     * @param collectorType the destination
     * @param context returned with the batch
     * @throws io.batchpersistence.DuplicateBatchException if a batch with that id is already held
     * @throws io.batchpersistence.BatchPersistenceException if the batch was not persisted: the caller still owns it
     */
    void ship(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Finds a batch that is held.
     *
     * @param batchId the batch's id
     * @return the batch; empty if it was delivered or never persisted
     */
    Optional<PersistedBatch> find(String batchId);
}
