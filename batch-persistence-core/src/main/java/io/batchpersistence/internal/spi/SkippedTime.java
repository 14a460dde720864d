package io.batchpersistence.internal.spi;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.Deque;

/**
 * The time that a clock skipped when it was stepped ahead, or that passed while nothing could be done. Ages and leases
 * are measured without it. Not thread-safe.
 */
public final class SkippedTime {

    /** The maximum number of remembered steps; beyond it, the time skipped by the oldest ones counts as elapsed again. */
    private static final int MAX_STEPS = 1_000;

    private record Step(Instant from, Instant to) {
        Duration length() {
            return Duration.between(from, to);
        }
    }

    /** Latest first. */
    private final Deque<Step> steps = new ArrayDeque<>();

    /**
     * Adds a step that is later than all others.
     *
     * @param from the clock's time before it
     * @param to the clock's time after it
     */
    public void add(Instant from, Instant to) {
        steps.addFirst(new Step(from, to));
        if (steps.size() > MAX_STEPS) {
            steps.removeLast();
        }
    }

    /**
     * Forgets what lies after a time to which the clock has been set back, or that becomes part of one larger step.
     *
     * @param time on the clock
     */
    public void forgetAfter(Instant time) {
        while (!steps.isEmpty() && steps.getFirst().to().isAfter(time)) {
            Step step = steps.removeFirst();
            if (step.from().isBefore(time)) {
                steps.addFirst(new Step(step.from(), time));
                return;
            }
        }
    }

    /**
     * How much more the clock shows since something came into being than its age, which is measured without what was
     * skipped.
     *
     * @param now the clock's time
     */
    public Duration within(Duration age, Instant now) {
        Duration skipped = Duration.ZERO;
        Duration left = age;
        Instant at = now;
        for (Step step : steps) {
            Duration since = Duration.between(step.to(), at);
            if (since.compareTo(left) >= 0) {
                break;
            }
            left = left.minus(since);
            at = step.from();
            skipped = skipped.plus(step.length());
        }
        return skipped;
    }

    /** Everything that was skipped, as far as is known: the sum of all steps. */
    public Duration total() {
        return steps.stream().map(Step::length).reduce(Duration.ZERO, Duration::plus);
    }
}
