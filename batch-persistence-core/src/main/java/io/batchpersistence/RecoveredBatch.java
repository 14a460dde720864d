package io.batchpersistence;

import java.time.Duration;

/**
 * A batch handed out for an attempt, to be settled exactly once, by any thread: the first settling call wins, later
 * ones return {@code false} and change nothing. If it is not settled, it stays in flight until the batch timeout, which
 * counts as a failed attempt. Thread-safe.
 */
public interface RecoveredBatch {

    /**
     * Returns the batch.
     *
     * @return the batch with its entries
     */
    PersistedBatch batch();

    /**
     * Returns how long the batch had been due when it was handed out: the lag of its lane. Time during which the
     * application did not run does not count.
     *
     * @return the lag, not negative; zero if it is not known
     */
    default Duration overdue() {
        return Duration.ZERO;
    }

    /**
     * Reports that the collector has the batch.
     *
     * @return whether this settled it
     */
    boolean acknowledge();

    /**
     * Reports that the collector has the batch, like {@link #acknowledge}, and does not wait until a store that takes
     * long for that, such as one in a database, has recorded it: meanwhile the next batch can be sent. If it can't be
     * recorded, the batch is sent once more.
     */
    default void acknowledgeLater() {
        acknowledge();
    }

    /**
     * Reports that the batch could not be sent now.
     *
     * @param reason why
     * @return whether this settled it
     */
    boolean fail(String reason);

    /**
     * Reports that the collector asked to come back later.
     *
     * @param delay how long to wait, not negative
     * @param reason why
     * @return whether this settled it
     */
    boolean retryAfter(Duration delay, String reason);

    /**
     * Reports that the collector will never take the batch: it becomes a dead letter at once.
     *
     * @param reason why
     * @return whether this settled it
     */
    boolean reject(String reason);

    /**
     * Whether the batch has been settled through this object.
     *
     * @return whether a settling call succeeded
     */
    boolean isSettled();
}
