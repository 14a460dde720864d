package io.batchpersistence.internal.store;

/**
 * Counts what became of the batches of one collector type: the part of the accounting identity that can't be derived
 * from the batches held. Not thread-safe.
 */
final class Counters {

    long accepted;
    /** Since this process started; not part of the identity. */
    long failedAttempts;

    private final long[] gone = new long[Cause.values().length];

    void count(Cause cause, long batches) {
        gone[cause.id() - 1] += batches;
    }

    /** Adds the counters of another type, which is forgotten. */
    void add(Counters other) {
        accepted += other.accepted;
        failedAttempts += other.failedAttempts;
        for (int i = 0; i < gone.length; i++) {
            gone[i] += other.gone[i];
        }
    }

    long gone(Cause cause) {
        return gone[cause.id() - 1];
    }

    long gone() {
        long sum = 0;
        for (long count : gone) {
            sum += count;
        }
        return sum;
    }
}
