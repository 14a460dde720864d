package io.batchpersistence.internal.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.CompressionUnavailableException;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.DirectoryLock;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.MeasuredDisk;
import io.batchpersistence.internal.disk.OpeningDisk;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.CorruptionReports;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.internal.spi.StoreLimits;
import io.batchpersistence.internal.spi.UnreadableBatches;
import io.batchpersistence.internal.store.IndexQueries.Row;
import io.batchpersistence.internal.store.IndexQueries.Selection;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.IntConsumer;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.event.Level;

/**
 * A store on a local disk: an index in memory of where each batch is and in what state, a journal on disk of what
 * became of the batches, and a {@link PayloadLog} with their bytes. What all such stores share is here.
 *
 * <h2>Invariants</h2>
 *
 * <ul>
 *   <li>Files are written by one thread at a time, the <em>commit leader</em>. All other threads encode, change the
 *       index under the lock, and queue what is to be written. All that one round finds in the queue shares one force:
 *       that is the group commit. A caller that waits for its batch anyway becomes leader for one round if there is no
 *       leader, so that a lone caller waits for no other thread; otherwise the private writer thread is the leader.
 *   <li>Slow work happens in the background, in files that are not in use yet: the housekeeper writes snapshots,
 *       compacts sparse payload files and seals full ones. It needs the commit leader only to put the result into
 *       effect.
 *   <li>A batch enters the index after its bytes are durable, and its future completes after that.
 *   <li>Changes enter the journal's queue under the same lock that changes the index, so the journal has them in order.
 *   <li>A payload is given up only after the journal says that its batch is gone, and a file with payloads is deleted
 *       only after the journal has been forced: otherwise a power cut would make delivered batches look lost. A payload
 *       that is copied is durable at its new location before the old one is given up; a batch found twice, with the
 *       same number, is one batch.
 *   <li>Marks are not forced one by one but within the sync interval. Batches whose marks are lost in a power cut are
 *       sent again.
 *   <li>State can be derived from what was forced: without any journal, every payload is a pending batch.
 *   <li>Nothing is read from disk under the lock. Readers check afterwards, by sequence, that the slot still holds the
 *       batch that they wanted to read.
 * </ul>
 */
public final class IndexedBatchStore implements LocalBatchStore {

    /** Collector type under which batches are counted whose own type was lost with them. */
    static final String UNKNOWN_COLLECTOR = "unknown";

    private static final Logger log = LogSanitizer.logger(IndexedBatchStore.class);

    /**
     * Delay before a batch that can't be decompressed is tried again. What is missing mostly comes with a restart,
     * after which the batch is due at once.
     */
    private static final Duration DECOMPRESS_RETRY = Duration.ofMinutes(10);

    /** Batches one claim looks at if it can read none of them: with fewer, they would starve those behind them. */
    private static final int MAX_CLAIM_READS = 1_000;

    /** How long closing waits for the last log lines of the store's threads. */
    private static final Duration LOG_FLUSH_TIMEOUT = Duration.ofSeconds(1);

    /** Limit on the share of idle collector types in the store's bytes, in each journal and snapshot: one part in that many. */
    private static final int IDLE_TYPES_SHARE = 64;

    private static final long NEVER = BatchIndex.NEVER;

    /** Creating one takes as long as hashing an id. */
    private static final AtomicReference<@Nullable MessageDigest> SPARE_DIGEST = new AtomicReference<>();

    private final DiskStoreOptions options;
    private final DirectoryLock directoryLock;
    private final MeasuredDisk measuredDisk;
    private final Quarantine quarantine;
    private final PayloadLog payload;
    private final StoreWriter writer;
    private final IndexQueries queries;
    private final Housekeeper housekeeper;
    private final UnreadableBatches unreadableBatches = new UnreadableBatches();

    private final ReentrantLock lock = new ReentrantLock();

    // ---- guarded by the lock ---------------------------------------------------------------------

    private final BatchIndex index;
    /** By id; every batch in flight except those whose bytes are being read for a claim. */
    private final Map<String, InFlight> inFlight = new HashMap<>();
    /** The reverse: ids by slot. */
    private final Map<Integer, String> inFlightIds = new HashMap<>();

    private final Set<String> appending = new HashSet<>();
    private final CorruptionReports corruptions = new CorruptionReports();
    /** Damages found while opening. */
    private int journalDamages;

    private long fences;
    private long earliestLeaseEnd = NEVER;

    private record InFlight(int slot, long fence, long leaseEnd) {}

    /** A batch that is to be claimed, once its bytes have been read. */
    private record Taken(Row row, long fence, Instant due) {}

    /** Creates the payload log, after the directory is locked. */
    @FunctionalInterface
    public interface PayloadLogFactory {
        /**
         * Creates the payload log.
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
     * @param kind the store's name in the configuration, for the log
     * @param options the options
     * @param disk the file system
     * @param factory makes the payload log
     * @return the store
     */
    public static IndexedBatchStore open(String kind, DiskStoreOptions options, Disk disk, PayloadLogFactory factory) {
        long began = System.nanoTime();
        IndexedBatchStore store = new IndexedBatchStore(options, disk, factory, BatchIndex.newKey());
        store.logOpened(kind, System.nanoTime() - began);
        return store;
    }

    /**
     * Opens a store with a given hash key, for tests.
     *
     * @param key of the table by which ids are found in memory, see {@link BatchIndex}; 0: all of them collide
     */
    IndexedBatchStore(DiskStoreOptions options, Disk disk, PayloadLogFactory factory, long key) {
        this.index = new BatchIndex(key);
        this.options = options;
        this.directoryLock =
                DirectoryLock.acquire(disk, options.directory(), options.clock().instant());
        boolean opened = false;
        try {
            this.measuredDisk = new MeasuredDisk(disk);
            OpeningDisk guarded = new OpeningDisk(directoryLock.guard(measuredDisk));
            this.quarantine =
                    new Quarantine(guarded, options.directory(), Math.min(64 << 20, options.maxDiskUsage() / 8));
            this.payload = factory.create(guarded, options);
            JournalState state = new JournalState();
            StateJournal journal = StateJournal.read(guarded, options.directory(), state, new JournalDamage());
            StoreLoader.Loaded loaded = StoreLoader.load(options, payload, index, state, quarantine, this::report);
            guarded.opened();
            this.writer = new StoreWriter(options, payload, journal, index, lock, loaded, this::published);
            this.housekeeper = new Housekeeper(options, payload, index, lock, writer, this::damaged);
            this.queries = new IndexQueries(index, lock, writer::requireOpen);
            writer.start();
            housekeeper.start();
            opened = true;
        } catch (IOException | UncheckedIOException e) {
            throw new BatchPersistenceException(
                    "the batches in " + options.directory().toAbsolutePath() + " can't be read: " + e.getMessage(), e);
        } finally {
            if (!opened) {
                directoryLock.close();
            }
        }
    }

    /**
     * Hashes an id. Ids are found by this hash, which is also stored on disk. Ids may come from anyone, and ids with
     * the same hash are read from disk to be compared: so it must be infeasible to compute many ids with the same hash.
     *
     * @param id an id
     * @return the first eight bytes, big-endian, of the SHA-256 of its UTF-8 bytes
     */
    public static long idHash(String id) {
        MessageDigest spare = SPARE_DIGEST.getAndSet(null);
        MessageDigest digest = spare == null ? newDigest() : spare;
        // If this fails, the digest is not used again.
        byte[] hash = digest.digest(id.getBytes(StandardCharsets.UTF_8));
        SPARE_DIGEST.set(digest);
        return ByteBuffer.wrap(hash).getLong();
    }

    private static MessageDigest newDigest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    // ---- opening ---------------------------------------------------------------------------------

    private void logOpened(String kind, long nanos) {
        CollectorStats total = stats().total();
        List<Corruption> found = corruptions.unreported();
        int places = journalDamages + found.size();
        long lost = found.stream().mapToLong(Corruption::batches).sum();
        log.info(
                "Batch store opened in {} ms: {} pending, {} dead, {}; directory {}, store {}, format {}, compression {}, sync {}",
                TimeUnit.NANOSECONDS.toMillis(nanos),
                total.pending(),
                total.dead(),
                places == 0
                        ? "nothing damaged"
                        : "damaged places set aside: " + places + ", batches lost: " + lost + ", see the lines above",
                options.directory(),
                kind,
                key(options.format()),
                key(options.compression()),
                key(options.sync()));
    }

    private static String key(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    /** No batch is lost with damage of the journal: batches whose marks are lost are sent once more. So no event. */
    private final class JournalDamage implements StateJournal.Damage {
        @Override
        public void found(Path file, long offset, long length, String reason) {
            journalDamages++;
            log(Level.WARN, file, offset, length, reason);
        }

        @Override
        public void tornTail(Path file, long offset, long length) {
            log(Level.INFO, file, offset, length, "it was being written when the process or the machine stopped");
        }

        private void log(Level level, Path file, long offset, long length, String reason) {
            log.atLevel(level)
                    .log(
                            "State journal {} has {} bytes at {} that can't be used: {}. Batches marked there may be sent once"
                                    + " more. {}",
                            file,
                            length,
                            offset,
                            reason,
                            Quarantine.describe(quarantine.keep(file, offset, length)));
        }
    }

    private @Nullable String idAt(RecordPointer pointer) {
        try {
            return payload.header(pointer).id();
        } catch (IOException | DamagedPayloadException e) {
            // Reading its content reports the problem.
            return null;
        }
    }

    // ---- appending -------------------------------------------------------------------------------

    @Override
    public CompletableFuture<@Nullable Void> append(NewBatch batch) {
        return append(batch, false);
    }

    @Override
    public CompletableFuture<@Nullable Void> appendAndWait(NewBatch batch) {
        return append(batch, true);
    }

    private CompletableFuture<@Nullable Void> append(NewBatch batch, boolean waits) {
        writer.requireNotWriting();
        long idHash = idHash(batch.id());
        PayloadLog.Encoded encoded;
        try {
            encoded = payload.encode(batch, idHash);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
        boolean reserved = false;
        PayloadLog.Append append = null;
        try {
            List<Row> sameHash = null;
            lock.lock();
            try {
                writer.requireOpen();
                if (inFlight.containsKey(batch.id()) || !appending.add(batch.id())) {
                    return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
                }
                reserved = true;
                if (index.hasCandidates(idHash)) {
                    sameHash = queries.candidates(idHash);
                } else {
                    append = queue(batch, encoded, idHash, waits);
                }
            } finally {
                lock.unlock();
            }
            if (sameHash != null) {
                if (locate(batch.id(), sameHash) != null) {
                    return CompletableFuture.failedFuture(new DuplicateBatchException(batch.id()));
                }
                lock.lock();
                try {
                    writer.requireOpen();
                    append = queue(batch, encoded, idHash, waits);
                } finally {
                    lock.unlock();
                }
            }
        } catch (BatchRejectedException e) {
            return CompletableFuture.failedFuture(e);
        } finally {
            if (reserved && append == null) {
                lock.lock();
                try {
                    appending.remove(batch.id());
                } finally {
                    lock.unlock();
                }
            }
        }
        PayloadLog.Append queued = Objects.requireNonNull(append);
        return waits ? writer.await(queued) : queued.done;
    }

    /** Under the lock: queues the batch, unless the store is full. */
    private PayloadLog.Append queue(NewBatch batch, PayloadLog.Encoded encoded, long idHash, boolean waits) {
        String full = full(encoded.size());
        if (full != null) {
            throw new BatchRejectedException(full);
        }
        return writer.append(batch, encoded, idHash, waits);
    }

    /** Under the lock: adds the batch to the index if it was stored. It does not enter the index if this throws. */
    private void published(PayloadLog.Append append) {
        appending.remove(append.id);
        RecordPointer pointer = append.pointer;
        if (pointer != null) {
            BatchIndex.Type type = index.type(append.collectorType);
            int slot = index.add(pointer, append.idHash, append.entryCount, type, append.createdAt, append.leaseUntil);
            try {
                markInFlight(append.id, slot, ++fences, append.leaseUntil);
            } catch (Throwable e) {
                index.remove(slot);
                throw e;
            }
            type.counters.accepted++;
        }
    }

    private @Nullable String full(int size) {
        long held = index.size() + (long) appending.size() - 1;
        if (held >= options.maxBatches()) {
            return "the store holds " + held + " batches, which is its limit; raise maxBatches, or deliver, "
                    + "discard or expire some";
        }
        long used = diskUsage() - payload.availableBytes() + writer.queuedBytes();
        if (used + size + StateJournal.RESERVE + payload.compactionBytesAvailable() > options.maxDiskUsage()) {
            return "the store uses " + used + " of " + options.maxDiskUsage() + " bytes, and the batch of " + size
                    + " does not fit in; raise maxDiskUsage, or deliver, discard or expire some";
        }
        return null;
    }

    private long diskUsage() {
        return payload.diskUsage() + writer.journalBytes() + quarantine.bytes();
    }

    // ---- finding ---------------------------------------------------------------------------------

    /** Without the lock: the candidate that has the id; {@code null} if none. */
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
            writer.requireOpen();
            InFlight flight = inFlight.get(id);
            if (flight != null) {
                return queries.row(flight.slot());
            }
            rows = queries.candidates(idHash(id));
        } finally {
            lock.unlock();
        }
        return locate(id, rows);
    }

    private interface Reader<T> {
        T read(RecordPointer pointer) throws IOException;
    }

    /** Reads a batch's bytes, even if they are moved meanwhile. */
    private <T> T read(Row row, Reader<T> reader) throws IOException {
        RecordPointer at = row.pointer();
        while (true) {
            try {
                return reader.read(at);
            } catch (IOException | DamagedPayloadException e) {
                RecordPointer now = at;
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

    /**
     * Handles a file that could not be read: gone with its batch, gone without it (that is damage), or busy (then the
     * caller gets an exception).
     */
    private void unreadable(Row row, IOException e) {
        if (!(e instanceof NoSuchFileException)) {
            throw new BatchPersistenceException(
                    "a batch could not be read from " + payload.file(row.pointer()) + ": " + e.getMessage(), e);
        }
        damaged(row, null, "the file is missing");
    }

    private void damaged(int slot, RecordPointer pointer, @Nullable String reason) {
        damaged(slot, pointer, idAt(pointer), reason);
    }

    private void damaged(Row row, @Nullable String id, @Nullable String reason) {
        damaged(row.slot(), row.pointer(), id, reason);
    }

    private void damaged(int slot, RecordPointer pointer, @Nullable String id, @Nullable String reason) {
        RecordPointer at;
        String collectorType;
        lock.lock();
        try {
            if (!index.holds(slot, pointer.sequence())) {
                // Settled meanwhile; its file may be gone for good reason.
                return;
            }
            at = index.location(slot);
            collectorType = index.typeOf(slot).name;
        } finally {
            lock.unlock();
        }
        Path file = payload.file(at);
        Path kept = quarantine.keep(file, at.offset(), at.length());
        lock.lock();
        try {
            if (!index.holds(slot, at.sequence())) {
                return;
            }
            removeInAnyState(slot, RemovalReason.CORRUPT);
        } finally {
            lock.unlock();
        }
        report(new Corruption(file, at.offset(), at.length(), String.valueOf(reason), id, collectorType, 1, kept));
    }

    private void report(Corruption corruption) {
        log.atLevel(corruption.batches() > 0 ? Level.ERROR : Level.WARN)
                .log(
                        "Damage in {} at {}, {} bytes: {}. Lost: {} batches of {}{}. {}",
                        corruption.file(),
                        corruption.offset(),
                        corruption.length(),
                        corruption.reason(),
                        corruption.batches(),
                        corruption.collectorType() == null ? "an unknown collector type" : corruption.collectorType(),
                        corruption.batchId() == null ? "" : ", id " + corruption.batchId(),
                        Quarantine.describe(corruption.quarantinedTo()));
        corruptions.report(corruption);
    }

    @Override
    public void onCorruption(Consumer<Corruption> listener) {
        corruptions.listen(listener);
    }

    // ---- claiming and settling -------------------------------------------------------------------

    @Override
    public List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        String notOurs = directoryLock.problem();
        if (notOurs != null) {
            // No mark could be written: the process that goes on with this directory would send all of it again.
            throw new BatchPersistenceException(notOurs, null);
        }
        List<Claim> claims = new ArrayList<>();
        BatchPersistenceException failed = null;
        int taken;
        int looked = 0;
        do {
            List<Taken> some = take(collectorType, order, now, leaseUntil, max);
            taken = some.size();
            looked += taken;
            for (int i = 0; i < taken; i++) {
                try {
                    Claim claim = read(some.get(i));
                    if (claim != null) {
                        claims.add(claim);
                    }
                } catch (Throwable e) {
                    boolean goesOn = e instanceof BatchPersistenceException;
                    // Out of memory, most likely: leave the others for the next call.
                    if (!goesOn) {
                        putBack(some.subList(i + 1, taken), now, Duration.ZERO);
                    }
                    failed = unreadable(some.get(i), e, now);
                    if (!goesOn) {
                        looked = MAX_CLAIM_READS;
                        break;
                    }
                }
            }
        } while (claims.isEmpty() && taken > 0 && looked < MAX_CLAIM_READS);
        if (failed != null) {
            if (claims.isEmpty()) {
                throw failed;
            }
            log.warn("A batch could not be read; it is tried again later", failed);
        }
        return claims;
    }

    /**
     * Puts back a batch that could not be read. That was no attempt, but the batch must not block those behind it, so
     * the delay grows each time.
     */
    private BatchPersistenceException unreadable(Taken taken, Throwable why, Instant now) {
        RecordPointer pointer = taken.row().pointer();
        Duration retry = why instanceof CompressionUnavailableException
                ? DECOMPRESS_RETRY
                : unreadableBatches.retryAfter(pointer.sequence());
        // First, because what follows may run out of memory.
        putBack(List.of(taken), now, retry);
        String id;
        try {
            id = idAt(pointer);
        } catch (OutOfMemoryError e) {
            // The id can't be determined without reading the whole batch.
            id = null;
        }
        return unreadableBatches.failed(
                taken.row().slot(),
                pointer.sequence(),
                (id == null ? "a batch" : "batch '" + id + "'") + " for collector '"
                        + taken.row().collectorType() + "', " + pointer.length() + " bytes in "
                        + payload.file(pointer),
                why,
                retry,
                options.clock().millis());
    }

    private List<Taken> take(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        List<Taken> taken = new ArrayList<>();
        lock.lock();
        try {
            writer.requireOpen();
            BatchIndex.Type type = index.knownType(collectorType);
            while (type != null && taken.size() < max) {
                int slot = index.nextDue(type, order, PayloadLog.millis(now));
                if (slot == BatchIndex.NONE) {
                    break;
                }
                Instant due = Instant.ofEpochMilli(index.due(slot));
                index.markInFlight(slot, PayloadLog.millis(leaseUntil));
                taken.add(new Taken(queries.row(slot), ++fences, due));
            }
        } finally {
            lock.unlock();
        }
        return taken;
    }

    private @Nullable Claim read(Taken taken) {
        Row row = taken.row();
        PayloadLog.Content content;
        try {
            content = read(row, payload::content);
        } catch (DamagedPayloadException e) {
            damaged(row, idAt(row.pointer()), e.getMessage());
            return null;
        } catch (IOException e) {
            unreadable(row, e);
            return null;
        }
        unreadableBatches.read(row.pointer().sequence());
        PersistedBatch batch = row.batch(content);
        lock.lock();
        try {
            if (!index.holds(row.slot(), row.pointer().sequence()) || index.state(row.slot()) != BatchState.IN_FLIGHT) {
                // A late mark settled it while it was being read.
                return null;
            }
            markInFlight(batch.id(), row.slot(), taken.fence(), row.due());
        } finally {
            lock.unlock();
        }
        return new Claim(batch, taken.fence(), taken.due());
    }

    private void putBack(List<Taken> taken, Instant now, Duration retry) {
        lock.lock();
        try {
            for (Taken each : taken) {
                Row row = each.row();
                if (index.holds(row.slot(), row.pointer().sequence())
                        && index.state(row.slot()) == BatchState.IN_FLIGHT) {
                    index.markPending(row.slot(), PayloadLog.millis(now.plus(retry)));
                }
            }
        } finally {
            lock.unlock();
        }
    }

    private void markInFlight(String id, int slot, long fence, long leaseEnd) {
        // First: should the second call run out of memory, this one changes nothing.
        inFlightIds.put(slot, id);
        inFlight.put(id, new InFlight(slot, fence, leaseEnd));
        earliestLeaseEnd = Math.min(earliestLeaseEnd, leaseEnd);
    }

    /** Under the lock: removes the batch from those in flight, if it is one of them. */
    private void removeInFlight(String id) {
        InFlight flight = inFlight.remove(id);
        if (flight != null) {
            inFlightIds.remove(flight.slot(), id);
        }
    }

    @Override
    public List<Lease> timedOut(Instant now, int max) {
        long time = PayloadLog.millis(now);
        lock.lock();
        try {
            writer.requireOpen();
            if (earliestLeaseEnd >= time) {
                // Makes a tick with a hundred thousand batches in flight cost nothing.
                return List.of();
            }
            List<Lease> leases = new ArrayList<>();
            long earliest = NEVER;
            for (Map.Entry<String, InFlight> entry : inFlight.entrySet()) {
                InFlight flight = entry.getValue();
                if (flight.leaseEnd() < time && leases.size() < max) {
                    leases.add(new Lease(entry.getKey(), index.typeOf(flight.slot()).name, flight.fence()));
                }
                // Reported leases count, too: until they are settled, they must be reported again.
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
        lock.lock();
        try {
            writer.requireOpen();
            InFlight flight = inFlight.get(batchId);
            if (flight != null) {
                return delivered(batchId, flight.slot());
            }
        } finally {
            lock.unlock();
        }
        Row row = locate(batchId);
        if (row == null) {
            return null;
        }
        lock.lock();
        try {
            writer.requireOpen();
            return index.holds(row.slot(), row.pointer().sequence()) ? delivered(batchId, row.slot()) : null;
        } finally {
            lock.unlock();
        }
    }

    /** Under the lock. */
    private Settled delivered(String batchId, int slot) {
        Settled settled = new Settled(
                index.typeOf(slot).name, Instant.ofEpochMilli(index.createdAt(slot)), index.retries(slot), null);
        removeInFlight(batchId);
        remove(slot, RemovalReason.DELIVERED);
        return settled;
    }

    @Override
    public @Nullable Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision) {
        lock.lock();
        try {
            writer.requireOpen();
            InFlight flight = inFlight.get(batchId);
            if (flight == null || (fence != ANY_FENCE && fence != flight.fence())) {
                return null;
            }
            int slot = flight.slot();
            BatchIndex.Type type = index.typeOf(slot);
            Verdict verdict = decision.decide(type.name, index.retries(slot));
            removeInFlight(batchId);
            String kept = StoreLimits.shortened(reason);
            index.failedAgain(slot, PayloadLog.millis(at), verdict.retryCount(), kept);
            type.counters.failedAttempts++;
            if (verdict.dead()) {
                index.markDead(slot, PayloadLog.millis(at));
            } else {
                index.markPending(slot, millis(verdict.nextAttemptAt()));
            }
            writer.changed(slot);
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
            writer.requireOpen();
            InFlight flight = inFlight.get(batchId);
            if (flight == null) {
                return null;
            }
            int slot = flight.slot();
            BatchIndex.Type type = index.typeOf(slot);
            Instant nextAttemptAt = due.apply(type.name).orElse(null);
            removeInFlight(batchId);
            index.markPending(slot, millis(nextAttemptAt));
            if (nextAttemptAt == null) {
                // Otherwise a restart produces this state by itself.
                writer.changed(slot);
            }
            return new Settled(
                    type.name, Instant.ofEpochMilli(index.createdAt(slot)), index.retries(slot), BatchState.PENDING);
        } finally {
            lock.unlock();
        }
    }

    private static long millis(@Nullable Instant time) {
        return time == null ? NEVER : PayloadLog.millis(time);
    }

    /** Under the lock: removes a batch whose id is not at hand. */
    private void removeInAnyState(int slot, RemovalReason reason) {
        if (index.state(slot) == BatchState.IN_FLIGHT) {
            String id = inFlightIds.get(slot);
            InFlight flight = id == null ? null : inFlight.get(id);
            // A batch without a flight is being read for a claim.
            if (id != null && flight != null && flight.slot() == slot) {
                removeInFlight(id);
            }
        }
        remove(slot, reason);
    }

    /** Under the lock: removes a batch that is no longer among the flights. */
    private void remove(int slot, RemovalReason reason) {
        BatchIndex.Type type = index.typeOf(slot);
        RecordPointer pointer = index.location(slot);
        index.remove(slot);
        type.counters.count(reason, 1);
        writer.settled(pointer, type, reason);
        forgetIdleTypes();
    }

    /**
     * Under the lock: forgets idle collector types. Types may come and go, one per tenant for instance, and what is
     * known of them has a limit.
     */
    private void forgetIdleTypes() {
        long maxBytes = options.maxDiskUsage() / IDLE_TYPES_SHARE;
        for (BatchIndex.Type type; (type = index.forgetIdle(StoreLimits.MAX_IDLE_TYPES, maxBytes)) != null; ) {
            writer.forgotten(type);
        }
    }

    // ---- selecting -------------------------------------------------------------------------------

    private Selection select(BatchSelector selector, Instant now) {
        return selector.ids().isEmpty()
                ? queries.select(selector, now)
                : queries.select(selector, now, located(selector.ids()));
    }

    private List<Row> located(Collection<String> ids) {
        List<Row> rows = new ArrayList<>();
        for (String id : ids) {
            Row row = locate(id);
            if (row != null) {
                rows.add(row);
            }
        }
        return rows;
    }

    @Override
    public long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt) {
        return changeAll(select(selector.states(BatchState.PENDING), now), Set.of(BatchState.PENDING), slot -> {
            index.markPending(slot, millis(nextAttemptAt));
            writer.changed(slot);
        });
    }

    @Override
    public long releaseHeld(Instant nextAttemptAt) {
        return changeAll(queries.heldBack(), Set.of(BatchState.PENDING), slot -> {
            index.markPending(slot, PayloadLog.millis(nextAttemptAt));
            writer.changed(slot);
        });
    }

    @Override
    public long replay(BatchSelector selector, Instant now, Duration apart) {
        long[] replayed = {0};
        long begin = PayloadLog.millis(now);
        double apartMillis = apart.toNanos() / 1e6;
        return changeAll(select(selector.states(BatchState.DEAD), now), Set.of(BatchState.DEAD), slot -> {
            index.replay(slot, begin, begin + (long) (replayed[0]++ * apartMillis));
            writer.changed(slot);
        });
    }

    @Override
    public long discard(BatchSelector selector, Instant now) {
        Set<BatchState> states =
                selector.statesOr(EnumSet.allOf(BatchState.class)).states();
        return changeAll(select(selector, now), states, slot -> removeInAnyState(slot, RemovalReason.DISCARDED));
    }

    /**
     * Changes the batches that are still held and in one of the states. Durable when it returns, since an operator
     * asked for it.
     */
    private long changeAll(Selection selection, Set<BatchState> states, IntConsumer change) {
        long changed = 0;
        for (int from = 0; from < selection.size(); from += IndexQueries.CHUNK_SIZE) {
            lock.lock();
            try {
                writer.requireOpen();
                for (int each = from; each < Math.min(from + IndexQueries.CHUNK_SIZE, selection.size()); each++) {
                    int slot = selection.slots[each];
                    if (index.holds(slot, selection.sequences[each]) && states.contains(index.state(slot))) {
                        change.accept(slot);
                        changed++;
                    }
                }
            } finally {
                lock.unlock();
            }
        }
        if (changed > 0) {
            writer.forceJournal();
        }
        return changed;
    }

    @Override
    public boolean pause(String collectorType, boolean paused) {
        // It has to fit into the journal.
        NewBatch.checkedCollectorType(collectorType);
        boolean changed;
        lock.lock();
        try {
            writer.requireOpen();
            BatchIndex.Type known = index.knownType(collectorType);
            changed = (known != null && known.paused) != paused;
            if (changed) {
                BatchIndex.Type type = index.type(collectorType);
                index.pause(type, paused);
                writer.paused(type);
            }
        } finally {
            lock.unlock();
        }
        // Force even if nothing changed: a concurrent caller may have queued it.
        if (!writer.forceJournal()) {
            throw new BatchPersistenceException(
                    "the collector type '" + collectorType + "' is " + (paused ? "paused" : "resumed")
                            + " until a restart only: the state journal in " + options.directory()
                            + " can't be written. Repeat this once it can",
                    null);
        }
        return changed;
    }

    @Override
    public Set<String> pausedCollectorTypes() {
        return queries.collectorTypes(type -> type.paused);
    }

    @Override
    public List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max) {
        return removeAll(
                queries.olderThan(collectorType, PayloadLog.millis(pendingBefore), PayloadLog.millis(deadBefore), max),
                RemovalReason.EXPIRED);
    }

    @Override
    public List<BatchSummary> evictOldest(int max) {
        List<BatchSummary> evicted = removeAll(queries.oldest(max), RemovalReason.EVICTED);
        if (!evicted.isEmpty()) {
            // The caller needs the room now.
            housekeeper.releaseSpace();
        }
        return evicted;
    }

    @Override
    public List<BatchSummary> evictDeadLetters(long mostBytes, int max) {
        return removeAll(queries.deadLettersAbove(mostBytes, max), RemovalReason.EVICTED);
    }

    /** Reads the summaries, then removes the batches that were not claimed meanwhile. */
    private List<BatchSummary> removeAll(List<Row> rows, RemovalReason reason) {
        List<BatchSummary> removed = new ArrayList<>(rows.size());
        for (Row row : rows) {
            BatchSummary summary = summary(row);
            if (summary == null) {
                continue;
            }
            lock.lock();
            try {
                writer.requireOpen();
                if (index.holds(row.slot(), row.pointer().sequence()) && index.state(row.slot()) == row.state()) {
                    removeInAnyState(row.slot(), reason);
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
            return Optional.of(row.batch(read(row, payload::content)));
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
        Selection selection = select(selector, now);
        for (int from = 0; from < selection.size(); from += IndexQueries.CHUNK_SIZE) {
            for (Row row : queries.rows(selection, from)) {
                BatchSummary summary = summary(row);
                if (summary != null) {
                    summaries.add(summary);
                }
            }
        }
        return summaries;
    }

    @Override
    public long count(BatchSelector selector, Instant now) {
        return selector.ids().isEmpty()
                ? queries.count(selector, now)
                : select(selector, now).size();
    }

    @Override
    public List<FailureGroup> failures(BatchSelector selector, Instant now) {
        return selector.ids().isEmpty()
                ? queries.failures(selector, now)
                : queries.failures(select(selector.limit(Integer.MAX_VALUE), now), selector.limit());
    }

    private @Nullable BatchSummary summary(Row row) {
        try {
            return row.summary(read(row, payload::header));
        } catch (DamagedPayloadException e) {
            damaged(row, null, e.getMessage());
        } catch (IOException e) {
            unreadable(row, e);
        }
        return null;
    }

    @Override
    public Set<String> collectorTypes() {
        return queries.collectorTypes(type -> type.held() > 0);
    }

    @Override
    public BatchStats stats() {
        String notOurs = directoryLock.problem();
        lock.lock();
        try {
            writer.requireOpen();
            return new BatchStats(
                    queries.collectors(),
                    index.size(),
                    options.maxBatches(),
                    diskUsage(),
                    options.maxDiskUsage(),
                    notOurs != null ? notOurs : writer.problem(),
                    writer.writes(measuredDisk),
                    null,
                    null,
                    unreadableBatches.stats(index::holds));
        } finally {
            lock.unlock();
        }
    }

    // ---- moving batches elsewhere ----------------------------------------------------------------

    @Override
    public boolean holds(String batchId) {
        lock.lock();
        try {
            writer.requireOpen();
            if (appending.contains(batchId)) {
                return true;
            }
        } finally {
            lock.unlock();
        }
        return locate(batchId) != null;
    }

    @Override
    public boolean isEmpty() {
        lock.lock();
        try {
            writer.requireOpen();
            return index.size() == 0 && appending.isEmpty();
        } finally {
            lock.unlock();
        }
    }

    @Override
    public List<BatchRef> refsAfter(long after, int max) {
        Selection selection = select(
                BatchSelector.all()
                        .states(BatchState.PENDING, BatchState.DEAD)
                        .after(after)
                        .limit(max),
                Instant.EPOCH);
        List<BatchRef> waiting = new ArrayList<>(selection.size());
        for (int i = 0; i < selection.size(); i++) {
            waiting.add(new BatchRef(selection.slots[i], selection.sequences[i]));
        }
        return waiting;
    }

    @Override
    public @Nullable StoredBatch read(BatchRef ref) {
        Row row;
        Instant since;
        lock.lock();
        try {
            if (!isCurrent(ref)) {
                return null;
            }
            row = queries.row(ref.slot());
            since = Instant.ofEpochMilli(index.since(ref.slot()));
        } finally {
            lock.unlock();
        }
        try {
            return new StoredBatch(
                    row.batch(read(row, payload::content)), since, row.pointer().length());
        } catch (DamagedPayloadException e) {
            damaged(row, null, e.getMessage());
        } catch (IOException e) {
            unreadable(row, e);
        }
        return null;
    }

    /** Under the lock. */
    private boolean isCurrent(BatchRef ref) {
        writer.requireOpen();
        return index.holds(ref.slot(), ref.sequence()) && index.state(ref.slot()) != BatchState.IN_FLIGHT;
    }

    @Override
    public boolean markDead(BatchRef ref, String reason, Instant at) {
        lock.lock();
        try {
            int slot = ref.slot();
            if (!isCurrent(ref) || index.state(slot) == BatchState.DEAD) {
                return false;
            }
            index.failedAgain(slot, PayloadLog.millis(at), index.retries(slot), StoreLimits.shortened(reason));
            index.markDead(slot, PayloadLog.millis(at));
            writer.changed(slot);
            return true;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public boolean withdraw(BatchRef ref) {
        lock.lock();
        try {
            if (!isCurrent(ref)) {
                return false;
            }
            int slot = ref.slot();
            BatchIndex.Type type = index.typeOf(slot);
            RecordPointer pointer = index.location(slot);
            index.remove(slot);
            type.counters.accepted--;
            writer.withdrawn(pointer, type);
            forgetIdleTypes();
            return true;
        } finally {
            lock.unlock();
        }
    }

    // ---- times -----------------------------------------------------------------------------------

    @Override
    public @Nullable Instant lastUsed() {
        return directoryLock.lastUsed();
    }

    @Override
    public void correctAges(Instant now) {
        correct(slot -> index.correctAge(slot, PayloadLog.millis(now)));
    }

    @Override
    public void correctWaits(Instant now, Function<String, Duration> longest) {
        correct(slot -> index.correctWait(
                slot,
                PayloadLog.millis(now),
                longest.apply(index.typeOf(slot).name).toMillis()));
    }

    private void correct(IntPredicate correction) {
        lock.lock();
        try {
            writer.requireOpen();
            index.forEachSlot(slot -> {
                if (correction.test(slot)) {
                    writer.changed(slot);
                }
            });
        } finally {
            lock.unlock();
        }
    }

    // ---- cleaning up and closing -----------------------------------------------------------------

    @Override
    public void reclaim() {
        lock.lock();
        try {
            writer.requireOpen();
            forgetIdleTypes();
        } finally {
            lock.unlock();
        }
        directoryLock.used(options.clock().instant());
        quarantine.refresh();
        writer.runAsLeader(writer.journal::checkpoint);
        housekeeper.releaseSpace();
        housekeeper.cleanUp();
    }

    @Override
    public void close() {
        writer.beginClosing();
        boolean interrupted = housekeeper.join();
        interrupted |= writer.finish();
        directoryLock.used(options.clock().instant());
        directoryLock.close();
        DeferredLog.flush(LOG_FLUSH_TIMEOUT);
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
