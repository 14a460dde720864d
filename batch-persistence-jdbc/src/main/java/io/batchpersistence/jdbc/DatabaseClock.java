package io.batchpersistence.jdbc;

import io.batchpersistence.internal.spi.SkippedTime;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * Compares the database's clock, which an administrator, NTP or a failover can step, with this process's ticker, which
 * nothing can step. Times and periods are in milliseconds, values of the ticker in nanoseconds. Thread-safe.
 *
 * <p>Each heartbeat reads the clock. Between two readings, {@link #now} advances with the ticker. Times are written by
 * it, so that a step of the clock that is undone before the next reading has no effect. A check for expiry that
 * compares with both this time and the statement's own is not misled by a step either. If a reading differs by more
 * than a second from what the ticker predicts, and this machine's clock does not agree with the reading, it is accepted
 * only once the difference has lasted for a while: otherwise instances that see a step and those that do not would
 * write times that look very old to each other. An accepted difference means that the clock was stepped:
 *
 * <ul>
 *   <li>Ahead, or this process was suspended: the skipped time makes nothing older ({@link #cutoff}), ends no lease
 *       that was taken before ({@link #withoutSkipped}), and other instances get the time to renew their leases
 *       ({@link #steppedAheadWithin}).
 *   <li>Back: what was written before lies in the future now, and has to be corrected; see {@link #setBackFrom}.
 * </ul>
 */
final class DatabaseClock {

    private static final long TOLERANCE_MILLIS = 1_000;

    /**
     * A reading of the database's clock.
     *
     * @param before the ticker before the query
     * @param after the ticker after the answer
     * @param wall this machine's clock at that time, milliseconds
     */
    private record Reading(long before, long millis, long after, long wall) {}

    /**
     * A difference between the clock and the ticker that is not accepted yet.
     *
     * @param millis by how much the clock is ahead of what was expected; negative if it is behind
     * @param since the ticker when it was first seen
     */
    private record Suspicion(long millis, long since) {}

    private final long confirmedAfter;

    private @Nullable Reading last;
    private @Nullable Suspicion suspicion;

    private final SkippedTime skipped = new SkippedTime();

    private boolean everSteppedAhead;
    private long lastStepTick;
    private @Nullable Long setBackFrom;

    /** Creates a clock that has not been read yet, and accepts a step after so many nanoseconds. */
    DatabaseClock(long confirmedAfter) {
        this.confirmedAfter = confirmedAfter;
    }

    /**
     * Records a reading of the clock.
     *
     * @param before the ticker before the query, nanoseconds
     * @param millis the database's answer
     * @param after the ticker after the answer
     * @param wall this machine's clock, milliseconds
     * @return whether the reading is accepted
     */
    synchronized boolean read(long before, long millis, long after, long wall) {
        Reading previous = last;
        if (previous != null && previous.before() - before > 0) {
            // Two threads read the clock, and this one was overtaken.
            return false;
        }
        if (previous != null) {
            long earliest = previous.millis() + TimeUnit.NANOSECONDS.toMillis(before - previous.after());
            long latest = previous.millis() + TimeUnit.NANOSECONDS.toMillis(after - previous.before());
            long difference = millis > latest + TOLERANCE_MILLIS
                    ? millis - latest
                    : millis < earliest - TOLERANCE_MILLIS ? millis - earliest : 0;
            if (difference != 0 && !isConfirmed(difference, previous, millis, wall, after)) {
                return false;
            }
            if (difference > 0) {
                skipped.add(Instant.ofEpochMilli(latest), Instant.ofEpochMilli(millis));
                everSteppedAhead = true;
                lastStepTick = after;
            } else if (difference < 0) {
                skipped.forgetAfter(Instant.ofEpochMilli(millis));
                setBackFrom = setBackFrom == null ? earliest : (Long) Math.max(setBackFrom, earliest);
            }
        }
        suspicion = null;
        last = new Reading(before, millis, after, wall);
        return true;
    }

    /**
     * Whether a difference is accepted. If this machine's clock advanced as the database's did, it was the ticker that
     * stood still, in a suspended machine.
     */
    private boolean isConfirmed(long difference, Reading previous, long millis, long wall, long tick) {
        if (Math.abs((millis - previous.millis()) - (wall - previous.wall())) <= TOLERANCE_MILLIS) {
            return true;
        }
        Suspicion before = suspicion;
        if (before == null || Math.abs(difference - before.millis()) > TOLERANCE_MILLIS) {
            suspicion = new Suspicion(difference, tick);
            return false;
        }
        return tick - before.since() >= confirmedAfter;
    }

    /**
     * Whether this machine's clocks, the ticker and the wall clock, disagree on how long ago the database's clock was
     * read: then it must be read again before {@link #now} is relied on.
     */
    synchronized boolean isDoubtful(long tick, long wall) {
        Reading reading = last;
        return reading == null
                || Math.abs((wall - reading.wall()) - TimeUnit.NANOSECONDS.toMillis(tick - reading.after()))
                        > TOLERANCE_MILLIS;
    }

    /**
     * Starts from a later time that another instance has seen than the first reading here: until that reading is
     * confirmed, the other instance's time counts.
     */
    synchronized void beginsAt(long millis) {
        Reading first = last;
        if (first != null && millis > first.millis() + TOLERANCE_MILLIS) {
            last = new Reading(first.before(), millis, first.after(), first.wall());
        }
    }

    /** The latest time that the clock showed before it was set back; {@code null} if there is nothing to correct. */
    @Nullable
    synchronized Long setBackFrom() {
        return setBackFrom;
    }

    /** Notes that everything written before the clock was set back from that time has been corrected. */
    synchronized void corrected(long from) {
        if (setBackFrom != null && setBackFrom <= from) {
            setBackFrom = null;
        }
    }

    /** The clock's time, as far as is known; the distant past if it has never been read. */
    synchronized long now(long tick) {
        Reading reading = last;
        return reading == null
                ? Long.MIN_VALUE / 4
                : reading.millis() + TimeUnit.NANOSECONDS.toMillis(Math.max(0, tick - reading.after()));
    }

    /**
     * Returns the time before which something must have begun to be older than an age, if skipped time does not count;
     * now is the clock's time, see {@link #now}.
     */
    long cutoff(long age, long now) {
        return withoutSkipped(age, now) - age;
    }

    /** All time that was skipped, as far as is known, in milliseconds. */
    synchronized long skipped() {
        return skipped.total().toMillis();
    }

    /**
     * Returns now minus the time skipped lately: whatever has a deadline before the result, and lasts no longer than a
     * period, has ended, whether it began before or after the clock was stepped.
     *
     * @param period milliseconds, measured without skipped time
     * @param now the clock's time, see {@link #now}
     * @return milliseconds on the database's clock
     */
    synchronized long withoutSkipped(long period, long now) {
        return now
                - skipped.within(Duration.ofMillis(period), Instant.ofEpochMilli(now))
                        .toMillis();
    }

    /** Whether the clock was stepped ahead in the last so many nanoseconds. */
    synchronized boolean steppedAheadWithin(long nanos, long tick) {
        return everSteppedAhead && tick - lastStepTick < nanos;
    }
}
