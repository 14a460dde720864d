package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats.Writes;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.LocalBatchStore.StoredBatch;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.jdbc.CounterTable.CounterDelta;
import io.batchpersistence.jdbc.Database.CommitUnknownException;
import io.batchpersistence.jdbc.Tx.Reader;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Group commit: one thread writes all queued appends and marks in one transaction, so that they share its round trips.
 * An operation that arrives alone is written at once. Thread-safe.
 *
 * <p>If the connection is lost while a group commits, the outcome is looked up: each group leaves its own token in a
 * counter row of this instance, which stays locked until the transaction has ended, one way or the other. A single
 * statement may arrive even after that: it does nothing if the row has a later token by then.
 */
final class GroupWriter {

    private static final Logger log = LogSanitizer.logger(GroupWriter.class);

    private static final int MAX_GROUP_SIZE = 256;
    private static final long MAX_GROUP_BYTES = 4 << 20;
    /** About the size of a batch's row in a statement, beyond the bytes that the batch is counted with. */
    private static final long ROW_BYTES = 1_024;
    /** The number of collector types remembered at a time; the others' operations take a few round trips more. */
    private static final int MAX_COUNTED = 1_000;
    /** Attempts to write a group, not counting retries after conflicts with other transactions. */
    private static final int MAX_ATTEMPTS = 20;

    private static final int MAX_OUTCOME_CHECKS = 6;
    private static final long FIRST_CHECK_NANOS = TimeUnit.MILLISECONDS.toNanos(20);

    private static final String INSERT = """
            INSERT INTO {p}batch (batch_id, collector_type, entry_count, bytes, format, compression, raw_length,
            payload_crc, header, payload, batch_ttl, dead_letter_ttl, created_at, since, due_at, state, owner, fence, retry_count,
            earlier_failures, last_attempt, reason) VALUES\s""";
    /**
     * One batch and its counters in one statement. Fails if the batch is stored already, there are no counters, or
     * these carry a later token: the statement may arrive after its outcome has been looked up.
     */
    private static final String INSERT_AT_ONCE = "WITH inserted AS (" + INSERT + "{row} RETURNING 1), counted AS ("
            + CounterTable.UPDATE_WITH_TOKEN
            + " AND token < ? RETURNING 1) SELECT 1 / ((SELECT COUNT(*) FROM inserted) * (SELECT COUNT(*) FROM counted)) AS guard";

    /** One mark and its counters in one statement. Fails if there are no counters, or these carry a later token. */
    private static final String DELIVER_AT_ONCE =
            "WITH gone AS (DELETE FROM {p}batch WHERE batch_id = ? AND (state <> {in_flight} OR owner = ?) RETURNING "
                    + Row.WITHOUT_FAILURES + "), counted AS (" + CounterTable.DELIVER_GONE
                    + " AND c.token < ? RETURNING 1) SELECT gone.*, 1 / (SELECT COUNT(*) FROM counted) AS guard FROM gone";

    /** Makes a statement with an earlier token fail if it is executed only now. */
    private static final String LATER = "UPDATE {p}counter SET token = ? WHERE instance = ? AND part = ?";

    private static final String BYTES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ";

    /**
     * The minimum time a batch is kept, in milliseconds, as configured in the application that persisted it, at that
     * time.
     *
     * @param batchTtl while it is pending
     * @param deadLetterTtl as a dead letter
     */
    record Promise(long batchTtl, long deadLetterTtl) {
        static final Promise NONE = new Promise(0, 0);

        static Promise of(CollectorSettings settings) {
            return new Promise(Database.millis(settings.batchTtl()), Database.millis(settings.deadLetterTtl()));
        }
    }

    private static final String IN_DOUBT =
            "the connection was lost while the transaction committed, and its outcome is unknown";

    private static final String MAY_BE_HELD = ": the batch may be stored and sent all the same";

    private static final String NO_ANSWER = "the store was closed while the database did not answer";

    /**
     * It is unknown whether a batch was persisted. If it was, owner and fence distinguish it from every other batch,
     * even a later one with the same id.
     */
    static final class InDoubtException extends CommitUnknownException {
        private static final long serialVersionUID = 1L;
        final String collectorType;
        final long owner;
        final long fence;

        InDoubtException(String collectorType, long owner, long fence, CommitUnknownException cause) {
            super(cause);
            this.collectorType = collectorType;
            this.owner = owner;
            this.fence = fence;
        }
    }

    /** An operation queued for writing. Its fields belong to the writer until it is done. */
    abstract static class Op<T extends @Nullable Object> {
        final CompletableFuture<T> done = new CompletableFuture<>();
        final String id;

        Op(String id) {
            this.id = id;
        }

        long bytes() {
            return 0;
        }

        /** The approximate number of bytes that it adds to a multi-row statement. */
        long statementBytes() {
            return 0;
        }

        /** The exception for an operation of unknown outcome. */
        RuntimeException inDoubt(String why, CommitUnknownException cause) {
            return new BatchPersistenceException(why + MAY_BE_HELD, cause);
        }

        abstract void complete();

        void fail(RuntimeException failure) {
            done.completeExceptionally(failure);
        }
    }

    /** A batch to be inserted. */
    abstract static class Insert extends Op<@Nullable Void> {
        final String collectorType;
        final Row.Encoded encoded;
        final Promise promise;

        Insert(String id, String collectorType, Row.Encoded encoded, Promise promise) {
            super(id);
            this.collectorType = collectorType;
            this.encoded = encoded;
            this.promise = promise;
        }

        @Override
        long bytes() {
            return encoded.bytes();
        }

        @Override
        long statementBytes() {
            return ROW_BYTES + encoded.bytes();
        }

        abstract BatchState state();

        /** Its row as SQL, starting with {@link #BYTES}, whose values all inserts share. */
        abstract String row();

        /** Appends the values of the rest of the row. */
        abstract void addValues(List<@Nullable Object> values, long me, long fence, Database database);

        @Override
        void complete() {
            done.complete(null);
        }
    }

    /** A new batch: in flight, or pending until recovery sends it. */
    static final class Append extends Insert {
        private static final String TIMES = BYTES + "{time} + ?, {time} + ?, {time} + ?, ";
        private static final String IN_FLIGHT = TIMES + "1, ?, ?, 0, '', NULL, NULL)";
        private static final String PENDING = TIMES + "0, NULL, 0, 0, '', NULL, NULL)";

        private final NewBatch batch;
        private final BatchState state;
        /** When it is due, or its lease ends. */
        private final @Nullable Instant until;

        /** As of the last attempt, as is the fence. */
        private long owner;

        private long fence;

        private Append(
                NewBatch batch, BatchState state, @Nullable Instant until, Row.Encoded encoded, Promise promise) {
            super(batch.id(), batch.collectorType(), encoded, promise);
            this.batch = batch;
            this.state = state;
            this.until = until;
        }

        static Append sent(NewBatch batch, Row.Encoded encoded, Promise promise) {
            return new Append(batch, BatchState.IN_FLIGHT, batch.leaseUntil(), encoded, promise);
        }

        static Append unsent(NewBatch batch, @Nullable Instant due, Row.Encoded encoded, Promise promise) {
            return new Append(batch, BatchState.PENDING, due, encoded, promise);
        }

        @Override
        BatchState state() {
            return state;
        }

        @Override
        String row() {
            return state == BatchState.IN_FLIGHT ? IN_FLIGHT : PENDING;
        }

        @Override
        RuntimeException inDoubt(String why, CommitUnknownException cause) {
            return super.inDoubt(
                    why,
                    state == BatchState.IN_FLIGHT ? new InDoubtException(collectorType, owner, fence, cause) : cause);
        }

        @Override
        void addValues(List<@Nullable Object> values, long me, long fence, Database database) {
            this.owner = me;
            this.fence = fence;
            long created = database.toDatabaseMillis(batch.createdAt());
            values.add(created);
            values.add(created);
            values.add(until == null ? null : (Long) database.waitToDatabaseMillis(until));
            if (state == BatchState.IN_FLIGHT) {
                values.add(me);
                values.add(fence);
            }
        }
    }

    /** A batch moved here from another store, in the state it had there: pending or dead. */
    static final class Adopt extends Insert {
        private static final String ROW = BYTES + "{time} + ?, {time} + ?, {time} + ?, ?, NULL, 0, ?, ?, ?, ";

        private final StoredBatch stored;

        Adopt(StoredBatch stored, Row.Encoded encoded, Promise promise) {
            super(stored.batch().id(), stored.batch().collectorType(), encoded, promise);
            this.stored = stored;
        }

        @Override
        long statementBytes() {
            PersistedBatch batch = stored.batch();
            long reasons =
                    batch.failureReason() == null ? 0 : batch.failureReason().length();
            for (FailedAttempt failure : batch.earlierFailures()) {
                reasons += failure.reason().length();
            }
            return super.statementBytes() + reasons;
        }

        @Override
        BatchState state() {
            return stored.batch().state();
        }

        @Override
        String row() {
            return ROW + (stored.batch().failureReason() == null ? "NULL)" : "?)");
        }

        @Override
        void addValues(List<@Nullable Object> values, long me, long fence, Database database) {
            PersistedBatch batch = stored.batch();
            Instant due = batch.nextAttemptAt();
            Instant lastAttempt = batch.lastAttempt();
            values.add(database.toDatabaseMillis(batch.createdAt()));
            values.add(database.toDatabaseMillis(stored.since()));
            values.add(due == null ? null : (Long) database.waitToDatabaseMillis(due));
            values.add(Row.number(batch.state()));
            values.add(batch.retryCount());
            values.add(Row.escaped(batch.earlierFailures(), database));
            values.add(lastAttempt == null ? null : (Long) database.storedMillis(lastAttempt));
            if (batch.failureReason() != null) {
                values.add(Row.escaped(batch.failureReason()));
            }
        }
    }

    /** A state change of a stored batch. */
    abstract static class Mark extends Op<@Nullable Settled> {
        @Nullable
        Settled result;

        /** The exception thrown by the caller's own code. */
        @Nullable
        RuntimeException thrown;

        Mark(String id) {
            super(id);
        }

        /** Decides the change to the batch, given its current row; {@code null} for none. */
        abstract @Nullable Change apply(Row row, long me, CounterDelta delta, Database database);

        void committed(CounterTable counters) {}

        @Override
        void complete() {
            if (thrown != null) {
                done.completeExceptionally(thrown);
            } else {
                done.complete(result);
            }
        }
    }

    /** A change to a batch: a statement with its values; {@code null} as the statement if the batch is removed. */
    // Never modified.
    @SuppressWarnings("ArrayRecordComponent")
    private record Change(@Nullable String sql, @Nullable Object[] values) {}

    static final class Delivered extends Mark {
        Delivered(String id) {
            super(id);
        }

        @Override
        @Nullable
        Change apply(Row row, long me, CounterDelta delta, Database database) {
            if (row.state() == BatchState.IN_FLIGHT && row.owner() != me) {
                // Another instance is sending it, and decides its outcome.
                return null;
            }
            delta.gone(row, RemovalReason.DELIVERED);
            result = new Settled(row.collectorType(), database.callerTime(row.createdAt()), row.retryCount(), null);
            return new Change(null, new @Nullable Object[0]);
        }

        /** The mark is committed, but the answer with the row was lost. */
        void answerLost(String collectorType, Instant now) {
            result = new Settled(collectorType, now, 0, null);
        }
    }

    static final class Failed extends Mark {
        private static final String MARK_PENDING = """
                UPDATE {p}batch SET state = {pending}, owner = NULL, due_at = {time} + ?,
                last_attempt = {time} + ?, retry_count = ?, reason = ?, earlier_failures = ? WHERE seq = ?""";
        private static final String MARK_DEAD = """
                UPDATE {p}batch SET state = {dead}, owner = NULL, due_at = NULL, since = {time} + ?,
                last_attempt = {time} + ?, retry_count = ?, reason = ?, earlier_failures = ? WHERE seq = ?""";

        private final long fence;
        private final String reason;
        private final Instant at;
        private final FailureDecision decision;
        /** Computed once, although the transaction may be retried. */
        private @Nullable Verdict verdict;

        private @Nullable String collectorType;

        Failed(String id, long fence, String reason, Instant at, FailureDecision decision) {
            super(id);
            this.fence = fence;
            this.reason = reason;
            this.at = at;
            this.decision = decision;
        }

        @Override
        @Nullable
        Change apply(Row row, long me, CounterDelta delta, Database database) {
            if (row.state() != BatchState.IN_FLIGHT
                    || row.owner() != me
                    || (fence != BatchStore.ANY_FENCE && fence != row.fence())) {
                return null;
            }
            if (verdict == null) {
                verdict = decision.decide(row.collectorType(), row.retryCount());
            }
            BatchState state = verdict.dead() ? BatchState.DEAD : BatchState.PENDING;
            delta.moved(row, state);
            collectorType = row.collectorType();
            result =
                    new Settled(row.collectorType(), database.callerTime(row.createdAt()), verdict.retryCount(), state);
            Instant next = verdict.nextAttemptAt();
            Long due = next == null ? null : (Long) database.waitToDatabaseMillis(next);
            long failedAt = database.toDatabaseMillis(at);
            return new Change(verdict.dead() ? MARK_DEAD : MARK_PENDING, new @Nullable Object[] {
                verdict.dead() ? (Long) failedAt : due,
                failedAt,
                verdict.retryCount(),
                Row.escaped(reason),
                row.withLastAmongEarlier(),
                row.seq()
            });
        }

        @Override
        void committed(CounterTable counters) {
            if (result != null && collectorType != null) {
                counters.failed(collectorType);
            }
        }
    }

    static final class Released extends Mark {
        private static final String RELEASE =
                "UPDATE {p}batch SET state = {pending}, owner = NULL, due_at = {time} + ? WHERE seq = ?";

        private final Function<String, Optional<Instant>> due;
        private boolean answered;
        private @Nullable Instant answer;

        Released(String id, Function<String, Optional<Instant>> due) {
            super(id);
            this.due = due;
        }

        @Override
        @Nullable
        Change apply(Row row, long me, CounterDelta delta, Database database) {
            if (row.state() != BatchState.IN_FLIGHT || row.owner() != me) {
                return null;
            }
            if (!answered) {
                answer = due.apply(row.collectorType()).orElse(null);
                answered = true;
            }
            delta.moved(row, BatchState.PENDING);
            result = new Settled(
                    row.collectorType(), database.callerTime(row.createdAt()), row.retryCount(), BatchState.PENDING);
            Long until = answer == null ? null : (Long) database.waitToDatabaseMillis(answer);
            return new Change(RELEASE, new @Nullable Object[] {until, row.seq()});
        }
    }

    /** Some of the batches to be inserted are already stored. */
    private static final class DuplicatesException extends SQLException {
        private static final long serialVersionUID = 1L;

        DuplicatesException() {
            super("a batch with such an id is already stored");
        }
    }

    private final Database database;
    private final InstanceMembership membership;
    private final CounterTable counters;

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    // Guarded by the lock.
    private final Queue<Op<?>> queue = new ArrayDeque<>();
    /** Operations taken from the queue that are not done yet. */
    private final List<Op<?>> writing = new ArrayList<>();

    private boolean closing;

    /** Whether callers have been told that nothing more is written. */
    private volatile boolean givenUp;

    private final AtomicLong waitingBatches = new AtomicLong();
    private final AtomicLong waitingBytes = new AtomicLong();
    private final Worker worker;

    // Confined to the worker thread.
    private boolean inTransaction;
    /** Whether the last attempt was a single statement. */
    private boolean inOneStatement;

    private long token;
    private @Nullable Long halvesUntil;
    /** The collector types for which this instance has counters, since it has {@link #countedAs this number}. */
    private final Set<String> counted = new HashSet<>();

    private long countedAs;
    private volatile Writes writes = Writes.NONE;

    GroupWriter(Database database, InstanceMembership membership, CounterTable counters) {
        this.database = database;
        this.membership = membership;
        this.counters = counters;
        this.worker = new Worker(
                database.threads(),
                "batch-persistence-jdbc-writer",
                this::writeNext,
                e -> log.error("A group of batches could not be written", e));
    }

    void start() {
        worker.start();
    }

    /** Why nothing is written any more; {@code null} if all is well. */
    @Nullable
    String problem() {
        return worker.problem();
    }

    /** Whether the calling thread is the writer, which must not wait for anything to be written. */
    boolean isCalling() {
        return worker.isCalling();
    }

    Writes writes() {
        return writes;
    }

    /** Batches still in the queue, which count towards the limits like stored ones. */
    long waitingBatches() {
        return waitingBatches.get();
    }

    long waitingBytes() {
        return waitingBytes.get();
    }

    // ---- the queue -------------------------------------------------------------------------------

    /**
     * Queues an operation for writing.
     *
     * @return completed on the writer's thread
     * @throws IllegalStateException if the store is closed
     */
    <T extends @Nullable Object> CompletableFuture<T> submit(Op<T> op) {
        submit(List.of(op));
        return op.done;
    }

    /**
     * Queues operations for writing, all of them or none.
     *
     * @throws IllegalStateException if the store is closed
     */
    void submit(List<? extends Op<?>> ops) {
        if (isCalling() && inTransaction) {
            throw new IllegalStateException("the store was called by code that it runs itself, on its thread "
                    + Thread.currentThread().getName()
                    + ", within a transaction: the call would wait for itself. Make it from another thread");
        }
        ops.forEach(this::queued);
        if (isCalling()) {
            ops.forEach(this::begin);
            // This is a callback that reacts to what has just been written. Write its operations here: no other thread
            // would.
            write(List.copyOf(ops));
            return;
        }
        boolean enqueued = false;
        try {
            enqueued = enqueue(ops);
        } finally {
            if (!enqueued) {
                ops.forEach(this::written);
            }
        }
        if (!enqueued) {
            throw new IllegalStateException("the store is closed");
        }
    }

    private boolean enqueue(List<? extends Op<?>> ops) {
        String problem = problem();
        if (problem != null) {
            throw new BatchPersistenceException("nothing can be written to the database: " + problem, null);
        }
        lock.lock();
        try {
            if (closing) {
                return false;
            }
            queue.addAll(ops);
            changed.signal();
            return true;
        } finally {
            lock.unlock();
        }
    }

    /** Adds an operation to the counts of what is queued. */
    private void queued(Op<?> op) {
        if (op instanceof Insert) {
            waitingBatches.incrementAndGet();
            waitingBytes.addAndGet(op.bytes());
        }
    }

    private void begin(Op<?> op) {
        lock.lock();
        try {
            writing.add(op);
        } finally {
            lock.unlock();
        }
    }

    /** Removes an operation from the counts of what is queued. */
    private void written(Op<?> op) {
        if (op instanceof Insert) {
            waitingBatches.decrementAndGet();
            waitingBytes.addAndGet(-op.bytes());
        }
    }

    /** Writes a mark, and waits until it is written; an interrupt does not end the wait. */
    @Nullable
    Settled writeMark(Mark mark) {
        try {
            return submit(mark).join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw e;
        }
    }

    private boolean writeNext() {
        List<Op<?>> group = new ArrayList<>(MAX_GROUP_SIZE);
        take(group);
        try {
            write(group);
        } catch (RuntimeException | Error e) {
            fail(group, e);
            // To be logged by the worker, now that no caller waits for the outcome.
            throw e;
        } finally {
            ended();
        }
        return !group.isEmpty();
    }

    private void ended() {
        lock.lock();
        try {
            writing.clear();
        } finally {
            lock.unlock();
        }
    }

    /** Fails the operations that are not done yet. */
    private static void fail(List<Op<?>> group, Throwable cause) {
        for (Op<?> op : group) {
            end(op, () -> op.fail(failure(cause)));
        }
    }

    private static BatchPersistenceException failure(Throwable cause) {
        return new BatchPersistenceException("the batch could not be written: " + cause, cause);
    }

    /** Completes an operation, retrying even on OutOfMemoryError: no caller may be left waiting. */
    private static void end(Op<?> op, Runnable ending) {
        while (!op.done.isDone()) {
            try {
                ending.run();
            } catch (RuntimeException | Error e) {
                LockSupport.parkNanos(FIRST_CHECK_NANOS);
            }
        }
    }

    /**
     * Takes what is queued, up to the limits of a group; an empty group means that the store is closed. The list
     * already has the capacity.
     */
    private void take(List<Op<?>> group) {
        lock.lock();
        try {
            while (queue.isEmpty() && !closing) {
                changed.awaitUninterruptibly();
            }
            // Half the allowed size, since a byte may take two in a statement.
            long most = Math.min(MAX_GROUP_BYTES, database.largestStatement() / 2);
            long bytes = 0;
            for (Op<?> next = queue.peek();
                    next != null
                            && group.size() < MAX_GROUP_SIZE
                            && (group.isEmpty() || bytes + next.statementBytes() <= most);
                    next = queue.peek()) {
                // Add before removing: an operation must never be in neither collection.
                writing.add(next);
                group.add(queue.remove());
                bytes += next.statementBytes();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Accepts nothing more. What is queued is still written. */
    void close() {
        lock.lock();
        try {
            closing = true;
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Waits until everything queued is written; to be called after {@link #close}. */
    void join() {
        if (worker.join()) {
            Thread.currentThread().interrupt();
        }
    }

    /**
     * Gives up on a database that does not answer: fails everything that is not written yet, and writes none of it any
     * more.
     */
    void giveUp() {
        givenUp = true;
        List<Op<?>> waiting = new ArrayList<>();
        List<Op<?>> begun;
        lock.lock();
        try {
            begun = List.copyOf(writing);
            waiting.addAll(queue);
            queue.clear();
        } finally {
            lock.unlock();
        }
        for (Op<?> op : begun) {
            CommitUnknownException unknown = new CommitUnknownException(new SQLException(NO_ANSWER));
            end(op, () -> op.fail(op.inDoubt(NO_ANSWER, unknown)));
        }
        for (Op<?> op : waiting) {
            written(op);
            end(op, () -> op.fail(new BatchPersistenceException(NO_ANSWER + ": nothing was written", null)));
        }
    }

    private void requireWanted() {
        if (givenUp) {
            throw new BatchPersistenceException(NO_ANSWER, null);
        }
    }

    // ---- writing ---------------------------------------------------------------------------------

    private void write(List<Op<?>> group) {
        try {
            List<Op<?>> left = group;
            while (!left.isEmpty()) {
                // Write a second append with the same id in a later transaction, so that it finds the first one.
                Set<String> ids = new HashSet<>();
                List<Op<?>> later = new ArrayList<>();
                List<Op<?>> now = new ArrayList<>();
                for (Op<?> op : left) {
                    (op instanceof Insert && !ids.add(op.id) ? later : now).add(op);
                }
                writeDistinct(now);
                left = later;
            }
        } finally {
            group.forEach(this::written);
        }
    }

    private void writeDistinct(List<Op<?>> group) {
        try {
            writeUntilResolved(group);
        } finally {
            counters.unresolved(0);
        }
    }

    private long nextToken() {
        token = CounterTable.token(
                token, database.storedMillis(database.options().clock().instant()));
        return token;
    }

    private void writeUntilResolved(List<Op<?>> group) {
        List<Op<?>> left = group;
        for (int tries = 1; !left.isEmpty(); tries++) {
            long start = System.nanoTime();
            Map<Long, CounterDelta> tried = new HashMap<>(2);
            long mine = nextToken();
            counters.unresolved(mine);
            List<Op<?>> ops = left;
            boolean written = false;
            inOneStatement = false;
            try {
                requireWanted();
                boolean atOnce = ops.size() == 1 && writeAtOnce(ops.get(0), mine, tried);
                if (!atOnce) {
                    writeInSteps(ops, mine, tried);
                }
                written = true;
            } catch (DuplicatesException e) {
                left = tries < MAX_ATTEMPTS ? withoutDuplicates(ops) : failed(ops, Database.failed("persisting", e));
            } catch (CommitUnknownException e) {
                Boolean committed =
                        isAnswerLost(ops, tried) ? wasDelivered(ops, tried, mine) : wasCommitted(tried, mine);
                log.info(
                        "{} while a group of {} committed: {}",
                        e.getCause() instanceof SQLWarning
                                ? "There was a warning of the database"
                                : "The connection was lost",
                        ops.size(),
                        committed == null
                                ? "its outcome is unknown"
                                : committed ? "it had been committed" : "it had not been, and is written again");
                if (committed == null) {
                    for (Op<?> op : ops) {
                        op.fail(op.inDoubt(IN_DOUBT, e));
                    }
                    left = List.of();
                } else if (committed) {
                    tried.values().forEach(counters::committed);
                    written = true;
                } else if (tries >= MAX_ATTEMPTS) {
                    left = failed(ops, Database.failed("persisting", e));
                }
            } catch (SQLException e) {
                RuntimeException told = Database.failed("writing", e);
                if (ops.size() == 1 || Dialect.isTransient(e) || Database.isNoConnection(e)) {
                    left = failed(ops, told);
                } else {
                    left = Dialect.isConnectionLost(e) ? inHalves(ops, told) : oneByOne(ops, told);
                }
            } catch (BatchPersistenceException e) {
                left = failed(ops, e);
            } catch (RuntimeException | Error e) {
                // Nothing has been committed.
                if (ops.size() == 1) {
                    throw e;
                }
                left = oneByOne(ops, failure(e));
            }
            if (written) {
                completed(ops, System.nanoTime() - start);
                return;
            }
        }
    }

    /**
     * Splits a group that lost its connection on every attempt: it may be too large for the server, or for something on
     * the way to it. If that is not the cause, this goes on only for the time limit of a statement.
     */
    private List<Op<?>> inHalves(List<Op<?>> ops, RuntimeException failure) {
        boolean first = halvesUntil == null;
        if (first) {
            halvesUntil = database.tick() + TimeUnit.SECONDS.toNanos(database.timeoutSeconds());
        }
        try {
            for (List<Op<?>> half : List.of(ops.subList(0, ops.size() / 2), ops.subList(ops.size() / 2, ops.size()))) {
                if (halvesUntil != null && database.tick() - halvesUntil > 0) {
                    failed(half, failure);
                } else {
                    writeDistinct(half);
                }
            }
        } finally {
            if (first) {
                halvesUntil = null;
            }
        }
        return List.of();
    }

    /**
     * Retries one by one, so that a bad operation does not fail the group. But if one after the other fails only after
     * a long time, the cause is the database, or a lock that all of them need: once failures have taken longer than the
     * time limit of a statement, the rest fails without waiting for that, too.
     */
    private List<Op<?>> oneByOne(List<Op<?>> ops, RuntimeException failure) {
        long wasted = 0;
        for (Op<?> op : ops) {
            if (wasted > TimeUnit.SECONDS.toNanos(database.timeoutSeconds())) {
                op.fail(failure);
                continue;
            }
            long start = database.tick();
            List<Op<?>> alone = List.of(op);
            try {
                writeDistinct(alone);
            } catch (RuntimeException | Error e) {
                fail(alone, e);
            }
            if (op.done.isCompletedExceptionally()) {
                wasted += database.tick() - start;
            }
        }
        return List.of();
    }

    private static List<Op<?>> failed(List<Op<?>> ops, RuntimeException failure) {
        ops.forEach(op -> op.fail(failure));
        return List.of();
    }

    private void completed(List<Op<?>> ops, long nanos) {
        long batches = 0;
        long bytes = 0;
        for (Op<?> op : ops) {
            if (op instanceof Insert) {
                batches++;
                bytes += op.bytes();
            } else if (op instanceof Mark mark) {
                try {
                    mark.committed(counters);
                } catch (RuntimeException | Error e) {
                    Database.logged(e);
                }
            }
        }
        if (batches > 0) {
            Writes before = writes;
            writes = new Writes(
                    before.groups() + 1,
                    before.groupNanos() + nanos,
                    before.batches() + batches,
                    before.bytes() + bytes,
                    0,
                    0);
        }
        for (Op<?> op : ops) {
            end(op, op::complete);
        }
    }

    private void writeInSteps(List<Op<?>> ops, long mine, Map<Long, CounterDelta> tried) throws SQLException {
        membership.write((tx, me, delta) -> {
            delta.token = mine;
            tried.clear();
            tried.put(me, delta);
            inTransaction = true;
            try {
                apply(tx, me, ops, delta);
            } finally {
                inTransaction = false;
            }
            requireWanted();
            return null;
        });
        tried.forEach((me, delta) -> {
            if (me != countedAs || counted.size() >= MAX_COUNTED) {
                counted.clear();
                countedAs = me;
            }
            counted.addAll(delta.collectorTypes());
        });
    }

    /**
     * Writes an operation that is alone in its group in a single statement, which is a transaction by itself, if there
     * is a statement for it. Returns whether it has: if the statement fails by its guard, nothing has been written, and
     * the usual transaction finds out why.
     *
     * <p>Only while there must be counters, since there were some and the lease has not ended: without, it could not be
     * found out whether the statement was committed.
     */
    private boolean writeAtOnce(Op<?> op, long mine, Map<Long, CounterDelta> tried) throws SQLException {
        if (!(op instanceof Insert || op instanceof Delivered)
                || !database.dialect().writesInOneStatement()) {
            return false;
        }
        long me = membership.number();
        if (me != countedAs
                || !membership.surelyHolds(me)
                || !(op instanceof Insert insert ? counted.contains(insert.collectorType) : !counted.isEmpty())) {
            return false;
        }
        inOneStatement = true;
        try {
            database.writeAtOnce(tx -> {
                requireWanted();
                tx.doubtWarnings();
                CounterDelta delta = new CounterDelta();
                delta.token = mine;
                tried.clear();
                tried.put(me, delta);
                tx.afterCommit(() -> counters.committed(delta));
                try {
                    if (op instanceof Insert insert) {
                        insertAtOnce(tx, me, insert, delta);
                    } else if (op instanceof Delivered mark) {
                        deliverAtOnce(tx, me, mark, delta);
                    }
                } catch (RuntimeException | Error e) {
                    // The statement may have been executed.
                    throw new CommitUnknownException(new SQLException("the driver failed: " + e, e));
                }
                return null;
            });
            return true;
        } catch (SQLException e) {
            if (e instanceof CommitUnknownException || !Dialect.isGuard(e)) {
                throw e;
            }
            inOneStatement = false;
            return false;
        }
    }

    private void insertAtOnce(Tx tx, long me, Insert insert, CounterDelta delta) throws SQLException {
        List<@Nullable Object> values = new ArrayList<>(40);
        addValues(values, me, membership.newFence(), insert, delta);
        delta.addValues(values, insert.collectorType, me, CounterTable.MAIN);
        values.add(delta.token);
        tx.one(
                INSERT_AT_ONCE.replace(
                        "{row}", insert.row() + database.dialect().insertEnd()),
                Reader.LONG,
                values.toArray());
    }

    private void deliverAtOnce(Tx tx, long me, Delivered mark, CounterDelta delta) throws SQLException {
        mark.result = null;
        Row row = tx.one(
                DELIVER_AT_ONCE,
                Row::of,
                TextEscaping.escape(mark.id),
                me,
                delta.token,
                me,
                CounterTable.MAIN,
                delta.token);
        if (row != null) {
            mark.apply(row, me, delta, database);
        }
    }

    private void apply(Tx tx, long me, List<Op<?>> ops, CounterDelta delta) throws SQLException {
        List<Mark> marks = new ArrayList<>();
        List<Insert> inserts = new ArrayList<>();
        for (Op<?> op : ops) {
            if (op instanceof Mark mark) {
                marks.add(mark);
            } else if (op instanceof Insert insert) {
                inserts.add(insert);
            }
        }
        if (!marks.isEmpty()) {
            if (database.dialect().returnsDeleted() && marks.stream().allMatch(Delivered.class::isInstance)) {
                deliver(tx, me, marks, delta);
            } else {
                mark(tx, me, marks, delta);
            }
        }
        if (!inserts.isEmpty()) {
            insert(tx, me, inserts, delta);
        }
    }

    /** Applies a group of deliveries only, the most common case, which needs no read before the delete. */
    private void deliver(Tx tx, long me, List<Mark> marks, CounterDelta delta) throws SQLException {
        Set<String> ids = ids(marks);
        Map<String, Row> rows = rows(tx.all(
                "DELETE FROM {p}batch WHERE batch_id IN " + Tx.in(ids)
                        + " AND (state <> {in_flight} OR owner = ?) RETURNING " + Row.WITHOUT_FAILURES,
                Row::of,
                Tx.values(ids, me)));
        for (Mark mark : marks) {
            mark.result = null;
            // Of several marks for one batch, the first one wins.
            Row row = rows.remove(mark.id);
            if (row != null) {
                mark.apply(row, me, delta, database);
            }
        }
    }

    private static Set<String> ids(List<Mark> marks) {
        Set<String> ids = new HashSet<>();
        marks.forEach(mark -> ids.add(TextEscaping.escape(mark.id)));
        return ids;
    }

    private static Map<String, Row> rows(List<Row> read) {
        Map<String, Row> rows = new HashMap<>();
        read.forEach(row -> rows.put(row.id(), row));
        return rows;
    }

    private void mark(Tx tx, long me, List<Mark> marks, CounterDelta delta) throws SQLException {
        Set<String> ids = ids(marks);
        Map<String, Row> rows = rows(tx.all(
                "SELECT " + Row.COLUMNS + " FROM {p}batch WHERE batch_id IN " + Tx.in(ids) + " ORDER BY seq FOR UPDATE",
                Row::of,
                Tx.values(ids)));
        List<Long> gone = new ArrayList<>();
        Map<String, List<@Nullable Object[]>> updates = new LinkedHashMap<>();
        for (Mark mark : marks) {
            mark.result = null;
            mark.thrown = null;
            Row row = rows.get(mark.id);
            if (row == null) {
                continue;
            }
            Change change;
            try {
                change = mark.apply(row, me, delta, database);
            } catch (RuntimeException e) {
                mark.thrown = e;
                continue;
            }
            if (change == null) {
                continue;
            }
            // Of several marks for one batch, the first one wins.
            rows.remove(mark.id);
            if (change.sql() == null) {
                gone.add(row.seq());
            } else {
                updates.computeIfAbsent(change.sql(), sql -> new ArrayList<>()).add(change.values());
            }
        }
        if (!gone.isEmpty()) {
            tx.update("DELETE FROM {p}batch WHERE seq IN " + Tx.in(gone), Tx.values(gone));
        }
        for (Map.Entry<String, List<@Nullable Object[]>> update : updates.entrySet()) {
            tx.updates(update.getKey(), update.getValue());
        }
    }

    private void insert(Tx tx, long me, List<? extends Insert> inserts, CounterDelta delta) throws SQLException {
        long fence = membership.newFence();
        StringBuilder sql = new StringBuilder(INSERT);
        List<@Nullable Object> values = new ArrayList<>(inserts.size() * 15);
        for (Insert insert : inserts) {
            sql.append(values.isEmpty() ? "" : ", ").append(insert.row());
            addValues(values, me, fence, insert, delta);
        }
        sql.append(database.dialect().insertEnd());
        int inserted;
        try {
            inserted = tx.update(sql.toString(), values.toArray());
        } catch (SQLException e) {
            if (Dialect.isDuplicate(e)) {
                throw new DuplicatesException();
            }
            throw e;
        }
        if (inserted != inserts.size()) {
            throw new DuplicatesException();
        }
    }

    private void addValues(List<@Nullable Object> values, long me, long fence, Insert insert, CounterDelta delta) {
        Row.Encoded encoded = insert.encoded;
        values.add(TextEscaping.escape(insert.id));
        values.add(TextEscaping.escape(insert.collectorType));
        values.add(encoded.entryCount());
        values.add(encoded.bytes());
        values.add(encoded.format());
        values.add(encoded.compression());
        values.add(encoded.rawLength());
        values.add(encoded.crc());
        values.add(encoded.header());
        values.add(encoded.payload());
        values.add(insert.promise.batchTtl());
        values.add(insert.promise.deadLetterTtl());
        insert.addValues(values, me, fence, database);
        delta.accepted(insert.collectorType);
        delta.entered(insert.collectorType, insert.state(), encoded.entryCount(), encoded.bytes());
    }

    /**
     * Inserts, updates and deletes a batch, to find out whether the database accepts such writes. Other transactions
     * never see it.
     */
    static void tryWriting(Tx tx, long me) throws SQLException {
        String id = "probe " + me + " " + UUID.randomUUID();
        byte[] payload = new byte[8_192];
        tx.update(
                INSERT + BYTES + "{now}, {now}, {now}, 1, ?, 0, 0, '', NULL, NULL)",
                id,
                "",
                0,
                payload.length,
                0,
                0,
                0,
                0,
                new byte[0],
                payload,
                0,
                0,
                me);
        tx.update("UPDATE {p}batch SET due_at = {now} WHERE batch_id = ?", id);
        tx.update("DELETE FROM {p}batch WHERE batch_id = ?", id);
    }

    private List<Op<?>> withoutDuplicates(List<Op<?>> ops) {
        List<String> ids = new ArrayList<>();
        for (Op<?> op : ops) {
            if (op instanceof Insert) {
                ids.add(TextEscaping.escape(op.id));
            }
        }
        Set<String> held;
        try {
            held = new HashSet<>(database.read(tx -> tx.all(
                    "SELECT batch_id FROM {p}batch WHERE batch_id IN " + Tx.in(ids),
                    row -> TextEscaping.unescape(row.getString(1)),
                    Tx.values(ids))));
        } catch (SQLException e) {
            return failed(ops, Database.failed("persisting", e));
        }
        List<Op<?>> left = new ArrayList<>(ops.size());
        for (Op<?> op : ops) {
            if (op instanceof Insert && held.contains(op.id)) {
                op.fail(new DuplicateBatchException(op.id));
            } else {
                left.add(op);
            }
        }
        return left;
    }

    /**
     * Persists a batch in the caller's transaction, on the caller's thread.
     *
     * @throws DuplicateBatchException if a batch with that id is already stored; the transaction goes on without this
     *     one
     */
    void join(Tx tx, Insert append) throws SQLException {
        long me = membership.number();
        CounterDelta delta = new CounterDelta();
        try {
            insert(tx, me, List.of(append), delta);
        } catch (DuplicatesException e) {
            throw new DuplicateBatchException(append.id);
        }
        // Not in the row that all other transactions of this instance update: they would wait until the business
        // transaction ends.
        delta.insert(tx, me, membership.newPart());
        counters.changed();
    }

    // ---- a commit of unknown outcome -------------------------------------------------------------

    /** Whether the group was committed; {@code null} if that could not be found out. */
    private @Nullable Boolean wasCommitted(Map<Long, CounterDelta> tried, long mine) {
        for (Map.Entry<Long, CounterDelta> attempt : tried.entrySet()) {
            if (attempt.getValue().isEmpty()) {
                // There was nothing to change, so a repeated attempt does no harm.
                return false;
            }
            return wasCommitted(attempt.getKey(), attempt.getValue().firstType(), mine);
        }
        return false;
    }

    private @Nullable Boolean wasCommitted(long me, String collectorType, long mine) {
        long later = nextToken();
        return lookedUp(tx -> {
            Long found = tx.one(
                    "SELECT token FROM {p}counter WHERE collector_type = ? AND instance = ? AND part = ? FOR UPDATE",
                    Reader.LONG,
                    TextEscaping.escape(collectorType),
                    me,
                    CounterTable.MAIN);
            if (found == null) {
                return Optional.empty();
            }
            if (found == mine) {
                return Optional.of(true);
            }
            tx.update(
                    LATER + " AND collector_type = ?",
                    later,
                    me,
                    CounterTable.MAIN,
                    TextEscaping.escape(collectorType));
            return Optional.of(false);
        });
    }

    /** Whether this was a mark alone in its statement, and what it may have changed is not known. */
    private boolean isAnswerLost(List<Op<?>> ops, Map<Long, CounterDelta> tried) {
        return inOneStatement
                && ops.get(0) instanceof Delivered
                && tried.values().stream().allMatch(CounterDelta::isEmpty);
    }

    /** Like {@link #wasCommitted}, for a mark whose collector type is not known: it changed the counters of one. */
    private @Nullable Boolean wasDelivered(List<Op<?>> ops, Map<Long, CounterDelta> tried, long mine) {
        Delivered mark = (Delivered) ops.get(0);
        long later = nextToken();
        for (Long me : tried.keySet()) {
            return lookedUp(tx -> {
                Map<String, Long> tokens = new HashMap<>();
                tx.all(
                        "SELECT collector_type, token FROM {p}counter WHERE instance = ? AND part = ?"
                                + " ORDER BY collector_type FOR UPDATE",
                        row -> tokens.put(TextEscaping.unescape(row.getString(1)), row.getLong(2)),
                        me,
                        CounterTable.MAIN);
                for (Map.Entry<String, Long> each : tokens.entrySet()) {
                    if (each.getValue() == mine) {
                        mark.answerLost(
                                each.getKey(), database.options().clock().instant());
                        counters.changed();
                        return Optional.of(true);
                    }
                }
                if (tokens.isEmpty()) {
                    return Optional.empty();
                }
                tx.update(LATER, later, me, CounterTable.MAIN);
                return Optional.of(false);
            });
        }
        return false;
    }

    /**
     * Looks at counters whether a transaction was committed; {@code null} if that could not be found out, or the
     * counters are gone. If the transaction is still running, it has its row of counters locked, so this waits for its
     * end. A single statement may not have begun yet, somewhere between the driver and its lock: if the answer is no,
     * the counters get a later token in the same transaction, which makes that statement fail. The lock itself is
     * written to the log: where commits wait for a standby, so does this commit, and what it has seen has been
     * replicated.
     */
    private @Nullable Boolean lookedUp(Database.Work<Optional<Boolean>> lookUp) {
        for (int look = 0; look < MAX_OUTCOME_CHECKS; look++) {
            try {
                return database.write(lookUp).orElse(null);
            } catch (SQLException e) {
                log.debug("The outcome of a transaction is not known yet", e);
                database.pause(FIRST_CHECK_NANOS << look);
            }
        }
        return null;
    }
}
