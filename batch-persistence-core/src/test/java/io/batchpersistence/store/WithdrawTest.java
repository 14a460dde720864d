package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.internal.spi.LocalBatchStore.BatchRef;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.ManualClock;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Batches that move from a disk store to another store leave no trace in the counters, now and after reopening. */
class WithdrawTest {

    @TempDir
    Path directory;

    private final ManualClock clock = new ManualClock();
    private LocalBatchStore store;

    private void open(StoreKind kind) {
        store = (LocalBatchStore)
                kind.open(DiskStoreOptions.builder(directory).clock(clock).build());
    }

    @AfterEach
    void close() {
        store.close();
    }

    private void append(String... ids) {
        Instant now = clock.instant();
        for (String id : ids) {
            store.append(new NewBatch(id, "loki", Batches.entries(2), Map.of("id", id), now, now.plusSeconds(60)))
                    .join();
        }
    }

    private void fail(String id, boolean dead) {
        store.failed(
                id,
                BatchStore.ANY_FENCE,
                dead ? "400" : "503",
                clock.instant(),
                (type, retries) -> new Verdict(dead, dead ? null : clock.instant(), retries + 1));
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
    void what_waits_is_all_that_nobody_is_sending(StoreKind kind) {
        open(kind);
        append("flying", "pending", "held", "dead");
        clock.advance(Duration.ofMinutes(1));
        fail("pending", false);
        store.failed("held", 0, "x", clock.instant(), (type, retries) -> new Verdict(false, null, 1));
        fail("dead", true);
        assertThat(waiting()).containsExactly("pending", "held", "dead");
        List<BatchRef> first = store.refsAfter(0, 2);
        assertThat(first).hasSize(2);
        List<BatchRef> rest = store.refsAfter(first.get(1).sequence(), 2);
        StoredBatch dead = store.read(rest.get(0));
        assertThat(dead.batch()).isEqualTo(store.find("dead").orElseThrow());
        assertThat(dead.since()).isEqualTo(clock.instant());
        assertThat(dead.bytes()).isPositive();
        assertThat(store.read(first.get(0)).since()).isEqualTo(clock.instant().minus(Duration.ofMinutes(1)));

        assertThat(store.claim("loki", BatchOrder.OLDEST_FIRST, clock.instant(), clock.instant(), 1))
                .hasSize(1);
        assertThat(store.read(first.get(0))).isNull();
        assertThat(store.withdraw(first.get(0))).as("someone is sending it").isFalse();
        assertThat(store.markDead(first.get(0), "x", clock.instant())).isFalse();
        assertThat(loki().accepted()).isEqualTo(4);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void segment_what_was_withdrawn_was_never_accepted(boolean checkpoint) {
        whatWasWithdrawnWasNeverAccepted(StoreKind.SEGMENT, checkpoint);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void json_files_what_was_withdrawn_was_never_accepted(boolean checkpoint) {
        whatWasWithdrawnWasNeverAccepted(StoreKind.JSON_FILES, checkpoint);
    }

    private void whatWasWithdrawnWasNeverAccepted(StoreKind kind, boolean checkpoint) {
        open(kind);
        append("pending", "dead", "delivered", "stays");
        fail("pending", false);
        fail("dead", true);
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
            assertThat(store.list(BatchSelector.all(), clock.instant())).hasSize(2);
            if (opening == 1) {
                store.reclaim();
            }
            store.close();
            open(kind);
        }
        // The id is free.
        append("pending");
        assertThat(loki().accepted()).isEqualTo(4);
    }

    @ParameterizedTest
    @EnumSource
    void what_is_buried_stays_so(StoreKind kind) {
        open(kind);
        assertThat(store.isEmpty()).isTrue();
        append("a");
        assertThat(store.isEmpty()).isFalse();
        fail("a", false);
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
            open(kind);
        }
    }
}
