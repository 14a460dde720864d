package io.batchpersistence.engine;

import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * Makes times that can be relied on out of a wall clock that can't: it may be wrong when a machine boots, is set by NTP, and
 * jumps when a virtual machine goes on after a pause. Thread-safe.
 *
 * <ul>
 *   <li>{@link #wall()} is what the wall clock says. For what people read, and what ages are measured from.
 *   <li>{@link #steady()} is for waits: leases, backoff, lanes. It begins as the wall clock's time and goes on as the ticker
 *       does, never backwards. Where the two differ it approaches the wall clock by an eighth of the time that passes, so a wait
 *       is at most that much shorter or longer than it should be, whatever the wall clock does.
 *   <li>{@link #before} is for TTLs. Only time counts during which the store was open and the wall clock went as the ticker did:
 *       what it jumped ahead, and what lies between the last use of the store and its opening, makes nothing older. And after an
 *       opening everything gets a chance to be sent before it may expire, see {@link #CHANCE}.
 * </ul>
 */
final class Timekeeper {

    /** After an opening nothing expires for that long, or for its TTL if that is shorter. */
    static final Duration CHANCE = Duration.ofHours(1);

    /** This software is no older: a clock before that is wrong, and nothing is concluded from it. */
    static final Instant FIRST_PLAUSIBLE = Instant.parse("2026-01-01T00:00:00Z");

    /** By less than that a clock is corrected all the time. */
    private static final Duration JUMP = Duration.ofSeconds(1);

    private static final int STEADY_CATCHES_UP = 8;

    /** More of them within a TTL, and the oldest count as time again. */
    private static final int MOST_JUMPS = 1_000;

    /** Two looks at the ticker with more between them say nothing about the wall clock's look between. */
    private static final long LOOK_NANOS = 100_000_000;

    /** Wall clock time that did not pass. */
    private record Jump(Instant from, Instant to) {}

    private final Clock clock;
    private final @Nullable LongSupplier ticker;

    private final ReentrantLock lock = new ReentrantLock();
    private long tick;
    private Instant wall;
    private Instant steady;
    private Instant opened;
    private final boolean chance;
    private boolean setBack;
    /** The latest first. */
    private final Deque<Jump> jumps = new ArrayDeque<>();

    /**
     * Begins.
     *
     * @param ticker nanoseconds that pass as time does; {@code null} to take the clock at its word
     * @param holding whether there is anything that may expire
     * @param lastUsed when the store was last in use, if that is known
     */
    Timekeeper(Clock clock, @Nullable LongSupplier ticker, boolean holding, @Nullable Instant lastUsed) {
        this.clock = clock;
        this.ticker = ticker;
        this.tick = ticker == null ? 0 : ticker.getAsLong();
        this.wall = clock.instant();
        this.steady = wall;
        this.opened = wall;
        this.chance = holding;
        if (lastUsed != null && lastUsed.isBefore(wall)) {
            jumps.addFirst(new Jump(lastUsed, wall));
        }
    }

    /**
     * The store could not be reached before, so that what passed until now is no time in which anything could have been sent.
     *
     * @param lastUsed when the store was last in use, by whomever, if that is known
     */
    void opened(@Nullable Instant lastUsed) {
        lock.lock();
        try {
            look();
            opened = steady;
            if (lastUsed != null && lastUsed.isBefore(wall)) {
                forgetJumpsAfter(lastUsed);
                jumps.addFirst(new Jump(lastUsed, wall));
            }
        } finally {
            lock.unlock();
        }
    }

    Instant wall() {
        lock.lock();
        try {
            look();
            return wall;
        } finally {
            lock.unlock();
        }
    }

    Instant steady() {
        lock.lock();
        try {
            look();
            return steady;
        } finally {
            lock.unlock();
        }
    }

    /** What began before that time has outlived its TTL. */
    Instant before(Duration ttl) {
        lock.lock();
        try {
            look();
            Duration running = Duration.between(opened, steady);
            if (wall.isBefore(FIRST_PLAUSIBLE)
                    || (chance && running.compareTo(ttl) < 0 && running.compareTo(CHANCE) < 0)) {
                return Instant.MIN;
            }
            Duration left = ttl;
            Instant at = wall;
            for (Jump jump : jumps) {
                Duration since = Duration.between(jump.to, at);
                if (since.compareTo(left) >= 0) {
                    break;
                }
                left = left.minus(since);
                at = jump.from;
            }
            return Times.before(at, left);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Whether times that were taken of the wall clock may lie in its future now: it has been set back since the last question, or
     * waits still go by a later time.
     */
    boolean isBehind() {
        lock.lock();
        try {
            look();
            boolean behind = setBack || Duration.between(wall, steady).compareTo(JUMP) > 0;
            setBack = false;
            return behind && !wall.isBefore(FIRST_PLAUSIBLE);
        } finally {
            lock.unlock();
        }
    }

    private void look() {
        if (ticker == null) {
            wall = clock.instant();
            steady = wall;
            return;
        }
        long before;
        long after;
        Instant now;
        int looks = 0;
        do {
            before = ticker.getAsLong();
            now = clock.instant();
            after = ticker.getAsLong();
        } while (after - before > LOOK_NANOS && ++looks < 3); // this thread was stopped in between
        Duration passed = Duration.ofNanos(Math.max(0, after - tick));
        Instant expected = wall.plus(passed);
        Duration off = Duration.between(expected, now);
        if (off.compareTo(JUMP) > 0) {
            jumps.addFirst(new Jump(expected, now));
            if (jumps.size() > MOST_JUMPS) {
                jumps.removeLast();
            }
        } else if (off.negated().compareTo(JUMP) > 0) {
            setBack = true;
            forgetJumpsAfter(now);
        }
        tick = after;
        wall = now;
        steady = caughtUp(steady.plus(passed), passed.dividedBy(STEADY_CATCHES_UP));
    }

    /** Of a time that is yet to come again, or that counts as one jump. */
    private void forgetJumpsAfter(Instant now) {
        while (!jumps.isEmpty() && jumps.getFirst().to.isAfter(now)) {
            Jump jump = jumps.removeFirst();
            if (jump.from.isBefore(now)) {
                jumps.addFirst(new Jump(jump.from, now));
                return;
            }
        }
    }

    private Instant caughtUp(Instant time, Duration most) {
        Duration behind = Duration.between(time, wall);
        if (behind.compareTo(most) > 0) {
            return time.plus(most);
        }
        return behind.negated().compareTo(most) > 0 ? time.minus(most) : wall;
    }
}
