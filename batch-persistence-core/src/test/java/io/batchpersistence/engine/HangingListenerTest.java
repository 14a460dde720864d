package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;

/** A listener that never returns or throws an Error blocks no other work. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HangingListenerTest {

    private final ManualClock clock = new ManualClock();
    private final CountDownLatch release = new CountDownLatch(1);
    private final List<String> told = new CopyOnWriteArrayList<>();

    @RegisterExtension
    final LogCapture logged = new LogCapture(BatchPersistenceEngine.class);

    /** Hangs in its first callback. */
    private final BatchListener hanging = new BatchListener() {
        @Override
        public void onDeadLettered(BatchSummary batch) {
            hang("dead " + batch.id());
        }

        @Override
        public void onExpired(BatchSummary batch) {
            hang("expired " + batch.id());
        }

        @Override
        public void onEvicted(BatchSummary batch) {
            hang("evicted " + batch.id());
        }

        private void hang(String what) {
            try {
                release.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            told.add(what);
        }
    };

    /** The number of tasks that run or are queued. */
    private final AtomicInteger tasks = new AtomicInteger();

    private BatchPersistenceEngine engine;

    private BatchPersistenceEngine open(InMemoryBatchStore store, BatchListener listener, Duration shutdownTimeout) {
        engine = BatchPersistenceEngine.builder(store)
                .targets(type -> RecoveryTarget.of(batch -> {}))
                .overflow(OverflowPolicy.DROP_OLDEST, Duration.ZERO)
                .listener(listener)
                .clock(clock)
                .executor(this::onThreadOfItsOwn)
                .shutdownTimeout(shutdownTimeout)
                .build();
        return engine;
    }

    private void onThreadOfItsOwn(Runnable task) {
        tasks.incrementAndGet();
        Thread thread = new Thread(() -> {
            try {
                task.run();
            } finally {
                tasks.decrementAndGet();
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    /**
     * Waits until no round is running. A round that reads the time after the test has moved it would send what should
     * expire.
     */
    private void onlyTheListenerIsBusy() {
        Awaitility.await().until(() -> tasks.get() == 1);
    }

    @AfterEach
    void close() {
        release.countDown();
        engine.close();
    }

    private void persist(String id, String type) {
        engine.persistBatch(id, Batches.entries(1), type);
    }

    private void fail(String id) {
        engine.markBatchFailed(id, new PermanentDeliveryException("malformed"));
    }

    private void persistAndFail(String... ids) {
        for (String id : ids) {
            persist(id, "loki");
        }
        for (String id : ids) {
            fail(id);
        }
    }

    @Test
    void marks_persists_recovery_and_cleanup_go_on_while_it_hangs_and_it_learns_all_in_order() {
        open(new InMemoryBatchStore(3), hanging, Duration.ofSeconds(30));
        persist("dead", "loki");
        // The listener hangs on its own thread, so this thread goes on.
        fail("dead");
        persist("b", "loki");
        persist("c", "loki");
        // The store is full, so the dead letter is dropped.
        persist("d", "loki");
        assertThat(engine.find("dead")).isEmpty();
        clock.advance(Duration.ofMinutes(6));
        // b, c and d time out, and their lane opens.
        engine.recover();
        onlyTheListenerIsBusy();
        clock.advance(Duration.ofDays(2));
        assertThat(engine.cleanup()).isEqualTo(3);
        persist("e", "otlp");
        clock.advance(Duration.ofMinutes(6));
        engine.recover();
        clock.advance(Duration.ofMinutes(6));
        Awaitility.await().until(() -> {
            // The other lane is served.
            engine.recover();
            return engine.stats().collector("otlp").delivered() == 1;
        });
        assertThat(told).isEmpty();
        release.countDown();
        Awaitility.await().until(() -> told.size() == 5);
        assertThat(told.subList(0, 2)).containsExactly("dead dead", "evicted dead");
        assertThat(told.subList(2, 5)).containsExactlyInAnyOrder("expired b", "expired c", "expired d");
    }

    @Test
    void what_waits_for_it_is_bounded_and_the_rest_is_only_logged() {
        int most = ListenerDispatcher.MAX_QUEUED;
        open(new InMemoryBatchStore(most + 100), hanging, Duration.ofSeconds(30));
        for (int i = 0; i < most + 50; i++) {
            persist("b" + i, "loki");
            fail("b" + i);
        }
        engine.recover();
        assertThat(logged.lines(Level.INFO))
                .anyMatch(line ->
                        line.matches(".*is too slow or blocked: (49|50) events were logged but not passed to it"))
                .anyMatch(line -> line.contains((most + 50) + " batches given up as dead letters"));
        release.countDown();
        Awaitility.await().until(() -> told.size() >= most);
    }

    @Test
    void closing_does_not_wait_for_it_for_ever() {
        open(new InMemoryBatchStore(), hanging, Duration.ofMillis(1));
        persistAndFail("a", "b");
        engine.close();
        assertThat(told).isEmpty();
        assertThat(logged.lines(Level.INFO))
                .anyMatch(line -> line.contains("were not passed to the batch listener before the shutdown"));
    }

    @Test
    void closing_lets_it_learn_what_it_has_not_yet() {
        CountDownLatch asked = new CountDownLatch(1);
        open(
                new InMemoryBatchStore(),
                new BatchListener() {
                    @Override
                    public void onDeadLettered(BatchSummary batch) {
                        asked.countDown();
                        hanging.onDeadLettered(batch);
                    }
                },
                Duration.ofSeconds(30));
        persistAndFail("a", "b");
        Thread releasing = new Thread(() -> {
            try {
                asked.await(10, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            release.countDown();
        });
        releasing.start();
        engine.close();
        assertThat(told).containsExactly("dead a", "dead b");
    }

    @Test
    void one_that_overflows_its_stack_is_told_the_next_all_the_same() {
        open(
                new InMemoryBatchStore(),
                new BatchListener() {
                    @Override
                    public void onDeadLettered(BatchSummary batch) {
                        told.add(batch.id());
                        deeper(batch.id());
                    }

                    private int deeper(String id) {
                        return id.isEmpty() ? 0 : deeper(id) + 1;
                    }
                },
                Duration.ofSeconds(30));
        persistAndFail("a", "b");
        Awaitility.await().until(() -> told.size() == 2);
        assertThat(told).containsExactly("a", "b");
        assertThat(engine.find("a"))
                .hasValueSatisfying(batch -> assertThat(batch.state()).isEqualTo(BatchState.DEAD));
    }
}
