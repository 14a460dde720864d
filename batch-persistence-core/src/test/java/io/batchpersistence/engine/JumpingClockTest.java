package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The wall clock jumps or is wrong from the start. Batches must not expire or be sent in bulk, and no lane may stall.
 */
class JumpingClockTest {

    private static final Instant NOW = Instant.parse("2026-11-20T17:00:00Z");
    private static final Instant AHEAD = Instant.parse("2036-02-07T06:28:16Z");
    private static final int MANY = 50;
    private static final Duration TTL = Duration.ofHours(24);

    private final AtomicLong ticks = new AtomicLong(-5);
    private final ManualClock clock = new ManualClock(NOW);
    private final InMemoryBatchStore store = new InMemoryBatchStore();
    private Bench bench = open();

    private Bench open() {
        Bench opened = new Bench(store, builder -> builder.clock(clock).ticker(ticks::get));
        opened.usual = Bench.with()
                .retry(new RecoveryPolicy(Duration.ofMinutes(5), 1, Duration.ofMinutes(5), 0, 10))
                .outageThreshold(0)
                .get();
        return opened;
    }

    private void reopen() {
        bench.close();
        store.reopen(clock.instant());
        bench = open();
    }

    @AfterEach
    void close() {
        bench.close();
    }

    private void pass(Duration time) {
        Duration step = Duration.ofMinutes(1);
        for (Duration left = time; !left.isZero(); left = left.minus(step)) {
            step = left.compareTo(step) < 0 ? left : step;
            clock.advance(step);
            ticks.addAndGet(step.toNanos());
            bench.tick();
            bench.engine.cleanup();
        }
    }

    private void jump(Duration by) {
        clock.advance(by);
        bench.tick();
        bench.engine.cleanup();
    }

    private List<String> persistMany() {
        List<String> ids = IntStream.range(0, MANY).mapToObj(i -> "b" + i).toList();
        ids.forEach(bench::persist);
        return ids;
    }

    /** Nothing expires within the first time, and all that was persisted in the second. */
    private void assertExpire(Duration notYet, Duration then) {
        pass(notYet);
        assertThat(bench.expired).isEmpty();
        pass(then);
        assertThat(bench.expired).hasSize(MANY);
    }

    private long count(BatchState state) {
        return bench.engine.count(BatchSelector.all().states(state));
    }

    @ParameterizedTest
    @ValueSource(strings = {"PT2S", "PT8H", "P3650D", "-PT2S", "-PT8H", "-P300D"})
    void whatever_the_jump_timeouts_come_as_if_there_were_none(Duration by) {
        persistMany();
        pass(Duration.ofMinutes(1));
        jump(by);
        assertThat(count(BatchState.IN_FLIGHT)).isEqualTo(MANY);
        pass(Duration.ofMinutes(3));
        assertThat(count(BatchState.IN_FLIGHT))
                .as("not sooner than by an eighth")
                .isEqualTo(MANY);
        pass(Duration.ofMinutes(2));
        assertThat(count(BatchState.IN_FLIGHT))
                .as("not later than by an eighth")
                .isZero();
        assertThat(bench.expired).isEmpty();
    }

    @ParameterizedTest
    @ValueSource(strings = {"PT2S", "PT8H", "P3650D", "-PT2S", "-PT8H", "-P300D"})
    void whatever_the_jump_backoff_is_as_long_as_if_there_were_none(Duration by) {
        bench.sender("loki", batch -> {});
        for (String id : persistMany()) {
            bench.engine.markBatchFailed(id, "refused");
        }
        pass(Duration.ofMinutes(1));
        jump(by);
        pass(Duration.ofMinutes(3));
        assertThat(bench.sent).isEmpty();
        pass(Duration.ofMinutes(2));
        assertThat(bench.sent).hasSize(MANY);
    }

    @ParameterizedTest
    @ValueSource(strings = {"PT30H", "P3650D"})
    void a_jump_ahead_makes_nothing_older(Duration by) {
        persistMany();
        pass(Duration.ofHours(10));
        jump(by);
        bench.persist("new");
        assertExpire(Duration.ofHours(13), Duration.ofHours(2));
        pass(Duration.ofHours(7));
        assertThat(bench.isHeld("new")).isTrue();
        pass(Duration.ofHours(3));
        assertThat(bench.isHeld("new")).isFalse();
    }

    @Test
    void neither_do_several() {
        persistMany();
        for (int night = 0; night < 3; night++) {
            pass(Duration.ofHours(7));
            jump(Duration.ofHours(17));
        }
        assertThat(bench.expired).isEmpty();
        pass(Duration.ofHours(4));
        assertThat(bench.expired).hasSize(MANY);
    }

    @Test
    void persisted_by_a_clock_that_was_years_ahead_they_expire_a_ttl_after_it_was_put_right() {
        clock.set(AHEAD);
        reopen();
        persistMany();
        pass(Duration.ofHours(10));
        clock.set(NOW);
        assertExpire(Duration.ofHours(23), Duration.ofHours(2));
    }

    @Test
    void a_dead_letter_from_the_future_does_not_stay_for_years() {
        clock.set(AHEAD);
        reopen();
        bench.persist("a");
        bench.engine.markBatchFailed("a", new PermanentDeliveryException("malformed"));
        clock.set(NOW);
        reopen();
        pass(Duration.ofDays(7).plusHours(1));
        assertThat(bench.isHeld("a")).isFalse();
    }

    @Test
    void booted_in1970_with_a_backlog_nothing_expires_and_all_is_sent_and_the_putting_right_changes_nothing() {
        persistMany();
        for (int i = 0; i < MANY / 2; i++) {
            bench.engine.markBatchFailed("b" + i, "refused");
        }
        store.setLastUsed(clock.instant());
        clock.set(Instant.EPOCH.plusSeconds(60));
        reopen();
        pass(Duration.ofMinutes(10));
        clock.set(NOW.plusSeconds(900));
        pass(Duration.ofHours(2));
        assertThat(bench.expired).isEmpty();
        bench.sender("loki", batch -> {});
        pass(Duration.ofMinutes(10));
        assertThat(bench.sent).hasSize(MANY).doesNotHaveDuplicates();
    }

    @Test
    void opened_with_a_clock_years_ahead_the_backlog_is_as_old_as_it_was_when_the_store_was_left() {
        persistMany();
        pass(Duration.ofHours(10));
        store.setLastUsed(clock.instant());
        clock.set(AHEAD);
        reopen();
        assertExpire(Duration.ofHours(13), Duration.ofHours(2));
    }

    @Test
    void a_weekend_off_does_not_count_towards_the_ttl() {
        persistMany();
        pass(Duration.ofHours(1));
        store.setLastUsed(clock.instant());
        clock.advance(Duration.ofHours(63));
        reopen();
        assertExpire(Duration.ofHours(22), Duration.ofHours(3));
    }

    /** After a restart it is unknown for how long no process could send the backlog. */
    @Test
    void after_any_start_the_backlog_gets_an_hour_before_it_may_expire() {
        persistMany();
        bench.persist("short", "short lived");
        clock.advance(Duration.ofDays(3));
        reopen();
        bench.settings.put(
                "short lived",
                Bench.with().ttl(Duration.ofMinutes(10), Duration.ofDays(7)).get());
        pass(Duration.ofMinutes(9));
        assertThat(bench.expired).isEmpty();
        pass(Duration.ofMinutes(2));
        assertThat(bench.expired).extracting(BatchSummary::id).containsExactly("short");
        pass(Duration.ofMinutes(48));
        assertThat(bench.expired).hasSize(1);
        pass(Duration.ofMinutes(2));
        assertThat(bench.expired).hasSize(MANY + 1);
    }

    @Test
    void a_wait_that_began_by_a_clock_years_ahead_does_not_last_for_years() {
        clock.set(AHEAD);
        reopen();
        persistMany();
        for (int i = 0; i < MANY; i++) {
            bench.engine.markBatchFailed("b" + i, "refused");
        }
        clock.set(NOW);
        reopen();
        bench.sender("loki", batch -> {});
        pass(Duration.ofMinutes(4));
        assertThat(bench.sent).isEmpty();
        pass(Duration.ofMinutes(2));
        assertThat(bench.sent).hasSize(MANY);
    }

    @Test
    void they_are_sent_in_the_order_in_which_they_were_persisted_not_of_their_times() {
        bench.persist("first");
        jump(Duration.ofDays(-20));
        bench.persist("second");
        jump(Duration.ofDays(100));
        bench.persist("third");
        jump(Duration.ofDays(-70));
        bench.persist("fourth");
        reopen();
        bench.sender("loki", batch -> {});
        pass(Duration.ofMinutes(1));
        assertThat(bench.sent).containsExactly("first", "second", "third", "fourth");
    }

    @Test
    void what_is_persisted_has_the_time_of_the_wall_clock() {
        jump(Duration.ofDays(1));
        bench.persist("a");
        assertThat(bench.summary("a").createdAt()).isEqualTo(NOW.plus(TTL));
    }

    @Test
    void waits_come_close_to_the_wall_clock_again_without_ever_going_back() {
        SlewedClock time = new SlewedClock(clock, ticks::get, false, null);
        clock.advance(Duration.ofSeconds(-80));
        Instant before = time.steady();
        assertThat(before).isEqualTo(NOW);
        for (int second = 0; second < 640; second++) {
            assertThat(time.steady()).isAfterOrEqualTo(before).isNotEqualTo(clock.instant());
            before = time.steady();
            clock.advance(Duration.ofSeconds(1));
            ticks.addAndGet(1_000_000_000);
        }
        assertThat(time.steady()).isEqualTo(clock.instant()).isEqualTo(time.wall());
    }

    /** A pause of the thread between reading the two clocks is not a clock jump. */
    @Test
    void a_pause_between_the_looks_at_the_clocks_is_no_jump() {
        AtomicLong pause = new AtomicLong();
        SlewedClock time = new SlewedClock(
                clock,
                () -> {
                    long now = ticks.get();
                    Duration stopped = Duration.ofNanos(pause.getAndSet(0));
                    clock.advance(stopped);
                    ticks.addAndGet(stopped.toNanos());
                    return now;
                },
                false,
                null);
        pause.set(Duration.ofHours(30).toNanos());
        assertThat(time.expiryCutoff(TTL)).isEqualTo(NOW.plus(Duration.ofHours(6)));
        assertThat(time.isWallBehind()).isFalse();
    }

    @Test
    void a_clock_of_ones_own_is_taken_at_its_word() {
        bench.close();
        try (Bench own = new Bench()) {
            own.persist("a");
            own.clock.advance(Duration.ofDays(2));
            own.tick();
            assertThat(own.engine.cleanup()).isEqualTo(1);
        }
    }
}
