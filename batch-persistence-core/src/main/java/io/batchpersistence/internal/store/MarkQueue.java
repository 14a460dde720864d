package io.batchpersistence.internal.store;

import io.batchpersistence.internal.spi.RemovalReason;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * What is queued for the journal, and for the payload log: what became of batches since the last round of writing.
 * Guarded by the store's lock, so that it is in the order in which the index changed.
 */
final class MarkQueue {

    private static final long NEVER = BatchIndex.NEVER;

    private final BatchIndex index;
    private final ReentrantLock lock;
    private final JournalFrames.Reasons reasons = new JournalFrames.Reasons();
    private JournalFrames frames = new JournalFrames(0, reasons);
    private JournalFrames spareFrames = new JournalFrames(0, reasons);
    private List<PayloadChange> changes = new ArrayList<>();
    private final Set<Integer> declaredFileEnds = new HashSet<>();

    /** The highest number of a batch. */
    long sequence;
    /**
     * For all batches up to this number it is decided whether they are accepted; the accepted ones are in the counters.
     */
    long lastDecided;
    /** Deadline for writing the marks; {@link BatchIndex#NEVER} if there are none. */
    long dueNanos = NEVER;
    /** Deadline for forcing the journal; {@link BatchIndex#NEVER} if it is forced. */
    long forceDueNanos = NEVER;

    /** A batch's new state; {@code null} if it is gone. */
    record PayloadChange(RecordPointer pointer, @Nullable PersistedState persistedState) {}

    MarkQueue(BatchIndex index, ReentrantLock lock, long sequence) {
        this.index = index;
        this.lock = lock;
        this.sequence = sequence;
        this.lastDecided = sequence;
    }

    /** Acquires the lock even if lock() throws OutOfMemoryError: leadership must be released, and callers notified. */
    void lockDespiteErrors() {
        while (true) {
            try {
                lock.lock();
                return;
            } catch (OutOfMemoryError e) {
                Thread.onSpinWait();
            }
        }
    }

    JournalFrames frames() {
        return frames;
    }

    List<PayloadChange> changes() {
        return changes;
    }

    /** When marks must be written, or forced, at the latest. */
    long deadlineNanos() {
        return Math.min(dueNanos, forceDueNanos);
    }

    void settled(RecordPointer pointer, BatchIndex.Type type, RemovalReason reason) {
        frames.settled(pointer.sequence(), type, reason);
        changes.add(new PayloadChange(pointer, null));
    }

    void withdrawn(RecordPointer pointer, BatchIndex.Type type) {
        frames.withdrawn(pointer.sequence(), type);
        changes.add(new PayloadChange(pointer, null));
    }

    void changed(int slot) {
        RecordPointer pointer = index.location(slot);
        PersistedState persistedState = index.persistedState(slot);
        frames.persistedState(pointer.sequence(), persistedState);
        changes.add(new PayloadChange(pointer, persistedState));
    }

    /** Queues the ends of files that the journal does not contain yet; returns whether there are any. */
    boolean fileEnds(Map<Integer, PayloadLog.FileEnd> ends) {
        boolean any = false;
        for (Map.Entry<Integer, PayloadLog.FileEnd> end : ends.entrySet()) {
            if (declaredFileEnds.add(end.getKey())) {
                frames.fileEnd(end.getKey(), end.getValue());
                any = true;
            }
        }
        return any;
    }

    /** Writes the ends of all files to the beginning of a generation. */
    void declareFileEnds(Map<Integer, PayloadLog.FileEnd> ends, JournalFrames head) {
        declaredFileEnds.clear();
        ends.forEach((file, end) -> {
            declaredFileEnds.add(file);
            head.fileEnd(file, end);
        });
    }

    /** Empties the queue: what was in it is the caller's, who clears the frames once they are written. Can't fail. */
    void swap(List<PayloadChange> empty) {
        changes = empty;
        swapFrames();
    }

    void swapFrames() {
        JournalFrames full = frames;
        frames = spareFrames;
        spareFrames = full;
        dueNanos = NEVER;
    }

    /** Empties the queue: what comes from now on belongs to that generation. */
    void begin(long generation) {
        reasons.clear();
        changes = new ArrayList<>();
        frames = new JournalFrames(generation, reasons);
        spareFrames = new JournalFrames(generation, reasons);
        dueNanos = NEVER;
    }
}
