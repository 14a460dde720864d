package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch became a dead letter: its retries are used up, or it was rejected. It is kept, and can be replayed, until
 * {@code dead_letter_ttl}.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class BatchDeadLetteredEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * Creates an event for one batch.
     *
     * @param source the publisher of the event
     * @param batch the batch, without its entries
     */
    public BatchDeadLetteredEvent(Object source, BatchSummary batch) {
        super(source);
        this.batch = batch;
    }

    /**
     * Returns the batch.
     *
     * @return the batch, without its entries, with the failure reason
     */
    public BatchSummary batch() {
        return batch;
    }
}
