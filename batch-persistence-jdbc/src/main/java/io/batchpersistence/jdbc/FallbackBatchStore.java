package io.batchpersistence.jdbc;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.jdbc.GroupWriter.InDoubtException;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.store.DiskBatchStores;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.IntFunction;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * A {@link JdbcBatchStore} with a store on the local disk as its fallback, which takes new batches while the database
 * is away. When the database is back, the batches in the fallback are moved to it. Thread-safe.
 *
 * <p>Beyond the contract of {@link BatchStore}:
 *
 * <ul>
 *   <li>{@link #append}: goes to the fallback if the database is known to be away, or rejects the batch for a reason
 *       that is not specific to the batch. A batch that is to be part of the caller's transaction never does: without
 *       that transaction it must not exist. A full database rejects it as usual. While the database is away, its ids
 *       can't be checked, so a batch may be accepted although its id is already stored.
 *   <li>Marks, and {@link #timedOut}: applied where the batch is. While the database is away, marks of batches that are
 *       not in the fallback fail at once.
 *   <li>{@link #claim}, {@link #collectorTypes}, {@link #reschedule}, {@link #releaseHeld}, {@link #expire},
 *       {@link #evictOldest}, {@link #evictDeadLetters}, {@link #correctAges}, {@link #correctWaits}: both stores; the
 *       fallback alone while the database is away, see {@link #isFullyReachable}. Eviction frees space where it is needed: in
 *       the fallback while the database is away, otherwise in the database.
 *   <li>{@link #pausedCollectorTypes}: as in the database, or its last known value, which the fallback remembers across
 *       restarts. {@link #pause} requires the database, since all instances must know.
 *   <li>{@link #find}, {@link #list}, {@link #count}, {@link #failures}, {@link #discard}, {@link #replay}: both
 *       stores, and while the database is away only for ids all of which are in the fallback: a partial answer would be
 *       a wrong one. In lists, batches in the fallback are the newest. A batch that is moved between two queries may be
 *       seen twice, or not at all.
 *   <li>{@link #stats}: the sum. A batch that is being moved counts once.
 * </ul>
 *
 * <p>Moving: pending batches and dead letters are moved in the order in which they were persisted, unchanged, with
 * their times, failures and context. A batch is removed from the fallback only when it is known to be committed in the
 * database, so a process that is killed in between leaves it in both. The next move detects that, unless the copy in
 * the database has been settled meanwhile: then the batch is sent twice. If the database holds another batch with the
 * same id and other content, the batch becomes a dead letter in the fallback.
 */
public final class FallbackBatchStore implements BatchStore {

    private static final Logger log = LogSanitizer.logger(FallbackBatchStore.class);

    /** How long closing waits for the end of a move. */
    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(2);

    /** Positions of batches in the fallback start here, so that they sort after all others. Still exact as a double. */
    private static final long LOCAL_POSITION_BASE = 1L << 52;

    private final JdbcBatchStore primary;
    private final LocalBatchStore fallback;
    private final Path directory;
    /** Moves batches to the database, and keeps changes and moves apart. */
    final FallbackMover mover;

    private volatile @Nullable BatchStats shown;

    private final AtomicBoolean closed = new AtomicBoolean();

    /** Creates a store that does not move batches by itself. */
    FallbackBatchStore(JdbcBatchStore primary, LocalBatchStore spare, Path directory, Clock clock) {
        this.primary = primary;
        this.fallback = spare;
        this.directory = directory;
        this.mover = new FallbackMover(primary, spare, directory, clock);
    }

    /**
     * Opens the store in the database, which need not be reachable, and its fallback, which must be usable.
     *
     * @param dataSource provides connections; a pool with at least four connections for the store
     * @param options the options of the store in the database
     * @param fallback where batches are kept while the database is away: a directory of this instance's own, and its
     *     limits
     * @return the store
     * @throws BatchPersistenceException if the directory can't be used
     */
    public static FallbackBatchStore open(DataSource dataSource, JdbcStoreOptions options, DiskStoreOptions fallback) {
        LocalBatchStore spare = (LocalBatchStore) DiskBatchStores.segment(fallback);
        JdbcBatchStore primary = null;
        boolean started = false;
        try {
            primary = JdbcBatchStore.open(dataSource, options);
            FallbackBatchStore store = new FallbackBatchStore(primary, spare, fallback.directory(), options.clock());
            store.mover.start();
            started = true;
            return store;
        } finally {
            if (!started) {
                try (spare) {
                    if (primary != null) {
                        primary.close();
                    }
                }
            }
        }
    }

    // ---- which of the two ------------------------------------------------------------------------

    private void requireOpen() {
        if (closed.get()) {
            throw new IllegalStateException("the store is closed");
        }
    }

    @Override
    public boolean isFullyReachable() {
        return primary.isUsable();
    }

    /**
     * Whether batches of the database may be claimed, timed out or expired: not while it may hold some that are in the
     * fallback, too, which is resolved within a second.
     */
    private boolean isShared() {
        return isFullyReachable() && !mover.hasDoubts();
    }

    /**
     * Returns the store in the database if it is known to be usable: otherwise its callers would wait for the pool, one
     * after the other.
     */
    private JdbcBatchStore reachable() {
        String problem = primary.problem();
        if (problem != null) {
            throw new BatchPersistenceException(
                    "the database can't be used: " + problem + "; it is tried again by itself", null);
        }
        return primary;
    }

    private boolean isHere(String batchId) {
        return !fallback.isEmpty() && fallback.holds(batchId);
    }

    private boolean isLocal(BatchSelector selector) {
        return !selector.ids().isEmpty() && selector.ids().stream().allMatch(this::isHere);
    }

    // ---- appending -------------------------------------------------------------------------------

    @Override
    public boolean joinsTransaction() {
        return primary.joinsTransaction();
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Void> append(NewBatch batch) {
        return append(batch, fallback::append);
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Void> appendUnsent(NewBatch batch, @Nullable Instant nextAttemptAt) {
        requireOpen();
        return isHere(batch.id())
                ? CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()))
                : primary.appendUnsent(batch, nextAttemptAt);
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Void> appendAndWait(NewBatch batch) {
        CompletableFuture<@Nullable Void> done = append(batch, fallback::appendAndWait);
        done.exceptionally(failure -> null).join();
        return done;
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    private CompletableFuture<@Nullable Void> append(
            NewBatch batch, Function<NewBatch, CompletableFuture<@Nullable Void>> append) {
        requireOpen();
        if (isHere(batch.id())) {
            return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
        }
        if (primary.joinsTransaction()) {
            return primary.append(batch);
        }
        CompletableFuture<@Nullable Void> done = new CompletableFuture<>();
        String problem = primary.problem();
        if (problem != null) {
            appendLocally(batch, append, problem, done);
            return done;
        }
        var unused = primary.append(batch).whenComplete((nothing, failure) -> {
            if (failure == null) {
                done.complete(null);
            } else if (failure instanceof BatchPersistenceException
                    && !(failure instanceof DuplicateBatchException)
                    && !(failure instanceof BatchRejectedException)) {
                if (failure.getCause() instanceof InDoubtException doubt) {
                    mover.doubt(batch.id(), doubt);
                }
                appendLocally(batch, fallback::append, String.valueOf(failure.getMessage()), done);
            } else {
                done.completeExceptionally(failure);
            }
        });
        return done;
    }

    /** Always completes the future: the caller may be the writer thread of the other store, which must go on. */
    private void appendLocally(
            NewBatch batch,
            Function<NewBatch, CompletableFuture<@Nullable Void>> append,
            String why,
            CompletableFuture<@Nullable Void> done) {
        mover.expect(why);
        try {
            var unused = append.apply(batch).whenComplete((nothing, failure) -> {
                if (failure == null) {
                    done.complete(null);
                } else {
                    done.completeExceptionally(nowhere(why, failure));
                }
            });
        } catch (RuntimeException | Error e) {
            done.completeExceptionally(nowhere(why, e));
        }
    }

    private Throwable nowhere(String why, Throwable failure) {
        if (failure instanceof DuplicateBatchException || !(failure instanceof BatchPersistenceException)) {
            // The failure is specific to the batch.
            return failure;
        }
        boolean full = failure instanceof BatchRejectedException;
        String message = "the database does not take the batch (" + why + "), and its fallback in " + directory
                + (full ? " is full: " : " does not either: ") + failure.getMessage();
        // Space is freed in the fallback while the database is known to be away: see evictOldest.
        return full && !isFullyReachable()
                ? new BatchRejectedException(message)
                : new BatchPersistenceException(message, failure);
    }

    // ---- claiming and settling -------------------------------------------------------------------

    @Override
    public List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        requireOpen();
        List<Claim> claims = new ArrayList<>();
        BatchPersistenceException unreadable = null;
        // While a move is under way, skip the fallback: batches being moved are claimed in the database.
        if (!fallback.isEmpty()) {
            try {
                List<Claim> local =
                        mover.unlessMoving(() -> fallback.claim(collectorType, order, now, leaseUntil, max));
                if (local != null) {
                    claims.addAll(local);
                }
            } catch (BatchPersistenceException e) {
                unreadable = e;
            }
        }
        addFromDatabase(
                claims,
                max,
                rest -> primary.claim(collectorType, order, now, leaseUntil, rest),
                "Nothing could be claimed in the database");
        if (unreadable != null) {
            if (claims.isEmpty()) {
                throw unreadable;
            }
            log.debug("Nothing could be claimed in the fallback", unreadable);
        }
        return claims;
    }

    /**
     * Adds what the database has, up to the maximum. If that fails, what has been found in the fallback is returned all
     * the same: of batches already removed there, for example, the caller has to know.
     */
    private <T> List<T> addFromDatabase(List<T> found, int max, IntFunction<List<T>> more, String failed) {
        if (found.size() < max && isShared()) {
            try {
                found.addAll(more.apply(max - found.size()));
            } catch (BatchPersistenceException e) {
                if (found.isEmpty()) {
                    throw e;
                }
                log.debug(failed, e);
            }
        }
        return found;
    }

    @Override
    public List<Lease> timedOut(Instant now, int max) {
        requireOpen();
        return addFromDatabase(
                new ArrayList<>(fallback.timedOut(now, max)),
                max,
                rest -> primary.timedOut(now, rest),
                "What timed out in the database could not be looked for");
    }

    @Override
    public @Nullable Settled delivered(String batchId) {
        requireOpen();
        // A late mark can deliver a pending batch: not while that batch is being moved.
        Settled settled = fallback.isEmpty() ? null : mover.withoutMoves(() -> fallback.delivered(batchId));
        return settled != null ? settled : reachable().delivered(batchId);
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Settled> deliveredLater(String batchId) {
        requireOpen();
        Settled settled = fallback.isEmpty() ? null : mover.withoutMoves(() -> fallback.delivered(batchId));
        return settled != null
                ? CompletableFuture.completedFuture(settled)
                : reachable().deliveredLater(batchId);
    }

    @Override
    public @Nullable Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision) {
        requireOpen();
        Settled settled = fallback.failed(batchId, fence, reason, at, decision);
        return settled != null || isHere(batchId) ? settled : reachable().failed(batchId, fence, reason, at, decision);
    }

    @Override
    public @Nullable Settled released(String batchId, Function<String, Optional<Instant>> due) {
        requireOpen();
        Settled settled = fallback.released(batchId, due);
        return settled != null || isHere(batchId) ? settled : reachable().released(batchId, due);
    }

    // ---- changing many ---------------------------------------------------------------------------

    /** Changes batches of one store, and returns how many. */
    private interface Change {
        long in(BatchStore store, BatchSelector selector, long before);
    }

    /** Changes batches in both stores, first in the database: if that fails, nothing has been changed. */
    private long inBoth(BatchSelector selector, Change change) {
        return mover.withoutMoves(() -> {
            long count = change.in(reachable(), selector, 0);
            return count >= selector.limit()
                    ? count
                    : count + change.in(fallback, selector.limit(rest(selector, count)), count);
        });
    }

    private static int rest(BatchSelector selector, long count) {
        return selector.limit() == Integer.MAX_VALUE ? Integer.MAX_VALUE : (int) (selector.limit() - count);
    }

    @Override
    public long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt) {
        requireOpen();
        return isFullyReachable()
                ? inBoth(selector, (store, some, before) -> store.reschedule(some, now, nextAttemptAt))
                : mover.withoutMoves(() -> fallback.reschedule(selector, now, nextAttemptAt));
    }

    @Override
    public long releaseHeld(Instant nextAttemptAt) {
        requireOpen();
        long released = isFullyReachable() ? primary.releaseHeld(nextAttemptAt) : 0;
        return released + mover.withoutMoves(() -> fallback.releaseHeld(nextAttemptAt));
    }

    @Override
    public long replay(BatchSelector selector, Instant now, Duration apart) {
        requireOpen();
        return isLocal(selector)
                ? mover.withoutMoves(() -> fallback.replay(selector, now, apart))
                : inBoth(
                        selector,
                        (store, some, before) -> store.replay(some, now.plus(apart.multipliedBy(before)), apart));
    }

    @Override
    public long discard(BatchSelector selector, Instant now) {
        requireOpen();
        return isLocal(selector)
                ? mover.withoutMoves(() -> fallback.discard(selector, now))
                : inBoth(selector, (store, some, before) -> store.discard(some, now));
    }

    @Override
    public List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max) {
        requireOpen();
        return addFromDatabase(
                new ArrayList<>(
                        mover.withoutMoves(() -> fallback.expire(collectorType, pendingBefore, deadBefore, max))),
                max,
                rest -> primary.expire(collectorType, pendingBefore, deadBefore, rest),
                "Nothing could be expired in the database");
    }

    @Override
    public List<BatchSummary> evictOldest(int max) {
        requireOpen();
        return isFullyReachable() ? primary.evictOldest(max) : mover.withoutMoves(() -> fallback.evictOldest(max));
    }

    @Override
    public List<BatchSummary> evictDeadLetters(long mostBytes, int max) {
        requireOpen();
        return isFullyReachable()
                ? primary.evictDeadLetters(mostBytes, max)
                : mover.withoutMoves(() -> fallback.evictDeadLetters(mostBytes, max));
    }

    // ---- pausing ---------------------------------------------------------------------------------

    @Override
    public boolean pause(String collectorType, boolean paused) {
        requireOpen();
        boolean changed = reachable().pause(collectorType, paused);
        remember(collectorType, paused);
        return changed;
    }

    @Override
    public Set<String> pausedCollectorTypes() {
        requireOpen();
        Set<String> remembered = fallback.pausedCollectorTypes();
        if (!isFullyReachable()) {
            return remembered;
        }
        Set<String> paused = primary.pausedCollectorTypes();
        paused.forEach(type -> remember(type, true));
        remembered.stream().filter(type -> !paused.contains(type)).forEach(type -> remember(type, false));
        return paused;
    }

    private void remember(String collectorType, boolean paused) {
        if (fallback.pausedCollectorTypes().contains(collectorType) != paused) {
            fallback.pause(collectorType, paused);
        }
    }

    // ---- looking ---------------------------------------------------------------------------------

    /**
     * The outages shared through the database. While it is away, other instances can't be asked, and each instance
     * relies on what it has seen itself.
     */
    @Override
    public SharedOutages sharedOutages() {
        return primary.sharedOutages();
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        requireOpen();
        Optional<PersistedBatch> found = fallback.isEmpty() ? Optional.empty() : fallback.find(batchId);
        return found.isPresent() ? found : reachable().find(batchId);
    }

    @Override
    public List<BatchSummary> list(BatchSelector selector, Instant now) {
        requireOpen();
        boolean local = isLocal(selector);
        JdbcBatchStore shared = local ? primary : reachable();
        Long after = selector.after();
        boolean beganLocal = after != null && after >= LOCAL_POSITION_BASE;
        BatchSelector here = selector.after(
                after != null && after >= LOCAL_POSITION_BASE ? (Long) (after - LOCAL_POSITION_BASE) : null);
        List<BatchSummary> found = new ArrayList<>();
        if (selector.order() == BatchOrder.OLDEST_FIRST) {
            if (!local && !beganLocal) {
                found.addAll(shared.list(selector, now));
            }
            addLocal(here, now, found);
        } else {
            if (after == null || beganLocal) {
                addLocal(here, now, found);
            }
            if (!local && found.size() < selector.limit()) {
                found.addAll(shared.list(
                        selector.after(beganLocal ? null : after).limit(rest(selector, found.size())), now));
            }
        }
        return found;
    }

    private void addLocal(BatchSelector selector, Instant now, List<BatchSummary> found) {
        if (found.size() >= selector.limit() || fallback.isEmpty()) {
            return;
        }
        for (BatchSummary each : fallback.list(selector.limit(rest(selector, found.size())), now)) {
            found.add(new BatchSummary(
                    each.id(),
                    each.collectorType(),
                    each.state(),
                    each.createdAt(),
                    each.lastAttempt(),
                    each.nextAttemptAt(),
                    each.retryCount(),
                    each.failureReason(),
                    each.earlierFailures(),
                    each.context(),
                    each.entryCount(),
                    each.bytes(),
                    each.position() + LOCAL_POSITION_BASE));
        }
    }

    @Override
    public long count(BatchSelector selector, Instant now) {
        requireOpen();
        if (isLocal(selector)) {
            return fallback.count(selector, now);
        }
        return Math.min(selector.limit(), reachable().count(selector, now) + fallback.count(selector, now));
    }

    @Override
    public List<FailureGroup> failures(BatchSelector selector, Instant now) {
        requireOpen();
        BatchSelector all = selector.limit(Integer.MAX_VALUE);
        List<FailureGroup> groups = new ArrayList<>(fallback.failures(all, now));
        if (!isLocal(selector)) {
            groups.addAll(reachable().failures(all, now));
        }
        return JdbcBatchStore.merged(groups, selector.limit());
    }

    @Override
    public Set<String> collectorTypes() {
        requireOpen();
        Set<String> types = new HashSet<>(fallback.collectorTypes());
        if (isFullyReachable()) {
            types.addAll(primary.collectorTypes());
        }
        return types;
    }

    /** Returns the statistics; while a move takes long, those from before it. */
    @Override
    public BatchStats stats() {
        requireOpen();
        BatchStats last = shown;
        BatchStats current = last == null && !primary.isWriting()
                ? mover.withoutMoves(this::currentStats)
                : mover.unlessMovingLong(this::currentStats);
        return current != null ? current : last == null ? sum(primary.lastStats()) : last;
    }

    /** While nothing is moved. */
    private BatchStats currentStats() {
        BatchStats before = mover.primaryBefore();
        BatchStats sum = sum(before != null ? before : mover.primaryStats());
        if (before == null) {
            shown = sum;
        }
        return sum;
    }

    private BatchStats sum(BatchStats shared) {
        BatchStats local = fallback.stats();
        Map<String, CollectorStats> collectors = new HashMap<>(shared.collectors());
        local.collectors().forEach((type, stats) -> {
            // A collector type that is only remembered as paused has no counters.
            if (!stats.equals(CollectorStats.NONE)) {
                collectors.merge(type, stats, CollectorStats::plus);
            }
        });
        String away = primary.problemToShow();
        String problem = local.problem();
        String gone = mover.problem();
        return new BatchStats(
                collectors,
                shared.batches() + local.batches(),
                shared.maxBatches(),
                shared.diskUsage(),
                shared.maxDiskUsage(),
                away == null || problem == null
                        ? gone
                        : "the database can't be used: " + away + "; nor can its fallback in " + directory + ": "
                                + problem,
                shared.writes(),
                shared.instance(),
                new BatchStats.Fallback(
                        directory.toString(),
                        away,
                        problem,
                        local.batches(),
                        local.maxBatches(),
                        local.diskUsage(),
                        local.maxDiskUsage()),
                both(shared.unreadable(), local.unreadable()));
    }

    private static BatchStats.@Nullable Unreadable both(
            BatchStats.@Nullable Unreadable shared, BatchStats.@Nullable Unreadable local) {
        if (shared == null || local == null) {
            return shared == null ? local : shared;
        }
        return new BatchStats.Unreadable(shared.batches() + local.batches(), shared.first());
    }

    // ---- times -----------------------------------------------------------------------------------

    /** Returns the earlier time of the two stores, if anything is in the fallback. */
    @Override
    public @Nullable Instant lastUsed() {
        Instant shared = primary.lastUsed();
        Instant local = fallback.isEmpty() ? null : fallback.lastUsed();
        if (shared == null || local == null) {
            return shared == null ? local : shared;
        }
        return local.isBefore(shared) ? local : shared;
    }

    @Override
    public void correctAges(Instant now) {
        requireOpen();
        inEach(store -> store.correctAges(now));
    }

    @Override
    public void useSettings(Function<String, CollectorSettings> settings) {
        primary.useSettings(settings);
        fallback.useSettings(settings);
    }

    @Override
    public void correctWaits(Instant now, Function<String, Duration> longest) {
        requireOpen();
        inEach(store -> store.correctWaits(now, longest));
    }

    private void inEach(Consumer<BatchStore> correction) {
        mover.withoutMoves(() -> {
            correction.accept(fallback);
            return null;
        });
        if (isFullyReachable()) {
            correction.accept(primary);
        }
    }

    // ---- cleaning up and closing -----------------------------------------------------------------

    @Override
    public void onCorruption(Consumer<Corruption> listener) {
        primary.onCorruption(listener);
        fallback.onCorruption(listener);
    }

    @Override
    public void reclaim() {
        requireOpen();
        fallback.reclaim();
        primary.reclaim();
    }

    /**
     * Closes the store in the database first: what it can't write any more goes to the fallback. Takes seconds, whether
     * the database answers or not.
     */
    @Override
    public void close() {
        close(CLOSE_TIMEOUT, primary::close);
    }

    void close(Duration patience) {
        close(patience, () -> primary.close(patience));
    }

    private void close(Duration patience, Runnable closePrimary) {
        if (!closed.compareAndSet(false, true)) {
            return;
        }
        try {
            mover.close(patience);
        } finally {
            try (fallback) {
                closePrimary.run();
            }
        }
    }
}
