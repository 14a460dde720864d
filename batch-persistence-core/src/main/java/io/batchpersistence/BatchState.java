package io.batchpersistence;

/** Where an undelivered batch is on its way. */
public enum BatchState {
    /** Somebody is sending it now; ends by a mark, or after the batch timeout, which counts as a failed attempt. */
    IN_FLIGHT,
    /** Waits for its next attempt. */
    PENDING,
    /** Given up: retries used up, or permanently rejected. Kept and replayable until the dead letter TTL. */
    DEAD
}
