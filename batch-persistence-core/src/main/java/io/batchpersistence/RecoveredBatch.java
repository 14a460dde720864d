package io.batchpersistence;

import java.time.Duration;

/**
 * A batch handed out for an attempt, to be settled exactly once, by any thread: the first settling wins, later ones return
 * {@code false} and change nothing. Not settling it leaves it in flight until the batch timeout, which counts as a failed
 * attempt. Thread-safe.
 */
public interface RecoveredBatch {

    /**
     * The batch.
     *
     * @return with its entries
     */
    PersistedBatch batch();

    /**
     * How long it had been due when it was handed out: the lag of its lane. Time in which the application did not run does not
     * count.
     *
     * @return not negative; zero where that is not known
     */
    default Duration overdue() {
        return Duration.ZERO;
    }

    /**
     * The collector has it.
     *
     * @return whether this settled it
     */
    boolean acknowledge();

    /**
     * It could not be sent now.
     *
     * @param reason why
     * @return whether this settled it
     */
    boolean fail(String reason);

    /**
     * The collector asked to come back later.
     *
     * @param delay how long to wait, not negative
     * @param reason why
     * @return whether this settled it
     */
    boolean retryAfter(Duration delay, String reason);

    /**
     * The collector will never take it: a dead letter at once.
     *
     * @param reason why
     * @return whether this settled it
     */
    boolean reject(String reason);

    /**
     * Whether it has been settled through this object.
     *
     * @return whether a settling call has won
     */
    boolean isSettled();
}
