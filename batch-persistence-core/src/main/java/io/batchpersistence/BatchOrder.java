package io.batchpersistence;

/** The order in which batches of one collector type are taken, by the time they were persisted. */
public enum BatchOrder {
    /** First in, first out. */
    OLDEST_FIRST,
    /** Newest batches first: after an outage, current events are seen first. */
    NEWEST_FIRST
}
