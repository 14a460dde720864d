package io.batchpersistence.spi;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * Stores batches: the SPI below {@link BatchPersistence}. A store knows states, times and limits, but makes no
 * decisions: its caller decides how long a lease is, when the next attempt is due and what is given up.
 *
 * <p>Contract, for every store:
 *
 * <ul>
 *   <li>When the future of {@link #append} completes normally, the batch is durable (as its settings promise); when it
 *       completes exceptionally, the batch is not held.
 *   <li>A batch is in exactly one state. Each method is atomic for each batch.
 *   <li>Batches that were in flight when a store was last used are pending and due at once when it is opened again.
 *   <li>Counters keep the accounting identity of {@link CollectorStats#isBalanced()}, across restarts.
 *   <li>Damage is reported once, and only the damaged batches are lost.
 *   <li>Thread-safe; interrupting a calling thread does not affect other callers.
 * </ul>
 *
 * <p>Methods throw {@link BatchPersistenceException} when the store fails and {@link IllegalStateException} once
 * closed.
 */
public interface BatchStore extends AutoCloseable {

    /**
     * Stores a batch, in flight until its lease ends. May be called while many other appends are in progress.
     *
     * @param batch the batch
     * @return completed when durable; exceptionally with {@link DuplicateBatchException}, {@link
     *     BatchRejectedException} (a limit is reached), {@link IllegalArgumentException} (too large for a record) or
     *     {@link BatchPersistenceException}. It may be completed by the thread that all appends wait for: dependent
     *     stages must neither block nor call the store, and must run the application's code on another thread
     */
    CompletableFuture<@Nullable Void> append(NewBatch batch);

    /**
     * Stores a batch and waits until it is durable: a store may do the work on the calling thread.
     *
     * @param batch the batch
     * @return a completed future, as {@link #append} describes
     */
    default CompletableFuture<@Nullable Void> appendAndWait(NewBatch batch) {
        CompletableFuture<@Nullable Void> done = append(batch);
        done.exceptionally(failure -> null).join();
        return done;
    }

    /**
     * Whether what the calling thread appends now becomes part of that thread's transaction, which may still be rolled
     * back: it must not be sent before the commit.
     *
     * @return {@code false} unless the store is in a database and configured for that
     */
    default boolean joinsTransaction() {
        return false;
    }

    /**
     * Stores a batch that only recovery sends, as a part of the calling thread's transaction: after the commit the
     * batch is pending. Called only if {@link #joinsTransaction} returns {@code true}.
     *
     * @param batch the batch; its lease is ignored
     * @param nextAttemptAt when it is due; {@code null}: not until it is rescheduled
     * @return a completed future, as {@link #append} describes
     */
    default CompletableFuture<@Nullable Void> appendUnsent(NewBatch batch, @Nullable Instant nextAttemptAt) {
        throw new UnsupportedOperationException("this store joins no transaction");
    }

    /**
     * Claims due batches of one collector type: pending ones whose next attempt is not after {@code now} become in
     * flight.
     *
     * @param collectorType their collector type
     * @param order which of the due batches come first
     * @param now the time
     * @param leaseUntil until when they are in flight
     * @param max maximum number
     * @return the claims; a batch found to be damaged is reported and left out
     */
    List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max);

    /**
     * A claimed batch.
     *
     * @param batch the batch
     * @param fence identifies this claim; settling with another fence has no effect (stale claims are fenced)
     * @param due since when it has been due; {@code null} if that is not known
     */
    record Claim(PersistedBatch batch, long fence, @Nullable Instant due) {

        /** Creates a claim for which it is not known since when it was due. */
        public Claim(PersistedBatch batch, long fence) {
            this(batch, fence, null);
        }
    }

    /** The fence to settle with when the claim is not known: matches any holder. */
    long ANY_FENCE = 0;

    /**
     * Returns batches in flight whose lease has ended.
     *
     * @param now the time
     * @param max maximum number
     * @return ids and fences of batches whose lease ended before {@code now}; they stay in flight until settled
     */
    List<Lease> timedOut(Instant now, int max);

    /**
     * A batch in flight.
     *
     * @param batchId its id
     * @param collectorType its collector type
     * @param fence identifies the claim
     */
    record Lease(String batchId, String collectorType, long fence) {}

    /**
     * Removes a batch as delivered, whatever its state.
     *
     * @param batchId its id
     * @return the batch as it was, or {@code null} if it is not held
     */
    @Nullable
    Settled delivered(String batchId);

    /**
     * Removes a batch as delivered, like {@link #delivered}. A store whose marks take long, because they wait for a
     * commit, need not wait for it here: its callers go on meanwhile.
     *
     * @param batchId its id
     * @return completed with what {@link #delivered} returns, or exceptionally with what it throws, perhaps by the
     *     thread that all marks wait for
     */
    default CompletableFuture<@Nullable Settled> deliveredLater(String batchId) {
        return CompletableFuture.completedFuture(delivered(batchId));
    }

    /**
     * Ends an attempt that failed.
     *
     * @param batchId its id
     * @param fence the claim, or {@link #ANY_FENCE}
     * @param reason why
     * @param at when
     * @param decision decides what becomes of it; called at most once, must be quick and must not call other components
     * @return the batch as it is now, or {@code null} if it is not in flight with that fence
     */
    @Nullable
    Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision);

    /**
     * Returns a batch that was not sent: it becomes pending, and no attempt is recorded.
     *
     * @param batchId its id
     * @param due when it is due, by collector type; empty: not until it is rescheduled; must be quick and must not call
     *     other components
     * @return the batch as it is now, or {@code null} if it is not in flight
     */
    @Nullable
    Settled released(String batchId, Function<String, Optional<Instant>> due);

    /** Decides what becomes of a batch whose attempt failed. */
    @FunctionalInterface
    interface FailureDecision {
        /**
         * Decides.
         *
         * @param collectorType the batch's collector type
         * @param retryCount counted failures before this one
         * @return what becomes of the batch
         */
        Verdict decide(String collectorType, int retryCount);
    }

    /**
     * What becomes of a batch whose attempt failed.
     *
     * @param dead whether it becomes a dead letter
     * @param nextAttemptAt when it is due if not dead; {@code null}: not until it is rescheduled
     * @param retryCount counted failures from now on
     */
    record Verdict(boolean dead, @Nullable Instant nextAttemptAt, int retryCount) {}

    /**
     * A batch after it was settled.
     *
     * @param collectorType the batch's collector type
     * @param createdAt when it was persisted
     * @param retryCount counted failures
     * @param state its state now; {@code null} if it is gone
     */
    record Settled(
            String collectorType,
            Instant createdAt,
            int retryCount,
            @Nullable BatchState state) {}

    /**
     * Changes when pending batches are due.
     *
     * @param selector which of the pending batches
     * @param now the time ages are measured from
     * @param nextAttemptAt when they are due; {@code null}: not until they are rescheduled again
     * @return how many were changed
     */
    long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt);

    /**
     * Makes pending batches without a due time (held back from automatic recovery) due at that time.
     *
     * @param nextAttemptAt when
     * @return how many were changed
     */
    long releaseHeld(Instant nextAttemptAt);

    /**
     * Makes dead letters pending, resetting their failure count and their age.
     *
     * @param selector which of the dead letters
     * @param now the time; they are due at once
     * @return how many were changed
     */
    default long replay(BatchSelector selector, Instant now) {
        return replay(selector, now, Duration.ZERO);
    }

    /**
     * Makes dead letters pending, resetting their failure count and their age, so that they become due one after the
     * other.
     *
     * @param selector which of the dead letters
     * @param now the time
     * @param apart the interval: the first is due at once, each other this long after the one before it, in the
     *     selector's order
     * @return how many were changed
     */
    long replay(BatchSelector selector, Instant now, Duration apart);

    /**
     * Stores, across restarts, whether an operator has paused a collector type. This does not change how the store
     * behaves. Durable when it returns.
     *
     * @param collectorType its name; need not be known
     * @param paused whether it is paused from now on
     * @return whether this changed anything
     * @throws IllegalArgumentException see {@link NewBatch#checkedCollectorType}
     * @throws io.batchpersistence.BatchPersistenceException if it could not be made durable; it may be in effect until a
     *     restart
     */
    boolean pause(String collectorType, boolean paused);

    /**
     * Returns the collector types that are paused.
     *
     * @return a copy
     */
    Set<String> pausedCollectorTypes();

    /**
     * Removes batches, counted as discarded.
     *
     * @param selector which batches; names its states
     * @param now the time ages are measured from
     * @return how many were removed
     */
    long discard(BatchSelector selector, Instant now);

    /**
     * Removes pending batches and dead letters of one collector type that are too old, counted as expired.
     *
     * @param collectorType their collector type
     * @param pendingBefore pending batches persisted (or replayed) before this
     * @param deadBefore dead letters given up before this
     * @param max maximum number
     * @return the batches before their removal
     */
    List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max);

    /**
     * Removes the oldest batches that are not in flight, counted as evicted, to make room.
     *
     * @param max maximum number
     * @return the batches before their removal; empty if everything held is in flight
     */
    List<BatchSummary> evictOldest(int max);

    /**
     * Removes the dead letters that were given up first, counted as evicted, while all dead letters together exceed a
     * limit. Costs nothing while they don't.
     *
     * @param mostBytes the limit, in bytes
     * @param max maximum number to remove
     * @return the batches before their removal
     */
    List<BatchSummary> evictDeadLetters(long mostBytes, int max);

    /**
     * Returns one batch with its entries.
     *
     * @param batchId its id
     * @return the batch
     */
    Optional<PersistedBatch> find(String batchId);

    /**
     * Lists batches without their entries.
     *
     * @param selector which batches; no states named means all
     * @param now the time ages are measured from
     * @return a copy, in the selector's order
     */
    List<BatchSummary> list(BatchSelector selector, Instant now);

    /**
     * Counts batches.
     *
     * @param selector which batches; no states named means all
     * @param now the time ages are measured from
     * @return how many, at most the selector's limit
     */
    long count(BatchSelector selector, Instant now);

    /**
     * Returns batches that have failed, grouped by collector type and reason.
     *
     * @param selector which batches; its order is ignored, its limit applies to the groups; no states named means all
     * @param now the time ages are measured from
     * @return a copy, groups with the most batches first
     */
    List<FailureGroup> failures(BatchSelector selector, Instant now);

    /**
     * Returns the collector types that have pending batches, batches in flight or dead letters.
     *
     * @return a copy
     */
    Set<String> collectorTypes();

    /**
     * Whether everything that is held can be reached. A store that keeps batches in two places may continue with only
     * one of them: until the other can be reached again, batches are claimed, rescheduled and given up in that one
     * only.
     *
     * @return whether it can be, as far as is known; must be quick
     */
    default boolean isFullyReachable() {
        return true;
    }

    /**
     * Returns approximately when the store was last in use before it was opened: since then nothing in it could have
     * been sent.
     *
     * @return the time; {@code null} if it is not known
     */
    default @Nullable Instant lastUsed() {
        return null;
    }

    /**
     * Passes the settings to the store, once, before anything is appended. A store that several applications can share
     * records with each batch the TTL that it was promised, so that another application's shorter TTL does not remove
     * it.
     *
     * @param settings by collector type; may be called on any thread, but not under a lock of the store, because it may
     *     be the application's code
     */
    default void useSettings(Function<String, CollectorSettings> settings) {}

    /**
     * Resets ages that begin in the future to begin now: the clock was ahead when they were recorded.
     *
     * @param now the time
     */
    default void correctAges(Instant now) {}

    /**
     * Shortens waits that are longer than they can have been intended, because another clock was used when they began.
     * To be called before the store is used otherwise.
     *
     * @param now the time
     * @param longest the longest wait by collector type; must be quick and must not call other components
     */
    default void correctWaits(Instant now, Function<String, Duration> longest) {}

    /**
     * Returns what the instances that share this store know about collectors that are down. Called once, does not
     * access the store, and does not fail.
     *
     * @return the shared knowledge; {@code null} if no other instance can use this store
     */
    default @Nullable SharedOutages sharedOutages() {
        return null;
    }

    /** Releases disk space that no held batch needs. */
    void reclaim();

    /**
     * Returns the accounting.
     *
     * @return a snapshot
     */
    BatchStats stats();

    /**
     * Registers the listener for damage; damage found so far is reported immediately. The store logs each damage itself.
     *
     * @param listener called on the thread that found the damage
     */
    void onCorruption(Consumer<Corruption> listener);

    /** Writes out what is not yet written and closes the files. Closing twice has no effect. */
    @Override
    void close();
}
