package io.batchpersistence;

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
 * Where batches are kept: the SPI below {@link BatchPersistence}. A store knows states, times and bounds, but makes no
 * decisions: how long a lease is, when the next attempt is due, what is given up is told to it.
 *
 * <p>Contract, for every store:
 *
 * <ul>
 *   <li>When the future of {@link #append} completes normally, the batch is durable (as its settings promise); when it
 *       completes exceptionally, the batch is not held.
 *   <li>A batch is in exactly one state. Each method is atomic for each batch.
 *   <li>What was in flight when a store was left is pending and due at once when it is opened again.
 *   <li>Counters keep the accounting identity of {@link CollectorStats#isBalanced()}, across restarts.
 *   <li>Damage is reported once, and costs only the batches it hit.
 *   <li>Thread-safe; an interrupt of a calling thread harms nobody else.
 * </ul>
 *
 * <p>Methods throw {@link BatchPersistenceException} when the store fails and {@link IllegalStateException} once closed.
 */
public interface BatchStore extends AutoCloseable {

    /**
     * Takes a batch, in flight until its lease ends. May be called with many appends under way.
     *
     * @param batch the batch
     * @return completed when durable; exceptionally with {@link DuplicateBatchException}, {@link BatchRejectedException} (a
     *     bound was met), {@link IllegalArgumentException} (too large for a record) or {@link BatchPersistenceException}. It may
     *     be completed by the thread on which all appends wait: what depends on it must neither block nor call the store, and
     *     passes an application's code on to another thread
     */
    CompletableFuture<@Nullable Void> append(NewBatch batch);

    /**
     * The same for a caller who has nothing to do until the batch is durable: a store may do the work on his thread.
     *
     * @param batch the batch
     * @return done, as {@link #append} says
     */
    default CompletableFuture<@Nullable Void> appendAndWait(NewBatch batch) {
        CompletableFuture<@Nullable Void> done = append(batch);
        done.exceptionally(failure -> null).join();
        return done;
    }

    /**
     * Whether what the calling thread appends now is part of a transaction of its own, which it may yet roll back: then it is not
     * to be sent before.
     *
     * @return {@code false} unless the store is in a database, and set up for that
     */
    default boolean joinsTransaction() {
        return false;
    }

    /**
     * Takes a batch that nobody sends before recovery does, as a part of the calling thread's transaction: when that is committed, the
     * batch is pending. Called only if {@link #joinsTransaction} says so.
     *
     * @param batch the batch; its lease means nothing
     * @param nextAttemptAt when it is due; {@code null} if not before somebody says so
     * @return done, as {@link #append} says
     */
    default CompletableFuture<@Nullable Void> appendUnsent(NewBatch batch, @Nullable Instant nextAttemptAt) {
        throw new UnsupportedOperationException("this store joins no transaction");
    }

    /**
     * Takes due batches of one collector type: pending ones whose next attempt is not after {@code now} become in flight.
     *
     * @param collectorType whose
     * @param order which of the due ones first
     * @param now the time
     * @param leaseUntil until when they are in flight
     * @param max how many at most
     * @return the claims; a batch found damaged is reported and left out
     */
    List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max);

    /**
     * A batch handed out.
     *
     * @param batch the batch
     * @param fence identifies this claim: settling with another fence changes nothing
     * @param due since when it could have been handed out; {@code null} if that is not known
     */
    record Claim(PersistedBatch batch, long fence, @Nullable Instant due) {

        /** Not known since when it was due. */
        public Claim(PersistedBatch batch, long fence) {
            this(batch, fence, null);
        }
    }

    /** The fence to settle with when the claim is not known: whoever holds it. */
    long ANY_FENCE = 0;

    /**
     * In flight for too long.
     *
     * @param now the time
     * @param max how many at most
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
     * @return what it was, or {@code null} if it is not held
     */
    @Nullable
    Settled delivered(String batchId);

    /**
     * Ends an attempt that failed.
     *
     * @param batchId its id
     * @param fence the claim, or {@link #ANY_FENCE}
     * @param reason why
     * @param at when
     * @param decision says what becomes of it; called once at most, must be quick and call nothing
     * @return what it is now, or {@code null} if it is not in flight with that fence
     */
    @Nullable
    Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision);

    /**
     * Gives back a batch that was not sent: it becomes pending, and no attempt is noted.
     *
     * @param batchId its id
     * @param due by collector type, when it is due; empty: never by itself; must be quick and call nothing
     * @return what it is now, or {@code null} if it is not in flight
     */
    @Nullable
    Settled released(String batchId, Function<String, Optional<Instant>> due);

    /** Says what becomes of a batch whose attempt failed. */
    @FunctionalInterface
    interface FailureDecision {
        /**
         * Decides.
         *
         * @param collectorType its collector type
         * @param retryCount counted failures before this one
         * @return what becomes of it
         */
        Verdict decide(String collectorType, int retryCount);
    }

    /**
     * What becomes of a batch whose attempt failed.
     *
     * @param dead whether it becomes a dead letter
     * @param nextAttemptAt when it is due if not dead; {@code null}: never by itself
     * @param retryCount counted failures from now on
     */
    record Verdict(boolean dead, @Nullable Instant nextAttemptAt, int retryCount) {}

    /**
     * What settling changed.
     *
     * @param collectorType the batch's collector type
     * @param createdAt when it was persisted
     * @param retryCount counted failures
     * @param state where it is now; {@code null} if it is gone
     */
    record Settled(
            String collectorType,
            Instant createdAt,
            int retryCount,
            @Nullable BatchState state) {}

    /**
     * Changes when pending batches are due.
     *
     * @param selector which of the pending ones
     * @param now the time ages are measured from
     * @param nextAttemptAt when they are due; {@code null}: never by themselves
     * @return how many
     */
    long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt);

    /**
     * Makes pending batches that are due never by themselves due at that time.
     *
     * @param nextAttemptAt when
     * @return how many
     */
    long releaseHeld(Instant nextAttemptAt);

    /**
     * Makes dead letters pending, with no failures counted and their age beginning anew.
     *
     * @param selector which of the dead letters
     * @param now the time; they are due at once
     * @return how many
     */
    default long replay(BatchSelector selector, Instant now) {
        return replay(selector, now, Duration.ZERO);
    }

    /**
     * The same, one after the other.
     *
     * @param selector which of the dead letters
     * @param now the time
     * @param apart the first is due at once, each other that long after the one before it, in the selector's order
     * @return how many
     */
    long replay(BatchSelector selector, Instant now, Duration apart);

    /**
     * Remembers, also across restarts, whether an operator has paused a collector type. The store does nothing about it. Durable
     * when it returns.
     *
     * @param collectorType its name; need not be known
     * @param paused whether it is paused from now on
     * @return whether that was not so before
     * @throws IllegalArgumentException see {@link NewBatch#checkedCollectorType}
     */
    boolean pause(String collectorType, boolean paused);

    /**
     * The collector types that are paused.
     *
     * @return a copy
     */
    Set<String> pausedCollectorTypes();

    /**
     * Removes batches, counted as discarded.
     *
     * @param selector which; names its states
     * @param now the time ages are measured from
     * @return how many
     */
    long discard(BatchSelector selector, Instant now);

    /**
     * Removes pending batches and dead letters of one collector type that are too old, counted as expired.
     *
     * @param collectorType whose
     * @param pendingBefore pending batches persisted (or replayed) before this
     * @param deadBefore dead letters given up before this
     * @param max how many at most
     * @return what they were
     */
    List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max);

    /**
     * Removes the oldest batches that are not in flight, counted as evicted, to make room.
     *
     * @param max how many at most
     * @return what they were; empty if all that is held is in flight
     */
    List<BatchSummary> evictOldest(int max);

    /**
     * Removes those dead letters that were given up first, counted as evicted, as long as all dead letters together have more
     * bytes than that. Costs nothing while they have not.
     *
     * @param mostBytes what they may have
     * @param max how many to remove at most
     * @return what they were
     */
    List<BatchSummary> evictDeadLetters(long mostBytes, int max);

    /**
     * One batch with its entries.
     *
     * @param batchId its id
     * @return the batch
     */
    Optional<PersistedBatch> find(String batchId);

    /**
     * Batches without entries.
     *
     * @param selector which; no states named means all
     * @param now the time ages are measured from
     * @return a copy, in the selector's order
     */
    List<BatchSummary> list(BatchSelector selector, Instant now);

    /**
     * Counts.
     *
     * @param selector which; no states named means all
     * @param now the time ages are measured from
     * @return how many, at most the selector's limit
     */
    long count(BatchSelector selector, Instant now);

    /**
     * Batches that have failed, grouped by collector type and reason.
     *
     * @param selector which, its order aside; its limit is one for the groups; no states named means all
     * @param now the time ages are measured from
     * @return a copy, those with most batches first
     */
    List<FailureGroup> failures(BatchSelector selector, Instant now);

    /**
     * The collector types of which something is pending, in flight or dead.
     *
     * @return a copy
     */
    Set<String> collectorTypes();

    /**
     * Whether everything that is held can be reached. A store that keeps batches in two places may go on with one of them alone:
     * until then, what is claimed, rescheduled or given up is only there.
     *
     * @return whether that is so, as far as is known; must be quick
     */
    default boolean isWhole() {
        return true;
    }

    /**
     * When the store was last in use before it was opened, about: tells how long nobody has had a chance to send what is in it.
     *
     * @return {@code null} if that is not known
     */
    default @Nullable Instant lastUsed() {
        return null;
    }

    /**
     * Tells the store by which settings it is used, once, before anything is appended. Needs nothing of the store, and does not fail. A store that several applications can share
     * keeps with each batch how long it was promised to be held, so that another application's shorter TTL does not remove it.
     *
     * @param settings by collector type; may be asked on any thread, but under no lock of the store, since it can be the
     *     application's code
     */
    default void useSettings(Function<String, CollectorSettings> settings) {}

    /**
     * Lets ages that would begin in the future begin now: the clock was ahead when they were taken.
     *
     * @param now the time
     */
    default void correctAges(Instant now) {}

    /**
     * Shortens waits that are longer than they can have been meant to be, because another clock was used when they began. For the
     * time before anything else is asked of the store.
     *
     * @param now the time
     * @param longest the longest wait by collector type; must be quick and call nothing
     */
    default void correctWaits(Instant now, Function<String, Duration> longest) {}

    /**
     * What the instances that share this store know together of collectors that are down. Asked once, needs nothing of the store,
     * and does not fail.
     *
     * @return {@code null} if nobody else can use this store
     */
    default @Nullable SharedOutages sharedOutages() {
        return null;
    }

    /** Gives back disk space that nothing held needs. */
    void reclaim();

    /**
     * The accounting.
     *
     * @return a snapshot
     */
    BatchStats stats();

    /**
     * Registers who is told about damage; what was found so far is told at once.
     *
     * @param listener called on the thread that found it
     */
    void onCorruption(Consumer<Corruption> listener);

    /** Writes out what is not yet written and closes the files. Closing twice does nothing. */
    @Override
    void close();
}
