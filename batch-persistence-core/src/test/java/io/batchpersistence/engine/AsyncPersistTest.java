package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.fixtures.Batches;
import io.batchpersistence.fixtures.InMemoryBatchStore;
import io.batchpersistence.fixtures.StepExecutor;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.store.DiskStoreOptions;
import io.batchpersistence.store.jdbc.JdbcBatchStore;
import io.batchpersistence.store.jdbc.JdbcStoreOptions;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.h2.jdbcx.JdbcDataSource;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Application code never runs on a store thread, even if the executor refuses its tasks. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class AsyncPersistTest {

    private static final Duration PATIENCE = Duration.ofSeconds(30);

    @TempDir
    Path directory;

    enum Kind {
        SEGMENT {
            @Override
            BatchStore open(Path directory) {
                return DiskBatchStores.segment(
                        DiskStoreOptions.builder(directory).build());
            }
        },
        JSON_FILES {
            @Override
            BatchStore open(Path directory) {
                return DiskBatchStores.jsonFiles(
                        DiskStoreOptions.builder(directory).build());
            }
        },
        JDBC {
            @Override
            BatchStore open(Path directory) {
                JdbcDataSource database = new JdbcDataSource();
                database.setURL("jdbc:h2:mem:async;DB_CLOSE_DELAY=-1");
                return JdbcBatchStore.open(database, JdbcStoreOptions.builder().build());
            }
        };

        abstract BatchStore open(Path directory);
    }

    /** Runs the dependents of a future when the test declares its batch durable. */
    private static final class SlowStore extends InMemoryBatchStore {
        final List<CompletableFuture<@Nullable Void>> appended = new ArrayList<>();

        @Override
        public synchronized CompletableFuture<@Nullable Void> append(NewBatch batch) {
            super.append(batch).join();
            appended.add(new CompletableFuture<>());
            return appended.get(appended.size() - 1);
        }
    }

    @ParameterizedTest
    @EnumSource
    void what_depends_on_a_batch_may_persist_and_wait_although_the_executor_refuses_everything(Kind kind) {
        List<String> threads = new ArrayList<>();
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(kind.open(directory))
                .executor(task -> {
                    throw new RejectedExecutionException("all threads are taken");
                })
                .build()) {
            for (int i = 0; i < 20; i++) {
                int number = i;
                CompletableFuture<@Nullable Void> second = new CompletableFuture<>();
                CompletableFuture<Void> both = engine.persistBatchAsync("first" + i, Batches.entries(1), "loki")
                        .thenRun(() -> {
                            threads.add(Thread.currentThread().getName());
                            engine.persistBatch("second" + number, Batches.entries(1), "loki");
                            engine.persistBatchAsync("third" + number, Batches.entries(1), "loki")
                                    .join();
                            second.complete(null);
                        });
                assertThat(both).succeedsWithin(PATIENCE);
                assertThat(second).isCompleted();
            }
            assertThat(engine.stats().collector("loki").accepted()).isEqualTo(60);
        }
        assertThat(threads)
                .allMatch(name -> name.startsWith("batch-persistence-completion")
                        || name.equals(Thread.currentThread().getName()));
    }

    /** A dependent may be added at any time, also between the check for dependents and the completion. */
    @Test
    void a_future_that_nothing_depends_on_yet_is_not_completed_on_the_stores_thread_either() {
        SlowStore store = new SlowStore();
        StepExecutor completions = new StepExecutor();
        StepExecutor executor = new StepExecutor();
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(store)
                .executor(executor)
                .completions(completions)
                .build()) {
            CompletableFuture<@Nullable Void> persisted = engine.persistBatchAsync("a", Batches.entries(1), "loki");
            store.appended.get(0).complete(null);
            assertThat(persisted).isNotDone();
            AtomicReference<@Nullable Thread> ran = new AtomicReference<>();
            CompletableFuture<Void> dependent = persisted.thenRun(() -> ran.set(Thread.currentThread()));
            assertThat(ran.get()).isNull();
            completions.runAll();
            assertThat(dependent).isCompleted();
        }
    }

    /** For example, an executor with a caller-runs policy that is saturated. */
    @ParameterizedTest
    @EnumSource
    void what_depends_on_a_batch_runs_on_no_thread_of_the_store_although_the_executor_runs_tasks_on_the_calling_one(
            Kind kind) {
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(kind.open(directory))
                .executor(Runnable::run)
                .build()) {
            for (int i = 0; i < 20; i++) {
                int number = i;
                CompletableFuture<Void> both = engine.persistBatchAsync("early" + i, Batches.entries(1), "loki")
                        .thenRun(() -> engine.persistBatch("late" + number, Batches.entries(1), "loki"));
                assertThat(both).succeedsWithin(PATIENCE);
            }
        }
    }

    @Test
    void dependents_that_block_take_no_thread_from_those_who_send() {
        List<Runnable> tasks = new ArrayList<>();
        CompletableFuture<@Nullable Void> release = new CompletableFuture<>();
        SlowStore store = new SlowStore();
        try (BatchPersistenceEngine engine =
                BatchPersistenceEngine.builder(store).executor(tasks::add).build()) {
            CompletableFuture<Void> dependent =
                    engine.persistBatchAsync("a", Batches.entries(1), "loki").thenRun(release::join);
            store.appended.get(0).complete(null);
            assertThat(tasks).isEmpty();
            release.complete(null);
            assertThat(dependent).succeedsWithin(PATIENCE);
        }
    }

    @Test
    void dependents_that_block_hold_up_no_others_and_none_is_forgotten_beyond_the_bound_of_threads() {
        CompletableFuture<@Nullable Void> release = new CompletableFuture<>();
        int many = Completions.MAX_THREADS + 20;
        List<CompletableFuture<Void>> blocked = new ArrayList<>();
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(DiskBatchStores.segment(
                        DiskStoreOptions.builder(directory).build()))
                .executor(task -> {
                    throw new RejectedExecutionException("all threads are taken");
                })
                .build()) {
            for (int i = 0; i < many; i++) {
                blocked.add(engine.persistBatchAsync("a" + i, Batches.entries(1), "loki")
                        .thenRun(release::join));
            }
            engine.persistBatch("while they block", Batches.entries(1), "loki");
            release.complete(null);
            assertThat(CompletableFuture.allOf(blocked.toArray(CompletableFuture[]::new)))
                    .succeedsWithin(PATIENCE);
        }
    }

    /** The store asks for the outcome of a batch under its lock or in a transaction. */
    @ParameterizedTest
    @EnumSource
    void settings_are_not_asked_for_where_the_store_waits_for_the_answer(Kind kind) {
        AtomicReference<@Nullable BatchPersistenceEngine> engineInUse = new AtomicReference<>();
        BatchStore store = kind.open(directory);
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(store)
                .settings(type -> {
                    BatchPersistenceEngine inUse = engineInUse.getAndSet(null);
                    // A reentrant lock would not block this thread, so call from another one.
                    if (inUse != null) {
                        CompletableFuture.runAsync(() -> inUse.persistBatch("x", Batches.entries(1), "other"))
                                .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
                                .join();
                    }
                    return CollectorSettings.DEFAULT;
                })
                .build()) {
            engine.persistBatch("y", Batches.entries(1), "other");
            for (String id : List.of("failed", "released")) {
                // Appended directly to the store, so the engine does not know the collector type.
                Instant now = Instant.now();
                store.append(new NewBatch(
                                id, "unheard of: " + id, Batches.entries(1), Map.of(), now, now.plusSeconds(60)))
                        .join();
                engineInUse.set(engine);
                assertThat(id.equals("failed") ? engine.markBatchFailed(id, "no") : engine.releaseBatch(id))
                        .isTrue();
                assertThat(engineInUse.get()).as("asked").isNull();
                engine.markBatchSuccess("x");
            }
        }
    }
}
