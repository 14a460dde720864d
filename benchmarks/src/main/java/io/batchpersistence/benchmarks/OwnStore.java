package io.batchpersistence.benchmarks;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.jdbc.JdbcBatchStore;
import io.batchpersistence.jdbc.JdbcStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * The stores of this project as an application uses them: through {@link BatchPersistence}, with the defaults of a user;
 * only the limits are raised.
 */
final class OwnStore implements PersistenceCandidate, Candidate.Shared {

    static final String GUARANTEE = "sync: checksummed, forced to the device, one force shared by all who wait; "
            + "no sync: written to the operating system (survives a killed process). Marks are forced within 200 ms.";

    static final Kind SEGMENT = new Kind(
            "segment",
            "segment store (this project)",
            true,
            "defaults: protobuf by column, zstd, segments of 16 MiB; the bounds raised",
            GUARANTEE,
            Map.of(),
            (directory, sync) -> new OwnStore(DiskBatchStores.segment(options(directory, sync)), () -> {}));

    static final Kind JSON_FILES = new Kind(
            "json-files",
            "JSON-files store (this project)",
            true,
            "defaults; one document a batch by temporary file, force, rename, directory force; the bounds raised",
            GUARANTEE,
            Map.of(),
            (directory, sync) -> new OwnStore(DiskBatchStores.jsonFiles(options(directory, sync)), () -> {}));

    static final Kind JDBC = new Kind(
            "jdbc",
            "JDBC store (this project)",
            true,
            "defaults: protobuf by column, zstd, one writer that commits what waits in groups; the bounds raised; a pool with 4 "
                    + "connections more than callers",
            "sync: committed, with synchronous_commit on, one commit shared by all who wait; no sync: with synchronous_commit "
                    + "off. Marks likewise. Checksummed.",
            Map.of(
                    Limit.NEEDS_DATABASE, Limit.NO_DATABASE_GIVEN,
                    Limit.LESS_SAFE_WITHOUT_SYNC, Limit.COMMITTED_LATER),
            OwnStore::jdbc);

    static final Instant LATER = Instant.parse("2100-01-01T00:00:00Z");

    static final int MOST_BATCHES = 10_000_000;
    static final long MOST_BYTES = 64L << 30;

    private final BatchStore store;
    private final BatchPersistence persistence;
    private final Runnable afterClosing;

    private final LongAdder recoveredBatches = new LongAdder();
    private final LongAdder recoveredEntries = new LongAdder();
    private volatile int concurrency = 1;
    private volatile Runnable onTaken = () -> {};

    private OwnStore(BatchStore store, Runnable afterClosing) {
        this.store = store;
        this.persistence = BatchPersistenceEngine.builder(store)
                .settings(type -> settings())
                .targets(type -> RecoveryTarget.of(batch -> {
                    recoveredBatches.increment();
                    recoveredEntries.add(batch.entries().size());
                    onTaken.run();
                }))
                .build();
        this.afterClosing = afterClosing;
    }

    private CollectorSettings settings() {
        CollectorSettings usual = CollectorSettings.DEFAULT;
        return new CollectorSettings(
                usual.batchTimeout(),
                usual.batchTtl(),
                usual.deadLetterTtl(),
                usual.retry(),
                usual.recovery(),
                concurrency,
                usual.maxRate(),
                usual.order(),
                usual.outageThreshold(),
                usual.maxRetryAfter(),
                usual.replayAfterOutage());
    }

    private static OwnStore jdbc(Path directory, boolean sync) throws IOException {
        DatabasePlace place = DatabasePlace.of(directory);
        HikariDataSource pool = place.pool(sync);
        JdbcStoreOptions options = JdbcStoreOptions.builder()
                .schema(place.schema())
                .maxBatches(MOST_BATCHES)
                .maxBytes(MOST_BYTES)
                .build();
        return new OwnStore(JdbcBatchStore.open(pool, options), pool::close);
    }

    private static DiskStoreOptions options(Path directory, boolean sync) {
        return DiskStoreOptions.builder(directory)
                .sync(sync ? SyncPolicy.ALWAYS : SyncPolicy.NEVER)
                .maxBatches(MOST_BATCHES)
                .maxDiskUsage(MOST_BYTES)
                .segmentSize(16 << 20)
                .build();
    }

    /** Also for a state that takes an outage to reach. */
    @Override
    public BatchStore store() {
        return store;
    }

    CompletableFuture<?> append(String batchId, List<LogEntry> entries) {
        return persistence.persistBatchAsync(batchId, entries, COLLECTOR);
    }

    @Override
    public BatchPersistence persistence() {
        return persistence;
    }

    @Override
    public @Nullable Stored next() {
        List<BatchStore.Claim> claims = store.claim(COLLECTOR, BatchOrder.OLDEST_FIRST, Instant.now(), LATER, 1);
        return claims.isEmpty()
                ? null
                : new Stored(claims.get(0).batch().id(), claims.get(0).batch().entries());
    }

    @Override
    public Recovered recover(int workers) {
        return recover(workers, () -> {});
    }

    /**
     * By recovery, with as many hand-overs at once as there are workers.
     *
     * @param taken called with each batch, by the thread that takes it
     */
    Recovered recover(int workers, Runnable taken) {
        onTaken = taken;
        concurrency = workers;
        persistence.recover();
        while (pending() > 0) {
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(1));
        }
        return new Recovered(recoveredBatches.sum(), recoveredEntries.sum());
    }

    @Override
    public void maintain() {
        store.reclaim();
    }

    @Override
    public long liveBytes() {
        return store.stats().total().bytes();
    }

    @Override
    public void close() {
        persistence.close();
        afterClosing.run();
    }
}
