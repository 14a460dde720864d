package io.batchpersistence.internal.spi;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * Creates threads, and waits for them.
 *
 * <p>Threads are created by whichever thread needs one first, that of a web request for instance, and live on. So they
 * inherit nothing from it: neither its {@link InheritableThreadLocal}s, which may say on whose behalf it acts, nor its
 * context class loader or priority.
 */
public final class Threads {

    private Threads() {}

    /** Creates a daemon thread of a store, which needs only the classes of this library. It is not started. */
    public static Thread ofStore(String name, Runnable task) {
        return of(name, Threads.class.getClassLoader(), task);
    }

    /**
     * Creates a daemon thread. It is not started.
     *
     * @param classes its context class loader: the application's, if it runs application code
     */
    // Not the priority of the thread that happens to create it.
    @SuppressWarnings("ThreadPriorityCheck")
    public static Thread of(String name, @Nullable ClassLoader classes, Runnable task) {
        Thread thread = new Thread(null, task, name, 0, false);
        thread.setDaemon(true);
        thread.setPriority(Thread.NORM_PRIORITY);
        thread.setContextClassLoader(classes);
        return thread;
    }

    /**
     * Runs something on a daemon thread of its own, because it may wait forever and can't be interrupted: a connection,
     * for instance. What is not done in time is left to that thread.
     *
     * @param patience how long to wait for it at most; an interrupt does not cut that short
     * @param task what it throws in time is thrown
     * @return whether it is done in time; {@code false} if there is no memory for a thread
     */
    public static boolean within(Duration patience, String name, Runnable task) {
        return within(patience, work -> ofStore(name, work), task);
    }

    static boolean within(Duration patience, Function<Runnable, Thread> threads, Runnable task) {
        AtomicReference<@Nullable Throwable> failure = new AtomicReference<>();
        Thread thread = threads.apply(() -> {
            try {
                task.run();
            } catch (Throwable e) {
                failure.set(e);
            }
        });
        try {
            thread.start();
        } catch (OutOfMemoryError e) {
            // Not on this thread: nothing could end it in time.
            return false;
        }
        if (!join(thread, patience)) {
            return false;
        }
        if (failure.get() instanceof RuntimeException e) {
            throw e;
        } else if (failure.get() instanceof Error e) {
            throw e;
        }
        return true;
    }

    private static boolean join(Thread thread, Duration patience) {
        long start = System.nanoTime();
        boolean interrupted = false;
        try {
            while (thread.isAlive()) {
                long left = patience.toNanos() - (System.nanoTime() - start);
                if (left <= 0) {
                    return false;
                }
                try {
                    TimeUnit.NANOSECONDS.timedJoin(thread, left);
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
            return true;
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /**
     * Waits until a thread has ended; an interrupt does not cut that short.
     *
     * @param thread not the calling one
     * @return whether the calling thread was interrupted meanwhile; its flag is cleared
     */
    public static boolean join(Thread thread) {
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                TimeUnit.SECONDS.timedJoin(thread, 1);
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        return interrupted;
    }
}
