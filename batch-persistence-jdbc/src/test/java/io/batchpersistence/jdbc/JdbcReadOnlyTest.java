package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import javax.sql.DataSource;

/** Read-only connections, and read-only transactions of callers. */
class JdbcReadOnlyTest extends JdbcTestBase {

    private final List<Boolean> givenBack = new ArrayList<>();

    private DataSource readOnly() {
        return FaultyDataSource.proxy(DataSource.class, (proxy, method, arguments) -> {
            Connection connection = database.pool().getConnection();
            connection.setReadOnly(true);
            return FaultyDataSource.proxy(Connection.class, (same, called, values) -> {
                if (called.getName().equals("close")) {
                    synchronized (givenBack) {
                        givenBack.add(connection.isReadOnly());
                    }
                }
                return FaultyDataSource.call(connection, called, values);
            });
        });
    }

    @OnEachServer
    void a_connection_that_comes_read_only_is_written_with_and_given_back_read_only(Kind kind) {
        on(kind);
        JdbcBatchStore store = open(readOnly(), options -> options);
        append(store, "a", "b");
        markPending(store, "a");
        assertThat(claim(store)).containsExactly("a");
        store.heartbeat();
        assertThat(store.stats().problem()).isNull();
        synchronized (givenBack) {
            assertThat(givenBack).isNotEmpty().containsOnly(true);
        }
    }

    @OnEachServer
    void no_batch_can_be_part_of_a_transaction_that_only_reads_and_others_do_not_notice(Kind kind) throws SQLException {
        Connection[] joined = new Connection[1];
        JdbcBatchStore store = open(kind, options -> options.transaction(() -> joined[0]));
        append(store, "before");
        try (Connection connection = database.pool().getConnection()) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            joined[0] = connection;
            assertThat(failure(store.append(batch("a"))))
                    .isInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining("read-only")
                    .hasMessageContaining("may write");
            assertThat(store.stats().problem()).isNull();
            try (var statement = connection.createStatement()) {
                assertThat(statement.execute("SELECT 1")).as("it can go on").isTrue();
            }
            connection.rollback();
        }
        joined[0] = null;
        append(store, "after");
    }
}
