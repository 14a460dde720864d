package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.test.Batches;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.awaitility.Awaitility;
import org.h2.jdbcx.JdbcDataSource;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A thread that a request starts does not inherit the context of that request. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class InheritedNothingTest {

    @TempDir
    Path directory;

    private static final InheritingThreadLocal USER = new InheritingThreadLocal();

    private static final class InheritingThreadLocal extends InheritableThreadLocal<@Nullable String> {
        final Queue<String> inherited = new ConcurrentLinkedQueue<>();

        /** Called when a thread is created that inherits thread locals. */
        @Override
        protected @Nullable String childValue(@Nullable String parent) {
            StackTraceElement[] stack = new Throwable().getStackTrace();
            if (parent != null
                    && Arrays.stream(stack)
                            .noneMatch(frame -> frame.getClassName().matches("org\\.(h2|awaitility)\\..*"))
                    && Arrays.stream(stack)
                            .anyMatch(frame -> frame.getClassName().startsWith("io.batchpersistence."))) {
                inherited.add(Arrays.toString(stack));
            }
            return parent;
        }
    }

    enum Kind {
        SEGMENT,
        JSON_FILES,
        JDBC_WITH_FALLBACK
    }

    private BatchStore open(Kind kind) {
        DiskStoreOptions options = DiskStoreOptions.builder(directory).build();
        return switch (kind) {
            case SEGMENT -> DiskBatchStores.segment(options);
            case JSON_FILES -> DiskBatchStores.jsonFiles(options);
            case JDBC_WITH_FALLBACK -> {
                JdbcDataSource database = new JdbcDataSource();
                database.setURL("jdbc:h2:mem:inherited;DB_CLOSE_DELAY=-1");
                yield FallbackBatchStore.open(
                        database, JdbcStoreOptions.builder().build(), options);
            }
        };
    }

    @ParameterizedTest
    @EnumSource
    void threads_inherit_neither_the_identity_nor_the_class_loader_of_the_request_that_needed_them_first(Kind kind)
            throws Exception {
        ClassLoader application = new URLClassLoader(new URL[0]);
        ClassLoader ofRequest = new URLClassLoader(new URL[0]);
        Map<String, ClassLoader> seen = new ConcurrentHashMap<>();
        Set<String> users = ConcurrentHashMap.newKeySet();
        Thread request = Thread.currentThread();
        ClassLoader before = request.getContextClassLoader();
        Set<Thread> running = Thread.getAllStackTraces().keySet();
        request.setContextClassLoader(ofRequest);
        USER.set("alice");
        USER.inherited.clear();
        class Seeing {
            void look(String what) {
                seen.put(what, Thread.currentThread().getContextClassLoader());
                String user = USER.get();
                if (user != null) {
                    users.add(what + " as " + user);
                }
            }
        }
        Seeing seeing = new Seeing();
        BatchStore store = open(kind);
        try (BatchPersistence engine = BatchPersistenceEngine.builder(store)
                .classLoader(application)
                .settings(type -> CollectorSettings.DEFAULT)
                .targets(type -> RecoveryTarget.of(batch -> {
                    seeing.look("sender");
                    throw new PermanentDeliveryException("no");
                }))
                .listener(new BatchListener() {
                    @Override
                    public void onDeadLettered(BatchSummary batch) {
                        seeing.look("listener");
                    }
                })
                .build()) {
            engine.persistBatch("bob's", Batches.entries(1), "loki");
            engine.releaseBatch("bob's");
            for (int i = 0; i < 100 && !seen.containsKey("dependent"); i++) {
                var unused = engine.persistBatchAsync("b" + i, Batches.entries(1), "loki")
                        .thenRun(() -> {
                            // The batch may already be durable. Then the dependent runs on this thread.
                            if (Thread.currentThread() != request) {
                                seeing.look("dependent");
                            }
                        });
            }
            engine.recover();
            Awaitility.await().until(() -> seen.containsKey("listener") && seen.containsKey("dependent"));
            for (Thread thread : Thread.getAllStackTraces().keySet()) {
                String name = thread.getName();
                if (!running.contains(thread) && name.matches("batch-persistence-(writer|housekeeper|jdbc-.*|log)")) {
                    assertThat(thread.getContextClassLoader())
                            .as(name)
                            .isSameAs(BatchPersistenceEngine.class.getClassLoader());
                    assertThat(thread.isDaemon()).as(name).isTrue();
                }
            }
        } finally {
            USER.remove();
            request.setContextClassLoader(before);
        }
        assertThat(users).isEmpty();
        assertThat(USER.inherited).isEmpty();
        assertThat(seen)
                .hasSize(3)
                .allSatisfy((what, loader) -> assertThat(loader).as(what).isSameAs(application));
    }

    @ParameterizedTest
    @EnumSource(names = "SEGMENT")
    void without_being_told_the_application_is_what_builds_the_engine(Kind kind) throws Exception {
        ClassLoader application = new URLClassLoader(new URL[0]);
        Thread thread = Thread.currentThread();
        ClassLoader before = thread.getContextClassLoader();
        Queue<ClassLoader> seen = new ConcurrentLinkedQueue<>();
        BatchStore store = open(kind);
        thread.setContextClassLoader(application);
        BatchPersistenceEngine engine = BatchPersistenceEngine.builder(store)
                .targets(type -> RecoveryTarget.of(
                        batch -> seen.add(Thread.currentThread().getContextClassLoader())))
                .build();
        thread.setContextClassLoader(before);
        try (engine) {
            engine.persistBatch("a", Batches.entries(1), "loki");
            engine.releaseBatch("a");
            Awaitility.await().until(() -> !seen.isEmpty());
        }
        assertThat(seen).containsExactly(application);
    }
}
