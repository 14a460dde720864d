package io.batchpersistence.jdbc;

import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.spi.Threads;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * A thread that repeats a step until the step reports that it was the last one. No throwable ends it, not even an
 * Error: leases, callers and batches depend on this thread. Thread-safe.
 */
final class Worker {

    /** The repeated step. It blocks by itself until there is something to do. */
    @FunctionalInterface
    interface Step {
        /** Runs the step once, and returns whether to continue. */
        boolean run() throws Exception;
    }

    /** Pause after a failure, so that a repeating failure does not keep a processor busy. */
    private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(10);

    private final String name;
    private final Step step;
    private final Consumer<Throwable> failed;
    private final Thread thread;
    private volatile boolean started;
    private volatile boolean over;

    /**
     * Creates a worker; {@link #start} starts it.
     *
     * @param threads creates the thread
     * @param name the thread's name
     * @param step the step to repeat
     * @param failed receives what a step threw; may throw itself, as logging does when memory is short
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

    /** Why the worker is dead although it was not ended; {@code null} if all is well. */
    @Nullable
    String problem() {
        return started && !over && !thread.isAlive()
                ? "the thread " + name + " is gone; restart the application"
                : null;
    }

    /**
     * Waits until the worker has ended. Returns whether the calling thread was interrupted meanwhile; its flag is
     * cleared.
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
            // The failure could not be reported either.
        }
        LockSupport.parkNanos(PAUSE_NANOS);
    }
}
