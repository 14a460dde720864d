package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.time.Instant;
import org.junit.jupiter.api.Test;

class RampedRateTest {

    private Instant now = Instant.parse("2030-01-01T00:00:00Z");

    private int taken(RampedRate rate, double max, int attempts) {
        int taken = 0;
        for (int i = 0; i < attempts; i++) {
            taken += rate.take(max, now) ? 1 : 0;
        }
        return taken;
    }

    private void pass(Duration time) {
        now = now.plus(time);
    }

    @Test
    void without_a_limit_everything_goes() {
        RampedRate rate = new RampedRate(0, now);
        assertThat(taken(rate, 0, 10_000)).isEqualTo(10_000);
        assertThat(rate.isFull(0, now)).isTrue();
    }

    @Test
    void a_limit_lets_one_seconds_worth_go_at_once_and_then_its_rate() {
        RampedRate rate = new RampedRate(10, now);
        assertThat(taken(rate, 10, 100)).isEqualTo(10);
        pass(Duration.ofMillis(100));
        assertThat(taken(rate, 10, 100)).isEqualTo(1);
        assertThat(rate.isFull(10, now)).isFalse();
        rate.giveBack();
        assertThat(taken(rate, 10, 100)).isEqualTo(1);
        pass(Duration.ofHours(1));
        assertThat(rate.isFull(10, now)).isTrue();
        assertThat(taken(rate, 10, 100)).isEqualTo(10);
    }

    @Test
    void less_than_one_a_second_goes_one_by_one() {
        RampedRate rate = new RampedRate(0.1, now);
        assertThat(taken(rate, 0.1, 5)).isEqualTo(1);
        for (int second = 0; second < 9; second++) {
            pass(Duration.ofSeconds(1));
            assertThat(taken(rate, 0.1, 5)).isZero();
        }
        pass(Duration.ofSeconds(1));
        assertThat(taken(rate, 0.1, 5)).isEqualTo(1);
    }

    @Test
    void a_ramp_doubles_once_a_second_until_it_reaches_the_limit() {
        RampedRate rate = new RampedRate(5, now);
        rate.beginRamp(now);
        assertThat(taken(rate, 5, 10))
                .as("a probe has used the first second's token")
                .isZero();
        assertThat(rate.limit(5)).isEqualTo(1);
        pass(Duration.ofSeconds(1));
        assertThat(rate.ramp(5, now)).isFalse();
        assertThat(rate.limit(5)).isEqualTo(2);
        assertThat(rate.ramp(5, now)).as("not twice in a second").isFalse();
        assertThat(rate.limit(5)).isEqualTo(2);
        pass(Duration.ofHours(1));
        assertThat(rate.ramp(5, now)).as("a jump is one step").isFalse();
        assertThat(rate.limit(5)).isEqualTo(4);
        pass(Duration.ofSeconds(1));
        assertThat(rate.ramp(5, now)).isTrue();
        assertThat(rate.limit(5)).isEqualTo(5);
    }

    @Test
    void without_a_limit_a_ramp_ends_after_ten_steps() {
        RampedRate rate = new RampedRate(0, now);
        rate.beginRamp(now);
        for (int step = 1; step < 10; step++) {
            pass(Duration.ofSeconds(1));
            assertThat(rate.ramp(0, now)).isFalse();
        }
        assertThat(rate.limit(0)).isEqualTo(512);
        pass(Duration.ofSeconds(1));
        assertThat(rate.ramp(0, now)).isTrue();
        assertThat(rate.limit(0)).isZero();
    }

    @Test
    void slowing_down_begins_with_half_of_the_recent_rate_and_goes_down_to_one() {
        RampedRate rate = new RampedRate(0, now);
        assertThat(taken(rate, 0, 40)).isEqualTo(40);
        rate.slowDown(now);
        assertThat(rate.limit(0)).isEqualTo(20);
        rate.slowDown(now);
        assertThat(rate.limit(0)).isEqualTo(10);
        for (int i = 0; i < 5; i++) {
            rate.slowDown(now);
        }
        assertThat(rate.limit(0)).isEqualTo(1);
        rate.endRamp();
        assertThat(rate.limit(0)).isZero();
    }

    @Test
    void time_that_runs_backwards_counts_as_no_time() {
        RampedRate rate = new RampedRate(1, now);
        assertThat(taken(rate, 1, 2)).isEqualTo(1);
        pass(Duration.ofHours(-1));
        assertThat(taken(rate, 1, 2)).isZero();
        pass(Duration.ofSeconds(1));
        assertThat(taken(rate, 1, 2)).isEqualTo(1);
        rate.beginRamp(now);
        pass(Duration.ofHours(-1));
        assertThat(rate.ramp(8, now)).isFalse();
        pass(Duration.ofSeconds(1));
        assertThat(rate.ramp(8, now)).isFalse();
        assertThat(rate.limit(8)).isEqualTo(2);
    }
}
