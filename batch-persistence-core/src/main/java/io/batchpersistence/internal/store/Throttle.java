package io.batchpersistence.internal.store;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** Keeps background work from taking the disk away from callers that wait for it. For one thread. */
final class Throttle {

    private static final long SLICE_NANOS = TimeUnit.MILLISECONDS.toNanos(50);

    private final double nanosPerByte;
    private long freeAtNanos = System.nanoTime();

    /**
     * Starts the throttle.
     *
     * @param bytesPerSecond limit on the rate
     */
    Throttle(long bytesPerSecond) {
        nanosPerByte = 1e9 / bytesPerSecond;
    }

    /**
     * Waits as long as these bytes take at the given rate.
     *
     * @param bytes done
     * @param meanwhile called once in a while; may throw to end the wait
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
