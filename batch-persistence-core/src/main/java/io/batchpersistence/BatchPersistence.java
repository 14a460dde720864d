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
 * <p>Write-ahead: persist a batch, send it, mark it. A batch that is not marked delivered is tried again with backoff,
 * also after a restart:
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
 * <p>Every method except {@link #lanes} and {@link #counters} throws {@link IllegalStateException} after {@link
 * #close()}, and {@link BatchPersistenceException}
 * when the store fails.
 */
public interface BatchPersistence extends AutoCloseable {

    /**
     * Persists a batch; durable when it returns, if the store is configured so. The batch is then in flight: the caller
     * sends and marks it within the batch timeout.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @throws IllegalArgumentException if an argument violates these rules, or the batch is larger than a record can be
     * @throws DuplicateBatchException if the id is already held
     * @throws BatchRejectedException if the store is full
     * @throws BatchPersistenceException if it could not be written; the call may be repeated
     */
    default void persistBatch(String batchId, List<LogEntry> entries, String collectorType) {
        persistBatch(batchId, entries, collectorType, Map.of());
    }

    /**
     * Persists a batch with a context that is returned with the batch.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @param context free text the application wants back, for instance a tenant; at most 65,536 characters in all
     */
    void persistBatch(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Persists a batch without waiting for the disk. The batch is encoded on the calling thread, which with the
     * overflow policy {@link OverflowPolicy#BLOCK} also waits for room.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @return completed when the batch is durable, or exceptionally with what {@code persistBatch} would throw; this
     *     call itself never throws that. Dependent stages may block and may call this object
     */
    default CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType) {
        return persistBatchAsync(batchId, entries, collectorType, Map.of());
    }

    /**
     * Persists a batch with a context, without waiting for the disk.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @param context free text the application wants back, for instance a tenant; at most 65,536 characters in all
     * @return completed when the batch is durable, or exceptionally with what {@code persistBatch} would throw; this
     *     call itself never throws that. Dependent stages may block and may call this object
     */
    CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Persists a batch and leaves sending it to recovery. It does not time out, because no caller is sending it. If the
     * batch becomes part of a transaction, recovery sees it after the commit, and looks for it in its next round or
     * when {@link #recoverSoon} is called.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @param context free text the application wants back, for instance a tenant; at most 65,536 characters in all
     */
    void persistUnsent(String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context);

    /**
     * Makes recovery look for due batches of a collector type now rather than in its next round. Does not block, and
     * may be called any number of times.
     *
     * @param collectorType the destination's name
     */
    void recoverSoon(String collectorType);

    /**
     * Persists, sends and marks a batch in one call: the batch is persisted and then sent on this thread, unless its
     * collector is paused or marked down, is throttling, or has reached its rate limit; in that case recovery sends it.
     *
     * @param batchId any non-blank text of at most 255 characters that no held batch has
     * @param entries at least one
     * @param collectorType the destination's name, non-blank, at most 255 characters
     * @param context free text the application wants back, for instance a tenant; at most 65,536 characters in all
     * @param sender sends the batch
     * @return what became of the batch; a failure to send is reported here and not thrown
     * @throws IllegalArgumentException if an argument violates these rules, or the batch is larger than a record can
     *     be; whenever this method throws, the batch is not held
     * @throws IllegalStateException also if this thread is in a transaction that the batch would be part of: the batch
     *     must not be sent before the commit
     */
    DeliveryResult deliver(
            String batchId,
            List<LogEntry> entries,
            String collectorType,
            Map<String, String> context,
            BatchSender sender);

    /**
     * Marks a batch as delivered: it is removed, whatever its state.
     *
     * @param batchId its id
     * @return {@code false} if no such batch is held; nothing changed
     */
    boolean markBatchSuccess(String batchId);

    /**
     * Marks an attempt to send a batch as failed: the batch becomes pending until its next attempt, or a dead letter if
     * its retries are used up.
     *
     * @param batchId its id
     * @param reason why it failed; up to 1,000 characters are kept
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    boolean markBatchFailed(String batchId, String reason);

    /**
     * Marks an attempt to send a batch as failed with what the sender threw: {@link PermanentDeliveryException} makes
     * the batch a dead letter at once, {@link RetryAfterException} says when it is due again.
     *
     * @param batchId its id
     * @param cause what was thrown; its text becomes the reason
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    boolean markBatchFailed(String batchId, Throwable cause);

    /**
     * Returns a batch in flight unsent, for recovery to send: it becomes pending and due at once. This does not count
     * as an attempt.
     *
     * @param batchId its id
     * @return {@code false} if no such batch is in flight; nothing changed
     */
    boolean releaseBatch(String batchId);

    /**
     * Runs one round of recovery: batches that exceeded the batch timeout fail, and every collector type's due batches
     * are handed out as its lane allows. Returns when that has been started, not when it has finished. To be called
     * regularly by a scheduler; calling it more often is harmless.
     */
    void recover();

    /**
     * Makes pending batches due now, whenever their next attempt was scheduled, including those that automatic recovery
     * leaves alone, and starts a round of recovery. A collector that is down is probed at once.
     *
     * @param selector which of the pending batches
     * @return how many were made due
     */
    long recover(BatchSelector selector);

    /**
     * Removes batches that outlived their TTL and releases disk space. To be called regularly by a scheduler; calling
     * it more often is harmless.
     *
     * @return how many batches expired
     */
    long cleanup();

    /**
     * Returns one batch with its entries.
     *
     * @param batchId its id
     * @return the batch, or empty if no such batch is held or its bytes turn out to be damaged (which is announced)
     */
    Optional<PersistedBatch> find(String batchId);

    /**
     * Lists batches without their entries. Reads one record header per batch: use a limit.
     *
     * @param selector which batches; all states by default
     * @return a copy, in the selector's order
     */
    List<BatchSummary> list(BatchSelector selector);

    /**
     * Counts without reading anything from disk (unless ids are selected).
     *
     * @param selector which batches; all states by default
     * @return how many there are, at most the selector's limit
     */
    long count(BatchSelector selector);

    /**
     * Returns why batches failed last, grouped by collector type and reason. Reads nothing from disk (unless ids are
     * selected).
     *
     * @param selector which batches; all states by default. Its limit applies to the groups
     * @return a copy, groups with the most batches first
     */
    List<FailureGroup> failures(BatchSelector selector);

    /**
     * Makes dead letters pending again, due at once, with a fresh retry budget and a fresh TTL.
     *
     * @param selector which of the dead letters
     * @return how many became pending
     */
    default long replay(BatchSelector selector) {
        return replay(selector, 0);
    }

    /**
     * Makes dead letters pending again at a limited rate: they become due one after the other, in the selector's order,
     * with a fresh retry budget and a fresh TTL.
     *
     * @param selector which of the dead letters
     * @param perSecond how many become due per second; 0 for all at once
     * @return how many became pending
     * @throws IllegalArgumentException if the rate is negative, infinite or NaN
     */
    long replay(BatchSelector selector, double perSecond);

    /**
     * Stops sending to a collector: nothing is handed out until {@link #resume}, also after a restart. Batches are
     * still persisted and wait; sends in progress are completed; the TTL keeps running. Durable when it returns.
     *
     * @param collectorType its name
     * @return {@code false} if it was paused already
     * @throws IllegalArgumentException if no batch can have that collector type, see {@link #persistBatch}
     * @throws BatchPersistenceException if it could not be made durable; it may be in effect until a restart
     */
    boolean pause(String collectorType);

    /**
     * Resumes sending to a collector. Durable when it returns.
     *
     * @param collectorType its name
     * @return {@code false} if it was not paused
     * @throws IllegalArgumentException if no batch can have that collector type, see {@link #persistBatch}
     * @throws BatchPersistenceException if it could not be made durable; it may be in effect until a restart
     */
    boolean resume(String collectorType);

    /**
     * Returns what is paused.
     *
     * @return names of collector types
     */
    Set<String> pausedCollectorTypes();

    /**
     * Removes batches on an operator's request, counted as discarded. Batches in flight are removed only if the
     * selector names that state.
     *
     * @param selector which batches; pending ones and dead letters by default
     * @return how many were removed
     */
    long discard(BatchSelector selector);

    /**
     * Returns what is held, and what became of the rest.
     *
     * @return a snapshot
     */
    BatchStats stats();

    /**
     * Returns how each collector is served at the moment. Does not access the store.
     *
     * @return a snapshot by collector type, in alphabetical order; only those that hold batches, held some recently, or
     *     are paused
     */
    Map<String, LaneStatus> lanes();

    /**
     * Returns counters beyond the accounting of {@link #stats}. Does not access the store.
     *
     * @return a snapshot
     */
    EngineCounters counters();

    /**
     * Stops handing out batches, waits up to a limit for hand-overs in progress, and closes the store. Closing twice
     * has no effect.
     */
    @Override
    void close();
}
