package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTransientException;
import java.sql.Statement;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A reachable database that rejects writes is a problem at once and until it accepts them again. */
class JdbcRefusalTest extends FallbackTestBase {

    /**
     * Checks that a successful read does not hide the problem, and that the store detects the end without a new batch.
     */
    private void assertIsAProblemUntil(JdbcBatchStore store, String words, Runnable over) {
        assertThat(failure(store.append(batch("refused"))))
                .isExactlyInstanceOf(BatchPersistenceException.class)
                .message()
                .containsIgnoringCase(words);
        assertThat(store.stats().problem()).containsIgnoringCase(words);
        assertThat(store.stats().problem()).as("after a look").containsIgnoringCase(words);
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(store::heartbeat);
        assertThat(store.stats().problem()).containsIgnoringCase(words);
        over.run();
        store.heartbeat();
        assertThat(store.stats().problem()).isNull();
        append(store, "refused");
    }

    @OnEachDatabase
    void a_table_that_was_renamed(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "a");
        database.update("ALTER TABLE {p}counter RENAME TO {p}elsewhere");
        assertIsAProblemUntil(store, "counter", () -> database.update("ALTER TABLE {p}elsewhere RENAME TO {p}counter"));
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    /** No batch was persisted since. */
    @OnEachDatabase
    void a_table_that_was_renamed_is_noticed_without_a_batch(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        for (String table : new String[] {"batch", "counter", "lane", "outage"}) {
            database.update("ALTER TABLE {p}" + table + " RENAME TO {p}elsewhere");
            assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(store::heartbeat);
            assertThat(store.stats().problem()).containsIgnoringCase(table);
            database.update("ALTER TABLE {p}elsewhere RENAME TO {p}" + table);
            store.heartbeat();
            assertThat(store.stats().problem()).isNull();
        }
    }

    @OnEachServer
    void a_database_that_is_read_only(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "a");
        source.onTransaction = "SET TRANSACTION READ ONLY";
        assertIsAProblemUntil(
                store,
                kind == Kind.POSTGRESQL ? "read-only transaction" : "read only transaction",
                () -> source.onTransaction = null);
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @ParameterizedTest
    @CsvSource({
        "53100, 0, could not extend file",
        "53200, 0, out of memory",
        "58030, 0, could not write to file",
        "42501, 0, permission denied for table",
        "25006, 0, read-only transaction",
        "HY000, 1290, running with the --read-only option",
        "HY000, 1021, Disk full",
        "HY000, 1114, The table is full",
        "42000, 1142, INSERT command denied to user",
        "HY000, 1030, Got error 28 from storage engine"
    })
    void whatever_the_database_refuses_that_is_no_batchs_own_fault(String state, int code, String words) {
        JdbcBatchStore store = openFaulty(Kind.H2);
        append(store, "a");
        source.beforeStatement = FaultyDataSource.of("INSERT", new SQLException(words, state, code));
        assertIsAProblemUntil(store, words, () -> source.recover());
    }

    /** Otherwise each batch that is too long for a column would be an outage. */
    @Test
    void what_is_a_batchs_own_fault_is_none() {
        JdbcBatchStore store = openFaulty(Kind.H2);
        source.beforeStatement = FaultyDataSource.of("INSERT", new SQLException("value too long", "22001"));
        assertThat(failure(store.append(batch("long")))).hasMessageContaining("too long");
        assertThat(store.stats().problem()).isNull();
    }

    @OnEachDatabase
    void with_a_fallback_it_is_told_why_batches_are_kept_there_and_it_is_over_when_they_can_be_moved(Kind kind) {
        begin(kind);
        append("a");
        database.update("ALTER TABLE {p}counter RENAME TO {p}elsewhere");
        append("b");
        assertThat(store.stats().fallback().reason()).containsIgnoringCase("counter");
        assertThat(store.stats().fallback().batches()).isOne();
        assertThat(store.stats().problem()).as("new batches are kept").isNull();
        append("c");
        store.mover.move();
        assertThat(local()).containsExactly("b", "c");
        database.update("ALTER TABLE {p}elsewhere RENAME TO {p}counter");
        primary.heartbeat();
        assertThat(store.stats().fallback().reason()).isNull();
        markPending("b", "c");
        store.mover.move();
        assertThat(shared()).containsExactly("a", "b", "c");
        assertThat(balanced().accepted()).isEqualTo(3);
    }

    /** Another instance is frozen during a transaction on a lane and an outage. */
    @OnEachDatabase
    void rows_that_others_have_locked_are_not_waited_for(Kind kind) throws SQLException {
        JdbcBatchStore store = openFaulty(kind);
        store.pause("loki", true);
        database.update(
                "INSERT INTO {p}outage (collector_type, since, next_probe_at, probes, last_failure) VALUES ('loki', 1, 1,"
                        + " 1, '503')");
        String prefix = database.options().build().tablePrefix();
        try (Connection frozen = database.pool().getConnection();
                Statement statement = frozen.createStatement()) {
            frozen.setAutoCommit(false);
            statement.executeUpdate("UPDATE " + prefix + "lane SET paused = 0");
            statement.executeUpdate("UPDATE " + prefix + "outage SET probes = 2");
            AtomicInteger committed = new AtomicInteger();
            source.afterCommit = what -> committed.incrementAndGet();
            store.heartbeat();
            assertThat(committed.get()).isPositive();
            assertThat(store.stats().problem()).isNull();
            frozen.rollback();
        }
    }

    @Test
    void a_sign_of_life_that_cannot_be_given_is_a_problem_whatever_the_reason() {
        JdbcBatchStore store = openFaulty(Kind.H2);
        append(store, "a");
        for (Throwable failure : new Throwable[] {
            new SQLTransientException("canceling statement due to user request", "57014"),
            new IllegalStateException("a driver's mistake")
        }) {
            source.beforeStatement = sql -> {
                if (sql.contains("SET seen_at")) {
                    if (failure instanceof SQLException e) {
                        throw e;
                    }
                    throw (RuntimeException) failure;
                }
            };
            try {
                store.heartbeat();
            } catch (RuntimeException e) {
                assertThat(e).hasMessageContaining(failure.getMessage());
            }
            assertThat(store.stats().problem()).contains("heartbeat", failure.getMessage());
            append(store, failure.getMessage());
            assertThat(store.stats().problem()).contains("heartbeat");
            source.recover();
            store.heartbeat();
            assertThat(store.stats().problem()).isNull();
        }
    }

    /** While the lease cannot be renewed, other successful writes do not end the problem. */
    @Test
    void the_store_tells_of_it_by_itself_and_when_it_is_over() {
        onFaulty(Kind.H2);
        JdbcBatchStore store = JdbcBatchStore.open(
                source.dataSource,
                database.options().lease(Duration.ofSeconds(1)).build());
        opened.add(store);
        source.beforeStatement = FaultyDataSource.of(
                "SET seen_at", new SQLException("canceling statement due to user request", "57014"));
        await().untilAsserted(() -> assertThat(store.stats().problem()).contains("heartbeat"));
        source.recover();
        await().untilAsserted(() -> assertThat(store.stats().problem()).isNull());
    }
}
