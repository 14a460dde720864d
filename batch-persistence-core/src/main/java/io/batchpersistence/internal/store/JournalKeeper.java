package io.batchpersistence.internal.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps the state journal complete: begins its generations, writes their snapshots, and knows whether marks were lost
 * that only a new snapshot makes up for.
 *
 * <p>For the commit leader, unless a method says otherwise. Takes the store's lock where it reads the index or what is
 * queued; holds no lock while it writes.
 */
final class JournalKeeper {

    private static final Logger log = LogSanitizer.logger(JournalKeeper.class);

    /** Pause between attempts to begin a new journal, so that not every single mark tries to on a full disk. */
    private static final long GENERATION_RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);

    /** Bytes that a snapshot collects before it writes them. */
    private static final int SNAPSHOT_CHUNK = 256 << 10;

    /** Approximate bytes of a batch in a snapshot, if its state differs from how it was persisted. */
    private static final long SNAPSHOT_BYTES_PER_BATCH = 64;

    /** 146 years: such a delay can be added to the ticker. */
    private static final long MAX_DELAY_NANOS = Long.MAX_VALUE / 2;

    private static final long NEVER = BatchIndex.NEVER;

    private final DiskStoreOptions options;
    private final PayloadLog payload;
    private final StateJournal files;
    private final BatchIndex index;
    private final ReentrantLock lock;
    private final MarkQueue marks;

    /** How often marks could not be written to the journal. */
    private long losses = 1;
    /** How many of these {@code losses} a later snapshot has made up for. */
    private long repairedLosses;
    /** The refused batches among those being written. */
    private long[] refused = {};

    private long lastGenerationNanos;
    /** The highest number of a payload file that the journal contains. */
    private int namedFile;

    /** Whether that was why no journal could be begun. */
    private boolean lacksSpace;

    private volatile @Nullable String problem;

    /**
     * Starts without a journal to write to, see {@link #open}.
     *
     * @param files the journal as it was read
     * @param index guarded by the lock, like the marks
     */
    JournalKeeper(
            DiskStoreOptions options,
            PayloadLog payload,
            StateJournal files,
            BatchIndex index,
            ReentrantLock lock,
            MarkQueue marks) {
        this.options = options;
        this.payload = payload;
        this.files = files;
        this.index = index;
        this.lock = lock;
        this.marks = marks;
    }

    /** Records that something could not be written to the journal. */
    void lost() {
        losses++;
    }

    /** Whether log and snapshots together contain everything that was to be written to them. */
    boolean isComplete() {
        return files.isOpen() && losses == repairedLosses;
    }

    void write(JournalFrames frames) {
        if (!files.isOpen()) {
            losses++;
            if (System.nanoTime() - lastGenerationNanos > GENERATION_RETRY_NANOS) {
                // The new snapshot contains what these frames say.
                replace();
            }
            return;
        }
        try {
            files.write(frames);
            if (options.sync() != SyncPolicy.NEVER) {
                forceLater();
            }
        } catch (IOException e) {
            failed(e);
        }
    }

    void forceLater() {
        marks.lockDespiteErrors();
        try {
            if (marks.forceDueNanos == NEVER) {
                marks.forceDueNanos = System.nanoTime()
                        + Math.min(TimeUnit.NANOSECONDS.convert(options.syncInterval()), MAX_DELAY_NANOS);
            }
        } finally {
            lock.unlock();
        }
    }

    /**
     * Makes what was written to the journal durable, however it failed before.
     *
     * @return whether it is; if no new journal can be begun either, marks are kept in memory only
     */
    boolean force() {
        if (!isComplete()) {
            return replace();
        }
        try {
            if (options.sync() != SyncPolicy.NEVER) {
                files.force();
            }
        } catch (IOException e) {
            return failed(e);
        }
        journalForced();
        return true;
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

    /** Why marks are kept in memory only; {@code null} if they are not. Needs no lock. */
    @Nullable
    String problem() {
        return problem;
    }

    String problem(IOException e) {
        return "marks can't be written to " + options.directory() + ": " + message(e);
    }

    /**
     * Replaces the journal: after a failed write or force nothing in that file can be trusted to become durable.
     *
     * @return whether there is a new one
     */
    boolean failed(IOException e) {
        log.warn("State journal in {} failed: {}; beginning a new one", options.directory(), e.toString());
        files.close();
        losses++;
        return replace();
    }

    /**
     * Begins a new generation and writes its snapshot, at once. If that fails, the store goes on without a journal
     * (marks then live in memory only) and tries again with the next mark or cleanup.
     *
     * @return whether there is a new one, durable
     */
    boolean replace() {
        lastGenerationNanos = System.nanoTime();
        try {
            SnapshotHead head = beginGeneration(files.prepare());
            putInForce(writeSnapshot(head, () -> {}), head);
        } catch (IOException e) {
            noJournal(e);
            return false;
        }
        journalForced();
        return true;
    }

    private void noJournal(IOException e) {
        problem = problem(e);
        lacksSpace = isLackOfSpace(e);
        log.error(
                "No state journal could be begun in {}: {}. Until it can, marks are kept in memory only, and what is "
                        + "delivered now may be sent again after a restart",
                options.directory(),
                e.toString());
    }

    /** Whether deleting files may help: the operating system's words, for Java has no type of exception for it. */
    private static boolean isLackOfSpace(IOException e) {
        String message = message(e).toLowerCase(Locale.ROOT);
        return message.contains("space") || message.contains("quota");
    }

    /** Whether there is no journal because the disk is full. */
    boolean lacksSpace() {
        return !files.isOpen() && lacksSpace;
    }

    /**
     * Begins a new generation or, if there is no room for one, resumes the newest that was read: its reserve is for
     * exactly that, and without it a store that is opened on a full disk would forget its marks when it is closed.
     */
    void open(LongList gone) {
        try {
            SnapshotHead head = beginGeneration(files.prepare());
            putInForce(writeSnapshot(head, () -> {}), head);
            return;
        } catch (IOException e) {
            try {
                files.takeBack();
                files.resume();
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
            marks.begin(files.generation());
        } finally {
            lock.unlock();
        }
        checkpoint();
        if (gone.size() > 0) {
            // The checkpoint counts them: a power cut must not take it, and leave only that they are gone.
            force();
            writeGone(gone);
        }
        // A snapshot is forced, too: losses that this opening reports must not be reported again by the next one.
        force();
    }

    /** The beginning of a snapshot: everything that has to be as it was when its generation began. */
    record SnapshotHead(long generation, JournalFrames frames, long nextSequence, long losses) {}

    @Nullable
    SnapshotHead beginUnlessOvertaken(StateJournal.Prepared prepared) {
        if (files.isOvertaken(prepared)) {
            files.discard(prepared);
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
        List<MarkQueue.PayloadChange> lastChanges;
        long next;
        lock.lock();
        try {
            last = marks.frames();
            lastChanges = marks.changes();
            marks.begin(prepared.generation());
            index.types().forEach(head::counters);
            head.checkpoint(marks.lastDecided);
            index.types().stream().filter(type -> type.paused).forEach(head::paused);
            marks.declareFileEnds(payload.fileEnds(), head);
            next = marks.sequence + 1;
        } finally {
            lock.unlock();
        }
        applyToPayload(lastChanges);
        head.files(payload.lastFile());
        head.gone(payload.gone());
        head.gone(refused);
        if (files.isOpen() && !last.isEmpty()) {
            try {
                files.write(last);
            } catch (IOException e) {
                log.warn("State journal in {} failed: {}", options.directory(), e.toString());
                losses++;
            }
        }
        if (!files.begin(prepared)) {
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
    StateJournal.Snapshot writeSnapshot(SnapshotHead head, Runnable pause) throws IOException {
        long now = options.clock().millis();
        try (StateJournal.Snapshot snapshot = files.new Snapshot(head.generation())) {
            JournalFrames rows = head.frames();
            for (int page = 0; ; page++) {
                lock.lock();
                try {
                    if (page >= index.pageCount()) {
                        break;
                    }
                    index.forEachInPage(page, slot -> {
                        PersistedState persistedState = index.persistedState(slot);
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
    void putInForce(StateJournal.Snapshot snapshot, SnapshotHead head) {
        files.snapshotTaken(snapshot);
        repairedLosses = Math.max(repairedLosses, head.losses());
        // If it is not, more was lost since the snapshot was begun.
        if (isComplete()) {
            problem = null;
        }
    }

    /** Writes the counters to the journal, so that whatever happens to payload files from now on is noticed. */
    void checkpoint() {
        JournalFrames frames;
        lock.lock();
        try {
            frames = marks.frames();
            index.types().forEach(frames::counters);
            frames.checkpoint(marks.lastDecided);
            namedFile = payload.lastFile();
            frames.files(namedFile);
            marks.swapFrames();
        } finally {
            lock.unlock();
        }
        write(frames);
        frames.clear();
    }

    /** Whether the journal is much larger than it would be with two new snapshots. */
    boolean isOversized() {
        long held;
        lock.lock();
        try {
            held = index.size();
        } finally {
            lock.unlock();
        }
        return files.diskUsage() > 2 * 2 * (StateJournal.RESERVE + held * SNAPSHOT_BYTES_PER_BATCH);
    }

    /**
     * Records the highest file number: a deleted file no longer shows that its number was assigned. Commit leader only;
     * the journal must be forced next.
     */
    void nameFiles() {
        if (payload.lastFile() > namedFile) {
            namedFile = payload.lastFile();
            JournalFrames frames = newFrames();
            frames.files(namedFile);
            write(frames);
        }
    }

    /** Writes frames for batches that are gone although their bytes exist, or will. Commit leader only. */
    void writeGone(LongList gone) {
        JournalFrames frames = newFrames();
        frames.gone(gone.toArray());
        write(frames);
    }

    private JournalFrames newFrames() {
        return new JournalFrames(files.generation(), new JournalFrames.Reasons());
    }

    /**
     * Records the numbers of refused batches, durably.
     *
     * @param counted whether batches before them were refused, too, which only the counters tell
     */
    void recordRefused(LongList numbers, boolean counted) {
        refused = numbers.toArray();
        if (counted) {
            checkpoint();
        }
        if (numbers.size() > 0) {
            writeGone(numbers);
        }
        force();
        refused = new long[0];
    }

    void applyToPayload(List<MarkQueue.PayloadChange> changes) {
        for (MarkQueue.PayloadChange change : changes) {
            if (change.persistedState() == null) {
                payload.removed(change.pointer());
            } else {
                payload.changed(change.pointer(), change.persistedState());
            }
        }
    }

    static String message(@Nullable Throwable failure) {
        if (failure == null) {
            return "unknown";
        }
        return failure.getMessage() == null ? failure.toString() : failure.getMessage();
    }
}
