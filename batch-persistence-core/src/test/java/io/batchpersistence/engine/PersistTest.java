package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatNullPointerException;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Corruption;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.StepExecutor;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.awaitility.Awaitility;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class PersistTest extends BenchTest {

    private static final Duration LONG = Duration.ofMinutes(1);

    private void bounded(int maxBatches, OverflowPolicy policy, Duration timeout) {
        rebuild(new InMemoryBatchStore(maxBatches), builder -> builder.overflow(policy, timeout));
    }

    @Test
    void what_is_wrong_with_a_batch_is_said_to_the_caller_and_nothing_is_kept() throws Exception {
        assertThatIllegalArgumentException().isThrownBy(() -> bench.persist(" "));
        assertThatIllegalArgumentException().isThrownBy(() -> bench.persist("x".repeat(256)));
        assertThatIllegalArgumentException().isThrownBy(() -> bench.engine.persistBatch("a", List.of(), "loki"));
        assertThatIllegalArgumentException().isThrownBy(() -> bench.persist("a", ""));
        CompletableFuture<Void> future = bench.engine.persistBatchAsync(null, Batches.entries(1), "loki");
        assertThatExceptionOfType(ExecutionException.class)
                .isThrownBy(future::get)
                .withCauseInstanceOf(IllegalArgumentException.class);
        assertThat(bench.engine.count(BatchSelector.all())).isZero();

        bench.persist("../../etc/passwd");
        assertThat(bench.engine.find("../../etc/passwd")).isPresent();
    }

    @Test
    void an_id_that_is_held_is_refused_with_the_stores_own_exception() {
        bench.persist("a");
        assertThatExceptionOfType(DuplicateBatchException.class).isThrownBy(() -> bench.persist("a"));
        assertThat(failure(bench.engine.persistBatchAsync("a", Batches.entries(1), "loki")))
                .isInstanceOf(DuplicateBatchException.class);
        assertThat(bench.stats().accepted()).isEqualTo(1);
    }

    @Test
    void an_interrupt_while_waiting_for_the_disk_does_not_lose_track_of_the_batch() throws Exception {
        CompletableFuture<@Nullable Void> disk = new CompletableFuture<>();
        InMemoryBatchStore slow = new InMemoryBatchStore() {
            @Override
            public synchronized CompletableFuture<@Nullable Void> append(NewBatch batch) {
                super.append(batch).join();
                return disk;
            }
        };
        rebuild(slow, builder -> builder);
        AtomicReference<Boolean> interruptedAfterwards = new AtomicReference<>();
        Thread caller = new Thread(() -> {
            bench.persist("a");
            interruptedAfterwards.set(Thread.currentThread().isInterrupted());
        });
        caller.start();
        caller.interrupt();
        Awaitility.await().until(() -> caller.getState() == Thread.State.WAITING && !caller.isInterrupted());
        assertThat(interruptedAfterwards.get()).isNull();
        disk.complete(null);
        caller.join();
        assertThat(interruptedAfterwards.get()).isTrue();
    }

    @Test
    void what_hangs_on_the_future_does_not_run_on_the_stores_thread_and_cancelling_does_not_reach_it() {
        List<CompletableFuture<@Nullable Void>> disk = new ArrayList<>();
        InMemoryBatchStore slow = new InMemoryBatchStore() {
            @Override
            public synchronized CompletableFuture<@Nullable Void> append(NewBatch batch) {
                super.append(batch).join();
                disk.add(new CompletableFuture<>());
                return disk.get(disk.size() - 1);
            }
        };
        StepExecutor completions = new StepExecutor();
        rebuild(slow, builder -> builder.completions(completions));
        List<String> ran = new ArrayList<>();
        var sent =
                bench.engine.persistBatchAsync("a", Batches.entries(1), "loki").thenRun(() -> ran.add("a"));
        disk.get(0).complete(null);
        assertThat(ran).isEmpty();
        completions.runAll();
        assertThat(ran).containsExactly("a");
        assertThat(sent).isCompleted();

        assertThat(bench.engine
                        .persistBatchAsync("b", Batches.entries(1), "loki")
                        .cancel(true))
                .isTrue();
        assertThat(disk.get(1)).isNotDone();

        var failing = bench.engine.persistBatchAsync("c", Batches.entries(1), "loki");
        disk.get(2).completeExceptionally(new BatchPersistenceException("disk gone", null));
        completions.runAll();
        assertThat(failure(failing))
                .isInstanceOf(BatchPersistenceException.class)
                .hasMessage("disk gone");
    }

    @Test
    void marks_on_an_unknown_id_change_nothing() {
        bench.persist("a");
        assertThat(bench.engine.markBatchSuccess("b")).isFalse();
        assertThat(bench.engine.markBatchFailed("b", "x")).isFalse();
        assertThatNullPointerException().isThrownBy(() -> bench.engine.markBatchSuccess(null));
        bench.engine.markBatchFailed("a", "x");
        assertThat(bench.engine.markBatchFailed("a", "twice"))
                .as("not in flight any more")
                .isFalse();
        assertThat(bench.summary("a").retryCount()).isEqualTo(1);
        assertThat(bench.engine.markBatchSuccess("a")).isTrue();
        assertThat(bench.engine.markBatchSuccess("a")).isFalse();
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    private static Throwable failure(CompletableFuture<?> future) {
        return future.handle((nothing, thrown) -> thrown).join();
    }

    @Test
    void reject_refuses_at_once() {
        bounded(1, OverflowPolicy.REJECT, LONG);
        bench.persist("a");
        assertThatExceptionOfType(BatchRejectedException.class)
                .isThrownBy(() -> bench.persist("b"))
                .withMessageContaining("maxBatches");
    }

    @Test
    void block_waits_until_something_is_removed() throws Exception {
        bounded(1, OverflowPolicy.BLOCK, LONG);
        bench.persist("a");
        CompletableFuture<Void> second = CompletableFuture.runAsync(() -> bench.persist("b"));
        Awaitility.await().until(() -> bench.engine.callersWaitingForSpace() == 1);
        assertThat(second).isNotDone();
        bench.clock.advance(Duration.ofHours(1));
        bench.engine.markBatchSuccess("a");
        second.get(30, TimeUnit.SECONDS);
        assertThat(bench.isHeld("b")).isTrue();
        assertThat(bench.summary("b").nextAttemptAt())
                .as("the lease begins when there is room")
                .isEqualTo(bench.in(Duration.ofMinutes(5)));
    }

    @Test
    void block_notices_room_that_came_back_without_a_removal() throws Exception {
        bounded(1, OverflowPolicy.BLOCK, LONG);
        bench.persist("a");
        CompletableFuture<Void> second = CompletableFuture.runAsync(() -> bench.persist("b"));
        Awaitility.await().until(() -> bench.engine.callersWaitingForSpace() == 1);
        // Delivered without the engine.
        bench.store.delivered("a");
        second.get(30, TimeUnit.SECONDS);
    }

    @Test
    void block_gives_up_after_the_timeout_and_says_so() {
        bounded(1, OverflowPolicy.BLOCK, Duration.ofMillis(50));
        bench.persist("a");
        assertThatExceptionOfType(BatchRejectedException.class)
                .isThrownBy(() -> bench.persist("b"))
                .withMessageContaining("PT0.05S")
                .withMessageContaining("block")
                .withMessageContaining("maxBatches");
        assertThat(failure(bench.engine.persistBatchAsync("b", Batches.entries(1), "loki")))
                .isInstanceOf(BatchRejectedException.class);
    }

    @Test
    void block_gives_up_when_interrupted_and_keeps_the_interrupt() {
        bounded(1, OverflowPolicy.BLOCK, LONG);
        bench.persist("a");
        Thread.currentThread().interrupt();
        assertThatExceptionOfType(BatchRejectedException.class)
                .isThrownBy(() -> bench.persist("b"))
                .withMessageContaining("interrupted");
        assertThat(Thread.interrupted()).isTrue();
    }

    @Test
    void close_does_not_leave_callers_waiting_for_room() {
        bounded(1, OverflowPolicy.BLOCK, LONG);
        bench.persist("a");
        CompletableFuture<Void> second = CompletableFuture.runAsync(() -> bench.persist("b"));
        Awaitility.await().until(() -> bench.engine.callersWaitingForSpace() == 1);
        bench.engine.close();
        assertThatExceptionOfType(ExecutionException.class)
                .isThrownBy(() -> second.get(30, TimeUnit.SECONDS))
                .withCauseInstanceOf(IllegalStateException.class);
    }

    @Test
    void drop_oldest_makes_room_with_what_is_not_being_sent_and_announces_each() {
        bounded(3, OverflowPolicy.DROP_OLDEST, LONG);
        bench.persist("in-flight");
        bench.persist("old");
        bench.persist("older");
        bench.engine.markBatchFailed("old", "x");
        bench.engine.markBatchFailed("older", "y");
        bench.persist("new1");
        assertThat(bench.evicted).extracting(BatchSummary::id).containsExactly("old");
        bench.engine.persistBatchAsync("new2", Batches.entries(1), "loki").join();
        assertThat(bench.evicted).extracting(BatchSummary::id).containsExactly("old", "older");
        assertThat(bench.isHeld("in-flight")).isTrue();
        assertThat(bench.stats().evicted()).isEqualTo(2);
        assertThat(bench.stats().isBalanced()).isTrue();
        bench.tick();
        assertThat(bench.warnings())
                .filteredOn(line -> line.contains("2 batches evicted"))
                .hasSize(1);

        assertThatExceptionOfType(BatchRejectedException.class)
                .as("all that is held is in flight")
                .isThrownBy(() -> bench.persist("new3"));
        assertThat(bench.evicted).hasSize(2);
    }

    @Test
    void ttl_removes_pending_and_dead_batches_but_never_one_in_flight() {
        bench.usual = bench.usual()
                .ttl(Duration.ofHours(1), Duration.ofHours(10))
                .timeout(Duration.ofDays(7))
                .get();
        bench.settings.put(
                "other",
                bench.usual().ttl(Duration.ofHours(5), Duration.ofHours(10)).get());
        bench.target("loki", batch -> batch.reject("malformed"));
        for (String id : List.of("dead", "replayed")) {
            bench.persistFailed(id, "x");
            bench.tickAfter(Duration.ofSeconds(1));
            assertThat(bench.state(id)).isEqualTo(BatchState.DEAD);
        }
        bench.targets.clear();
        bench.persist("in-flight");
        bench.persist("pending");
        bench.persist("other", "other");
        bench.engine.markBatchFailed("pending", "x");
        bench.engine.markBatchFailed("other", "x");

        bench.clock.advance(Duration.ofHours(1));
        assertThat(bench.engine.cleanup())
                .as("exactly the TTL is not older than it")
                .isZero();
        bench.engine.replay(BatchSelector.all().ids("replayed"));
        bench.clock.advance(Duration.ofMillis(1));
        assertThat(bench.engine.cleanup()).as("pending").isEqualTo(1);
        bench.clock.advance(Duration.ofHours(1));
        assertThat(bench.engine.cleanup()).as("replayed, with a TTL begun anew").isEqualTo(1);
        bench.clock.advance(Duration.ofHours(3));
        assertThat(bench.engine.cleanup()).as("the one with a TTL of its own").isEqualTo(1);
        bench.clock.advance(Duration.ofHours(6));
        assertThat(bench.engine.cleanup()).as("the dead letter").isEqualTo(1);
        assertThat(bench.expired).extracting(BatchSummary::id).containsExactly("pending", "replayed", "other", "dead");
        assertThat(bench.isHeld("in-flight")).isTrue();
        assertThat(bench.engine.stats().total().expired()).isEqualTo(4);
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void thousands_of_expired_batches_are_one_log_line_and_one_event_each() {
        for (int i = 0; i < 2_500; i++) {
            bench.persist("b" + i);
            bench.engine.markBatchFailed("b" + i, "x");
        }
        bench.logged.list.clear();
        bench.clock.advance(Duration.ofHours(25));
        assertThat(bench.engine.cleanup()).isEqualTo(2_500);
        assertThat(bench.expired).hasSize(2_500);
        assertThat(bench.warnings()).singleElement().asString().contains("2500 batches removed");
    }

    @Test
    void a_ttl_or_timeout_beyond_all_calendars_works() {
        bench.usual = bench.usual()
                .ttl(Duration.ofSeconds(Long.MAX_VALUE), Duration.ofSeconds(Long.MAX_VALUE))
                .timeout(Duration.ofSeconds(Long.MAX_VALUE))
                .get();
        bench.persist("a");
        bench.tick();
        assertThat(bench.engine.cleanup()).isZero();
        assertThat(bench.isHeld("a")).isTrue();
    }

    @Test
    void discard_leaves_what_is_in_flight_unless_it_is_named() {
        bench.persist("in-flight");
        bench.persistFailed("pending", "x");
        assertThat(bench.engine.discard(BatchSelector.all())).isEqualTo(1);
        assertThat(bench.isHeld("in-flight")).isTrue();
        assertThat(bench.engine.discard(BatchSelector.all().states(BatchState.IN_FLIGHT)))
                .isEqualTo(1);
        assertThat(bench.stats().discarded()).isEqualTo(2);
        assertThat(bench.engine.recover(BatchSelector.all().states(BatchState.DEAD)))
                .isZero();
    }

    @Test
    void damage_found_before_anyone_listened_is_announced_by_a_listener_that_throws_too() {
        InMemoryBatchStore store = bench.store;
        Corruption damage = new Corruption(Path.of("seg-1"), 10, 20, "checksum", "a", "loki", 1, null);
        bench.persist("a");
        store.reopen(bench.clock.instant());
        store.corrupt("a", damage);
        List<Corruption> told = new ArrayList<>();
        bench.restart(builder -> builder);
        store.reopen(bench.clock.instant());
        bench.persist("b");
        store.corrupt("b", damage);
        bench.restart(builder -> builder.listener(new BatchListener() {
            @Override
            public void onCorrupted(Corruption found) {
                told.add(found);
                throw new IllegalStateException("bad listener");
            }
        }));
        assertThat(told).containsExactly(damage);
        assertThat(bench.warnings()).as("the store has logged it").noneMatch(line -> line.contains("seg-1"));
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void everything_but_close_is_refused_once_closed() {
        bench.persist("a");
        bench.engine.close();
        bench.engine.close();
        assertThat(bench.store.isClosed()).isTrue();
        List<Runnable> calls = List.of(
                () -> bench.persist("b"),
                () -> bench.engine.markBatchSuccess("a"),
                () -> bench.engine.markBatchFailed("a", "x"),
                () -> bench.engine.recover(),
                () -> bench.engine.recover(BatchSelector.all()),
                () -> bench.engine.cleanup(),
                () -> bench.engine.find("a"),
                () -> bench.engine.list(BatchSelector.all()),
                () -> bench.engine.count(BatchSelector.all()),
                () -> bench.engine.replay(BatchSelector.all()),
                () -> bench.engine.discard(BatchSelector.all()),
                () -> bench.engine.stats());
        for (Runnable call : calls) {
            assertThatIllegalStateException().isThrownBy(call::run).withMessageContaining("is closed");
        }
        assertThat(failure(bench.engine.persistBatchAsync("b", Batches.entries(1), "loki")))
                .isInstanceOf(IllegalStateException.class);
    }

    @Test
    void disabled_keeps_nothing_but_checks_as_ever() {
        try (BatchPersistence disabled = BatchPersistenceEngine.disabled()) {
            disabled.persistBatch("a", Batches.entries(1), "loki");
            assertThat(disabled.persistBatchAsync("a", Batches.entries(1), "loki", Map.of("k", "v")))
                    .isCompleted();
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> disabled.persistBatch("", Batches.entries(1), "loki"));
            assertThat(disabled.persistBatchAsync("a", List.of(), "loki")).isCompletedExceptionally();
            assertThatIllegalArgumentException().isThrownBy(() -> disabled.markBatchFailed("a", (String) null));
            assertThat(disabled.markBatchSuccess("a")).isFalse();
            assertThat(disabled.markBatchFailed("a", "x")).isFalse();
            assertThat(disabled.markBatchFailed("a", new IllegalStateException()))
                    .isFalse();
            assertThat(disabled.releaseBatch("a")).isFalse();
            assertThatIllegalArgumentException().isThrownBy(() -> disabled.replay(BatchSelector.all(), -1));
            assertThat(disabled.lanes()).isEmpty();
            assertThat(disabled.find("a")).isEmpty();
            assertThat(disabled.list(BatchSelector.all())).isEmpty();
            assertThat(disabled.stats().total().isBalanced()).isTrue();
            assertThat(disabled.stats().fillLevel()).isZero();
            disabled.recover();
            assertThat(disabled.cleanup() + disabled.replay(BatchSelector.all()) + disabled.count(BatchSelector.all()))
                    .isZero();
        }
    }
}
