package io.batchpersistence.spring.event;

import io.batchpersistence.BatchSummary;
import org.springframework.context.ApplicationEvent;

/**
 * A batch was dropped for new ones and is gone: to make room ({@code overflow_policy: drop_oldest}), or a dead letter because
 * of {@code max_dead_letter_usage}.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
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
