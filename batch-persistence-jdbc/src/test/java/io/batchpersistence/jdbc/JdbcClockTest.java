package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.SharedOutages;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Objects;

/** The database clock is stepped by an administrator, by NTP, or by a fail-over to a server with another clock. */
class JdbcClockTest extends JdbcTestBase {

    private static final Duration HEARTBEAT = LEASE.dividedBy(3);
    private static final Duration TTL = CollectorSettings.DEFAULT.batchTtl();

    /** Passes enough time for these instances to trust the database clock. */
    private void believe(JdbcBatchStore... stores) {
        for (int i = 0; i < 5; i++) {
            pass(HEARTBEAT);
            for (JdbcBatchStore store : stores) {
                store.heartbeat();
            }
        }
    }

    private static final Duration BELIEVED = HEARTBEAT.multipliedBy(5);

    private List<BatchSummary> expire(JdbcBatchStore store) {
        Instant now = clock.instant();
        return store.expire("loki", now.minus(TTL), now.minus(CollectorSettings.DEFAULT.deadLetterTtl()), 100);
    }

    /** Makes a batch pending and due after a delay. */
    private void wait(JdbcBatchStore store, String id, Duration wait) {
        Instant due = clock.instant().plus(wait);
        assertThat(store.failed(id, 0, "down", clock.instant(), (type, retries) -> new Verdict(false, due, 1)))
                .isNotNull();
    }

    @OnEachDatabase
    void a_clock_that_is_ahead_for_a_while_expires_nothing(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "pending", "dead");
        markPending(store, "pending");
        markDead(store, "dead");

        databaseAhead = Duration.ofDays(30);
        assertThat(expire(store)).as("before a heartbeat").isEmpty();
        store.heartbeat();
        assertThat(expire(store)).as("after it").isEmpty();
        believe(store);
        assertThat(expire(store)).as("still ahead").isEmpty();

        databaseAhead = Duration.ZERO;
        assertThat(expire(store)).isEmpty();
        store.heartbeat();
        assertThat(expire(store)).isEmpty();
        believe(store);
        assertThat(expire(store)).isEmpty();

        pass(TTL.minus(BELIEVED.multipliedBy(2)).minusSeconds(10));
        store.heartbeat();
        assertThat(expire(store)).as("not old enough").isEmpty();
        pass(BELIEVED.plusSeconds(21));
        store.heartbeat();
        assertThat(expire(store)).as("old enough").hasSize(1);
        assertThat(balanced(store).expired()).isEqualTo(1);
    }

    @OnEachDatabase
    void a_clock_that_stays_ahead_makes_nothing_older_and_all_the_rest_as_old_as_it_is(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "before");
        markPending(store, "before");
        databaseAhead = Duration.ofHours(25);
        believe(store);
        append(store, "after");
        markPending(store, "after");

        pass(TTL.minus(BELIEVED).minusSeconds(1), store);
        assertThat(expire(store)).isEmpty();
        pass(Duration.ofSeconds(2), store);
        assertThat(expire(store)).extracting(BatchSummary::id).containsExactly("before");
        pass(BELIEVED, store);
        assertThat(expire(store)).extracting(BatchSummary::id).containsExactly("after");
    }

    @OnEachDatabase
    void what_is_in_flight_times_out_after_its_timeout_when_the_clock_is_stepped_ahead(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "before");
        pass(HEARTBEAT, store);
        databaseAhead = Duration.ofHours(1);
        assertThat(timedOut(store)).as("before a heartbeat").isEmpty();
        believe(store);
        append(store, "after");
        assertThat(timedOut(store)).isEmpty();

        pass(TIMEOUT.minus(HEARTBEAT).minus(BELIEVED).minusSeconds(1), store);
        assertThat(timedOut(store)).isEmpty();
        pass(Duration.ofSeconds(2), store);
        assertThat(timedOut(store)).containsExactly("before");
        assertThat(store.failed("before", 0, "timed out", clock.instant(), again()))
                .isNotNull();
        pass(HEARTBEAT.plus(BELIEVED), store);
        assertThat(timedOut(store)).containsExactly("after");
    }

    private List<String> timedOut(JdbcBatchStore store) {
        Instant now = clock.instant();
        // Makes the store query the database.
        assertThat(store.claim("nothing", BatchOrder.OLDEST_FIRST, now, now.minusSeconds(1), 1))
                .isEmpty();
        return store.timedOut(now, 100).stream().map(BatchStore.Lease::batchId).toList();
    }

    /**
     * The second step is longer than any batch is in flight. The time that the first step skipped still does not count.
     */
    @OnEachDatabase
    void what_is_in_flight_times_out_after_its_timeout_also_when_the_clock_is_stepped_ahead_twice(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "a");
        databaseAhead = Duration.ofMinutes(2);
        believe(store);
        databaseAhead = Duration.ofHours(25);
        believe(store);
        pass(TIMEOUT.minus(BELIEVED.multipliedBy(2)).minusSeconds(1), store);
        assertThat(timedOut(store)).isEmpty();
        pass(Duration.ofSeconds(2), store);
        assertThat(timedOut(store)).containsExactly("a");
    }

    @OnEachDatabase
    void no_instance_is_taken_for_dead_because_the_clock_is_stepped_ahead(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "a");
        long number = Objects.requireNonNull(one.stats().instance()).number();
        databaseAhead = Duration.ofHours(1);
        other.heartbeat();
        believe(other, one);
        believe(one, other);
        assertThat(claim(other)).isEmpty();
        assertThat(one.delivered("a")).isNotNull();
        assertThat(Objects.requireNonNull(one.stats().instance()).number()).isEqualTo(number);
    }

    @OnEachDatabase
    void a_dead_instance_is_found_although_the_clock_was_stepped_ahead(Kind kind) {
        JdbcBatchStore dead = open(kind);
        JdbcBatchStore alive = open();
        append(dead, "a");
        databaseAhead = Duration.ofHours(1);
        believe(alive);
        believe(alive);
        assertThat(claim(alive)).containsExactly("a");
    }

    /** No instance notices, or only the one whose heartbeat falls into that moment. */
    @OnEachDatabase
    void what_is_written_while_the_clock_is_wrong_for_a_moment_has_the_right_times(Kind kind) {
        JdbcBatchStore store = open(kind);
        JdbcBatchStore other = open();
        int number = 0;
        for (Duration wrong : List.of(Duration.ofHours(-25), Duration.ofHours(25))) {
            for (boolean seen : new boolean[] {false, true}) {
                String in = "in flight " + number;
                String pending = "pending " + number;
                String dead = "dead " + number;
                number++;
                databaseAhead = wrong;
                if (seen) {
                    store.heartbeat();
                }
                append(store, in, pending, dead);
                wait(store, pending, Duration.ofSeconds(1));
                markDead(store, dead);
                databaseAhead = Duration.ZERO;
                pass(HEARTBEAT, store);
                other.heartbeat();
                assertThat(expire(other)).isEmpty();
                assertThat(claim(other)).containsExactly(pending);
                assertThat(other.delivered(pending)).isNotNull();
                pass(TIMEOUT, other);
                store.heartbeat();
                assertThat(timedOut(store)).containsExactly(in);
                assertThat(store.delivered(in)).isNotNull();
                assertThat(expire(other)).isEmpty();
            }
        }
        assertThat(balanced(other).expired()).isZero();
    }

    @OnEachDatabase
    void an_instance_that_starts_while_the_clock_is_wrong_for_a_moment_makes_nothing_old(Kind kind) {
        JdbcBatchStore other = open(kind);
        pass(HEARTBEAT, other);
        databaseAhead = Duration.ofHours(-25);
        JdbcBatchStore store = open();
        append(store, "a");
        markPending(store, "a");
        databaseAhead = Duration.ZERO;
        believe(store, other);
        assertThat(expire(store)).isEmpty();
        assertThat(expire(other)).isEmpty();
        assertThat(claim(other)).containsExactly("a");
    }

    /** The ticker stands still while both clocks go on. */
    @OnEachDatabase
    void what_is_written_after_the_machine_was_suspended_has_the_right_times(Kind kind) {
        JdbcBatchStore store = open(kind);
        JdbcBatchStore other = open();
        clock.advance(Duration.ofHours(25));
        append(store, "a");
        markPending(store, "a");
        // The other instance was not suspended. No instance reads before its heartbeat.
        ticker.addAndGet(Duration.ofHours(25).toNanos());
        other.heartbeat();
        assertThat(expire(other)).isEmpty();
        assertThat(claim(other)).containsExactly("a");
    }

    @OnEachDatabase
    void what_was_due_stays_due_when_the_clock_is_set_back_and_waits_go_on(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "due", "soon", "later");
        markPending(store, "due");
        wait(store, "soon", Duration.ofSeconds(30));
        wait(store, "later", Duration.ofMinutes(30));
        pass(HEARTBEAT, store);

        databaseAhead = Duration.ofHours(-2);
        assertThat(claim(store)).isEmpty();
        believe(store);
        assertThat(claim(store)).containsExactly("due", "soon");
        assertThat(balanced(store).oldestPending()).isNotNull();
        pass(Duration.ofMinutes(28), store);
        assertThat(claim(store)).isEmpty();
        pass(Duration.ofMinutes(2), store);
        assertThat(claim(store)).containsExactly("later");
    }

    @OnEachDatabase
    void each_instance_that_sees_it_may_correct_it(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "due", "later");
        markPending(one, "due");
        wait(one, "later", Duration.ofHours(1));
        pass(HEARTBEAT, one);
        other.heartbeat();
        databaseAhead = Duration.ofHours(-2);
        believe(one, other);
        assertThat(claim(other)).contains("due");
        pass(Duration.ofHours(1), one);
        assertThat(other.count(ALL.states(BatchState.IN_FLIGHT), clock.instant())
                        + claim(one).size())
                .isEqualTo(2);
        assertThat(balanced(one).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void so_it_does_when_no_instance_saw_the_clock_being_set_back(Kind kind) {
        JdbcBatchStore before = open(kind);
        append(before, "a");
        markPending(before, "a");
        before.close();
        databaseAhead = Duration.ofHours(-2);
        JdbcBatchStore after = open();
        believe(after);
        assertThat(claim(after)).containsExactly("a");
    }

    @OnEachDatabase
    void ages_begin_now_that_would_begin_in_the_future(Kind kind) {
        on(kind);
        databaseAhead = Duration.ofDays(2);
        JdbcBatchStore store = open();
        append(store, "a");
        markPending(store, "a");
        databaseAhead = Duration.ZERO;
        believe(store);
        pass(TTL.plusSeconds(1), store);
        assertThat(expire(store)).extracting(BatchSummary::id).containsExactly("a");
    }

    @OnEachDatabase
    void an_instance_that_was_killed_while_the_clock_was_ahead_is_taken_over_after_its_lease(Kind kind) {
        JdbcBatchStore dead = open(kind);
        JdbcBatchStore alive = open();
        append(dead, "a");
        databaseAhead = Duration.ofHours(1);
        believe(dead, alive);
        databaseAhead = Duration.ZERO;
        believe(alive);
        pass(LEASE.plusMillis(1), alive);
        assertThat(claim(alive)).containsExactly("a");
    }

    @OnEachDatabase
    void what_is_in_flight_times_out_no_later_than_if_it_were_sent_now(Kind kind) {
        on(kind);
        databaseAhead = Duration.ofHours(1);
        JdbcBatchStore store = open();
        append(store, "a");
        databaseAhead = Duration.ZERO;
        believe(store);
        pass(TIMEOUT.plusSeconds(1), store);
        assertThat(timedOut(store)).containsExactly("a");
    }

    @OnEachDatabase
    void a_collector_that_is_down_is_probed_although_the_clock_was_set_back(Kind kind) {
        JdbcBatchStore store = open(kind);
        append(store, "a");
        markPending(store, "a");
        SharedOutages outages = store.sharedOutages();
        assertThat(outages.began("loki", Duration.ofSeconds(5), "down")).isTrue();
        pass(HEARTBEAT, store);
        databaseAhead = Duration.ofHours(-3);
        believe(store);
        assertThat(outages.takeProbe("loki", TIMEOUT)).isPositive();
    }

    @OnEachDatabase
    void more_than_are_changed_at_once_are_corrected(Kind kind) {
        JdbcBatchStore store = open(kind);
        int many = 1_201;
        for (int i = 0; i < many; i++) {
            append(store, "b" + i);
        }
        database.update("UPDATE {p}batch SET state = 0, owner = NULL, due_at = " + clock.millis());
        database.update("UPDATE {p}counter SET pending = in_flight, pending_entries = in_flight_entries,"
                + " pending_bytes = in_flight_bytes, in_flight = 0, in_flight_entries = 0, in_flight_bytes = 0");
        store.heartbeat();
        databaseAhead = Duration.ofHours(-1);
        believe(store);
        long now = clock.instant().plus(databaseAhead).toEpochMilli();
        assertThat(database.update("UPDATE {p}batch SET fence = fence WHERE due_at <= " + now))
                .isEqualTo(many);
    }
}
