package io.batchpersistence.engine;

import java.time.Duration;
import java.time.Instant;

/**
 * Arithmetic on instants that keeps results in a range every store can represent, however long a configured duration
 * is.
 */
final class Times {

    private static final Instant FIRST = Instant.EPOCH;
    private static final Instant LAST = Instant.parse("9999-12-31T23:59:59Z");

    private Times() {}

    // Compares seconds: a Duration to the year 9999 does not fit 64-bit nanoseconds, for which Duration.between throws
    // and catches an exception each time.

    static Instant after(Instant time, Duration delay) {
        return delay.toSeconds() >= LAST.getEpochSecond() - time.getEpochSecond() - 1 ? LAST : time.plus(delay);
    }

    static Instant before(Instant time, Duration age) {
        return age.toSeconds() >= time.getEpochSecond() - FIRST.getEpochSecond() ? FIRST : time.minus(age);
    }
}
