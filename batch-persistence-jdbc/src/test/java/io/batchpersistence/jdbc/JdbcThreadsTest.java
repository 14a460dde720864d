package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

/** The store's own threads: what must not block them, and what must not end them. */
class JdbcThreadsTest extends JdbcTestBase {

    private static final Duration SHORT_LEASE = Duration.ofSeconds(1);

    /** A logging framework that throws an Error when a store thread logs. */
    private static final class ThrowingAppender extends AppenderBase<ILoggingEvent> {
        @Override
        protected void append(ILoggingEvent event) {}

        @Override
        public synchronized void doAppend(ILoggingEvent event) {
            if (event.getThreadName().startsWith("batch-persistence-jdbc")) {
                throw new OutOfMemoryError("while logging");
            }
        }
    }

    private final Logger logger = (Logger) LoggerFactory.getLogger("io.batchpersistence.jdbc");
    private final ThrowingAppender appender = new ThrowingAppender();

    private void failLogging() {
        logger.setLevel(Level.DEBUG);
        logger.addAppender(appender);
    }

    private final CountDownLatch goOn = new CountDownLatch(1);

    @AfterEach
    void logAgain() {
        goOn.countDown();
        logger.detachAppender(appender);
        logger.setLevel(null);
    }

    /** Opens a store with its own threads and the test's database clock. */
    private JdbcBatchStore openLive() {
        return openLive(new Database.Seams(() -> String.valueOf(clock.millis()), System::nanoTime, true));
    }

    private JdbcBatchStore openLive(Database.Seams seams) {
        source = new FaultyDataSource(database.pool());
        JdbcBatchStore store = JdbcBatchStore.open(
                source.dataSource,
                database.options()
                        .instanceName("live")
                        .lease(SHORT_LEASE)
                        .clock(clock)
                        .build(),
                seams);
        opened.add(store);
        return store;
    }

    private long seenAt() {
        return Long.parseLong(
                database.query("SELECT seen_at FROM {p}instance WHERE name = 'live' ORDER BY seen_at DESC")
                        .get(0));
    }

    /** Waits for further lease renewals. */
    private void awaitRenewals() {
        for (int i = 0; i < 3; i++) {
            clock.advance(Duration.ofMillis(1));
            long now = clock.millis();
            await().untilAsserted(() -> assertThat(seenAt()).isGreaterThanOrEqualTo(now));
        }
    }

    @OnEachDatabase
    void the_lease_is_renewed_while_batches_of_a_dead_instance_are_given_back(Kind kind) throws InterruptedException {
        JdbcBatchStore dead = open(kind, options -> options.lease(SHORT_LEASE));
        append(dead, "a", "b");
        JdbcBatchStore alive = openLive();
        holdRelease();
        awaitRenewals();
        goOn.countDown();
        // Between two reads of the clock the store uses the ticker, which is real.
        clock.advance(Duration.ofSeconds(1));
        await().untilAsserted(() -> assertThat(claim(alive)).containsExactly("a", "b"));
    }

    /**
     * Ends the lease of the dead instance, and waits until the live one is about to give back its batches, which is held
     * up. Returns how often that is done.
     */
    private AtomicInteger holdRelease() throws InterruptedException {
        CountDownLatch arrived = new CountDownLatch(1);
        AtomicInteger given = new AtomicInteger();
        source.beforeStatement = sql -> {
            if (sql.startsWith("UPDATE") && sql.contains("batch SET state = 0, owner = NULL")) {
                given.incrementAndGet();
                arrived.countDown();
                try {
                    goOn.await();
                } catch (InterruptedException e) {
                    throw new SQLException(e);
                }
            }
        };
        clock.advance(SHORT_LEASE.plusMillis(1));
        arrived.await();
        return given;
    }

    /** After a restart of the whole application, this may be one of a hundred thousand batches. */
    @Test
    void closing_does_not_wait_until_everything_of_a_dead_instance_is_given_back() throws InterruptedException {
        on(Kind.H2);
        JdbcBatchStore dead = open(database.pool(), options -> options.lease(SHORT_LEASE));
        append(dead, "a");
        JdbcBatchStore alive = openLive();
        database.update(
                "INSERT INTO {p}batch (batch_id, collector_type, state, owner, fence, created_at, since, due_at,"
                        + " retry_count, earlier_failures, entry_count, bytes, format, compression, raw_length, payload_crc, header,"
                        + " payload) SELECT 'b' || x, collector_type, state, owner, fence, created_at, since, due_at, retry_count,"
                        + " earlier_failures, entry_count, bytes, format, compression, raw_length, payload_crc, header, payload"
                        + " FROM {p}batch, SYSTEM_RANGE(1, 2500) WHERE batch_id = 'a'");
        AtomicInteger given = holdRelease();
        Thread closing = new Thread(alive::close);
        closing.start();
        await().until(JdbcThreadsTest::isLeaving);
        goOn.countDown();
        closing.join();
        assertThat(given).hasValue(1);
    }

    /** Whether a closing thread waits for the threads of its instance. */
    private static boolean isLeaving() {
        return Thread.getAllStackTraces().entrySet().stream()
                .anyMatch(thread -> thread.getKey().getName().equals("batch-persistence-jdbc-closing")
                        && thread.getKey().getState() == Thread.State.TIMED_WAITING
                        && Stream.of(thread.getValue())
                                .anyMatch(frame -> frame.getClassName().equals(InstanceMembership.class.getName())));
    }

    @ParameterizedTest
    @ValueSource(classes = {NoClassDefFoundError.class, OutOfMemoryError.class, StackOverflowError.class})
    void no_error_ends_signs_of_life(Class<? extends Error> type) {
        on(Kind.H2);
        openLive();
        failLogging();
        AtomicInteger thrown = new AtomicInteger();
        source.beforeConnection = what -> {
            String name = Thread.currentThread().getName();
            if (name.contains("lease") || name.contains("upkeep")) {
                thrown.incrementAndGet();
                sneak(type);
            }
        };
        await().untilAsserted(() -> assertThat(thrown.get()).isGreaterThan(2));
        source.recover();
        awaitRenewals();
    }

    private static void sneak(Class<? extends Error> type) {
        try {
            throw type.getConstructor(String.class).newInstance("for a test");
        } catch (ReflectiveOperationException e) {
            throw new LinkageError(e.getMessage(), e);
        }
    }

    @ParameterizedTest
    @ValueSource(classes = {NoClassDefFoundError.class, OutOfMemoryError.class, StackOverflowError.class})
    void no_error_ends_the_writer_and_callers_are_told_even_if_nothing_can_be_logged(Class<? extends Error> type) {
        JdbcBatchStore store = openFaulty(Kind.H2);
        append(store, "before");
        failLogging();
        source.beforeConnection = what -> {
            if (Thread.currentThread().getName().contains("writer")) {
                sneak(type);
            }
        };
        for (int i = 0; i < 3; i++) {
            assertThat(failure(store.append(batch("refused"))))
                    .isInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining("for a test");
            assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> store.delivered("before"));
        }
        source.recover();
        append(store, "after");
        assertThat(store.delivered("before")).isNotNull();
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    /** An Error from the driver leaves the outcome of a commit as unknown as a lost connection. */
    @OnEachDatabase
    void an_error_out_of_a_commit_that_was_done_is_found_out(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        int[] left = {1};
        source.afterCommit = what -> {
            if (left[0]-- > 0) {
                throw new OutOfMemoryError("after the commit");
            }
        };
        append(store, "a");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    /** One batch is too large for the memory. The other batches of its group must succeed. */
    @OnEachDatabase
    void an_error_of_one_does_no_harm_to_those_written_with_it(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "first");
        CountDownLatch held = holdWriter(store, "begin");
        CompletableFuture<Void> good = store.append(batch("good"));
        CompletableFuture<Void> better = store.append(batch("better"));
        source.beforeStatement = sql -> {
            if (sql.startsWith("INSERT INTO") && sql.contains("payload_crc") && sql.contains("), (")) {
                throw new OutOfMemoryError("for two");
            }
        };
        held.countDown();
        CompletableFuture.allOf(good, better).join();
        source.recover();
        assertThat(balanced(store).accepted()).isEqualTo(4);
    }

    /** The claim may still take effect. Then the batch is reported when it times out. */
    @OnEachDatabase
    void an_error_out_of_a_claim_leaves_nothing_in_flight_for_ever(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "a");
        markPending(store, "a");
        assertThat(claim(store)).containsExactly("a");
        markPending(store, "a");
        source.afterCommit = what -> {
            source.recover();
            throw new OutOfMemoryError("after the commit");
        };
        Throwable thrown = null;
        try {
            claim(store);
        } catch (OutOfMemoryError | BatchPersistenceException e) {
            thrown = e;
        }
        assertThat(thrown).isNotNull();
        store.heartbeat();
        assertThat(claim(store)).containsExactly("a");
        balanced(store);
    }

    @TempDir
    Path directory;

    @ParameterizedTest
    @ValueSource(classes = {NoClassDefFoundError.class, OutOfMemoryError.class, StackOverflowError.class})
    void no_error_ends_the_moves_from_the_fallback(Class<? extends Error> type) {
        onFaulty(Kind.H2);
        try (FallbackBatchStore store = FallbackBatchStore.open(
                source.dataSource,
                database.options().lease(SHORT_LEASE).clock(clock).build(),
                DiskStoreOptions.builder(directory).clock(clock).build())) {
            await().until(store::isFullyReachable);
            // The mover has to check this id in the database.
            append(open(), "a");
            source.refuse();
            store.append(batch("a")).join();
            assertThat(store.failed("a", 0, "down", clock.instant(), again())).isNotNull();
            AtomicInteger thrown = new AtomicInteger();
            failLogging();
            source.beforeConnection = what -> {
                if (Thread.currentThread().getName().contains("fallback")) {
                    thrown.incrementAndGet();
                    sneak(type);
                }
            };
            await().untilAsserted(() -> assertThat(thrown.get()).isGreaterThan(1));
            source.recover();
            await().untilAsserted(
                            () -> assertThat(store.stats().fallback().batches()).isZero());
            assertThat(store.stats().problem()).isNull();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"lease", "upkeep", "writer"})
    void a_thread_that_is_gone_is_a_problem_and_no_caller_waits_for_it(String name) {
        on(Kind.H2);
        JdbcBatchStore store = openLive(new Database.Seams(
                () -> String.valueOf(clock.millis()), System::nanoTime, true, (work, threadName) -> {
                    Thread thread = new Thread(threadName.endsWith(name) ? () -> {} : work, threadName);
                    thread.setDaemon(true);
                    return thread;
                }));
        await().untilAsserted(() ->
                assertThat(store.stats().problem()).contains("batch-persistence-jdbc-" + name, "restart"));
        if (name.equals("writer")) {
            assertThat(failure(store.append(batch("a"))))
                    .isInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining("restart");
        }
    }
}
