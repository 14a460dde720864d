package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.spi.BatchStore;
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
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntFunction;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;

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

    /** Provides a {@link #source} that fails when the test wants it to. */
    void onFaulty(TestDatabase.Kind kind) {
        on(kind);
        source = new FaultyDataSource(database.pool());
    }

    JdbcBatchStore open(TestDatabase.Kind kind) {
        return open(kind, options -> options);
    }

    JdbcBatchStore open(TestDatabase.Kind kind, UnaryOperator<JdbcStoreOptions.Builder> more) {
        on(kind);
        return open(database.pool(), more);
    }

    JdbcBatchStore open() {
        return open(database.pool(), options -> options);
    }

    JdbcBatchStore openFaulty(TestDatabase.Kind kind) {
        onFaulty(kind);
        return open(source, options -> options);
    }

    JdbcBatchStore open(FaultyDataSource source, UnaryOperator<JdbcStoreOptions.Builder> more) {
        return open(source.dataSource, more);
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

    /** Runs a task in so many threads at once. Returns the results by the threads' numbers. */
    static <T> List<T> together(int threads, IntFunction<T> task) throws Exception {
        CyclicBarrier start = new CyclicBarrier(threads);
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try {
            List<Callable<T>> tasks = IntStream.range(0, threads)
                    .<Callable<T>>mapToObj(number -> () -> {
                        start.await();
                        return task.apply(number);
                    })
                    .toList();
            List<T> results = new ArrayList<>();
            for (Future<T> future : pool.invokeAll(tasks)) {
                results.add(future.get());
            }
            return results;
        } finally {
            pool.shutdownNow();
        }
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

    void markFailed(BatchStore store, String reason, FailureDecision decision, String... ids) {
        for (String id : ids) {
            assertThat(store.failed(id, BatchStore.ANY_FENCE, reason, clock.instant(), decision))
                    .isNotNull();
        }
    }

    void markPending(JdbcBatchStore store, String... ids) {
        markFailed(store, "down", again(), ids);
    }

    void markDead(JdbcBatchStore store, String... ids) {
        markFailed(store, "no", (type, retries) -> new Verdict(true, null, 1), ids);
    }

    /**
     * Appends a batch and blocks the writer before it writes that: what arrives until the latch is released forms one
     * group.
     */
    CountDownLatch holdWriter(JdbcBatchStore store, String first) throws InterruptedException {
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        source.beforeConnection = what -> FaultyDataSource.holdWriter(arrived, goOn);
        CompletableFuture<Void> held = store.append(batch(first));
        arrived.await();
        assertThat(held).isNotDone();
        return goOn;
    }

    /** Returns what a class logs while an action runs. */
    static List<String> logged(Class<?> by, Runnable action) {
        ListAppender<ILoggingEvent> logged = new ListAppender<>();
        logged.start();
        Logger logger = (Logger) LoggerFactory.getLogger(by);
        logger.addAppender(logged);
        try {
            action.run();
            DeferredLog.flush(Duration.ofSeconds(10));
        } finally {
            logger.detachAppender(logged);
        }
        return logged.list.stream().map(ILoggingEvent::getFormattedMessage).toList();
    }

    static BatchState state(JdbcBatchStore store, String id) {
        return store.find(id).map(PersistedBatch::state).orElse(null);
    }

    /** Checks that the counters, as any instance sees them after a second, match the batches. */
    CollectorStats balanced(JdbcBatchStore store) {
        return balanced(store, ALL);
    }

    CollectorStats balanced(BatchStore store, BatchSelector loki) {
        passASecond();
        CollectorStats stats = store.stats().collector("loki");
        Instant now = clock.instant();
        assertThat(stats.isBalanced()).as("%s", stats).isTrue();
        assertThat(stats.pending()).isEqualTo(store.count(loki.states(BatchState.PENDING), now));
        assertThat(stats.inFlight()).isEqualTo(store.count(loki.states(BatchState.IN_FLIGHT), now));
        assertThat(stats.dead()).isEqualTo(store.count(loki.states(BatchState.DEAD), now));
        assertThat(stats.bytes())
                .isEqualTo(store.list(loki, now).stream()
                        .mapToLong(each -> each.bytes())
                        .sum());
        return stats;
    }
}
