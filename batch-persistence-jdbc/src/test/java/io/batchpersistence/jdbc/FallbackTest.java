package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.FaultyDataSource.lost;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.tuple;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.spi.LocalBatchStore.BatchRef;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** What the local disk stores while the database is away, and what happens to it afterwards. */
class FallbackTest extends FallbackTestBase {

    // ---- away and back ---------------------------------------------------------------------------

    @OnEachDatabase
    void without_a_database_at_the_start_batches_are_kept_locally_and_moved_when_it_comes(Kind kind) {
        onFaulty(kind);
        source.refuse();
        openFallback();
        append("a", "b", "c");
        assertThat(store.delivered("a")).isNotNull();
        markPending("b");
        BatchStats away = store.stats();
        assertThat(away.problem()).isNull();
        assertThat(away.fallback().reason()).contains("connection");
        assertThat(away.fallback().place()).isEqualTo(directory.toString());
        assertThat(away.fallback().batches()).isEqualTo(2);
        assertThat(away.batches()).isEqualTo(2);
        assertThat(away.collector("loki").accepted()).isEqualTo(3);
        assertThat(claim()).extracting(each -> each.batch().id()).containsExactly("b");
        markPending("b");

        source.recover();
        primary.heartbeat();
        store.mover.move();
        assertThat(shared()).containsExactly("b");
        assertThat(local()).as("in flight until it is settled").containsExactly("c");
        assertThat(store.delivered("c")).isNotNull();
        assertThat(store.delivered("b")).isNotNull();
        CollectorStats stats = balanced();
        assertThat(stats.accepted()).isEqualTo(3);
        assertThat(stats.delivered()).isEqualTo(3);
        assertThat(store.stats().fallback().reason()).isNull();
    }

    @OnEachDatabase
    void a_database_that_goes_away_in_the_middle_of_appends_loses_none_of_them(Kind kind) {
        begin(kind);
        append("before");
        AtomicInteger commits = new AtomicInteger();
        source.beforeCommit = what -> {
            if (commits.incrementAndGet() == 3) {
                source.refuse();
                throw lost();
            }
        };
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            append("b" + i);
            ids.add("b" + i);
        }
        assertThat(store.isFullyReachable()).isFalse();
        assertThat(local()).hasSizeGreaterThan(5).doesNotContain("before");
        restartDatabase();
        markPending("before");
        ids.forEach(this::markPending);
        store.mover.move();
        assertThat(local()).isEmpty();
        assertThat(shared()).hasSize(11).containsAll(ids);
        assertThat(balanced().accepted()).isEqualTo(11);
    }

    @Test
    void while_the_database_is_known_to_be_away_no_caller_waits_for_it() {
        begin(Kind.H2);
        append("in the database");
        stopDatabase();
        AtomicInteger connections = new AtomicInteger();
        source.beforeConnection = what -> {
            connections.incrementAndGet();
            throw lost();
        };
        append("a");
        markPending("a");
        claim();
        store.timedOut(clock.instant(), 10);
        store.collectorTypes();
        store.pausedCollectorTypes();
        store.expire("loki", Instant.MIN, Instant.MIN, 10);
        store.evictDeadLetters(Long.MAX_VALUE, 10);
        store.stats();
        store.mover.move();
        assertThatExceptionOfType(BatchPersistenceException.class)
                .isThrownBy(() -> store.delivered("in the database"))
                .withMessageContaining("connection");
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> store.find("in the database"));
        assertThat(connections).hasValue(0);
    }

    @Test
    void half_an_answer_is_none_but_what_is_asked_of_one_that_is_here_is_answered() {
        begin(Kind.H2);
        append("in the database");
        stopDatabase();
        append("here");
        Instant now = clock.instant();
        assertThat(store.find("here")).isPresent();
        assertThat(store.list(ALL.ids("here"), now)).hasSize(1);
        assertThat(store.count(ALL.ids("here"), now)).isOne();
        markDead("here");
        assertThat(store.failures(ALL.ids("here"), now)).hasSize(1);
        assertThat(store.replay(ALL.ids("here"), now)).isOne();
        assertThat(store.discard(ALL.ids("here"), now)).isOne();
        List<Runnable> whole = List.of(
                () -> store.list(ALL, now),
                () -> store.list(ALL.ids("here", "in the database"), now),
                () -> store.count(ALL, now),
                () -> store.failures(ALL, now),
                () -> store.replay(ALL, now),
                () -> store.discard(ALL.states(BatchState.PENDING), now),
                () -> store.pause("loki", true));
        assertThat(whole)
                .allSatisfy(question -> assertThatExceptionOfType(BatchPersistenceException.class)
                        .isThrownBy(question::run)
                        .withMessageContaining("the database can't be used"));
    }

    @Test
    void an_instance_that_is_closed_while_the_database_is_away_moves_them_when_it_is_started_again() {
        begin(Kind.H2);
        stopDatabase();
        append("a", "b");
        markDead("b");
        store.close();
        openFallback();
        assertThat(claim()).extracting(each -> each.batch().id()).containsExactly("a");
        markPending("a");
        restartDatabase();
        store.mover.move();
        assertThat(local()).isEmpty();
        assertThat(state(primary, "a")).isEqualTo(BatchState.PENDING);
        assertThat(state(primary, "b")).isEqualTo(BatchState.DEAD);
        assertThat(balanced().accepted()).isEqualTo(2);
    }

    @Test
    void what_could_not_be_written_when_the_store_was_closed_is_kept_locally() throws InterruptedException {
        begin(Kind.H2);
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        source.beforeConnection = what -> {
            if (FaultyDataSource.holdWriter(arrived, goOn)) {
                throw lost();
            }
        };
        CompletableFuture<Void> a = store.append(batch("a"));
        arrived.await();
        CompletableFuture<Void> b = store.append(batch("b"));
        Thread closer = new Thread(store::close);
        closer.start();
        goOn.countDown();
        CompletableFuture.allOf(a, b).join();
        closer.join();
        source.recover();
        openFallback();
        assertThat(local()).containsExactly("a", "b");
    }

    // ---- moved unchanged -------------------------------------------------------------------------

    @OnEachDatabase
    void they_are_moved_as_they_are(Kind kind) {
        begin(kind);
        // Makes sure that the type already has counters.
        append("known");
        stopDatabase();
        append("fresh", "failed", "never by itself", "dead", "dead at once", "replayed", "released");
        append("Grüße, 'quoted' \\ \0 \n ☃");
        markPending("fresh", "Grüße, 'quoted' \\ \0 \n ☃");
        pass(Duration.ofMinutes(1));
        for (int i = 0; i < 7; i++) {
            int retry = i + 1;
            pass(Duration.ofSeconds(1));
            store.failed(
                    "failed",
                    0,
                    "fault\n" + i + " \\ \0",
                    clock.instant(),
                    (type, retries) -> new Verdict(false, clock.instant(), retry));
            assertThat(claim().stream().filter(claim -> claim.batch().id().equals("failed")))
                    .hasSize(1);
            markPending(claimedButNot("failed"));
        }
        store.failed(
                "failed",
                0,
                "last",
                clock.instant(),
                (type, retries) -> new Verdict(false, clock.instant().plusSeconds(77), 9));
        store.failed("never by itself", 0, "x", clock.instant(), (type, retries) -> new Verdict(false, null, 1));
        markDead("dead", "replayed");
        pass(Duration.ofMinutes(3));
        markDead("dead at once");
        assertThat(store.replay(ALL.ids("replayed"), clock.instant())).isOne();
        store.released("released", type -> Optional.empty());
        pass(Duration.ofMinutes(10));

        List<PersistedBatch> before =
                local().stream().map(id -> spare.find(id).orElseThrow()).toList();
        assertThat(before).hasSize(8);
        assertThat(before).anyMatch(batch -> batch.earlierFailures().size() == 4);
        restartDatabase();
        store.mover.move();
        assertThat(local()).isEmpty();
        for (PersistedBatch batch : before) {
            assertThat(primary.find(batch.id())).contains(batch);
        }
        // Ages continue: the replayed batch is younger than the others.
        Instant replayedAt = clock.instant().minus(Duration.ofMinutes(10));
        assertThat(primary.expire("loki", replayedAt, Instant.MIN, 100))
                .extracting(BatchSummary::id)
                .contains("fresh", "failed", "released")
                .doesNotContain("replayed", "dead", "dead at once");
        assertThat(primary.expire("loki", Instant.MIN, replayedAt, 100))
                .extracting(BatchSummary::id)
                .containsExactly("dead");
        CollectorStats stats = balanced();
        assertThat(stats.accepted()).isEqualTo(9);
    }

    private String[] claimedButNot(String id) {
        return spare.list(ALL.states(BatchState.IN_FLIGHT), clock.instant()).stream()
                .map(BatchSummary::id)
                .filter(other -> !other.equals(id) && (other.equals("fresh") || other.startsWith("Gr")))
                .toArray(String[]::new);
    }

    @Test
    void more_than_go_in_one_transaction_are_moved_in_the_order_in_which_they_were_persisted() {
        begin(Kind.H2);
        stopDatabase();
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 350; i++) {
            append("b" + i);
            ids.add("b" + i);
        }
        ids.forEach(this::markPending);
        restartDatabase();
        AtomicInteger commits = new AtomicInteger();
        source.beforeCommit = what -> commits.incrementAndGet();
        store.mover.move();
        assertThat(primary.list(ALL, clock.instant()))
                .extracting(BatchSummary::id)
                .containsExactlyElementsOf(ids);
        assertThat(commits.get()).isLessThan(20);
        assertThat(local()).isEmpty();
        assertThat(balanced().accepted()).isEqualTo(350);
    }

    // ---- failures during a move ------------------------------------------------------------------

    /** Fails the first database call of a move, then the second, and so on until there is none left. */
    @OnEachDatabase
    void wherever_a_move_fails_nothing_is_lost_and_each_counts_once(Kind kind) {
        begin(kind);
        int accepted = 0;
        boolean failed = true;
        for (int at = 1; failed; at++) {
            assertThat(at).isLessThan(100);
            stopDatabase();
            String[] ids = {at + "a", at + "b", at + "dead"};
            append(ids);
            accepted += ids.length;
            markPending(ids[0], ids[1]);
            markDead(ids[2]);
            restartDatabase();
            assertThat(loki().accepted()).isEqualTo(accepted);

            failed = false;
            AtomicInteger met = new AtomicInteger();
            int last = at;
            long shown = accepted;
            AtomicReference<AssertionError> wrong = new AtomicReference<>();
            AtomicBoolean asks = new AtomicBoolean(true);
            FaultyDataSource.Fault fault = what -> {
                if (asks.get()) {
                    long seen = store.stats().collector("loki").accepted();
                    if (seen != shown) {
                        wrong.set(new AssertionError(what + ": " + seen + " instead of " + shown));
                    }
                }
                if (met.incrementAndGet() >= last) {
                    // The database stays away.
                    throw lost();
                }
            };
            source.beforeConnection = fault;
            source.beforeStatement = fault;
            source.beforeCommit = fault;
            source.afterCommit = fault;
            store.mover.move();
            // Otherwise the check would call itself.
            asks.set(false);
            failed = met.get() >= last;
            assertThat(wrong.get()).as("at %s", at).isNull();
            assertThat(loki().accepted()).as("at %s", at).isEqualTo(accepted);
            assertThat(loki().isBalanced()).as("at %s", at).isTrue();

            restartDatabase();
            assertThat(loki().accepted()).as("at %s", at).isEqualTo(accepted);
            store.mover.move();
            assertThat(local()).as("at %s", at).isEmpty();
            assertThat(shared()).as("at %s", at).contains(ids);
            assertThat(state(primary, ids[2])).isEqualTo(BatchState.DEAD);
            CollectorStats stats = balanced();
            assertThat(stats.accepted()).as("at %s", at).isEqualTo(accepted);
            assertThat(stats.pending() + stats.dead()).isEqualTo(accepted);
        }
    }

    /** The state after a kill between the commit in the database and the local removal. */
    private void adoptedOnly(String... ids) {
        for (String id : ids) {
            StoredBatch stored = spare.refsAfter(0, 100).stream()
                    .map(spare::read)
                    .filter(each -> each.batch().id().equals(id))
                    .findFirst()
                    .orElseThrow();
            primary.adopt(List.of(stored)).get(0).join();
        }
    }

    @OnEachDatabase
    void a_process_killed_in_between_leaves_it_in_both_and_the_next_one_finds_that_out(Kind kind) {
        begin(kind);
        keepHere("a", "b");
        adoptedOnly("a", "b");
        store.close();
        openFallback();
        store.mover.move();
        assertThat(local()).isEmpty();
        assertThat(shared()).containsExactly("a", "b");
        CollectorStats stats = balanced();
        assertThat(stats.accepted()).isEqualTo(2);
        assertThat(stats.pending()).isEqualTo(2);
    }

    @Test
    void and_if_it_was_delivered_meanwhile_it_is_sent_twice_and_counted_twice() {
        begin(Kind.H2);
        keepHere("a");
        adoptedOnly("a");
        // Delivered by another instance.
        assertThat(primary.delivered("a")).isNotNull();
        store.mover.move();
        assertThat(shared()).containsExactly("a");
        CollectorStats stats = balanced();
        assertThat(stats.accepted()).isEqualTo(2);
        assertThat(stats.delivered()).isOne();
        assertThat(stats.pending()).isOne();
    }

    /** The outcome of an append is unknown, and the database is away from then on. */
    private void appendInDoubt(String id) {
        source.afterCommit = source.gone();
        append(id);
        assertThat(local()).contains(id);
    }

    @OnEachDatabase
    void one_with_an_unconfirmed_commit_is_taken_back_from_the_database(Kind kind) {
        begin(kind);
        append("first");
        source.afterCommit = source.gone();
        assertThat(loki().accepted()).isOne();
        append("a", "b");
        assertThat(local()).containsExactly("a", "b");
        assertThat(loki().accepted()).isEqualTo(3);
        markPending("b");
        restartDatabase();
        assertThat(state(primary, "a")).as("it was committed, here").isEqualTo(BatchState.IN_FLIGHT);
        passASecond();
        assertThat(loki().accepted()).as("not once each").isEqualTo(3);
        store.mover.move();
        assertThat(local()).as("in flight, once").containsExactly("a");
        assertThat(shared()).containsExactly("b", "first");
        assertThat(balanced().accepted()).isEqualTo(3);
        assertThat(store.delivered("a")).isNotNull();
        assertThat(balanced().delivered()).isOne();
    }

    @OnEachDatabase
    void one_with_an_unconfirmed_commit_that_was_delivered_from_here_is_not_sent_again(Kind kind) {
        begin(kind);
        append("first");
        appendInDoubt("a");
        assertThat(store.delivered("a")).isNotNull();
        pass(TIMEOUT.plusMillis(1));
        restartDatabase();
        assertThat(state(primary, "a")).as("it was committed, here").isNotNull();
        // A batch in doubt must not be visible.
        assertThat(store.timedOut(clock.instant(), 10)).isEmpty();
        assertThat(claim()).isEmpty();
        store.mover.move();
        assertThat(shared()).containsExactly("first");
        assertThat(balanced().accepted()).isEqualTo(2);
        assertThat(balanced().delivered()).isOne();
    }

    @OnEachDatabase
    void nor_is_it_sent_by_another_instance_when_this_one_closes(Kind kind) {
        begin(kind);
        append("first");
        appendInDoubt("a");
        assertThat(store.delivered("a")).isNotNull();
        restartDatabase();
        store.close();
        assertThat(claim(open())).containsExactly("first");
    }

    /** The lease has ended and other instances have returned the batch, but none has claimed it. */
    @OnEachDatabase
    void nor_after_it_was_given_back(Kind kind) {
        begin(kind);
        append("first");
        JdbcBatchStore other = open();
        appendInDoubt("a");
        assertThat(store.delivered("a")).isNotNull();
        source.recover();
        pass(LEASE.plusMillis(1), other);
        assertThat(state(other, "a")).isEqualTo(BatchState.PENDING);
        restartDatabase();
        store.mover.move();
        assertThat(claim(other)).containsExactly("first");
    }

    /** A different batch with that id: the one in doubt was never committed. */
    @OnEachDatabase
    void a_later_batch_with_the_id_of_one_in_doubt_is_kept(Kind kind) {
        begin(kind);
        append("first");
        source.beforeCommit = source.gone();
        append("a");
        assertThat(store.delivered("a")).isNotNull();
        source.recover();
        JdbcBatchStore other = open();
        append(other, "a");
        markPending(other, "a");
        restartDatabase();
        store.mover.move();
        assertThat(state(other, "a")).isEqualTo(BatchState.PENDING);
        assertThat(balanced().accepted()).isEqualTo(3);
    }

    @OnEachDatabase
    void one_that_another_instance_has_got_meanwhile_is_left_to_it(Kind kind) {
        begin(kind);
        append("first");
        appendInDoubt("a");
        markPending("a");
        source.recover();
        JdbcBatchStore other = open();
        pass(LEASE.plusMillis(1), other);
        assertThat(claim(other)).containsExactlyInAnyOrder("a", "first");
        restartDatabase();
        store.mover.move();
        assertThat(local()).isEmpty();
        assertThat(other.delivered("a")).isNotNull();
        assertThat(shared()).containsExactly("first");
        assertThat(balanced().accepted()).isEqualTo(2);
    }

    @Test
    void a_late_mark_waits_for_the_move_and_finds_the_batch_where_it_is_then() throws InterruptedException {
        begin(Kind.H2);
        keepHere("a");
        AtomicReference<Thread> marker = new AtomicReference<>();
        AtomicReference<Object> settled = new AtomicReference<>();
        source.afterCommit = what -> {
            if (marker.get() == null && Thread.currentThread().getName().contains("writer")) {
                Thread late = new Thread(() -> settled.set(store.delivered("a")));
                marker.set(late);
                late.start();
                long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
                while (late.getState() != Thread.State.WAITING && System.nanoTime() < deadline) {
                    Thread.onSpinWait();
                }
            }
        };
        store.mover.move();
        marker.get().join();
        assertThat(settled.get()).isNotNull();
        assertThat(local()).isEmpty();
        assertThat(shared()).isEmpty();
        CollectorStats stats = balanced();
        assertThat(stats.accepted()).isOne();
        assertThat(stats.delivered()).isOne();
    }

    @Test
    void a_reaction_to_a_written_batch_on_the_writers_thread_does_not_wait_for_the_move() {
        begin(Kind.H2);
        keepHere("a", "late");
        AtomicReference<Object> settled = new AtomicReference<>();
        source.beforeCommit = what -> {
            if (settled.get() == null && Thread.currentThread().getName().contains("writer")) {
                settled.set(store.delivered("late"));
                assertThat(store.stats().collector("loki").accepted()).isEqualTo(2);
            }
        };
        store.mover.move();
        assertThat(settled.get()).isNotNull();
        assertThat(balanced().isBalanced()).isTrue();
    }

    // ---- ids that are held -----------------------------------------------------------------------

    @Test
    void an_id_that_is_held_in_either_is_refused() {
        begin(Kind.H2);
        append("shared");
        stopDatabase();
        append("local");
        assertThat(failure(store.append(batch("local")))).isInstanceOf(DuplicateBatchException.class);
        restartDatabase();
        assertThat(failure(store.append(batch("local")))).isInstanceOf(DuplicateBatchException.class);
        assertThat(failure(store.append(batch("shared")))).isInstanceOf(DuplicateBatchException.class);
        assertThat(failure(store.appendAndWait(batch("shared")))).isInstanceOf(DuplicateBatchException.class);
        assertThat(balanced().accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void another_batch_with_an_id_that_the_database_holds_becomes_a_dead_letter_here(Kind kind) {
        begin(kind);
        append("same", "other entries", "other type", "other context", "dead already");
        stopDatabase();
        append("same");
        Instant now = clock.instant();
        store.append(new NewBatch(
                        "other entries", "loki", Batches.entries(4), Map.of("tenant", "other entries"), now, now))
                .join();
        store.append(new NewBatch("other type", "kafka", Batches.entries(3), Map.of("tenant", "other type"), now, now))
                .join();
        store.append(new NewBatch("other context", "loki", Batches.entries(3), Map.of(), now, now))
                .join();
        store.append(new NewBatch("dead already", "loki", Batches.entries(1), Map.of(), now, now))
                .join();
        markPending("same", "other entries", "other type", "other context");
        markDead("dead already");
        restartDatabase();
        for (int i = 0; i < 2; i++) {
            store.mover.move();
            assertThat(local()).containsExactly("dead already", "other context", "other entries", "other type");
            assertThat(spare.count(ALL.states(BatchState.DEAD), now)).isEqualTo(4);
        }
        assertThat(spare.find("other type").orElseThrow().failureReason())
                .contains("which holds another batch with this id and other content");
        assertThat(spare.find("dead already").orElseThrow().failureReason()).isEqualTo("400");
        assertThat(spare.find("other entries").orElseThrow().entries()).isEqualTo(Batches.entries(4));
        assertThat(balanced().accepted()).isEqualTo(5 + 3);

        // A replayed batch is sent from the fallback.
        assertThat(store.replay(ALL.ids("other type"), now)).isOne();
        store.mover.move();
        assertThat(store.claim("kafka", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 1))
                .extracting(claim -> claim.batch().id())
                .containsExactly("other type");
        assertThat(store.delivered("other type")).isNotNull();
        assertThat(shared()).contains("other type");

        // Once the batch in the database is gone, nothing blocks the local one.
        assertThat(primary.delivered("other entries")).isNotNull();
        store.mover.move();
        assertThat(local()).containsExactly("dead already", "other context");
        assertThat(state(primary, "other entries")).isEqualTo(BatchState.DEAD);
    }

    // ---- limits ----------------------------------------------------------------------------------

    @Test
    void a_full_database_refuses_and_is_not_filled_by_a_move() {
        onFaulty(Kind.H2);
        openFallback(options -> options.maxBatches(3), options -> options);
        append("a", "b");
        keepHere("c", "d", "e");
        store.mover.move();
        assertThat(shared()).containsExactly("a", "b", "c");
        assertThat(local()).containsExactly("d", "e");
        passASecond();
        assertThat(failure(store.append(batch("f"))))
                .isInstanceOf(BatchRejectedException.class)
                .hasMessageContaining("its limit is 3");
        assertThat(local()).containsExactly("d", "e");
        assertThat(claim()).as("they are sent all the same").hasSize(3);
        markPending("c", "d", "e");
        store.delivered("a");
        store.delivered("b");
        passASecond();
        store.mover.move();
        assertThat(local()).isEmpty();
        assertThat(balanced().accepted()).isEqualTo(5);
    }

    @Test
    void a_full_fallback_refuses_and_says_what_is_wrong_with_both() {
        onFaulty(Kind.H2);
        openFallback(options -> options, options -> options.maxBatches(2));
        append("in the database");
        stopDatabase();
        append("a", "b");
        assertThat(failure(store.append(batch("c"))))
                .isInstanceOf(BatchRejectedException.class)
                .hasMessageContaining("the connection was lost")
                .hasMessageContaining(directory + " is full")
                .hasMessageContaining("which is its limit");
        assertThat(store.stats().fallback().fillLevel()).isEqualTo(1);
        // Evicts from the store that is full.
        markPending("a");
        assertThat(store.evictOldest(1)).extracting(BatchSummary::id).containsExactly("a");
        append("c");
    }

    @Test
    void one_that_the_database_refuses_alone_is_kept_here_and_drops_nothing() {
        onFaulty(Kind.H2);
        openFallback(options -> options, options -> options.maxBatches(2));
        append("before");
        source.beforeStatement = sql -> {
            if (sql.startsWith("INSERT INTO") && sql.contains("payload_crc")) {
                throw new SQLException("the value is too long", "22001");
            }
        };
        append("a", "b");
        assertThat(store.isFullyReachable()).isTrue();
        assertThat(failure(store.append(batch("c"))))
                .as("or the engine would make room in the database, which is of no use")
                .isExactlyInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining("the value is too long")
                .hasMessageContaining("is full: the store holds 2");
        markPending("a", "b");
        store.mover.move();
        assertThat(local()).containsExactly("a", "b");
        source.recover();
        store.mover.move();
        assertThat(shared()).containsExactly("a", "b", "before");
        assertThat(balanced().accepted()).isEqualTo(3);
    }

    // ---- the caller's transaction ----------------------------------------------------------------

    @Test
    void a_batch_of_the_callers_transaction_is_never_kept_here() throws SQLException {
        onFaulty(Kind.H2);
        AtomicReference<Connection> joined = new AtomicReference<>();
        openFallback(options -> options.transaction(joined::get), options -> options);
        append("known");
        try (Connection connection = source.dataSource.getConnection()) {
            connection.setAutoCommit(false);
            joined.set(connection);
            source.beforeStatement = sql -> {
                throw lost();
            };
            assertThat(failure(store.append(batch("a")))).isExactlyInstanceOf(BatchPersistenceException.class);
            stopDatabase();
            assertThat(failure(store.append(batch("b")))).isExactlyInstanceOf(BatchPersistenceException.class);
            assertThat(local()).isEmpty();
            joined.set(null);
            append("c");
            assertThat(local()).containsExactly("c");
            restartDatabase();
            joined.set(connection);
            assertThat(failure(store.append(batch("c")))).isInstanceOf(DuplicateBatchException.class);
            store.append(batch("d")).join();
            connection.rollback();
            joined.set(null);
        }
        assertThat(shared()).containsExactly("known");
    }

    // ---- pausing ---------------------------------------------------------------------------------

    @Test
    void what_was_paused_last_is_remembered_for_a_start_without_the_database() {
        begin(Kind.H2);
        JdbcBatchStore other = open();
        assertThat(store.pause("kafka", true)).isTrue();
        other.pause("loki", true);
        assertThat(store.pausedCollectorTypes()).containsExactlyInAnyOrder("kafka", "loki");
        other.pause("kafka", false);
        assertThat(store.pausedCollectorTypes()).containsExactly("loki");
        store.close();
        source.refuse();
        openFallback();
        assertThat(store.pausedCollectorTypes()).containsExactly("loki");
        source.recover();
        other.pause("loki", false);
        restartDatabase();
        assertThat(store.pausedCollectorTypes()).isEmpty();
        assertThat(spare.pausedCollectorTypes()).isEmpty();
    }

    // ---- both stores -----------------------------------------------------------------------------

    @Test
    void lists_and_counts_are_of_both_and_pages_skip_and_repeat_nothing() {
        begin(Kind.H2);
        append("s0", "s1", "s2", "s3", "s4");
        markPending("s0", "s1");
        stopDatabase();
        append("l0", "l1", "l2");
        markPending("l0", "l1");
        markDead("l2");
        restartDatabase();
        markDead("s2");
        Instant now = clock.instant();
        List<String> oldestFirst = List.of("s0", "s1", "s2", "s3", "s4", "l0", "l1", "l2");
        for (BatchOrder order : BatchOrder.values()) {
            for (int size = 1; size <= 9; size++) {
                List<String> found = new ArrayList<>();
                Long after = null;
                List<BatchSummary> page;
                do {
                    page = store.list(ALL.order(order).limit(size).after(after), now);
                    assertThat(page).hasSizeLessThanOrEqualTo(size);
                    page.forEach(each -> found.add(each.id()));
                    after = page.isEmpty() ? null : page.get(page.size() - 1).position();
                } while (page.size() == size);
                List<String> expected = new ArrayList<>(oldestFirst);
                if (order == BatchOrder.NEWEST_FIRST) {
                    Collections.reverse(expected);
                }
                assertThat(found).as("%s, %s a page", order, size).isEqualTo(expected);
            }
        }
        assertThat(store.count(ALL, now)).isEqualTo(8);
        assertThat(store.count(ALL.limit(6), now)).isEqualTo(6);
        assertThat(store.failures(ALL, now))
                .extracting(FailureGroup::reason, FailureGroup::batches)
                .containsExactly(tuple("503", 4L), tuple("400", 2L));
        assertThat(store.collectorTypes()).containsExactly("loki");
        assertThat(store.reschedule(ALL.states(BatchState.PENDING).limit(3), now, null))
                .isEqualTo(3);
        assertThat(store.releaseHeld(now)).isEqualTo(3);
        assertThat(store.replay(ALL.limit(1), now)).isEqualTo(1);
        assertThat(store.replay(ALL, now, Duration.ofSeconds(1))).isEqualTo(1);
        assertThat(store.discard(ALL.states(BatchState.PENDING).limit(5), now)).isEqualTo(5);
        assertThat(balanced().discarded()).isEqualTo(5);
        assertThat(store.expire("loki", now.plusMillis(1), Instant.MIN, 10)).hasSize(1);
        assertThat(balanced().expired()).isOne();
    }

    @Test
    void a_slow_question_does_not_show_a_batch_twice() {
        begin(Kind.H2);
        keepHere("a");
        List<BatchRef> waiting = spare.refsAfter(0, 10);
        assertThat(waiting).hasSize(1);
        assertThat(spare.read(waiting.get(0)).batch().id()).isEqualTo("a");
        store.mover.move();
        assertThat(spare.read(waiting.get(0))).isNull();
        assertThat(spare.withdraw(waiting.get(0))).isFalse();
        assertThat(spare.markDead(waiting.get(0), "x", clock.instant())).isFalse();
        assertThat(balanced().accepted()).isOne();
    }

    // ---- reporting -------------------------------------------------------------------------------

    @Test
    void it_is_said_once_when_it_begins_and_once_when_it_is_over() {
        List<String> logged = logged(FallbackMover.class, () -> {
            begin(Kind.H2);
            keepHere("a", "b");
            store.mover.move();
            store.mover.move();
            stopDatabase();
            append("c");
            store.delivered("c");
            store.mover.move();
            restartDatabase();
            store.mover.move();
            stopDatabase();
            append("d");
            markPending("d");
            store.close();
            openFallback();
        });
        assertThat(logged)
                .satisfiesExactly(
                        begun -> assertThat(begun)
                                .startsWith("The database does not take batches: ")
                                .contains("the connection was lost")
                                .endsWith("New ones are kept in " + directory + " and moved when it is back"),
                        over -> assertThat(over)
                                .startsWith("Batches from " + directory
                                        + " moved to the database: 2; held there already: 0; left as dead letters"),
                        begun -> assertThat(begun).startsWith("The database does not take batches: "),
                        over -> assertThat(over).contains("moved to the database: 0; "),
                        begun -> assertThat(begun).startsWith("The database does not take batches: "),
                        found -> assertThat(found)
                                .isEqualTo("Batches waiting in " + directory + " to be moved to the database: 1"));
    }
}
