package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What an administrator does to the tables: deletes rows of instances, restores an older dump. */
class JdbcRestoredTest extends JdbcTestBase {

    private static long number(JdbcBatchStore store) {
        return store.stats().instance().number();
    }

    @OnEachDatabase
    void what_a_dead_instance_without_a_row_had_in_flight_is_given_back(Kind kind) {
        JdbcBatchStore dead = open(kind);
        append(dead, "appended", "claimed");
        markPending(dead, "claimed");
        claim(dead);
        JdbcBatchStore other = open();
        append(other, "mine");
        database.update("DELETE FROM {p}instance WHERE id = " + number(dead));
        other.heartbeat();
        assertThat(claim(other)).containsExactly("appended", "claimed");
        assertThat(other.delivered("mine")).isNotNull();
        assertThat(balanced(other).accepted()).isEqualTo(3);
        assertThat(database.query("SELECT instance FROM {p}counter WHERE instance = " + number(dead)))
                .as("it could write no more")
                .isEmpty();
    }

    @OnEachDatabase
    void after_all_rows_were_deleted_nothing_is_stuck_and_those_alive_go_on(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "a");
        append(other, "b");
        database.update("DELETE FROM {p}instance");
        other.heartbeat();
        one.heartbeat();
        other.heartbeat();
        assertThat(database.query("SELECT id FROM {p}instance")).hasSize(2);
        assertThat(claim(one)).containsExactly("a", "b");
        assertThat(other.delivered("a")).isNull();
        assertThat(one.delivered("a")).isNotNull();
        append(other, "c");
        assertThat(other.delivered("c")).isNotNull();
        assertThat(one.delivered("b")).isNotNull();
        assertThat(balanced(other).delivered()).isEqualTo(3);
    }

    /** No other instance is there to do it. */
    @OnEachDatabase
    void an_instance_whose_own_row_was_deleted_gets_its_batches_back(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "a");
        database.update("DELETE FROM {p}instance");
        store.heartbeat();
        assertThat(claim(store)).containsExactly("a");
        balanced(store);
    }

    /** Simulates a restored database, which reuses the numbers that it assigned after the dump. */
    private void restoreFrom(Kind kind, List<String> instances, long next) {
        database.update("DELETE FROM {p}instance WHERE id NOT IN (" + String.join(", ", instances) + ")");
        if (kind == Kind.MARIADB) {
            database.update("ALTER TABLE {p}instance AUTO_INCREMENT = " + next);
        } else if (database.query("SELECT column_name FROM information_schema.columns WHERE lower(table_name) = '"
                                + database.options().build().tablePrefix()
                                + "instance' AND lower(column_name) = 'id' AND is_identity = 'YES'")
                        .size()
                > 0) {
            database.update("ALTER TABLE {p}instance ALTER COLUMN id RESTART WITH " + next);
        }
    }

    @OnEachDatabase
    void two_that_are_alive_never_have_one_number(Kind kind) {
        JdbcBatchStore first = open(kind);
        JdbcBatchStore second = open();
        append(first, "of the first");
        append(second, "of the second");
        long number = number(first);
        database.update("DELETE FROM {p}counter WHERE instance = " + number(second));
        database.update("DELETE FROM {p}batch WHERE owner = " + number(second));
        restoreFrom(kind, List.of(String.valueOf(number)), 2);
        JdbcBatchStore third = open();
        second.heartbeat();
        third.heartbeat();
        assertThat(number(second)).isNotEqualTo(number(third));
        append(second, "new of the second");
        append(third, "new of the third");
        third.close();
        assertThat(state(first, "new of the third")).isEqualTo(BatchState.PENDING);
        assertThat(state(first, "new of the second")).as("it is being sent").isEqualTo(BatchState.IN_FLIGHT);
        assertThat(second.delivered("new of the second")).isNotNull();
    }

    /** Before its next heartbeat. */
    @OnEachDatabase
    void one_that_is_not_in_the_dump_does_not_write_under_the_number_of_another(Kind kind) {
        JdbcBatchStore old = open(kind);
        append(old, "a");
        database.update("DELETE FROM {p}counter");
        database.update("DELETE FROM {p}batch");
        restoreFrom(kind, List.of("0"), number(old));
        JdbcBatchStore young = open();
        append(young, "b");
        append(old, "c");
        assertThat(old.delivered("b")).as("it is not its own").isNull();
        assertThat(number(old)).isNotEqualTo(number(young));
        young.close();
        assertThat(state(old, "c")).isEqualTo(BatchState.IN_FLIGHT);
    }

    /**
     * The batch was delivered after the dump. After the restore no instance is sending it, although its owner is alive.
     */
    @OnEachDatabase
    void what_the_dump_says_that_an_instance_has_in_flight_times_out(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "waits");
        markPending(store, "waits");
        pass(TIMEOUT.multipliedBy(2), store);
        // No batch is known to be in flight.
        assertThat(store.timedOut(clock.instant(), 9)).isEmpty();
        String columns =
                "collector_type, fence, created_at, since, last_attempt, retry_count, reason, earlier_failures,"
                        + " entry_count, bytes, format, compression, raw_length, payload_crc, header, payload";
        database.update("INSERT INTO {p}batch (batch_id, state, owner, due_at, " + columns + ") SELECT 'a', 1, "
                + number(store) + ", "
                + clock.instant().plus(TIMEOUT).toEpochMilli() + ", " + columns + " FROM {p}batch");
        pass(TIMEOUT.plusMillis(1), store);
        assertThat(store.timedOut(clock.instant(), 9))
                .extracting(lease -> lease.batchId())
                .containsExactly("a");
        markPending(store, "a");
        assertThat(claim(store)).containsExactly("waits", "a");
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 50})
    void numbers_are_never_used_again(int instances) {
        on(Kind.H2);
        open();
        for (int i = 0; i < instances; i++) {
            open().close();
        }
        assertThat(database.query("SELECT DISTINCT id FROM {p}instance")).hasSize(instances + 1);
    }
}
