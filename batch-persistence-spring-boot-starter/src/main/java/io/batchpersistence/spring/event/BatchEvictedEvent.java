package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch was dropped to make room for new ones ({@code overflow_policy: drop_oldest}) and is gone.
 *
 * <p>Published on the thread that gave it up; what a listener throws is logged and goes no further.
 */
public final class BatchEvictedEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * For one batch.
     *
     * @param source who publishes it
     * @param batch without its entries
     */
    public BatchEvictedEvent(Object source, BatchSummary batch) {
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
