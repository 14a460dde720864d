package io.batchpersistence;

/**
 * Is notified when batches are given up and when collectors go down and come back, shortly after it happened. Called by
 * one thread at a time, which does nothing else in the meantime, in the order of the events; what it throws is logged
 * and not propagated. While a call does not return, up to 10,000 announcements are queued; further ones are only
 * logged.
 */
public interface BatchListener {

    /**
     * A batch became a dead letter.
     *
     * @param batch the batch, with the reason
     */
    default void onDeadLettered(BatchSummary batch) {}

    /**
     * A batch outlived its TTL and is gone.
     *
     * @param batch the batch before its removal
     */
    default void onExpired(BatchSummary batch) {}

    /**
     * A batch was dropped in favour of newer ones, to make room or because dead letters have a limit of their own, and
     * is gone.
     *
     * @param batch the batch before its removal
     */
    default void onEvicted(BatchSummary batch) {}

    /**
     * Bytes on disk were damaged and have been set aside.
     *
     * @param damage where and why, and what is known about the batches in it
     */
    default void onCorrupted(Corruption damage) {}

    /**
     * A collector was marked down: it is only probed from now on.
     *
     * @param outage the outage, with the reason
     */
    default void onOutageOpened(CollectorOutage outage) {}

    /**
     * An outage is over, see {@link CollectorOutage#answered()}.
     *
     * @param outage the outage, with its duration
     */
    default void onOutageClosed(CollectorOutage outage) {}
}
