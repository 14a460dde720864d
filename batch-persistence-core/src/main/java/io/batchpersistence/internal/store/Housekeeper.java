package io.batchpersistence.internal.store;

import io.batchpersistence.DeferredLog;
import io.batchpersistence.SingleLine;
import io.batchpersistence.codec.DamagedPayloadException;
import io.batchpersistence.store.DiskStoreOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Does what takes long and nobody waits for: forces the journal in its interval, ends files, writes snapshots,
 * compacts. It works on files that nobody needs yet, and takes the pen only to put the result in force.
 */
final class Housekeeper {

    private static final Logger log = SingleLine.logger(Housekeeper.class);

    /** Pages of the index that are looked through for a compaction under one lock. */
    private static final int PAGES_AT_ONCE = 16;

    private final DiskStoreOptions options;
    private final PayloadLog payload;
    private final BatchIndex index;
    private final ReentrantLock lock;
    private final StoreWriter writer;
    private final DamageListener damage;
    private final Thread thread = Threads.ofStore("batch-persistence-housekeeper", this::run);
    /** Held by whoever writes a snapshot or compacts; taken before the other two. */
    private final ReentrantLock housekeeping = new ReentrantLock();
    /** Held by whoever deletes files: who needs room does not wait for a compaction. Taken before the store's. */
    private final ReentrantLock deleting = new ReentrantLock();

    /** Whether somebody has asked for more than what is due. */
    private final AtomicBoolean thoroughly = new AtomicBoolean();

    /** Told of a batch whose bytes are damaged. */
    interface DamageListener {
        void found(int slot, Location location, @Nullable String reason);
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

    /** Returns whether this thread was interrupted meanwhile. */
    boolean join() {
        return Threads.join(thread);
    }

    /** Deletes files in which nothing is held, also the one being written. */
    void giveBack() {
        delete(true);
    }

    private void delete(boolean all) {
        boolean begun = DeferredLog.begin();
        deleting.lock();
        try {
            PayloadLog.Chore deletion = writer.fetchWithPen(() -> {
                PayloadLog.Chore next = payload.nextDeletion(all);
                if (next != null) {
                    writer.nameFiles();
                }
                return next;
            });
            if (deletion != null && writer.forceBeside()) {
                deletion.run();
                writer.withPen(deletion::finish);
            } else if (deletion != null || all) {
                writer.withPen(writer::reclaimPayload);
            }
        } finally {
            deleting.unlock();
            DeferredLog.end(begun);
        }
    }

    /** Makes the journal as small as it can be, at once, and has all that is sparse compacted by and by. */
    void cleanUp() {
        boolean begun = DeferredLog.begin();
        housekeeping.lock();
        try {
            // Twice: the snapshot before the newest is kept, and may be large.
            for (int i = 0; i < 2 && writer.isJournalOversized(); i++) {
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
                doChores();
                if (writer.isDueForSnapshot()) {
                    takeSnapshot();
                }
                while (compact(all)) {
                    delete(false);
                    doChores();
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

    private void doChores() {
        for (PayloadLog.Chore next; (next = writer.fetchWithPen(payload::nextChore)) != null; ) {
            next.run();
            writer.withPen(next::finish);
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
    private record Held(int slot, Location location) {}

    /** A batch that has been copied. */
    private record Moved(int slot, Location from, Location to) {}

    /**
     * Copies what is held in sparse files into a new one, which replaces them.
     *
     * @param all also where little is to be gained
     * @return whether there may be more
     */
    private boolean compact(boolean all) {
        PayloadLog.Compaction compaction = writer.fetchWithPen(() -> payload.nextCompaction(all));
        if (compaction == null) {
            return false;
        }
        try (compaction) {
            List<Moved> moved = new ArrayList<>();
            Throttle throttle = new Throttle(options.compactionRate());
            for (Held held : heldIn(compaction)) {
                byte[] bytes;
                try {
                    bytes = compaction.read(held.location());
                } catch (DamagedPayloadException e) {
                    damage.found(held.slot(), held.location(), e.getMessage());
                    continue;
                } catch (IOException e) {
                    if (isHeld(held)) {
                        throw e;
                    }
                    continue; // delivered meanwhile, as were all others in its file
                }
                // Held or not: a force that failed has dropped what was copied before, too.
                Location to = compaction.copy(held.location(), bytes);
                moved.add(new Moved(held.slot(), held.location(), to));
                writer.forceIfWanted();
                throttle.await(held.location().length(), writer::forceIfWanted);
            }
            compaction.finish();
            // Should it be in an older snapshot only that they are gone, their copies would come back to life. And what
            // is
            // missing in the gaps between them, should they be damaged, was counted before.
            // How they ended comes first, and has to stay: of what is only gone nobody would know what has become of
            // it.
            LongList gone = writer.fetchWithPen(() -> saidToBeGone(moved));
            forceJournal();
            if (gone.size() > 0) {
                writer.withPen(() -> writer.writeGone(gone));
                forceJournal();
            }
            return writer.fetchWithPen(() -> install(compaction, moved));
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
            return index.holdsAt(held.slot(), held.location());
        } finally {
            lock.unlock();
        }
    }

    private List<Held> heldIn(PayloadLog.Compaction compaction) {
        List<Held> rows = new ArrayList<>();
        for (int from = 0; ; from += PAGES_AT_ONCE) {
            lock.lock();
            try {
                if (from >= index.pageCount()) {
                    break;
                }
                for (int page = from; page < Math.min(from + PAGES_AT_ONCE, index.pageCount()); page++) {
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
        rows.sort(Comparator.comparingLong(held -> held.location().sequence()));
        return rows;
    }

    private void forceJournal() throws IOException {
        if (!writer.forceBeside()) {
            throw new IOException("the journal can't be written");
        }
    }

    /** With the pen: what is gone although a copy of it is about to appear; the journal has been told how each of them ended. */
    private LongList saidToBeGone(List<Moved> moved) {
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
        writer.checkpoint();
        return gone;
    }

    /** With the pen. Returns whether the copies are in force; if not, the originals still are. */
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
