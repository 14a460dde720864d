package io.batchpersistence.engine;

import java.time.Duration;
import java.time.Instant;

/**
 * How many batches may go per second: a token bucket, and a ramp that limits it to 1, 2, 4, … a second until it no
 * longer matters. Arithmetic only; not thread-safe. A rate of 0 is no limit. Time that runs backwards counts as no time.
 */
final class RampedRate {

    static final Duration STEP = Duration.ofSeconds(1);

    /** Above this rate a ramp no longer limits what a sender can do, so it ends. */
    private static final double RAMP_END = 1_024;

    private double tokens;
    private Instant tokensAt;

    /** The ramp's rate; 0 if there is none. */
    private double ramp;

    private Instant rampAt = Instant.EPOCH;

    private Instant secondBegan;
    private int inSecond;
    private double lastSecond;

    /** Starts with a full bucket and without a ramp. */
    RampedRate(double maxRate, Instant now) {
        tokens = capacity(maxRate);
        tokensAt = now;
        secondBegan = now;
    }

    /** The current limit. */
    double limit(double maxRate) {
        if (ramp == 0) {
            return maxRate;
        }
        return maxRate > 0 ? Math.min(maxRate, ramp) : ramp;
    }

    /** Takes a token, and returns whether there was one. */
    boolean take(double maxRate, Instant now) {
        double rate = limit(maxRate);
        if (rate > 0) {
            refill(now, rate);
            // Tolerance for rounding: tenths don't add up to exactly one.
            if (tokens < 1 - 1e-9) {
                return false;
            }
            tokens -= 1;
        }
        count(now);
        return true;
    }

    /** Returns a token as if it had never been taken. */
    void giveBack() {
        tokens += 1;
        inSecond--;
    }

    /** Whether nothing was taken for so long that it makes no difference any more. */
    boolean isFull(double maxRate, Instant now) {
        double rate = limit(maxRate);
        if (rate <= 0) {
            return true;
        }
        refill(now, rate);
        return tokens >= capacity(rate);
    }

    /** Begins at 1 a second, without a token: a probe has used this second's. */
    void beginRamp(Instant now) {
        ramp = 1;
        rampAt = now;
        tokens = 0;
        tokensAt = now;
    }

    void endRamp() {
        ramp = 0;
    }

    /** Halves the ramp's rate; without a ramp, begins one with half of what was taken in a second recently. */
    void slowDown(Instant now) {
        if (ramp == 0) {
            tokensAt = now;
        }
        ramp = Math.max(1, (ramp == 0 ? Math.max(inSecond, lastSecond) : ramp) / 2);
        rampAt = now;
        tokens = Math.min(tokens, capacity(ramp));
    }

    /**
     * Doubles the ramp's rate if it is time to, but only once per call: the rate must not grow further than it has been
     * used.
     *
     * @return whether this ended the ramp
     */
    boolean ramp(double maxRate, Instant now) {
        Duration elapsed = Duration.between(rampAt, now);
        if (elapsed.isNegative()) {
            rampAt = now;
        } else if (elapsed.compareTo(STEP) >= 0) {
            ramp *= 2;
            rampAt = elapsed.compareTo(STEP.multipliedBy(2)) < 0 ? rampAt.plus(STEP) : now;
            if (ramp >= (maxRate > 0 ? maxRate : RAMP_END)) {
                ramp = 0;
                return true;
            }
        }
        return false;
    }

    /** Counts how many batches go per second, to slow down from when a collector throttles. */
    private void count(Instant now) {
        Duration elapsed = Duration.between(secondBegan, now);
        if (elapsed.isNegative() || elapsed.compareTo(STEP) >= 0) {
            lastSecond = elapsed.compareTo(STEP.multipliedBy(2)) < 0 ? inSecond : 0;
            secondBegan = now;
            inSecond = 0;
        }
        inSecond++;
    }

    private void refill(Instant now, double rate) {
        double seconds = Math.max(0, Duration.between(tokensAt, now).toMillis() / 1_000.0);
        tokens = Math.min(capacity(rate), tokens + seconds * rate);
        tokensAt = now;
    }

    private static double capacity(double rate) {
        return Math.max(1, rate);
    }
}
