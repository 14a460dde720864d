package io.batchpersistence.spring.event;

import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import java.time.Duration;
import org.springframework.context.ApplicationEvent;

/**
 * A batch is due and its collector type has no {@link io.batchpersistence.BatchSender}: the listeners of this event
 * must send it and report the outcome, now or later, on any thread.
 *
 * <pre>{@code
 * @EventListener
 * void send(RecoveredBatchEvent event) {
 *     client.sendAsync(event.batch().entries())
 *             .whenComplete((ok, failure) -> {
 *                 if (failure == null) event.acknowledge(); else event.fail(failure.toString());
 *             });
 * }
 * }</pre>
 *
 * <ul>
 *   <li>Returning does not acknowledge the batch: a listener that only observes can't delete it.
 *   <li>If no listener settles the batch, it stays in flight until {@code batch_timeout}, which counts as a failed
 *       attempt. A later acknowledgement is still accepted, since the collector has the batch.
 *   <li>If a listener throws, the attempt has failed, unless the batch was settled before. {@link
 *       io.batchpersistence.PermanentDeliveryException} and {@link io.batchpersistence.RetryAfterException} have the
 *       same meaning as for a sender.
 *   <li>The first call that settles the batch wins; later calls return {@code false} and change nothing.
 *   <li>Without a listener, nothing is published and nothing is counted. Only listeners for exactly this event count,
 *       not listeners for all events. A listener with a {@code condition} counts for every collector type: a batch that
 *       matches no condition times out like one that no listener settles.
 * </ul>
 *
 * <p>Published on a thread of recovery, at most {@code recovery.concurrency} at a time per collector type, including
 * events whose batches are not settled yet. Thread-safe.
 */
public final class RecoveredBatchEvent extends ApplicationEvent {

    private final transient RecoveredBatch recovered;

    /**
     * Creates an event for a batch that was handed out.
     *
     * @param source the publisher of the event
     * @param recovered the batch, and the way to settle it
     */
    public RecoveredBatchEvent(Object source, RecoveredBatch recovered) {
        super(source);
        this.recovered = recovered;
    }

    /**
     * Returns the batch.
     *
     * @return the batch, with its entries
     */
    public PersistedBatch batch() {
        return recovered.batch();
    }

    /**
     * Returns the destination's name.
     *
     * @return the batch's collector type
     */
    public String collectorType() {
        return recovered.batch().collectorType();
    }

    /**
     * Returns the number of this attempt.
     *
     * @return 1 for the first attempt
     */
    public int attempt() {
        return recovered.batch().attempt();
    }

    /**
     * Reports that the collector has the batch.
     *
     * @return whether this call settled the batch
     */
    public boolean acknowledge() {
        return recovered.acknowledge();
    }

    /**
     * Reports that the batch could not be sent now.
     *
     * @param reason why the attempt failed
     * @return whether this call settled the batch
     */
    public boolean fail(String reason) {
        return recovered.fail(reason);
    }

    /**
     * Reports that the collector asked to retry later.
     *
     * @param delay how long to wait, not negative
     * @param reason why the attempt failed
     * @return whether this call settled the batch
     */
    public boolean retryAfter(Duration delay, String reason) {
        return recovered.retryAfter(delay, reason);
    }

    /**
     * Reports that the collector will never accept the batch: it becomes a dead letter at once.
     *
     * @param reason why the batch was rejected
     * @return whether this call settled the batch
     */
    public boolean reject(String reason) {
        return recovered.reject(reason);
    }

    /**
     * Returns whether the batch has been settled.
     *
     * @return whether one of the settling calls has won
     */
    public boolean isSettled() {
        return recovered.isSettled();
    }
}
