package io.batchpersistence.internal.store;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.MeasuredDisk;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.Condition;
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

    /** Pause between attempts to begin a new journal, so that not every single mark tries to on a full disk. */
    private static final long GENERATION_RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);

    /** Pause after a failed snapshot, during which the journal goes on, and grows. */
    private static final long SNAPSHOT_RETRY_NANOS = TimeUnit.SECONDS.toNanos(10);

    /**
     * How long marks wait to be written together with others. Batches whose marks are lost in a kill are sent again.
     */
    private static final long MARKS_LINGER_NANOS = TimeUnit.MILLISECONDS.toNanos(2);

    /** Bytes that a snapshot collects before it writes them. */
    private static final int SNAPSHOT_CHUNK = 256 << 10;

    /** Approximate bytes of a batch in a snapshot, if its state differs from how it was persisted. */
    private static final long SNAPSHOT_BYTES_PER_BATCH = 64;

    private static final long NEVER = BatchIndex.NEVER;

    private final StoreSettings options;
    private final PayloadLog payload;
    private final BatchIndex index;
    private final ReentrantLock lock;
    private final Consumer<PayloadLog.Append> published;
    private final Thread thread = Threads.ofStore("batch-persistence-writer", this::run);

    /** Awaited by the writer thread. */
    private final Condition work;
    /** Awaited by the housekeeper. */
    private final Condition housework;

    private final Condition queueShrank;

    // ---- guarded by the lock ---------------------------------------------------------------------

    private List<PayloadLog.Append> appends = new ArrayList<>();
    private final JournalFrames.Reasons reasons = new JournalFrames.Reasons();
    private JournalFrames frames = new JournalFrames(0, reasons);
    private JournalFrames spareFrames = new JournalFrames(0, reasons);
    private List<PayloadChange> changes = new ArrayList<>();
    private List<Task> tasks = new ArrayList<>();
    private final Set<Integer> declaredFileEnds = new HashSet<>();
    private long queuedBytes;
    private long sequence;
    /**
     * For all batches up to this number it is decided whether they are accepted; the accepted ones are in the counters.
     */
    private long lastDecided;
    /** Whether batches were refused since the journal last recorded up to which number all is decided. */
    private boolean refusedBefore;
    /** Whether there is a commit leader. */
    private boolean writing;
    /** The commit leader. Only compared with the calling thread, so it need not be read under the lock. */
    private volatile @Nullable Thread leader;
    /** Deadline for writing the marks in {@link #frames}; {@link #NEVER} if there are none. */
    private long marksDueNanos = NEVER;
    /** When the writer thread wakes up by itself. */
    private long threadWakesNanos = NEVER;
    /** Deadline for forcing the journal; {@link #NEVER} if it is forced. */
    private long forceDueNanos = NEVER;

    private boolean maintenanceDue;
    private boolean houseworkDue;
    private boolean forceWanted;
    /** Whether calls are refused; work in progress is finished. */
    private boolean closing;

    private boolean finishing;
    private @Nullable String appendProblem;

    // ---- owned by the commit leader --------------------------------------------------------------

    private final StateJournal journal;
    /** How often marks could not be written to the journal. */
    private long losses = 1;
    /** How many of these {@code losses} a later snapshot has made up for. */
    private long repairedLosses;
    /** The refused batches among those being written. */
    private long[] refused = {};

    private long lastGenerationNanos;
    /** The highest number of a payload file that the journal contains. */
    private int namedFile;

    private volatile long snapshotFailedNanos = System.nanoTime() - SNAPSHOT_RETRY_NANOS;
    private volatile @Nullable String journalProblem;

    // ---- for statistics, see BatchStats.Writes ---------------------------------------------------

    private final LongAdder groups = new LongAdder();
    private final LongAdder groupNanos = new LongAdder();
    private final LongAdder writtenBatches = new LongAdder();
    private final LongAdder writtenBytes = new LongAdder();

    private record PayloadChange(
            RecordPointer pointer, @Nullable PersistedState persistedState) {}

    private record Task(Runnable action, CompletableFuture<@Nullable Void> done) {}

    /**
     * Begins a generation of the journal; the thread has yet to be started.
     *
     * @param journal as it was read
     * @param loaded what was found
     * @param published called for each batch, under the lock, once it is stored or has failed
     */
    StoreWriter(
            StoreSettings options,
            PayloadLog payload,
            StateJournal journal,
            BatchIndex index,
            ReentrantLock lock,
            StoreLoader.Loaded loaded,
            Consumer<PayloadLog.Append> published) {
        this.options = options;
        this.payload = payload;
        this.journal = journal;
        this.index = index;
        this.lock = lock;
        this.sequence = loaded.sequence();
        this.lastDecided = loaded.sequence();
        this.published = published;
        this.work = lock.newCondition();
        this.housework = lock.newCondition();
        this.queueShrank = lock.newCondition();
        openJournal(loaded.gone());
        if (journal.isOpen()) {
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

    /** Queues a batch. Waits while there is too much in the queue, and releases the lock meanwhile. */
    PayloadLog.Append append(NewBatch batch, PayloadLog.Encoded encoded, long idHash) {
        while (queuedBytes > MAX_QUEUED_BYTES && !closing) {
            queueShrank.awaitUninterruptibly();
        }
        requireOpen();
        PayloadLog.Append append = new PayloadLog.Append(batch, ++sequence, encoded, idHash);
        appends.add(append);
        queuedBytes += encoded.size();
        return append;
    }

    /**
     * Becomes commit leader if there is none, and no task or maintenance needs one. Then {@link #writeAndReleaseLeadership}
     * must be called, without the lock.
     */
    @Nullable
    Round tryBecomeLeader() {
        return writing || !tasks.isEmpty() || maintenanceDue ? null : becomeLeader(false);
    }

    /** Leaves what was appended to another thread. */
    void wake() {
        if (!writing) {
            work.signal();
        }
    }

    /** The batch is gone. */
    void settled(RecordPointer pointer, BatchIndex.Type type, RemovalReason reason) {
        frames.settled(pointer.sequence(), type, reason);
        changes.add(new PayloadChange(pointer, null));
        marked();
    }

    /** The batch is gone, and was never accepted. */
    void withdrawn(RecordPointer pointer, BatchIndex.Type type) {
        frames.withdrawn(pointer.sequence(), type);
        changes.add(new PayloadChange(pointer, null));
        marked();
    }

    /** The state of the batch has changed. */
    void changed(int slot) {
        RecordPointer pointer = index.location(slot);
        PersistedState persistedState = persistedState(slot);
        frames.persistedState(pointer.sequence(), persistedState);
        changes.add(new PayloadChange(pointer, persistedState));
        marked();
    }

    /** The collector type is forgotten, and its counters are part of those of {@link BatchIndex#OTHER}. */
    void forgotten(BatchIndex.Type type) {
        frames.forgotten(type);
        marked();
    }

    /** The collector type was paused or resumed. */
    void paused(BatchIndex.Type type) {
        frames.paused(type);
        marked();
    }

    /** Schedules the writing of a mark. */
    private void marked() {
        if (marksDueNanos == NEVER) {
            marksDueNanos = System.nanoTime() + MARKS_LINGER_NANOS;
            if (!writing && threadWakesNanos > marksDueNanos) {
                work.signal();
            }
        }
    }

    private PersistedState persistedState(int slot) {
        BatchState state = index.state(slot);
        return new PersistedState(
                state == BatchState.DEAD,
                index.since(slot),
                index.retries(slot),
                index.lastAttempt(slot),
                state == BatchState.IN_FLIGHT ? PersistedState.DUE_NOW : index.due(slot),
                index.reason(slot),
                index.earlierFailures(slot));
    }

    @Nullable
    String problem() {
        String problem = appendProblem;
        if (problem == null) {
            problem = journalProblem;
        }
        if (problem == null) {
            IOException failure = payload.markFailure();
            problem = failure == null ? null : marksProblem(failure);
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
        return journal.diskUsage();
    }

    // ---- writing ---------------------------------------------------------------------------------

    /** What is written in one round. */
    record Round(List<PayloadLog.Append> appends, JournalFrames marks, List<PayloadChange> changes, List<Task> tasks) {}

    /** Under the lock: makes this thread the commit leader, until {@link #releaseLeadership}. */
    private Round becomeLeader(boolean withTasks) {
        Round round = new Round(appends, frames, changes, withTasks ? tasks : List.of());
        List<PayloadLog.Append> nextAppends = new ArrayList<>();
        List<PayloadChange> nextChanges = new ArrayList<>();
        List<Task> nextTasks = withTasks ? new ArrayList<>() : tasks;
        // Nothing can fail from here on.
        writing = true;
        leader = Thread.currentThread();
        appends = nextAppends;
        changes = nextChanges;
        tasks = nextTasks;
        frames = spareFrames;
        spareFrames = round.marks();
        marksDueNanos = NEVER;
        return round;
    }

    void writeAndReleaseLeadership(Round round) {
        boolean begun = DeferredLog.begin();
        try {
            write(round);
        } finally {
            releaseLeadership();
            DeferredLog.end(begun);
        }
    }

    private void releaseLeadership() {
        lockDespiteErrors();
        try {
            writing = false;
            leader = null;
            maintenanceDue = payload.isReclaimable();
            if (payload.hasMaintenance() || isDueForSnapshot()) {
                callHousekeeper();
            }
            if (hasWork() || Math.min(marksDueNanos, forceDueNanos) < threadWakesNanos) {
                work.signal();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Acquires the lock even if lock() throws OutOfMemoryError: leadership must be released, and callers notified. */
    private void lockDespiteErrors() {
        while (true) {
            try {
                lock.lock();
                return;
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            }
        }
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
        lockDespiteErrors();
        try {
            awaitWork();
            last = finishing;
            round = becomeLeader(true);
        } finally {
            lock.unlock();
        }
        try {
            write(round);
            runTasks(round.tasks());
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
                long wakes = writing ? NEVER : Math.min(marksDueNanos, forceDueNanos);
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
            losses++;
            for (PayloadLog.Append append : round.appends()) {
                if (!append.published && append.pointer == null) {
                    append.failed(e);
                }
            }
            publish(round.appends());
            logIfPossible("Writing batches failed", e);
            forceLater();
        }
    }

    private void writeRound(List<PayloadLog.Append> group, JournalFrames marks, List<PayloadChange> payloadChanges) {
        // Write what became of older batches first: an append of this round may reuse the id of one that is gone. And
        // apply it to the payload log before writing the journal: if that fails, the snapshot of the next journal must
        // contain it.
        try {
            applyToPayload(payloadChanges);
            if (!marks.isEmpty()) {
                writeJournal(marks);
            }
        } finally {
            // Not at the end of the round: a checkpoint in the middle of it makes this the buffer for new marks.
            marks.clear();
        }
        if (!group.isEmpty()) {
            if (payload.needsJournalForced(group)) {
                forceJournal();
            }
            long began = System.nanoTime();
            payload.write(group);
            recordRefusedAppends(group);
            written(group, System.nanoTime() - began);
            if (options.sync() == SyncPolicy.INTERVAL) {
                forceLater();
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
        LongList now = new LongList();
        for (PayloadLog.Append append : group) {
            if (append.pointer == null) {
                now.add(append.sequence);
            }
        }
        if (now.size() == group.size() || (now.size() == 0 && !refusedBefore)) {
            return;
        }
        refused = now.toArray();
        if (refusedBefore) {
            checkpoint();
        }
        if (now.size() > 0) {
            writeGone(now);
        }
        forceJournal();
        refused = new long[0];
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

    private void applyToPayload(List<PayloadChange> payloadChanges) {
        for (PayloadChange change : payloadChanges) {
            if (change.persistedState() == null) {
                payload.removed(change.pointer());
            } else {
                payload.changed(change.pointer(), change.persistedState());
            }
        }
    }

    /**
     * Adds stored batches to the index, then notifies the callers. Throws nothing; callers already notified are
     * skipped.
     */
    private void publish(List<PayloadLog.Append> group) {
        lockDespiteErrors();
        try {
            for (PayloadLog.Append append : group) {
                if (!append.published) {
                    append.published = true;
                    queuedBytes -= append.encoded.size();
                    publish(append);
                }
            }
            for (Map.Entry<Integer, PayloadLog.FileEnd> end : payload.fileEnds().entrySet()) {
                if (declaredFileEnds.add(end.getKey())) {
                    frames.fileEnd(end.getKey(), end.getValue());
                    marked();
                }
            }
            queueShrank.signalAll();
        } catch (OutOfMemoryError e) {
            losses++;
        } finally {
            lock.unlock();
        }
        for (PayloadLog.Append append : group) {
            completeAppend(append);
        }
    }

    /** Under the lock. */
    private void publish(PayloadLog.Append append) {
        RecordPointer pointer = append.pointer;
        lastDecided = append.sequence;
        try {
            published.accept(append);
            if (pointer != null) {
                appendProblem = null;
            } else {
                refusedBefore = true;
                appendProblem = "batches can't be written to " + options.directory() + ": " + message(append.failure);
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
            frames.gone(new long[] {number});
            marked();
        } catch (Throwable e) {
            losses++;
        }
    }

    /** Notifies the caller, however little memory there is: it may be waiting. */
    private void completeAppend(PayloadLog.Append append) {
        while (!append.done.isDone()) {
            try {
                if (append.pointer != null) {
                    append.done.complete(null);
                } else {
                    append.done.completeExceptionally(new BatchPersistenceException(
                            "the batch '" + append.id + "' could not be written to " + options.directory() + ": "
                                    + message(append.failure),
                            append.failure));
                }
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            }
        }
    }

    private static String message(@Nullable Throwable failure) {
        if (failure == null) {
            return "unknown";
        }
        return failure.getMessage() == null ? failure.toString() : failure.getMessage();
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
            if (forceDueNanos != NEVER && forceDueNanos - System.nanoTime() <= 0) {
                if (options.sync() == SyncPolicy.INTERVAL || payload.awaitsJournal()) {
                    forceAll();
                } else {
                    forceInBackground();
                }
            }
            if (payload.isReclaimable()) {
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

    /** Whether log and snapshots together contain everything that was to be written to them. */
    boolean isJournalComplete() {
        return journal.isOpen() && losses == repairedLosses;
    }

    void writeJournal(JournalFrames marks) {
        if (!journal.isOpen()) {
            losses++;
            if (System.nanoTime() - lastGenerationNanos > GENERATION_RETRY_NANOS) {
                // The new snapshot contains what these frames say.
                replaceJournal();
            }
            return;
        }
        try {
            journal.write(marks);
            if (options.sync() != SyncPolicy.NEVER) {
                forceLater();
            }
        } catch (IOException e) {
            journalFailed(e);
        }
    }

    private void forceLater() {
        lockDespiteErrors();
        try {
            if (forceDueNanos == NEVER) {
                forceDueNanos = System.nanoTime() + options.syncInterval().toNanos();
            }
        } finally {
            lock.unlock();
        }
    }

    /**
     * Makes what was written to the journal durable, however it failed before. If no new journal can be begun either,
     * this returns normally all the same, and marks are kept in memory only.
     */
    void forceJournal() {
        if (!isJournalComplete()) {
            replaceJournal();
        } else {
            try {
                if (options.sync() != SyncPolicy.NEVER) {
                    journal.force();
                }
            } catch (IOException e) {
                journalFailed(e);
                return;
            }
            journalForced();
        }
    }

    /**
     * Notifies the payload log that the journal is complete and durable. The states in payload files may not be: that
     * is tried again with the next force.
     */
    private void journalForced() {
        try {
            payload.journalForced();
        } catch (IOException e) {
            log.warn("Marks in {} could not be made durable: {}; it is tried again", options.directory(), e.toString());
        }
    }

    private String marksProblem(IOException e) {
        return "marks can't be written to " + options.directory() + ": " + message(e);
    }

    /** Replaces the journal: after a failed write or force nothing in that file can be trusted to become durable. */
    private void journalFailed(IOException e) {
        log.warn("State journal in {} failed: {}; beginning a new one", options.directory(), e.toString());
        journal.close();
        losses++;
        replaceJournal();
    }

    private void forceInBackground() {
        lock.lock();
        try {
            forceWanted = true;
            // What is written from now on needs another force.
            forceDueNanos = NEVER;
            callHousekeeper();
        } finally {
            lock.unlock();
        }
    }

    private void forceAll() {
        lock.lock();
        try {
            forceDueNanos = NEVER;
        } finally {
            lock.unlock();
        }
        forceJournal();
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

    /**
     * Begins a new generation and writes its snapshot, at once. If that fails, the store goes on without a journal
     * (marks then live in memory only) and tries again with the next mark or cleanup.
     */
    private void replaceJournal() {
        lastGenerationNanos = System.nanoTime();
        try {
            SnapshotHead head = beginGeneration(journal.prepare());
            inForce(takeSnapshot(head, () -> {}), head);
        } catch (IOException e) {
            noJournal(e);
            return;
        }
        journalForced();
    }

    private void noJournal(IOException e) {
        journalProblem = marksProblem(e);
        log.error(
                "No state journal could be begun in {}: {}. Until it can, marks are kept in memory only, and what is "
                        + "delivered now may be sent again after a restart",
                options.directory(),
                e.toString());
    }

    /**
     * Begins a new generation or, if there is no room for one, resumes the newest that was read: its reserve is for
     * exactly that, and without it a store that is opened on a full disk would forget its marks when it is closed.
     */
    private void openJournal(LongList gone) {
        try {
            SnapshotHead head = beginGeneration(journal.prepare());
            inForce(takeSnapshot(head, () -> {}), head);
            return;
        } catch (IOException e) {
            try {
                journal.takeBack();
                journal.resume();
                repairedLosses = losses;
            } catch (IOException again) {
                e.addSuppressed(again);
                noJournal(e);
                return;
            }
            log.warn(
                    "No new state journal could be begun in {}: {}; the last one goes on",
                    options.directory(),
                    e.toString());
        }
        lock.lock();
        try {
            // The previous process numbered its reasons differently.
            newFrames(journal.generation());
        } finally {
            lock.unlock();
        }
        checkpoint();
        if (gone.size() > 0) {
            // The checkpoint counts them: a power cut must not take it, and leave only that they are gone.
            forceJournal();
            writeGone(gone);
        }
        // A snapshot is forced, too: losses that this opening reports must not be reported again by the next one.
        forceJournal();
    }

    /** Under the lock: makes what is queued from now on belong to that generation. */
    private void newFrames(long generation) {
        reasons.clear();
        frames = new JournalFrames(generation, reasons);
        spareFrames = new JournalFrames(generation, reasons);
        marksDueNanos = NEVER;
    }

    /** The beginning of a snapshot: everything that has to be as it was when its generation began. */
    private record SnapshotHead(long generation, JournalFrames frames, long nextSequence, long losses) {}

    private @Nullable SnapshotHead beginUnlessOvertaken(StateJournal.Prepared prepared) {
        if (journal.isOvertaken(prepared)) {
            journal.discard(prepared);
            return null;
        }
        return beginGeneration(prepared);
    }

    /**
     * Begins a generation. Everything queued up to now goes to the previous log, everything after that to the new one.
     */
    private SnapshotHead beginGeneration(StateJournal.Prepared prepared) {
        JournalFrames head = new JournalFrames(prepared.generation(), new JournalFrames.Reasons());
        JournalFrames last;
        List<PayloadChange> lastChanges;
        long next;
        lock.lock();
        try {
            last = frames;
            lastChanges = changes;
            changes = new ArrayList<>();
            newFrames(prepared.generation());
            index.types().forEach(head::counters);
            head.checkpoint(lastDecided);
            index.types().stream().filter(type -> type.paused).forEach(head::paused);
            declaredFileEnds.clear();
            payload.fileEnds().forEach((file, end) -> {
                declaredFileEnds.add(file);
                head.fileEnd(file, end);
            });
            next = sequence + 1;
        } finally {
            lock.unlock();
        }
        applyToPayload(lastChanges);
        head.files(payload.lastFile());
        head.gone(payload.gone());
        head.gone(refused);
        if (journal.isOpen() && !last.isEmpty()) {
            try {
                journal.write(last);
            } catch (IOException e) {
                log.warn("State journal in {} failed: {}", options.directory(), e.toString());
                losses++;
            }
        }
        if (!journal.begin(prepared)) {
            losses++;
        }
        // All that was lost so far is in the index.
        return new SnapshotHead(prepared.generation(), head, next, losses);
    }

    /**
     * Writes what differs from how it was persisted, a page of the index at a time, so that no other thread waits long
     * for the lock. For the commit leader, or while housekeeping.
     *
     * @param pause called between pages
     * @return the snapshot, to be put into effect
     */
    private StateJournal.Snapshot takeSnapshot(SnapshotHead head, Runnable pause) throws IOException {
        long now = options.clock().millis();
        try (StateJournal.Snapshot snapshot = journal.new Snapshot(head.generation())) {
            JournalFrames rows = head.frames();
            for (int page = 0; ; page++) {
                lock.lock();
                try {
                    if (page >= index.pageCount()) {
                        break;
                    }
                    index.forEachInPage(page, slot -> {
                        PersistedState persistedState = persistedState(slot);
                        if (persistedState.dead()
                                || persistedState.retries() > 0
                                || persistedState.lastAttempt() != NEVER
                                || persistedState.since() != index.createdAt(slot)
                                || persistedState.due() > now) {
                            // A batch without a frame is due at once.
                            rows.persistedState(index.sequence(slot), persistedState);
                        }
                    });
                } finally {
                    lock.unlock();
                }
                if (rows.length() > SNAPSHOT_CHUNK) {
                    snapshot.write(rows);
                    rows.clear();
                }
                pause.run();
            }
            rows.snapshotEnd(head.nextSequence());
            snapshot.write(rows);
            snapshot.finish();
            return snapshot;
        }
    }

    /** Commit leader only: puts a snapshot into effect. */
    private void inForce(StateJournal.Snapshot snapshot, SnapshotHead head) {
        journal.snapshotTaken(snapshot);
        repairedLosses = Math.max(repairedLosses, head.losses());
        // If it is not, more was lost since the snapshot was begun.
        if (isJournalComplete()) {
            journalProblem = null;
        }
    }

    /** Writes the counters to the journal, so that whatever happens to payload files from now on is noticed. */
    void checkpoint() {
        JournalFrames marks;
        lock.lock();
        try {
            index.types().forEach(frames::counters);
            frames.checkpoint(lastDecided);
            namedFile = payload.lastFile();
            frames.files(namedFile);
            marks = frames;
            frames = spareFrames;
            spareFrames = marks;
            marksDueNanos = NEVER;
        } finally {
            lock.unlock();
        }
        writeJournal(marks);
        marks.clear();
    }

    /** Begins a new generation and writes its snapshot, not as commit leader; for one thread at a time. */
    void takeSnapshot(Runnable pause) throws IOException {
        try {
            StateJournal.Prepared prepared = journal.prepare();
            SnapshotHead head = callAsLeader(() -> beginUnlessOvertaken(prepared));
            if (head == null) {
                throw new IOException("the journal failed meanwhile and was replaced");
            }
            StateJournal.Snapshot snapshot = takeSnapshot(head, pause);
            runAsLeader(() -> inForce(snapshot, head));
        } catch (IOException e) {
            snapshotFailedNanos = System.nanoTime();
            throw e;
        }
    }

    boolean isDueForSnapshot() {
        return journal.isDueForSnapshot() && System.nanoTime() - snapshotFailedNanos >= SNAPSHOT_RETRY_NANOS;
    }

    /** Whether the journal is much larger than it would be with two new snapshots. */
    boolean isJournalOversized() {
        long held;
        lock.lock();
        try {
            held = index.size();
        } finally {
            lock.unlock();
        }
        return journal.diskUsage() > 2 * 2 * (StateJournal.RESERVE + held * SNAPSHOT_BYTES_PER_BATCH);
    }

    void reclaimPayload() {
        nameFiles();
        forceJournal();
        payload.reclaim();
        if (!journal.isOpen()) {
            // There may be room for it now; it must know which files are gone.
            replaceJournal();
        }
    }

    /**
     * Records the highest file number: a deleted file no longer shows that its number was assigned. Commit leader only;
     * the journal must be forced next.
     */
    void nameFiles() {
        if (payload.lastFile() > namedFile) {
            namedFile = payload.lastFile();
            JournalFrames marks = new JournalFrames(journal.generation(), new JournalFrames.Reasons());
            marks.files(namedFile);
            writeJournal(marks);
        }
    }

    /** Writes frames for batches that are gone although their bytes exist, or will. Commit leader only. */
    void writeGone(LongList gone) {
        JournalFrames marks = new JournalFrames(journal.generation(), new JournalFrames.Reasons());
        marks.gone(gone.toArray());
        writeJournal(marks);
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
        if (!callAsLeader(this::isJournalComplete)) {
            return false;
        }
        try {
            if (options.sync() != SyncPolicy.NEVER) {
                journal.force();
            }
            return true;
        } catch (IOException e) {
            runAsLeader(() -> journalFailed(e));
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
        if (force && journal.isOpen()) {
            try {
                journal.force();
            } catch (IOException e) {
                runAsLeader(() -> journalFailed(e));
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
            checkpoint();
            forceJournal();
            payload.reclaim();
            payload.close();
            journal.close();
        } catch (Throwable e) {
            log.error("Closing {} failed; what was persisted is safe", options.directory(), e);
        }
    }
}
