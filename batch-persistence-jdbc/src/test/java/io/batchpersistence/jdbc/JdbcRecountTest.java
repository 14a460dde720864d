package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * Another program deletes batches or counters. The store detects it, corrects its counters once, and reports what is
 * missing.
 */
class JdbcRecountTest extends JdbcTestBase {

    private static final Duration SOON = Duration.ofSeconds(61);

    @OnEachDatabase
    void a_store_that_was_full_takes_new_batches_when_its_rows_were_deleted(Kind kind) {
        JdbcBatchStore store = open(kind, options -> options.maxBatches(3));
        JdbcBatchStore other = open(database.pool(), options -> options.maxBatches(3));
        List<Corruption> told = new ArrayList<>();
        store.onCorruption(told::add);
        other.onCorruption(told::add);
        append(store, "a", "b", "c");
        markPending(store, "a");
        database.update("DELETE FROM {p}batch WHERE batch_id <> 'c'");
        passASecond();
        assertThat(failure(store.append(batch("d")))).isInstanceOf(BatchRejectedException.class);

        for (int beat = 0; beat < 3; beat++) {
            passing(SOON, store, other);
        }
        append(store, "d", "e");
        CollectorStats stats = balanced(store);
        assertThat(stats.corrupt()).isEqualTo(2);
        assertThat(stats.accepted()).isEqualTo(5);
        assertThat(stats.inFlight()).isEqualTo(3);
        assertThat(told).hasSize(1);
        assertThat(told.get(0).batches()).isEqualTo(2);
        assertThat(told.get(0).collectorType()).isEqualTo("loki");
    }

    @OnEachDatabase
    void deleted_counters_are_made_again_of_what_is_there(Kind kind) {
        JdbcBatchStore store = open(kind);
        JdbcBatchStore other = open();
        List<Corruption> told = new ArrayList<>();
        store.onCorruption(told::add);
        append(store, "a", "b", "c", "d");
        append(other, "e");
        markPending(store, "a", "b");
        database.update("DELETE FROM {p}counter");
        assertThat(store.delivered("c")).isNotNull();
        assertThat(claim(other)).containsExactly("a", "b");
        passASecond();
        assertThat(store.stats().collector("loki").inFlight()
                        + store.stats().collector("loki").pending())
                .as("what is counted from now on only")
                .isNegative();

        for (int beat = 0; beat < 3; beat++) {
            passing(SOON, store, other);
        }
        CollectorStats stats = balanced(store);
        assertThat(stats.inFlight()).isEqualTo(4);
        assertThat(stats.delivered()).isEqualTo(1);
        assertThat(told).isEmpty();
    }

    @OnEachDatabase
    void a_start_finds_counters_that_are_wrong(Kind kind) {
        JdbcBatchStore before = open(kind);
        append(before, "a", "b");
        markPending(before, "a", "b");
        before.close();
        opened.remove(before);
        database.update("DELETE FROM {p}batch WHERE batch_id = 'b'");

        assertThat(balanced(open()).corrupt()).isEqualTo(1);
    }

    /** Passes time for both, in steps shorter than a lease. */
    private void passing(Duration time, JdbcBatchStore one, JdbcBatchStore other) {
        for (int step = 0; step < 4; step++) {
            pass(time.dividedBy(4));
            one.heartbeat();
            other.heartbeat();
        }
    }
}
