package io.batchpersistence.spring.event;

import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import java.time.Duration;
import org.springframework.context.ApplicationEvent;

/**
 * A batch is due and its collector type has no {@link io.batchpersistence.BatchSender}: the listeners of this event are asked
 * to send it and to say what became of it, now or later, on any thread.
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
 *   <li>Returning acknowledges nothing: a listener that only looks can't delete a batch.
 *   <li>Nobody settles it: it stays in flight until {@code batch_timeout}, which counts as a failed attempt. An acknowledgement
 *       that comes later still counts, since the collector has the batch.
 *   <li>A listener throws: the attempt has failed, unless it was settled before. {@link
 *       io.batchpersistence.PermanentDeliveryException} and {@link io.batchpersistence.RetryAfterException} mean what they mean
 *       for a sender.
 *   <li>The first to settle wins; later calls return {@code false} and change nothing.
 *   <li>No listener at all: nothing is published and nothing is counted. Only listeners for exactly this event are listeners in
 *       this sense, not those for any event. A listener with a {@code condition} is one for every collector type: a batch that
 *       no condition lets through times out like one that nobody settles.
 * </ul>
 *
 * <p>Published on a thread of recovery, at most {@code recovery.concurrency} at a time for a collector type, those that are not
 * settled included. Thread-safe.
 */
public final class RecoveredBatchEvent extends ApplicationEvent {

    private final transient RecoveredBatch recovered;

    /**
     * For a batch handed out.
     *
     * @param source who publishes it
     * @param recovered the batch and how to settle it
     */
    public RecoveredBatchEvent(Object source, RecoveredBatch recovered) {
        super(source);
        this.recovered = recovered;
    }

    /**
     * The batch.
     *
     * @return with its entries
     */
    public PersistedBatch batch() {
        return recovered.batch();
    }

    /**
     * The destination's name.
     *
     * @return the batch's collector type
     */
    public String collectorType() {
        return recovered.batch().collectorType();
    }

    /**
     * Which attempt this is.
     *
     * @return 1 for the first
     */
    public int attempt() {
        return recovered.batch().attempt();
    }

    /**
     * The collector has it.
     *
     * @return whether this settled it
     */
    public boolean acknowledge() {
        return recovered.acknowledge();
    }

    /**
     * It could not be sent now.
     *
     * @param reason why
     * @return whether this settled it
     */
    public boolean fail(String reason) {
        return recovered.fail(reason);
    }

    /**
     * The collector asked to come back later.
     *
     * @param delay how long to wait, not negative
     * @param reason why
     * @return whether this settled it
     */
    public boolean retryAfter(Duration delay, String reason) {
        return recovered.retryAfter(delay, reason);
    }

    /**
     * The collector will never take it: a dead letter at once.
     *
     * @param reason why
     * @return whether this settled it
     */
    public boolean reject(String reason) {
        return recovered.reject(reason);
    }

    /**
     * Whether it has been settled.
     *
     * @return whether a settling call has won
     */
    public boolean isSettled() {
        return recovered.isSettled();
    }
}
