package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;

/** Batches that are part of a transaction and have no sender when it commits. */
class JdbcUnsentTest extends JdbcTestBase {

    @OnEachDatabase
    void an_unsent_batch_is_pending_when_its_transaction_is_committed_and_never_times_out(TestDatabase.Kind kind)
            throws SQLException {
        Connection[] business = new Connection[1];
        JdbcBatchStore store = open(kind, options -> options.transaction(() -> business[0]));
        try (Connection connection = database.pool().getConnection()) {
            connection.setAutoCommit(false);
            business[0] = connection;
            store.appendUnsent(batch("sent by recovery"), clock.instant()).join();
            store.appendUnsent(batch("not sent by recovery"), null).join();
            business[0] = null;
            assertThat(claim(store)).isEmpty();
            connection.commit();
        }

        pass(TIMEOUT.plus(Duration.ofMinutes(1)), store);
        assertThat(store.timedOut(clock.instant(), 10)).isEmpty();
        assertThat(balanced(store).pending()).isEqualTo(2);
        assertThat(claim(store)).containsExactly("sent by recovery");
        assertThat(state(store, "not sent by recovery")).isEqualTo(BatchState.PENDING);
        assertThat(store.delivered("sent by recovery").retryCount()).isZero();
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }
}
