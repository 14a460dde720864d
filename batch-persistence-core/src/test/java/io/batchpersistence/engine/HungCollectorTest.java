package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.awaitility.Awaitility;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Collectors hang, and there are fewer threads than hanging sends. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HungCollectorTest {

    private enum Threads {
        OWN_1(1),
        OWN_4(4),
        QUEUEING_1(1),
        QUEUEING_4(4),
        REFUSING_1(1),
        REFUSING_4(4);

        final int number;

        Threads(int number) {
            this.number = number;
        }
    }

    private final ManualClock clock = new ManualClock();
    private final InMemoryBatchStore store = new InMemoryBatchStore();
    private final Map<String, RecoveryTarget> targets = new ConcurrentHashMap<>();
    private final Map<String, AtomicInteger> hanging = new ConcurrentHashMap<>();
    private final CountDownLatch release = new CountDownLatch(1);
    private final CollectorSettings settings =
            Bench.with().outageThreshold(0).concurrency(8).get();
    private final LinkedBlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
    private @Nullable ThreadPoolExecutor executor;
    private BatchPersistenceEngine engine =
            BatchPersistenceEngine.builder(new InMemoryBatchStore()).build();

    private BatchPersistenceEngine engine(Threads threads) {
        EngineBuilder builder = BatchPersistenceEngine.builder(store)
                .settings(type -> settings)
                .targets(targets::get)
                .clock(clock);
        switch (threads) {
            case OWN_1, OWN_4 -> builder.threads(threads.number);
            case QUEUEING_1, QUEUEING_4 ->
                executor = new ThreadPoolExecutor(threads.number, threads.number, 1, TimeUnit.SECONDS, queue);
            case REFUSING_1, REFUSING_4 ->
                executor = new ThreadPoolExecutor(0, threads.number, 1, TimeUnit.SECONDS, new SynchronousQueue<>());
        }
        if (executor != null) {
            builder.executor(executor);
        }
        return builder.build();
    }

    @AfterEach
    void close() {
        release.countDown();
        engine.close();
        if (executor != null) {
            executor.shutdown();
        }
    }

    private void hangs(String type) {
        AtomicInteger now = new AtomicInteger();
        hanging.put(type, now);
        targets.put(type, RecoveryTarget.of(batch -> {
            now.incrementAndGet();
            release.await();
        }));
    }

    private int hanging(String type) {
        return hanging.get(type).get();
    }

    private void works(String type) {
        targets.put(type, RecoveryTarget.of(batch -> {}));
    }

    private void persistDue(String type, int count) {
        for (int i = 0; i < count; i++) {
            engine.persistBatch(type + i, Batches.entries(1), type);
            engine.releaseBatch(type + i);
        }
    }

    private long delivered(String type) {
        return engine.stats().collector(type).delivered();
    }

    /** Runs one round after the other, as the scheduler does. */
    private void roundsUntil(Callable<Boolean> condition) {
        Awaitility.await()
                .pollDelay(Duration.ZERO)
                .pollInterval(Duration.ofMillis(2))
                .until(() -> {
                    engine.recover();
                    return condition.call();
                });
    }

    @ParameterizedTest
    @EnumSource
    void a_hung_collector_that_could_take_every_thread_keeps_no_other_from_being_served(Threads threads) {
        engine = engine(threads);
        hangs("hung");
        works("a");
        works("b");
        persistDue("hung", 20);
        roundsUntil(() -> hanging("hung") == Math.min(8, threads.number));
        persistDue("a", 50);
        persistDue("b", 50);
        roundsUntil(() -> delivered("a") == 50 && delivered("b") == 50);
        assertThat(hanging("hung")).isLessThanOrEqualTo(8);
        release.countDown();
        roundsUntil(() -> delivered("hung") == 20);
    }

    @ParameterizedTest
    @EnumSource
    void nor_do_several_that_hang_one_after_the_other(Threads threads) {
        engine = engine(threads);
        works("good");
        for (String type : List.of("hung1", "hung2", "hung3", "hung4", "hung5", "hung6")) {
            hangs(type);
            persistDue(type, 20);
            roundsUntil(() -> hanging(type) > 0);
        }
        persistDue("good", 50);
        roundsUntil(() -> delivered("good") == 50);
        assertThat(hanging.values().stream().mapToInt(AtomicInteger::get).sum())
                .as("one beyond the number of threads for each collector at most")
                .isLessThanOrEqualTo(threads.number + hanging.size());
    }

    @ParameterizedTest
    @EnumSource
    void what_waits_in_the_executor_does_not_pile_up_meanwhile(Threads threads) {
        engine = engine(threads);
        hangs("hung");
        works("good");
        persistDue("hung", 20);
        roundsUntil(() -> hanging("hung") == Math.min(8, threads.number));
        for (int i = 0; i < 30; i++) {
            int sent = i + 1;
            engine.persistBatch("good" + i, Batches.entries(1), "good");
            engine.releaseBatch("good" + i);
            roundsUntil(() -> delivered("good") == sent);
        }
        assertThat(queue).hasSizeLessThan(10);
        assertThat(store.stats().total().failedAttempts()).isZero();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void when_the_threads_are_there_again_no_other_lane_has_any(int number) {
        engine = engine(number == 1 ? Threads.OWN_1 : Threads.OWN_4);
        hangs("hung");
        works("good");
        persistDue("hung", 8);
        roundsUntil(() -> hanging("hung") == number);
        persistDue("good", 10);
        roundsUntil(() -> delivered("good") == 10);
        release.countDown();
        roundsUntil(() -> delivered("hung") == 8);
        Map<String, String> names = new ConcurrentHashMap<>();
        targets.put(
                "good",
                RecoveryTarget.of(
                        batch -> names.put(batch.id(), Thread.currentThread().getName())));
        roundsUntil(() -> engine.lanes().isEmpty());
        engine.persistBatch("later", Batches.entries(1), "good");
        engine.releaseBatch("later");
        roundsUntil(() -> names.containsKey("later"));
        assertThat(names.get("later")).doesNotContain("reserve");
    }

    @Test
    void a_collector_that_hangs_for_longer_than_its_timeout_is_interrupted_also_on_such_a_thread() {
        engine = engine(Threads.QUEUEING_1);
        hangs("hung");
        hangs("other");
        persistDue("hung", 1);
        roundsUntil(() -> hanging("hung") == 1);
        persistDue("other", 1);
        roundsUntil(() -> hanging("other") == 1);
        clock.advance(Duration.ofMinutes(6));
        roundsUntil(() -> engine.stats().collector("other").failedAttempts() == 1
                && engine.stats().collector("hung").failedAttempts() == 1);
    }
}
