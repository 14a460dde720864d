package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Runs with the engine's own threads. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ThreadsTest {

    private final ManualClock clock = new ManualClock();
    private final InMemoryBatchStore store = new InMemoryBatchStore();
    private final Map<String, RecoveryTarget> targets = new ConcurrentHashMap<>();
    private CollectorSettings settings = Bench.with().outageThreshold(0).get();
    private final BatchPersistenceEngine engine = engine(Duration.ofSeconds(30));

    private BatchPersistenceEngine engine(Duration shutdownTimeout) {
        return BatchPersistenceEngine.builder(store)
                .settings(type -> settings)
                .targets(targets::get)
                .clock(clock)
                .shutdownTimeout(shutdownTimeout)
                .build();
    }

    @AfterEach
    void close() {
        engine.close();
    }

    private void persistDue(String type, int count) {
        for (int i = 0; i < count; i++) {
            engine.persistBatch(type + i, Batches.entries(1), type);
        }
        store.reopen(clock.instant());
    }

    private long delivered(String type) {
        return engine.stats().collector(type).delivered();
    }

    @Test
    void never_more_than_concurrency_at_a_time_but_that_many() {
        settings = Bench.with().outageThreshold(0).concurrency(4).get();
        AtomicInteger now = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        CyclicBarrier allFour = new CyclicBarrier(4);
        targets.put("loki", RecoveryTarget.of(batch -> {
            most.accumulateAndGet(now.incrementAndGet(), Math::max);
            allFour.await(20, TimeUnit.SECONDS);
            now.decrementAndGet();
        }));
        persistDue("loki", 400);
        for (int i = 0; i < 10; i++) {
            // Concurrent rounds do not multiply.
            engine.recover();
        }
        Awaitility.await().until(() -> delivered("loki") == 400);
        assertThat(most).hasValue(4);
    }

    /** Kotlin and other JVM languages throw checked exceptions that are not declared. */
    @Test
    void a_checked_exception_from_where_none_is_declared_stops_nothing() {
        AtomicBoolean well = new AtomicBoolean();
        try (BatchPersistenceEngine other = BatchPersistenceEngine.builder(new InMemoryBatchStore())
                .settings(type -> settings)
                .targets(type -> well.get() ? RecoveryTarget.of(batch -> {}) : undeclared())
                .executor(task -> {
                    if (!well.get()) {
                        undeclared();
                    }
                    task.run();
                })
                .build()) {
            other.persistBatch("a", Batches.entries(1), "loki");
            other.releaseBatch("a");
            other.recover();
            well.set(true);
            other.recover();
            assertThat(other.stats().collector("loki").delivered()).isEqualTo(1);
        }
    }

    private static RecoveryTarget undeclared() {
        throw ThreadsTest.<RuntimeException>unchecked(new TimeoutException("not declared"));
    }

    @SuppressWarnings({"unchecked", "TypeParameterUnusedInFormals"})
    private static <T extends Throwable> T unchecked(Throwable thrown) throws T {
        throw (T) thrown;
    }

    @Test
    void a_sender_that_hangs_holds_only_its_own_lane() {
        CountDownLatch release = new CountDownLatch(1);
        targets.put("hanging", RecoveryTarget.of(batch -> release.await()));
        Stream.of("a", "b", "c").forEach(type -> targets.put(type, RecoveryTarget.of(batch -> {})));
        persistDue("hanging", 3);
        persistDue("a", 50);
        persistDue("b", 50);
        persistDue("c", 50);
        engine.recover();
        Awaitility.await().until(() -> delivered("a") + delivered("b") + delivered("c") == 150);
        assertThat(engine.stats().collector("hanging").inFlight()).isEqualTo(1);
        release.countDown();
        Awaitility.await().until(() -> delivered("hanging") == 3);
    }

    @Test
    void a_hanging_sender_is_interrupted_at_the_timeout_and_the_interrupt_stays_with_its_batch() {
        Queue<String> interrupted = new ConcurrentLinkedQueue<>();
        Queue<String> sent = new ConcurrentLinkedQueue<>();
        CountDownLatch never = new CountDownLatch(1);
        CountDownLatch started = new CountDownLatch(1);
        targets.put("loki", RecoveryTarget.of(batch -> {
            if (batch.id().equals("loki0") && batch.retryCount() == 0) {
                started.countDown();
                try {
                    never.await();
                } catch (InterruptedException e) {
                    interrupted.add(batch.id());
                    // Restores the interrupt flag, as a careful sender does.
                    Thread.currentThread().interrupt();
                    throw e;
                }
            }
            if (Thread.currentThread().isInterrupted()) {
                interrupted.add(batch.id());
            }
            sent.add(batch.id());
        }));
        persistDue("loki", 5);
        engine.recover();
        Awaitility.await().until(() -> started.getCount() == 0);
        clock.advance(Duration.ofMinutes(6));
        engine.recover();
        Awaitility.await().until(() -> delivered("loki") == 4);
        assertThat(interrupted).containsExactly("loki0");
        clock.advance(Duration.ofMinutes(1));
        engine.recover();
        Awaitility.await().until(() -> delivered("loki") == 5);
        assertThat(sent).containsExactly("loki1", "loki2", "loki3", "loki4", "loki0");
    }

    @Test
    void of_many_threads_that_settle_one_wins() throws Exception {
        Queue<RecoveredBatch> held = new ConcurrentLinkedQueue<>();
        targets.put("loki", held::add);
        settings = Bench.with().outageThreshold(0).concurrency(1).get();
        persistDue("loki", 200);
        engine.recover();
        for (int i = 0; i < 200; i++) {
            Awaitility.await().pollInterval(Duration.ofMillis(1)).until(() -> !held.isEmpty());
            RecoveredBatch batch = held.remove();
            AtomicInteger won = new AtomicInteger();
            CyclicBarrier together = new CyclicBarrier(3);
            List<CompletableFuture<Void>> racers = Stream.<Runnable>of(
                            () -> won.addAndGet(batch.acknowledge() ? 1 : 0),
                            () -> won.addAndGet(batch.fail("lost") ? 1 : 0),
                            () -> won.addAndGet(batch.reject("lost") ? 1 : 0))
                    .map(settle -> CompletableFuture.runAsync(
                            () -> {
                                try {
                                    together.await(20, TimeUnit.SECONDS);
                                } catch (Exception e) {
                                    throw new IllegalStateException(e);
                                }
                                settle.run();
                            },
                            task -> new Thread(task).start()))
                    .toList();
            racers.forEach(CompletableFuture::join);
            assertThat(won).hasValue(1);
            engine.recover();
        }
        Awaitility.await().until(() -> engine.stats().collector("loki").inFlight() == 0);
        assertThat(engine.stats().collector("loki").isBalanced()).isTrue();
    }

    @Test
    void close_waits_for_what_is_being_sent_and_starts_nothing_new() {
        CountDownLatch release = new CountDownLatch(1);
        CountDownLatch started = new CountDownLatch(1);
        AtomicInteger sent = new AtomicInteger();
        targets.put("loki", RecoveryTarget.of(batch -> {
            sent.incrementAndGet();
            started.countDown();
            release.await();
        }));
        persistDue("loki", 5);
        engine.recover();
        Awaitility.await().until(() -> started.getCount() == 0);
        List<CompletableFuture<Void>> closing = IntStream.range(0, 3)
                .mapToObj(i -> CompletableFuture.runAsync(engine::close))
                .toList();
        Awaitility.await().until(engine::isClosing);
        engine.recover();
        assertThat(closing).noneMatch(CompletableFuture::isDone);
        assertThat(store.isClosed()).isFalse();
        release.countDown();
        closing.forEach(CompletableFuture::join);
        assertThat(store.isClosed()).isTrue();
        assertThat(sent).hasValue(1);
        store.reopen(clock.instant());
        assertThat(store.stats().collector("loki").delivered()).isEqualTo(1);
        assertThat(store.stats().collector("loki").pending()).isEqualTo(4);
    }

    @Test
    void close_cuts_off_a_sender_that_does_not_end_and_burns_no_retry() {
        BatchPersistenceEngine hasty = engine(Duration.ofMillis(50));
        CountDownLatch started = new CountDownLatch(1);
        AtomicBoolean interrupted = new AtomicBoolean();
        AtomicBoolean lateSettle = new AtomicBoolean(true);
        CountDownLatch ended = new CountDownLatch(1);
        targets.put("loki", batch -> {
            started.countDown();
            try {
                new CountDownLatch(1).await();
            } catch (InterruptedException e) {
                interrupted.set(true);
                lateSettle.set(batch.fail("interrupted") || batch.acknowledge());
                ended.countDown();
                throw e;
            }
        });
        persistDue("loki", 1);
        hasty.recover();
        Awaitility.await().until(() -> started.getCount() == 0);
        hasty.close();
        Awaitility.await().until(() -> ended.getCount() == 0);
        assertThat(interrupted).isTrue();
        assertThat(lateSettle).isFalse();
        store.reopen(clock.instant());
        assertThat(store.find("loki0")).hasValueSatisfying(batch -> {
            assertThat(batch.state()).isEqualTo(BatchState.PENDING);
            assertThat(batch.retryCount()).isZero();
        });
    }

    @Test
    void a_sender_may_close_what_called_it() {
        BatchPersistenceEngine patient = engine(Duration.ofMinutes(10));
        targets.put("loki", batch -> patient.close());
        persistDue("loki", 1);
        patient.recover();
        Awaitility.await().until(store::isClosed);
        store.reopen(clock.instant());
        assertThat(store.find("loki0")).isPresent();
    }

    @Test
    void ticks_cleanups_and_writers_at_once_lose_no_batch() throws Exception {
        settings = Bench.with().outageThreshold(3).concurrency(4).get();
        AtomicInteger calls = new AtomicInteger();
        targets.put("loki", RecoveryTarget.of(batch -> {
            if (calls.incrementAndGet() % 7 == 0) {
                throw new IllegalStateException("now and then");
            }
        }));
        AtomicBoolean writing = new AtomicBoolean(true);
        List<Thread> writers = IntStream.range(0, 4)
                .mapToObj(w -> new Thread(() -> {
                    for (int i = 0; i < 500; i++) {
                        String id = w + "-" + i;
                        engine.persistBatch(id, Batches.entries(1), "loki");
                        if (i % 3 == 0) {
                            engine.markBatchFailed(id, "first send");
                        } else {
                            engine.markBatchSuccess(id);
                        }
                    }
                }))
                .toList();
        Thread ticker = new Thread(() -> {
            while (writing.get()) {
                engine.recover();
                engine.cleanup();
                clock.advance(Duration.ofMillis(100));
            }
        });
        writers.forEach(Thread::start);
        ticker.start();
        for (Thread writer : writers) {
            writer.join();
        }
        writing.set(false);
        ticker.join();
        Awaitility.await().pollInterval(Duration.ofMillis(5)).until(() -> {
            clock.advance(Duration.ofSeconds(1));
            engine.recover();
            return engine.stats().batches() == 0
                    || engine.stats().collector("loki").dead() == engine.stats().batches();
        });
        assertThat(engine.stats().collector("loki").accepted()).isEqualTo(2_000);
        assertThat(engine.stats().collector("loki").isBalanced()).isTrue();
        assertThat(engine.stats().collector("loki").delivered()
                        + engine.stats().collector("loki").dead())
                .isEqualTo(2_000);
    }

    @Test
    void lanes_take_turns_where_there_is_one_thread_for_all() {
        InMemoryBatchStore many = new InMemoryBatchStore();
        Queue<String> sent = new ConcurrentLinkedQueue<>();
        List<String> types = List.of("a", "b", "c");
        try (BatchPersistenceEngine crowded = BatchPersistenceEngine.builder(many)
                .settings(type -> settings)
                .targets(type -> RecoveryTarget.of(batch -> sent.add(type)))
                .clock(clock)
                .threads(1)
                .build()) {
            for (String type : types) {
                for (int i = 0; i < 100; i++) {
                    crowded.persistBatch(type + i, Batches.entries(1), type);
                }
            }
            many.reopen(clock.instant());
            crowded.recover();
            Awaitility.await().until(() -> crowded.stats().total().delivered() == 300);
        }
        Iterator<String> inOrder = sent.iterator();
        for (int turn = 0; turn < 100; turn++) {
            assertThat(List.of(inOrder.next(), inOrder.next(), inOrder.next()))
                    .as("turn %s", turn)
                    .containsExactlyInAnyOrderElementsOf(types);
        }
    }
}
