package io.batchpersistence.engine;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/** The threads that are claiming a batch or handing one over, so that the engine can wait for them. Thread-safe. */
final class Workers {

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition left = lock.newCondition();
    /** A thread is in here more than once if calls are nested. */
    private final List<Thread> workers = new ArrayList<>();

    private volatile boolean closing;

    boolean isClosing() {
        return closing;
    }

    /** Registers the calling thread; returns {@code false} once closed. */
    boolean enter() {
        lock.lock();
        try {
            return !closing && workers.add(Thread.currentThread());
        } finally {
            lock.unlock();
        }
    }

    void leave() {
        lock.lock();
        try {
            workers.remove(Thread.currentThread());
            left.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Lets no more threads begin. */
    void close() {
        lock.lock();
        try {
            closing = true;
        } finally {
            lock.unlock();
        }
    }

    /** Does not wait for the calling thread, in case a sender closes the engine that called it. */
    void await(Duration timeout) {
        lock.lock();
        try {
            long nanos = SpaceSignal.nanos(timeout);
            while (workers.stream().anyMatch(worker -> worker != Thread.currentThread()) && nanos > 0) {
                nanos = left.awaitNanos(nanos);
            }
        } catch (InterruptedException e) {
            // An interrupt means to hurry: go on with cutting off.
            Thread.currentThread().interrupt();
        } finally {
            lock.unlock();
        }
    }
}
