package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.internal.spi.LocalBatchStore.BatchRef;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Batches that move from a disk store to another store leave no trace in the counters, now and after reopening. */
class WithdrawTest extends DiskStoreFixture {

    private LocalBatchStore store;

    private void begin(StoreKind kind) {
        store = (LocalBatchStore) open(kind);
    }

    @AfterEach
    void close() {
        store.close();
    }

    private void append(String... ids) {
        for (String id : ids) {
            store.append(batch(id, "loki", Batches.entries(2))).join();
        }
    }

    private CollectorStats loki() {
        CollectorStats stats = store.stats().collector("loki");
        assertThat(stats.isBalanced()).as("%s", stats).isTrue();
        return stats;
    }

    private List<String> waiting() {
        return store.refsAfter(0, 100).stream()
                .map(store::read)
                .map(stored -> stored.batch().id())
                .toList();
    }

    @ParameterizedTest
    @EnumSource
    void what_waits_is_all_that_is_not_being_sent(StoreKind kind) {
        begin(kind);
        append("flying", "pending", "held", "dead");
        clock.advance(Duration.ofMinutes(1));
        fail(store, "pending", false);
        fail(store, "held", "x", new Verdict(false, null, 1));
        fail(store, "dead", true);
        assertThat(waiting()).containsExactly("pending", "held", "dead");
        List<BatchRef> first = store.refsAfter(0, 2);
        assertThat(first).hasSize(2);
        List<BatchRef> rest = store.refsAfter(first.get(1).sequence(), 2);
        StoredBatch dead = store.read(rest.get(0));
        assertThat(dead.batch()).isEqualTo(store.find("dead").orElseThrow());
        assertThat(dead.since()).isEqualTo(clock.instant());
        assertThat(dead.bytes()).isPositive();
        assertThat(store.read(first.get(0)).since()).isEqualTo(clock.instant().minus(Duration.ofMinutes(1)));

        assertThat(claim(store, "loki", 1)).hasSize(1);
        assertThat(store.read(first.get(0))).isNull();
        assertThat(store.withdraw(first.get(0))).as("someone is sending it").isFalse();
        assertThat(store.markDead(first.get(0), "x", clock.instant())).isFalse();
        assertThat(loki().accepted()).isEqualTo(4);
    }

    @ParameterizedTest
    @CsvSource({"SEGMENT, true", "SEGMENT, false", "JSON_FILES, true", "JSON_FILES, false"})
    void what_was_withdrawn_was_never_accepted(StoreKind kind, boolean checkpoint) {
        begin(kind);
        append("pending", "dead", "delivered", "stays");
        fail(store, "pending", false);
        fail(store, "dead", true);
        store.delivered("delivered");
        if (checkpoint) {
            store.reclaim();
        }
        for (BatchRef each : store.refsAfter(0, 100)) {
            assertThat(store.withdraw(each)).isTrue();
            assertThat(store.withdraw(each)).isFalse();
        }
        append("more");
        for (int opening = 0; opening < 3; opening++) {
            CollectorStats stats = loki();
            assertThat(stats.accepted()).isEqualTo(3);
            assertThat(stats.delivered()).isOne();
            assertThat(stats.pending() + stats.inFlight()).isEqualTo(2);
            assertThat(stats.dead()).isZero();
            assertThat(store.holds("pending")).isFalse();
            assertThat(store.holds("stays")).isTrue();
            assertThat(ids(store)).hasSize(2);
            if (opening == 1) {
                store.reclaim();
            }
            store.close();
            begin(kind);
        }
        // The id is free.
        append("pending");
        assertThat(loki().accepted()).isEqualTo(4);
    }

    @ParameterizedTest
    @EnumSource
    void what_is_buried_stays_so(StoreKind kind) {
        begin(kind);
        assertThat(store.isEmpty()).isTrue();
        append("a");
        assertThat(store.isEmpty()).isFalse();
        fail(store, "a", false);
        BatchRef where = store.refsAfter(0, 1).get(0);
        assertThat(store.markDead(where, "can't be moved", clock.instant())).isTrue();
        assertThat(store.markDead(where, "again", clock.instant())).isFalse();
        for (int opening = 0; opening < 2; opening++) {
            assertThat(store.find("a")).hasValueSatisfying(batch -> {
                assertThat(batch.state()).isEqualTo(BatchState.DEAD);
                assertThat(batch.failureReason()).isEqualTo("can't be moved");
                assertThat(batch.earlierFailures()).hasSize(1);
                assertThat(batch.retryCount()).isOne();
            });
            assertThat(loki().dead()).isOne();
            store.close();
            begin(kind);
        }
    }
}
