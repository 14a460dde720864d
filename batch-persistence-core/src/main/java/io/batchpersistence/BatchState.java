package io.batchpersistence;

/** The state of an undelivered batch. */
public enum BatchState {
    /** Being sent now; ends with a mark, or after the batch timeout, which counts as a failed attempt. */
    IN_FLIGHT,
    /** Waits for its next attempt. */
    PENDING,
    /** Given up: retries used up, or permanently rejected. Kept and replayable until the dead letter TTL. */
    DEAD
}
