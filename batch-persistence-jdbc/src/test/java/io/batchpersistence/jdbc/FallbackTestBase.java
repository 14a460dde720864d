package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.store.DiskBatchStores;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;

/** One instance with a fallback. The test controls the database and the moves. */
abstract class FallbackTestBase extends JdbcTestBase {

    @TempDir
    Path directory;

    JdbcBatchStore primary;
    LocalBatchStore spare;
    FallbackBatchStore store;

    @AfterEach
    void closeFallback() {
        if (store != null) {
            store.close();
        }
    }

    void begin(Kind kind) {
        onFaulty(kind);
        openFallback();
    }

    void openFallback() {
        openFallback(options -> options, options -> options);
    }

    void openFallback(UnaryOperator<JdbcStoreOptions.Builder> shared, UnaryOperator<DiskStoreOptions.Builder> local) {
        primary = open(source, shared);
        spare = (LocalBatchStore) DiskBatchStores.segment(
                local.apply(DiskStoreOptions.builder(directory).clock(clock)).build());
        store = new FallbackBatchStore(primary, spare, directory, clock);
    }

    void stopDatabase() {
        source.refuse();
        try {
            primary.heartbeat();
        } catch (BatchPersistenceException e) {
            // The failed heartbeat detects the outage.
        }
        assertThat(store.isFullyReachable()).isFalse();
    }

    void restartDatabase() {
        source.recover();
        primary.heartbeat();
        assertThat(store.isFullyReachable()).isTrue();
    }

    void append(String... ids) {
        for (String id : ids) {
            store.append(batch(id)).join();
        }
    }

    /** Returns batches in flight to pending, in either store. */
    void markPending(String... ids) {
        markFailed(store, "503", again(), ids);
    }

    void markDead(String... ids) {
        markFailed(store, "400", (type, retries) -> new Verdict(true, null, 7), ids);
    }

    /** Appends batches while the database is away, and makes them pending in the fallback. It is back afterwards. */
    void keepHere(String... ids) {
        stopDatabase();
        append(ids);
        markPending(ids);
        restartDatabase();
    }

    List<Claim> claim() {
        Instant now = clock.instant();
        return store.claim("loki", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 100);
    }

    CollectorStats loki() {
        return store.stats().collector("loki");
    }

    static Set<String> ids(BatchStore any, Instant now) {
        Set<String> ids = new TreeSet<>();
        any.list(BatchSelector.all(), now).stream().map(BatchSummary::id).forEach(ids::add);
        return ids;
    }

    Set<String> local() {
        return ids(spare, clock.instant());
    }

    Set<String> shared() {
        return ids(primary, clock.instant());
    }

    /** Checks that the counters match the batches in both stores. Needs the database. */
    CollectorStats balanced() {
        CollectorStats stats = balanced(store, ALL.collectorTypes("loki"));
        assertThat(spare.stats().collector("loki").isBalanced()).isTrue();
        assertThat(primary.stats().collector("loki").isBalanced()).isTrue();
        return stats;
    }
}
