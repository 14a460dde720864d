package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.BatchDelivery;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Persists a batch and leaves sending to recovery, including the first attempt: a collector that is down or slow then
 * costs disk space, but neither memory nor retries.
 */
record DeliveryOutbox(BatchDelivery delivery, BatchPersistence persistence) implements Outbox {

    @Override
    public void ship(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        delivery.deliverAsync(batchId, entries, collectorType, context);
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        return persistence.find(batchId);
    }
}
