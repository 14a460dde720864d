package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.fixtures.AsyncPersistContract;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.StepExecutor;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Application code never runs on a store thread, even if the executor refuses its tasks. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class AsyncPersistTest {

    private static final Duration PATIENCE = Duration.ofSeconds(30);

    @TempDir
    Path directory;

    @Nested
    class OnSegments extends AsyncPersistContract {
        @Override
        protected BatchStore open(Path directory) {
            return DiskBatchStores.segment(DiskStoreOptions.builder(directory).build());
        }
    }

    @Nested
    class OnJsonFiles extends AsyncPersistContract {
        @Override
        protected BatchStore open(Path directory) {
            return DiskBatchStores.jsonFiles(DiskStoreOptions.builder(directory).build());
        }
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
}
