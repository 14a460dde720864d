package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.fixtures.PersistingAppender;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.Random;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * An application persists its own log, so the store's own log calls must not wait, least of all for the store itself.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class LogIntoTheStoreTest {

    @TempDir
    Path directory;

    private final FaultyDisk disk = new FaultyDisk(new MemoryDisk());

    private BatchPersistenceEngine open(StoreKind kind, int maxBatches) {
        BatchStore store = kind.open(
                DiskStoreOptions.builder(directory)
                        .segmentSize(16 << 10)
                        .maxBatches(maxBatches)
                        .syncInterval(Duration.ofMillis(5))
                        .build(),
                disk);
        return BatchPersistenceEngine.builder(store)
                .overflow(OverflowPolicy.DROP_OLDEST, Duration.ZERO)
                .shutdownTimeout(Duration.ofSeconds(5))
                .build();
    }

    @ParameterizedTest
    @CsvSource({"SEGMENT, true", "SEGMENT, false", "JSON_FILES, true", "JSON_FILES, false"})
    void everything_that_is_logged_is_persisted_at_once_while_the_disk_fails_recovers_and_is_left(
            StoreKind kind, boolean oneAtATime) throws Exception {
        PersistingAppender appender = new PersistingAppender(oneAtATime);
        try (appender) {
            try (BatchPersistenceEngine engine = open(kind, 100)) {
                appender.into(engine);
                PersistingAppender.traffic(engine, "before", 20);
                for (Operation operation : Operation.values()) {
                    disk.fail(operation, "", "Input/output error");
                    PersistingAppender.traffic(engine, "fails " + operation, 5);
                    disk.heal();
                    PersistingAppender.traffic(engine, "is well after " + operation, 5);
                }
                disk.failSome(0.3, new Random(1), operation -> true);
                PersistingAppender.traffic(engine, "fails now and then", 20);
                disk.heal();
                assertThat(PersistingAppender.traffic(engine, "is well", 20)).isZero();
                disk.fail(Operation.FORCE, "", "Input/output error");
            }
            disk.heal();
            try (BatchPersistenceEngine again = open(kind, 1_000)) {
                appender.into(again);
                assertThat(PersistingAppender.traffic(again, "again", 5)).isZero();
                assertThat(again.stats().total().isBalanced()).isTrue();
            }
        }
        assertThat(appender.persisted).hasPositiveValue();
        assertThat(appender.threads).doesNotContain("batch-persistence-writer", "batch-persistence-housekeeper");
    }

    /**
     * A custom clock stands for all code that the store calls. If such code calls the store on the writer's thread, it
     * would wait for itself.
     */
    @ParameterizedTest
    @EnumSource
    void a_call_by_code_that_the_store_runs_while_it_writes_is_refused(StoreKind kind) {
        AtomicReference<@Nullable BatchStore> opened = new AtomicReference<>();
        AtomicReference<@Nullable RuntimeException> thrown = new AtomicReference<>();
        Clock calling = new Clock() {
            @Override
            public Instant instant() {
                BatchStore store = opened.get();
                if (store != null && Thread.currentThread().getName().equals("batch-persistence-writer")) {
                    try {
                        store.pause("loki", true);
                    } catch (RuntimeException e) {
                        thrown.set(e);
                    }
                }
                return Instant.now();
            }

            @Override
            public ZoneId getZone() {
                return ZoneOffset.UTC;
            }

            @Override
            public Clock withZone(ZoneId zone) {
                return this;
            }
        };
        try (BatchStore store =
                kind.open(DiskStoreOptions.builder(directory).clock(calling).build(), disk)) {
            // Makes the store start a new journal, which reads the clock.
            disk.fail(Operation.WRITE, "state-", "Input/output error").times(1);
            opened.set(store);
            store.pause("elasticsearch", true);
            disk.heal();
            opened.set(null);
            assertThat(thrown.get())
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("would wait for itself");
        }
    }
}
