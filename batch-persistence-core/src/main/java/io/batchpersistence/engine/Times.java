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

    static Instant after(Instant time, Duration delay) {
        return Duration.between(time, LAST).compareTo(delay) <= 0 ? LAST : time.plus(delay);
    }

    static Instant before(Instant time, Duration age) {
        return Duration.between(FIRST, time).compareTo(age) <= 0 ? FIRST : time.minus(age);
    }
}
