package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.nio.file.Path;
import java.sql.Connection;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Instances behind a PgBouncer with fewer server connections than clients. Acknowledged batches are there, regardless
 * of which server connection has which prepared statements.
 */
@Timeout(value = 10, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class JdbcPgBouncerIT {

    private static final int INSTANCES = 3;
    private static final int WRITERS = 4;
    private static final int BATCHES = Integer.getInteger("batch.jdbc.pgbouncer.batches", 120);

    @TempDir
    Path directory;

    private final List<AutoCloseable> opened = new ArrayList<>();

    @AfterEach
    void close() throws Exception {
        for (int i = opened.size() - 1; i >= 0; i--) {
            opened.get(i).close();
        }
    }

    private <T extends AutoCloseable> T closedAfterwards(T resource) {
        opened.add(resource);
        return resource;
    }

    private HikariDataSource pool(String url, String more, String isolation) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url + more);
        config.setMaximumPoolSize(8);
        config.setTransactionIsolation(isolation);
        return closedAfterwards(new HikariDataSource(config));
    }

    private JdbcBatchStore store(TestDatabase database, DataSource source) {
        return closedAfterwards(JdbcBatchStore.open(source, database.options().build()));
    }

    private static NewBatch batch(String id) {
        Instant now = Instant.now();
        return new NewBatch(id, "loki", Batches.entries(3), Map.of(), now, now.plus(Duration.ofMinutes(30)));
    }

    @ParameterizedTest
    @CsvSource({
        "transaction, '', TRANSACTION_READ_COMMITTED",
        "transaction, '&prepareThreshold=0', TRANSACTION_REPEATABLE_READ",
        "transaction, '&prepareThreshold=0', TRANSACTION_READ_COMMITTED",
        "transaction, '&preferQueryMode=simple', TRANSACTION_READ_COMMITTED",
        "session, '', TRANSACTION_READ_COMMITTED"
    })
    void what_is_acknowledged_behind_a_pooler_is_held_until_it_is_marked(String mode, String more, String isolation)
            throws Exception {
        TestDatabase database = closedAfterwards(TestDatabase.of(TestDatabase.Kind.POSTGRESQL));
        PgBouncer bouncer = closedAfterwards(PgBouncer.start(mode, directory));
        Set<String> acknowledged = ConcurrentHashMap.newKeySet();
        Set<String> refused = ConcurrentHashMap.newKeySet();
        ExecutorService writers = Executors.newFixedThreadPool(INSTANCES * WRITERS);
        opened.add(writers::shutdownNow);
        List<Future<?>> done = new ArrayList<>();
        for (int instance = 0; instance < INSTANCES; instance++) {
            JdbcBatchStore store = store(database, pool(bouncer.url(), more, isolation));
            for (int writer = 0; writer < WRITERS; writer++) {
                String name = instance + "-" + writer + "-";
                done.add(writers.submit(() -> write(store, name, acknowledged, refused)));
            }
        }
        for (Future<?> each : done) {
            each.get();
        }

        assertThat(refused).isEmpty();
        assertThat(acknowledged).hasSize(INSTANCES * WRITERS * BATCHES / 2);
        assertThat(new TreeSet<>(database.query("SELECT batch_id FROM {p}batch")))
                .isEqualTo(new TreeSet<>(acknowledged));
        assertThat(database.query(
                        "SELECT SUM(in_flight) - (SELECT COUNT(*) FROM {p}batch WHERE state = 1) FROM {p}counter"))
                .containsExactly("0");
    }

    @Test
    void a_driver_that_is_hidden_is_not_trusted_behind_a_pooler_that_shares_server_connections() throws Exception {
        TestDatabase database = closedAfterwards(TestDatabase.of(TestDatabase.Kind.POSTGRESQL));
        PgBouncer bouncer = closedAfterwards(PgBouncer.start("transaction", directory));
        JdbcBatchStore safe = store(database, pool(bouncer.url(), "", "TRANSACTION_READ_COMMITTED"));
        AtomicBoolean over = new AtomicBoolean();
        ExecutorService writers = Executors.newFixedThreadPool(WRITERS);
        opened.add(writers::shutdownNow);
        List<Future<?>> load = new ArrayList<>();
        for (int writer = 0; writer < WRITERS; writer++) {
            String name = writer + "-";
            load.add(writers.submit(() -> {
                for (int i = 0; !over.get(); i++) {
                    safe.append(batch(name + i)).join();
                }
            }));
        }
        JdbcBatchStore refusing = store(database, hidden(pool(bouncer.url(), "", "TRANSACTION_READ_COMMITTED")));

        assertThat(refusing.problem()).contains("prepareThreshold=0").contains("pool_mode");
        assertThatThrownBy(() -> refusing.append(batch("b")).join()).hasMessageContaining("prepareThreshold=0");
        over.set(true);
        for (Future<?> each : load) {
            each.get();
        }
        assertThat(database.query("SELECT batch_id FROM {p}batch"))
                .hasSizeGreaterThan(0)
                .doesNotContain("b");
    }

    @Test
    void a_driver_that_is_hidden_is_trusted_behind_a_pooler_that_does_not_share_server_connections() throws Exception {
        TestDatabase database = closedAfterwards(TestDatabase.of(TestDatabase.Kind.POSTGRESQL));
        PgBouncer bouncer = closedAfterwards(PgBouncer.start("session", directory));
        JdbcBatchStore store = store(database, hidden(pool(bouncer.url(), "", "TRANSACTION_READ_COMMITTED")));

        assertThat(store.problem()).isNull();
        store.append(batch("b")).join();
        assertThat(database.query("SELECT batch_id FROM {p}batch")).containsExactly("b");
    }

    /** Hides the type of the wrapped connections. */
    private static DataSource hidden(DataSource source) {
        return proxy(DataSource.class, source);
    }

    private static <T> T proxy(Class<T> type, Object target) {
        return FaultyDataSource.proxy(type, (self, method, arguments) -> {
            if (method.getName().equals("isWrapperFor")) {
                return false;
            }
            Object result = FaultyDataSource.call(target, method, arguments);
            return result instanceof Connection ? proxy(Connection.class, result) : result;
        });
    }

    /** Persists batches and marks every second one. */
    private static void write(JdbcBatchStore store, String name, Set<String> acknowledged, Set<String> refused) {
        for (int i = 0; i < BATCHES; i++) {
            String id = name + i;
            try {
                store.append(batch(id)).join();
                if (i % 2 == 0) {
                    acknowledged.add(id);
                } else {
                    assertThat(store.delivered(id)).as(id).isNotNull();
                }
            } catch (RuntimeException | AssertionError e) {
                refused.add(id + ": " + e);
            }
        }
    }
}
