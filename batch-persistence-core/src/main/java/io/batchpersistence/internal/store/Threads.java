package io.batchpersistence.internal.store;

import java.util.concurrent.TimeUnit;

/** Waiting for threads. */
public final class Threads {

    private Threads() {}

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
