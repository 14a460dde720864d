package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.FaultyDataSource.lost;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Timeout;

/** Collector types come and go, for example one per tenant. They leave a sum in the database and nothing else. */
// Many batches, and the machine may be busy.
@Timeout(value = 300, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class JdbcManyCollectorTypesTest extends JdbcTestBase {

    private static final int KEPT = 1_000;

    /** Many callers, so that marks arrive in groups. */
    private final ExecutorService callers = Executors.newFixedThreadPool(64);

    @AfterEach
    void endCallers() {
        callers.shutdownNow();
    }

    private static String type(int number) {
        return "tenant-" + number;
    }

    private NewBatch batch(String id, String type) {
        Instant now = clock.instant();
        return new NewBatch(id, type, Batches.entries(1), Map.of(), now, now.plus(TIMEOUT));
    }

    private void append(JdbcBatchStore store, String id, String type) {
        store.append(batch(id, type)).join();
    }

    private void appendAll(JdbcBatchStore store, int from, int to) {
        IntStream.range(from, to)
                .mapToObj(i -> store.append(batch(type(i), type(i))))
                .toList()
                .forEach(CompletableFuture::join);
    }

    private void deliverAll(JdbcBatchStore store, int from, int to) {
        IntStream.range(from, to)
                .mapToObj(i -> CompletableFuture.runAsync(
                        () -> assertThat(store.delivered(type(i))).isNotNull(), callers))
                .toList()
                .forEach(CompletableFuture::join);
    }

    /** Persists and delivers one batch of each of these types. Later calls use their types later. */
    private void comeAndGo(JdbcBatchStore store, int from, int to) {
        clock.advance(Duration.ofMillis(1));
        appendAll(store, from, to);
        deliverAll(store, from, to);
    }

    private void upkeep(JdbcBatchStore... stores) {
        passASecond();
        for (JdbcBatchStore store : stores) {
            store.heartbeat();
        }
    }

    private Set<String> typesWithRows() {
        return Set.copyOf(database.query("SELECT DISTINCT collector_type FROM {p}counter"));
    }

    private BatchStats assertCounted(JdbcBatchStore store, long accepted, long delivered) {
        passASecond();
        BatchStats stats = store.stats();
        assertThat(stats.total().accepted()).isEqualTo(accepted);
        assertThat(stats.total().delivered()).isEqualTo(delivered);
        assertThat(stats.collectors().values()).allMatch(CollectorStats::isBalanced);
        return stats;
    }

    /** Checks that the counters match the batches. */
    private void assertNothingMissing(JdbcBatchStore... stores) {
        List<Corruption> told = new ArrayList<>();
        for (JdbcBatchStore store : stores) {
            store.onCorruption(told::add);
        }
        for (int step = 0; step < 4; step++) {
            pass(LEASE.dividedBy(2));
            for (JdbcBatchStore store : stores) {
                store.heartbeat();
            }
        }
        assertThat(told).isEmpty();
        passASecond();
        assertThat(stores[0].stats().total().corrupt()).isZero();
    }

    private void assertBounded(JdbcBatchStore store, int more) {
        assertThat(store.stats().collectors()).hasSize(KEPT + 1 + more).containsKey("other");
        assertThat(typesWithRows()).hasSize(KEPT + 1 + more);
    }

    @OnEachDatabase
    void the_last_ones_keep_their_counters_and_the_sum_of_the_others_is_kept(Kind kind) {
        JdbcBatchStore store = open(kind);
        for (int round = 0; round < 3; round++) {
            comeAndGo(store, round * KEPT, (round + 1) * KEPT);
        }
        upkeep(store);
        BatchStats stats = assertCounted(store, 3 * KEPT, 3 * KEPT);
        assertBounded(store, 0);
        assertThat(stats.collectors().keySet()).doesNotContain(type(0), type(KEPT), type(2 * KEPT - 1));
        assertThat(stats.collectors().keySet()).contains(type(2 * KEPT), type(3 * KEPT - 1));
        assertThat(stats.collector("other").delivered()).isEqualTo(2 * KEPT);

        store.close();
        JdbcBatchStore again = open();
        again.heartbeat();
        assertCounted(again, 3 * KEPT, 3 * KEPT);
        assertBounded(again, 0);
        comeAndGo(again, 0, 10);
        upkeep(again);
        BatchStats then = assertCounted(again, 3 * KEPT + 10, 3 * KEPT + 10);
        assertBounded(again, 0);
        assertThat(then.collectors().keySet()).as("the last ones").contains(type(0), type(9));
        assertThat(then.collector(type(0)).accepted()).isOne();
        assertNothingMissing(again);
    }

    @OnEachDatabase
    void who_came_last_is_known_after_an_instance_was_killed(Kind kind) {
        JdbcBatchStore killed = open(kind);
        comeAndGo(killed, 500, KEPT);
        comeAndGo(killed, 0, 500);
        JdbcBatchStore store = open();
        pass(LEASE.plusMillis(1), store);
        comeAndGo(store, KEPT, KEPT + 500);
        upkeep(store);
        BatchStats stats = assertCounted(store, KEPT + 500, KEPT + 500);
        assertBounded(store, 0);
        assertThat(stats.collectors().keySet()).contains(type(0), type(499), type(KEPT));
        assertThat(stats.collectors().keySet()).doesNotContain(type(500), type(KEPT - 1));
    }

    @OnEachDatabase
    void what_holds_batches_or_is_paused_is_not_forgotten_and_a_type_may_come_again(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "in flight", "flying");
        append(store, "pending", "waiting");
        store.failed("pending", 0, "503", clock.instant(), again());
        append(store, "dead", "buried");
        store.failed("dead", 0, "400", clock.instant(), (type, retries) -> new Verdict(true, null, retries + 1));
        store.pause("paused", true);
        append(store, "of paused", "paused");
        assertThat(store.delivered("of paused")).isNotNull();
        append(store, "of again", "again");
        store.failed("of again", 0, "503", clock.instant(), again());
        assertThat(store.delivered("of again")).isNotNull();
        assertThat(store.stats().collector("again").failedAttempts()).isOne();

        comeAndGo(store, 0, KEPT + 1);
        upkeep(store);
        BatchStats stats = assertCounted(store, KEPT + 6, KEPT + 3);
        assertBounded(store, 4);
        assertThat(stats.collectors().keySet())
                .contains("flying", "waiting", "buried", "paused")
                .doesNotContain("again");
        assertThat(stats.collector("other").failedAttempts()).isOne();
        assertThat(stats.total().failedAttempts()).isEqualTo(3);

        append(store, "of again", "again");
        assertThat(store.stats().collector("again").accepted()).isOne();
        assertThat(store.delivered("in flight")).isNotNull();
        assertThat(store.pause("paused", false)).isTrue();
        assertThat(store.pause("paused", false)).isFalse();
        assertThat(database.query("SELECT collector_type FROM {p}lane")).isEmpty();
        comeAndGo(store, 2 * KEPT, 3 * KEPT + 1);
        upkeep(store);
        assertCounted(store, 2 * KEPT + 8, 2 * KEPT + 5);
        assertBounded(store, 3);
        assertThat(typesWithRows()).contains("again").doesNotContain("paused", "flying");
        assertNothingMissing(store);
    }

    /**
     * The counter row of a type is gone when a group updates it. The instance is still registered, and the group
     * continues.
     */
    @OnEachDatabase
    void a_type_that_is_forgotten_while_a_batch_of_it_is_written_comes_again(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        long number = store.stats().instance().number();
        comeAndGo(store, 0, 1);
        comeAndGo(store, 1, KEPT + 1);
        append(store, "last", "last");
        assertThat(store.delivered("last")).isNotNull();
        JdbcBatchStore beats = store;
        AtomicBoolean done = new AtomicBoolean();
        source.beforeStatement = sql -> {
            if (sql.contains("accepted = accepted + ?")
                    && Thread.currentThread().getName().contains("writer")
                    && done.compareAndSet(false, true)) {
                CompletableFuture.runAsync(() -> upkeep(beats), callers).join();
                assertThat(typesWithRows()).doesNotContain(type(0));
            }
        };
        append(store, "of a type that was forgotten", type(0));
        assertThat(done).isTrue();
        BatchStats stats = assertCounted(store, KEPT + 3, KEPT + 2);
        assertThat(stats.collector(type(0)).inFlight()).isOne();
        assertThat(stats.instance().number()).isEqualTo(number);
        assertNothingMissing(store);
    }

    @OnEachDatabase
    void types_of_which_several_instances_have_counters_are_forgotten_by_all(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        appendAll(one, 0, KEPT + 500);
        for (int i = 0; i < 500; i++) {
            assertThat(one.released(type(i), type -> Optional.of(clock.instant())))
                    .isNotNull();
        }
        for (int i = 0; i < 500; i++) {
            assertThat(other.claim(
                            type(i),
                            BatchOrder.OLDEST_FIRST,
                            clock.instant(),
                            clock.instant().plus(TIMEOUT),
                            1))
                    .hasSize(1);
        }
        deliverAll(other, 0, 500);
        clock.advance(Duration.ofMillis(1));
        deliverAll(one, 500, KEPT + 500);
        upkeep(one);
        assertCounted(other, KEPT + 500, KEPT + 500);
        assertThat(typesWithRows()).as("counted by the other, too").contains(type(0));
        upkeep(other);
        assertCounted(one, KEPT + 500, KEPT + 500);
        assertBounded(one, 0);
        assertThat(typesWithRows()).doesNotContain(type(0), type(499)).contains(type(500));
        assertNothingMissing(one, other);
    }

    @OnEachDatabase
    void a_type_that_one_forgets_while_another_one_persists_a_batch_of_it_is_counted_once(Kind kind) {
        JdbcBatchStore persists = openFaulty(kind);
        JdbcBatchStore forgets = open();
        // Type 0 has counters of this instance, and is idle afterwards.
        append(persists, "first", type(0));
        assertThat(persists.delivered("first")).isNotNull();
        comeAndGo(forgets, 1, KEPT + 2);
        passASecond();
        persists.heartbeat();
        AtomicBoolean done = new AtomicBoolean();
        source.beforeCommit = what -> {
            if (Thread.currentThread().getName().contains("writer") && done.compareAndSet(false, true)) {
                CompletableFuture.runAsync(() -> upkeep(forgets), callers).join();
            }
        };
        append(persists, "again", type(0));
        assertThat(done).isTrue();
        BatchStats stats = assertCounted(persists, KEPT + 3, KEPT + 2);
        assertThat(stats.collector(type(0)).inFlight()).isOne();
        assertThat(persists.delivered("again")).isNotNull();
        assertCounted(forgets, KEPT + 3, KEPT + 3);
        upkeep(persists, forgets);
        assertCounted(forgets, KEPT + 3, KEPT + 3);
        assertBounded(forgets, 0);
        assertNothingMissing(persists, forgets);
    }

    /** Both at once, repeatedly. */
    @OnEachDatabase
    void instances_that_forget_at_once_count_each_once(Kind kind) {
        on(kind);
        List<JdbcBatchStore> stores = List.of(open(), open(), open());
        for (int round = 0; round < 3; round++) {
            int from = round * 600;
            for (int i = 0; i < 3; i++) {
                comeAndGo(stores.get(i), from + i * 200, from + (i + 1) * 200);
            }
            // All instances have counters of these types in the end.
            comeAndGo(stores.get(round), 100_000, 100_050);
            passASecond();
            stores.stream()
                    .map(store -> CompletableFuture.runAsync(store::heartbeat, callers))
                    .toList()
                    .forEach(CompletableFuture::join);
        }
        upkeep(stores.toArray(JdbcBatchStore[]::new));
        upkeep(stores.toArray(JdbcBatchStore[]::new));
        assertCounted(stores.get(0), 1_950, 1_950);
        assertBounded(stores.get(0), 0);
        assertNothingMissing(stores.toArray(JdbcBatchStore[]::new));
    }

    /**
     * A group is committed, but its outcome is unknown. Before the store finds out, its type becomes idle and is no
     * longer among the last ones. Then another thread creates counters of this instance for it.
     */
    @OnEachDatabase
    void a_row_that_a_lost_commit_is_looked_for_in_stays(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        JdbcBatchStore other = open();
        append(store, "a", "doubtful");
        AtomicBoolean found = new AtomicBoolean();
        source.afterCommit = what -> {
            source.recover();
            CompletableFuture.runAsync(
                            () -> {
                                comeAndGo(other, 0, KEPT + 1);
                                upkeep(store);
                                append(other, "b", "doubtful");
                                other.failed("b", 0, "503", clock.instant(), again());
                                found.set(store.discard(ALL.ids("b"), clock.instant()) == 1);
                            },
                            callers)
                    .join();
            throw lost();
        };
        assertThat(store.delivered("a")).as("it was").isNotNull();
        assertThat(found).isTrue();
        assertCounted(store, KEPT + 3, KEPT + 2);
        clock.advance(Duration.ofMillis(1));
        comeAndGo(other, KEPT + 1, 2 * KEPT + 1);
        upkeep(store, other);
        assertThat(typesWithRows()).as("no longer in doubt").doesNotContain("doubtful");
        assertCounted(store, 2 * KEPT + 3, 2 * KEPT + 2);
        assertNothingMissing(store, other);
    }

    @OnEachDatabase
    void rows_locked_by_others_are_left_until_they_are_free(Kind kind) throws SQLException {
        JdbcBatchStore before = open(kind);
        comeAndGo(before, 0, 10);
        before.close();
        JdbcBatchStore store = open();
        store.heartbeat();
        comeAndGo(store, 10, KEPT + 20);
        comeAndGo(store, 0, 5);
        comeAndGo(store, KEPT + 20, KEPT + 40);
        comeAndGo(store, KEPT + 40, 2 * KEPT + 40);
        try (Connection connection = database.pool().getConnection();
                Statement statement = connection.createStatement()) {
            // Otherwise MariaDB locks more rows than these.
            connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            connection.setAutoCommit(false);
            statement
                    .executeQuery("SELECT collector_type FROM " + database.prefix()
                            + "counter WHERE collector_type IN ('tenant-3', 'tenant-7', 'tenant-1030') FOR UPDATE")
                    .close();
            upkeep(store);
            assertThat(typesWithRows())
                    .hasSize(KEPT + 4)
                    .contains("tenant-3", "tenant-7", "tenant-1030")
                    .doesNotContain("tenant-2", "tenant-8");
            connection.rollback();
        }
        upkeep(store);
        assertCounted(store, 2 * KEPT + 45, 2 * KEPT + 45);
        assertBounded(store, 0);
        assertThat(store.count(ALL.states(BatchState.PENDING), clock.instant())).isZero();
    }
}
