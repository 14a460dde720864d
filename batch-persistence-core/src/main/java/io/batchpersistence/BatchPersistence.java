package io.batchpersistence;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * Keeps batches of log entries until they are delivered. Thread-safe.
 *
 * <p>Write-ahead: persist a batch, send it, mark it. What is not marked delivered is tried again, with backoff, also after a
 * restart:
 *
 * <pre>{@code
 * persistence.persistBatch(id, entries, "loki");
 * try {
 *     loki.push(entries);
 *     persistence.markBatchSuccess(id);
 * } catch (IOException e) {
 *     persistence.markBatchFailed(id, e.toString());
 * }
 * }</pre>
 *
 * <p>Every method throws {@link IllegalStateException} after {@link #close()}, and {@link BatchPersistenceException} when the
 * store fails.
 */
public interface BatchPersistence extends AutoCloseable {

    /**
     * Persists a batch; durable when it returns (with {@code sync: always}). The batch is then in flight: the caller sends
     * and marks it within the batch timeout.
     *
     * @param batchId any non-blank text of at most 255 characters, not held at the moment
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @throws IllegalArgumentException if an argument is not as said, or the batch is larger than a record can be
     * @throws DuplicateBatchException if the id is already held
     * @throws BatchRejectedException if the store is full
     * @throws BatchPersistenceException if it could not be written; it may be tried again
     */
    default void persistBatch(String batchId, List<LogEntry> entries, String collectorType) {
        persistBatch(batchId, entries, collectorType, Map.of());
    }

    /**
     * The same, with a context that is given back with the batch.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context free text the application wants back, for instance a tenant; at most 65,536 characters in all
     */
    void persistBatch(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * The same without waiting for the disk. The batch is encoded, and with the overflow policy {@code block} waits for
     * room, on the calling thread.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @return completed when the batch is durable, or with the exception that {@code persistBatch} would throw; never
     *     thrown from this call itself. What depends on it may block and may call this object
     */
    default CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType) {
        return persistBatchAsync(batchId, entries, collectorType, Map.of());
    }

    /**
     * The same, with a context.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context as above
     * @return as above
     */
    CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Persists a batch and leaves sending it to recovery. It does not time out, since nobody has it in hand. In a transaction that the
     * batch becomes part of, recovery sees it when that is committed, and looks for it in its next round, or when
     * {@link #recoverSoon} is called.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context as above
     */
    default void persistUnsent(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        persistBatch(batchId, entries, collectorType, context);
        releaseBatch(batchId);
    }

    /**
     * Has recovery look for what is due for a collector type now rather than in its next round. Waits for nothing, and may be called
     * as often as one likes.
     *
     * @param collectorType the destination's name
     */
    default void recoverSoon(String collectorType) {}

    /**
     * Persist, send, mark in one call: the batch is persisted and then sent on this thread, unless its collector is taken to
     * be down, has asked to come back later, or has had as many batches as it may get at the moment; then recovery sends it.
     *
     * @param batchId as above
     * @param entries as above
     * @param collectorType as above
     * @param context as above
     * @param sender sends the batch
     * @return what became of it; a failure to send is in there, and not thrown
     * @throws IllegalArgumentException as above, as all that is thrown: the batch is not held then
     * @throws IllegalStateException also if this thread is in a transaction that the batch would be part of: it must not be sent
     *     before that is committed
     */
    DeliveryResult deliver(
            String batchId,
            List<LogEntry> entries,
            String collectorType,
            Map<String, String> context,
            BatchSender sender);

    /**
     * The collector has the batch: it is removed, whatever its state.
     *
     * @param batchId its id
     * @return {@code false} if no such batch is held; nothing changed
     */
    boolean markBatchSuccess(String batchId);

    /**
     * An attempt to send the batch failed: it becomes pending until its next attempt, or a dead letter if its retries are
     * used up.
     *
     * @param batchId its id
     * @param reason why, kept up to 1,000 characters
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    boolean markBatchFailed(String batchId, String reason);

    /**
     * The same with what the sender threw: {@link PermanentDeliveryException} makes the batch a dead letter at once, {@link
     * RetryAfterException} says when it is due again.
     *
     * @param batchId its id
     * @param cause why; its text becomes the reason
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    default boolean markBatchFailed(String batchId, Throwable cause) {
        return markBatchFailed(batchId, cause.toString());
    }

    /**
     * Gives a batch in flight back unsent, for recovery to send: it becomes pending and due at once. Not an attempt: nothing
     * is counted (where an implementation can't do better than this default, one failed attempt is).
     *
     * @param batchId its id
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    default boolean releaseBatch(String batchId) {
        return markBatchFailed(batchId, "handed to recovery unsent")
                && recover(BatchSelector.all().ids(batchId)) > 0;
    }

    /**
     * One round of recovery: batches in flight for too long fail, and every collector type's due batches are handed out as
     * its lane allows. Returns when that has been started, not when it has ended. Called regularly by a scheduler; calling
     * it more often does no harm.
     */
    void recover();

    /**
     * Makes pending batches due now, whatever their next attempt was to be, also those that automatic recovery leaves alone,
     * and starts a round of recovery. A collector that is down is probed at once.
     *
     * @param selector which of the pending batches
     * @return how many were made due
     */
    long recover(BatchSelector selector);

    /**
     * Removes what outlived its TTL and gives disk space back. Called regularly by a scheduler; calling it more often does no
     * harm.
     *
     * @return how many batches expired
     */
    long cleanup();

    /**
     * One batch with its entries.
     *
     * @param batchId its id
     * @return the batch, or empty if no such batch is held or its bytes turn out to be damaged (which is announced)
     */
    Optional<PersistedBatch> find(String batchId);

    /**
     * Batches without their entries. Reads one record's header a batch: use a limit.
     *
     * @param selector which; all states by default
     * @return a copy, in the selector's order
     */
    List<BatchSummary> list(BatchSelector selector);

    /**
     * Counts without reading anything from disk (unless ids are selected).
     *
     * @param selector which; all states by default
     * @return how many there are, at most the selector's limit
     */
    long count(BatchSelector selector);

    /**
     * What batches have failed of last, grouped by collector type and reason. Reads nothing from disk (unless ids are selected).
     *
     * @param selector which; all states by default, its limit is one for the groups
     * @return a copy, those with most batches first
     */
    List<FailureGroup> failures(BatchSelector selector);

    /**
     * Makes dead letters pending again, due at once, with a fresh retry budget and a fresh TTL.
     *
     * @param selector which of the dead letters
     * @return how many
     */
    default long replay(BatchSelector selector) {
        return replay(selector, 0);
    }

    /**
     * The same, but no more of them a second than that: they become due one after the other, in the selector's order.
     *
     * @param selector which of the dead letters
     * @param perSecond how many become due a second; 0 for all at once
     * @return how many
     * @throws IllegalArgumentException if the rate is negative, infinite or no number
     */
    long replay(BatchSelector selector, double perSecond);

    /**
     * Stops sending to a collector: nothing is handed out until {@link #resume}, also after a restart. Batches are persisted as
     * ever and wait; what is being sent is finished; the TTL goes on. Durable when it returns.
     *
     * @param collectorType its name
     * @return {@code false} if it was paused already
     * @throws IllegalArgumentException if no batch can have that collector type, see {@link #persistBatch}
     */
    boolean pause(String collectorType);

    /**
     * Goes on sending to a collector. Durable when it returns.
     *
     * @param collectorType its name
     * @return {@code false} if it was not paused
     * @throws IllegalArgumentException if no batch can have that collector type, see {@link #persistBatch}
     */
    boolean resume(String collectorType);

    /**
     * What is paused.
     *
     * @return names of collector types
     */
    Set<String> pausedCollectorTypes();

    /**
     * Removes batches on an operator's request, counted as discarded. Those in flight only if the selector names that state.
     *
     * @param selector which; pending ones and dead letters by default
     * @return how many
     */
    long discard(BatchSelector selector);

    /**
     * What is held, and what has become of the rest.
     *
     * @return a snapshot
     */
    BatchStats stats();

    /** Stops handing out, waits briefly for what is being handed out, and closes the store. Closing twice does nothing. */
    @Override
    void close();
}
