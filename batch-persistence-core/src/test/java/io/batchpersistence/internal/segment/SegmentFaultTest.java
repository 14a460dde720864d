package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A disk that is full, failing or slow. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@ExtendWith(MutedLog.class)
class SegmentFaultTest extends DiskStoreFixture {

    private static final String FULL = "No space left on device";
    private static final String BROKEN = "Input/output error";
    private MemoryDisk files = new MemoryDisk();
    private FaultyDisk disk = new FaultyDisk(files);
    private BatchStore store;

    @Override
    protected DiskStoreOptions.Builder options() {
        // So slow that compaction never finishes: faults must hit their target.
        return super.options().segmentSize(4 << 10).compactionRate(1);
    }

    @BeforeEach
    void open() {
        store = open(StoreKind.SEGMENT, disk);
    }

    @AfterEach
    void nothing_is_lost_and_the_books_balance() {
        disk.heal();
        store.close();
        open();
        assertBalanced();
        assertThat(reports).allSatisfy(report -> assertThat(report.batches()).isZero());
        store.close();
    }

    private void reopen() {
        store.close();
        disk.heal();
        open();
        assertBalanced();
    }

    /** Reopens the store as after kill -9. */
    private void killAndReopen() {
        MemoryDisk left = files.copy();
        disk.heal();
        store.close();
        files = left;
        disk = new FaultyDisk(files);
        open();
        assertBalanced();
    }

    private void assertBalanced() {
        assertThat(store.stats().collectors())
                .allSatisfy((type, stats) ->
                        assertThat(stats.isBalanced()).as("%s: %s", type, stats).isTrue());
    }

    private CompletableFuture<Void> persist(String id) {
        return store.append(batch(id, "loki", Batches.entries(2)));
    }

    private void append(String... ids) {
        for (String id : ids) {
            persist(id).join();
        }
    }

    private void assertRefused(String id, String why) {
        CompletionException failure = catchThrowableOfType(CompletionException.class, persist(id)::join);
        assertThat(failure.getCause())
                .isInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining(id)
                .hasMessageContaining(why);
    }

    private List<String> held() {
        return ids(store);
    }

    /** Persists a batch and waits until its force waits for the gate. */
    private CompletableFuture<Void> persistUntilForced(String id) {
        CompletableFuture<Void> future = persist(id);
        Awaitility.await().until(() -> disk.waitingForces() == 1);
        return future;
    }

    @Test
    void a_lone_append_costs_one_force_and_is_acknowledged_after_it() {
        append("first");
        int before = disk.segmentForces();
        CountDownLatch gate = disk.blockForces();
        CompletableFuture<Void> future = persistUntilForced("lone");
        assertThat(future).isNotDone();
        assertThat(store.find("lone")).isEmpty();
        gate.countDown();
        future.join();
        assertThat(store.find("lone")).isPresent();
        assertThat(disk.segmentForces() - before).isOne();
    }

    @Test
    void all_that_wait_share_one_force() {
        append("first");
        int before = disk.segmentForces();
        CountDownLatch gate = disk.blockForces();
        CompletableFuture<Void> lone = persistUntilForced("lone");
        List<CompletableFuture<Void>> group =
                IntStream.range(0, 10).mapToObj(i -> persist("group " + i)).toList();
        gate.countDown();
        lone.join();
        group.forEach(CompletableFuture::join);

        assertThat(disk.segmentForces() - before).isEqualTo(2);
        assertThat(held()).hasSize(12);
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 16, 60, 100, 100_000})
    void a_disk_that_is_full_refuses_the_batch_and_the_next_one_is_taken(int written) {
        append("before");
        disk.fail(Operation.WRITE, ".segment", FULL).partly(written).times(1);

        assertRefused("refused", FULL);
        assertThat(store.find("refused")).isEmpty();
        assertThat(store.stats().problem()).contains(FULL);
        append("after");
        assertThat(store.stats().problem()).isNull();
        assertThat(held()).containsExactly("before", "after");
        killAndReopen();
        assertThat(held()).containsExactly("before", "after");
        // The id is free.
        append("refused");
        reopen();
        assertThat(held()).containsExactly("before", "after", "refused");
    }

    @ParameterizedTest
    @EnumSource(
            value = Operation.class,
            names = {"CREATE", "WRITE", "FORCE_DIRECTORY", "FORCE"})
    void a_first_segment_that_can_not_be_begun_refuses_until_it_can(Operation operation) {
        disk.fail(operation, operation == Operation.FORCE_DIRECTORY ? "" : ".segment", FULL);
        assertRefused("a", FULL);
        assertRefused("b", FULL);
        disk.heal();
        append("a");
        killAndReopen();
        assertThat(held()).containsExactly("a");
    }

    @Test
    void a_force_that_fails_tells_all_waiting_callers_and_no_others() {
        append("safe");
        CountDownLatch gate = disk.blockForces();
        CompletableFuture<Void> first = persistUntilForced("first");
        List<CompletableFuture<Void>> group =
                IntStream.range(0, 3).mapToObj(i -> persist("group " + i)).toList();
        disk.fail(Operation.FORCE, ".segment", BROKEN).after(1).times(1);
        gate.countDown();
        first.join();
        for (CompletableFuture<Void> future : group) {
            assertThat(catchThrowableOfType(CompletionException.class, future::join))
                    .hasMessageContaining(BROKEN);
        }
        append("next");

        assertThat(held()).containsExactly("safe", "first", "next");
        assertThat(files.files(".segment")).hasSize(2);
        killAndReopen();
        assertThat(held()).containsExactly("safe", "first", "next");
    }

    @Test
    void what_was_refused_stays_away_even_if_the_file_can_not_be_cut_off() {
        append("safe");
        disk.fail(Operation.FORCE, ".segment", BROKEN).times(1);
        CountDownLatch gate = disk.blockForces();
        CompletableFuture<Void> refused = persistUntilForced("refused");
        gate.countDown();
        assertThat(catchThrowableOfType(CompletionException.class, refused::join))
                .hasMessageContaining(BROKEN);
        disk.heal();
        disk.fail(Operation.TRUNCATE, ".segment", BROKEN);
        append("more");
        disk.fail(Operation.WRITE, ".segment", BROKEN).partly(10_000).times(1);
        assertRefused("refused too", BROKEN);
        append("next");
        reopen();
        assertThat(held()).containsExactly("safe", "more", "next");
    }

    @Test
    void a_segment_that_can_not_be_sealed_is_read_all_the_same() {
        append("a");
        disk.fail(Operation.TRUNCATE, ".segment", BROKEN);
        store.close();
        disk.heal();
        open();
        assertThat(held()).containsExactly("a");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 7, 9, 30})
    void a_journal_that_can_not_be_written_is_replaced_and_no_mark_is_lost(int written) {
        append("delivered", "failed", "other");
        disk.fail(Operation.WRITE, ".journal", BROKEN).partly(written);
        disk.fail(Operation.WRITE, "state-", BROKEN).partly(written).times(1);
        assertThat(store.delivered("delivered")).isNotNull();
        fail(store, "failed", false);
        append("later");
        assertThat(store.stats().collector("loki").delivered()).isOne();
        assertThat(held()).containsExactly("failed", "other", "later");
        reopen();
        assertThat(held()).containsExactly("failed", "other", "later");
        assertThat(store.find("failed").orElseThrow().retryCount()).isOne();
        assertThat(store.stats().collector("loki").delivered()).isOne();
    }

    @Test
    void a_journal_whose_force_fails_is_replaced_and_no_mark_is_lost() {
        append("delivered", "dead");
        fail(store, "dead", true);
        disk.fail(Operation.FORCE, "state-", BROKEN).times(1);
        store.delivered("delivered");
        // Forces the journal.
        assertThat(store.replay(ALL, clock.instant())).isOne();
        killAndReopen();
        assertThat(held()).containsExactly("dead");
        assertThat(store.find("dead").orElseThrow().state()).isEqualTo(BatchState.PENDING);
    }

    @Test
    void while_no_journal_can_be_written_marks_count_and_the_problem_is_told() {
        append("a", "b", "c");
        disk.fail(Operation.WRITE, "state-", FULL);
        assertThat(store.delivered("a")).isNotNull();
        fail(store, "b", false);
        assertThat(store.discard(ALL.ids("c"), clock.instant())).isOne();
        assertThat(store.stats().problem()).contains(FULL);
        assertThat(held()).containsExactly("b");
        append("d");
        assertThat(claim(store, "loki", 9)).hasSize(1);
        disk.heal();
        store.reclaim();
        assertThat(store.stats().problem()).isNull();
        killAndReopen();
        assertThat(held()).containsExactly("b", "d");
        assertThat(store.stats().collector("loki").delivered()).isOne();
        assertThat(store.stats().collector("loki").discarded()).isOne();
    }

    @Test
    void a_store_opens_on_a_full_disk_and_can_be_emptied() {
        append("a", "b");
        store.close();
        disk.fail(Operation.WRITE, "", FULL);
        open();
        assertThat(store.stats().problem()).contains(FULL);
        assertThat(held()).containsExactly("a", "b");
        assertRefused("c", FULL);
        assertThat(store.delivered("a")).isNotNull();
        assertThat(store.delivered("b")).isNotNull();
        store.reclaim();
        assertThat(files.files(".segment")).isEmpty();
        disk.heal();
        append("c");
        reopen();
        assertThat(held()).containsExactly("c");
        assertThat(store.stats().collector("loki").delivered()).isEqualTo(2);
    }

    @Test
    void a_segment_that_can_not_be_deleted_brings_nothing_back() {
        append("a", "b");
        disk.fail(Operation.DELETE, ".segment", BROKEN);
        store.delivered("a");
        store.delivered("b");
        store.reclaim();
        append("c");
        for (int opening = 0; opening < 3; opening++) {
            store.close();
            open();
            assertThat(held()).containsExactly("c");
        }
        disk.heal();
        store.reclaim();
        assertThat(files.files(".segment")).hasSize(1);
    }

    @Test
    void an_old_journal_that_can_not_be_deleted_does_no_harm() {
        append("a");
        disk.fail(Operation.DELETE, ".journal", BROKEN);
        for (int opening = 0; opening < 3; opening++) {
            store.close();
            open();
            assertThat(store.stats().problem()).isNull();
        }
        store.delivered("a");
        store.reclaim();
        killAndReopen();
        assertThat(held()).isEmpty();
    }

    @Test
    void a_batch_that_can_not_be_read_for_a_moment_is_not_lost() {
        append("a");
        fail(store, "a", false);
        disk.fail(Operation.READ, ".segment", BROKEN);
        assertThat(catchThrowableOfType(BatchPersistenceException.class, () -> claim(store, "loki", 9)))
                .hasMessageContaining(BROKEN);
        disk.heal();
        assertThat(held()).containsExactly("a");
        clock.advance(Duration.ofMinutes(1));
        assertThat(claim(store, "loki", 9)).hasSize(1);
        assertThat(reports).isEmpty();
    }

    @Test
    void a_segment_that_can_not_be_read_when_opening_is_there_again_the_next_time() {
        append("a", "b");
        fail(store, "b", false);
        store.close();
        disk.fail(Operation.READ, ".segment", BROKEN);
        assertThat(catchThrowableOfType(BatchPersistenceException.class, this::open))
                .hasMessageContainingAll(".segment can't be read", BROKEN);
        disk.heal();
        open();
        assertThat(reports).isEmpty();
        assertThat(held()).containsExactly("a", "b");
        assertThat(store.find("b").orElseThrow().retryCount()).isOne();
        assertThat(store.delivered("a")).isNotNull();
        assertBalanced();
    }

    /** Whichever journal is used after the opening, marks made from then on survive the next opening. */
    @Test
    void whichever_change_fails_while_opening_marks_made_afterwards_are_kept() {
        append("a", "b", "c");
        fail(store, "b", false);
        store.close();
        MemoryDisk closed = files;
        for (int number = 1; ; number++) {
            String what = "change " + number + " fails";
            files = closed.copy();
            disk = new FaultyDisk(files);
            disk.failChange(number);
            open();
            boolean failed = disk.changes() >= number;
            disk.heal();
            assertThat(store.delivered("a")).as(what).isNotNull();
            assertThat(store.discard(ALL.ids("b"), clock.instant())).as(what).isOne();
            store.close();
            MemoryDisk afterwards = files.afterPowerCut();

            reopen();
            assertThat(held()).as(what).containsExactly("c");
            store.close();
            files = afterwards;
            disk = new FaultyDisk(files);
            open();
            assertThat(held()).as(what + ", and a power cut").containsExactly("c");
            assertBalanced();
            if (!failed) {
                assertThat(number).isGreaterThan(10);
                return;
            }
            store.close();
        }
    }

    /**
     * The journal records refused batches in the middle of a round. A mark that arrives meanwhile belongs to the next
     * round.
     */
    @Test
    void a_mark_is_kept_that_comes_while_the_journal_is_told_what_was_refused() {
        store.close();
        // No other force of the journal happens.
        store = StoreKind.SEGMENT.open(
                options().syncInterval(Duration.ofDays(1)).build(), disk);
        append("delivered", "held");
        disk.fail(Operation.WRITE, ".segment", FULL);
        assertRefused("refused", FULL);
        disk.heal();
        CountDownLatch gate = disk.blockForces(".journal");
        CompletableFuture<Void> next = persistUntilForced("next");
        assertThat(store.delivered("delivered")).isNotNull();
        gate.countDown();
        next.join();
        reopen();
        assertThat(held()).containsExactlyInAnyOrder("held", "next");
    }
}
