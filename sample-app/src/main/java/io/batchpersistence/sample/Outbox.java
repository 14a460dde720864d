package io.batchpersistence.sample;

import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Where batches go. Thread-safe. */
interface Outbox {

    /**
     * Takes a batch; durable when it returns. Does not wait for its delivery.
     *
     * @param batchId its id
     * @param entries at least one
     * @param collectorType where it goes
     * @param context given back with the batch
     * @throws io.batchpersistence.DuplicateBatchException if a batch with that id is already held
     * @throws io.batchpersistence.BatchPersistenceException if it was not taken: the caller still has it
     */
    void ship(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * A batch that is held.
     *
     * @param batchId its id
     * @return empty if it was delivered, or never taken
     */
    Optional<PersistedBatch> find(String batchId);
}
