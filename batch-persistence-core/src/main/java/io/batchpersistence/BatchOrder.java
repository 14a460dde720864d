package io.batchpersistence;

/** In which order batches of one collector type are taken, by the time they were persisted. */
public enum BatchOrder {
    /** First in, first out. */
    OLDEST_FIRST,
    /** Fresh batches before old ones: what is happening now is seen first after an outage. */
    NEWEST_FIRST
}
