package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Closes a store while the database or the pool does not respond. The close ends, and so do all waiting calls. */
class JdbcCloseTest extends FallbackTestBase {

    private static final Duration PATIENCE = Duration.ofMillis(100);

    private final CountDownLatch arrived = new CountDownLatch(1);
    private final CountDownLatch goOn = new CountDownLatch(1);

    @AfterEach
    void answer() {
        goOn.countDown();
    }

    /** Blocks without reacting to interrupts. */
    private void hang(String what) throws SQLException {
        arrived.countDown();
        boolean interrupted = false;
        while (goOn.getCount() > 0) {
            try {
                goOn.await();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private static String messageOf(CompletableFuture<?> future) {
        assertThat(future).isDone();
        Throwable failure = failure(future);
        assertThat(failure).isInstanceOf(BatchPersistenceException.class);
        return failure.getMessage();
    }

    private String rows(String condition) {
        return database.query("SELECT COUNT(*) FROM {p}batch WHERE " + condition)
                .get(0);
    }

    /** Lets the blocked call continue. The instance then deregisters. */
    private void awaitLeft() {
        goOn.countDown();
        await().until(() -> database.query("SELECT COUNT(*) FROM {p}instance WHERE gone_at IS NULL")
                .equals(List.of("0")));
    }

    @OnEachDatabase
    void without_an_answer_of_the_pool_closing_ends_and_nothing_is_written_any_more(Kind kind) throws Exception {
        JdbcBatchStore only = openFaulty(kind);
        append(only, "a");
        source.beforeConnection = this::hang;
        CompletableFuture<Void> begun = only.append(batch("b"));
        arrived.await();
        CompletableFuture<Void> waiting = only.append(batch("c"));
        only.close(PATIENCE);
        assertThat(messageOf(begun)).contains("closed", "did not answer", "may be stored");
        assertThat(messageOf(waiting)).contains("closed", "did not answer", "nothing was written");
        awaitLeft();
        await().untilAsserted(
                        () -> assertThat(rows("state = 0")).as("given back").isEqualTo("1"));
        assertThat(rows("1 = 1")).as("neither of them").isEqualTo("1");
    }

    @OnEachDatabase
    void without_an_answer_to_a_commit_closing_ends_and_the_batch_may_be_held(Kind kind) throws Exception {
        JdbcBatchStore only = openFaulty(kind);
        append(only, "a");
        source.beforeCommit = this::hang;
        CompletableFuture<Void> begun = only.append(batch("b"));
        arrived.await();
        only.close(PATIENCE);
        assertThat(messageOf(begun)).contains("may be stored");
        awaitLeft();
        await().untilAsserted(() ->
                assertThat(rows("state = 0")).as("it is, and is given back").isEqualTo("2"));
    }

    @Test
    void the_threads_of_the_store_do_not_hold_up_closing_either() throws Exception {
        onFaulty(Kind.H2);
        JdbcBatchStore live = JdbcBatchStore.open(
                source.dataSource,
                database.options().lease(Duration.ofSeconds(1)).build());
        source.beforeConnection = this::hang;
        arrived.await();
        live.close(PATIENCE);
        awaitLeft();
    }

    @Test
    void an_interrupt_is_there_when_closing_has_ended() throws Exception {
        JdbcBatchStore only = openFaulty(Kind.H2);
        source.beforeConnection = this::hang;
        Thread.currentThread().interrupt();
        only.close(PATIENCE);
        assertThat(Thread.interrupted()).isTrue();
        awaitLeft();
    }

    @Test
    void what_waits_is_kept_in_the_fallback() throws Exception {
        begin(Kind.H2);
        source.beforeConnection = this::hang;
        CompletableFuture<Void> begun = store.append(batch("a"));
        arrived.await();
        CompletableFuture<Void> waiting = store.append(batch("b"));
        store.close(PATIENCE);
        assertThat(begun).isCompleted();
        assertThat(waiting).isCompleted();
        try (BatchStore kept = DiskBatchStores.segment(
                DiskStoreOptions.builder(directory).clock(clock).build())) {
            assertThat(ids(kept, clock.instant())).containsExactly("a", "b");
        }
        awaitLeft();
    }
}
