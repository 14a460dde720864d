package io.batchpersistence.benchmarks;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spi.BatchStore;
import java.util.List;

/** A store of this project, used through {@link BatchPersistence} as applications do. */
interface PersistenceCandidate extends Candidate {

    String COLLECTOR = "loki";

    BatchPersistence persistence();

    /** The store below. */
    BatchStore store();

    @Override
    default void persist(String batchId, List<LogEntry> entries) {
        persistence().persistBatch(batchId, entries, COLLECTOR);
    }

    @Override
    default void mark(String batchId) {
        if (!persistence().markBatchSuccess(batchId)) {
            throw new IllegalStateException("batch " + batchId + " is not held");
        }
    }

    @Override
    default long pending() {
        return store().stats().batches();
    }
}
