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
import java.util.BitSet;
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
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.IntConsumer;
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
 *   <li>All files are written by one private thread, which nobody can interrupt. Everybody else encodes, changes the index
 *       under the lock, and leaves what is to be written in a queue. What one round of the writer finds there shares one
 *       force: that is the group commit.
 *   <li>A batch enters the index after its bytes are durable, and its future completes after that.
 *   <li>Changes enter the journal's queue under the same lock that changes the index, so the journal has them in order.
 *   <li>A payload is given up only after the journal says that its batch is gone, and a file with payloads is deleted only
 *       after the journal has been forced: else a power cut would make delivered batches look lost.
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

    /** A batch that can't be read at the moment, because the process has no file descriptor left for instance. */
    private static final long READ_RETRY_MILLIS = 10_000;

    /** Characters of a failure reason that are kept. */
    private static final int MAX_REASON = 4_096;

    private static final long NEVER = BatchIndex.NEVER;

    /** Stands for a due time: at once, whenever that is. */
    private static final long WAS_IN_FLIGHT = 0;

    private final DiskStoreOptions options;
    private final Disk disk;
    private final DirectoryLock directoryLock;
    private final Quarantine quarantine;
    private final PayloadLog payload;
    private final Thread writer;

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition work = lock.newCondition();
    private final Condition queueShrank = lock.newCondition();

    // ---- guarded by the lock ---------------------------------------------------------------------

    private final BatchIndex index = new BatchIndex();
    /** By id; every batch in flight but those whose bytes are being read for a claim. */
    private final Map<String, Flight> flights = new HashMap<>();

    private final Set<String> appending = new HashSet<>();
    private List<PayloadLog.Append> appends = new ArrayList<>();
    private JournalFrames frames = new JournalFrames(0);
    private List<PayloadChange> changes = new ArrayList<>();
    private List<Task> tasks = new ArrayList<>();
    private final BitSet declaredCollectors = new BitSet();
    private final Set<Integer> declaredFileEnds = new HashSet<>();
    private final List<Corruption> corruptions = new ArrayList<>();
    private @Nullable Consumer<Corruption> corruptionListener;
    private long queuedBytes;
    private long sequence;
    private long lastStored;
    private long fences;
    private long earliestLeaseEnd = NEVER;
    private boolean closing;
    private @Nullable String appendProblem;

    // ---- of the writer thread --------------------------------------------------------------------

    private @Nullable StateJournal journal;
    private long generation;
    private long lastGenerationNanos;
    private JournalFrames spareFrames = new JournalFrames(0);
    private boolean unforced;
    private long forceDueNanos;
    private volatile long journalBytes;
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
            load();
            openJournal();
            if (payload.isReclaimable()) {
                reclaimPayload(); // only now that the journal's snapshot, which is forced, knows what is gone
            }
            this.writer = new Thread(this::write, "batch-persistence-writer");
            writer.setDaemon(true);
            writer.start();
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

    private void load() throws IOException {
        JournalState[] read = new JournalState[1];
        generation = StateJournal.read(disk, options.directory(), read, this::journalDamaged);
        JournalState state = read[0];
        sequence = state.nextSequence() - 1;
        state.counters().forEach((name, counters) -> {
            index.type(name, counters);
        });
        Loader loader = new Loader(state);
        payload.load(loader);
        loader.finish();
        lastStored = sequence;
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

        private record Late(Location location, int idHash, String collectorType, long createdAt, Standing standing) {}

        private final JournalState state;
        private final long now = options.clock().millis();
        private final List<Late> late = new ArrayList<>();
        private final List<Location> superseded = new ArrayList<>();
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
            if (location.sequence() > state.checkpoint()) {
                index.type(collectorType).counters.accepted++;
            }
            dropDuplicate(location, idHash);
            Standing standing = fromPayload != null ? fromPayload : state.takeStanding(location.sequence());
            if (standing != null && (standing.dead() || standing.since() != createdAt)) {
                late.add(new Late(
                        location, idHash, collectorType, createdAt, standing)); // its place in the lists is later
            } else {
                restore(location, idHash, collectorType, createdAt, standing);
            }
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
         * The same id twice: an append that failed, after its bytes were written, and was tried again. The later one is
         * the one that was promised.
         */
        private void dropDuplicate(Location location, int idHash) {
            List<Integer> same = new ArrayList<>();
            index.candidates(idHash, same::add);
            for (int slot : same) {
                Location other = index.location(slot);
                String id = idAt(other);
                if (id != null && id.equals(idAt(location))) {
                    index.typeOf(slot).counters.accepted--;
                    index.remove(slot);
                    superseded.add(other);
                }
            }
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
            late.sort(Comparator.comparingLong(l -> l.standing().since()));
            for (Late l : late) {
                restore(l.location(), l.idHash(), l.collectorType(), l.createdAt(), l.standing());
            }
            superseded.forEach(payload::removed);
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
        PayloadLog.Encoded encoded;
        try {
            encoded = payload.encode(batch);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
        List<Row> sameHash;
        lock.lock();
        try {
            requireOpen();
            if (flights.containsKey(batch.id()) || !appending.add(batch.id())) {
                return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
            }
            sameHash = candidates(batch.id());
        } finally {
            lock.unlock();
        }
        boolean queued = false;
        try {
            if (locate(batch.id(), sameHash) != null) {
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
                PayloadLog.Append append = new PayloadLog.Append(batch, ++sequence, encoded);
                appends.add(append);
                queuedBytes += encoded.size();
                queued = true;
                work.signal();
                return append.done;
            } finally {
                lock.unlock();
            }
        } finally {
            if (!queued) {
                lock.lock();
                try {
                    appending.remove(batch.id());
                } finally {
                    lock.unlock();
                }
            }
        }
    }

    private @Nullable String full(int size) {
        long held = index.size() + (long) appending.size() - 1;
        if (held >= options.maxBatches()) {
            return "the store holds " + held + " batches, which is its bound; raise max_pending_batches, or deliver, "
                    + "discard or expire some";
        }
        long used = diskUsage() - payload.room() + queuedBytes;
        if (used + size + StateJournal.RESERVE > options.maxDiskUsage()) {
            return "the store uses " + used + " of " + options.maxDiskUsage() + " bytes, and the batch of " + size
                    + " does not fit in; raise max_disk_usage, or deliver, discard or expire some";
        }
        return null;
    }

    private long diskUsage() {
        return payload.diskUsage() + journalBytes + quarantine.bytes();
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
                if (payload.header(row.location()).id().equals(id)) {
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

    /** A file that could not be read: gone with its batch, gone without (that is damage), or busy (then tell the caller). */
    private void unreadable(Row row, IOException e) {
        if (!(e instanceof NoSuchFileException)) {
            throw new BatchPersistenceException(
                    "a batch could not be read from " + payload.file(row.location()) + ": " + e.getMessage(), e);
        }
        damaged(row, null, "the file is missing");
    }

    private void damaged(Row row, @Nullable String id, @Nullable String reason) {
        Location at = row.location();
        lock.lock();
        try {
            if (!index.holds(row.slot(), at.sequence())) {
                return; // settled meanwhile; its file may be gone for good reason
            }
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
            content = payload.content(row.location());
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
        declare(type);
        frames.settled(location.sequence(), type.id, cause);
        changes.add(new PayloadChange(location, null));
        work.signal();
    }

    /** Under the lock: the batch stands differently. */
    private void journalStanding(int slot, @Nullable String reason) {
        Location location = index.location(slot);
        Standing standing = standing(slot, reason);
        if (standing.dead()) {
            frames.dead(
                    location.sequence(),
                    standing.since(),
                    standing.retries(),
                    standing.lastAttempt(),
                    standing.reason());
        } else {
            frames.pending(
                    location.sequence(),
                    standing.since(),
                    standing.retries(),
                    standing.lastAttempt(),
                    standing.due(),
                    standing.reason());
        }
        changes.add(new PayloadChange(location, standing));
        work.signal();
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

    private void declare(BatchIndex.Type type) {
        if (!declaredCollectors.get(type.id)) {
            declaredCollectors.set(type.id);
            frames.collector(type.id, type.name);
        }
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
            onWriter(this::forceJournal);
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
            reclaim(); // the caller wants the room now
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
            return Optional.of(batch(row, payload.content(row.location())));
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
            PayloadLog.Header header = payload.header(row.location());
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

    // ---- the writer ------------------------------------------------------------------------------

    private void write() {
        boolean last = false;
        while (!last) {
            List<PayloadLog.Append> group;
            JournalFrames change;
            List<PayloadChange> payloadChanges;
            List<Task> now;
            lock.lock();
            try {
                last = !awaitWork();
                group = appends;
                appends = new ArrayList<>();
                change = frames;
                frames = spareFrames;
                spareFrames = change;
                payloadChanges = changes;
                changes = new ArrayList<>();
                now = tasks;
                tasks = new ArrayList<>();
            } finally {
                lock.unlock();
            }
            try {
                writeRound(group, change, payloadChanges);
            } catch (RuntimeException | Error e) {
                // Not a disk's failure, which is handled below: ours, or no memory. The callers are told; the thread
                // stays.
                log.error("Writing batches failed", e);
                group.stream()
                        .filter(append -> !append.done.isDone())
                        .forEach(append -> append.failed(new IOException(e)));
                publish(group.stream().filter(append -> !append.done.isDone()).toList());
                closeJournal(); // what it lacks now, the snapshot of a new one will have
            } finally {
                change.clear();
            }
            runTasks(now);
            if (!last) {
                maintain();
            }
        }
        closeFiles();
    }

    /** Under the lock. Returns whether this is not the last round. */
    private boolean awaitWork() {
        while (appends.isEmpty() && frames.isEmpty() && changes.isEmpty() && tasks.isEmpty() && !closing) {
            try {
                if (!unforced) {
                    work.await();
                } else {
                    long wait = forceDueNanos - System.nanoTime();
                    if (wait <= 0) {
                        return true;
                    }
                    work.awaitNanos(wait);
                }
            } catch (InterruptedException e) {
                // Nobody has business interrupting this thread; going on is the safe thing to do.
            }
        }
        return !closing;
    }

    private void writeRound(List<PayloadLog.Append> group, JournalFrames change, List<PayloadChange> payloadChanges) {
        // What became of older batches comes first: an append of this round may reuse the id of one that is gone.
        // And the payload log learns it before the journal is written: if that fails, the snapshot of the next one
        // must have it.
        applyToPayload(payloadChanges);
        if (!change.isEmpty()) {
            writeJournal(change);
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
                    int slot = index.add(location, idHash(append.id), type, append.createdAt, append.leaseUntil);
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

    private void writeJournal(JournalFrames change) {
        if (journal == null) {
            if (System.nanoTime() - lastGenerationNanos > GENERATION_RETRY_NANOS) {
                beginGeneration(); // its snapshot has what these frames say
            }
            return;
        }
        try {
            journal.write(change);
            journalBytes = journal.diskUsage();
            if (options.sync() != SyncPolicy.NEVER) {
                forceLater();
            }
        } catch (IOException e) {
            journalFailed(e);
        }
    }

    private void forceLater() {
        if (!unforced) {
            unforced = true;
            forceDueNanos = System.nanoTime() + options.syncInterval().toNanos();
        }
    }

    private void forceJournal() {
        if (journal == null) {
            beginGeneration();
        } else if (unforced && options.sync() != SyncPolicy.NEVER) {
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
        closeJournal();
        beginGeneration();
    }

    private void closeJournal() {
        StateJournal old = journal;
        journal = null;
        if (old != null) {
            try {
                old.close();
            } catch (IOException e) {
                log.debug("Closing a state journal failed", e);
            }
        }
    }

    /**
     * Writes a snapshot of everything to a new generation. If that fails, the store goes on without a journal (marks then
     * live in memory only) and tries again with the next mark or cleanup.
     */
    private void beginGeneration() {
        IOException failure = tryGeneration();
        if (failure != null) {
            noJournal(failure);
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
        long newest = generation;
        IOException failure = tryGeneration();
        if (failure == null) {
            return;
        }
        try {
            journal = StateJournal.resume(disk, options.directory(), newest);
        } catch (IOException e) {
            failure.addSuppressed(e);
            noJournal(failure);
            return;
        }
        log.warn(
                "No new state journal could be begun in {}: {}; the last one goes on",
                options.directory(),
                failure.toString());
        generation = newest;
        frames = new JournalFrames(newest);
        spareFrames = new JournalFrames(newest);
        declaredCollectors.clear(); // the last process numbered them; the file end of a segment has no such number
        journalBytes = journal.diskUsage();
        checkpoint();
    }

    /** Returns why there is no journal now, or {@code null} if there is. */
    private @Nullable IOException tryGeneration() {
        long number = generation + 1;
        JournalFrames snapshot = new JournalFrames(number);
        lock.lock();
        try {
            // What is queued is in the index already, so the snapshot has it. The old journal gets it all the same: it
            // must say that a batch is gone before its payload is given up.
            if (journal != null && !frames.isEmpty()) {
                try {
                    journal.write(frames);
                } catch (IOException e) {
                    log.warn("State journal in {} failed: {}", options.directory(), e.toString());
                }
            }
            applyToPayload(changes);
            changes.clear();
            frames = new JournalFrames(number);
            spareFrames = new JournalFrames(number);
            writeSnapshot(snapshot);
        } finally {
            lock.unlock();
        }
        closeJournal();
        generation = number;
        lastGenerationNanos = System.nanoTime();
        try {
            journal = StateJournal.begin(disk, options.directory(), number, snapshot);
            journalBytes = journal.diskUsage();
            journalProblem = null;
        } catch (IOException e) {
            return e;
        }
        return null;
    }

    private void writeSnapshot(JournalFrames snapshot) {
        long now = options.clock().millis();
        declaredCollectors.clear();
        for (BatchIndex.Type type : index.types()) {
            declaredCollectors.set(type.id);
            snapshot.collector(type.id, type.name);
        }
        writeCounters(snapshot);
        snapshot.gone(payload.gone());
        index.forEach(slot -> {
            BatchState state = index.state(slot);
            Standing standing = standing(slot, index.reason(slot));
            if (standing.dead()) {
                snapshot.dead(
                        index.sequence(slot),
                        standing.since(),
                        standing.retries(),
                        standing.lastAttempt(),
                        standing.reason());
            } else if (standing.retries() > 0
                    || standing.lastAttempt() != NEVER
                    || standing.since() != index.createdAt(slot)
                    || (state == BatchState.PENDING && standing.due() > now)) { // what is not said is due at once
                snapshot.pending(
                        index.sequence(slot),
                        standing.since(),
                        standing.retries(),
                        standing.lastAttempt(),
                        standing.due(),
                        standing.reason());
            }
        });
        declaredFileEnds.clear();
        payload.fileEnds().forEach((file, end) -> {
            declaredFileEnds.add(file);
            snapshot.fileEnd(file, end);
        });
        snapshot.snapshotEnd(sequence + 1);
    }

    private void writeCounters(JournalFrames to) {
        for (BatchIndex.Type type : index.types()) {
            to.counters(type.id, type.counters);
        }
        to.checkpoint(lastStored);
    }

    /** Counters into the journal, so that what happens to payload files from now on is noticed. */
    private void checkpoint() {
        JournalFrames change;
        lock.lock();
        try {
            for (BatchIndex.Type type : index.types()) {
                declare(type);
            }
            writeCounters(frames);
            change = frames;
            frames = spareFrames;
            spareFrames = change;
        } finally {
            lock.unlock();
        }
        writeJournal(change);
        change.clear();
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
            if (unforced && forceDueNanos - System.nanoTime() <= 0) {
                forceAll();
            }
            if (payload.isReclaimable()) {
                reclaimPayload();
            }
            if (journal != null && journal.isDueForSnapshot()) {
                beginGeneration();
            }
        } catch (RuntimeException | Error e) {
            log.error("Maintenance of {} failed", options.directory(), e);
        }
    }

    private void forceAll() {
        forceJournal();
        unforced = false;
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

    @Override
    public void reclaim() {
        onWriter(() -> {
            checkpoint();
            reclaimPayload();
        });
    }

    private void reclaimPayload() {
        forceJournal();
        payload.reclaim();
        if (journal == null) {
            beginGeneration(); // there may be room for it now; it must know of the files that are gone
        }
    }

    /** Runs it on the writer thread, after what is queued now, and waits for it. */
    private void onWriter(Runnable action) {
        CompletableFuture<@Nullable Void> done = new CompletableFuture<>();
        lock.lock();
        try {
            requireOpen();
            tasks.add(new Task(action, done));
            work.signal();
        } finally {
            lock.unlock();
        }
        done.join(); // not cut short by an interrupt, and keeps the thread's interrupt flag
    }

    private void requireOpen() {
        if (closing) {
            throw new IllegalStateException("the store in " + options.directory() + " is closed");
        }
    }

    private void closeFiles() {
        try {
            checkpoint();
            forceJournal();
            payload.reclaim();
            payload.close();
            closeJournal();
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
            work.signal();
            queueShrank.signalAll();
        } finally {
            lock.unlock();
        }
        boolean interrupted = false;
        while (writer.isAlive()) {
            try {
                TimeUnit.SECONDS.timedJoin(writer, 1);
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
