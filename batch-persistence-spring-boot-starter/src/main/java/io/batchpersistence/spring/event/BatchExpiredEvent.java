package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch outlived its TTL and is gone.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class BatchExpiredEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * Creates an event for one batch.
     *
     * @param source the publisher of the event
     * @param batch the batch, without its entries
     */
    public BatchExpiredEvent(Object source, BatchSummary batch) {
        super(source);
        this.batch = batch;
    }

    /**
     * Returns the batch.
     *
     * @return the batch as it was before it expired, without its entries
     */
    public BatchSummary batch() {
        return batch;
    }
}
