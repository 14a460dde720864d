package io.batchpersistence.engine;

import io.batchpersistence.BatchPersistenceException;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Logs that a store can't be reached: when that begins, once a minute while it lasts, and when it is over. Rounds run
 * every second and call the store several times, which would otherwise fill the log with the same stack trace.
 * Thread-safe.
 */
final class ThrottledFailureLog {

    private static final Duration MIN_INTERVAL = Duration.ofMinutes(1);

    private final Logger log;
    private final SlewedClock clock;

    private final ReentrantLock lock = new ReentrantLock();
    // Guarded by the lock.
    private @Nullable Instant lastLogged;
    private long failures;
    private volatile boolean silent;

    /**
     * Starts without failures.
     *
     * @param log where to log
     * @param clock tells the time
     */
    ThrottledFailureLog(Logger log, SlewedClock clock) {
        this.log = log;
        this.clock = clock;
    }

    /** From now on failures are to be expected: the store is about to be closed. */
    void silence() {
        silent = true;
    }

    /** Runs a part of a round. If it fails, the next round repeats it; nothing may propagate to the scheduler. */
    void guard(String what, Runnable part) {
        try {
            part.run();
        } catch (BatchPersistenceException e) {
            if (!silent) {
                failed(what, e);
            }
        } catch (Throwable e) {
            // Throwable, because languages other than Java throw undeclared checked exceptions.
            if (!silent) {
                log.error("recovery: {} failed; it is tried again in the next round", what, e);
            }
        }
    }

    /** How often the store has failed so far; if a round does not change this, the store works. */
    long failures() {
        lock.lock();
        try {
            return failures;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Records that the store failed.
     *
     * @param what the operation that failed
     * @param failure the store's exception
     */
    void failed(String what, BatchPersistenceException failure) {
        Instant now = clock.steady();
        lock.lock();
        try {
            failures++;
            if (lastLogged != null && now.isBefore(lastLogged.plus(MIN_INTERVAL))) {
                return;
            }
            lastLogged = now;
        } finally {
            lock.unlock();
        }
        log.warn("recovery: {} failed, and is tried again in every round: {}", what, failure.getMessage());
        log.debug("recovery: {} failed", what, failure);
    }

    /**
     * Records the end of a round.
     *
     * @param before {@link #failures()} before the round
     */
    void roundEnded(long before) {
        lock.lock();
        try {
            if (lastLogged == null || failures != before) {
                return;
            }
            lastLogged = null;
        } finally {
            lock.unlock();
        }
        log.info("recovery: the store works again");
    }
}
