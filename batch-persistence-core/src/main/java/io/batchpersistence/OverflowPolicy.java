package io.batchpersistence;

/** What happens to a new batch when the store is full. */
public enum OverflowPolicy {
    /** It is refused with a {@link BatchRejectedException}; the caller still owns it. */
    REJECT,
    /** The caller waits for room up to the overflow timeout, then the batch is refused. */
    BLOCK,
    /**
     * The oldest batches that are not in flight, dead letters included, are dropped to make room; each is counted and
     * announced.
     */
    DROP_OLDEST
}
