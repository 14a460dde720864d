package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Interrupting a persisting thread must not harm any batch, neither its own nor another. */
@Timeout(value = 2, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class InterruptedPersistTest extends DiskStoreFixture {

    private static final int THREADS = 3;
    private static final int BATCHES = 60;

    private BatchPersistenceEngine engine(StoreKind kind) {
        return BatchPersistenceEngine.builder(
                        kind.open(options().segmentSize(16 << 10).build()))
                .build();
    }

    @ParameterizedTest
    @EnumSource
    void an_interrupt_before_persisting_is_kept_and_the_batch_is_taken(StoreKind kind) {
        try (BatchPersistenceEngine engine = engine(kind)) {
            Thread.currentThread().interrupt();
            engine.persistBatch("a", GeneratedBatch.entries("a"), "loki");
            assertThat(Thread.interrupted()).as("interrupt flag").isTrue();
            assertThat(engine.find("a")).map(PersistedBatch::entries).contains(GeneratedBatch.entries("a"));
            assertThat(engine.stats().problem()).isNull();
        }
    }

    /** A lone caller writes on its own thread. With several callers most wait. Interrupts hit both at any moment. */
    @ParameterizedTest
    @EnumSource
    void interrupts_at_any_moment_harm_no_batch(StoreKind kind) throws Exception {
        Queue<Throwable> thrown = new ConcurrentLinkedQueue<>();
        AtomicInteger flagsSeen = new AtomicInteger();
        try (BatchPersistenceEngine engine = engine(kind)) {
            runAlone(engine, thrown, flagsSeen);
            List<Thread> together = new ArrayList<>();
            for (int t = 0; t < THREADS; t++) {
                String prefix = "t" + t + "-";
                together.add(new Thread(() -> persist(engine, prefix, thrown, flagsSeen)));
            }
            torment(together);
            assertThat(thrown).isEmpty();
            assertThat(flagsSeen).as("interrupts kept").hasPositiveValue();
            assertThat(engine.stats().problem()).isNull();
        }
        try (BatchPersistenceEngine engine = engine(kind)) {
            List<String> ids = engine.list(BatchSelector.all()).stream()
                    .map(BatchSummary::id)
                    .toList();
            assertThat(ids).hasSize((THREADS + 1) * BATCHES).doesNotHaveDuplicates();
            ids.forEach(id ->
                    assertThat(engine.find(id)).map(PersistedBatch::entries).contains(GeneratedBatch.entries(id)));
            BatchStats stats = engine.stats();
            assertThat(stats.total().isBalanced()).isTrue();
            assertThat(stats.total().accepted()).isEqualTo(ids.size());
        }
    }

    private static void runAlone(BatchPersistenceEngine engine, Queue<Throwable> thrown, AtomicInteger flagsSeen)
            throws InterruptedException {
        torment(List.of(new Thread(() -> persist(engine, "alone-", thrown, flagsSeen))));
    }

    private static void persist(
            BatchPersistenceEngine engine, String prefix, Queue<Throwable> thrown, AtomicInteger flagsSeen) {
        for (int i = 0; i < BATCHES; i++) {
            String id = prefix + i;
            try {
                engine.persistBatch(id, GeneratedBatch.entries(id), "loki");
            } catch (RuntimeException | Error e) {
                thrown.add(e);
            }
            flagsSeen.addAndGet(Thread.interrupted() ? 1 : 0);
        }
    }

    private static void torment(List<Thread> victims) throws InterruptedException {
        AtomicBoolean done = new AtomicBoolean();
        Thread tormentor = new Thread(() -> {
            while (!done.get()) {
                victims.forEach(Thread::interrupt);
                Thread.onSpinWait();
            }
        });
        victims.forEach(Thread::start);
        tormentor.start();
        for (Thread victim : victims) {
            victim.join();
        }
        done.set(true);
        tormentor.join();
    }

    /** Closing from an interrupted thread still writes unforced data. */
    @ParameterizedTest
    @EnumSource
    void an_interrupted_thread_may_close_and_open(StoreKind kind) {
        Thread.currentThread().interrupt();
        try (BatchStore store = open(kind)) {
            append(store, "a");
            assertThat(store.delivered("a")).isNotNull();
        }
        try (BatchStore store = open(kind)) {
            assertThat(store.find("a")).isEmpty();
        }
        assertThat(Thread.interrupted()).as("interrupt flag").isTrue();
    }
}
