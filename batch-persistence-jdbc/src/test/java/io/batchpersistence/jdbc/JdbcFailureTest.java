package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.FaultyDataSource.lost;
import static io.batchpersistence.jdbc.FaultyDataSource.once;
import static io.batchpersistence.jdbc.FaultyDataSource.times;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.jdbc.JdbcStoreOptions.InitializeSchema;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Failures of the database and of the connections to it. */
class JdbcFailureTest extends JdbcTestBase {

    private static SQLException deadlock() {
        return new SQLException("deadlock detected", "40P01");
    }

    @OnEachDatabase
    void those_that_wait_are_written_together_and_a_duplicate_among_them_is_refused_alone(Kind kind)
            throws InterruptedException {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "held", "to be marked");
        long groups = store.stats().writes().groups();
        AtomicInteger commits = new AtomicInteger();
        source.afterCommit = what -> commits.incrementAndGet();
        CountDownLatch goOn = holdWriter(store, "first");
        CompletableFuture<Void> a = store.append(batch("a"));
        CompletableFuture<Void> duplicate = store.append(batch("held"));
        CompletableFuture<Void> b = store.append(batch("b"));
        CompletableFuture<Void> twin = store.append(batch("b"));
        CompletableFuture<?> mark = CompletableFuture.supplyAsync(() -> store.delivered("to be marked"));
        goOn.countDown();
        CompletableFuture.allOf(a, b, mark).join();

        assertThat(failure(duplicate)).isInstanceOf(DuplicateBatchException.class);
        assertThat(failure(twin)).isInstanceOf(DuplicateBatchException.class);
        assertThat(mark.join()).isNotNull();
        assertThat(store.list(ALL, clock.instant()))
                .extracting(each -> each.id())
                .containsExactly("held", "first", "a", "b");
        assertThat(store.stats().writes().groups() - groups).isLessThanOrEqualTo(2);
        assertThat(commits.get()).isLessThanOrEqualTo(3);
        source.recover();
        CollectorStats stats = balanced(store);
        assertThat(stats.accepted()).isEqualTo(5);
        assertThat(stats.delivered()).isOne();
    }

    @OnEachDatabase
    void a_commit_that_was_done_before_the_connection_was_lost_is_found_out(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        source.afterCommit = once(lost());
        append(store, "a");
        assertThat(state(store, "a")).isEqualTo(BatchState.IN_FLIGHT);
        source.afterCommit = once(lost());
        assertThat(store.delivered("a")).isNotNull();
        assertThat(state(store, "a")).isNull();
        assertThat(store.stats().problem()).isNull();
        CollectorStats stats = balanced(store);
        assertThat(stats.accepted()).isEqualTo(2);
        assertThat(stats.delivered()).isOne();
    }

    /**
     * The server gets a statement of the store only after the connection was lost: when the outcome has been looked up,
     * or while that has locked the counters. The store fails to write once more.
     *
     * @return what becomes of the late statement
     */
    private Future<?> late(boolean afterLookUp, Runnable operation) throws Exception {
        FutureTask<?> late = new FutureTask<>(() -> source.delayed.call());
        source.delaysNext = true;
        source.beforeStatement = sql -> {
            if (source.delayed == null) {
                return;
            }
            if (sql.startsWith("WITH ")) {
                throw new SQLException("no", "23514");
            }
            if (!afterLookUp && sql.startsWith("UPDATE ")) {
                new Thread(late).start();
                while (database.query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'WITH %{p}counter%'"
                                + " AND wait_event_type = 'Lock'")
                        .isEmpty()) {
                    Thread.onSpinWait();
                }
            }
        };
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(operation::run);
        source.recover();
        if (afterLookUp) {
            late.run();
        }
        return late;
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void a_batch_that_was_told_as_failed_is_not_stored_by_a_statement_that_arrives_late(boolean afterLookUp)
            throws Exception {
        JdbcBatchStore store = openFaulty(Kind.POSTGRESQL);
        append(store, "first");
        Future<?> late = late(afterLookUp, () -> {
            if (failure(store.append(batch("a"))) instanceof RuntimeException failed) {
                throw failed;
            }
        });
        assertThat(late).failsWithin(Duration.ofSeconds(30)).withThrowableThat().withMessageContaining("zero");
        assertThat(state(store, "a")).isNull();
        append(store, "a");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void a_batch_whose_mark_failed_is_not_removed_by_a_statement_that_arrives_late(boolean afterLookUp)
            throws Exception {
        JdbcBatchStore store = openFaulty(Kind.POSTGRESQL);
        append(store, "a");
        Future<?> late = late(afterLookUp, () -> store.delivered("a"));
        assertThat(late).failsWithin(Duration.ofSeconds(30)).withThrowableThat().withMessageContaining("zero");
        assertThat(state(store, "a")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(store.delivered("a")).isNotNull();
        assertThat(balanced(store).delivered()).isOne();
    }

    @OnEachDatabase
    void what_others_of_the_instance_commit_meanwhile_does_not_hide_it(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        markPending(store, "first");
        source.afterCommit = what -> {
            source.recover();
            assertThat(CompletableFuture.supplyAsync(() -> store.discard(ALL.ids("first"), clock.instant()))
                            .join())
                    .isOne();
            throw lost();
        };
        append(store, "a");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void a_connection_that_cannot_be_given_back_changes_nothing(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        source.afterClose = once(lost());
        append(store, "a");
        source.afterClose = once(lost());
        assertThat(store.delivered("a")).isNotNull();
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void a_commit_that_was_not_done_is_tried_again(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        source.beforeCommit = once(lost());
        append(store, "a");
        AtomicInteger asked = new AtomicInteger();
        source.beforeCommit = once(lost());
        assertThat(store.failed("a", 0, "503", clock.instant(), (type, retries) -> {
                    asked.incrementAndGet();
                    return new Verdict(false, clock.instant(), retries + 1);
                }))
                .isNotNull();
        assertThat(asked.get()).isOne();
        assertThat(store.find("a").orElseThrow().retryCount()).isOne();
        CollectorStats stats = balanced(store);
        assertThat(stats.accepted()).isEqualTo(2);
        assertThat(stats.failedAttempts()).isOne();
    }

    @OnEachDatabase
    void a_commit_of_which_nothing_can_be_found_out_is_told_as_that(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        source.afterCommit = source.gone();
        assertThat(failure(store.append(batch("a"))))
                .isExactlyInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining("may be stored");
        assertThat(store.stats().problem()).contains("connection");
        source.recover();
        store.heartbeat();
        assertThat(state(store, "a")).as("it was, here").isEqualTo(BatchState.IN_FLIGHT);
        assertThat(balanced(store).accepted()).isEqualTo(2);
        assertThat(store.stats().problem()).isNull();
    }

    @OnEachDatabase
    void a_claim_of_which_nothing_is_known_is_given_back(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "a");
        markPending(store, "a");
        // Creates the counters.
        assertThat(claim(store)).containsExactly("a");
        markPending(store, "a");
        source.afterCommit = once(lost());
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> claim(store));
        assertThat(state(store, "a")).isEqualTo(BatchState.IN_FLIGHT);
        store.heartbeat();
        assertThat(claim(store)).containsExactly("a");
        assertThat(store.find("a").orElseThrow().retryCount()).isZero();
        balanced(store);
    }

    /** The connection is lost, and the server executes what it has received later. */
    @OnEachDatabase
    void a_claim_that_is_done_late_times_out(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "a");
        markPending(store, "a");
        // Creates the counters.
        assertThat(claim(store)).containsExactly("a");
        markPending(store, "a");
        pass(TIMEOUT.multipliedBy(2));
        // From here on no batch is known to be in flight.
        assertThat(store.timedOut(clock.instant(), 10)).isEmpty();
        source.beforeCommit = once(lost());
        Instant before = clock.instant();
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> claim(store));
        store.heartbeat();
        database.update("UPDATE {p}batch SET state = 1, fence = 77, due_at = "
                + before.plus(TIMEOUT).toEpochMilli() + ", owner = "
                + store.stats().instance().number());
        database.update("UPDATE {p}counter SET pending = pending - 1, in_flight = in_flight + 1 WHERE part = -1");
        pass(TIMEOUT.plusMillis(1));
        assertThat(store.timedOut(clock.instant(), 10))
                .extracting(lease -> lease.batchId())
                .containsExactly("a");
    }

    @OnEachDatabase
    void deadlocks_and_lost_connections_are_tried_again_unnoticed(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        for (SQLException failure : List.of(deadlock(), new SQLException("could not serialize", "40001"), lost())) {
            String id = "after " + failure.getMessage();
            source.beforeStatement = times(2, failure);
            append(store, id);
            AtomicInteger asked = new AtomicInteger();
            source.beforeStatement = times(2, failure);
            store.failed(id, 0, "503", clock.instant(), (type, retries) -> {
                asked.incrementAndGet();
                return new Verdict(false, clock.instant(), retries + 1);
            });
            assertThat(asked.get()).isOne();
            source.beforeStatement = times(2, failure);
            assertThat(claim(store)).containsExactly(id);
            source.beforeCommit = failure.getSQLState().startsWith("40") ? once(failure) : what -> {};
            assertThat(store.delivered(id)).isNotNull();
        }
        assertThat(store.stats().problem()).isNull();
        assertThat(balanced(store).delivered()).isEqualTo(3);
    }

    @OnEachDatabase
    void one_that_the_database_refuses_does_no_harm_to_those_written_with_it(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        CountDownLatch goOn = holdWriter(store, "begin");
        CompletableFuture<Void> good = store.append(batch("good"));
        CompletableFuture<Void> better = store.append(batch("better"));
        AtomicInteger inserts = new AtomicInteger();
        source.beforeStatement = sql -> {
            if (sql.startsWith("INSERT INTO") && sql.contains("payload_crc") && sql.contains("), (")) {
                inserts.incrementAndGet();
                throw new SQLException("packet too large", "22001");
            }
        };
        goOn.countDown();
        CompletableFuture.allOf(good, better).join();
        assertThat(inserts.get()).isPositive();
        source.recover();
        assertThat(balanced(store).accepted()).isEqualTo(4);
    }

    @OnEachDatabase
    void a_lock_that_all_of_a_group_wait_for_is_not_waited_for_by_one_after_the_other(Kind kind)
            throws InterruptedException {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        CountDownLatch goOn = holdWriter(store, "begin");
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            all.add(store.append(batch("b" + i)));
        }
        long before = ticker.get();
        source.beforeStatement = sql -> {
            if (sql.contains("accepted = accepted")) {
                ticker.addAndGet(Duration.ofSeconds(10).toNanos());
                throw new SQLException("canceling statement due to user request", "57014");
            }
        };
        goOn.countDown();
        all.forEach(each -> assertThat(failure(each)).isInstanceOf(BatchPersistenceException.class));
        assertThat(Duration.ofNanos(ticker.get() - before)).isLessThan(Duration.ofMinutes(2));
        source.recover();
        append(store, "b0");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void a_store_opens_without_its_database_and_recovers_by_itself(Kind kind) {
        onFaulty(kind);
        source.refuse();
        JdbcBatchStore store = open(source, options -> options);
        assertThat(store.stats().problem()).contains("connection");
        assertThat(failure(store.append(batch("a")))).isInstanceOf(BatchPersistenceException.class);
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> store.delivered("a"));
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> store.find("a"));
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> claim(store));
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(store::collectorTypes);

        source.recover();
        store.heartbeat();
        assertThat(store.stats().problem()).isNull();
        append(store, "a");
        assertThat(store.stats().collector("loki").accepted()).isOne();

        source.refuse();
        assertThat(failure(store.append(batch("b")))).isInstanceOf(BatchPersistenceException.class);
        assertThat(store.stats().problem()).contains("connection");
        assertThat(store.stats().collector("loki").accepted())
                .as("the last known")
                .isOne();
        source.recover();
        append(store, "c");
        assertThat(store.stats().problem()).isNull();
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @Test
    void a_pool_that_throws_something_else_is_a_database_that_is_not_there_too() {
        onFaulty(Kind.H2);
        source.beforeConnection = what -> {
            throw new IllegalStateException("Failed to initialize pool: connection refused");
        };
        JdbcBatchStore store = open(source, options -> options);
        assertThat(store.stats().problem()).contains("connection refused");
        assertThat(failure(store.append(batch("a")))).isInstanceOf(BatchPersistenceException.class);

        source.recover();
        store.heartbeat();
        append(store, "a");
        assertThat(store.stats().problem()).isNull();
        source.beforeConnection = what -> {
            throw new IllegalStateException("the pool is closed");
        };
        assertThat(failure(store.append(batch("b")))).isInstanceOf(BatchPersistenceException.class);
        source.recover();
        append(store, "b");
    }

    @OnEachDatabase
    void closing_without_a_database_leaves_the_rest_to_the_lease(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        JdbcBatchStore other = open();
        append(store, "a");
        source.refuse();
        store.close();
        other.heartbeat();
        assertThat(claim(other)).isEmpty();
        pass(LEASE.plusMillis(1), other);
        assertThat(claim(other)).containsExactly("a");
    }

    /** A JDBC batch reports its own failure first, and links that of the statement. */
    @Test
    void a_cause_is_found_behind_the_first_exception() {
        SQLException guard = new BatchUpdateException("Batch entry 3 was aborted", new int[0]);
        guard.setNextException(new SQLException("division by zero", "22012"));
        assertThat(Dialect.isGuard(guard)).isTrue();
        SQLException missing = new BatchUpdateException("Batch entry 0 was aborted", new int[0]);
        missing.setNextException(new SQLException("relation does not exist", "42P01"));
        assertThat(Dialect.isMissingTable(missing)).isTrue();
        assertThat(Dialect.isMissingSchema(missing)).isFalse();
        missing.setNextException(new SQLException("unknown database", "42000", 1049));
        assertThat(Dialect.isMissingSchema(missing)).isTrue();
        assertThat(Dialect.isGuard(missing)).isFalse();
    }

    @OnEachDatabase
    void tables_are_created_only_if_that_is_configured(Kind kind) {
        JdbcBatchStore store = open(kind, options -> options.initializeSchema(false));
        assertThat(store.stats().problem())
                .contains("missing", "initialize_schema", kind.name().toLowerCase(Locale.ROOT) + "-1.sql");
        assertThat(failure(store.append(batch("a")))).hasMessageContaining("missing");
        open();
        store.heartbeat();
        append(store, "a");
        store.close();
        database.update("INSERT INTO {p}schema_version (version) VALUES (99)");
        assertThat(open().stats().problem()).contains("version 99");
        database.update("DELETE FROM {p}schema_version WHERE version = 99");
    }

    @OnEachDatabase
    void only_in_memory_does_embedded_make_tables(Kind kind) {
        JdbcBatchStore store = open(kind, options -> options.initializeSchema(InitializeSchema.EMBEDDED));
        if (kind == Kind.H2) {
            append(store, "a");
        } else {
            assertThat(store.stats().problem()).contains("missing");
        }
    }

    @Test
    void until_the_database_has_been_reached_only_the_thread_that_looks_for_it_waits_for_a_connection() {
        onFaulty(Kind.H2);
        AtomicInteger attempts = new AtomicInteger();
        source.beforeConnection = what -> {
            attempts.incrementAndGet();
            throw lost();
        };
        JdbcBatchStore store = open(source, options -> options.initializeSchema(InitializeSchema.EMBEDDED));
        assertThat(store.stats().problem()).contains("the connection was lost");
        assertThat(failure(store.append(batch("a")))).hasMessageContaining("the connection was lost");
        assertThatExceptionOfType(BatchPersistenceException.class)
                .isThrownBy(() -> claim(store))
                .withMessageContaining("the connection was lost");
        assertThatExceptionOfType(BatchPersistenceException.class)
                .isThrownBy(() -> store.find("a"))
                .withMessageContaining("the connection was lost");
        assertThat(attempts).hasValue(1);
        source.recover();
        store.heartbeat();
        append(store, "a");
    }

    private final AtomicReference<Connection> business = new AtomicReference<>();

    @OnEachDatabase
    void a_batch_is_persisted_exactly_when_the_callers_transaction_commits(Kind kind) throws SQLException {
        JdbcBatchStore store = open(kind, options -> options.transaction(business::get));
        JdbcBatchStore other = open();
        append(store, "alone");
        try (Connection connection = database.pool().getConnection()) {
            connection.setAutoCommit(false);
            assertThat(store.joinsTransaction()).isFalse();
            business.set(connection);
            assertThat(store.joinsTransaction()).isTrue();
            append(store, "rolled back");
            connection.rollback();
            append(store, "committed");
            business.set(null);
            // Other appends do not wait for the caller's transaction.
            append(store, "meanwhile");
            assertThat(state(other, "committed")).isNull();
            connection.commit();
        }
        assertThat(state(other, "rolled back")).isNull();
        assertThat(state(other, "committed")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(balanced(other).accepted()).isEqualTo(3);
        assertThat(database.query("SELECT part FROM {p}counter WHERE part > 0")).hasSize(1);
        store.heartbeat();
        assertThat(database.query("SELECT part FROM {p}counter WHERE part > 0")).isEmpty();
        assertThat(balanced(other).accepted()).isEqualTo(3);
        assertThat(store.delivered("committed")).isNotNull();
        assertThat(balanced(store).delivered()).isOne();
    }

    @OnEachDatabase
    void a_duplicate_does_not_end_the_callers_transaction(Kind kind) throws SQLException {
        JdbcBatchStore store = open(kind, options -> options.transaction(business::get));
        append(store, "a");
        try (Connection connection = database.pool().getConnection()) {
            connection.setAutoCommit(false);
            business.set(connection);
            assertThat(failure(store.append(batch("a")))).isInstanceOf(DuplicateBatchException.class);
            append(store, "b");
            business.set(null);
            try (Statement statement = connection.createStatement()) {
                statement.execute("SELECT 1");
            }
            connection.commit();
        }
        assertThat(state(store, "b")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void what_is_committed_after_its_instance_has_died_is_recovered_too(Kind kind) throws SQLException {
        JdbcBatchStore store = open(kind, options -> options.transaction(business::get));
        JdbcBatchStore other = open();
        append(store, "first");
        try (Connection connection = database.pool().getConnection()) {
            connection.setAutoCommit(false);
            business.set(connection);
            append(store, "late");
            business.set(null);
            pass(LEASE.plusMillis(1), other);
            assertThat(claim(other)).containsExactly("first");
            connection.commit();
        }
        assertThat(claim(other)).isEmpty();
        other.heartbeat();
        assertThat(claim(other)).containsExactly("late");
        assertThat(balanced(other).accepted()).isEqualTo(2);
        assertThat(database.query("SELECT part FROM {p}counter WHERE part > 0")).isEmpty();
    }

    @OnEachDatabase
    void a_batch_that_cannot_be_read_is_set_aside_reported_and_counted(Kind kind) {
        JdbcBatchStore store = open(kind);
        List<Corruption> found = new ArrayList<>();
        store.onCorruption(found::add);
        append(store, "good", "bad", "worse");
        markPending(store, "good", "bad", "worse");
        database.update("UPDATE {p}batch SET payload_crc = payload_crc + 1 WHERE batch_id = 'bad'");
        database.update("UPDATE {p}batch SET compression = 99 WHERE batch_id = 'worse'");

        assertThat(claim(store)).containsExactly("good");
        assertThat(found).extracting(Corruption::batchId).containsExactly("bad", "worse");
        assertThat(found).allSatisfy(corruption -> {
            assertThat(corruption.batches()).isOne();
            assertThat(corruption.collectorType()).isEqualTo("loki");
        });
        assertThat(store.find("bad")).isEmpty();
        assertThat(database.query("SELECT batch_id FROM {p}corrupt ORDER BY seq"))
                .containsExactly("bad", "worse");
        assertThat(balanced(store).corrupt()).isEqualTo(2);
        assertThat(found).hasSize(2);
    }

    @OnEachDatabase
    void the_databases_clock_is_read_right(Kind kind) {
        on(kind);
        Clock system = Clock.systemUTC();
        try (JdbcBatchStore store = JdbcBatchStore.open(
                database.pool(), database.options().clock(system).build())) {
            Instant now = system.instant();
            store.append(batch("a", now)).join();
            assertThat(store.find("a").orElseThrow().createdAt())
                    .isBetween(now.minusSeconds(60), system.instant().plusSeconds(60));
            assertThat(store.timedOut(system.instant(), 1)).isEmpty();
            store.failed("a", 0, "503", system.instant(), (type, none) -> new Verdict(false, system.instant(), 1));
            assertThat(store.count(BatchSelector.all().youngerThan(Duration.ofMinutes(2)), now))
                    .isOne();
            assertThat(store.count(BatchSelector.all().olderThan(Duration.ofMinutes(2)), now))
                    .isZero();
            Long millis = Long.valueOf(
                    database.query("SELECT created_at FROM {p}batch").get(0));
            assertThat(Instant.ofEpochMilli(millis))
                    .isBetween(now.minusSeconds(60), system.instant().plusSeconds(60));
        }
    }
}
