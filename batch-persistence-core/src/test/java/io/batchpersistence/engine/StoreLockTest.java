package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import java.time.Duration;
import java.util.SplittableRandom;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Functions of the application may do anything, so the store never waits for one. */
class StoreLockTest {

    private final InMemoryBatchStore store = new InMemoryBatchStore();
    private final SplittableRandom numbers = new SplittableRandom(7);
    private int draws;
    private boolean underLock;

    /** The store's methods are synchronized. Fails at the end of the test: the engine survives what is thrown here. */
    private void requireUnlocked() {
        underLock |= Thread.holdsLock(store);
    }

    private long draw() {
        requireUnlocked();
        draws++;
        return numbers.nextLong();
    }

    @Test
    void settings_and_randomness_are_asked_for_without_the_stores_lock() {
        RandomGenerator random = this::draw;
        Bench bench = new Bench(
                store,
                builder -> builder.random(random).settings(type -> {
                    requireUnlocked();
                    // It may even call the store.
                    store.stats();
                    return CollectorSettings.DEFAULT;
                }));
        bench.targets.put("probed", batch -> batch.retryAfter(Duration.ofSeconds(1), "busy"));
        bench.targets.put("broken", batch -> batch.fail("broken"));
        bench.targets.put("rejected", batch -> batch.reject("bad"));
        bench.targets.put("kept", RecoveredBatch::isSettled);
        for (String type : bench.targets.keySet()) {
            for (int i = 0; i < 5; i++) {
                bench.engine.persistBatch(type + i, Batches.entries(1), type);
                bench.engine.releaseBatch(type + i);
            }
        }
        for (int round = 0; round < 20; round++) {
            bench.engine.recover();
            bench.executor.runAll();
            bench.clock.advance(Duration.ofMinutes(6));
        }
        bench.engine.persistBatch("mine", Batches.entries(1), "mine");
        // By id only, and with a lane that is not known yet.
        assertThat(bench.engine.markBatchFailed("mine", "mine")).isTrue();
        assertThat(bench.engine.lanes()).containsKeys("broken", "mine");
        assertThat(draws).isGreaterThan(20);
        assertThat(underLock).isFalse();
        bench.engine.close();
    }

    @Test
    @Timeout(30)
    void a_settings_function_that_blocks_delays_no_other_collector_type() throws Exception {
        CountDownLatch asked = new CountDownLatch(1);
        CountDownLatch answer = new CountDownLatch(1);
        Bench bench = new Bench(
                store,
                builder -> builder.settings(type -> {
                    if (type.equals("slow")) {
                        asked.countDown();
                        awaitUninterruptibly(answer);
                    }
                    return CollectorSettings.DEFAULT;
                }));
        var thread = Executors.newSingleThreadExecutor();
        try {
            thread.execute(() -> bench.engine.persistBatch("slow", Batches.entries(1), "slow"));
            assertThat(asked.await(10, TimeUnit.SECONDS)).isTrue();
            bench.engine.persistBatch("a", Batches.entries(1), "loki");
            assertThat(bench.engine.markBatchFailed("a", "down")).isTrue();
            bench.engine.persistBatch("b", Batches.entries(1), "loki");
            assertThat(bench.engine.releaseBatch("b")).isTrue();
            assertThat(bench.engine.count(BatchSelector.all().states(BatchState.PENDING)))
                    .isEqualTo(2);
        } finally {
            answer.countDown();
            thread.shutdown();
            assertThat(thread.awaitTermination(10, TimeUnit.SECONDS)).isTrue();
            bench.engine.close();
        }
    }

    private static void awaitUninterruptibly(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
