package io.batchpersistence;

/**
 * Is told when batches are given up, and when collectors go and come back, soon after the fact. Called by one thread at a time,
 * which does nothing else meanwhile, in the order in which it happened; what it throws is logged and goes no further. While a
 * call does not return up to 10,000 announcements wait; more are only logged.
 */
public interface BatchListener {

    /**
     * A batch became a dead letter.
     *
     * @param batch with the reason
     */
    default void onDeadLettered(BatchSummary batch) {}

    /**
     * A batch outlived its TTL and is gone.
     *
     * @param batch as it was
     */
    default void onExpired(BatchSummary batch) {}

    /**
     * A batch was dropped for new ones, to make room or because dead letters have a bound of their own, and is gone.
     *
     * @param batch as it was
     */
    default void onEvicted(BatchSummary batch) {}

    /**
     * Bytes on disk were damaged and have been set aside.
     *
     * @param damage where, why, and what is known of the batches in it
     */
    default void onCorrupted(Corruption damage) {}

    /**
     * A collector is taken to be down: it is only probed from now on.
     *
     * @param outage with the reason
     */
    default void onOutageOpened(CollectorOutage outage) {}

    /**
     * That is over, see {@link CollectorOutage#answered()}.
     *
     * @param outage how long it was
     */
    default void onOutageClosed(CollectorOutage outage) {}
}
