package io.batchpersistence.spring.actuate;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.engine.LaneStatus;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.actuate.endpoint.Access;
import org.springframework.boot.actuate.endpoint.InvalidEndpointRequestException;
import org.springframework.boot.actuate.endpoint.annotation.Endpoint;
import org.springframework.boot.actuate.endpoint.annotation.ReadOperation;
import org.springframework.boot.actuate.endpoint.annotation.Selector;

/**
 * The actuator endpoint {@code batchpersistence}. Shows what is held and what became of the rest; never what is in a batch:
 * neither its entries nor its context. Thread-safe.
 */
@Endpoint(id = "batchpersistence", defaultAccess = Access.READ_ONLY)
public final class BatchPersistenceEndpoint {

    private static final String BATCHES = "batches";
    private static final int DEFAULT_LIMIT = 100;
    private static final int MAX_LIMIT = 1_000;

    private final BatchPersistence persistence;

    /**
     * Shows one.
     *
     * @param persistence what is shown
     */
    public BatchPersistenceEndpoint(BatchPersistence persistence) {
        this.persistence = persistence;
    }

    /**
     * {@code GET /actuator/batchpersistence}.
     *
     * @return the numbers
     */
    @ReadOperation
    public Summary summary() {
        BatchStats stats = persistence.stats();
        Map<String, LaneStatus> lanes =
                persistence instanceof BatchPersistenceEngine engine ? engine.lanes() : Map.of();
        TreeSet<String> names = new TreeSet<>(stats.collectors().keySet());
        names.addAll(lanes.keySet());
        Map<String, Collector> collectors = new TreeMap<>();
        for (String name : names) {
            CollectorStats collector = stats.collector(name);
            collectors.put(name, new Collector(collector, collector.isBalanced(), lanes.get(name)));
        }
        return new Summary(
                stats.batches(),
                stats.maxBatches(),
                stats.diskUsage(),
                stats.maxDiskUsage(),
                stats.fillLevel(),
                stats.problem(),
                collectors);
    }

    /**
     * {@code GET /actuator/batchpersistence/batches}.
     *
     * @param view {@code batches}; there are no others
     * @param collectorType only of this collector type
     * @param state only in this state
     * @param failureReason only where the last failure's reason matches, {@code *} for any characters and {@code ?} for one
     * @param limit at most that many, 1 to 1,000, by default 100
     * @return the oldest of those, or {@code null} (not found) for another view
     */
    @ReadOperation
    public @Nullable Batches list(
            @Selector String view,
            @Nullable String collectorType,
            @Nullable BatchState state,
            @Nullable String failureReason,
            @Nullable Integer limit) {
        if (!view.equals(BATCHES)) {
            return null;
        }
        int most = limit == null ? DEFAULT_LIMIT : limit;
        if (most < 1 || most > MAX_LIMIT) {
            throw new InvalidEndpointRequestException(
                    "limit is " + most + ", but must be from 1 to " + MAX_LIMIT,
                    "limit must be from 1 to " + MAX_LIMIT);
        }
        BatchSelector selector =
                BatchSelector.all().failureReason(failureReason).limit(most);
        if (collectorType != null) {
            selector = selector.collectorTypes(collectorType);
        }
        if (state != null) {
            selector = selector.states(state);
        }
        return new Batches(persistence.list(selector).stream().map(Batch::of).toList());
    }

    /**
     * What is held.
     *
     * @param batches batches held, dead letters included
     * @param maxBatches their bound
     * @param diskUsage bytes of all files
     * @param maxDiskUsage their bound
     * @param fillLevel the larger share of the two, from 0 to 1
     * @param problem why batches can't be taken at the moment; absent if they can
     * @param collectors by collector type
     */
    public record Summary(
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage,
            double fillLevel,
            @Nullable String problem,
            Map<String, Collector> collectors) {}

    /**
     * One collector type.
     *
     * @param stats its accounting
     * @param balanced whether every accepted batch is accounted for; may be false for a moment while batches move
     * @param lane how its collector is doing; absent if recovery has not met it
     */
    public record Collector(
            CollectorStats stats,
            boolean balanced,
            @Nullable LaneStatus lane) {}

    /**
     * Some batches.
     *
     * @param batches oldest first
     */
    public record Batches(List<Batch> batches) {}

    /**
     * A batch, without anything of what is in it.
     *
     * @param id its id
     * @param collectorType the destination's name
     * @param state where it is on its way
     * @param createdAt when it was persisted
     * @param lastAttempt when the last attempt failed
     * @param nextAttemptAt when it is tried next, or times out
     * @param retryCount failed attempts
     * @param failureReason why the last attempt failed
     * @param entryCount number of entries
     * @param bytes size on disk
     */
    public record Batch(
            String id,
            String collectorType,
            BatchState state,
            Instant createdAt,
            @Nullable Instant lastAttempt,
            @Nullable Instant nextAttemptAt,
            int retryCount,
            @Nullable String failureReason,
            int entryCount,
            long bytes) {

        private static Batch of(BatchSummary batch) {
            return new Batch(
                    batch.id(),
                    batch.collectorType(),
                    batch.state(),
                    batch.createdAt(),
                    batch.lastAttempt(),
                    batch.nextAttemptAt(),
                    batch.retryCount(),
                    batch.failureReason(),
                    batch.entryCount(),
                    batch.bytes());
        }
    }
}
