package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.internal.spi.LocalBatchStore.BatchRef;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.jdbc.Database.CommitUnknownException;
import io.batchpersistence.jdbc.GroupWriter.InDoubtException;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Moves batches from the store on the local disk to the database, see {@link FallbackBatchStore}: its thread does so
 * once a second. Knows which batches may be in both, and keeps moves and other changes apart. Thread-safe.
 */
final class FallbackMover {

    private static final Logger log = LogSanitizer.logger(FallbackMover.class);

    /** Batches looked up at a time, without their content. */
    private static final int REF_CHUNK_SIZE = 10_000;
    /** Batches moved at a time, and their approximate bytes: meanwhile, all other changes to the fallback wait. */
    private static final int MOVE_CHUNK_SIZE = 100;

    private static final long MOVE_CHUNK_BYTES = 4 << 20;

    private static final long SOON_NANOS = TimeUnit.SECONDS.toNanos(2);

    private final JdbcBatchStore primary;
    private final LocalBatchStore fallback;
    private final Path directory;
    private final Clock clock;

    /**
     * Held while batches are moved, and by each operation that changes pending batches and dead letters of the
     * fallback, or counts what is where. Fair, since a long move would otherwise starve the others.
     */
    private final ReentrantLock moving = new ReentrantLock(true);

    // ---- guarded by that lock --------------------------------------------------------------------

    /** The database's statistics from before some batches that are still in the fallback were, perhaps, moved there. */
    private @Nullable BatchStats primaryBefore;

    private long moved;
    private long heldAlready;
    /** The kinds of failures of moves that have already been logged. */
    private final Set<Class<?>> loggedFailures = new HashSet<>();

    // ----------------------------------------------------------------------------------------------

    /** Ids in the fallback under which the database holds a different batch. */
    private final Set<String> conflicts = ConcurrentHashMap.newKeySet();

    /**
     * Batches that were appended to the fallback because it is unknown whether the database has committed them, by id.
     */
    private final Map<String, InDoubtException> doubtful = new ConcurrentHashMap<>();

    /** The database's statistics from before there were any such batches. */
    private volatile @Nullable BatchStats beforeDoubts;

    /** Whether it has been logged that batches are kept in the fallback, and not yet that none is left. */
    private final AtomicBoolean buffering = new AtomicBoolean();

    private final CountDownLatch closed = new CountDownLatch(1);
    private final Worker worker = new Worker(
            Database.Threads.DAEMONS,
            "batch-persistence-jdbc-fallback",
            this::moveNext,
            e -> log.debug("A move failed; the next one is soon", e));

    FallbackMover(JdbcBatchStore primary, LocalBatchStore fallback, Path directory, Clock clock) {
        this.primary = primary;
        this.fallback = fallback;
        this.directory = directory;
        this.clock = clock;
        long left = fallback.stats().batches();
        if (left > 0) {
            buffering.set(true);
            log.warn("Batches waiting in {} to be moved to the database: {}", directory, left);
        }
    }

    /** Starts the thread. */
    void start() {
        worker.start();
    }

    /** Why the thread is dead although it was not ended; {@code null} if all is well. */
    @Nullable
    String problem() {
        return worker.problem();
    }

    // ---- what else is done meanwhile -------------------------------------------------------------

    /**
     * Runs an action while nothing is moved. The database's writer thread, which a move waits for, does not block: it
     * runs the action without the lock if a move is under way.
     */
    <T extends @Nullable Object> T withoutMoves(Supplier<T> action) {
        if (!primary.isWriting()) {
            moving.lock();
            return unlocking(action);
        }
        return moving.tryLock() ? unlocking(action) : action.get();
    }

    /** Runs an action while nothing is moved; returns {@code null} at once if a move is under way. */
    <T> @Nullable T unlessMoving(Supplier<T> action) {
        return moving.tryLock() ? unlocking(action) : null;
    }

    /** Runs an action while nothing is moved; returns {@code null} if a move takes longer than the caller may wait. */
    <T> @Nullable T unlessMovingLong(Supplier<T> action) {
        boolean locked;
        try {
            locked = moving.tryLock(primary.isWriting() ? 0 : SOON_NANOS, TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            locked = moving.tryLock();
        }
        return locked ? unlocking(action) : null;
    }

    /** Runs an action, and releases the lock. Lines are logged when it is released. */
    private <T extends @Nullable Object> T unlocking(Supplier<T> action) {
        boolean begun = DeferredLog.begin();
        try {
            return action.get();
        } finally {
            moving.unlock();
            DeferredLog.end(begun);
        }
    }

    // ---- what is in both -------------------------------------------------------------------------

    /** Notes that new batches are kept in the fallback, to be moved later. */
    void expect(String why) {
        if (buffering.compareAndSet(false, true)) {
            log.warn(
                    "The database does not take batches: {}. New ones are kept in {} and moved when it is back",
                    why,
                    directory);
        }
    }

    /** Notes that it is unknown whether the database has committed a batch that is appended to the fallback now. */
    void doubt(String batchId, InDoubtException doubt) {
        if (doubtful.isEmpty()) {
            beforeDoubts = primary.lastStats();
        }
        doubtful.put(batchId, doubt);
    }

    boolean hasDoubts() {
        return !doubtful.isEmpty();
    }

    /**
     * The database's statistics from before some batches that are still in the fallback were, perhaps, moved there. For
     * an action that runs while nothing is moved.
     */
    @Nullable
    BatchStats primaryBefore() {
        return primaryBefore;
    }

    /** The database's statistics, without batches of unknown outcome. */
    BatchStats primaryStats() {
        BatchStats doubtless = doubtful.isEmpty() ? null : beforeDoubts;
        return doubtless != null ? doubtless : primary.isUsable() ? primary.stats() : primary.lastStats();
    }

    // ---- moving ----------------------------------------------------------------------------------

    private boolean moveNext() {
        if (!awaitNextMove()) {
            return false;
        }
        if (buffering.get() || !fallback.isEmpty() || !doubtful.isEmpty()) {
            move();
        }
        return true;
    }

    private boolean awaitNextMove() {
        try {
            return !closed.await(1, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            log.debug("An interrupt does not end this thread", e);
            return !isClosed();
        }
    }

    private boolean isClosed() {
        return closed.getCount() == 0;
    }

    /** Moves the batches in the fallback to the database, if that can be used. For one thread at a time. */
    void move() {
        if (!resolveDoubts()) {
            return;
        }
        List<BatchRef> some;
        long after = 0;
        do {
            some = fallback.refsAfter(after, REF_CHUNK_SIZE);
            for (int at = 0; at < some.size(); ) {
                if (isClosed() || !primary.isUsable()) {
                    return;
                }
                int next = moveSome(some, at);
                if (next == at) {
                    return;
                }
                at = next;
            }
            after = some.isEmpty() ? 0 : some.get(some.size() - 1).sequence();
        } while (some.size() == REF_CHUNK_SIZE);
        passCompleted();
        conflicts.removeIf(id -> !fallback.holds(id));
        if (primary.isUsable()
                && fallback.stats().batches() <= conflicts.size()
                && buffering.compareAndSet(true, false)) {
            logMoved();
        }
    }

    /**
     * Removes batches of unknown outcome from the database if it has committed them after all, whatever has become of
     * them in the fallback meanwhile: otherwise they would be sent from both.
     */
    private boolean resolveDoubts() {
        for (Map.Entry<String, InDoubtException> doubt : Map.copyOf(doubtful).entrySet()) {
            if (!primary.isUsable()) {
                return false;
            }
            moving.lock();
            try {
                primary.retract(doubt.getKey(), doubt.getValue());
                doubtful.remove(doubt.getKey(), doubt.getValue());
            } catch (BatchPersistenceException e) {
                log.debug("Whether a batch is in the database, too, could not be found out yet", e);
                return false;
            } finally {
                moving.unlock();
            }
        }
        return primary.isUsable();
    }

    /**
     * Called after a complete pass: no batch is left in the fallback of which it is unknown whether the database holds
     * it, too.
     */
    private void passCompleted() {
        moving.lock();
        try {
            primaryBefore = null;
        } finally {
            moving.unlock();
        }
    }

    private void logMoved() {
        moving.lock();
        try {
            log.info(
                    "Batches from {} moved to the database: {}; held there already: {}; left as dead letters, since the database"
                            + " holds others with their ids: {}",
                    directory,
                    moved,
                    heldAlready,
                    conflicts.size());
            moved = 0;
            heldAlready = 0;
            loggedFailures.clear();
        } finally {
            moving.unlock();
        }
    }

    private record Move(BatchRef where, StoredBatch stored, CompletableFuture<@Nullable Void> adopted) {}

    /**
     * Moves the next batches, and returns the position to continue at: the one it started at if a retry makes sense
     * only later.
     */
    private int moveSome(List<BatchRef> some, int from) {
        moving.lock();
        try {
            if (primaryBefore == null) {
                primaryBefore = primary.lastStats();
            }
            List<BatchRef> places = new ArrayList<>();
            List<StoredBatch> batches = new ArrayList<>();
            long bytes = 0;
            int next = from;
            for (; next < some.size() && batches.size() < MOVE_CHUNK_SIZE && bytes < MOVE_CHUNK_BYTES; next++) {
                StoredBatch stored = read(some.get(next));
                if (stored != null) {
                    places.add(some.get(next));
                    batches.add(stored);
                    bytes += stored.bytes();
                }
            }
            List<CompletableFuture<@Nullable Void>> adopted = primary.adopt(batches);
            List<Move> moves = new ArrayList<>();
            for (int i = 0; i < batches.size(); i++) {
                moves.add(new Move(places.get(i), batches.get(i), adopted.get(i)));
            }
            return end(moves) ? next : from;
        } finally {
            moving.unlock();
        }
    }

    private @Nullable StoredBatch read(BatchRef where) {
        try {
            StoredBatch stored = fallback.read(where);
            // A batch that can't be moved and has been replayed is to be sent from here.
            return stored != null
                            && stored.batch().state() == BatchState.PENDING
                            && conflicts.contains(stored.batch().id())
                    ? null
                    : stored;
        } catch (BatchPersistenceException e) {
            logMoveFailure(e);
            return null;
        }
    }

    /** Removes from the fallback those batches that are known to be in the database. Returns whether to continue. */
    private boolean end(List<Move> moves) {
        List<BatchRef> there = new ArrayList<>();
        boolean known = true;
        boolean goesOn = true;
        long adopted = 0;
        long held = 0;
        for (Move move : moves) {
            Throwable failure = await(move.adopted());
            if (failure == null) {
                there.add(move.where());
                adopted++;
            } else if (failure instanceof DuplicateBatchException) {
                if (isHeld(move)) {
                    there.add(move.where());
                    held++;
                }
            } else if (failure instanceof BatchRejectedException) {
                goesOn = false;
                logMoveFailure(failure);
            } else {
                known &= !(failure.getCause() instanceof CommitUnknownException);
                logMoveFailure(failure);
            }
        }
        if (!there.isEmpty()) {
            // The statistics must never count these batches twice, nor drop below their previous value.
            try {
                primary.refreshStats();
            } catch (BatchPersistenceException e) {
                // The next move finds these batches in the database.
                return false;
            }
            there.forEach(fallback::withdraw);
            moved += adopted;
            heldAlready += held;
        }
        if (known) {
            primaryBefore = null;
        }
        return goesOn && known;
    }

    /** Whether a batch whose id the database holds is the same batch, whose commit had not been reported. */
    private boolean isHeld(Move move) {
        PersistedBatch batch = move.stored().batch();
        PersistedBatch other;
        try {
            other = primary.find(batch.id()).orElse(null);
        } catch (BatchPersistenceException e) {
            return false;
        }
        if (other == null) {
            // It has just been removed; the next move will tell.
            return false;
        }
        if (isSame(batch, other)) {
            return true;
        }
        fallback.markDead(
                move.where(),
                "can't be moved to the database, which holds another batch with this id and other content, persisted "
                        + other.createdAt(),
                clock.instant());
        if (conflicts.add(batch.id())) {
            log.warn(
                    "Batch '{}' in {} can't be moved to the database, which holds another one with this id and other content: it"
                            + " stays there as a dead letter",
                    batch.id(),
                    directory);
        }
        return false;
    }

    private static boolean isSame(PersistedBatch one, PersistedBatch other) {
        return one.collectorType().equals(other.collectorType())
                && one.context().equals(other.context())
                && one.entries().equals(other.entries());
    }

    private static @Nullable Throwable await(CompletableFuture<?> future) {
        try {
            future.join();
            return null;
        } catch (CompletionException e) {
            return e.getCause();
        }
    }

    /** Logs a failure of a move, once per kind. */
    private void logMoveFailure(Throwable failure) {
        if (loggedFailures.add(failure.getClass())) {
            log.warn(
                    "Batches in {} can't be moved to the database yet, and wait there: {}",
                    directory,
                    failure.getMessage());
        }
    }

    /** Ends the thread and resolves doubts. What is not done in time is left as if this process had been killed. */
    void close(Duration patience) {
        closed.countDown();
        boolean isMover = worker.isCalling();
        boolean unused = Threads.within(patience, "batch-persistence-jdbc-fallback-closing", () -> {
            if (!isMover) {
                worker.join();
            }
            resolveDoubts();
        });
    }
}
