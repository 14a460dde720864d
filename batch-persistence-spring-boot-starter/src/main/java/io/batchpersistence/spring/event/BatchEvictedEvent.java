package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch was dropped in favour of new ones and is gone: to free space ({@code overflow_policy: drop_oldest}), or
 * because it is a dead letter and {@code max_dead_letter_usage} was exceeded.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class BatchEvictedEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * Creates an event for one batch.
     *
     * @param source the publisher of the event
     * @param batch the batch, without its entries
     */
    public BatchEvictedEvent(Object source, BatchSummary batch) {
        super(source);
        this.batch = batch;
    }

    /**
     * Returns the batch.
     *
     * @return the batch as it was before the eviction, without its entries
     */
    public BatchSummary batch() {
        return batch;
    }
}
