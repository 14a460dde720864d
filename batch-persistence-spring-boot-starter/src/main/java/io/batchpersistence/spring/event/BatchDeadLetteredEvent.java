package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch became a dead letter: its retries are used up, or it was rejected. It is kept, and can be replayed, until
 * {@code dead_letter_ttl}.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
 */
public final class BatchDeadLetteredEvent extends ApplicationEvent {

    private final transient BatchSummary batch;

    /**
     * For one batch.
     *
     * @param source who publishes it
     * @param batch without its entries
     */
    public BatchDeadLetteredEvent(Object source, BatchSummary batch) {
        super(source);
        this.batch = batch;
    }

    /**
     * The batch.
     *
     * @return without its entries, with the reason
     */
    public BatchSummary batch() {
        return batch;
    }
}
