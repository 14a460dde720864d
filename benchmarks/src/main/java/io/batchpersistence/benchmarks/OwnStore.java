package io.batchpersistence.benchmarks;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchStore;
import io.batchpersistence.LogEntry;
import io.batchpersistence.NewBatch;
import io.batchpersistence.store.DiskStoreOptions;
import io.batchpersistence.store.SyncPolicy;
import io.batchpersistence.store.file.JsonFileBatchStore;
import io.batchpersistence.store.segment.SegmentBatchStore;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/** The stores of this project, with the defaults a user gets; only the bounds are out of the way. */
final class OwnStore implements Candidate {

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
            (directory, sync) -> new OwnStore(options(directory, sync), SegmentBatchStore::open));

    static final Kind JSON_FILES = new Kind(
            "json-files",
            "JSON-files store (this project)",
            true,
            "defaults; one document a batch by temporary file, force, rename, directory force; the bounds raised",
            GUARANTEE,
            Map.of(),
            (directory, sync) -> new OwnStore(options(directory, sync), JsonFileBatchStore::open));

    static final String COLLECTOR = "loki";
    static final Instant LATER = Instant.parse("2100-01-01T00:00:00Z");

    private static final int MOST_CLAIMED = 100;

    private final BatchStore store;
    private final Queue<BatchStore.Claim> claimed = new ArrayDeque<>();
    private int claim = 1; // the first read is of one batch, as of every store

    private OwnStore(DiskStoreOptions options, Function<DiskStoreOptions, BatchStore> opener) {
        this.store = opener.apply(options);
    }

    private static DiskStoreOptions options(Path directory, boolean sync) {
        return DiskStoreOptions.builder(directory)
                .sync(sync ? SyncPolicy.ALWAYS : SyncPolicy.NEVER)
                .maxBatches(10_000_000)
                .maxDiskUsage(64L << 30)
                .segmentSize(16 << 20)
                .build();
    }

    /** For what only this project has: appends that many are under way of. */
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
    }
}
