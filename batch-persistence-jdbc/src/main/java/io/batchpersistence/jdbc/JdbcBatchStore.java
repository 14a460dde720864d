package io.batchpersistence.jdbc;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.CompressionUnavailableException;
import io.batchpersistence.Corruption;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.CorruptionReports;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.internal.spi.UnreadableBatches;
import io.batchpersistence.jdbc.Claims.Taken;
import io.batchpersistence.jdbc.CounterTable.CounterDelta;
import io.batchpersistence.jdbc.GroupWriter.Promise;
import io.batchpersistence.jdbc.Row.Content;
import io.batchpersistence.jdbc.Row.Encoded;
import io.batchpersistence.jdbc.Tx.Reader;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spi.SharedOutages;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Predicate;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps batches in a database that several instances share: PostgreSQL, MariaDB, MySQL, or H2 for development.
 * Thread-safe.
 *
 * <p>Beyond the contract of {@link BatchStore}:
 *
 * <ul>
 *   <li>A batch in flight belongs to the instance that persisted or claimed it: marks of others change nothing, and
 *       {@link #timedOut} reports only this instance's own. If an instance sends no heartbeat for the time of the
 *       lease, or closes, what it has in flight becomes pending and due at once, with no attempt counted.
 *   <li>Times are compared on the database's clock; the clocks of the instances do not matter.
 *   <li>Outages are shared, too: a collector that is down gets one probe at a time, whichever instance sends it.
 *   <li>Limits apply to all instances together, approximately: what others did in the last second may be missing.
 *   <li>Opening does not require the database to be reachable: until it is, {@link BatchStats#problem()} says what is
 *       wrong, methods throw {@link BatchPersistenceException}, and the store keeps retrying by itself.
 * </ul>
 */
public final class JdbcBatchStore implements BatchStore {

    private static final Logger log = LogSanitizer.logger(JdbcBatchStore.class);

    /** Rows per query, or per transaction. */
    private static final int CHUNK_SIZE = 500;

    /** When a batch that this process can't decompress is due again. */
    private static final Duration READ_RETRY = Duration.ofSeconds(10);

    /**
     * How long a batch that this process could not read counts as unreadable; longer than the time between two
     * attempts.
     */
    private static final Duration UNREADABLE_KNOWN = Duration.ofMinutes(30);

    /**
     * If none of the claimed batches can be read, a call of claim goes on, up to about this many: otherwise unreadable
     * batches would starve those behind them.
     */
    private static final int MAX_CLAIM_READS = 100;

    /**
     * How long closing waits for the database: the limits of the pool and the driver may be longer than a process has
     * for its shutdown.
     */
    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);

    /** How long closing waits for the deferred log lines of the store's threads. */
    private static final Duration LOG_FLUSH_TIMEOUT = Duration.ofSeconds(1);

    private final JdbcStoreOptions options;
    private final Database database;
    private final CounterTable counters;
    private final InstanceMembership membership;
    private final GroupWriter writer;
    private final Claims claims;
    private final Outages outages;
    private final UnreadableBatches unreadableBatches = new UnreadableBatches();

    private final AtomicBoolean closed = new AtomicBoolean();

    private final ReentrantLock leases = new ReentrantLock();

    /** On the callers' clock, no lease of this instance ends before this time. Guarded by the lock. */
    private Instant earliestLeaseEnd = Instant.MAX;

    /** The longest time in flight that any batch was given, milliseconds. */
    private final AtomicLong longestLease = new AtomicLong();

    private volatile @Nullable Function<String, CollectorSettings> settings;
    private final TimeCorrections corrections;
    /** When the database was last queried for what has timed out. */
    private long lastAsked;

    private final CorruptionReports corruptions = new CorruptionReports();

    private JdbcBatchStore(DataSource dataSource, JdbcStoreOptions options, Database.Seams seams) {
        this.options = options;
        this.database = new Database(dataSource, options, seams);
        this.counters = new CounterTable(database);
        this.corrections = new TimeCorrections(database, counters, closed::get);
        this.membership = new InstanceMembership(database, counters, corrections, longestLease::get);
        this.writer = new GroupWriter(database, membership, counters);
        this.claims = new Claims(database, membership, counters);
        this.membership.ifMissing(this::report);
        this.membership.eachSecond(claims::giveBackStale);
        this.outages = new Outages(database, membership, this::requireOpen, claims::giveBackAhead);
    }

    /**
     * Opens a store. Succeeds whether the database can be reached or not.
     *
     * @param dataSource provides connections; a pool with at least four connections for the store
     * @param options the options
     * @return the store
     * @throws io.batchpersistence.CompressionUnavailableException if the options' compression needs a native library
     *     that can't be loaded
     */
    public static JdbcBatchStore open(DataSource dataSource, JdbcStoreOptions options) {
        return open(dataSource, options, Database.Seams.NONE);
    }

    static JdbcBatchStore open(DataSource dataSource, JdbcStoreOptions options, Database.Seams seams) {
        Compressions.requireAvailable(options.compression());
        JdbcBatchStore store = new JdbcBatchStore(dataSource, options, seams);
        boolean interrupted = Thread.interrupted();
        boolean started = false;
        try {
            store.writer.start();
            store.membership.start();
            started = true;
        } finally {
            if (!started) {
                // A thread could not be started: the others must not go on without it.
                store.close();
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
        return store;
    }

    /** Sends a heartbeat and does the upkeep, as the store's own threads do periodically. */
    void heartbeat() {
        database.call("the heartbeat", () -> {
            membership.heartbeat();
            return null;
        });
    }

    private void requireOpen() {
        if (closed.get()) {
            throw new IllegalStateException("the store is closed");
        }
    }

    // ---- appending -------------------------------------------------------------------------------

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Void> append(NewBatch batch) {
        return append(batch, (encoded, promise) -> GroupWriter.Append.sent(batch, encoded, promise));
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Void> appendUnsent(NewBatch batch, @Nullable Instant nextAttemptAt) {
        return append(batch, (encoded, promise) -> GroupWriter.Append.unsent(batch, nextAttemptAt, encoded, promise));
    }

    private CompletableFuture<@Nullable Void> append(
            NewBatch batch, BiFunction<Encoded, Promise, GroupWriter.Insert> insert) {
        requireOpen();
        Encoded encoded;
        Promise promise;
        try {
            encoded = Encoded.of(batch.id(), batch.collectorType(), batch.entries(), batch.context(), options);
            promise = promise(batch.collectorType());
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
        try {
            requireSpace(encoded, 0, 0);
            GroupWriter.Insert append = insert.apply(encoded, promise);
            if (append.state() == BatchState.IN_FLIGHT) {
                leaseEnds(batch.leaseUntil());
                longestLease(Database.between(batch.createdAt(), batch.leaseUntil()));
            }
            Connection joined = options.transaction().get();
            if (joined == null) {
                return writer.submit(append);
            }
            membership.number();
            database.call("persisting in the caller's transaction", () -> {
                // Check first, before a statement fails, and the transaction with it.
                if (joined.isReadOnly()) {
                    throw new BatchPersistenceException(
                            "the batch was to become part of the caller's transaction, but that is read-only: persist before or after"
                                    + " it, or make it one that may write",
                            null);
                }
                writer.join(new Tx(database, joined, database.timeoutSeconds()), append);
                return null;
            });
            append.complete();
            return append.done;
        } catch (BatchPersistenceException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private Promise promise(String collectorType) {
        Function<String, CollectorSettings> known = settings;
        return known == null ? Promise.NONE : Promise.of(known.apply(collectorType));
    }

    @Override
    public boolean joinsTransaction() {
        return options.transaction().get() != null;
    }

    /**
     * Rejects a batch for which there is no space.
     *
     * @param batchesBefore how many batches are about to be written before it, beyond those in the writer's queue
     * @param bytesBefore their bytes
     */
    private void requireSpace(Encoded encoded, long batchesBefore, long bytesBefore) {
        String full = database.call("checking the limits", () -> full(encoded.bytes(), batchesBefore, bytesBefore));
        if (full != null) {
            throw new BatchRejectedException(full);
        }
        requireFitsInStatement(encoded);
    }

    /**
     * Why the store is full; {@code null} if it is not. While less than half is used, the periodic reads of the
     * counters are enough.
     */
    private @Nullable String full(long bytes, long batchesBefore, long bytesBefore) throws SQLException {
        if (2 * (heldBatches() + batchesBefore) >= options.maxBatches()
                || 2 * (heldBytes() + bytesBefore + bytes) >= options.maxBytes()) {
            counters.refreshIfOld();
        }
        String full = fullByNow(bytes, heldBatches() + batchesBefore, heldBytes() + bytesBefore);
        if (full != null) {
            membership.doubtCounters();
        }
        return full;
    }

    private long heldBatches() {
        return counters.heldBatches() + writer.waitingBatches();
    }

    private long heldBytes() {
        return counters.heldBytes() + writer.waitingBytes();
    }

    private @Nullable String fullByNow(long bytes, long batches, long used) {
        if (batches >= options.maxBatches()) {
            return "the store holds " + batches + " batches, and its limit is " + options.maxBatches()
                    + "; raise maxBatches, or deliver, discard or expire some";
        }
        if (used + bytes > options.maxBytes()) {
            return "the store holds " + used + " of " + options.maxBytes() + " bytes, and the batch of " + bytes
                    + " does not fit in; raise maxBytes, or deliver, discard or expire some";
        }
        return null;
    }

    /**
     * Rejects a batch that is too large for a statement: sending it would cost the connection, with no hint at the
     * cause.
     */
    private void requireFitsInStatement(Encoded encoded) {
        long most = database.largestStatement();
        if (encoded.bytes() >= most) {
            throw new BatchPersistenceException(
                    "the batch has " + encoded.bytes() + " bytes, but the database takes statements of at most " + most
                            + "; raise its max_allowed_packet, or persist fewer entries at a time",
                    null);
        }
    }

    // ---- for the fallback ------------------------------------------------------------------------

    /** Why the store can't be used; {@code null} if it can, as far as is known. Cheap. */
    @Nullable
    String problem() {
        String gone = writer.problem();
        if (gone == null) {
            gone = membership.problem();
        }
        return gone == null ? database.problem() : gone;
    }

    /** Whether the database can be used, as far as is known. */
    boolean isUsable() {
        return problem() == null;
    }

    /**
     * Why the store can't be used, or what it is waiting for longer than usual, which may well end by itself;
     * {@code null} if all is well.
     */
    @Nullable
    String problemToShow() {
        String problem = problem();
        return problem == null ? database.waiting() : problem;
    }

    /** Whether the calling thread is the writer, which must not wait for {@link #adopt}. */
    boolean isWriting() {
        return writer.isCalling();
    }

    /** The statistics as of the last read, without querying the database. */
    BatchStats lastStats() {
        return stats(counters.lastKnown());
    }

    /**
     * Makes sure that the statistics include everything that this instance has done.
     *
     * @throws BatchPersistenceException if the database can't be queried
     */
    void refreshStats() {
        database.call("looking at the counters", counters::collectors);
    }

    /**
     * Takes over batches from another store, as they are: pending or dead, with their times and failures. Counts them as
     * accepted. They are queued as one, so that as few transactions as possible write them.
     *
     * @return one future for each, in their order, completed as described in {@link #append}
     */
    List<CompletableFuture<@Nullable Void>> adopt(List<StoredBatch> batches) {
        requireOpen();
        List<CompletableFuture<@Nullable Void>> done = new ArrayList<>();
        List<GroupWriter.Adopt> adopts = new ArrayList<>();
        long bytes = 0;
        for (StoredBatch stored : batches) {
            PersistedBatch batch = stored.batch();
            try {
                Encoded encoded =
                        Encoded.of(batch.id(), batch.collectorType(), batch.entries(), batch.context(), options);
                requireSpace(encoded, adopts.size(), bytes);
                GroupWriter.Adopt adopt = new GroupWriter.Adopt(stored, encoded, promise(batch.collectorType()));
                adopts.add(adopt);
                bytes += encoded.bytes();
                done.add(adopt.done);
            } catch (RuntimeException e) {
                done.add(CompletableFuture.failedFuture(e));
            }
        }
        try {
            writer.submit(adopts);
        } catch (RuntimeException e) {
            adopts.forEach(adopt -> adopt.fail(e));
        }
        return done;
    }

    /**
     * Removes a batch whose append was reported as failed but was committed, as if it had never been accepted, unless
     * another instance has claimed it by now. Waits for the transaction that may still append it.
     */
    void retract(String batchId, GroupWriter.InDoubtException doubt) {
        database.call(
                "retracting an unacknowledged batch",
                () -> membership.write((tx, me, delta) -> {
                    tx.one(
                            "SELECT part FROM {p}counter WHERE collector_type = ? AND instance = ? AND part = ? FOR UPDATE",
                            Reader.LONG,
                            TextEscaping.escape(doubt.collectorType),
                            doubt.owner,
                            CounterTable.MAIN);
                    Row row = tx.one(
                            "SELECT " + Row.WITHOUT_FAILURES + " FROM {p}batch WHERE batch_id = ? AND fence = ?"
                                    + " AND (state = {in_flight} AND owner = ? OR state = {pending}) FOR UPDATE",
                            Row::of,
                            TextEscaping.escape(batchId),
                            doubt.fence,
                            doubt.owner);
                    if (row != null) {
                        tx.update("DELETE FROM {p}batch WHERE seq = ?", row.seq());
                        delta.withdrawn(row);
                    }
                    return null;
                }));
    }

    // ---- claiming and settling -------------------------------------------------------------------

    @Override
    public List<Claim> claim(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        requireOpen();
        database.noteNow(now);
        if (max < 1) {
            return List.of();
        }
        List<Claim> read = new ArrayList<>();
        BatchPersistenceException failed = null;
        int taken;
        int looked = 0;
        do {
            List<Taken> some = take(collectorType, order, now, leaseUntil, max);
            taken = some.size();
            looked += taken;
            BatchPersistenceException failure = read(some, now, read);
            failed = failure == null ? failed : failure;
        } while (read.isEmpty() && taken > 0 && looked < MAX_CLAIM_READS);
        if (failed != null) {
            if (read.isEmpty()) {
                throw failed;
            }
            log.debug("A batch could not be read; it is tried again later", failed);
        }
        return read;
    }

    private List<Taken> take(String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
        long lease = Database.between(now, leaseUntil);
        List<Taken> taken = null;
        try {
            taken = database.call("claiming", () -> claims.take(collectorType, order, lease, max));
        } finally {
            if (taken == null || !taken.isEmpty()) {
                // A claim that failed may be committed all the same, later.
                leaseEnds(leaseUntil);
                longestLease(lease + claims.hold().toMillis());
            }
        }
        return taken;
    }

    /**
     * Adds the batches that can be read, and puts off those that this process can't decompress, or has no memory for.
     * Another instance may be able to.
     */
    private @Nullable BatchPersistenceException read(List<Taken> taken, Instant now, List<Claim> read) {
        BatchPersistenceException failed = null;
        int done = 0;
        try {
            for (; done < taken.size(); done++) {
                Taken each = taken.get(done);
                try {
                    Content content = decode(each.row(), each.encoded());
                    unreadableBatches.read(each.row().seq());
                    if (content != null) {
                        read.add(new Claim(
                                each.row().batch(database, content),
                                each.row().fence(),
                                database.callerTimeOrNull(each.due())));
                    }
                } catch (CompressionUnavailableException | OutOfMemoryError e) {
                    // Another instance may be able to decompress it, so the delay does not grow.
                    Duration retry = e instanceof OutOfMemoryError
                            ? unreadableBatches.retryAfter(each.row().seq())
                            : READ_RETRY;
                    released(each.row().id(), type -> Optional.of(now.plus(retry)));
                    failed = unreadableBatches.failed(
                            0,
                            each.row().seq(),
                            "batch '" + each.row().id() + "' for collector '"
                                    + each.row().collectorType() + "'",
                            e,
                            retry,
                            options.clock().millis());
                }
            }
        } finally {
            if (done < taken.size()) {
                claims.lost(taken);
            }
        }
        return failed;
    }

    private void longestLease(long millis) {
        longestLease.accumulateAndGet(millis, Math::max);
    }

    private void leaseEnds(Instant at) {
        leases.lock();
        try {
            if (at.isBefore(earliestLeaseEnd)) {
                earliestLeaseEnd = at;
            }
        } finally {
            leases.unlock();
        }
    }

    @Override
    public List<Lease> timedOut(Instant now, int max) {
        requireOpen();
        database.noteNow(now);
        // Called in each round of recovery.
        claims.giveBackStale();
        leases.lock();
        try {
            long tick = database.tick();
            if (!earliestLeaseEnd.isBefore(now)
                    && tick - lastAsked < options.lease().toNanos()) {
                // Most of the time, the database need not be queried.
                return List.of();
            }
            // Query at least once per lease: a restored older dump may have more batches in flight.
            lastAsked = tick;
            // Reset before the query, which does not see leases that begin from now on.
            earliestLeaseEnd = Instant.MAX;
        } finally {
            leases.unlock();
        }
        boolean looked = false;
        try {
            List<Lease> leases = database.call("looking for what timed out", () -> readTimedOut(now, max));
            looked = true;
            return leases;
        } finally {
            if (!looked) {
                leaseEnds(Instant.MIN);
            }
        }
    }

    private List<Lease> readTimedOut(Instant now, int max) throws SQLException {
        long me = membership.number();
        try {
            // After an outage, the upkeep may come later: what nobody was sending has not timed out.
            membership.releaseLostClaims();
        } catch (SQLException e) {
            // The other leases must end all the same.
            log.debug("Claims that were lost could not be given back yet", e);
        }
        long time = database.time();
        List<Lease> ended = database.read(tx -> tx.all(
                """
                SELECT batch_id, collector_type, fence FROM {p}batch WHERE state = {in_flight} AND owner = ? AND due_at < {now}
                AND due_at < ? ORDER BY due_at LIMIT ?""",
                row -> new Lease(
                        TextEscaping.unescape(row.getString(1)),
                        TextEscaping.unescape(row.getString(2)),
                        row.getLong(3)),
                me,
                database.clock().withoutSkipped(longestLease.get(), time),
                max));
        if (!ended.isEmpty()) {
            // They are reported again until they are settled.
            leaseEnds(Instant.MIN);
            return ended;
        }
        Long left = database.read(tx -> tx.one(
                "SELECT due_at - {now} FROM {p}batch WHERE state = {in_flight} AND owner = ? ORDER BY due_at LIMIT 1",
                Reader.LONG,
                me));
        if (left != null) {
            leaseEnds(left > Duration.ofDays(1_000_000).toMillis() ? Instant.MAX : now.plusMillis(left));
        }
        return ended;
    }

    @Override
    public @Nullable Settled delivered(String batchId) {
        requireOpen();
        claims.giveBackIfAhead(batchId);
        return writer.writeMark(new GroupWriter.Delivered(batchId));
    }

    // An early JDK 17 does not read the @Nullable of a type argument from class files.
    @SuppressWarnings("NullAway")
    @Override
    public CompletableFuture<@Nullable Settled> deliveredLater(String batchId) {
        requireOpen();
        claims.giveBackIfAhead(batchId);
        return writer.submit(new GroupWriter.Delivered(batchId));
    }

    @Override
    public @Nullable Settled failed(String batchId, long fence, String reason, Instant at, FailureDecision decision) {
        requireOpen();
        claims.giveBackIfAhead(batchId);
        return writer.writeMark(new GroupWriter.Failed(batchId, fence, reason, at, decision));
    }

    @Override
    public @Nullable Settled released(String batchId, Function<String, Optional<Instant>> due) {
        requireOpen();
        claims.giveBackIfAhead(batchId);
        return writer.writeMark(new GroupWriter.Released(batchId, due));
    }

    // ---- damage ----------------------------------------------------------------------------------

    private @Nullable Content decode(Row row, Encoded encoded) {
        try {
            return encoded.decode();
        } catch (DamagedPayloadException e) {
            damaged(row, String.valueOf(e.getMessage()));
            return null;
        }
    }

    private @Nullable BatchHeader header(Row row, byte[] header) {
        try {
            return BatchHeader.decode(header);
        } catch (DamagedPayloadException e) {
            damaged(row, String.valueOf(e.getMessage()));
            return null;
        }
    }

    // Never modified.
    @SuppressWarnings("ArrayRecordComponent")
    private record WithHeader(Row row, byte[] header) {
        static final Reader<WithHeader> READER = row -> new WithHeader(Row.of(row), row.getBytes("header"));
    }

    /** Moves a damaged batch to a table of its own, where its bytes are kept for an administrator. */
    private void damaged(Row row, String why) {
        Row gone = database.call(
                "setting a damaged batch aside",
                () -> membership.write((tx, me, delta) -> {
                    Row held = tx.one(
                            "SELECT " + Row.COLUMNS + " FROM {p}batch WHERE seq = ? FOR UPDATE", Row::of, row.seq());
                    if (held != null) {
                        tx.update("""
                                INSERT INTO {p}corrupt (seq, batch_id, collector_type, created_at, found_at, why, format,
                                compression, raw_length, payload_crc, header, payload) SELECT seq, batch_id,
                                collector_type, created_at, {time}, ?, format, compression, raw_length, payload_crc,
                                header, payload FROM {p}batch WHERE seq = ?""", Row.escaped(why), row.seq());
                        tx.update("DELETE FROM {p}batch WHERE seq = ?", row.seq());
                        delta.gone(held, RemovalReason.CORRUPT);
                    }
                    return held;
                }));
        if (gone != null) {
            report(new Corruption(
                    Path.of(database.tables() + "batch"),
                    gone.seq(),
                    gone.bytes(),
                    why,
                    gone.id(),
                    gone.collectorType(),
                    1,
                    Path.of(database.tables() + "corrupt")));
        }
    }

    private void report(Corruption corruption) {
        log.error(
                "Damage in row {} of table {}, {} bytes: {}. Lost: the batch {} of {}. Kept in table {}",
                corruption.offset(),
                corruption.file(),
                corruption.length(),
                corruption.reason(),
                corruption.batchId(),
                corruption.collectorType(),
                corruption.quarantinedTo());
        corruptions.report(corruption);
    }

    private void report(CounterTable.Missing missing) {
        String why = "rows of the table were removed from outside";
        log.error(
                "Lost: {} batches of {} that this store had accepted are not in table {} any more. They count as corrupt",
                missing.batches(),
                missing.collectorType(),
                database.tables() + "batch");
        corruptions.report(new Corruption(
                Path.of(database.tables() + "batch"),
                0,
                missing.bytes(),
                why,
                null,
                missing.collectorType(),
                missing.batches(),
                null));
    }

    @Override
    public void onCorruption(Consumer<Corruption> listener) {
        corruptions.listen(listener);
    }

    // ---- selecting -------------------------------------------------------------------------------

    private static String direction(BatchOrder order) {
        return order == BatchOrder.OLDEST_FIRST ? "" : " DESC";
    }

    /** Returns the selected rows, in the selector's order; reads them page by page. */
    private <T> List<T> select(BatchSelector selector, String columns, Reader<T> reader, Function<T, Row> row)
            throws SQLException {
        List<T> found = new ArrayList<>();
        List<SelectorSql> parts = SelectorSql.parts(selector, CHUNK_SIZE);
        for (SelectorSql part : parts) {
            int before = found.size();
            SelectorSql page = part;
            while (page != null && found.size() - before < selector.limit()) {
                SelectorSql conditions = page;
                int limit = part.reason == null
                        ? Math.min(CHUNK_SIZE, selector.limit() - (found.size() - before))
                        : CHUNK_SIZE;
                List<T> rows = database.read(tx -> tx.all(
                        "SELECT " + columns + " FROM {p}batch WHERE " + conditions.sql + " ORDER BY seq"
                                + direction(selector.order()) + " LIMIT ?",
                        reader,
                        Tx.values(conditions.values, limit)));
                for (T each : rows) {
                    if (found.size() - before < selector.limit()
                            && part.matchesReason(row.apply(each).reason())) {
                        found.add(each);
                    }
                }
                page = rows.size() < limit
                        ? null
                        : part.copy()
                                .behind(
                                        selector.order(),
                                        row.apply(rows.get(rows.size() - 1)).seq());
            }
        }
        if (parts.size() > 1) {
            Comparator<T> oldestFirst =
                    Comparator.comparingLong(each -> row.apply(each).seq());
            found.sort(selector.order() == BatchOrder.OLDEST_FIRST ? oldestFirst : oldestFirst.reversed());
        }
        return found.size() <= selector.limit() ? found : new ArrayList<>(found.subList(0, selector.limit()));
    }

    /** Changes a chunk of locked rows. */
    @FunctionalInterface
    private interface ChangeOfRows {
        void change(Tx tx, List<Row> rows, CounterDelta delta, long before) throws SQLException;
    }

    private record FoundRow(long seq, @Nullable String reason) {}

    /**
     * Changes the selected rows page by page: they may be more than fit into memory. Batches persisted meanwhile are
     * not selected.
     */
    private long changeAll(BatchSelector selector, ChangeOfRows change) throws SQLException {
        if (!selector.ids().isEmpty()) {
            // The caller has all of the ids in memory, so there is room for their sequence numbers.
            return changeEach(selector, change);
        }
        membership.number();
        Long last = database.read(tx -> tx.one("SELECT MAX(seq) FROM {p}batch", Reader.LONG));
        SelectorSql all = new SelectorSql(selector).and("seq <= ?", last == null ? 0L : last);
        long changed = 0;
        SelectorSql page = all;
        while (page != null && changed < selector.limit()) {
            SelectorSql conditions = page;
            List<FoundRow> found = database.read(tx -> tx.all(
                    "SELECT seq, " + (all.reason == null ? "NULL AS reason" : "reason") + " FROM {p}batch WHERE "
                            + conditions.sql + " ORDER BY seq" + direction(selector.order()) + " LIMIT ?",
                    row -> new FoundRow(row.getLong(1), TextEscaping.unescapeOrNull(row.getString(2))),
                    Tx.values(conditions.values, CHUNK_SIZE)));
            List<Long> some = found.stream()
                    .filter(each -> all.matchesReason(each.reason()))
                    .limit(selector.limit() - changed)
                    .map(FoundRow::seq)
                    .toList();
            changed += changeSome(selector, some, changed, change);
            page = found.size() < CHUNK_SIZE
                    ? null
                    : all.copy()
                            .behind(
                                    selector.order(),
                                    found.get(found.size() - 1).seq());
        }
        return changed(changed);
    }

    private long changeEach(BatchSelector selector, ChangeOfRows change) throws SQLException {
        List<String> ids = List.copyOf(selector.ids());
        String columns = selector.failureReason() == null ? Row.WITHOUT_FAILURES : Row.COLUMNS;
        List<Long> seqs = new ArrayList<>();
        for (int from = 0; from < ids.size(); from += CHUNK_SIZE) {
            List<String> some = ids.subList(from, Math.min(from + CHUNK_SIZE, ids.size()));
            for (Row row : select(selector.ids(some.toArray(String[]::new)), columns, Row::of, row -> row)) {
                seqs.add(row.seq());
            }
        }
        Comparator<Long> oldestFirst = Comparator.naturalOrder();
        seqs.sort(selector.order() == BatchOrder.OLDEST_FIRST ? oldestFirst : oldestFirst.reversed());
        int wanted = Math.min(seqs.size(), selector.limit());
        long changed = 0;
        for (int from = 0; from < wanted; from += CHUNK_SIZE) {
            List<Long> some = seqs.subList(from, Math.min(from + CHUNK_SIZE, wanted));
            changed += changeSome(selector, some, changed, change);
        }
        return changed(changed);
    }

    /** Changes the rows that are still in a selected state. */
    private int changeSome(BatchSelector selector, List<Long> some, long before, ChangeOfRows change)
            throws SQLException {
        if (some.isEmpty()) {
            return 0;
        }
        Set<BatchState> states = selector.states();
        return membership.write((tx, me, delta) -> {
            List<Row> rows = tx
                    .all(
                            "SELECT " + Row.WITHOUT_FAILURES + " FROM {p}batch WHERE seq IN " + Tx.in(some)
                                    + " ORDER BY seq" + direction(selector.order()) + " FOR UPDATE",
                            Row::of,
                            Tx.values(some))
                    .stream()
                    .filter(row -> states.isEmpty() || states.contains(row.state()))
                    .toList();
            if (!rows.isEmpty()) {
                change.change(tx, rows, delta, before);
            }
            return rows.size();
        });
    }

    private long changed(long count) {
        if (count > 0) {
            counters.changed();
        }
        return count;
    }

    private static List<Long> seqs(List<Row> rows) {
        return rows.stream().map(Row::seq).toList();
    }

    @Override
    public long reschedule(BatchSelector selector, Instant now, @Nullable Instant nextAttemptAt) {
        requireOpen();
        claims.giveBackAhead(selector);
        Long due = nextAttemptAt == null ? null : (Long) Database.between(now, nextAttemptAt);
        return database.call("rescheduling", () -> reschedule(selector.states(BatchState.PENDING), due));
    }

    private long reschedule(BatchSelector pending, @Nullable Long due) throws SQLException {
        return changeAll(pending, (tx, rows, delta, before) -> {
            List<Long> seqs = seqs(rows);
            tx.update("UPDATE {p}batch SET due_at = {time} + ? WHERE seq IN " + Tx.in(seqs), Tx.values(due, seqs));
        });
    }

    @Override
    public long releaseHeld(Instant nextAttemptAt) {
        requireOpen();
        long due = database.waitToDatabaseMillis(nextAttemptAt);
        return database.call("releasing what is held", () -> {
            long released = 0;
            for (String type : counters.collectors().keySet()) {
                int some;
                do {
                    some = membership.write((tx, me, delta) -> {
                        // ORDER BY due_at makes the database use the index.
                        List<Long> seqs = tx.all("""
                                SELECT seq FROM {p}batch WHERE collector_type = ? AND state = {pending} AND due_at IS NULL
                                ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED""", Reader.LONG, TextEscaping.escape(type), CHUNK_SIZE);
                        return seqs.isEmpty()
                                ? 0
                                : tx.update(
                                        "UPDATE {p}batch SET due_at = {time} + ? WHERE seq IN " + Tx.in(seqs),
                                        Tx.values(due, seqs));
                    });
                    released += some;
                } while (some == CHUNK_SIZE);
            }
            return changed(released);
        });
    }

    @Override
    public long replay(BatchSelector selector, Instant now, Duration apart) {
        requireOpen();
        double apartMillis = apart.toNanos() / 1e6;
        return database.call(
                "replaying",
                () -> changeAll(selector.states(BatchState.DEAD), (tx, rows, delta, before) -> {
                    List<@Nullable Object[]> each = new ArrayList<>(rows.size());
                    for (Row row : rows) {
                        long place = before + each.size();
                        each.add(new @Nullable Object[] {(long) (place * apartMillis), row.seq()});
                        delta.moved(row, BatchState.PENDING);
                    }
                    tx.updates(
                            "UPDATE {p}batch SET state = {pending}, due_at = {time} + ?, since = {time}, retry_count = 0 WHERE seq = ?",
                            each);
                }));
    }

    @Override
    public long discard(BatchSelector selector, Instant now) {
        requireOpen();
        claims.giveBackAhead(selector);
        return database.call(
                "discarding",
                () -> changeAll(
                        selector, (tx, rows, delta, before) -> remove(tx, rows, delta, RemovalReason.DISCARDED)));
    }

    private static void remove(Tx tx, List<Row> rows, CounterDelta delta, RemovalReason reason) throws SQLException {
        List<Long> seqs = seqs(rows);
        tx.update("DELETE FROM {p}batch WHERE seq IN " + Tx.in(seqs), Tx.values(seqs));
        rows.forEach(row -> delta.gone(row, reason));
    }

    // ---- pausing ---------------------------------------------------------------------------------

    @Override
    public boolean pause(String collectorType, boolean paused) {
        // The collector type has to fit into its column.
        NewBatch.checkedCollectorType(collectorType);
        requireOpen();
        boolean changed = database.call("pausing", () -> {
            try {
                return pauseOnce(collectorType, paused);
            } catch (SQLException e) {
                if (Dialect.isDuplicate(e)) {
                    // Another thread or instance inserted the row first.
                    return pauseOnce(collectorType, paused);
                }
                throw e;
            }
        });
        claims.giveBackAhead(collectorType);
        return changed;
    }

    private boolean pauseOnce(String collectorType, boolean paused) throws SQLException {
        membership.number();
        String type = TextEscaping.escape(collectorType);
        int wanted = paused ? 1 : 0;
        return database.write(tx -> {
            Long now = tx.one("SELECT paused FROM {p}lane WHERE collector_type = ? FOR UPDATE", Reader.LONG, type);
            if (now == null) {
                if (paused) {
                    tx.update("INSERT INTO {p}lane (collector_type, paused) VALUES (?, 1)", type);
                }
                return paused;
            }
            if (now == wanted) {
                return false;
            }
            if (paused) {
                tx.update("UPDATE {p}lane SET paused = 1 WHERE collector_type = ?", type);
            } else {
                tx.update("DELETE FROM {p}lane WHERE collector_type = ?", type);
            }
            return true;
        });
    }

    @Override
    public Set<String> pausedCollectorTypes() {
        requireOpen();
        return database.call("reading the paused collector types", () -> {
            membership.number();
            return Set.copyOf(database.read(tx -> tx.all(
                    "SELECT collector_type FROM {p}lane WHERE paused = 1",
                    row -> TextEscaping.unescape(row.getString(1)))));
        });
    }

    // ---- outages ---------------------------------------------------------------------------------

    @Override
    public SharedOutages sharedOutages() {
        return outages;
    }

    // ---- giving up -------------------------------------------------------------------------------

    @Override
    public List<BatchSummary> expire(String collectorType, Instant pendingBefore, Instant deadBefore, int max) {
        requireOpen();
        return database.call("expiring", () -> {
            List<BatchSummary> gone =
                    new ArrayList<>(expire(collectorType, BatchState.PENDING, "batch_ttl", pendingBefore, max));
            gone.addAll(expire(collectorType, BatchState.DEAD, "dead_letter_ttl", deadBefore, max - gone.size()));
            return gone;
        });
    }

    /**
     * Removes batches that are older than the caller's limit, and older than the time that the application that
     * persisted them promised to keep them. A batch counts as old only if it is so both by the clock that this instance
     * has followed and by the database's current clock.
     */
    private List<BatchSummary> expire(String collectorType, BatchState state, String promised, Instant before, int max)
            throws SQLException {
        long age = -database.toDatabaseMillis(before);
        long now = database.time();
        DatabaseClock clock = database.clock();
        return removeFirst(
                "collector_type = ? AND since < ? AND since < {now} - ? AND state = " + Row.number(state) + " AND ("
                        + promised + " <= ? OR since < ? - " + promised + " AND since < {now} - " + promised
                        + ") ORDER BY since",
                RemovalReason.EXPIRED,
                max,
                rows -> rows,
                TextEscaping.escape(collectorType),
                clock.cutoff(age, now),
                age,
                Math.max(0, age),
                now - clock.skipped());
    }

    @Override
    public List<BatchSummary> evictOldest(int max) {
        requireOpen();
        return database.call(
                "evicting",
                () -> removeFirst(
                        "state IN ({pending}, {dead}) ORDER BY seq", RemovalReason.EVICTED, max, rows -> rows));
    }

    @Override
    public List<BatchSummary> evictDeadLetters(long mostBytes, int max) {
        requireOpen();
        return database.call("evicting dead letters", () -> {
            long tooMany = -mostBytes;
            Map<String, CollectorStats> collectors = counters.collectors();
            for (CollectorStats stats : collectors.values()) {
                tooMany += stats.deadVolume().bytes();
            }
            List<Long> first = tooMany <= 0 ? List.of() : firstDead(collectors, Math.min(max, CHUNK_SIZE));
            if (first.isEmpty()) {
                return List.of();
            }
            long bytes = tooMany;
            return removeFirst(
                    "seq IN " + Tx.in(first) + " AND state = {dead} ORDER BY since, seq",
                    RemovalReason.EVICTED,
                    first.size(),
                    rows -> {
                        long left = bytes;
                        int count = 0;
                        while (count < rows.size() && left > 0) {
                            left -= rows.get(count++).row().bytes();
                        }
                        return rows.subList(0, count);
                    },
                    first.toArray());
        });
    }

    private record Dead(long seq, long since) {}

    /**
     * Returns the batches that became dead letters first. There is an index in that order for each collector type, but
     * none for all together.
     */
    private List<Long> firstDead(Map<String, CollectorStats> collectors, int max) throws SQLException {
        List<Dead> first = new ArrayList<>();
        for (Map.Entry<String, CollectorStats> each : collectors.entrySet()) {
            if (each.getValue().dead() > 0) {
                first.addAll(database.read(tx -> tx.all(
                        "SELECT seq, since FROM {p}batch WHERE state = {dead} AND collector_type = ? ORDER BY since, seq LIMIT ?",
                        row -> new Dead(row.getLong(1), row.getLong(2)),
                        TextEscaping.escape(each.getKey()),
                        max)));
            }
        }
        return first.stream()
                .sorted(Comparator.comparingLong(Dead::since).thenComparingLong(Dead::seq))
                .limit(max)
                .map(Dead::seq)
                .toList();
    }

    /** Removes the first rows that match; skips rows that other transactions have locked. */
    private List<BatchSummary> removeFirst(
            String condition,
            RemovalReason reason,
            int max,
            Function<List<WithHeader>, List<WithHeader>> choice,
            @Nullable Object... values)
            throws SQLException {
        List<BatchSummary> summaries = new ArrayList<>();
        List<WithHeader> some;
        int most = CHUNK_SIZE;
        do {
            int limit = Math.min(most, max - summaries.size());
            if (limit < 1) {
                break;
            }
            some = membership.write((tx, me, delta) -> {
                List<WithHeader> rows = choice.apply(tx.all(
                        "SELECT " + Row.WITH_HEADER + " FROM {p}batch WHERE " + condition
                                + " LIMIT ? FOR UPDATE SKIP LOCKED",
                        WithHeader.READER,
                        Tx.values(List.of(), List.of(values), limit)));
                if (!rows.isEmpty()) {
                    remove(tx, rows.stream().map(WithHeader::row).toList(), delta, reason);
                }
                return rows;
            });
            for (WithHeader each : some) {
                summaries.add(each.row().summary(database, headerOrBare(each)));
            }
        } while (some.size() == most && reason == RemovalReason.EXPIRED);
        return summaries;
    }

    /** Returns the header, or a bare one if it is damaged: the batch is gone anyway, so that is no loss. */
    private static BatchHeader headerOrBare(WithHeader each) {
        try {
            return BatchHeader.decode(each.header());
        } catch (DamagedPayloadException e) {
            return new BatchHeader(each.row().id(), each.row().collectorType(), Map.of());
        }
    }

    // ---- looking ---------------------------------------------------------------------------------

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        requireOpen();
        Taken found = database.call("finding a batch", () -> {
            membership.number();
            return database.read(tx -> tx.one(
                    "SELECT " + Row.WITH_PAYLOAD + " FROM {p}batch WHERE batch_id = ?",
                    row -> new Taken(Row.of(row), null, Encoded.of(row)),
                    TextEscaping.escape(batchId)));
        });
        if (found == null) {
            return Optional.empty();
        }
        Content content = decode(found.row(), found.encoded());
        return content == null ? Optional.empty() : Optional.of(found.row().batch(database, content));
    }

    @Override
    public List<BatchSummary> list(BatchSelector selector, Instant now) {
        requireOpen();
        List<WithHeader> rows = database.call("listing", () -> {
            membership.number();
            return select(selector, Row.WITH_HEADER, WithHeader.READER, WithHeader::row);
        });
        List<BatchSummary> summaries = new ArrayList<>(rows.size());
        for (WithHeader each : rows) {
            BatchHeader header = header(each.row(), each.header());
            if (header != null) {
                summaries.add(each.row().summary(database, header));
            }
        }
        return summaries;
    }

    @Override
    public long count(BatchSelector selector, Instant now) {
        requireOpen();
        return database.call("counting", () -> {
            membership.number();
            long count = 0;
            for (SelectorSql part : SelectorSql.parts(selector, CHUNK_SIZE)) {
                count += part.reason == null ? countAll(part, selector.limit()) : countByReason(part);
            }
            return Math.min(count, selector.limit());
        });
    }

    private long countAll(SelectorSql part, int limit) throws SQLException {
        Long count = database.read(tx -> tx.one(
                "SELECT COUNT(*) FROM (SELECT seq FROM {p}batch WHERE " + part.sql + " LIMIT ?) c",
                Reader.LONG,
                Tx.values(part.values, limit)));
        return count == null ? 0 : count;
    }

    private record Counted(String reason, long batches) {}

    private long countByReason(SelectorSql part) throws SQLException {
        return database
                .read(tx -> tx.all(
                        "SELECT reason, COUNT(*) FROM {p}batch WHERE " + part.sql + " GROUP BY reason",
                        row -> new Counted(TextEscaping.unescape(row.getString(1)), row.getLong(2)),
                        part.values.toArray()))
                .stream()
                .filter(counted -> part.matchesReason(counted.reason()))
                .mapToLong(Counted::batches)
                .sum();
    }

    @Override
    public List<FailureGroup> failures(BatchSelector selector, Instant now) {
        requireOpen();
        List<FailureGroup> groups = database.call("looking for failures", () -> {
            membership.number();
            List<FailureGroup> all = new ArrayList<>();
            for (SelectorSql part : SelectorSql.parts(selector, CHUNK_SIZE)) {
                all.addAll(database.read(tx -> tx.all(
                        "SELECT collector_type, reason, COUNT(*), MIN(last_attempt), MAX(last_attempt) FROM {p}batch"
                                + " WHERE reason IS NOT NULL AND " + part.sql + " GROUP BY collector_type, reason",
                        row -> new FailureGroup(
                                TextEscaping.unescape(row.getString(1)),
                                TextEscaping.unescape(row.getString(2)),
                                row.getLong(3),
                                database.callerTime(row.getLong(4)),
                                database.callerTime(row.getLong(5))),
                        part.values.toArray())));
            }
            return all;
        });
        Predicate<String> reason = selector.failureReasonMatcher();
        if (reason != null) {
            groups.removeIf(group -> !reason.test(group.reason()));
        }
        // The query may have been split by ids, so groups can occur several times.
        return merged(groups, selector.limit());
    }

    /** Makes one of all groups with the same collector type and reason. */
    static List<FailureGroup> merged(List<FailureGroup> groups, int limit) {
        Map<List<String>, FailureGroup> merged = new HashMap<>();
        for (FailureGroup group : groups) {
            merged.merge(List.of(group.collectorType(), group.reason()), group, JdbcBatchStore::both);
        }
        return merged.values().stream()
                .sorted(FailureGroup.MOST_BATCHES_FIRST)
                .limit(limit)
                .toList();
    }

    private static FailureGroup both(FailureGroup one, FailureGroup other) {
        return new FailureGroup(
                one.collectorType(),
                one.reason(),
                one.batches() + other.batches(),
                one.firstFailure().isBefore(other.firstFailure()) ? one.firstFailure() : other.firstFailure(),
                one.lastFailure().isAfter(other.lastFailure()) ? one.lastFailure() : other.lastFailure());
    }

    @Override
    public Set<String> collectorTypes() {
        requireOpen();
        return database.call("looking for collector types", () -> {
            membership.number();
            Set<String> held = new HashSet<>();
            counters.collectors().forEach((type, stats) -> {
                if (stats.pending() + stats.inFlight() + stats.dead() > 0) {
                    held.add(type);
                }
            });
            return held;
        });
    }

    @Override
    public BatchStats stats() {
        requireOpen();
        return stats(database.call("looking at the counters", counters::lastKnownOrNow));
    }

    private BatchStats stats(Map<String, CollectorStats> collectors) {
        long batches = 0;
        long bytes = 0;
        for (CollectorStats stats : collectors.values()) {
            batches += stats.pending() + stats.inFlight() + stats.dead();
            bytes += stats.bytes();
        }
        return new BatchStats(
                collectors,
                batches,
                options.maxBatches(),
                bytes,
                options.maxBytes(),
                problemToShow(),
                writer.writes(),
                membership.status(),
                null,
                unreadable());
    }

    /**
     * The unreadable batches of this process. A batch counts for a limited time only: another instance may have sent it
     * since, and does not report that.
     */
    private BatchStats.@Nullable Unreadable unreadable() {
        unreadableBatches.forgetBefore(options.clock().millis() - UNREADABLE_KNOWN.toMillis());
        return unreadableBatches.stats((slot, seq) -> true);
    }

    // ---- times -----------------------------------------------------------------------------------

    @Override
    public @Nullable Instant lastUsed() {
        return membership.lastUsed();
    }

    /** Corrects ages. They are kept on the database's clock, so that only that clock can have been ahead. */
    @Override
    public void correctAges(Instant now) {
        requireOpen();
        database.call("correcting ages", () -> {
            corrections.ages();
            return null;
        });
    }

    /** Corrects waits. They are kept on the database's clock, so that only that clock can have been ahead. */
    @Override
    public void correctWaits(Instant now, Function<String, Duration> longest) {
        requireOpen();
        database.call("correcting waits", () -> {
            corrections.waits(type -> Database.millis(longest.apply(type)));
            return null;
        });
    }

    @Override
    public void useSettings(Function<String, CollectorSettings> settings) {
        this.settings = settings;
        membership.useSettings(settings);
    }

    // ---- cleaning up and closing -----------------------------------------------------------------

    /** Does nothing: the database reclaims the space of deleted rows by itself (autovacuum, purge). */
    @Override
    public void reclaim() {
        requireOpen();
    }

    /**
     * Writes what is queued and gives back what is in flight, if the database answers within five seconds. Otherwise
     * waiting callers get an exception that says whether their batch may be held, and what is in flight is given back
     * when the lease has expired.
     */
    @Override
    public void close() {
        close(CLOSE_TIMEOUT);
    }

    void close(Duration patience) {
        if (!closed.compareAndSet(false, true)) {
            return;
        }
        writer.close();
        boolean isWriter = writer.isCalling();
        boolean done = Threads.within(patience, "batch-persistence-jdbc-closing", () -> {
            if (!isWriter) {
                writer.join();
            }
            database.call("closing", () -> {
                membership.deregister();
                return null;
            });
        });
        if (!done) {
            // Otherwise the lease would be renewed forever.
            membership.stop();
            writer.giveUp();
            log.warn(
                    "The store is closed although the database has not answered within {} ms: batches in flight are released to other instances when the lease has expired",
                    patience.toMillis());
        }
        DeferredLog.flush(LOG_FLUSH_TIMEOUT);
    }
}
