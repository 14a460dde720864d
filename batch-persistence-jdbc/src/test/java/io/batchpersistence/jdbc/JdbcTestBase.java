package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.UnaryOperator;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Timeout;

/** Stores that share a database. The test controls the clock of the database and the tickers of the stores. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
abstract class JdbcTestBase {

    static final BatchSelector ALL = BatchSelector.all();
    static final Duration LEASE = Duration.ofSeconds(30);
    static final Duration TIMEOUT = Duration.ofMinutes(5);

    /** The clock of the database, and of instances with a correct clock. */
    final ManualClock clock = new ManualClock();

    final AtomicLong ticker = new AtomicLong();

    /** The offset of the database clock to {@link #clock}. */
    volatile Duration databaseAhead = Duration.ZERO;

    TestDatabase database;

    /** The data source of a store that was opened with {@link #openFaulty}. */
    FaultyDataSource source;

    final List<JdbcBatchStore> opened = new ArrayList<>();

    void on(TestDatabase.Kind kind) {
        database = TestDatabase.of(kind);
    }

    @AfterEach
    void closeAll() {
        if (database != null) {
            opened.forEach(store -> {
                try {
                    store.close();
                } catch (BatchPersistenceException e) {
                    // Its database is gone.
                }
            });
            database.close();
        }
    }

    JdbcBatchStore open() {
        return open(database.pool(), options -> options);
    }

    JdbcBatchStore openFaulty(TestDatabase.Kind kind) {
        on(kind);
        source = new FaultyDataSource(database.pool());
        return open(source, options -> options);
    }

    JdbcBatchStore open(DataSource source, UnaryOperator<JdbcStoreOptions.Builder> more) {
        JdbcBatchStore store = JdbcBatchStore.open(
                source,
                more.apply(database.options().lease(LEASE).clock(clock)).build(),
                new Database.Seams(
                        () -> String.valueOf(clock.millis() + databaseAhead.toMillis()), ticker::get, false));
        opened.add(store);
        return store;
    }

    /** Advances all clocks. */
    void pass(Duration time) {
        clock.advance(time);
        ticker.addAndGet(time.toNanos());
    }

    /** Advances all clocks while that store sends heartbeats. */
    void pass(Duration time, JdbcBatchStore alive) {
        pass(time.dividedBy(2));
        alive.heartbeat();
        pass(time.minus(time.dividedBy(2)));
        alive.heartbeat();
    }

    /** Lets the cached state of other instances expire, which is at most a second old. */
    void passASecond() {
        pass(Duration.ofMillis(1_001));
    }

    NewBatch batch(String id) {
        return batch(id, clock.instant());
    }

    NewBatch batch(String id, Instant now) {
        return new NewBatch(id, "loki", Batches.entries(3), Map.of("tenant", id), now, now.plus(TIMEOUT));
    }

    void append(JdbcBatchStore store, String... ids) {
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (String id : ids) {
            all.add(store.append(batch(id)));
        }
        all.forEach(CompletableFuture::join);
    }

    static Throwable failure(CompletableFuture<?> future) {
        try {
            future.join();
        } catch (CompletionException e) {
            return e.getCause();
        }
        throw new AssertionError("it did not fail");
    }

    List<Claim> claims(JdbcBatchStore store) {
        Instant now = clock.instant();
        return store.claim("loki", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 100);
    }

    List<String> claim(JdbcBatchStore store) {
        return ids(claims(store));
    }

    static List<String> ids(List<Claim> claims) {
        return claims.stream().map(claim -> claim.batch().id()).toList();
    }

    /** Pending, due now, not counted. */
    FailureDecision again() {
        return (type, retries) -> new Verdict(false, clock.instant(), retries);
    }

    void markPending(JdbcBatchStore store, String... ids) {
        for (String id : ids) {
            assertThat(store.failed(id, 0, "down", clock.instant(), again())).isNotNull();
        }
    }

    static BatchState state(JdbcBatchStore store, String id) {
        return store.find(id).map(PersistedBatch::state).orElse(null);
    }

    /** Checks that the counters, as any instance sees them after a second, match the batches. */
    CollectorStats balanced(JdbcBatchStore store) {
        passASecond();
        CollectorStats stats = store.stats().collector("loki");
        Instant now = clock.instant();
        assertThat(stats.isBalanced()).as("%s", stats).isTrue();
        assertThat(stats.pending()).isEqualTo(store.count(ALL.states(BatchState.PENDING), now));
        assertThat(stats.inFlight()).isEqualTo(store.count(ALL.states(BatchState.IN_FLIGHT), now));
        assertThat(stats.dead()).isEqualTo(store.count(ALL.states(BatchState.DEAD), now));
        assertThat(stats.bytes())
                .isEqualTo(store.list(ALL, now).stream()
                        .mapToLong(each -> each.bytes())
                        .sum());
        return stats;
    }
}
