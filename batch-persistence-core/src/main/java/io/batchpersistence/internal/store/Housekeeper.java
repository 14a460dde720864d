package io.batchpersistence.internal.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.Threads;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Does slow work in the background: forces the journal at its interval, seals files, writes snapshots, compacts. It
 * works on files that are not in use yet, and needs the commit leader only to put the result into effect.
 */
final class Housekeeper {

    private static final Logger log = LogSanitizer.logger(Housekeeper.class);

    /** Index pages scanned for a compaction while holding the lock once. */
    private static final int PAGES_PER_LOCK = 16;

    private final DiskStoreOptions options;
    private final PayloadLog payload;
    private final BatchIndex index;
    private final ReentrantLock lock;
    private final StoreWriter writer;
    private final DamageListener damage;
    private final Thread thread = Threads.ofStore("batch-persistence-housekeeper", this::run);
    /** Held while writing a snapshot or compacting; acquired before the other two locks. */
    private final ReentrantLock housekeeping = new ReentrantLock();
    /**
     * Held while deleting files: a caller that needs room does not wait for a compaction. Acquired before the store's
     * lock.
     */
    private final ReentrantLock deleting = new ReentrantLock();

    /** Whether more was requested than is due. */
    private final AtomicBoolean thoroughly = new AtomicBoolean();

    /** Notified of a batch whose bytes are damaged. */
    interface DamageListener {
        void found(int slot, RecordPointer pointer, @Nullable String reason);
    }

    Housekeeper(
            DiskStoreOptions options,
            PayloadLog payload,
            BatchIndex index,
            ReentrantLock lock,
            StoreWriter writer,
            DamageListener damage) {
        this.options = options;
        this.payload = payload;
        this.index = index;
        this.lock = lock;
        this.writer = writer;
        this.damage = damage;
    }

    void start() {
        thread.start();
    }

    /** Waits for the thread to end. Returns whether this thread was interrupted meanwhile. */
    boolean join() {
        return Threads.join(thread);
    }

    /** Deletes files that hold no batches, including the one being written. */
    void releaseSpace() {
        delete(true);
    }

    private void delete(boolean all) {
        boolean begun = DeferredLog.begin();
        deleting.lock();
        try {
            PayloadLog.MaintenanceTask deletion = writer.callAsLeader(() -> {
                PayloadLog.MaintenanceTask next = payload.nextDeletion(all);
                if (next != null) {
                    writer.journal.nameFiles();
                }
                return next;
            });
            if (deletion != null && writer.forceConcurrently()) {
                deletion.run();
                writer.runAsLeader(deletion::finish);
            } else if (deletion != null || all) {
                writer.runAsLeader(writer::reclaimPayload);
            }
        } finally {
            deleting.unlock();
            DeferredLog.end(begun);
        }
    }

    /** Shrinks the journal as far as possible at once, and schedules the compaction of everything sparse. */
    void cleanUp() {
        boolean begun = DeferredLog.begin();
        housekeeping.lock();
        try {
            // Twice, because the snapshot before the newest is kept, and may be large.
            for (int i = 0; i < 2 && writer.journal.isOversized(); i++) {
                takeSnapshot();
            }
        } finally {
            housekeeping.unlock();
            DeferredLog.end(begun);
        }
        thoroughly.set(true);
        writer.wakeHousekeeper();
    }

    private void run() {
        DeferredLog.storeThread();
        while (writer.awaitHousework()) {
            boolean all = thoroughly.getAndSet(false);
            housekeeping.lock();
            try {
                writer.forceIfWanted();
                delete(false);
                runMaintenance();
                if (writer.isDueForSnapshot()) {
                    takeSnapshot();
                }
                while (compact(all)) {
                    delete(false);
                    runMaintenance();
                }
            } catch (StoreWriter.ClosedException e) {
                log.trace("Left for the next process", e);
            } catch (Throwable e) {
                log.error("Housekeeping in {} failed", options.directory(), e);
            } finally {
                housekeeping.unlock();
            }
        }
    }

    private void runMaintenance() {
        for (PayloadLog.MaintenanceTask next; (next = writer.callAsLeader(payload::nextMaintenanceTask)) != null; ) {
            next.run();
            writer.runAsLeader(next::finish);
            writer.forceIfWanted();
        }
    }

    private void takeSnapshot() {
        try {
            writer.takeSnapshot(writer::forceIfWanted);
        } catch (IOException e) {
            log.warn(
                    "No snapshot could be written in {}: {}; the journal goes on without",
                    options.directory(),
                    e.toString());
        }
    }

    // ---- compaction ------------------------------------------------------------------------------

    /** A batch to be copied, and where. */
    private record Held(int slot, RecordPointer pointer) {}

    /** A batch that has been copied. */
    private record Moved(int slot, RecordPointer from, RecordPointer to) {}

    /**
     * Copies the batches held in sparse files into a new one, which replaces them.
     *
     * @param all whether to compact even where little is gained
     * @return whether there may be more to compact
     */
    private boolean compact(boolean all) {
        PayloadLog.Compaction compaction = writer.callAsLeader(() -> payload.nextCompaction(all));
        if (compaction == null) {
            return false;
        }
        try (compaction) {
            List<Moved> moved = new ArrayList<>();
            Throttle throttle = new Throttle(options.compactionRate());
            for (Held held : heldIn(compaction)) {
                byte[] bytes;
                try {
                    bytes = compaction.read(held.pointer());
                } catch (DamagedPayloadException e) {
                    damage.found(held.slot(), held.pointer(), e.getMessage());
                    continue;
                } catch (IOException e) {
                    if (isHeld(held)) {
                        throw e;
                    }
                    // Delivered meanwhile, like all others in its file.
                    continue;
                }
                // A failed copy aborts the compaction, whether or not the batch is still held: a failed force has lost
                // the earlier copies, too.
                RecordPointer to = compaction.copy(held.pointer(), bytes);
                moved.add(new Moved(held.slot(), held.pointer(), to));
                writer.forceIfWanted();
                throttle.await(held.pointer().length(), writer::forceIfWanted);
            }
            compaction.finish();
            // If only an older snapshot said that they are gone, compaction would resurrect them. And the checkpoint
            // covers the sequences missing between the copies: should those gaps be damaged, they were counted before.
            // Force how they ended first: frames that only say that they are gone do not tell what became of them.
            LongList gone = writer.callAsLeader(() -> declaredGone(moved));
            forceJournal();
            if (gone.size() > 0) {
                writer.runAsLeader(() -> writer.journal.writeGone(gone));
                forceJournal();
            }
            return writer.callAsLeader(() -> install(compaction, moved));
        } catch (IOException e) {
            log.warn(
                    "Sparse files in {} could not be compacted: {}; it is tried again later",
                    options.directory(),
                    e.toString());
            return false;
        }
    }

    private boolean isHeld(Held held) {
        lock.lock();
        try {
            return index.holdsAt(held.slot(), held.pointer());
        } finally {
            lock.unlock();
        }
    }

    private List<Held> heldIn(PayloadLog.Compaction compaction) {
        List<Held> rows = new ArrayList<>();
        for (int from = 0; ; from += PAGES_PER_LOCK) {
            lock.lock();
            try {
                if (from >= index.pageCount()) {
                    break;
                }
                for (int page = from; page < Math.min(from + PAGES_PER_LOCK, index.pageCount()); page++) {
                    index.forEachInPage(page, slot -> {
                        if (compaction.replaces(index.file(slot))) {
                            rows.add(new Held(slot, index.location(slot)));
                        }
                    });
                }
            } finally {
                lock.unlock();
            }
            writer.forceIfWanted();
        }
        rows.sort(Comparator.comparingLong(held -> held.pointer().sequence()));
        return rows;
    }

    private void forceJournal() throws IOException {
        if (!writer.forceConcurrently()) {
            throw new IOException("the journal can't be written");
        }
    }

    /**
     * Commit leader only: returns the batches that are gone although a copy of them is about to appear; the journal
     * already says how each of them ended.
     */
    private LongList declaredGone(List<Moved> moved) {
        LongList gone = new LongList();
        lock.lock();
        try {
            for (Moved batch : moved) {
                if (!index.holdsAt(batch.slot(), batch.from())) {
                    gone.add(batch.from().sequence());
                }
            }
        } finally {
            lock.unlock();
        }
        writer.journal.checkpoint();
        return gone;
    }

    /** Commit leader only. Returns whether the copies are in effect; if not, the originals still are. */
    private boolean install(PayloadLog.Compaction compaction, List<Moved> moved) {
        try {
            compaction.install();
        } catch (IOException e) {
            log.warn("Compacted batches could not be put in force in {}: {}", options.directory(), e.toString());
            return false;
        }
        lock.lock();
        try {
            for (Moved batch : moved) {
                boolean held = index.holdsAt(batch.slot(), batch.from());
                if (held) {
                    index.relocate(batch.slot(), batch.to());
                }
                compaction.moved(batch.from(), batch.to(), held);
            }
        } finally {
            lock.unlock();
        }
        return true;
    }
}
