package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.FaultyDataSource.lost;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Claim;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;

/** Concurrent claims, and many due batches. */
class JdbcClaimsTest extends JdbcTestBase {

    private static List<String> names(int from, int to) {
        return IntStream.range(from, to).mapToObj(i -> "b%03d".formatted(i)).toList();
    }

    private JdbcBatchStore openWithPending(Kind kind, int batches) {
        JdbcBatchStore store = openFaulty(kind);
        makePending(store, batches);
        return store;
    }

    private void makePending(JdbcBatchStore store, int batches) {
        String[] names = names(0, batches).toArray(new String[0]);
        append(store, names);
        markPending(store, names);
        // Creates the counters.
        claim(store, BatchOrder.OLDEST_FIRST, 1);
        markPending(store, names[0]);
    }

    private List<Claim> claim(JdbcBatchStore store, BatchOrder order, int max) {
        return store.claim("loki", order, clock.instant(), clock.instant().plus(TIMEOUT), max);
    }

    /** A thread that claims up to a number of batches. */
    private final class Claimer {
        private final CompletableFuture<List<Claim>> claimed = new CompletableFuture<>();
        private final Thread thread;
        private volatile boolean interrupted;

        Claimer(JdbcBatchStore store, int max) {
            thread = new Thread(() -> {
                try {
                    claimed.complete(claim(store, BatchOrder.OLDEST_FIRST, max));
                } catch (RuntimeException e) {
                    claimed.completeExceptionally(e);
                }
                interrupted = Thread.currentThread().isInterrupted();
            });
            thread.start();
        }

        List<Claim> get() {
            return claimed.join();
        }
    }

    /** Blocks a claim before its first statement, starts another thread for each number, and lets all continue. */
    private List<Claimer> meet(JdbcBatchStore store, Runnable before, int... max) throws InterruptedException {
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        source.beforeStatement = what -> {
            source.beforeStatement = other -> {};
            arrived.countDown();
            try {
                goOn.await();
            } catch (InterruptedException e) {
                throw new SQLException(e);
            }
        };
        List<Claimer> claimers = new ArrayList<>();
        claimers.add(new Claimer(store, 1));
        arrived.await();
        for (int each : max) {
            Claimer next = new Claimer(store, each);
            claimers.add(next);
            Awaitility.await().until(() -> next.thread.getState() == Thread.State.WAITING);
        }
        before.run();
        goOn.countDown();
        return claimers;
    }

    @OnEachDatabase
    void those_who_come_while_one_claims_are_served_together_and_each_gets_his_own(Kind kind)
            throws InterruptedException {
        JdbcBatchStore store = openWithPending(kind, 8);
        assertThat(claim(store, BatchOrder.OLDEST_FIRST, 1)).hasSize(1);
        AtomicInteger commits = new AtomicInteger();
        source.beforeCommit = what -> commits.incrementAndGet();
        List<Claimer> claimers = meet(store, () -> {}, 1, 2, 1, 1);

        assertThat(claimers.stream().map(Claimer::get).map(JdbcTestBase::ids))
                .containsExactly(
                        List.of("b001"), List.of("b002"), List.of("b003", "b004"), List.of("b005"), List.of("b006"));
        assertThat(commits.get()).isEqualTo(2);
        for (Claim claim : claimers.get(4).get()) {
            assertThat(store.failed(claim.batch().id(), claim.fence(), "down", clock.instant(), again()))
                    .isNotNull();
        }
        assertThat(balanced(store).inFlight()).isEqualTo(6);
    }

    @OnEachDatabase
    void where_there_are_fewer_than_are_wanted_the_last_ones_go_without(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openWithPending(kind, 3);
        List<Claimer> claimers = meet(store, () -> {}, 1, 1, 1);
        assertThat(claimers.stream().map(Claimer::get).map(JdbcTestBase::ids))
                .containsExactly(List.of("b000"), List.of("b001"), List.of("b002"), List.of());
        assertThat(balanced(store).inFlight()).isEqualTo(3);
    }

    @OnEachDatabase
    void what_one_who_claims_for_others_fails_with_all_of_them_get(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openWithPending(kind, 3);
        AtomicInteger connections = new AtomicInteger();
        List<Claimer> claimers = meet(
                store,
                () -> source.afterCommit = what -> {
                    source.afterCommit = other -> {};
                    source.beforeConnection = other -> {
                        connections.incrementAndGet();
                        throw lost();
                    };
                },
                1,
                1);
        assertThat(ids(claimers.get(0).get())).containsExactly("b000");
        for (Claimer each : claimers.subList(1, 3)) {
            assertThat(failure(each.claimed)).isInstanceOf(BatchPersistenceException.class);
        }
        assertThat(connections.get())
                .as("no one waits for the same thing again")
                .isOne();
        source.recover();
        assertThat(ids(claim(store, BatchOrder.OLDEST_FIRST, 5))).containsExactly("b001", "b002");
        balanced(store);
    }

    @OnEachDatabase
    void one_who_cannot_read_what_he_got_gives_back_that_and_nothing_of_the_others(Kind kind)
            throws InterruptedException {
        JdbcBatchStore store = openWithPending(kind, 4);
        assertThat(claim(store, BatchOrder.OLDEST_FIRST, 1)).hasSize(1);
        database.update("UPDATE {p}batch SET payload_crc = payload_crc + 1 WHERE batch_id = 'b002'");
        AtomicInteger commits = new AtomicInteger();
        List<Claimer> claimers = meet(
                store,
                () -> source.afterCommit = what -> {
                    if (commits.incrementAndGet() == 2) {
                        // Then the batch cannot be set aside.
                        source.refuse();
                    }
                },
                1,
                1);
        assertThat(failure(claimers.get(1).claimed)).isInstanceOf(BatchPersistenceException.class);
        assertThat(ids(claimers.get(2).get())).containsExactly("b003");
        source.recover();
        store.heartbeat();
        assertThat(database.query("SELECT batch_id FROM {p}batch WHERE state = 1 ORDER BY seq"))
                .containsExactly("b000", "b001", "b003");
        assertThat(claim(store, BatchOrder.OLDEST_FIRST, 5)).isEmpty();
        assertThat(balanced(store).corrupt()).isOne();
    }

    @OnEachDatabase
    void claims_and_groups_do_not_wait_for_each_other(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openWithPending(kind, 2);
        assertThat(claim(store, BatchOrder.OLDEST_FIRST, 1)).hasSize(1);
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        source.beforeCommit = what -> FaultyDataSource.holdWriter(arrived, goOn);
        CompletableFuture<Void> appended = store.append(batch("new"));
        arrived.await();
        assertThat(ids(claim(store, BatchOrder.OLDEST_FIRST, 1))).containsExactly("b001");
        assertThat(appended).isNotDone();
        goOn.countDown();
        appended.join();
        assertThat(balanced(store).inFlight()).isEqualTo(3);
    }

    @OnEachDatabase
    void many_are_claimed_in_their_order_from_both_ends(Kind kind) {
        JdbcBatchStore store = openWithPending(kind, 300);
        List<String> oldest = new ArrayList<>();
        List<String> newest = new ArrayList<>();
        AtomicInteger looks = new AtomicInteger();
        source.beforeStatement = what -> looks.addAndGet(what.startsWith("SELECT seq") ? 1 : 0);
        for (int i = 0; i < 50; i++) {
            oldest.addAll(ids(claim(store, BatchOrder.OLDEST_FIRST, 4)));
            newest.addAll(ids(claim(store, BatchOrder.NEWEST_FIRST, 3)));
        }
        assertThat(oldest.size() + newest.size()).isEqualTo(300);
        assertThat(oldest).isSorted();
        assertThat(newest).isSortedAccordingTo(Comparator.reverseOrder());
        assertThat(Stream.concat(oldest.stream(), newest.stream()).sorted()).isEqualTo(names(0, 300));
        assertThat(looks.get()).as("only some look before").isLessThan(60);
        assertThat(balanced(store).inFlight()).isEqualTo(300);
    }

    @OnEachDatabase
    void what_others_have_taken_after_a_look_is_not_waited_for(Kind kind) {
        JdbcBatchStore store = openWithPending(kind, 300);
        assertThat(ids(claim(store, BatchOrder.OLDEST_FIRST, 1))).containsExactly("b000");
        JdbcBatchStore other = open();
        assertThat(ids(claim(other, BatchOrder.OLDEST_FIRST, 298))).isEqualTo(names(1, 299));
        assertThat(ids(claim(store, BatchOrder.OLDEST_FIRST, 2))).containsExactly("b299");
        assertThat(claim(store, BatchOrder.OLDEST_FIRST, 1)).isEmpty();
        markPending(other, "b007", "b005");
        assertThat(ids(claim(store, BatchOrder.OLDEST_FIRST, 2))).containsExactly("b005", "b007");
        balanced(store);
    }

    /** Records the session settings at commits and when connections are returned. */
    private static final class Sessions {
        private final List<String> atCommit = new CopyOnWriteArrayList<>();
        private final List<String> atClose = new CopyOnWriteArrayList<>();

        DataSource of(DataSource real) {
            return FaultyDataSource.proxy(DataSource.class, (proxy, method, arguments) -> {
                Object result = FaultyDataSource.call(real, method, arguments);
                return result instanceof Connection connection ? listened(connection) : result;
            });
        }

        private Connection listened(Connection connection) {
            return FaultyDataSource.proxy(Connection.class, (proxy, method, arguments) -> {
                if (method.getName().equals("commit")) {
                    atCommit.add(forced(connection));
                } else if (method.getName().equals("close")) {
                    atClose.add(forced(connection));
                }
                return FaultyDataSource.call(connection, method, arguments);
            });
        }

        private static String forced(Connection connection) throws SQLException {
            try (Statement statement = connection.createStatement();
                    ResultSet row = statement.executeQuery("SHOW synchronous_commit")) {
                row.next();
                return row.getString(1);
            }
        }
    }

    @Test
    void on_postgresql_claims_are_not_forced_and_everything_else_is() {
        on(Kind.POSTGRESQL);
        Sessions sessions = new Sessions();
        JdbcBatchStore store = open(sessions.of(database.pool()), options -> options);
        makePending(store, 200);
        boolean unforced = false;
        // The server also forces on its own from time to time.
        for (int claims = 0; claims < 150 && !unforced; claims++) {
            assertThat(claim(store, BatchOrder.OLDEST_FIRST, 1)).hasSize(1);
            unforced = database.query("SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()")
                    .contains("t");
        }
        assertThat(unforced).isTrue();
        assertThat(store.delivered("b000")).isNotNull();
        assertThat(sessions.atCommit).containsOnly("on");
        assertThat(sessions.atClose).containsOnly("on");
        balanced(store);
    }

    @Test
    void an_interrupt_while_another_one_claims_is_put_off() throws InterruptedException {
        JdbcBatchStore store = openWithPending(Kind.H2, 2);
        List<Claimer> claimers = meet(store, () -> {}, 1);
        claimers.get(1).thread.interrupt();
        assertThat(claimers.stream().map(Claimer::get).map(JdbcTestBase::ids))
                .containsExactly(List.of("b000"), List.of("b001"));
        claimers.get(1).thread.join();
        assertThat(claimers.get(1).interrupted).isTrue();
    }
}
