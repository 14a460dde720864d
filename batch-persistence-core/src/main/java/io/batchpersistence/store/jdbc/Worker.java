package io.batchpersistence.store.jdbc;

import io.batchpersistence.DeferredLog;
import io.batchpersistence.internal.store.Threads;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A thread that repeats a step until the step says that it was the last one. Nothing that a step throws ends it, not even an Error:
 * leases, callers and batches depend on it. Thread-safe.
 */
final class Worker {

    /** What is repeated. Waits by itself until there is something to do. */
    @FunctionalInterface
    interface Step {
        /**
         * Does it once.
         *
         * @return whether to go on
         */
        boolean run() throws Exception;
    }

    /** After a failure: one that comes again and again must not keep a processor busy. */
    private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(10);

    private final String name;
    private final Step step;
    private final Consumer<Throwable> failed;
    private final Thread thread;
    private volatile boolean started;
    private volatile boolean over;

    /**
     * Makes one that is to be started.
     *
     * @param threads makes the thread
     * @param name the thread's name
     * @param step what it repeats
     * @param failed is told what a step threw; may throw, too, as logging does when memory is short
     */
    Worker(Database.Threads threads, String name, Step step, Consumer<Throwable> failed) {
        this.name = name;
        this.step = step;
        this.failed = failed;
        this.thread = threads.make(this::repeat, name);
    }

    void start() {
        thread.start();
        started = true;
    }

    /** Whether the calling thread is the one that runs the steps. */
    boolean isCalling() {
        return Thread.currentThread() == thread;
    }

    /** Why it does nothing any more although nobody ended it; {@code null} if all is well. */
    @Nullable
    String problem() {
        return started && !over && !thread.isAlive()
                ? "the thread " + name + " is gone; restart the application"
                : null;
    }

    /**
     * Waits until it has ended.
     *
     * @return whether the calling thread was interrupted meanwhile; its flag is cleared
     */
    boolean join() {
        return started && Threads.join(thread);
    }

    private void repeat() {
        DeferredLog.storeThread();
        boolean goesOn = true;
        while (goesOn) {
            try {
                goesOn = step.run();
            } catch (Throwable e) {
                survive(e);
            }
        }
        over = true;
    }

    private void survive(Throwable failure) {
        try {
            failed.accept(failure);
        } catch (Throwable e) {
            // Nobody can be told.
        }
        LockSupport.parkNanos(PAUSE_NANOS);
    }
}
