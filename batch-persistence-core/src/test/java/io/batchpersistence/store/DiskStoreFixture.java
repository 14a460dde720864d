package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.ManualClock;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;

/** A directory for the stores of a test, their clock, what they report, and calls in the usual form. */
public abstract class DiskStoreFixture {

    protected static final BatchSelector ALL = BatchSelector.all();

    @TempDir
    protected Path directory;

    protected final ManualClock clock = new ManualClock();
    protected final List<Corruption> reports = new ArrayList<>();

    /** With these options each store is opened. */
    protected DiskStoreOptions.Builder options() {
        return DiskStoreOptions.builder(directory).clock(clock);
    }

    protected final BatchStore open(StoreKind kind) {
        return reporting(kind.open(options().build()));
    }

    protected final BatchStore open(StoreKind kind, Disk disk) {
        return reporting(kind.open(options().build(), disk));
    }

    private BatchStore reporting(BatchStore store) {
        store.onCorruption(reports::add);
        return store;
    }

    protected final Instant now() {
        return clock.instant();
    }

    /** A batch that is in flight for a minute, with content derived from its id. */
    protected final NewBatch batch(String id) {
        return GeneratedBatch.of(id, now(), now().plusSeconds(60));
    }

    protected final NewBatch batch(String id, String collectorType, List<LogEntry> entries) {
        return new NewBatch(id, collectorType, entries, GeneratedBatch.context(id), now(), now().plusSeconds(60));
    }

    protected final void append(BatchStore store, String... ids) {
        for (String id : ids) {
            store.append(batch(id)).join();
        }
    }

    protected final List<String> ids(BatchStore store) {
        return store.list(ALL, now()).stream().map(BatchSummary::id).toList();
    }

    protected final List<Claim> claim(BatchStore store, String collectorType, int max) {
        return store.claim(collectorType, BatchOrder.OLDEST_FIRST, now(), now().plusSeconds(60), max);
    }

    /** Makes it a dead letter, or due at once. */
    protected final void fail(BatchStore store, String id, boolean dead) {
        fail(store, id, dead ? "400" : "503", new Verdict(dead, dead ? null : now(), 1));
    }

    protected final void fail(BatchStore store, String id, String reason, Verdict verdict) {
        assertThat(store.failed(id, BatchStore.ANY_FENCE, reason, now(), (type, retries) -> verdict))
                .as(id)
                .isNotNull();
    }
}
