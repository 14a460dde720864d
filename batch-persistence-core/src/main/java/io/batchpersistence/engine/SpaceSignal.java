package io.batchpersistence.engine;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Lets callers wait until something has been removed from the store. No signal is missed: {@link #await} returns at
 * once if {@link #signal} was called since {@link #removals} was read. {@link #signal} takes no lock while no caller waits.
 */
final class SpaceSignal {

    private final AtomicLong removals = new AtomicLong();
    private final AtomicInteger waiting = new AtomicInteger();
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition signal = lock.newCondition();

    /** How often room has been made; read it before trying to append. */
    long removals() {
        return removals.get();
    }

    int waiting() {
        return waiting.get();
    }

    void signal() {
        // Must come before the check for waiters, which register themselves before they read this counter.
        removals.incrementAndGet();
        if (waiting.get() > 0) {
            lock.lock();
            try {
                signal.signalAll();
            } finally {
                lock.unlock();
            }
        }
    }

    void await(long seenRemovals, long nanos) throws InterruptedException {
        waiting.incrementAndGet();
        try {
            lock.lockInterruptibly();
            try {
                long left = nanos;
                while (removals.get() == seenRemovals && left > 0) {
                    left = signal.awaitNanos(left);
                }
            } finally {
                lock.unlock();
            }
        } finally {
            waiting.decrementAndGet();
        }
    }

    /** The duration in nanoseconds, limited to what fits into a {@code long}. */
    static long nanos(Duration duration) {
        return TimeUnit.NANOSECONDS.convert(duration);
    }
}
