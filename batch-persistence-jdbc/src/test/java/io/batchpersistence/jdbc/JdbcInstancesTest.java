package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/** Several instances on one database: the ownership of batches, and what happens when an instance is gone. */
class JdbcInstancesTest extends JdbcTestBase {

    @OnEachDatabase
    void what_a_dead_instance_had_in_flight_is_recovered_after_its_lease(Kind kind) {
        JdbcBatchStore dead = open(kind);
        JdbcBatchStore alive = open();
        append(dead, "appended", "claimed");
        markPending(dead, "claimed");
        claim(dead);

        pass(LEASE.minusMillis(1));
        alive.heartbeat();
        assertThat(claim(alive)).isEmpty();
        pass(Duration.ofMillis(2));
        alive.heartbeat();
        assertThat(claim(alive)).containsExactly("appended", "claimed");
        assertThat(alive.find("appended").orElseThrow().retryCount()).isZero();
        assertThat(alive.find("appended").orElseThrow().lastAttempt()).isNull();
        assertThat(alive.delivered("appended")).isNotNull();
        assertThat(alive.delivered("claimed")).isNotNull();
        CollectorStats stats = balanced(alive);
        assertThat(stats.accepted()).isEqualTo(2);
        assertThat(stats.delivered()).isEqualTo(2);
    }

    /** The lease of the instance that is gone, not of the one that finds it gone. */
    @OnEachDatabase
    void the_end_of_a_lease_is_logged_with_its_own_length(Kind kind) {
        on(kind);
        open(database.pool(), options -> options.lease(LEASE.multipliedBy(2)));
        JdbcBatchStore alive = open();
        assertThat(logged(InstanceMembership.class, () -> {
                    pass(LEASE, alive);
                    pass(LEASE.plusMillis(5), alive);
                }))
                .anySatisfy(line -> assertThat(line).contains("for 60005 ms", "its lease is 60000 ms"));
    }

    /** Freezes an instance before that commit. */
    private void frozenBeforeCommit(Runnable meanwhile) {
        source.beforeCommit = what -> {
            source.recover();
            meanwhile.run();
        };
    }

    @OnEachDatabase
    void one_that_is_frozen_in_the_middle_of_a_mark_holds_up_no_other(Kind kind) {
        JdbcBatchStore frozen = openFaulty(kind);
        JdbcBatchStore other = open();
        append(frozen, "a", "b");
        // Otherwise PostgreSQL gets a single statement, which nothing is in the middle of.
        pass(LEASE.dividedBy(2), other);
        List<String> takenOver = new ArrayList<>();
        frozenBeforeCommit(() -> {
            pass(LEASE.plusMillis(1), other);
            takenOver.addAll(claim(other));
        });
        assertThat(frozen.delivered("a")).as("which no one else could have").isNotNull();
        assertThat(takenOver).containsExactly("b");

        pass(LEASE.dividedBy(3), other);
        assertThat(frozen.delivered("b")).isNull();
        append(frozen, "c");
        assertThat(claim(other)).isEmpty();
        assertThat(other.delivered("b")).isNotNull();
        assertThat(frozen.delivered("c")).isNotNull();
        CollectorStats stats = balanced(other);
        assertThat(stats.accepted()).isEqualTo(3);
        assertThat(stats.delivered()).isEqualTo(3);
    }

    @OnEachDatabase
    void what_one_appends_that_was_frozen_meanwhile_is_given_back(Kind kind) {
        JdbcBatchStore frozen = openFaulty(kind);
        JdbcBatchStore other = open();
        append(frozen, "a");
        // As above.
        pass(LEASE.dividedBy(2), other);
        frozenBeforeCommit(() -> pass(LEASE.plusMillis(1), other));
        append(frozen, "b");
        other.heartbeat();
        assertThat(claim(other)).containsExactly("a", "b");
        assertThat(frozen.delivered("b")).isNull();
        assertThat(balanced(other).inFlight()).isEqualTo(2);
    }

    @OnEachDatabase
    void one_that_was_frozen_before_a_statement_marks_nothing_that_others_have(Kind kind) {
        JdbcBatchStore frozen = openFaulty(kind);
        JdbcBatchStore other = open();
        append(frozen, "a", "b");
        source.beforeStatement = sql -> {
            source.recover();
            pass(LEASE.plusMillis(1), other);
            assertThat(claim(other)).containsExactly("a", "b");
        };
        assertThat(frozen.delivered("a")).isNull();
        append(frozen, "c");
        assertThat(other.delivered("a")).isNotNull();
        assertThat(frozen.delivered("c")).isNotNull();
        assertThat(balanced(other).delivered()).isEqualTo(2);
    }

    @OnEachDatabase
    void each_knows_itself_and_how_many_are_alive(Kind kind) {
        JdbcBatchStore one = open(kind, options -> options.instanceName("one"));
        JdbcBatchStore other = open(database.pool(), options -> options.instanceName("other"));
        one.heartbeat();
        BatchStats.Instance first = one.stats().instance();
        BatchStats.Instance second = other.stats().instance();
        assertThat(first).isEqualTo(new BatchStats.Instance("one", first.number(), 2));
        assertThat(second).isEqualTo(new BatchStats.Instance("other", second.number(), 2));
        assertThat(first.number()).isPositive().isNotEqualTo(second.number());
        pass(LEASE.plusMillis(1), one);
        assertThat(one.stats().instance()).isEqualTo(new BatchStats.Instance("one", first.number(), 1));
        other.heartbeat();
        one.heartbeat();
        assertThat(one.stats().instance()).isEqualTo(new BatchStats.Instance("one", first.number(), 2));
        BatchStats.Instance third = other.stats().instance();
        assertThat(third).isEqualTo(new BatchStats.Instance("other", third.number(), 2));
        assertThat(third.number()).isPositive().isNotIn(first.number(), second.number());
        other.close();
        one.heartbeat();
        assertThat(one.stats().instance()).isEqualTo(new BatchStats.Instance("one", first.number(), 1));
    }

    @OnEachDatabase
    void signs_of_life_keep_what_is_in_flight(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "a");
        for (int i = 0; i < 10; i++) {
            pass(LEASE.dividedBy(3));
            one.heartbeat();
            other.heartbeat();
        }
        assertThat(claim(other)).isEmpty();
        assertThat(one.delivered("a")).isNotNull();
        balanced(other);
    }

    @OnEachDatabase
    void a_frozen_instance_that_wakes_up_settles_nothing_and_goes_on_under_a_new_number(Kind kind) {
        JdbcBatchStore frozen = open(kind);
        JdbcBatchStore other = open();
        append(frozen, "a", "b", "c");
        markPending(frozen, "a");
        long fence = claims(frozen).get(0).fence();
        pass(LEASE.plusMillis(1), other);
        assertThat(claim(other)).containsExactly("a", "b", "c");

        assertThat(frozen.delivered("a")).isNull();
        assertThat(frozen.failed("a", fence, "late", clock.instant(), again())).isNull();
        assertThat(frozen.failed("b", BatchStore.ANY_FENCE, "late", clock.instant(), again()))
                .isNull();
        assertThat(frozen.released("c", type -> Optional.of(clock.instant()))).isNull();
        assertThat(frozen.timedOut(clock.instant().plus(TIMEOUT).plus(TIMEOUT), 9))
                .isEmpty();
        assertThat(other.list(ALL.states(BatchState.IN_FLIGHT), clock.instant()))
                .hasSize(3);

        append(frozen, "new");
        markPending(frozen, "new");
        assertThat(claim(frozen)).containsExactly("new");
        assertThat(frozen.delivered("new")).isNotNull();
        assertThat(other.delivered("a")).isNotNull();
        assertThat(database.query("SELECT id FROM {p}instance WHERE gone_at IS NULL"))
                .hasSize(2);
        CollectorStats stats = balanced(other);
        assertThat(stats.accepted()).isEqualTo(4);
        assertThat(stats.delivered()).isEqualTo(2);
        assertThat(stats.inFlight()).isEqualTo(2);
    }

    @OnEachDatabase
    void one_that_wakes_up_first_learns_of_it_by_its_own_sign_of_life(Kind kind) {
        JdbcBatchStore frozen = open(kind);
        JdbcBatchStore other = open();
        append(frozen, "a");
        pass(LEASE.plusMillis(1), other);
        frozen.heartbeat();
        append(frozen, "b");
        pass(LEASE.minusMillis(1));
        other.heartbeat();
        assertThat(claim(other)).containsExactly("a");
        assertThat(frozen.delivered("b")).isNotNull();
        balanced(other);
    }

    @OnEachDatabase
    void what_was_given_back_and_not_claimed_yet_can_still_be_marked_delivered(Kind kind) {
        JdbcBatchStore frozen = open(kind);
        JdbcBatchStore other = open();
        append(frozen, "a");
        pass(LEASE.plusMillis(1), other);
        assertThat(state(other, "a")).isEqualTo(BatchState.PENDING);
        assertThat(frozen.delivered("a")).as("it was delivered, after all").isNotNull();
        assertThat(claim(other)).isEmpty();
        assertThat(balanced(other).delivered()).isOne();
    }

    @OnEachDatabase
    void marks_of_others_change_nothing_while_a_batch_is_in_flight(Kind kind) {
        JdbcBatchStore owner = open(kind);
        JdbcBatchStore other = open();
        append(owner, "a");
        assertThat(other.delivered("a")).isNull();
        for (long fence = 0; fence < 5; fence++) {
            assertThat(other.failed("a", fence, "not mine", clock.instant(), again()))
                    .isNull();
        }
        assertThat(other.released("a", type -> Optional.empty())).isNull();
        assertThat(other.find("a")).isEqualTo(owner.find("a"));
        pass(TIMEOUT.plusMillis(1));
        assertThat(other.timedOut(clock.instant(), 9)).isEmpty();
        assertThat(owner.timedOut(clock.instant(), 9))
                .extracting(BatchStore.Lease::batchId)
                .containsExactly("a");
        markPending(owner, "a");
        assertThat(other.delivered("a")).as("pending").isNotNull();
    }

    @OnEachDatabase
    void a_fence_of_one_instance_is_of_no_use_to_another(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "a");
        markPending(one, "a");
        Claim first = claims(one).get(0);
        one.failed("a", first.fence(), "503", clock.instant(), again());
        Claim second = claims(other).get(0);
        assertThat(one.failed("a", second.fence(), "not mine", clock.instant(), again()))
                .isNull();
        assertThat(other.failed("a", second.fence(), "mine", clock.instant(), again()))
                .isNotNull();
    }

    @OnEachDatabase
    void closing_gives_back_at_once(Kind kind) {
        JdbcBatchStore leaving = open(kind);
        JdbcBatchStore other = open();
        append(leaving, "a");
        leaving.close();
        assertThat(claim(other)).containsExactly("a");
        balanced(other);
        assertThat(database.query("SELECT instance FROM {p}counter WHERE accepted > 0"))
                .containsExactly("0");
    }

    @OnEachDatabase
    void a_batch_is_claimed_by_one_of_many(Kind kind) throws Exception {
        on(kind);
        List<JdbcBatchStore> stores = List.of(open(), open(), open());
        String[] ids = IntStream.range(0, 120).mapToObj(i -> "b" + i).toArray(String[]::new);
        append(stores.get(0), ids);
        markPending(stores.get(0), ids);
        List<String> claimed = new ArrayList<>();
        together(stores.size(), number -> claimAll(stores.get(number))).forEach(claimed::addAll);
        claimed.addAll(claim(stores.get(0)));
        assertThat(claimed).containsExactlyInAnyOrder(ids);
        assertThat(balanced(stores.get(1)).inFlight()).isEqualTo(ids.length);
    }

    private List<String> claimAll(JdbcBatchStore store) {
        List<String> mine = new ArrayList<>();
        Instant now = clock.instant();
        // An empty result may also mean that other instances have locked the next batches.
        for (int empty = 0; empty < 3; ) {
            List<Claim> some = store.claim("loki", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 3);
            mine.addAll(ids(some));
            empty = some.isEmpty() ? empty + 1 : 0;
        }
        return mine;
    }

    @OnEachDatabase
    void what_one_pauses_is_paused_for_all(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        assertThat(one.pause("loki", true)).isTrue();
        assertThat(other.pause("loki", true)).isFalse();
        assertThat(other.pausedCollectorTypes()).containsExactly("loki");
        assertThat(other.pause("loki", false)).isTrue();
        assertThat(one.pausedCollectorTypes()).isEmpty();
    }

    @OnEachDatabase
    void bounds_hold_for_all_together_but_for_a_second(Kind kind) {
        JdbcBatchStore one = open(kind, options -> options.maxBatches(3));
        append(one, "a", "b", "c");
        JdbcBatchStore other = open(database.pool(), options -> options.maxBatches(3));
        assertThat(failure(other.append(batch("d")))).isInstanceOf(BatchRejectedException.class);
        one.delivered("a");
        passASecond();
        append(other, "d");
        passASecond();
        assertThat(failure(one.append(batch("e")))).isInstanceOf(BatchRejectedException.class);
        assertThat(balanced(one).accepted()).isEqualTo(4);
    }

    @OnEachDatabase
    void bytes_are_bounded_too(Kind kind) {
        JdbcBatchStore one = open(kind);
        append(one, "a");
        long bytes = one.list(ALL, clock.instant()).get(0).bytes();
        JdbcBatchStore other = open(database.pool(), options -> options.maxBytes(2 * bytes + 1));
        append(other, "b");
        assertThat(failure(other.append(batch("c"))))
                .isInstanceOf(BatchRejectedException.class)
                .hasMessageContaining("maxBytes");
        assertThat(other.stats().diskUsage()).isEqualTo(2 * bytes);
    }

    @OnEachDatabase
    void when_the_database_was_away_no_lease_is_ended_at_once(Kind kind) {
        JdbcBatchStore one = open(kind);
        JdbcBatchStore other = open();
        append(one, "a");
        // No instance could send a heartbeat.
        pass(LEASE.multipliedBy(5));
        other.heartbeat();
        assertThat(claim(other)).isEmpty();
        one.heartbeat();
        pass(LEASE.dividedBy(2));
        other.heartbeat();
        one.heartbeat();
        pass(LEASE.dividedBy(2).plusMillis(1));
        other.heartbeat();
        assertThat(claim(other)).isEmpty();
        assertThat(one.delivered("a")).isNotNull();
    }

    @OnEachDatabase
    void clocks_that_are_wrong_do_not_matter(Kind kind) {
        on(kind);
        ManualClock wrong = new ManualClock(clock.instant().plus(Duration.ofHours(3)));
        JdbcBatchStore ahead = open(database.pool(), options -> options.clock(wrong));
        JdbcBatchStore right = open();
        Instant now = wrong.instant();
        ahead.append(batch("a", now)).join();
        ahead.append(batch("b", now)).join();
        ahead.failed("a", 0, "503", now, (type, none) -> new Verdict(false, now.plusSeconds(60), 1));

        PersistedBatch seen = right.find("a").orElseThrow();
        assertThat(seen.createdAt()).isEqualTo(clock.instant());
        assertThat(seen.lastAttempt()).isEqualTo(clock.instant());
        assertThat(seen.nextAttemptAt()).isEqualTo(clock.instant().plusSeconds(60));
        assertThat(ahead.find("a").orElseThrow().createdAt())
                .as("on its own clock")
                .isEqualTo(now);
        assertThat(claim(right)).isEmpty();
        assertThat(right.expire("loki", clock.instant(), clock.instant(), 9)).isEmpty();
        assertThat(ahead.timedOut(now, 9)).isEmpty();
        pass(Duration.ofSeconds(60));
        assertThat(claim(right)).containsExactly("a");
        assertThat(ahead.expire("loki", now.minusSeconds(1), now.minusSeconds(1), 9))
                .isEmpty();
    }

    @OnEachDatabase
    void it_is_known_when_anybody_was_last_there(Kind kind) {
        JdbcBatchStore first = open(kind);
        assertThat(first.lastUsed()).isNull();
        pass(Duration.ofSeconds(10));
        first.heartbeat();
        Instant beat = clock.instant();
        pass(Duration.ofDays(3));
        JdbcBatchStore second = open();
        assertThat(second.lastUsed()).isEqualTo(beat);
        second.close();
        pass(Duration.ofDays(3));
        assertThat(open().lastUsed()).isEqualTo(clock.instant().minus(Duration.ofDays(3)));
    }
}
