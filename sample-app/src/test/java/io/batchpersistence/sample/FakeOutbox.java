package io.batchpersistence.sample;

import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchState;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;
import java.util.stream.Stream;

/** Holds batches until they are delivered, like the store; refuses on demand. */
final class FakeOutbox implements Outbox {

    /** All batches ever accepted, in order. */
    final List<PersistedBatch> taken = new ArrayList<>();

    final Map<String, PersistedBatch> held = new LinkedHashMap<>();
    Predicate<String> refusesCollector = collector -> false;
    Runnable beforeTaking = () -> {};
    int duplicates;
    int refusals;

    @Override
    public void ship(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        if (refusesCollector.test(collectorType)) {
            refusals++;
            throw new BatchRejectedException("full");
        }
        if (held.containsKey(batchId)) {
            duplicates++;
            throw new DuplicateBatchException(batchId);
        }
        beforeTaking.run();
        PersistedBatch batch = new PersistedBatch(
                batchId, entries, collectorType, Instant.EPOCH, null, null, 0, null, context, BatchState.IN_FLIGHT);
        taken.add(batch);
        held.put(batchId, batch);
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        return Optional.ofNullable(held.get(batchId));
    }

    /** The messages of all batches ever accepted. */
    List<String> messages() {
        return entries().map(LogEntry::message).toList();
    }

    List<String> sourceIds() {
        return entries().map(LogEntry::sourceId).toList();
    }

    List<Integer> batchSizes() {
        return taken.stream().map(batch -> batch.entries().size()).toList();
    }

    private Stream<LogEntry> entries() {
        return taken.stream().flatMap(batch -> batch.entries().stream());
    }
}
