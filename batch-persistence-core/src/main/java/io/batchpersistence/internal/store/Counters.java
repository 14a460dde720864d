package io.batchpersistence.internal.store;

import io.batchpersistence.internal.spi.RemovalReason;

/**
 * Counts what became of the batches of one collector type: the part of the accounting identity that can't be derived
 * from the batches held. Not thread-safe.
 */
final class Counters {

    long accepted;
    /** Since this process started; not part of the identity. */
    long failedAttempts;

    private final long[] gone = new long[RemovalReason.values().length];

    void count(RemovalReason reason, long batches) {
        gone[reason.id() - 1] += batches;
    }

    /** Adds the counters of another type, which is forgotten. */
    void add(Counters other) {
        accepted += other.accepted;
        failedAttempts += other.failedAttempts;
        for (int i = 0; i < gone.length; i++) {
            gone[i] += other.gone[i];
        }
    }

    long gone(RemovalReason reason) {
        return gone[reason.id() - 1];
    }

    long gone() {
        long sum = 0;
        for (long count : gone) {
            sum += count;
        }
        return sum;
    }
}
