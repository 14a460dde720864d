package io.batchpersistence.engine;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.EngineCounters;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.NewBatch;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/** Stores nothing, see {@link BatchPersistenceEngine#disabled()}. */
final class NoOpBatchPersistence implements BatchPersistence {

    private static final BatchStats NOTHING = new BatchStats(Map.of(), 0, 0, 0, 0, null);

    @Override
    public void persistBatch(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        check(batchId, entries, collectorType, context);
    }

    @Override
    public CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        try {
            check(batchId, entries, collectorType, context);
            return CompletableFuture.completedFuture(null);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    @Override
    public void persistUnsent(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        check(batchId, entries, collectorType, context);
    }

    @Override
    public void recoverSoon(String collectorType) {
        NewBatch.checkedCollectorType(collectorType);
    }

    private static void check(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        new NewBatch(batchId, collectorType, entries, context, Instant.EPOCH, Instant.EPOCH);
    }

    @Override
    public DeliveryResult deliver(
            String batchId,
            List<LogEntry> entries,
            String collectorType,
            Map<String, String> context,
            BatchSender sender) {
        check(batchId, entries, collectorType, context);
        try {
            sender.send(new PersistedBatch(
                    batchId,
                    entries,
                    collectorType,
                    Instant.now(),
                    null,
                    null,
                    0,
                    null,
                    context,
                    BatchState.IN_FLIGHT));
        } catch (Exception e) {
            if (e instanceof InterruptedException) {
                Thread.currentThread().interrupt();
            }
            throw new BatchPersistenceException(
                    "batch " + batchId
                            + " was neither sent nor kept: sending failed, and batch persistence is disabled",
                    e);
        }
        return new DeliveryResult(DeliveryResult.Outcome.DELIVERED, null);
    }

    @Override
    public boolean markBatchSuccess(String batchId) {
        Objects.requireNonNull(batchId, "batch id must not be null");
        return false;
    }

    @Override
    public boolean markBatchFailed(String batchId, String reason) {
        Objects.requireNonNull(batchId, "batch id must not be null");
        Failure.transientFailure(reason);
        return false;
    }

    @Override
    public boolean markBatchFailed(String batchId, Throwable cause) {
        Objects.requireNonNull(cause, "cause must not be null");
        return releaseBatch(batchId);
    }

    @Override
    public boolean releaseBatch(String batchId) {
        Objects.requireNonNull(batchId, "batch id must not be null");
        return false;
    }

    @Override
    public void recover() {}

    @Override
    public long recover(BatchSelector selector) {
        return none(selector);
    }

    @Override
    public long cleanup() {
        return 0;
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        Objects.requireNonNull(batchId, "batch id must not be null");
        return Optional.empty();
    }

    @Override
    public List<BatchSummary> list(BatchSelector selector) {
        Objects.requireNonNull(selector, "selector must not be null");
        return List.of();
    }

    @Override
    public long count(BatchSelector selector) {
        return none(selector);
    }

    @Override
    public List<FailureGroup> failures(BatchSelector selector) {
        Objects.requireNonNull(selector, "selector must not be null");
        return List.of();
    }

    @Override
    public long replay(BatchSelector selector, double perSecond) {
        BatchPersistenceEngine.requireRate(perSecond);
        return none(selector);
    }

    @Override
    public boolean pause(String collectorType) {
        NewBatch.checkedCollectorType(collectorType);
        return false;
    }

    @Override
    public boolean resume(String collectorType) {
        NewBatch.checkedCollectorType(collectorType);
        return false;
    }

    @Override
    public Set<String> pausedCollectorTypes() {
        return Set.of();
    }

    @Override
    public long discard(BatchSelector selector) {
        return none(selector);
    }

    @Override
    public BatchStats stats() {
        return NOTHING;
    }

    @Override
    public Map<String, LaneStatus> lanes() {
        return Map.of();
    }

    @Override
    public EngineCounters counters() {
        return new EngineCounters(0, 0, 0, 0, 0);
    }

    @Override
    public void close() {}

    private static long none(BatchSelector selector) {
        Objects.requireNonNull(selector, "selector must not be null");
        return 0;
    }
}
