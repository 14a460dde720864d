package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.jdbc.CounterTable.Counter;
import io.batchpersistence.jdbc.CounterTable.CounterDelta;
import io.batchpersistence.jdbc.Database.CommitUnknownException;
import io.batchpersistence.jdbc.Tx.Reader;
import java.security.SecureRandom;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * This instance's membership among those that share the database. It keeps its number as long as it sends heartbeats;
 * by that number it owns what it has in flight. Thread-safe.
 *
 * <p>When another instance finds the lease expired, it marks the instance as gone in its row and removes its counters,
 * in one transaction. An instance that resumes after its lease expired finds its counter rows gone: its transaction
 * rolls back, and it takes a new number. What it had in flight is given back after that, in chunks, by any instance, as
 * are batches whose owner has no row. The row of an instance that is gone is kept for a day, for batches of business
 * transactions that are committed late.
 *
 * <p>An instance that is frozen in the middle of a transaction, or vanishes with its connections, keeps rows locked
 * until the database ends that transaction. The others never wait for it: locked batches and counters are skipped until
 * they are free, and everything else is taken over. If the instance resumes, that transaction may still be committed,
 * since everything that it has changed belonged to it all the time.
 */
final class InstanceMembership {

    /** A transaction that changes batches. */
    @FunctionalInterface
    interface Work<T extends @Nullable Object> {
        /** Runs the changes; may be called several times. The delta is to be filled in, and is written afterwards. */
        T run(Tx tx, long me, CounterDelta delta) throws SQLException;
    }

    /**
     * There are no counters to change: those of a collector type that is new or was folded, or this instance is gone.
     */
    private static final class NoCounterException extends SQLException {
        private static final long serialVersionUID = 1L;
        private final transient List<String> collectorTypes;

        NoCounterException(List<String> collectorTypes) {
            super("there are no counters");
            this.collectorTypes = collectorTypes;
        }
    }

    private record LostClaim(long fence, @Nullable Long seq) {}

    private static final Logger log = LogSanitizer.logger(InstanceMembership.class);

    private static final int CHUNK_SIZE = 1_000;
    private static final long DAY_MILLIS = TimeUnit.DAYS.toMillis(1);
    private static final long LONGEST_PROBE_WAIT_MILLIS = TimeUnit.HOURS.toMillis(1);
    private static final long RETRY_NANOS = TimeUnit.SECONDS.toNanos(1);
    private static final int MAX_NUMBERS_KNOWN = 8;
    private static final long RECOUNT_NANOS = TimeUnit.HOURS.toNanos(1);
    private static final long RECOUNT_DOUBTED_NANOS = TimeUnit.MINUTES.toNanos(1);

    /**
     * Numbers are random, not sequential: a database restored from an older dump would hand out numbers again that it
     * has handed out since, and two live instances would take each other's batches for their own.
     */
    private static final SecureRandom NUMBERS = new SecureRandom();

    /** The remaining 53 bits are exact as a double, too, for clients that read the number as JSON. */
    private static final int UNUSED_BITS = 11;

    private final Database database;
    private final CounterTable counters;
    private final IdleTypes idleTypes;
    private final long leaseMillis;

    private final ReentrantLock taking = new ReentrantLock();
    /** 0 while this instance has no number. */
    private volatile long number;

    private volatile @Nullable Instant lastUsed;
    /**
     * Does not start at 0: a batch that was given back still has the fence, but no longer the number, of the instance
     * that had it.
     */
    private final AtomicLong fences = new AtomicLong(NUMBERS.nextLong() >>> 2);

    private final AtomicLong parts = new AtomicLong();
    private final Set<LostClaim> lostClaims = ConcurrentHashMap.newKeySet();

    // ---- heartbeat and upkeep --------------------------------------------------------------------

    private volatile long lastHeartbeat;
    private volatile int alive;
    private volatile long expiresOthersFrom = Long.MIN_VALUE;
    /** Whether the last heartbeat succeeded. */
    private volatile boolean renewed;
    /** When the counters were last compared with the stored batches. */
    private long recounted;

    private boolean everRecounted;
    /** Whether there is a reason to compare the counters: the store is reported as full, or a counter is negative. */
    private volatile boolean doubted;

    private volatile Consumer<CounterTable.Missing> ifMissing = missing -> {};
    private volatile Runnable eachSecond = () -> {};
    /** Whether the upkeep thread has started its first run. */
    private boolean maintained;

    // ---- the threads -----------------------------------------------------------------------------

    private final CountDownLatch deregistering = new CountDownLatch(1);
    /** Sends heartbeats and nothing else: how long the upkeep takes depends on how large the others' backlogs are. */
    private final Worker lease;
    /** Does everything else. */
    private final Worker maintenance;

    private final TimeCorrections corrections;
    private final LongSupplier longestLease;
    private volatile Function<String, CollectorSettings> settings = type -> CollectorSettings.DEFAULT;

    /**
     * Creates the membership.
     *
     * @param longestLease the longest time in flight that any batch was given, milliseconds
     */
    InstanceMembership(
            Database database, CounterTable counters, TimeCorrections corrections, LongSupplier longestLease) {
        this.database = database;
        this.counters = counters;
        this.idleTypes = new IdleTypes(database, counters);
        this.corrections = corrections;
        this.longestLease = longestLease;
        this.leaseMillis = database.options().lease().toMillis();
        this.lease = new Worker(
                database.threads(), "batch-persistence-jdbc-lease", this::renewNext, e -> failed("The heartbeat", e));
        this.maintenance = new Worker(
                database.threads(),
                "batch-persistence-jdbc-upkeep",
                this::maintainNext,
                e -> failed("Maintenance of instances", e));
    }

    /** When any instance was last alive before this one was opened; {@code null} if there was none. */
    @Nullable
    Instant lastUsed() {
        return lastUsed;
    }

    /** Sets the settings that determine how long batches can wait. */
    void useSettings(Function<String, CollectorSettings> settings) {
        this.settings = settings;
    }

    /** A fence that this process has never used. */
    long newFence() {
        return fences.incrementAndGet();
    }

    /** Returns a new part number, for counters written in a caller's transaction. */
    long newPart() {
        return parts.incrementAndGet();
    }

    /**
     * Records a claim whose outcome is unknown, or whose batches can't be used: what it claimed, if anything, is given
     * back.
     *
     * @param fence the claim's
     * @param seq the sequence number of the only batch to give back; {@code null} for all that it claimed
     */
    void lost(long fence, @Nullable Long seq) {
        lostClaims.add(new LostClaim(fence, seq));
    }

    /**
     * Gives back batches that this instance has claimed and does not send: no attempt is recorded. Those that it does
     * not have in flight by that claim any more are left alone.
     */
    void giveBack(List<Row> claimed) throws SQLException {
        List<Long> seqs = claimed.stream().map(Row::seq).toList();
        List<Long> claimedWith = claimed.stream().map(Row::fence).distinct().toList();
        claim((tx, me, delta) -> releaseRows(
                tx,
                delta,
                tx.all(
                        "SELECT " + Row.WITHOUT_FAILURES + " FROM {p}batch WHERE seq IN " + Tx.in(seqs)
                                + " AND state = {in_flight} AND owner = ? AND fence IN " + Tx.in(claimedWith)
                                + " ORDER BY seq FOR UPDATE",
                        Row::of,
                        Tx.values(seqs, me, claimedWith))));
    }

    /** Whether no other instance can have taken this number for one of an instance that is gone. */
    boolean surelyHolds(long known) {
        return number == known && database.tick() - lastHeartbeat < TimeUnit.MILLISECONDS.toNanos(leaseMillis) / 2;
    }

    /** Whether this is the number of this instance now. */
    boolean isNumber(long known) {
        return number == known;
    }

    /** The status as of the last heartbeat. */
    BatchStats.Instance status() {
        return new BatchStats.Instance(database.options().instanceName(), number, alive);
    }

    /**
     * Returns the number of this instance.
     *
     * @throws BatchPersistenceException if it has none yet
     */
    long number() {
        long known = number;
        if (known == 0) {
            // Callers don't wait for an unreachable database: the heartbeat thread keeps retrying.
            String problem = database.problem();
            throw new BatchPersistenceException(
                    "the store in the database can't be used: " + (problem == null ? "it is being opened" : problem)
                            + "; it is tried again by itself",
                    null);
        }
        return known;
    }

    // ---- transactions ----------------------------------------------------------------------------

    /** Runs a transaction that changes batches, and the counters with them. */
    <T extends @Nullable Object> T write(Work<T> work) throws SQLException {
        return write(CounterTable.MAIN, work);
    }

    /** Runs a transaction that claims batches. */
    <T extends @Nullable Object> T claim(Work<T> work) throws SQLException {
        return write(CounterTable.CLAIMS, work);
    }

    /** A single statement. */
    @FunctionalInterface
    interface Statement<T extends @Nullable Object> {
        T run(Tx tx, long me) throws SQLException;
    }

    /**
     * Runs a single statement that claims batches and updates the counters itself, and is a transaction of its own.
     *
     * @param collectorType of the batches that it claims
     * @param statement fails with {@link Dialect#isGuard} if there are no counters
     */
    <T extends @Nullable Object> T claimAtOnce(String collectorType, Statement<T> statement) throws SQLException {
        return withCounters(CounterTable.CLAIMS, me -> {
            try {
                T result = database.writeAtOnce(tx -> statement.run(tx, me));
                counters.changed();
                return result;
            } catch (SQLException e) {
                if (Dialect.isGuard(e)) {
                    throw new NoCounterException(List.of(collectorType));
                }
                throw e;
            }
        });
    }

    private <T extends @Nullable Object> T write(long part, Work<T> work) throws SQLException {
        return withCounters(part, me -> counted(me, part, work, counters::committed));
    }

    private <T extends @Nullable Object> T counted(
            long instance, long part, Work<T> work, Consumer<CounterDelta> afterCommit) throws SQLException {
        return database.write(tx -> {
            CounterDelta delta = new CounterDelta();
            T result = work.run(tx, instance, delta);
            List<String> missing = delta.write(tx, instance, part);
            if (!missing.isEmpty()) {
                throw new NoCounterException(missing);
            }
            tx.afterCommit(() -> afterCommit.accept(delta));
            return result;
        });
    }

    @FunctionalInterface
    private interface Attempt<T extends @Nullable Object> {
        T run(long me) throws SQLException;
    }

    private <T extends @Nullable Object> T withCounters(long part, Attempt<T> attempt) throws SQLException {
        for (int numbers = 1; ; numbers++) {
            long me = number();
            try {
                return attempt.run(me);
            } catch (NoCounterException e) {
                if (numbers == MAX_NUMBERS_KNOWN) {
                    throw e;
                }
                try {
                    makeCounters(me, part, e.collectorTypes);
                } catch (CommitUnknownException unknown) {
                    log.debug("Whether there are counters now is seen at the next try", unknown);
                }
            }
        }
    }

    /**
     * Inserts missing counters, in a transaction of its own that checks whether this instance is gone: rows can be
     * missing for other reasons, too, see {@link IdleTypes}.
     */
    private void makeCounters(long me, long part, List<String> collectorTypes) throws SQLException {
        Boolean made = database.write(tx -> {
            if (tx.one("SELECT id FROM {p}instance WHERE id = ? AND gone_at IS NULL FOR UPDATE", Reader.LONG, me)
                    == null) {
                return false;
            }
            CounterTable.insertMissing(tx, collectorTypes, me, part);
            return true;
        });
        if (!made) {
            takeNewNumber(me);
        }
    }

    // ---- registering -----------------------------------------------------------------------------

    /** Connects to the database, creates the tables and takes a number, unless that is already done. */
    void register() {
        if (number != 0) {
            return;
        }
        try {
            database.inspect();
            Schema.prepare(database);
            database.readClock();
            database.readLimits();
            checkEarlierInstances();
            takeNewNumber(0);
            warnOfOtherApplications();
            renewed = true;
            countAlive();
            // Before a caller checks the limits.
            counters.refreshIfOld();
            database.ready();
        } catch (SQLException e) {
            database.problem(Dialect.message(e));
        }
    }

    private void checkEarlierInstances() throws SQLException {
        Long seen = database.read(
                tx -> tx.one("SELECT seen_at FROM {p}instance ORDER BY seen_at DESC LIMIT 1", Reader.LONG));
        lastUsed = database.callerTimeOrNull(seen);
        if (seen != null) {
            database.clock().beginsAt(seen);
        }
    }

    /**
     * Two applications with the same table prefix send, retry and expire each other's batches, and share their limits.
     */
    private void warnOfOtherApplications() throws SQLException {
        String mine = database.options().application();
        if (mine.isEmpty()) {
            return;
        }
        List<String> others = database.read(
                tx -> tx.all("""
                SELECT DISTINCT application FROM {p}instance WHERE gone_at IS NULL AND lease_until >= {now}
                AND application <> '' AND application <> ? ORDER BY application LIMIT 10""", row -> TextEscaping.unescape(row.getString(1)), TextEscaping.escape(mine)));
        if (!others.isEmpty()) {
            log.warn(
                    "Other applications keep their batches in the same tables {}…: {}. Each sends, retries and counts the others'"
                            + " batches, and they share their limits. If that is not intended, give each application a table prefix or"
                            + " a schema of its own",
                    database.sql("{p}"),
                    String.join(", ", others));
        }
    }

    private void takeNewNumber(long old) throws SQLException {
        taking.lock();
        try {
            if (number != old) {
                // Another thread has already taken one.
                return;
            }
            if (isDeregistering()) {
                // No thread would send heartbeats for the new number.
                throw new IllegalStateException("the store is closed");
            }
            long taken = NUMBERS.nextLong() >>> UNUSED_BITS;
            database.write(tx -> tx.update(
                    """
                    INSERT INTO {p}instance (id, name, application, lease_millis, seen_at, lease_until)
                    VALUES (?, ?, ?, ?, {time}, {time} + ?)""",
                    taken,
                    TextEscaping.escape(database.options().instanceName()),
                    TextEscaping.escape(database.options().application()),
                    leaseMillis,
                    leaseMillis));
            number = taken;
            lastHeartbeat = database.tick();
            if (old != 0) {
                counters.changed();
                log.warn(
                        "The lease of this instance expired without a heartbeat, or its row was deleted: its batches in flight are released to other instances, and its marks of them are fenced. It registers again as number {} instead of"
                                + " {}",
                        number,
                        old);
            }
        } finally {
            taking.unlock();
        }
    }

    // ---- heartbeats and upkeep -------------------------------------------------------------------

    void start() {
        register();
        if (database.isLive()) {
            lease.start();
            maintenance.start();
        } else {
            try {
                maintain();
            } catch (SQLException e) {
                database.problem(Dialect.message(e));
            }
        }
    }

    /** Which thread is dead although it should run; {@code null} if all is well. */
    @Nullable
    String problem() {
        String problem = lease.problem();
        return problem == null ? maintenance.problem() : problem;
    }

    private boolean renewNext() throws SQLException {
        if (!awaitNextHeartbeat(() -> {})) {
            return false;
        }
        renew();
        return true;
    }

    private boolean maintainNext() throws SQLException {
        if (maintained && !awaitNextHeartbeat(eachSecond)) {
            return false;
        }
        maintained = true;
        maintain();
        return true;
    }

    private boolean awaitNextHeartbeat(Runnable eachSecond) {
        long nanos = number == 0 ? RETRY_NANOS : TimeUnit.MILLISECONDS.toNanos(Math.max(1, leaseMillis / 3));
        try {
            for (; nanos > 0; nanos -= RETRY_NANOS) {
                if (deregistering.await(Math.min(nanos, RETRY_NANOS), TimeUnit.NANOSECONDS)) {
                    return false;
                }
                eachSecond.run();
                if (database.problem() != null) {
                    // Try now: no other thread may be trying.
                    return true;
                }
            }
        } catch (InterruptedException e) {
            // The thread is never ended by an interrupt.
        }
        return true;
    }

    private boolean isDeregistering() {
        return deregistering.getCount() == 0;
    }

    /**
     * Logs a failure; as a warning only if the database is not already known to be unusable: it is retried every second
     * then.
     */
    private void failed(String what, Throwable failure) {
        if (database.problem() == null) {
            log.warn("{} failed, and is tried again soon", what, failure);
        } else {
            log.debug("{} failed, and is tried again soon", what, failure);
        }
    }

    /** Sends a heartbeat and does the upkeep. For one thread at a time. */
    void heartbeat() throws SQLException {
        renew();
        maintain();
    }

    /** Sends a heartbeat. Takes the same time however much upkeep there is. */
    private void renew() throws SQLException {
        if (number == 0) {
            register();
            return;
        }
        boolean done = false;
        try {
            renew(number);
            done = true;
        } catch (SQLException e) {
            database.refuses("no heartbeat can be written: " + Dialect.message(e));
            throw e;
        } catch (RuntimeException | Error e) {
            database.refuses("no heartbeat can be written: " + e);
            throw e;
        } finally {
            renewed = done;
        }
    }

    private void renew(long me) throws SQLException {
        long tick = database.tick();
        if (tick - lastHeartbeat > TimeUnit.MILLISECONDS.toNanos(leaseMillis)) {
            // If the database was away, the others' leases have expired like this one's: give them time to renew.
            expiresOthersFrom = tick + TimeUnit.MILLISECONDS.toNanos(leaseMillis);
        }
        // Read the clock even while nothing can be written.
        database.readClock();
        int found = database.write(tx -> tx.update(
                "UPDATE {p}instance SET seen_at = {time}, lease_until = {time} + ? WHERE id = ? AND gone_at IS NULL",
                leaseMillis,
                me));
        if (found == 0) {
            takeNewNumber(me);
        }
        lastHeartbeat = tick;
        countAlive();
    }

    private void countAlive() throws SQLException {
        Integer counted = database.read(tx -> tx.one(
                "SELECT COUNT(*) FROM {p}instance WHERE gone_at IS NULL AND lease_until >= {now}",
                row -> row.getInt(1)));
        alive = counted == null ? 0 : counted;
    }

    /**
     * Does the upkeep: takes care of what other instances have left, and of the counters. Stops between two
     * transactions when this instance deregisters.
     */
    private void maintain() throws SQLException {
        if (number == 0) {
            return;
        }
        database.lookForPooler();
        tryWriting();
        database.readLimits();
        correctTimes();
        eachSecond.run();
        releaseLostClaims();
        foldParts();
        if (database.tick() >= expiresOthersFrom
                && !database.clock().steppedAheadWithin(TimeUnit.MILLISECONDS.toNanos(leaseMillis), database.tick())) {
            expireOthers();
        }
        releaseBatchesOfGone();
        database.write(tx -> tx.update("DELETE FROM {p}instance WHERE gone_at < {now} - ?", DAY_MILLIS));
        counters.refreshIfOld();
        idleTypes.forget(number, this::isDeregistering);
        recountIfDue();
    }

    /** Corrects times after the database's clock was set back: what was written before lies in the future. */
    private void correctTimes() throws SQLException {
        Long from = database.clock().setBackFrom();
        if (from == null) {
            return;
        }
        log.warn("The database's clock was set back: batches that would wait for it to catch up are due now");
        if (corrections.afterSetBack(from, number, this::longestWait, longestLease.getAsLong())) {
            database.clock().corrected(from);
        }
    }

    /**
     * An upper bound, in milliseconds, on how far a failure, a collector's retry-after or a probe can put a batch off.
     */
    private long longestWait(String collectorType) {
        CollectorSettings known = settings.apply(collectorType);
        return Math.max(
                Database.millis(known.retry().max()),
                Math.max(Database.millis(known.maxRetryAfter()), LONGEST_PROBE_WAIT_MILLIS));
    }

    /**
     * Checks whether the database accepts what this store writes, with rows that no other transaction sees, and that
     * are gone at the commit. Any obstacle (read-only, no permission, a missing table, no space) is detected before a
     * batch is refused, and its end is detected without a batch.
     */
    private void tryWriting() throws SQLException {
        long me = number;
        try {
            database.write(tx -> {
                GroupWriter.tryWriting(tx, me);
                CounterTable.tryWriting(tx, me);
                // Only a key lookup, since no collector type is empty: it does not wait for locked rows.
                tx.update("""
                        INSERT INTO {p}lane (collector_type, paused) SELECT collector_type, paused FROM {p}lane
                        WHERE collector_type = ''""");
                tx.update("UPDATE {p}lane SET paused = paused WHERE collector_type = ''");
                tx.update("DELETE FROM {p}lane WHERE collector_type = ''");
                tx.update("""
                        INSERT INTO {p}outage (collector_type, since, next_probe_at, probes, last_failure) SELECT
                        collector_type, since, next_probe_at, probes, last_failure FROM {p}outage WHERE collector_type = ''""");
                tx.update("UPDATE {p}outage SET probes = probes WHERE collector_type = ''");
                tx.update("DELETE FROM {p}outage WHERE collector_type = ''");
                return null;
            });
        } catch (SQLException e) {
            database.refuses("nothing can be written: " + Dialect.message(e));
            throw e;
        }
        if (renewed) {
            database.ready();
        }
    }

    /** Sets the listener for batches that are gone without having been accounted for. */
    void ifMissing(Consumer<CounterTable.Missing> listener) {
        ifMissing = listener;
    }

    /** Sets what the thread of the upkeep does once a second, unless the upkeep takes longer. */
    void eachSecond(Runnable task) {
        eachSecond = task;
    }

    /** Requests a comparison of the counters with the stored batches soon: the counters may be wrong. */
    void doubtCounters() {
        doubted = true;
    }

    /**
     * Compares the counters with the stored batches: once an hour, since that reads every batch, or a minute after the
     * last comparison if the counters are in doubt. Batches or counters may have been deleted by other means.
     */
    private void recountIfDue() throws SQLException {
        long tick = database.tick();
        long wait = doubted || counters.areInconsistent() ? RECOUNT_DOUBTED_NANOS : RECOUNT_NANOS;
        if (everRecounted && tick - recounted < wait) {
            return;
        }
        everRecounted = true;
        recounted = tick;
        doubted = false;
        List<CounterTable.Missing> found = new ArrayList<>();
        asUnowned((tx, unowned, delta) -> {
            found.clear();
            // One instance at a time: two would correct the same difference twice.
            tx.all("SELECT version FROM {p}schema_version FOR UPDATE", Reader.LONG);
            database.takesLong();
            found.addAll(CounterTable.recount(tx, delta));
            return found.size();
        });
        for (CounterTable.Missing missing : found) {
            ifMissing.accept(missing);
        }
    }

    /** Gives back what was {@link #lost}. */
    void releaseLostClaims() throws SQLException {
        for (LostClaim claim : List.copyOf(lostClaims)) {
            List<Long> only = claim.seq() == null ? List.of() : List.of(claim.seq());
            write((tx, me, delta) -> releaseRows(
                    tx,
                    delta,
                    tx.all(
                            "SELECT " + Row.WITHOUT_FAILURES
                                    + " FROM {p}batch WHERE state = {in_flight} AND owner = ? AND fence = ?"
                                    + (only.isEmpty() ? "" : " AND seq = ?") + " ORDER BY seq FOR UPDATE",
                            Row::of,
                            Tx.values(me, claim.fence(), only))));
            lostClaims.remove(claim);
        }
    }

    /** Folds the counter rows of committed business transactions into the main ones. */
    private void foldParts() throws SQLException {
        if (parts.get() > 0) {
            int folded;
            do {
                folded = write((tx, me, delta) -> fold(tx, delta, "part > 0", me, CHUNK_SIZE));
            } while (folded == CHUNK_SIZE && !isDeregistering());
        }
        List<Long> late = database.read(tx -> tx.all("""
                SELECT DISTINCT c.instance FROM {p}counter c LEFT JOIN {p}instance i ON i.id = c.instance
                WHERE c.instance <> ? AND (i.id IS NULL OR i.gone_at IS NOT NULL)""", Reader.LONG, CounterTable.NO_OWNER));
        for (Long gone : late) {
            foldRestOf(gone, this::isDeregistering);
        }
    }

    private void foldRestOf(long gone, BooleanSupplier stops) throws SQLException {
        int folded;
        do {
            folded = asUnowned((tx, unowned, delta) -> fold(tx, delta, "1 = 1", gone, CHUNK_SIZE));
        } while (folded == CHUNK_SIZE && !stops.getAsBoolean());
    }

    private record Expired(long seenAt, long leaseMillis) {}

    private void expireOthers() throws SQLException {
        // Time that the clock skipped since it was last read expires no lease: the others have had no time to renew
        // theirs.
        long followed = database.time();
        List<Long> silent = database.read(tx -> tx.all(
                "SELECT id FROM {p}instance WHERE gone_at IS NULL AND lease_until < {now} AND lease_until < ? AND id <> ?",
                Reader.LONG,
                followed,
                number));
        for (Long id : silent) {
            asUnowned((tx, unowned, delta) -> {
                // An instance frozen in the middle of a heartbeat has its row locked: skip it.
                Expired expired = tx.one("""
                        SELECT seen_at, lease_millis FROM {p}instance
                        WHERE id = ? AND gone_at IS NULL AND lease_until < {now} AND lease_until < ?
                        FOR UPDATE SKIP LOCKED""", row -> new Expired(row.getLong(1), row.getLong(2)), id, followed);
                if (expired == null) {
                    return 0;
                }
                tx.update("UPDATE {p}instance SET gone_at = {time} WHERE id = ?", id);
                foldMain(tx, delta, id);
                long silentMillis = database.time(tx) - expired.seenAt();
                tx.afterCommit(() -> log.warn(
                        "Instance {} has sent no heartbeat for {} ms, and its lease is {} ms: its batches in flight are released",
                        id,
                        silentMillis,
                        expired.leaseMillis()));
                return 1;
            });
        }
    }

    /**
     * Folds the counters without which an instance can't write any more. Those of business transactions are left for
     * later: they may be many.
     */
    private static void foldMain(Tx tx, CounterDelta delta, long instance) throws SQLException {
        fold(tx, delta, "part <= 0", instance, Integer.MAX_VALUE);
    }

    /**
     * Moves some counters into those that the transaction writes, and returns how many rows. Rows that are locked, by a
     * business transaction that has not ended or a transaction that its instance was frozen in, are skipped and moved
     * later.
     */
    private static int fold(Tx tx, CounterDelta delta, String which, long instance, int max) throws SQLException {
        List<Counter> counters = CounterTable.lock(tx, instance, which + " ORDER BY part, collector_type LIMIT ?", max);
        for (Counter counter : counters) {
            delta.add(TextEscaping.unescape(counter.collectorType()), counter);
        }
        CounterTable.delete(tx, instance, counters);
        return counters.size();
    }

    /**
     * Gives back the batches of instances that are gone, or whose row is missing because it was deleted, or an older
     * dump was restored.
     */
    private void releaseBatchesOfGone() throws SQLException {
        // Read the owners first, then the rows: the row of a new instance exists before the instance owns anything.
        List<Long> owners = owners();
        Set<Long> alive = Set.copyOf(
                database.read(tx -> tx.all("SELECT id FROM {p}instance WHERE gone_at IS NULL", Reader.LONG)));
        for (Long owner : owners) {
            if (!alive.contains(owner)) {
                releaseAllOf(owner, this::isDeregistering);
            }
        }
    }

    /** Returns the instances that have batches in flight, with one index lookup each, however many batches that are. */
    private List<Long> owners() throws SQLException {
        List<Long> owners = new ArrayList<>();
        for (Long next = ownerAfter(CounterTable.NO_OWNER); next != null; next = ownerAfter(next)) {
            owners.add(next);
        }
        return owners;
    }

    private @Nullable Long ownerAfter(long owner) throws SQLException {
        return database.read(tx -> tx.one(
                "SELECT owner FROM {p}batch WHERE state = {in_flight} AND owner > ? ORDER BY owner, due_at LIMIT 1",
                Reader.LONG,
                owner));
    }

    private void releaseAllOf(long gone, BooleanSupplier stops) throws SQLException {
        int given;
        do {
            given = asUnowned((tx, unowned, delta) -> releaseRows(
                    tx,
                    delta,
                    tx.all(
                            "SELECT " + Row.WITHOUT_FAILURES + " FROM {p}batch WHERE state = {in_flight} AND owner = ?"
                                    + " ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED",
                            Row::of,
                            gone,
                            CHUNK_SIZE)));
        } while (given == CHUNK_SIZE && !stops.getAsBoolean());
    }

    /** Makes batches pending and due at once; no attempt is recorded. */
    private static int releaseRows(Tx tx, CounterDelta delta, List<Row> rows) throws SQLException {
        if (!rows.isEmpty()) {
            List<Long> seqs = rows.stream().map(Row::seq).toList();
            tx.update(
                    "UPDATE {p}batch SET state = {pending}, owner = NULL, due_at = {time} WHERE seq IN " + Tx.in(seqs),
                    Tx.values(seqs));
            rows.forEach(row -> delta.moved(row, BatchState.PENDING));
        }
        return rows.size();
    }

    /** Runs a transaction whose changes are counted under instance 0, like those of instances that are gone. */
    private int asUnowned(Work<Integer> work) throws SQLException {
        for (int attempt = 1; ; attempt++) {
            try {
                return counted(CounterTable.NO_OWNER, CounterTable.MAIN, work, delta -> counters.changed());
            } catch (NoCounterException e) {
                if (attempt > 1_000) {
                    throw e;
                }
                try {
                    database.write(tx -> {
                        CounterTable.insertMissing(tx, e.collectorTypes, CounterTable.NO_OWNER, CounterTable.MAIN);
                        return null;
                    });
                } catch (SQLException duplicate) {
                    if (!Dialect.isDuplicate(duplicate)) {
                        throw duplicate;
                    }
                }
            }
        }
    }

    // ---- deregistering ---------------------------------------------------------------------------

    /** Stops sending heartbeats. */
    void stop() {
        deregistering.countDown();
    }

    /**
     * Deregisters this instance and gives back what it has in flight. If the database is unreachable, that happens when
     * the lease has expired.
     */
    void deregister() {
        stop();
        joinThreads();
        long me = number;
        if (me == 0) {
            return;
        }
        try {
            asUnowned((tx, unowned, delta) -> {
                int ended = tx.update(
                        "UPDATE {p}instance SET gone_at = {time}, seen_at = {time} WHERE id = ? AND gone_at IS NULL",
                        me);
                if (ended > 0) {
                    foldMain(tx, delta, me);
                }
                return ended;
            });
            foldRestOf(me, () -> false);
            releaseAllOf(me, () -> false);
        } catch (SQLException | BatchPersistenceException e) {
            log.warn("Batches in flight could not be released; other instances get them when the lease has expired", e);
        }
    }

    private void joinThreads() {
        boolean interrupted = lease.join();
        interrupted |= maintenance.join();
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
