package io.batchpersistence.internal.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchStore;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.NewBatch;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.DirectoryLock;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.store.DiskStoreOptions;
import io.batchpersistence.store.SyncPolicy;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.IntConsumer;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/**
 * A store on a local disk: an index in memory of who is where, a journal on disk of what became of whom, and a
 * {@link PayloadLog} with the bytes. What is common to all such stores is here; a subclass only chooses the payload log.
 *
 * <h2>Invariants</h2>
 *
 * <ul>
 *   <li>Files are written by one thread at a time, the one that has <em>the pen</em>. Everybody else encodes, changes the
 *       index under the lock, and leaves what is to be written in a queue. What one round finds there shares one force: that
 *       is the group commit. A caller who waits for his batch anyway and finds the pen free takes it for one round, so that a
 *       lone caller waits for no other thread; otherwise it is the private writer thread's.
 *   <li>What takes long happens beside that, in files that nobody needs yet: the housekeeper writes snapshots, compacts
 *       sparse payload files, ends full ones and prepares new ones. It takes the pen only to put the result in force.
 *   <li>A batch enters the index after its bytes are durable, and its future completes after that.
 *   <li>Changes enter the journal's queue under the same lock that changes the index, so the journal has them in order.
 *   <li>A payload is given up only after the journal says that its batch is gone, and a file with payloads is deleted only
 *       after the journal has been forced: else a power cut would make delivered batches look lost. A payload that is copied
 *       is durable at its new place before the old one is given up; a batch found twice, with one number, is one batch.
 *   <li>Marks are not forced one by one but within the sync interval. What a power cut takes of them is sent again.
 *   <li>State can be derived from what was forced: without any journal, every payload is a pending batch.
 *   <li>Nothing is read from disk under the lock. Whoever reads checks afterwards, by sequence, that the batch is still the
 *       one that he wanted to read.
 * </ul>
 */
public abstract class IndexedBatchStore implements BatchStore {

    /** Where batches are counted whose collector type was lost with them. */
    static final String UNKNOWN_COLLECTOR = "unknown";

    private static final Logger log = LoggerFactory.getLogger(IndexedBatchStore.class);

    /** Encoded bytes in the queue above which appending callers wait: memory stays bounded however many there are. */
    private static final long MAX_QUEUED_BYTES = 64L << 20;

    /** On a full disk not every single mark tries to begin a new journal. */
    private static final long GENERATION_RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);

    /** After a snapshot that failed the journal goes on, and grows, for that long. */
    private static final long SNAPSHOT_RETRY_NANOS = TimeUnit.SECONDS.toNanos(10);

    /** A batch that can't be read at the moment, because the process has no file descriptor left for instance. */
    private static final long READ_RETRY_MILLIS = 10_000;

    /** Characters of a failure reason that are kept. */
    private static final int MAX_REASON = 4_096;

    private static final long NEVER = BatchIndex.NEVER;

    /** Stands for a due time: at once, whenever that is. */
    private static final long WAS_IN_FLIGHT = 0;

    /** Marks wait that long for others to be written with. What a kill takes of them is sent again. */
    private static final long MARKS_LINGER_NANOS = TimeUnit.MILLISECONDS.toNanos(2);

    /** What a batch takes in a snapshot, about, if it is not as it was persisted. */
    private static final long SNAPSHOT_BYTES_PER_BATCH = 64;

    /** What a snapshot collects before it writes. */
    private static final int SNAPSHOT_CHUNK = 256 << 10;

    /** Pages of the index that are looked through for a compaction under one lock. */
    private static final int PAGES_AT_ONCE = 16;

    private final DiskStoreOptions options;
    private final Disk disk;
    private final DirectoryLock directoryLock;
    private final Quarantine quarantine;
    private final PayloadLog payload;
    private final Thread writer;
    private final Thread housekeeper;

    private final ReentrantLock lock = new ReentrantLock();
    /** The writer thread waits for it. */
    private final Condition work = lock.newCondition();
    /** The housekeeper waits for it. */
    private final Condition housework = lock.newCondition();

    private final Condition queueShrank = lock.newCondition();
    /** Held by whoever writes a snapshot or compacts; before {@link #lock}. */
    private final ReentrantLock housekeeping = new ReentrantLock();

    // ---- guarded by the lock ---------------------------------------------------------------------

    private final BatchIndex index = new BatchIndex();
    /** By id; every batch in flight but those whose bytes are being read for a claim. */
    private final Map<String, Flight> flights = new HashMap<>();

    private final Set<String> appending = new HashSet<>();
    private List<PayloadLog.Append> appends = new ArrayList<>();
    private final JournalFrames.Names names = new JournalFrames.Names();
    private JournalFrames frames = new JournalFrames(0, names);
    private JournalFrames spareFrames = new JournalFrames(0, names);
    private List<PayloadChange> changes = new ArrayList<>();
    private List<Task> tasks = new ArrayList<>();
    private final Set<Integer> declaredFileEnds = new HashSet<>();
    /** Whether somebody has the pen. */
    private boolean writing;
    /** When the marks in {@link #frames} are to be written at the latest; {@link #NEVER} if there are none. */
    private long marksDueNanos = NEVER;
    /** When the writer thread looks again by itself. */
    private long writerWakesNanos = NEVER;

    /** When a snapshot could not be written. */
    private volatile long snapshotFailedNanos = System.nanoTime() - SNAPSHOT_RETRY_NANOS;

    private boolean maintenanceDue;
    private boolean houseworkDue;
    private boolean forceDue;
    private boolean thoroughly;
    /** When the journal is to be forced; {@link #NEVER} if it is. */
    private long forceDueNanos = NEVER;

    private final List<Corruption> corruptions = new ArrayList<>();
    private @Nullable Consumer<Corruption> corruptionListener;
    private long queuedBytes;
    private long sequence;
    private long lastStored;
    private long fences;
    private long earliestLeaseEnd = NEVER;
    private boolean closing;
    private boolean finishing;
    private @Nullable String appendProblem;

    // ---- of whoever has the pen ------------------------------------------------------------------

    private final StateJournal journal;
    /** How often marks could not be written to the journal ... */
    private long losses = 1;
    /** ... and how many of these times a later snapshot has made up for. */
    private long lossesMadeUpFor;

    private long lastGenerationNanos;
    private volatile @Nullable String journalProblem;

    private record Flight(int slot, long fence, long leaseEnd) {}

    /** A batch as it was at one moment, to be read from disk without the lock. */
    private record Row(
            int slot,
            Location location,
            String collectorType,
            BatchState state,
            long lastAttempt,
            long due,
            int retries,
            @Nullable String reason) {}

    private record PayloadChange(
            Location location, @Nullable Standing standing) {}

    private record Task(Runnable action, CompletableFuture<@Nullable Void> done) {}

    /** Makes the payload log, after the directory is locked. */
    @FunctionalInterface
    protected interface PayloadLogFactory {
        /**
         * Makes it.
         *
         * @param disk the file system
         * @param options the store's options
         * @return a payload log, not yet loaded
         */
        PayloadLog create(Disk disk, DiskStoreOptions options);
    }

    /**
     * Locks the directory, loads what is there and starts the writer.
     *
     * @param options the options
     * @param disk the file system
     * @param factory makes the payload log
     */
    protected IndexedBatchStore(DiskStoreOptions options, Disk disk, PayloadLogFactory factory) {
        this.options = options;
        this.disk = disk;
        this.directoryLock =
                DirectoryLock.acquire(disk, options.directory(), options.clock().instant());
        boolean opened = false;
        try {
            this.quarantine = new Quarantine(disk, options.directory(), Math.min(64 << 20, options.maxDiskUsage() / 8));
            this.payload = factory.create(disk, options);
            journal = load();
            openJournal();
            if (payload.isReclaimable()) {
                reclaimPayload(); // only now that the journal's snapshot, which is forced, knows what is gone
            }
            this.writer = daemon("batch-persistence-writer", this::write);
            this.housekeeper = daemon("batch-persistence-housekeeper", this::keepHouse);
            writer.start();
            housekeeper.start();
            opened = true;
        } catch (IOException e) {
            throw new BatchPersistenceException(
                    "the batches in " + options.directory().toAbsolutePath() + " can't be read: " + e.getMessage(), e);
        } finally {
            if (!opened) {
                directoryLock.close();
            }
        }
    }

    private static Thread daemon(String name, Runnable action) {
        Thread thread = new Thread(action, name);
        thread.setDaemon(true);
        return thread;
    }

    /**
     * The hash by which ids are found.
     *
     * @param id an id
     * @return CRC32C of its UTF-8 bytes
     */
    public static int idHash(String id) {
        CRC32C crc = new CRC32C();
        crc.update(id.getBytes(StandardCharsets.UTF_8));
        return (int) crc.getValue();
    }

    // ---- opening ---------------------------------------------------------------------------------

    private StateJournal load() throws IOException {
        JournalState state = new JournalState();
        StateJournal read = StateJournal.read(disk, options.directory(), state, this::journalDamaged);
        sequence = state.nextSequence() - 1;
        state.counters().forEach((name, counters) -> {
            index.type(name, counters);
        });
        Loader loader = new Loader(state);
        payload.load(loader);
        loader.finish();
        lastStored = sequence;
        return read;
    }

    private void journalDamaged(Path file, long offset, long length, String reason) {
        Path kept = quarantine.keep(file, offset, length);
        // No batch is lost with it: what it no longer says is sent once more. So it is a log line, not an event.
        log.warn(
                "State journal {} has {} bytes at {} that can't be used: {}. Batches marked there may be sent once more. Kept in {}",
                file,
                length,
                offset,
                reason,
                kept);
    }

    /** Turns what the payload log finds into the index, and settles the accounts. */
    private final class Loader implements PayloadLog.Loading {

        private final JournalState state;
        private final long now = options.clock().millis();
        private final List<Location> replaced = new ArrayList<>();
        private long lostUnknown;

        Loader(JournalState state) {
            this.state = state;
        }

        @Override
        public boolean isGone(long sequence) {
            return state.isGone(sequence);
        }

        @Override
        public long fileEnd(int file) {
            return state.fileEnd(file);
        }

        @Override
        public long newSequence() {
            return ++sequence;
        }

        @Override
        public void found(
                Location location, int idHash, String collectorType, long createdAt, @Nullable Standing fromPayload) {
            sequence = Math.max(sequence, location.sequence());
            if (isKnown(location, idHash)) {
                return;
            }
            if (location.sequence() > state.checkpoint()) {
                index.type(collectorType).counters.accepted++;
            }
            restore(
                    location,
                    idHash,
                    collectorType,
                    createdAt,
                    fromPayload != null ? fromPayload : state.standing(location.sequence()));
        }

        private void restore(
                Location location, int idHash, String collectorType, long createdAt, @Nullable Standing standing) {
            BatchIndex.Type type = index.type(collectorType);
            if (standing == null) {
                index.pend(index.restore(location, idHash, type, createdAt, createdAt), now);
                return;
            }
            int slot = index.restore(location, idHash, type, createdAt, standing.since());
            index.noteFailure(slot, standing.lastAttempt(), standing.retries(), standing.reason());
            if (standing.dead()) {
                index.bury(slot, standing.since());
            } else {
                index.pend(slot, standing.due() == WAS_IN_FLIGHT ? now : standing.due());
            }
        }

        /**
         * The same batch twice: a copy whose original was about to be deleted. The same id twice: an append that failed after
         * its bytes were written, and was tried again; the later one is the one that was promised.
         */
        private boolean isKnown(Location location, int idHash) {
            List<Integer> same = new ArrayList<>(0);
            index.candidates(idHash, same::add);
            for (int slot : same) {
                Location other = index.location(slot);
                if (other.sequence() == location.sequence()) {
                    index.relocate(slot, location);
                    payload.superseded(other);
                    return true;
                }
                String id = idAt(other);
                if (id != null && id.equals(idAt(location))) {
                    index.typeOf(slot).counters.accepted--;
                    index.remove(slot);
                    replaced.add(other);
                }
            }
            return false;
        }

        @Override
        public boolean damaged(
                Path file,
                long offset,
                long length,
                String reason,
                @Nullable String id,
                @Nullable String collectorType,
                long[] lost) {
            long batches = 0;
            for (long number : lost) {
                sequence = Math.max(sequence, number);
                if (state.isGone(number)) {
                    continue;
                }
                boolean counted = number <= state.checkpoint(); // so is a batch without number, most likely
                if (counted && collectorType == null && number > 0) {
                    continue; // accepted under a name that we will know only by what is missing there, see finish
                }
                batches++;
                if (counted && collectorType == null) {
                    lostUnknown++;
                    continue;
                }
                Counters counters = index.type(collectorType == null ? UNKNOWN_COLLECTOR : collectorType).counters;
                if (!counted) {
                    counters.accepted++;
                }
                counters.count(Cause.CORRUPT, 1);
            }
            Path kept = quarantine.keep(file, offset, length);
            report(new Corruption(file, offset, length, reason, id, collectorType, batches, kept));
            return kept != null;
        }

        /** What was accepted and is neither held nor known to be gone has been lost, and is said to be. */
        void finish() {
            replaced.forEach(payload::removed);
            for (BatchIndex.Type type : index.types()) {
                type.live.oldest(); // puts them in order, now that nobody has to wait for it
                type.dead.oldest();
            }
            for (BatchIndex.Type type : index.types()) {
                Counters counters = type.counters;
                long missing = counters.accepted - type.held() - counters.gone();
                while (missing > 0 && !state.nameless().isEmpty()) {
                    counters.count(state.nameless().remove(), 1);
                    missing--;
                }
                if (missing > 0) {
                    counters.count(Cause.CORRUPT, missing);
                    long reported = Math.min(missing, lostUnknown);
                    lostUnknown -= reported;
                    if (missing > reported) {
                        report(new Corruption(
                                options.directory(),
                                0,
                                0,
                                "batches are missing; they were in damaged bytes, or their file was removed or cut off",
                                null,
                                type.name,
                                missing - reported,
                                null));
                    }
                } else {
                    // More than we knew of: marks that a power cut took back. They were accepted once, and are held
                    // again.
                    counters.accepted -= missing;
                }
            }
            if (lostUnknown > 0) {
                Counters unknown = index.type(UNKNOWN_COLLECTOR).counters;
                unknown.accepted += lostUnknown;
                unknown.count(Cause.CORRUPT, lostUnknown);
            }
        }
    }

    private @Nullable String idAt(Location location) {
        try {
            return payload.header(location).id();
        } catch (IOException | DamagedPayloadException e) {
            return null; // whoever reads its content will find out
        }
    }

    // ---- appending -------------------------------------------------------------------------------

    @Override
    public CompletableFuture<@Nullable Void> append(NewBatch batch) {
        return append(batch, false);
    }

    @Override
    public CompletableFuture<@Nullable Void> appendAndWait(NewBatch batch) {
        CompletableFuture<@Nullable Void> done = append(batch, true);
        done.exceptionally(failure -> null)
                .join(); // not cut short by an interrupt, and keeps the thread's interrupt flag
        return done;
    }

    private CompletableFuture<@Nullable Void> append(NewBatch batch, boolean waits) {
        int idHash = idHash(batch.id());
        PayloadLog.Encoded encoded;
        try {
            encoded = payload.encode(batch, idHash);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
        List<Row> sameHash = null;
        lock.lock();
        try {
            requireOpen();
            if (flights.containsKey(batch.id()) || !appending.add(batch.id())) {
                return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
            }
            if (index.hasCandidates(idHash)) {
                sameHash = candidates(batch.id());
            }
        } finally {
            lock.unlock();
        }
        PayloadLog.Append append = null;
        Round round = null;
        try {
            if (sameHash != null && locate(batch.id(), sameHash) != null) {
                return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
            }
            lock.lock();
            try {
                requireOpen();
                String full = full(encoded.size());
                if (full != null) {
                    return CompletableFuture.failedFuture(new BatchRejectedException(full));
                }
                while (queuedBytes > MAX_QUEUED_BYTES && !closing) {
                    queueShrank.awaitUninterruptibly();
                }
                requireOpen();
                append = new PayloadLog.Append(batch, ++sequence, encoded, idHash);
                appends.add(append);
                queuedBytes += encoded.size();
                if (waits && !writing && tasks.isEmpty() && !maintenanceDue) {
                    round = takePen();
                } else if (!writing) {
                    work.signal();
                }
            } finally {
                lock.unlock();
            }
        } finally {
            if (append == null) {
                lock.lock();
                try {
                    appending.remove(batch.id());
                } finally {
                    lock.unlock();
                }
            }
        }
        if (round != null) {
            try {
                write(round);
            } finally {
                layDownPen();
            }
        }
        return append.done;
    }

    private @Nullable String full(int size) {
        long held = index.size() + (long) appending.size() - 1;
        if (held >= options.maxBatches()) {
            return "the store holds " + held + " batches, which is its bound; raise max_pending_batches, or deliver, "
                    + "discard or expire some";
        }
        long used = diskUsage() - payload.room() + queuedBytes;
        if (used + size + StateJournal.RESERVE + payload.compactionRoom() > options.maxDiskUsage()) {
            return "the store uses " + used + " of " + options.maxDiskUsage() + " bytes, and the batch of " + size
                    + " does not fit in; raise max_disk_usage, or deliver, discard or expire some";
        }
        return null;
    }

    private long diskUsage() {
        return payload.diskUsage() + journal.diskUsage() + quarantine.bytes();
    }

    // ---- finding ---------------------------------------------------------------------------------

    /** Under the lock: the batches that may have that id. */
    private List<Row> candidates(String id) {
        List<Row> rows = new ArrayList<>(1);
        index.candidates(idHash(id), slot -> rows.add(row(slot)));
        return rows;
    }

    private Row row(int slot) {
        return new Row(
                slot,
                index.location(slot),
                index.typeOf(slot).name,
                index.state(slot),
                index.lastAttempt(slot),
                index.due(slot),
                index.retries(slot),
                index.reason(slot));
    }

    /** Without the lock: which of them has it; {@code null} if none. */
    private @Nullable Row locate(String id, List<Row> candidates) {
        for (Row row : candidates) {
            try {
                if (read(row, payload::header).id().equals(id)) {
                    return row;
                }
            } catch (DamagedPayloadException e) {
                damaged(row, null, e.getMessage());
            } catch (IOException e) {
                unreadable(row, e);
            }
        }
        return null;
    }

    private @Nullable Row locate(String id) {
        List<Row> rows;
        lock.lock();
        try {
            requireOpen();
            Flight flight = flights.get(id);
            if (flight != null) {
                return row(flight.slot());
            }
            rows = candidates(id);
        } finally {
            lock.unlock();
        }
        return locate(id, rows);
    }

    private interface Reader<T> {
        T read(Location location) throws IOException;
    }

    /** Reads a batch's bytes where they are, also if they are moved meanwhile. */
    private <T> T read(Row row, Reader<T> reader) throws IOException {
        Location at = row.location();
        while (true) {
            try {
                return reader.read(at);
            } catch (IOException | DamagedPayloadException e) {
                Location now = at;
                lock.lock();
                try {
                    if (index.holds(row.slot(), at.sequence())) {
                        now = index.location(row.slot());
                    }
                } finally {
                    lock.unlock();
                }
                if (now.equals(at)) {
                    throw e;
                }
                at = now;
            }
        }
    }

    /** A file that could not be read: gone with its batch, gone without (that is damage), or busy (then tell the caller). */
    private void unreadable(Row row, IOException e) {
        if (!(e instanceof NoSuchFileException)) {
            throw new BatchPersistenceException(
                    "a batch could not be read from " + payload.file(row.location()) + ": " + e.getMessage(), e);
        }
        damaged(row, null, "the file is missing");
    }

    private void damaged(Row row, @Nullable String id, @Nullable String reason) {
        Location at;
        lock.lock();
        try {
            if (!index.holds(row.slot(), row.location().sequence())) {
                return; // settled meanwhile; its file may be gone for good reason
            }
            at = index.location(row.slot());
        } finally {
            lock.unlock();
        }
        Path file = payload.file(at);
        Path kept = quarantine.keep(file, at.offset(), at.length());
        lock.lock();
        try {
            if (!index.holds(row.slot(), at.sequence())) {
                return;
            }
            settle(row.slot(), Cause.CORRUPT);
        } finally {
            lock.unlock();
        }
        report(new Corruption(
                file, at.offset(), at.length(), String.valueOf(reason), id, row.collectorType(), 1, kept));
    }

    private void report(Corruption corruption) {
        log.atLevel(corruption.batches() > 0 ? Level.ERROR : Level.WARN)
                .log(
                        "Damage in {} at {}, {} bytes: {}. Lost: {} batches of {}{}. Kept in {}",
                        corruption.file(),
                        corruption.offset(),
                        corruption.length(),
                        corruption.reason(),
                        corruption.batches(),
                        corruption.collectorType() == null ? "an unknown collector type" : corruption.collectorType(),
                        corruption.batchId() == null ? "" : ", id " + corruption.batchId(),
                        corruption.quarantinedTo());
        Consumer<Corruption> listener;
        lock.lock();
        try {
            listener = corruptionListener;
            if (listener == null) {
                corruptions.add(corruption);
            }
        } finally {
            lock.unlock();
        }
        if (listener != null) {
            listener.accept(corruption);
        }
    }

    @Override
    public void onCorruption(Consumer<Corruption> listener) {
        List<Corruption> soFar;
        lock.lock();
        try {
            corruptionListener = listener;
            soFar = List.copyOf(corruptions);
            corruptions.clear();
        } finally {
            lock.unlock();
        }
        soFar.forEach(listener);
    }

    // ---- claiming and settling -------------------------------------------------------------------

    @Override
    public List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        List<Row> taken = new ArrayList<>();
        List<Long> fencesTaken = new ArrayList<>();
        lock.lock();
        try {
            requireOpen();
            BatchIndex.Type type = index.knownType(collectorType);
            while (type != null && taken.size() < max) {
                int slot = index.nextDue(type, order, PayloadLog.millis(now));
                if (slot == BatchIndex.NONE) {
                    break;
                }
                index.fly(slot, PayloadLog.millis(leaseUntil));
                taken.add(row(slot));
                fencesTaken.add(++fences);
            }
        } finally {
            lock.unlock();
        }
        List<Claim> claims = new ArrayList<>(taken.size());
        int done = 0;
        try {
            for (; done < taken.size(); done++) {
                Claim claim = read(taken.get(done), fencesTaken.get(done));
                if (claim != null) {
                    claims.add(claim);
                }
            }
        } catch (RuntimeException | Error e) {
            putBack(taken.subList(done, taken.size()), now);
            if (claims.isEmpty()) {
                throw e;
            }
            log.warn(
                    "A batch could not be read; it is tried again later",
                    e); // those that could are in flight: hand them out
        }
        return claims;
    }

    private @Nullable Claim read(Row row, long fence) {
        PayloadLog.Content content;
        try {
            content = read(row, payload::content);
        } catch (DamagedPayloadException e) {
            damaged(row, idAt(row.location()), e.getMessage());
            return null;
        } catch (IOException e) {
            unreadable(row, e);
            return null;
        }
        PersistedBatch batch = batch(row, content);
        lock.lock();
        try {
            if (!index.holds(row.slot(), row.location().sequence())
                    || index.state(row.slot()) != BatchState.IN_FLIGHT) {
                return null; // a late mark settled it while it was being read
            }
            fly(batch.id(), row.slot(), fence, row.due());
        } finally {
            lock.unlock();
        }
        return new Claim(batch, fence);
    }

    /** What could not even be read was no attempt; but it must not stand in the way of those behind it. */
    private void putBack(List<Row> rows, Instant now) {
        lock.lock();
        try {
            for (Row row : rows) {
                if (index.holds(row.slot(), row.location().sequence())
                        && index.state(row.slot()) == BatchState.IN_FLIGHT) {
                    index.pend(row.slot(), PayloadLog.millis(now) + READ_RETRY_MILLIS);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    private void fly(String id, int slot, long fence, long leaseEnd) {
        flights.put(id, new Flight(slot, fence, leaseEnd));
        earliestLeaseEnd = Math.min(earliestLeaseEnd, leaseEnd);
    }

    @Override
    public List<Lease> timedOut(Instant now, int max) {
        long time = PayloadLog.millis(now);
        lock.lock();
        try {
            requireOpen();
            if (earliestLeaseEnd >= time) {
                return List.of(); // so that a tick with a hundred thousand in flight costs nothing
            }
            List<Lease> leases = new ArrayList<>();
            long earliest = NEVER;
            for (Map.Entry<String, Flight> entry : flights.entrySet()) {
                Flight flight = entry.getValue();
                if (flight.leaseEnd() < time && leases.size() < max) {
                    leases.add(new Lease(entry.getKey(), index.typeOf(flight.slot()).name, flight.fence()));
                }
                // Those reported count too: until they are settled, they are still to be reported.
                earliest = Math.min(earliest, flight.leaseEnd());
            }
            earliestLeaseEnd = earliest;
            return leases;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public @Nullable Settled delivered(String batchId) {
        Row row = locate(batchId);
        if (row == null) {
            return null;
        }
        lock.lock();
        try {
            requireOpen();
            int slot = row.slot();
            if (!index.holds(slot, row.location().sequence())) {
                return null;
            }
            Settled settled = new Settled(
                    row.collectorType(), Instant.ofEpochMilli(index.createdAt(slot)), index.retries(slot), null);
            flights.remove(batchId);
            remove(slot, Cause.DELIVERED);
            return settled;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public @Nullable Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision) {
        lock.lock();
        try {
            requireOpen();
            Flight flight = flights.get(batchId);
            if (flight == null || (fence != ANY_FENCE && fence != flight.fence())) {
                return null;
            }
            int slot = flight.slot();
            BatchIndex.Type type = index.typeOf(slot);
            Verdict verdict = decision.decide(type.name, index.retries(slot));
            flights.remove(batchId);
            String kept = shortened(reason);
            index.noteFailure(slot, PayloadLog.millis(at), verdict.retryCount(), kept);
            type.counters.failedAttempts++;
            if (verdict.dead()) {
                index.bury(slot, PayloadLog.millis(at));
            } else {
                index.pend(slot, millis(verdict.nextAttemptAt()));
            }
            journalStanding(slot, kept);
            return new Settled(
                    type.name, Instant.ofEpochMilli(index.createdAt(slot)), verdict.retryCount(), index.state(slot));
        } finally {
            lock.unlock();
        }
    }

    @Override
    public @Nullable Settled released(String batchId, Function<String, Optional<Instant>> due) {
        lock.lock();
        try {
            requireOpen();
            Flight flight = flights.get(batchId);
            if (flight == null) {
                return null;
            }
            int slot = flight.slot();
            BatchIndex.Type type = index.typeOf(slot);
            Instant nextAttemptAt = due.apply(type.name).orElse(null);
            flights.remove(batchId);
            index.pend(slot, millis(nextAttemptAt));
            if (nextAttemptAt == null) {
                journalStanding(slot, index.reason(slot)); // otherwise it is what a restart makes of it by itself
            }
            return new Settled(
                    type.name, Instant.ofEpochMilli(index.createdAt(slot)), index.retries(slot), BatchState.PENDING);
        } finally {
            lock.unlock();
        }
    }

    /** A reason is kept in memory and has to fit in a journal frame; whoever wants all of it finds it in the log. */
    private static String shortened(String reason) {
        return reason.length() <= MAX_REASON ? reason : reason.substring(0, MAX_REASON - 1) + "\u2026";
    }

    private static long millis(@Nullable Instant time) {
        return time == null ? NEVER : PayloadLog.millis(time);
    }

    /** Under the lock: the batch, whose id is not at hand, is gone. */
    private void settle(int slot, Cause cause) {
        if (index.state(slot) == BatchState.IN_FLIGHT) {
            flights.values()
                    .removeIf(flight -> flight.slot() == slot); // slow, but rare: discarded or damaged in flight
        }
        remove(slot, cause);
    }

    /** Under the lock: the batch, which is not among the flights any more, is gone. */
    private void remove(int slot, Cause cause) {
        BatchIndex.Type type = index.typeOf(slot);
        Location location = index.location(slot);
        index.remove(slot);
        type.counters.count(cause, 1);
        frames.settled(location.sequence(), type, cause);
        changes.add(new PayloadChange(location, null));
        marked();
    }

    /** Under the lock: the batch stands differently. */
    private void journalStanding(int slot, @Nullable String reason) {
        Location location = index.location(slot);
        Standing standing = standing(slot, reason);
        frames.standing(location.sequence(), standing);
        changes.add(new PayloadChange(location, standing));
        marked();
    }

    /** Under the lock: there is a mark to be written, soon. */
    private void marked() {
        if (marksDueNanos == NEVER) {
            marksDueNanos = System.nanoTime() + MARKS_LINGER_NANOS;
            if (!writing && writerWakesNanos > marksDueNanos) {
                work.signal();
            }
        }
    }

    private Standing standing(int slot, @Nullable String reason) {
        BatchState state = index.state(slot);
        return new Standing(
                state == BatchState.DEAD,
                index.since(slot),
                index.retries(slot),
                index.lastAttempt(slot),
                state == BatchState.IN_FLIGHT ? WAS_IN_FLIGHT : index.due(slot),
                reason);
    }

    // ---- selecting -------------------------------------------------------------------------------

    /** The batches meant, as they are now, in the selector's order. */
    private List<Row> select(BatchSelector selector, Instant now) {
        List<Row> rows = new ArrayList<>();
        if (!selector.ids().isEmpty()) {
            for (String id : selector.ids()) {
                Row row = locate(id);
                if (row != null) {
                    rows.add(row);
                }
            }
        }
        lock.lock();
        try {
            requireOpen();
            Matcher matcher = new Matcher(selector, now);
            List<Integer> slots = new ArrayList<>();
            if (selector.ids().isEmpty()) {
                for (BatchIndex.Type type : index.types()) {
                    if (selector.collectorTypes().isEmpty()
                            || selector.collectorTypes().contains(type.name)) {
                        index.forEach(type, slot -> {
                            if (matcher.matches(slot)) {
                                slots.add(slot);
                            }
                        });
                    }
                }
            } else {
                for (Row row : rows) {
                    if (index.holds(row.slot(), row.location().sequence())
                            && (selector.collectorTypes().isEmpty()
                                    || selector.collectorTypes().contains(row.collectorType()))
                            && matcher.matches(row.slot())) {
                        slots.add(row.slot());
                    }
                }
            }
            Comparator<Integer> bySequence = Comparator.comparingLong(index::sequence);
            slots.sort(selector.order() == BatchOrder.OLDEST_FIRST ? bySequence : bySequence.reversed());
            return slots.stream().limit(selector.limit()).map(this::row).toList();
        } finally {
            lock.unlock();
        }
    }

    /** A selector's conditions other than ids and collector types. Under the lock. */
    private final class Matcher {
        private final BatchSelector selector;
        private final Instant now;
        private final Set<BatchState> states;
        private final @Nullable Pattern reason;
        private final Map<Integer, Boolean> reasonMatches = new HashMap<>();

        Matcher(BatchSelector selector, Instant now) {
            this.selector = selector;
            this.now = now;
            this.states = selector.statesOr(EnumSet.allOf(BatchState.class)).states();
            this.reason = selector.failureReasonPattern();
        }

        boolean matches(int slot) {
            int retries = index.retries(slot);
            return states.contains(index.state(slot))
                    && retries >= selector.minRetries()
                    && retries <= selector.maxRetries()
                    && selector.matchesAge(Instant.ofEpochMilli(index.createdAt(slot)), now)
                    && (reason == null || matchesReason(slot, reason));
        }

        private boolean matchesReason(int slot, Pattern pattern) {
            String text = index.reason(slot);
            return text != null
                    && reasonMatches.computeIfAbsent(
                            index.reasonNumber(slot),
                            number -> pattern.matcher(text).matches());
        }
    }

    @Override
    public long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt) {
        return changeAll(select(selector.states(BatchState.PENDING), now), BatchState.PENDING, slot -> {
            index.pend(slot, millis(nextAttemptAt));
            journalStanding(slot, index.reason(slot));
        });
    }

    @Override
    public long releaseHeld(Instant nextAttemptAt) {
        List<Row> held = new ArrayList<>();
        lock.lock();
        try {
            requireOpen();
            index.forEach(slot -> {
                if (index.isHeld(slot)) {
                    held.add(row(slot));
                }
            });
        } finally {
            lock.unlock();
        }
        return changeAll(held, BatchState.PENDING, slot -> {
            index.pend(slot, PayloadLog.millis(nextAttemptAt));
            journalStanding(slot, index.reason(slot));
        });
    }

    @Override
    public long replay(BatchSelector selector, Instant now) {
        return changeAll(select(selector.states(BatchState.DEAD), now), BatchState.DEAD, slot -> {
            index.replay(slot, PayloadLog.millis(now));
            journalStanding(slot, index.reason(slot));
        });
    }

    @Override
    public long discard(BatchSelector selector, Instant now) {
        return changeAll(select(selector, now), null, slot -> settle(slot, Cause.DISCARDED));
    }

    /** Does it to those that are still there in that state; durable when it returns, since a person asked for it. */
    private long changeAll(List<Row> rows, @Nullable BatchState state, IntConsumer change) {
        long changed = 0;
        lock.lock();
        try {
            requireOpen();
            for (Row row : rows) {
                if (index.holds(row.slot(), row.location().sequence())
                        && index.state(row.slot()) == (state == null ? row.state() : state)) {
                    change.accept(row.slot());
                    changed++;
                }
            }
        } finally {
            lock.unlock();
        }
        if (changed > 0) {
            withPen(this::forceJournal);
        }
        return changed;
    }

    @Override
    public List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max) {
        List<Row> rows = new ArrayList<>();
        lock.lock();
        try {
            requireOpen();
            BatchIndex.Type type = index.knownType(collectorType);
            if (type != null) {
                collectOlder(type.live, PayloadLog.millis(pendingBefore), max, rows);
                collectOlder(type.dead, PayloadLog.millis(deadBefore), max - rows.size(), rows);
            }
        } finally {
            lock.unlock();
        }
        return removeAll(rows, Cause.EXPIRED);
    }

    private void collectOlder(BatchIndex.SlotList list, long before, int max, Collection<Row> rows) {
        int left = max;
        for (int slot = list.oldest();
                slot != BatchIndex.NONE && left > 0 && index.since(slot) < before;
                slot = list.after(slot)) {
            if (index.state(slot) != BatchState.IN_FLIGHT) {
                rows.add(row(slot));
                left--;
            }
        }
    }

    @Override
    public List<BatchSummary> evictOldest(int max) {
        List<Row> rows = new ArrayList<>();
        lock.lock();
        try {
            requireOpen();
            for (BatchIndex.Type type : index.types()) {
                collectOlder(type.live, NEVER, max, rows);
                collectOlder(type.dead, NEVER, max, rows);
            }
        } finally {
            lock.unlock();
        }
        rows.sort(Comparator.comparingLong(row -> row.location().sequence()));
        List<BatchSummary> evicted = removeAll(rows.subList(0, Math.min(max, rows.size())), Cause.EVICTED);
        if (!evicted.isEmpty()) {
            withPen(this::reclaimPayload); // the caller wants the room now
        }
        return evicted;
    }

    /** Reads what they are, then removes those that nobody has taken meanwhile. */
    private List<BatchSummary> removeAll(List<Row> rows, Cause cause) {
        List<BatchSummary> removed = new ArrayList<>(rows.size());
        for (Row row : rows) {
            BatchSummary summary = summary(row);
            if (summary == null) {
                continue;
            }
            lock.lock();
            try {
                requireOpen();
                if (index.holds(row.slot(), row.location().sequence()) && index.state(row.slot()) == row.state()) {
                    settle(row.slot(), cause);
                    removed.add(summary);
                }
            } finally {
                lock.unlock();
            }
        }
        return removed;
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        Row row = locate(batchId);
        if (row == null) {
            return Optional.empty();
        }
        try {
            return Optional.of(batch(row, read(row, payload::content)));
        } catch (DamagedPayloadException e) {
            damaged(row, batchId, e.getMessage());
        } catch (IOException e) {
            unreadable(row, e);
        }
        return Optional.empty();
    }

    @Override
    public List<BatchSummary> list(BatchSelector selector, Instant now) {
        List<BatchSummary> summaries = new ArrayList<>();
        for (Row row : select(selector, now)) {
            BatchSummary summary = summary(row);
            if (summary != null) {
                summaries.add(summary);
            }
        }
        return summaries;
    }

    @Override
    public long count(BatchSelector selector, Instant now) {
        if (!selector.ids().isEmpty()) {
            return select(selector, now).size();
        }
        lock.lock();
        try {
            requireOpen();
            Matcher matcher = new Matcher(selector, now);
            long[] count = new long[1];
            for (BatchIndex.Type type : index.types()) {
                if (selector.collectorTypes().isEmpty()
                        || selector.collectorTypes().contains(type.name)) {
                    index.forEach(type, slot -> count[0] += matcher.matches(slot) ? 1 : 0);
                }
            }
            return Math.min(count[0], selector.limit());
        } finally {
            lock.unlock();
        }
    }

    private @Nullable BatchSummary summary(Row row) {
        try {
            PayloadLog.Header header = read(row, payload::header);
            return new BatchSummary(
                    header.id(),
                    row.collectorType(),
                    row.state(),
                    header.createdAt(),
                    instant(row.lastAttempt()),
                    instant(row.due()),
                    row.retries(),
                    row.reason(),
                    header.context(),
                    header.entryCount(),
                    row.location().length());
        } catch (DamagedPayloadException e) {
            damaged(row, null, e.getMessage());
        } catch (IOException e) {
            unreadable(row, e);
        }
        return null;
    }

    private static PersistedBatch batch(Row row, PayloadLog.Content content) {
        PayloadLog.Header header = content.header();
        return new PersistedBatch(
                header.id(),
                content.entries(),
                row.collectorType(),
                header.createdAt(),
                instant(row.lastAttempt()),
                instant(row.due()),
                row.retries(),
                row.reason(),
                header.context(),
                row.state());
    }

    private static @Nullable Instant instant(long millis) {
        return millis == NEVER ? null : Instant.ofEpochMilli(millis);
    }

    @Override
    public Set<String> collectorTypes() {
        lock.lock();
        try {
            requireOpen();
            Set<String> names = new HashSet<>();
            for (BatchIndex.Type type : index.types()) {
                if (type.held() > 0) {
                    names.add(type.name);
                }
            }
            return names;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public BatchStats stats() {
        lock.lock();
        try {
            requireOpen();
            Map<String, CollectorStats> collectors = new HashMap<>();
            for (BatchIndex.Type type : index.types()) {
                collectors.put(type.name, stats(type));
            }
            String problem = appendProblem != null ? appendProblem : journalProblem;
            return new BatchStats(
                    collectors, index.size(), options.maxBatches(), diskUsage(), options.maxDiskUsage(), problem);
        } finally {
            lock.unlock();
        }
    }

    private CollectorStats stats(BatchIndex.Type type) {
        Counters counters = type.counters;
        return new CollectorStats(
                counters.accepted,
                counters.gone(Cause.DELIVERED),
                type.pending,
                type.inFlight,
                type.dead.size,
                counters.gone(Cause.EXPIRED),
                counters.gone(Cause.EVICTED),
                counters.gone(Cause.DISCARDED),
                counters.gone(Cause.CORRUPT),
                counters.failedAttempts,
                type.bytes,
                type.live.size == 0 ? null : Instant.ofEpochMilli(index.since(type.live.oldest())));
    }

    // ---- writing ---------------------------------------------------------------------------------

    /** What is written in one go. */
    private record Round(
            List<PayloadLog.Append> appends, JournalFrames marks, List<PayloadChange> changes, List<Task> tasks) {}

    /** Under the lock: from now on this thread writes, and nobody else, until {@link #layDownPen}. */
    private Round takePen() {
        writing = true;
        Round round = new Round(appends, frames, changes, tasks);
        appends = new ArrayList<>();
        changes = new ArrayList<>();
        tasks = new ArrayList<>();
        frames = spareFrames;
        spareFrames = round.marks();
        marksDueNanos = NEVER;
        return round;
    }

    private void layDownPen() {
        lock.lock();
        try {
            writing = false;
            maintenanceDue = payload.isReclaimable();
            if (payload.hasChores() || isDueForSnapshot()) {
                callHousekeeper();
            }
            if (hasWork() || Math.min(marksDueNanos, forceDueNanos) < writerWakesNanos) {
                work.signal();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Under the lock. */
    private void callHousekeeper() {
        houseworkDue = true;
        housework.signal();
    }

    /** Under the lock. */
    private boolean hasWork() {
        return !appends.isEmpty() || !tasks.isEmpty() || maintenanceDue || finishing;
    }

    /** The writer thread. */
    private void write() {
        boolean last = false;
        while (!last) {
            Round round;
            lock.lock();
            try {
                awaitWork();
                last = finishing;
                round = takePen();
            } finally {
                lock.unlock();
            }
            write(round);
            runTasks(round.tasks());
            maintain();
            layDownPen();
        }
        closeFiles();
    }

    /** Under the lock. */
    private void awaitWork() {
        while (writing || !hasWork()) {
            try {
                long wakes = writing ? NEVER : Math.min(marksDueNanos, forceDueNanos);
                writerWakesNanos = wakes;
                if (wakes == NEVER) {
                    work.await();
                } else if (work.awaitNanos(wakes - System.nanoTime()) <= 0 && !writing) {
                    return;
                }
            } catch (InterruptedException e) {
                // Nobody has business interrupting this thread; going on is the safe thing to do.
            } finally {
                writerWakesNanos = NEVER;
            }
        }
    }

    /** With the pen. Throws nothing. */
    private void write(Round round) {
        try {
            writeRound(round.appends(), round.marks(), round.changes());
        } catch (RuntimeException | Error e) {
            // Not a disk's failure, which is handled below: ours, or no memory. The callers are told; the thread stays.
            log.error("Writing batches failed", e);
            List<PayloadLog.Append> left = round.appends().stream()
                    .filter(append -> !append.done.isDone())
                    .toList();
            left.forEach(append -> append.failed(new IOException(e)));
            publish(left);
            losses++; // what the journal lacks now, a snapshot will have
            forceLater();
        } finally {
            round.marks().clear();
        }
    }

    private void writeRound(List<PayloadLog.Append> group, JournalFrames marks, List<PayloadChange> payloadChanges) {
        // What became of older batches comes first: an append of this round may reuse the id of one that is gone.
        // And the payload log learns it before the journal is written: if that fails, the snapshot of the next one
        // must have it.
        applyToPayload(payloadChanges);
        if (!marks.isEmpty()) {
            writeJournal(marks);
        }
        if (!group.isEmpty()) {
            payload.write(group);
            if (options.sync() == SyncPolicy.INTERVAL) {
                forceLater();
            }
            publish(group);
        }
    }

    private void applyToPayload(List<PayloadChange> payloadChanges) {
        for (PayloadChange change : payloadChanges) {
            if (change.standing() == null) {
                payload.removed(change.location());
            } else {
                payload.changed(change.location(), change.standing());
            }
        }
    }

    /** Stored batches enter the index, and then the callers know. */
    private void publish(List<PayloadLog.Append> group) {
        lock.lock();
        try {
            for (PayloadLog.Append append : group) {
                appending.remove(append.id);
                queuedBytes -= append.encoded.size();
                Location location = append.location;
                if (location != null) {
                    BatchIndex.Type type = index.type(append.collectorType);
                    int slot = index.add(location, append.idHash, type, append.createdAt, append.leaseUntil);
                    type.counters.accepted++;
                    lastStored = append.sequence;
                    fly(append.id, slot, ++fences, append.leaseUntil);
                    appendProblem = null;
                } else {
                    appendProblem =
                            "batches can't be written to " + options.directory() + ": " + message(append.failure);
                }
            }
            for (Map.Entry<Integer, Long> end : payload.fileEnds().entrySet()) {
                if (declaredFileEnds.add(end.getKey())) {
                    frames.fileEnd(end.getKey(), end.getValue());
                    marked();
                }
            }
            queueShrank.signalAll();
        } finally {
            lock.unlock();
        }
        for (PayloadLog.Append append : group) {
            if (append.location != null) {
                append.done.complete(null);
            } else {
                append.done.completeExceptionally(new BatchPersistenceException(
                        "the batch '" + append.id + "' could not be written to " + options.directory() + ": "
                                + message(append.failure),
                        append.failure));
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
            } catch (RuntimeException | Error e) {
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
        } catch (RuntimeException | Error e) {
            log.error("Maintenance of {} failed", options.directory(), e);
        }
    }

    /** Runs it on the writer thread, after what is queued now, and waits for it. */
    private void withPen(Runnable action) {
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
            done.join(); // not cut short by an interrupt, and keeps the thread's interrupt flag
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw e;
        }
    }

    private <T extends @Nullable Object> T fetchWithPen(Supplier<T> action) {
        AtomicReference<T> result = new AtomicReference<>();
        withPen(() -> result.set(action.get()));
        return result.get();
    }

    private IllegalStateException closed() {
        return new IllegalStateException("the store in " + options.directory() + " is closed");
    }

    private void requireOpen() {
        if (closing) {
            throw closed();
        }
    }

    // ---- the journal -----------------------------------------------------------------------------

    /** Whether log and snapshots together say all that has been left to them. */
    private boolean isJournalComplete() {
        return journal.isOpen() && losses == lossesMadeUpFor;
    }

    private void writeJournal(JournalFrames marks) {
        if (!journal.isOpen()) {
            losses++;
            if (System.nanoTime() - lastGenerationNanos > GENERATION_RETRY_NANOS) {
                replaceJournal(); // its snapshot has what these frames say
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
        lock.lock();
        try {
            if (forceDueNanos == NEVER) {
                forceDueNanos = System.nanoTime() + options.syncInterval().toNanos();
            }
        } finally {
            lock.unlock();
        }
    }

    /** What the journal has been told is durable when this returns normally, however it failed before. */
    private void forceJournal() {
        if (!isJournalComplete()) {
            replaceJournal();
        } else if (options.sync() != SyncPolicy.NEVER) {
            try {
                journal.force();
                payload.journalForced();
            } catch (IOException e) {
                journalFailed(e);
            }
        }
    }

    /** After a write or a force that failed nothing in that file can be trusted to become durable: a new one replaces it. */
    private void journalFailed(IOException e) {
        log.warn("State journal in {} failed: {}; beginning a new one", options.directory(), e.toString());
        journal.close();
        losses++;
        replaceJournal();
    }

    private void forceInBackground() {
        lock.lock();
        try {
            forceDue = true;
            forceDueNanos = NEVER; // what is written from now on needs another force
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
     * A new generation and its snapshot, at once. If that fails, the store goes on without (marks then live in memory only) and
     * tries again with the next mark or cleanup.
     */
    private void replaceJournal() {
        lastGenerationNanos = System.nanoTime();
        try {
            SnapshotHead head = beginGeneration(journal.prepare());
            inForce(takeSnapshot(head, () -> {}), head);
            payload.journalForced();
        } catch (IOException e) {
            noJournal(e);
        }
    }

    private void noJournal(IOException e) {
        journalProblem = "marks can't be written to " + options.directory() + ": " + message(e);
        log.error(
                "No state journal could be begun in {}: {}. Until it can, marks are kept in memory only, and what is "
                        + "delivered now may be sent again after a restart",
                options.directory(),
                e.toString());
    }

    /**
     * A new generation, or, where there is no room for one, the newest that was read: its reserve is for exactly that, and
     * without it a store that is opened on a full disk would forget its marks when it is left.
     */
    private void openJournal() {
        try {
            SnapshotHead head = beginGeneration(journal.prepare());
            inForce(takeSnapshot(head, () -> {}), head);
            return;
        } catch (IOException e) {
            try {
                journal.takeBack();
                journal.resume();
                lossesMadeUpFor = losses;
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
            newFrames(journal.generation()); // the last process's names are not ours
        } finally {
            lock.unlock();
        }
        checkpoint();
    }

    /** Under the lock: what is queued from now on is for that generation. */
    private void newFrames(long generation) {
        names.clear();
        frames = new JournalFrames(generation, names);
        spareFrames = new JournalFrames(generation, names);
        marksDueNanos = NEVER;
    }

    /** What a snapshot begins with: all that has to be as it was when its generation began. */
    private record SnapshotHead(long generation, JournalFrames frames, long nextSequence, long losses) {}

    /** Everything queued up to now goes to the log before, everything after that to the new one. */
    private SnapshotHead beginGeneration(StateJournal.Prepared prepared) {
        JournalFrames head = new JournalFrames(prepared.generation(), new JournalFrames.Names());
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
            head.checkpoint(lastStored);
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
        head.gone(payload.gone());
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
        return new SnapshotHead(prepared.generation(), head, next, losses); // all that was lost so far is in the index
    }

    /**
     * Writes what is not as it was persisted, a page of the index at a time, so that nobody waits long for the lock. With the
     * pen or while housekeeping.
     *
     * @param pause called between pages
     * @return to be put in force
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
                        Standing standing = standing(slot, index.reason(slot));
                        if (standing.dead()
                                || standing.retries() > 0
                                || standing.lastAttempt() != NEVER
                                || standing.since() != index.createdAt(slot)
                                || standing.due() > now) { // what is not said is due at once
                            rows.standing(index.sequence(slot), standing);
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

    /** With the pen. */
    private void inForce(StateJournal.Snapshot snapshot, SnapshotHead head) {
        journal.snapshotTaken(snapshot);
        lossesMadeUpFor = Math.max(lossesMadeUpFor, head.losses());
        journalProblem = null;
    }

    /** Counters into the journal, so that what happens to payload files from now on is noticed. */
    private void checkpoint() {
        JournalFrames marks;
        lock.lock();
        try {
            index.types().forEach(frames::counters);
            frames.checkpoint(lastStored);
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

    // ---- giving space back -----------------------------------------------------------------------

    @Override
    public void reclaim() {
        lock.lock();
        try {
            requireOpen();
        } finally {
            lock.unlock();
        }
        withPen(() -> {
            checkpoint();
            reclaimPayload();
        });
        housekeeping.lock();
        try {
            // Twice: the snapshot before the newest is kept, and may be large.
            for (int i = 0; i < 2 && isJournalOversized(); i++) {
                snapshotWhileOthersWrite();
            }
        } finally {
            housekeeping.unlock();
        }
        lock.lock();
        try {
            thoroughly = true;
            callHousekeeper();
        } finally {
            lock.unlock();
        }
    }

    /** Whether the journal is much larger than it would be with two new snapshots. */
    private boolean isJournalOversized() {
        long held;
        lock.lock();
        try {
            held = index.size();
        } finally {
            lock.unlock();
        }
        return journal.diskUsage() > 2 * 2 * (StateJournal.RESERVE + held * SNAPSHOT_BYTES_PER_BATCH);
    }

    private void reclaimPayload() {
        forceJournal();
        payload.reclaim();
        if (!journal.isOpen()) {
            replaceJournal(); // there may be room for it now; it must know of the files that are gone
        }
    }

    private boolean isDueForSnapshot() {
        return journal.isDueForSnapshot() && System.nanoTime() - snapshotFailedNanos >= SNAPSHOT_RETRY_NANOS;
    }

    private void snapshotWhileOthersWrite() {
        try {
            StateJournal.Prepared prepared = journal.prepare();
            SnapshotHead head = fetchWithPen(() -> beginGeneration(prepared));
            StateJournal.Snapshot snapshot = takeSnapshot(head, this::pause);
            withPen(() -> inForce(snapshot, head));
        } catch (IOException e) {
            snapshotFailedNanos = System.nanoTime();
            log.warn(
                    "No snapshot could be written in {}: {}; the journal goes on without",
                    options.directory(),
                    e.toString());
        }
    }

    // ---- the housekeeper -------------------------------------------------------------------------

    private void keepHouse() {
        while (true) {
            boolean all;
            lock.lock();
            try {
                while (!houseworkDue && !closing) {
                    housework.awaitUninterruptibly();
                }
                if (closing) {
                    return;
                }
                houseworkDue = false;
                all = thoroughly;
                thoroughly = false;
            } finally {
                lock.unlock();
            }
            housekeeping.lock();
            try {
                pause();
                doChores();
                if (isDueForSnapshot()) {
                    snapshotWhileOthersWrite();
                }
                while (compactOnce(all)) {
                    doChores();
                }
            } catch (RuntimeException | Error e) {
                if (!isClosing()) {
                    log.error("Housekeeping in {} failed", options.directory(), e);
                }
            } finally {
                housekeeping.unlock();
            }
        }
    }

    private boolean isClosing() {
        lock.lock();
        try {
            return closing;
        } finally {
            lock.unlock();
        }
    }

    /** Whatever takes long does this now and then. */
    private void pause() {
        boolean force;
        lock.lock();
        try {
            requireOpen();
            force = forceDue;
            forceDue = false;
        } finally {
            lock.unlock();
        }
        if (force && journal.isOpen()) {
            try {
                journal.force();
            } catch (IOException e) {
                withPen(() -> journalFailed(e));
            }
        }
    }

    private void doChores() {
        for (PayloadLog.Chore next; (next = fetchWithPen(payload::nextChore)) != null; ) {
            next.run();
            withPen(next::finish);
            pause();
        }
    }

    /** A batch that has been copied. */
    private record Moved(int slot, Location from, Location to) {}

    /**
     * Copies what is held in sparse files into a new one, which replaces them.
     *
     * @param all also where little is to be gained
     * @return whether there may be more
     */
    boolean compactOnce(boolean all) {
        PayloadLog.Compaction compaction = fetchWithPen(() -> payload.nextCompaction(all));
        if (compaction == null) {
            return false;
        }
        try (compaction) {
            List<Moved> moved = new ArrayList<>();
            Throttle throttle = new Throttle(options.compactionRate());
            for (Row row : heldIn(compaction)) {
                pause();
                Location to;
                try {
                    to = compaction.copy(row.location());
                } catch (DamagedPayloadException e) {
                    damaged(row, idAt(row.location()), e.getMessage());
                    continue;
                }
                moved.add(new Moved(row.slot(), row.location(), to));
                throttle.await(row.location().length(), this::pause);
            }
            compaction.finish();
            return fetchWithPen(() -> install(compaction, moved));
        } catch (IOException e) {
            log.warn(
                    "Sparse files in {} could not be compacted: {}; it is tried again later",
                    options.directory(),
                    e.toString());
            return false;
        }
    }

    private List<Row> heldIn(PayloadLog.Compaction compaction) {
        List<Row> rows = new ArrayList<>();
        for (int from = 0; ; from += PAGES_AT_ONCE) {
            lock.lock();
            try {
                if (from >= index.pageCount()) {
                    break;
                }
                for (int page = from; page < Math.min(from + PAGES_AT_ONCE, index.pageCount()); page++) {
                    index.forEachInPage(page, slot -> {
                        if (compaction.replaces(index.file(slot))) {
                            rows.add(row(slot));
                        }
                    });
                }
            } finally {
                lock.unlock();
            }
            pause();
        }
        rows.sort(Comparator.comparingInt((Row row) -> row.location().file())
                .thenComparingInt(row -> row.location().offset()));
        return rows;
    }

    /** With the pen. Returns whether the copies are in force; if not, the originals still are. */
    private boolean install(PayloadLog.Compaction compaction, List<Moved> moved) {
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
        try {
            // Should it be in an older snapshot only that they are gone, their copies would come back to life.
            JournalFrames marks = new JournalFrames(journal.generation(), new JournalFrames.Names());
            marks.gone(gone.toArray());
            writeJournal(marks);
            forceJournal();
            if (!isJournalComplete()) {
                throw new IOException("the journal can't be written");
            }
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

    // ---- closing ---------------------------------------------------------------------------------

    private void closeFiles() {
        try {
            checkpoint();
            forceJournal();
            payload.reclaim();
            payload.close();
            journal.close();
        } catch (RuntimeException | Error e) {
            log.error("Closing {} failed; what was persisted is safe", options.directory(), e);
        } finally {
            directoryLock.close();
        }
    }

    @Override
    public void close() {
        lock.lock();
        try {
            closing = true;
            housework.signal();
            queueShrank.signalAll();
        } finally {
            lock.unlock();
        }
        boolean interrupted = join(housekeeper);
        lock.lock();
        try {
            finishing = true;
            work.signal();
        } finally {
            lock.unlock();
        }
        interrupted |= join(writer);
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Returns whether this thread was interrupted meanwhile. */
    private static boolean join(Thread thread) {
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                TimeUnit.SECONDS.timedJoin(thread, 1);
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        return interrupted;
    }
}
