package io.batchpersistence.engine;

import io.batchpersistence.BatchPersistenceException;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Tells of a store that can't be reached: when that begins, once a minute while it lasts, and when it is over. A round comes every
 * second and asks it several things, which would fill the log with the same stack trace. Thread-safe.
 */
final class StoreTrouble {

    private static final Duration APART = Duration.ofMinutes(1);

    private final Logger log;

    private final ReentrantLock lock = new ReentrantLock();
    // guarded by the lock
    private @Nullable Instant told;
    private long failures;

    /**
     * Begins without trouble.
     *
     * @param log where it is told
     */
    StoreTrouble(Logger log) {
        this.log = log;
    }

    /** How often the store has failed so far; the same after a round as before it means that it works. */
    long failures() {
        lock.lock();
        try {
            return failures;
        } finally {
            lock.unlock();
        }
    }

    /**
     * The store has failed.
     *
     * @param what was being done
     * @param failure what the store said
     * @param now the time, on a clock that does not jump
     */
    void failed(String what, BatchPersistenceException failure, Instant now) {
        lock.lock();
        try {
            failures++;
            if (told != null && now.isBefore(told.plus(APART))) {
                return;
            }
            told = now;
        } finally {
            lock.unlock();
        }
        log.warn("recovery: {} failed, and is tried again in every round: {}", what, failure.getMessage());
        log.debug("recovery: {} failed", what, failure);
    }

    /**
     * A round is over.
     *
     * @param before the failures before it
     */
    void roundEnded(long before) {
        lock.lock();
        try {
            if (told == null || failures != before) {
                return;
            }
            told = null;
        } finally {
            lock.unlock();
        }
        log.info("recovery: the store works again");
    }
}
