package io.batchpersistence.internal.store;

import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * Making threads, and waiting for them.
 *
 * <p>Threads are made by whatever thread needs one first, that of a web request for instance, and live on. So they inherit
 * nothing of it: neither its {@link InheritableThreadLocal}s, which may say on whose behalf it acts, nor its context class loader
 * or priority.
 */
public final class Threads {

    private Threads() {}

    /**
     * A daemon thread of a store, which needs no classes but those of this library.
     *
     * @param name its name
     * @param task what it runs
     * @return not yet started
     */
    public static Thread ofStore(String name, Runnable task) {
        return of(name, Threads.class.getClassLoader(), task);
    }

    /**
     * A daemon thread.
     *
     * @param name its name
     * @param classes its context class loader: the application's, if it runs code of it
     * @param task what it runs
     * @return not yet started
     */
    // The priority is not to be that of the thread that happens to make it.
    @SuppressWarnings("ThreadPriorityCheck")
    public static Thread of(String name, @Nullable ClassLoader classes, Runnable task) {
        Thread thread = new Thread(null, task, name, 0, false);
        thread.setDaemon(true);
        thread.setPriority(Thread.NORM_PRIORITY);
        thread.setContextClassLoader(classes);
        return thread;
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
