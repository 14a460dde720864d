package io.batchpersistence.internal.store;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** Keeps work that is in nobody's way from taking the disk away from those who wait for it. For one thread. */
final class Throttle {

    private static final long SLICE_NANOS = TimeUnit.MILLISECONDS.toNanos(50);

    private final double nanosPerByte;
    private long freeAtNanos = System.nanoTime();

    /**
     * Begins.
     *
     * @param bytesPerSecond at most
     */
    Throttle(long bytesPerSecond) {
        nanosPerByte = 1e9 / bytesPerSecond;
    }

    /**
     * Waits until these bytes were worth their time.
     *
     * @param bytes done
     * @param meanwhile called now and then; may throw to end it
     */
    void await(long bytes, Runnable meanwhile) {
        freeAtNanos += (long) (bytes * nanosPerByte);
        long left;
        while ((left = freeAtNanos - System.nanoTime()) > SLICE_NANOS / 10) {
            LockSupport.parkNanos(Math.min(left, SLICE_NANOS));
            meanwhile.run();
        }
    }
}
