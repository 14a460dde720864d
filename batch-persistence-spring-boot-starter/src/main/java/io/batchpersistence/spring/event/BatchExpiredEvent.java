package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch outlived its TTL and is gone.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
 */
public final class BatchExpiredEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * For one batch.
     *
     * @param source who publishes it
     * @param batch without its entries
     */
    public BatchExpiredEvent(Object source, BatchSummary batch) {
        super(source);
        this.batch = batch;
    }

    /**
     * The batch.
     *
     * @return without its entries, as it was
     */
    public BatchSummary batch() {
        return batch;
    }
}
