package io.batchpersistence.jdbc;

import static io.batchpersistence.fixtures.PersistingAppender.traffic;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.fixtures.PersistingAppender;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Random;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * An application persists its own log, so the store's own log calls must not wait, least of all for the store itself.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class JdbcLogIntoTheStoreTest {

    @TempDir
    Path directory;

    private final TestDatabase database = TestDatabase.h2();
    private final FaultyDataSource source = new FaultyDataSource(database.pool());

    @AfterEach
    void leave() {
        database.close();
    }

    private BatchPersistenceEngine open(boolean fallback) {
        JdbcStoreOptions options =
                database.options().lease(Duration.ofSeconds(2)).build();
        BatchStore store = fallback
                ? FallbackBatchStore.open(
                        source.dataSource,
                        options,
                        DiskStoreOptions.builder(directory).build())
                : JdbcBatchStore.open(source.dataSource, options);
        return BatchPersistenceEngine.builder(store)
                .overflow(OverflowPolicy.DROP_OLDEST, Duration.ZERO)
                .shutdownTimeout(Duration.ofSeconds(5))
                .build();
    }

    @ParameterizedTest
    @CsvSource({"false, true", "false, false", "true, true", "true, false"})
    void everything_that_is_logged_is_persisted_at_once_while_the_database_fails_recovers_and_is_left(
            boolean fallback, boolean oneAtATime) throws Exception {
        PersistingAppender appender = new PersistingAppender(oneAtATime);
        try (appender) {
            try (BatchPersistenceEngine engine = open(fallback)) {
                appender.into(engine);
                traffic(engine, "before", 10);
                source.refuse();
                traffic(engine, "refused", 5);
                source.recover();
                source.accidents(new Random(1), 10);
                traffic(engine, "accidents", 10);
                source.recover();
                Awaitility.await()
                        .atMost(Duration.ofSeconds(60))
                        .until(() -> engine.stats().problem() == null);
                assertThat(traffic(engine, "well", 10)).isZero();
                appender.into(null);
            }
        }
        assertThat(appender.persisted).hasPositiveValue();
        assertThat(appender.threads).noneMatch(name -> name.startsWith("batch-persistence-jdbc"));
    }
}
