package io.batchpersistence.benchmarks;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.jdbc.JdbcBatchStore;
import io.batchpersistence.jdbc.JdbcStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskBatchStores;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/** The stores of this project, with the defaults of a user; only the limits are raised. */
final class OwnStore implements Candidate.Shared {

    private static final String GUARANTEE =
            "sync: checksummed, forced to the device, one force shared by all who wait; "
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
            Map.of(Limit.NEEDS_DATABASE, Limit.NO_DATABASE_GIVEN),
            OwnStore::jdbc);

    static final String COLLECTOR = "loki";
    static final Instant LATER = Instant.parse("2100-01-01T00:00:00Z");

    private static final int MOST_BATCHES = 10_000_000;
    private static final long MOST_BYTES = 64L << 30;
    private static final int MOST_CLAIMED = 100;

    private final BatchStore store;
    private final Runnable afterClosing;
    private final Queue<BatchStore.Claim> claimed = new ArrayDeque<>();
    // The first read claims one batch, like those of all other stores.
    private int claim = 1;

    private OwnStore(BatchStore store, Runnable afterClosing) {
        this.store = store;
        this.afterClosing = afterClosing;
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

    /** For a feature that only this project has: appends with many of them in progress. */
    BatchStore store() {
        return store;
    }

    CompletableFuture<?> append(String batchId, List<LogEntry> entries) {
        return store.append(batch(batchId, entries));
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) {
        store.appendAndWait(batch(batchId, entries)).join();
    }

    private static NewBatch batch(String batchId, List<LogEntry> entries) {
        return new NewBatch(batchId, COLLECTOR, entries, Map.of(), Instant.now(), LATER);
    }

    @Override
    public void mark(String batchId) {
        if (store.delivered(batchId) == null) {
            throw new IllegalStateException("batch " + batchId + " is not held");
        }
    }

    @Override
    public long pending() {
        return store.stats().batches();
    }

    @Override
    public @Nullable Stored next() {
        if (claimed.isEmpty()) {
            claimed.addAll(store.claim(COLLECTOR, BatchOrder.OLDEST_FIRST, Instant.now(), LATER, claim));
            claim = MOST_CLAIMED;
        }
        BatchStore.Claim next = claimed.poll();
        return next == null ? null : new Stored(next.batch().id(), next.batch().entries());
    }

    /** Claims one batch at a time, as the engine does for its workers. */
    @Override
    public Recovered recover(int workers) throws Exception {
        return Recovered.sum(Scenarios.inParallel(workers, worker -> {
            Recovered recovered = Recovered.NONE;
            for (List<BatchStore.Claim> claims = claimOne(); !claims.isEmpty(); claims = claimOne()) {
                PersistedBatch batch = claims.get(0).batch();
                mark(batch.id());
                recovered = recovered.and(new Stored(batch.id(), batch.entries()));
            }
            return recovered;
        }));
    }

    private List<BatchStore.Claim> claimOne() {
        return store.claim(COLLECTOR, BatchOrder.OLDEST_FIRST, Instant.now(), LATER, 1);
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
        store.close();
        afterClosing.run();
    }
}
