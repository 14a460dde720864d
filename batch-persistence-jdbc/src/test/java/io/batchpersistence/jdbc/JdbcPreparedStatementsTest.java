package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.util.concurrent.atomic.AtomicInteger;
import javax.sql.DataSource;
import org.junit.jupiter.api.Test;

/** What a driver prepares, and the state in which connections are returned. */
class JdbcPreparedStatementsTest extends JdbcTestBase {

    @Test
    void marks_go_on_when_the_table_is_altered_that_their_statements_were_prepared_for() {
        on(TestDatabase.Kind.POSTGRESQL);
        try (HikariDataSource pool = new HikariDataSource(config(1))) {
            JdbcBatchStore store = open(pool, options -> options);
            for (int i = 0; i < 10; i++) {
                append(store, "a" + i, "b" + i);
                assertThat(store.delivered("a" + i)).isNotNull();
                markPending(store, "b" + i);
            }
            database.update("ALTER TABLE {p}batch ALTER COLUMN entry_count TYPE bigint");

            append(store, "a", "b");
            assertThat(store.delivered("a")).isNotNull();
            markPending(store, "b");
            assertThat(balanced(store).delivered()).isEqualTo(11);
            store.close();
            opened.remove(store);
        }
    }

    private HikariConfig config(int connections) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(database.pool().getJdbcUrl());
        config.setMaximumPoolSize(connections);
        return config;
    }

    @OnEachDatabase
    void connections_without_autocommit_come_back_without_it(TestDatabase.Kind kind) {
        on(kind);
        HikariConfig config = config(2);
        config.setAutoCommit(false);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            AtomicInteger otherwise = new AtomicInteger();
            JdbcBatchStore store = open(
                    FaultyDataSource.proxy(DataSource.class, (source, open, none) -> {
                        Connection connection = pool.getConnection();
                        return FaultyDataSource.proxy(Connection.class, (self, method, arguments) -> {
                            if (method.getName().equals("close") && connection.getAutoCommit()) {
                                otherwise.incrementAndGet();
                            }
                            return FaultyDataSource.call(connection, method, arguments);
                        });
                    }),
                    options -> options);
            append(store, "a", "b");
            assertThat(store.delivered("a")).isNotNull();
            store.heartbeat();
            assertThat(otherwise).hasValue(0);
            assertThat(balanced(store).inFlight()).isEqualTo(1);
            store.close();
            opened.remove(store);
        }
    }
}
