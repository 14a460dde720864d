package io.batchpersistence.engine;

import io.batchpersistence.internal.spi.SkippedTime;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * Derives a monotonic, slew-limited time from an untrusted wall clock, which may be wrong when a machine boots, is set
 * by NTP, and jumps when a virtual machine resumes after a pause. Thread-safe.
 *
 * <ul>
 *   <li>{@link #wall()} is the wall clock's time. For what people read, and as the reference for ages.
 *   <li>{@link #steady()} is for waits: leases, backoff, lanes. It starts at the wall clock's time and advances with
 *       the ticker, never backwards. If the two differ, it is slewed towards the wall clock by at most an eighth of the
 *       time that passes, so a wait is at most that much shorter or longer than it should be, whatever the wall clock
 *       does.
 *   <li>{@link #expiryCutoff} is for TTLs. Only time during which the store was open and the wall clock advanced with the
 *       ticker counts: neither a jump forward nor the time between the last use of the store and its opening makes
 *       anything older. After an opening everything gets a chance to be sent before it may expire, see {@link #EXPIRY_GRACE}.
 * </ul>
 */
final class SlewedClock {

    /** After an opening nothing expires for this long, or for its TTL if that is shorter. */
    static final Duration EXPIRY_GRACE = Duration.ofHours(1);

    /** This software is not older than this: an earlier wall clock is wrong, and no conclusions are drawn from it. */
    static final Instant FIRST_PLAUSIBLE = Instant.parse("2026-01-01T00:00:00Z");

    /** Smaller corrections of the clock are normal and do not count as jumps. */
    private static final long JUMP_NANOS = TimeUnit.SECONDS.toNanos(1);

    private static final long MAX_SECONDS = TimeUnit.NANOSECONDS.toSeconds(Long.MAX_VALUE) - 1;

    private static final int SLEW_DIVISOR = 8;

    /**
     * If two readings of the ticker are further apart than this (100 ms), the wall clock reading between them can't be
     * compared with them.
     */
    private static final long MAX_READING_GAP_NANOS = 100_000_000;

    private final Clock clock;
    private final @Nullable LongSupplier ticker;

    private final ReentrantLock lock = new ReentrantLock();
    private long tick;
    private Instant wall;
    private Instant steady;
    private Instant storeOpened;
    private final boolean grantsGrace;
    private boolean setBack;
    private final SkippedTime skipped = new SkippedTime();

    /**
     * Starts at the wall clock's current time.
     *
     * @param ticker nanoseconds that advance with real time; {@code null} to trust the clock
     * @param holding whether there is anything that may expire
     * @param lastUsed when the store was last in use; {@code null} if that is not known
     */
    SlewedClock(Clock clock, @Nullable LongSupplier ticker, boolean holding, @Nullable Instant lastUsed) {
        this.clock = clock;
        this.ticker = ticker;
        this.tick = ticker == null ? 0 : ticker.getAsLong();
        this.wall = clock.instant();
        this.steady = wall;
        this.storeOpened = wall;
        this.grantsGrace = holding;
        if (lastUsed != null && lastUsed.isBefore(wall)) {
            skipped.add(lastUsed, wall);
        }
    }

    /**
     * Records that the store could not be reached until now, so the time until now does not count: nothing could have
     * been sent.
     *
     * @param lastUsed when the store was last in use, by any instance; {@code null} if that is not known
     */
    void storeOpened(@Nullable Instant lastUsed) {
        lock.lock();
        try {
            readClocks();
            storeOpened = steady;
            if (lastUsed != null && lastUsed.isBefore(wall)) {
                skipped.forgetAfter(lastUsed);
                skipped.add(lastUsed, wall);
            }
        } finally {
            lock.unlock();
        }
    }

    /** Both times at one moment. */
    record Reading(Instant wall, Instant steady) {}

    Reading read() {
        lock.lock();
        try {
            readClocks();
            return new Reading(wall, steady);
        } finally {
            lock.unlock();
        }
    }

    Instant wall() {
        return read().wall();
    }

    Instant steady() {
        return read().steady();
    }

    /** The time limit of a TTL: what began before the result has outlived it. */
    Instant expiryCutoff(Duration ttl) {
        lock.lock();
        try {
            readClocks();
            Duration running = Duration.between(storeOpened, steady);
            if (wall.isBefore(FIRST_PLAUSIBLE)
                    || (grantsGrace && running.compareTo(ttl) < 0 && running.compareTo(EXPIRY_GRACE) < 0)) {
                return Instant.MIN;
            }
            return Times.before(wall.minus(skipped.within(ttl, wall)), ttl);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Whether times taken from the wall clock may now be in its future: it has been set back since the last call, or
     * {@link #steady()} is still ahead of it.
     */
    boolean isWallBehind() {
        lock.lock();
        try {
            readClocks();
            boolean behind = setBack || nanosBetween(wall, steady) > JUMP_NANOS;
            setBack = false;
            return behind && !wall.isBefore(FIRST_PLAUSIBLE);
        } finally {
            lock.unlock();
        }
    }

    private void readClocks() {
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
            // Repeats if this thread was suspended between the readings.
        } while (after - before > MAX_READING_GAP_NANOS && ++looks < 3);
        long passed = Math.max(0, after - tick);
        Instant expected = wall.plusNanos(passed);
        long off = nanosBetween(expected, now);
        if (off > JUMP_NANOS) {
            skipped.add(expected, now);
        } else if (off < -JUMP_NANOS) {
            setBack = true;
            skipped.forgetAfter(now);
        }
        tick = after;
        wall = now;
        Instant advanced = steady.plusNanos(passed);
        long behind = nanosBetween(advanced, now);
        long most = passed / SLEW_DIVISOR;
        steady = Math.abs(behind) <= most ? now : advanced.plusNanos(behind > 0 ? most : -most);
    }

    /** This is called for each batch, so it does without {@link Duration}. At most 292 years either way. */
    private static long nanosBetween(Instant from, Instant to) {
        long seconds = to.getEpochSecond() - from.getEpochSecond();
        if (Math.abs(seconds) > MAX_SECONDS) {
            return seconds > 0 ? Long.MAX_VALUE : -Long.MAX_VALUE;
        }
        return TimeUnit.SECONDS.toNanos(seconds) + to.getNano() - from.getNano();
    }
}
