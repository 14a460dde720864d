package io.batchpersistence.internal.store;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.MeasuredDisk;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Writes the queued batches and marks, in rounds. The order within a round, and what is forced when, is what makes a
 * store safe; see the invariants of {@link IndexedBatchStore}.
 *
 * <p>Only one thread writes at a time, the <em>commit leader</em>: the writer thread, or for one round a caller that
 * waits for its batch anyway and finds no leader. Leadership is what allows a round to read and write files without the
 * store's lock.
 */
final class StoreWriter {

    private static final Logger log = LogSanitizer.logger(StoreWriter.class);

    /**
     * Limit on the encoded bytes in the queue, above which appending callers wait: memory stays limited however many
     * callers there are.
     */
    private static final long MAX_QUEUED_BYTES = 64L << 20;

    /**
     * How long marks wait to be written together with others. Batches whose marks are lost in a kill are sent again.
     */
    private static final long MARKS_LINGER_NANOS = TimeUnit.MILLISECONDS.toNanos(2);

    /** Pause after a failed snapshot, during which the journal goes on, and grows. */
    private static final long SNAPSHOT_RETRY_NANOS = TimeUnit.SECONDS.toNanos(10);

    private static final long NEVER = BatchIndex.NEVER;

    private final DiskStoreOptions options;
    private final PayloadLog payload;
    private final ReentrantLock lock;
    private final Consumer<PayloadLog.Append> published;
    private final Thread thread = Threads.ofStore("batch-persistence-writer", this::run);

    /** Awaited by the writer thread. */
    private final Condition work;
    /** Awaited by the housekeeper. */
    private final Condition housework;

    private final Condition queueShrank;

    // ---- guarded by the lock ---------------------------------------------------------------------

    private final MarkQueue marks;
    private List<PayloadLog.Append> appends = new ArrayList<>();
    private List<Task> tasks = new ArrayList<>();
    private long queuedBytes;
    /** Whether batches were refused since the journal last recorded up to which number all is decided. */
    private boolean refusedBefore;
    /** Whether there is a commit leader. */
    private boolean writing;
    /** The commit leader. Only compared with the calling thread, so it need not be read under the lock. */
    private volatile @Nullable Thread leader;
    /** When the writer thread wakes up by itself. */
    private long threadWakesNanos = NEVER;

    private boolean maintenanceDue;
    private boolean houseworkDue;
    private boolean forceWanted;
    /** Whether calls are refused; work in progress is finished. */
    private boolean closing;

    private boolean finishing;
    private @Nullable String appendProblem;

    // ---- owned by the commit leader --------------------------------------------------------------

    final JournalKeeper journal;
    private final StateJournal files;

    private volatile long snapshotFailedNanos = System.nanoTime() - SNAPSHOT_RETRY_NANOS;

    // ---- for statistics, see BatchStats.Writes ---------------------------------------------------

    private final LongAdder groups = new LongAdder();
    private final LongAdder groupNanos = new LongAdder();
    private final LongAdder writtenBatches = new LongAdder();
    private final LongAdder writtenBytes = new LongAdder();

    private record Task(Runnable action, CompletableFuture<@Nullable Void> done) {}

    /**
     * Begins a generation of the journal; the thread has yet to be started.
     *
     * @param files the journal as it was read
     * @param loaded what was found
     * @param published called for each batch, under the lock, once it is stored or has failed
     */
    StoreWriter(
            DiskStoreOptions options,
            PayloadLog payload,
            StateJournal files,
            BatchIndex index,
            ReentrantLock lock,
            StoreLoader.Loaded loaded,
            Consumer<PayloadLog.Append> published) {
        this.options = options;
        this.payload = payload;
        this.lock = lock;
        this.marks = new MarkQueue(index, lock, loaded.sequence());
        this.files = files;
        this.journal = new JournalKeeper(options, payload, files, index, lock, marks);
        this.published = published;
        this.work = lock.newCondition();
        this.housework = lock.newCondition();
        this.queueShrank = lock.newCondition();
        journal.open(loaded.gone());
        if (journal.isComplete()) {
            // Only now does the journal, which is forced, say what is gone.
            payload.reclaim();
        }
    }

    void start() {
        thread.start();
    }

    // ---- queueing, under the lock ----------------------------------------------------------------

    void requireOpen() {
        if (closing) {
            throw closed();
        }
    }

    /**
     * Refuses a call that would wait for itself: one by code that the store runs while it writes or holds its lock.
     *
     * @throws IllegalStateException if the calling thread writes, or has the lock
     */
    void requireNotWriting() {
        Thread caller = Thread.currentThread();
        if (caller == thread || caller == leader || lock.isHeldByCurrentThread()) {
            throw new IllegalStateException("the store in " + options.directory()
                    + " was called by code that it runs itself, on its thread " + caller.getName()
                    + ", while it writes: the call would wait for itself. Make it from another thread");
        }
    }

    private ClosedException closed() {
        return new ClosedException("the store in " + options.directory() + " is closed");
    }

    /** Thrown to a call that comes too late. */
    static final class ClosedException extends IllegalStateException {
        private ClosedException(String message) {
            super(message);
        }
    }

    /** Bytes of the batches in the queue. */
    long queuedBytes() {
        return queuedBytes;
    }

    /**
     * Queues a batch. Waits while there is too much in the queue, and releases the lock meanwhile.
     *
     * @param waits whether the calling thread waits for it then, see {@link #await}
     */
    PayloadLog.Append append(NewBatch batch, PayloadLog.Encoded encoded, long idHash, boolean waits) {
        while (queuedBytes > MAX_QUEUED_BYTES && !closing) {
            queueShrank.awaitUninterruptibly();
        }
        requireOpen();
        Thread waiting = waits ? Thread.currentThread() : null;
        PayloadLog.Append append = new PayloadLog.Append(batch, ++marks.sequence, encoded, idHash, waiting);
        appends.add(append);
        queuedBytes += encoded.size();
        // From here on the batch is the writer's, so nothing is thrown.
        if (!writing) {
            append.round = waits ? tryBecomeLeader() : null;
            if (append.round == null) {
                work.signal();
            }
        }
        return append;
    }

    /** Becomes commit leader, unless a task or maintenance needs the writer thread, or there is no memory for a round. */
    private @Nullable Round tryBecomeLeader() {
        try {
            return !tasks.isEmpty() || maintenanceDue ? null : becomeLeader(false);
        } catch (OutOfMemoryError e) {
            return null;
        }
    }

    /**
     * Waits until the batch is written or has failed; without the lock. Writes it if this thread has become commit
     * leader. Not cut short by an interrupt, and keeps the thread's interrupt flag. Throws nothing: whether the batch is
     * held is not known before.
     *
     * @return the append's future, completed
     */
    CompletableFuture<@Nullable Void> await(PayloadLog.Append append) {
        Round round = append.round;
        if (round != null) {
            append.round = null;
            writeAndReleaseLeadership(round);
        }
        boolean interrupted = false;
        while (!append.settled) {
            try {
                LockSupport.park(append);
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            }
            // While the flag is set, park returns at once.
            interrupted |= Thread.interrupted();
        }
        complete(append);
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        return append.done;
    }

    /** The batch is gone. */
    void settled(RecordPointer pointer, BatchIndex.Type type, RemovalReason reason) {
        marks.settled(pointer, type, reason);
        marked();
    }

    /** The batch is gone, and was never accepted. */
    void withdrawn(RecordPointer pointer, BatchIndex.Type type) {
        marks.withdrawn(pointer, type);
        marked();
    }

    /** The state of the batch has changed. */
    void changed(int slot) {
        marks.changed(slot);
        marked();
    }

    /** The collector type is forgotten, and its counters are part of those of {@link BatchIndex#OTHER}. */
    void forgotten(BatchIndex.Type type) {
        marks.frames().forgotten(type);
        marked();
    }

    /** The collector type was paused or resumed. */
    void paused(BatchIndex.Type type) {
        marks.frames().paused(type);
        marked();
    }

    /** Schedules the writing of a mark. */
    private void marked() {
        if (marks.dueNanos == NEVER) {
            marks.dueNanos = System.nanoTime() + MARKS_LINGER_NANOS;
            if (!writing && threadWakesNanos > marks.dueNanos) {
                work.signal();
            }
        }
    }

    @Nullable
    String problem() {
        String problem = appendProblem;
        if (problem == null) {
            problem = journal.problem();
        }
        if (problem == null) {
            IOException failure = payload.markFailure();
            problem = failure == null ? null : journal.problem(failure);
        }
        return problem;
    }

    /** Needs no lock. */
    BatchStats.Writes writes(MeasuredDisk disk) {
        return new BatchStats.Writes(
                groups.sum(),
                groupNanos.sum(),
                writtenBatches.sum(),
                writtenBytes.sum(),
                disk.forces(),
                disk.forceNanos());
    }

    /** Bytes of the journal's files. Needs no lock. */
    long journalBytes() {
        return files.diskUsage();
    }

    // ---- writing ---------------------------------------------------------------------------------

    /** What is written in one round. */
    record Round(
            List<PayloadLog.Append> appends,
            JournalFrames marks,
            List<MarkQueue.PayloadChange> changes,
            List<Task> tasks) {}

    /** Under the lock: makes this thread the commit leader, until {@link #releaseLeadership}. */
    private Round becomeLeader(boolean withTasks) {
        Round round = new Round(appends, marks.frames(), marks.changes(), withTasks ? tasks : List.of());
        List<PayloadLog.Append> nextAppends = new ArrayList<>();
        List<MarkQueue.PayloadChange> nextChanges = new ArrayList<>();
        List<Task> nextTasks = withTasks ? new ArrayList<>() : tasks;
        // Nothing can fail from here on.
        writing = true;
        leader = Thread.currentThread();
        appends = nextAppends;
        tasks = nextTasks;
        marks.swap(nextChanges);
        return round;
    }

    private void writeAndReleaseLeadership(Round round) {
        boolean begun = DeferredLog.begin();
        try {
            writeAndRelease(round);
        } finally {
            DeferredLog.end(begun);
        }
    }

    private void writeAndRelease(Round round) {
        try {
            write(round);
        } finally {
            try {
                releaseLeadership();
            } finally {
                // Not before: waking up many callers takes about as long as a fast device takes to force, and meanwhile
                // the next leader can write.
                complete(round.appends());
            }
        }
    }

    private void releaseLeadership() {
        marks.lockDespiteErrors();
        try {
            writing = false;
            leader = null;
            maintenanceDue = isReclaimable();
            if (payload.hasMaintenance() || isDueForSnapshot()) {
                callHousekeeper();
            }
            if (hasWork() || marks.deadlineNanos() < threadWakesNanos) {
                work.signal();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Without a journal nothing can be deleted; the next one deletes it, or the next cleanup. */
    private boolean isReclaimable() {
        return payload.isReclaimable() && files.isOpen();
    }

    /** Under the lock. */
    private boolean hasWork() {
        return !appends.isEmpty() || !tasks.isEmpty() || maintenanceDue || finishing;
    }

    /** Runs the writer thread. */
    private void run() {
        DeferredLog.storeThread();
        boolean last = false;
        while (!last) {
            try {
                last = runRound();
            } catch (Throwable e) {
                // Out of memory, most likely; without this thread the store would stop working.
                logIfPossible("A round of writing failed", e);
            }
        }
        closeFiles();
    }

    /** Runs one round. Returns whether it was the last. */
    private boolean runRound() {
        boolean last;
        Round round;
        lock.lock();
        try {
            awaitWork();
            last = finishing;
            round = becomeLeader(true);
        } finally {
            lock.unlock();
        }
        try {
            try {
                write(round);
            } finally {
                try {
                    complete(round.appends());
                } finally {
                    runTasks(round.tasks());
                }
            }
            maintain();
        } finally {
            releaseLeadership();
        }
        return last;
    }

    private void logIfPossible(String what, Throwable e) {
        try {
            log.error("{} in {}", what, options.directory(), e);
        } catch (Throwable again) {
            // Logging failed, too: nothing else can be done.
        }
    }

    /** Under the lock. */
    private void awaitWork() {
        while (writing || !hasWork()) {
            try {
                long wakes = writing ? NEVER : marks.deadlineNanos();
                threadWakesNanos = wakes;
                if (wakes == NEVER) {
                    work.await();
                } else if (work.awaitNanos(wakes - System.nanoTime()) <= 0 && !writing) {
                    return;
                }
            } catch (InterruptedException e) {
                // This thread is not supposed to be interrupted; continuing is safe.
            } finally {
                threadWakesNanos = NEVER;
            }
        }
    }

    /** Commit leader only. Throws nothing. */
    private void write(Round round) {
        try {
            writeRound(round.appends(), round.marks(), round.changes());
        } catch (Throwable e) {
            // Not a disk failure, which is handled below, but a bug or a lack of memory: the callers are notified, and
            // the thread goes on. A snapshot will contain what the journal lacks now.
            journal.lost();
            List<PayloadLog.Append> group = round.appends();
            for (int i = 0; i < group.size(); i++) {
                if (!group.get(i).published && group.get(i).pointer == null) {
                    group.get(i).failed(e);
                }
            }
            publish(group);
            logIfPossible("Writing batches failed", e);
            journal.forceLater();
        }
    }

    private void writeRound(
            List<PayloadLog.Append> group, JournalFrames frames, List<MarkQueue.PayloadChange> changes) {
        // Write what became of older batches first: an append of this round may reuse the id of one that is gone. And
        // apply it to the payload log before writing the journal: if that fails, the snapshot of the next journal must
        // contain it.
        try {
            journal.applyToPayload(changes);
            if (!frames.isEmpty()) {
                journal.write(frames);
            }
        } finally {
            // Not at the end of the round: a checkpoint in the middle of it makes this the buffer for new marks.
            frames.clear();
        }
        if (!group.isEmpty()) {
            if (payload.needsJournalForced(group)) {
                journal.force();
            }
            long began = System.nanoTime();
            payload.write(group);
            recordRefusedAppends(group);
            written(group, System.nanoTime() - began);
            if (options.sync() == SyncPolicy.INTERVAL) {
                journal.forceLater();
            }
            publish(group);
        }
    }

    /**
     * Records refused batches in the journal. A number that is missing between two that are found is evidence of a
     * batch lost with its file. A refused number must not look like that: the journal records it durably, before any
     * caller learns that a later batch is stored. While all are refused nothing is written, since on a full disk the
     * journal's reserve is for marks.
     */
    private void recordRefusedAppends(List<PayloadLog.Append> group) {
        int refused = 0;
        for (PayloadLog.Append append : group) {
            refused += append.pointer == null ? 1 : 0;
        }
        if (refused == group.size() || (refused == 0 && !refusedBefore)) {
            return;
        }
        LongList now = new LongList();
        for (PayloadLog.Append append : group) {
            if (append.pointer == null) {
                now.add(append.sequence);
            }
        }
        journal.recordRefused(now, refusedBefore);
        refusedBefore = false;
    }

    private void written(List<PayloadLog.Append> group, long nanos) {
        groups.increment();
        groupNanos.add(nanos);
        for (PayloadLog.Append append : group) {
            if (append.pointer != null) {
                writtenBatches.increment();
                writtenBytes.add(append.pointer.length());
            }
        }
    }

    /** Adds stored batches to the index, unless they were added already. Throws nothing. */
    private void publish(List<PayloadLog.Append> group) {
        marks.lockDespiteErrors();
        try {
            // Without an iterator: there may be no memory for one, and each of them must be published.
            for (int i = 0; i < group.size(); i++) {
                PayloadLog.Append append = group.get(i);
                if (!append.published) {
                    append.published = true;
                    queuedBytes -= append.encoded.size();
                    publish(append);
                }
            }
            if (marks.fileEnds(payload.fileEnds())) {
                marked();
            }
            queueShrank.signalAll();
        } catch (OutOfMemoryError e) {
            journal.lost();
        } finally {
            lock.unlock();
        }
    }

    /** Under the lock. */
    private void publish(PayloadLog.Append append) {
        RecordPointer pointer = append.pointer;
        marks.lastDecided = append.sequence;
        try {
            published.accept(append);
            if (pointer != null) {
                appendProblem = null;
            } else {
                refusedBefore = true;
                appendProblem = "batches can't be written to " + options.directory() + ": "
                        + JournalKeeper.message(append.failure);
            }
        } catch (Throwable e) {
            append.failed(e);
            if (pointer != null) {
                takeBack(append.sequence, pointer);
            }
        }
    }

    /** Under the lock: the batch's bytes are stored, but its caller gets a failure. */
    private void takeBack(long number, RecordPointer pointer) {
        try {
            payload.removed(pointer);
            marks.frames().gone(new long[] {number});
            marked();
        } catch (Throwable e) {
            journal.lost();
        }
    }

    /**
     * Notifies the callers, whatever happens: they may be waiting. So it does without an iterator, and does not end with
     * one that can't be notified.
     */
    private void complete(List<PayloadLog.Append> group) {
        for (int i = 0; i < group.size(); i++) {
            settle(group.get(i));
        }
    }

    /** Notifies a caller, whatever happens. */
    private void settle(PayloadLog.Append append) {
        Thread waiting = append.waiting;
        if (waiting == null) {
            complete(append);
            return;
        }
        append.settled = true;
        while (waiting != Thread.currentThread()) {
            try {
                LockSupport.unpark(waiting);
                return;
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            } catch (Throwable e) {
                // The scheduler of a virtual thread takes no more tasks, or there is no stack left. Notify the others.
                return;
            }
        }
    }

    /** Completes the future, whatever happens. */
    private void complete(PayloadLog.Append append) {
        while (!append.done.isDone()) {
            try {
                tryComplete(append);
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            } catch (Throwable e) {
                append.done.completeExceptionally(e);
            }
        }
    }

    private void tryComplete(PayloadLog.Append append) {
        if (append.pointer != null) {
            append.done.complete(null);
        } else {
            append.done.completeExceptionally(new BatchPersistenceException(
                    "the batch '" + append.id + "' could not be written to " + options.directory() + ": "
                            + JournalKeeper.message(append.failure),
                    append.failure));
        }
    }

    private void runTasks(List<Task> now) {
        for (Task task : now) {
            try {
                task.action().run();
                task.done().complete(null);
            } catch (Throwable e) {
                task.done().completeExceptionally(e);
            }
        }
    }

    private void maintain() {
        try {
            if (marks.forceDueNanos != NEVER && marks.forceDueNanos - System.nanoTime() <= 0) {
                if (options.sync() == SyncPolicy.INTERVAL || payload.awaitsJournal()) {
                    forceAll();
                } else {
                    forceInBackground();
                }
            }
            if (isReclaimable()) {
                reclaimPayload();
            }
        } catch (Throwable e) {
            log.error("Maintenance of {} failed", options.directory(), e);
        }
    }

    /** Runs an action on the writer thread, as commit leader, after what is queued now, and waits for it. */
    void runAsLeader(Runnable action) {
        requireNotWriting();
        CompletableFuture<@Nullable Void> done = new CompletableFuture<>();
        lock.lock();
        try {
            if (finishing) {
                throw closed();
            }
            tasks.add(new Task(action, done));
            work.signal();
        } finally {
            lock.unlock();
        }
        try {
            // Not cut short by an interrupt, and keeps the thread's interrupt flag.
            done.join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw e;
        }
    }

    <T extends @Nullable Object> T callAsLeader(Supplier<T> action) {
        AtomicReference<T> result = new AtomicReference<>();
        runAsLeader(() -> result.set(action.get()));
        return result.get();
    }

    // ---- the journal -----------------------------------------------------------------------------

    private void forceInBackground() {
        lock.lock();
        try {
            forceWanted = true;
            // What is written from now on needs another force.
            marks.forceDueNanos = NEVER;
            callHousekeeper();
        } finally {
            lock.unlock();
        }
    }

    private void forceAll() {
        lock.lock();
        try {
            marks.forceDueNanos = NEVER;
        } finally {
            lock.unlock();
        }
        journal.force();
        if (options.sync() == SyncPolicy.INTERVAL) {
            try {
                payload.force();
            } catch (IOException e) {
                log.error(
                        "Forcing batches in {} failed: {}. Those persisted in the last {} are only as safe as the "
                                + "operating system's cache; sync: always would have refused them",
                        options.directory(),
                        e.toString(),
                        options.syncInterval());
            }
        }
    }

    /** Makes what was queued up to now durable, and waits for it; returns whether it is. */
    boolean forceJournal() {
        return callAsLeader(journal::force);
    }

    /** Begins a new generation and writes its snapshot, not as commit leader; for one thread at a time. */
    void takeSnapshot(Runnable pause) throws IOException {
        try {
            StateJournal.Prepared prepared = files.prepare();
            JournalKeeper.SnapshotHead head = callAsLeader(() -> journal.beginUnlessOvertaken(prepared));
            if (head == null) {
                throw new IOException("the journal failed meanwhile and was replaced");
            }
            StateJournal.Snapshot snapshot = journal.writeSnapshot(head, pause);
            runAsLeader(() -> journal.putInForce(snapshot, head));
        } catch (IOException e) {
            snapshotFailedNanos = System.nanoTime();
            throw e;
        }
    }

    boolean isDueForSnapshot() {
        return files.isDueForSnapshot() && System.nanoTime() - snapshotFailedNanos >= SNAPSHOT_RETRY_NANOS;
    }

    /**
     * Deletes payload files that hold no batches, once the journal says so durably: a crash would make delivered
     * batches look lost. On a full disk, where only the files to be deleted make room for a journal, it is begun right
     * after that. Commit leader only.
     */
    void reclaimPayload() {
        journal.nameFiles();
        if (journal.force()) {
            payload.reclaim();
        } else if (journal.lacksSpace()) {
            payload.reclaim();
            journal.replace();
        }
    }

    // ---- the housekeeper -------------------------------------------------------------------------

    /** Under the lock. */
    private void callHousekeeper() {
        houseworkDue = true;
        housework.signal();
    }

    void wakeHousekeeper() {
        lock.lock();
        try {
            callHousekeeper();
        } finally {
            lock.unlock();
        }
    }

    /** Waits for something to do. Returns whether there may be something; if not, the store is being closed. */
    boolean awaitHousework() {
        lock.lock();
        try {
            while (!houseworkDue && !closing) {
                housework.awaitUninterruptibly();
            }
            houseworkDue = false;
            return !closing;
        } finally {
            lock.unlock();
        }
    }

    /** Makes what the journal contains so far durable, not as commit leader; returns whether it is. */
    boolean forceConcurrently() {
        if (!callAsLeader(journal::isComplete)) {
            return false;
        }
        try {
            if (options.sync() != SyncPolicy.NEVER) {
                files.force();
            }
            return true;
        } catch (IOException e) {
            runAsLeader(() -> journal.failed(e));
            return false;
        }
    }

    /**
     * Forces the journal if it is due; not as commit leader. Throws IllegalStateException when the store is being
     * closed.
     */
    void forceIfWanted() {
        boolean force;
        lock.lock();
        try {
            requireOpen();
            force = forceWanted;
            forceWanted = false;
        } finally {
            lock.unlock();
        }
        if (force && files.isOpen()) {
            try {
                files.force();
            } catch (IOException e) {
                runAsLeader(() -> journal.failed(e));
            }
        }
    }

    // ---- closing ---------------------------------------------------------------------------------

    /** Refuses calls from now on; work in progress is finished. */
    void beginClosing() {
        lock.lock();
        try {
            closing = true;
            housework.signal();
            queueShrank.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Writes what is queued and closes the files; returns whether this thread was interrupted meanwhile. */
    boolean finish() {
        lock.lock();
        try {
            finishing = true;
            work.signal();
        } finally {
            lock.unlock();
        }
        return Threads.join(thread);
    }

    private void closeFiles() {
        try {
            try {
                journal.checkpoint();
                reclaimPayload();
            } finally {
                try {
                    payload.close();
                } finally {
                    files.close();
                }
            }
        } catch (Throwable e) {
            log.error("Closing {} failed; what was persisted is safe", options.directory(), e);
        }
    }
}
