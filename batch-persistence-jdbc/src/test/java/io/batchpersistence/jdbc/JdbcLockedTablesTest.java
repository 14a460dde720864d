package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchStats;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/** An administrator locks tables. Callers wait for the lock, but stats() does not. */
class JdbcLockedTablesTest extends JdbcTestBase {

    @OnEachServer
    void statistics_do_not_wait_for_locks_and_say_that_the_store_does(Kind kind) throws SQLException {
        JdbcBatchStore store = open(kind);
        append(store, "a");
        assertThat(store.stats().total().inFlight()).isEqualTo(1);
        CompletableFuture<Void> waiting;
        try (Connection administrator = database.pool().getConnection();
                Statement statement = administrator.createStatement()) {
            administrator.setAutoCommit(false);
            String batch = database.prefix() + "batch";
            String counter = database.prefix() + "counter";
            statement.execute(
                    kind == Kind.POSTGRESQL
                            ? "LOCK TABLE " + batch + ", " + counter + " IN ACCESS EXCLUSIVE MODE"
                            : "LOCK TABLES " + batch + " WRITE, " + counter + " WRITE");
            waiting = store.append(batch("b"));
            ticker.addAndGet(Duration.ofSeconds(2).toNanos());
            // No long wait is known yet, so the database is asked, but with a short timeout.
            long start = System.nanoTime();
            assertThat(store.stats().total().inFlight()).isEqualTo(1);
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(8));

            await().until(() -> {
                ticker.addAndGet(Duration.ofSeconds(4).toNanos());
                return store.stats().problem() != null;
            });
            BatchStats stats = store.stats();
            assertThat(stats.problem()).contains("has waited").contains("locked");
            assertThat(stats.total().inFlight()).isEqualTo(1);
            assertThat(waiting).isNotDone();
            if (kind == Kind.MARIADB) {
                statement.execute("UNLOCK TABLES");
            }
            administrator.rollback();
        }
        waiting.join();
        assertThat(store.stats().problem()).isNull();
        assertThat(balanced(store).inFlight()).isEqualTo(2);
    }
}
