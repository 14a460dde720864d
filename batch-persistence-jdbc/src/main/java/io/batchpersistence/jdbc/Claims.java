package io.batchpersistence.jdbc;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.StoreLimits;
import io.batchpersistence.jdbc.Database.CommitUnknownException;
import io.batchpersistence.jdbc.Row.Encoded;
import io.batchpersistence.jdbc.Tx.Reader;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Claims batches that are due. Of concurrent callers for the same collector type, one claims for all of them, in one
 * transaction; a caller that comes alone claims at once. Thread-safe.
 *
 * <p>A claiming transaction updates counters of its own, so that claims and group commits never block each other.
 *
 * <p>Claims ahead, on PostgreSQL: while many batches are due and are sent one after the other, a claim takes more than
 * its callers want, and the next callers get those without a transaction. In the database they are in flight, and
 * nobody is sending them. Invariants:
 *
 * <ul>
 *   <li>A batch claimed ahead is either handed out once, in the queue's order, or given back, with no attempt counted.
 *   <li>It is handed out only to a caller of {@link #take}, who has made sure that it may be sent now, only to the
 *       instance number that claimed it, and only within {@link #MAX_HOLD}. Its lease is longer by that time, so that a
 *       sender never has less than the batch timeout.
 *   <li>After that time, or when its collector type is paused or found to be down, it is given back. If that fails, or
 *       its outcome is unknown, the upkeep does it. When this instance closes or is killed, it comes back like
 *       everything that is in flight.
 *   <li>How many are claimed ahead is what was taken in the last {@link #AHEAD_NANOS}, at most {@link #MAX_AHEAD} and
 *       {@link #MAX_AHEAD_BYTES}, and a quarter of what is due if that is little: a slow sender gets none, and other
 *       instances find enough.
 * </ul>
 */
final class Claims {

    /**
     * Up to this many due batches are sorted here to find those that come first; if there are more, the database finds
     * them.
     */
    private static final int MAX_SORTED_HERE = 256;

    /**
     * How many more candidates than wanted are tried when few are due: other instances may have claimed some of the
     * first ones meanwhile.
     */
    private static final int SPARE_CANDIDATES = 16;

    /**
     * After a query found many due batches, this many claims skip that query, as long as they get as many as they want.
     */
    private static final int CLAIMS_WITHOUT_COUNT = 32;

    /** Rows per transaction. */
    private static final int CHUNK_SIZE = 500;

    /** How long a batch that was claimed ahead waits to be handed out. */
    static final Duration MAX_HOLD = Duration.ofSeconds(1);

    /** As many are claimed ahead as were taken in this time. Short, so that few are old when sending becomes slow. */
    private static final long AHEAD_NANOS = TimeUnit.MILLISECONDS.toNanos(200);

    /** The most that one claim takes if some of it is ahead. More would save little time, and keep others waiting. */
    private static final int MAX_AHEAD = 32;

    /** The size of what one claim takes ahead, with what its callers want. */
    private static final long MAX_AHEAD_BYTES = 2 << 20;

    /** If fewer are due, nothing is claimed ahead: there is nothing to gain. */
    private static final int FEW_DUE = 64;

    /**
     * Adds what {@code claimed} has claimed to the counters. The parameters are the collector type and the instance.
     */
    private static final String COUNTED = "counted AS (UPDATE {p}counter SET pending = pending - batches,"
            + " pending_entries = pending_entries - entries, pending_bytes = pending_bytes - size,"
            + " in_flight = in_flight + batches, in_flight_entries = in_flight_entries + entries,"
            + " in_flight_bytes = in_flight_bytes + size FROM (SELECT COUNT(*) AS batches, SUM(entry_count) AS entries,"
            + " SUM(bytes) AS size FROM claimed) sums WHERE batches > 0 AND collector_type = ? AND instance = ? AND part = "
            + CounterTable.CLAIMS + " RETURNING 1)";

    private static final Logger log = LogSanitizer.logger(Claims.class);

    /** A batch with its bytes, and the time since which it was due if it has been claimed. */
    record Taken(Row row, @Nullable Long due, Encoded encoded) {}

    private record End(String collectorType, BatchOrder order) {}

    /** One caller's request, and its result. Answered by the thread that holds the queue's lock. */
    private static final class ClaimRequest {
        private final long lease;
        private final int max;
        private @Nullable List<Taken> taken;
        private @Nullable Throwable failure;

        ClaimRequest(long lease, int max) {
            this.lease = lease;
            this.max = Math.min(max, CHUNK_SIZE);
        }

        boolean isAnswered() {
            return taken != null || failure != null;
        }

        List<Taken> answer() throws SQLException {
            if (failure instanceof SQLException e) {
                throw e;
            } else if (failure instanceof RuntimeException e) {
                throw e;
            } else if (failure instanceof Error e) {
                throw e;
            }
            return taken == null ? List.of() : taken;
        }
    }

    /** The queue of requests for one collector type and order. */
    private final class ClaimQueue {
        private final String collectorType;
        private final boolean oldestFirst;
        private final Comparator<Long> first;
        private final Queue<ClaimRequest> waiting = new ConcurrentLinkedQueue<>();
        private final ReentrantLock lock = new ReentrantLock();
        // Guarded by the lock.
        /** Claimed ahead, in their order. */
        private final Queue<Taken> kept = new ArrayDeque<>();
        /** When they were claimed, by the ticker and by the callers' clock, which goes on while the machine sleeps. */
        private long aheadTick;

        private long aheadMillis;
        /** The number of this instance that they belong to. */
        private long aheadOwner;
        /** How many batches the last claim took that took all it could; 0 if there is none, or not all were wanted. */
        private int lastTaken;

        private long lastTick;

        private int withoutLook;
        /**
         * The sequence number of the last batch claimed. Claims that skip the query for due batches start there: before
         * it are rows that were claimed, which the database scans again and again as long as an open transaction might
         * still see them.
         */
        private long reached;

        ClaimQueue(End end) {
            collectorType = TextEscaping.escape(end.collectorType());
            oldestFirst = end.order() == BatchOrder.OLDEST_FIRST;
            first = oldestFirst ? Comparator.naturalOrder() : Comparator.reverseOrder();
        }

        List<Taken> take(ClaimRequest mine) throws SQLException {
            waiting.add(mine);
            lock.lock();
            try {
                while (!mine.isAnswered()) {
                    serve();
                }
            } finally {
                if (!mine.isAnswered()) {
                    // An Error: no thread may claim for this request any more.
                    waiting.remove(mine);
                }
                lock.unlock();
            }
            return mine.answer();
        }

        private void serve() {
            if (isStale()) {
                giveBack(drained());
            }
            int most = kept.isEmpty() ? CHUNK_SIZE : kept.size();
            List<ClaimRequest> group = new ArrayList<>();
            int max = 0;
            long lease = 0;
            for (ClaimRequest next = waiting.peek();
                    next != null && (group.isEmpty() || max + next.max <= most);
                    next = waiting.peek()) {
                // Add before removing: a request that is in neither collection would wait forever.
                group.add(next);
                waiting.remove();
                max += next.max;
                // All requests have the same lease, that of the collector type.
                lease = Math.max(lease, next.lease);
            }
            List<Taken> taken = new ArrayList<>(Math.min(max, most));
            try {
                if (kept.isEmpty()) {
                    claim(taken, lease, max);
                } else {
                    takeAhead(taken, max);
                }
                int from = 0;
                for (ClaimRequest request : group) {
                    int to = Math.min(taken.size(), from + request.max);
                    request.taken = taken.subList(from, to);
                    from = to;
                }
            } catch (SQLException | RuntimeException | Error e) {
                for (ClaimRequest request : group) {
                    request.taken = null;
                    request.failure = e;
                }
                lost(taken);
            }
        }

        private void takeAhead(List<Taken> taken, int max) {
            for (Taken next = kept.peek(); next != null && taken.size() < max; next = kept.peek()) {
                // Add before removing, as above. The list has the capacity.
                taken.add(next);
                kept.remove();
                ahead.remove(next.row().id(), this);
            }
        }

        /** Claims what is wanted, and keeps what is claimed beyond that. */
        private void claim(List<Taken> taken, long lease, int max) throws SQLException {
            long tick = database.tick();
            aheadTick = tick;
            aheadMillis = database.options().clock().millis();
            aheadOwner = membership.number();
            int size = size(tick, max);
            lastTaken = 0;
            List<Taken> claimed = take(lease, max, size);
            boolean done = false;
            try {
                taken.addAll(claimed.subList(0, Math.min(max, claimed.size())));
                for (Taken each : claimed.subList(taken.size(), claimed.size())) {
                    ahead.put(each.row().id(), this);
                    kept.add(each);
                }
                done = true;
            } finally {
                if (!done) {
                    // An Error: the caller gives back what is in its list.
                    kept.clear();
                    lost(claimed.subList(taken.size(), claimed.size()));
                    forgetAhead();
                }
            }
            if (claimed.size() >= max) {
                lastTaken = claimed.size();
                lastTick = tick;
            }
        }

        /** How many to claim: what is wanted, and what will be wanted soon if it goes on as it did since the last claim. */
        private int size(long tick, int max) {
            long elapsed = tick - lastTick;
            if (lastTaken == 0 || elapsed <= 0 || !database.dialect().writesInOneStatement()) {
                return max;
            }
            long soon = Math.min(lastTaken * AHEAD_NANOS / elapsed, Math.min(2L * lastTaken, MAX_AHEAD));
            // A power of two: each number is a statement text that has to be prepared.
            return soon <= max ? max : Math.max(max, (int) Long.highestOneBit(soon));
        }

        private boolean isStale() {
            return !kept.isEmpty()
                    && (database.tick() - aheadTick > MAX_HOLD.toNanos()
                            || Math.abs(database.options().clock().millis() - aheadMillis) > MAX_HOLD.toMillis()
                            || !membership.isNumber(aheadOwner));
        }

        /** Removes what was claimed ahead; the caller gives it back. */
        private List<Taken> drained() {
            List<Taken> drained = List.copyOf(kept);
            kept.clear();
            forgetAhead();
            lastTaken = 0;
            // What is given back lies before what has been reached.
            withoutLook = 0;
            return drained;
        }

        private void forgetAhead() {
            ahead.values().removeIf(queue -> queue == this);
        }

        /** Under the lock until all is given back: a claim meanwhile would take what comes after that. */
        private void giveBackAhead(boolean onlyStale) {
            if (!onlyStale) {
                lock.lock();
            } else if (!lock.tryLock()) {
                // A caller is claiming, and may wait for the database.
                return;
            }
            try {
                if (!onlyStale || isStale()) {
                    giveBack(drained());
                }
            } finally {
                lock.unlock();
            }
        }

        /**
         * Claims in two steps, so that it is never slow. First a query for the earliest due batches, which mostly ends
         * the work. If few are due, they are sorted here, and the first ones are claimed, or the next ones if others
         * have claimed all of those; if many are due, the first ones are soon found among all that are pending.
         */
        private List<Taken> take(long lease, int max, int size) throws SQLException {
            if (withoutLook > 0) {
                withoutLook--;
                List<Taken> taken = takeOfMany(reached, lease, max, size);
                if (taken.size() < max) {
                    withoutLook = 0;
                }
                if (!taken.isEmpty()) {
                    return taken;
                }
            }
            List<Long> due = database.read(tx -> tx.all(
                    "SELECT seq FROM {p}batch WHERE collector_type = ? AND state = {pending} AND due_at <= {now}"
                            + " ORDER BY due_at LIMIT " + (MAX_SORTED_HERE + 1),
                    Reader.LONG,
                    collectorType));
            if (due.size() > MAX_SORTED_HERE) {
                withoutLook = CLAIMS_WITHOUT_COUNT;
                return takeOfMany(oldestFirst ? 0 : Long.MAX_VALUE, lease, max, size);
            }
            return due.isEmpty()
                    ? List.of()
                    : takeOfFew(
                            due.stream().sorted(first).toList(),
                            lease,
                            max,
                            // A power of two, as above.
                            due.size() < FEW_DUE
                                    ? max
                                    : Math.max(max, Math.min(size, Integer.highestOneBit(due.size() / 4))));
        }

        private List<Taken> takeOfMany(long from, long lease, int max, int size) throws SQLException {
            Dialect dialect = database.dialect();
            List<Taken> taken = takeAtOnce(
                    dialect.firstOfMany(oldestFirst), dialect.valuesOfMany(collectorType, from), lease, max, size);
            if (!taken.isEmpty()) {
                reached = taken.get(taken.size() - 1).row().seq();
            }
            return taken;
        }

        private List<Taken> takeOfFew(List<Long> candidates, long lease, int max, int size) throws SQLException {
            List<Taken> taken = List.of();
            for (int from = 0, next; taken.isEmpty() && from < candidates.size(); from = next) {
                next = Math.min(candidates.size(), from + Math.min(size, MAX_SORTED_HERE) + SPARE_CANDIDATES);
                List<Long> some = candidates.subList(from, next);
                taken = takeAtOnce(
                        "FROM {p}batch WHERE seq IN " + Tx.in(some)
                                + " AND collector_type = ? AND state = {pending} AND due_at <= {now} ORDER BY seq"
                                + (oldestFirst ? "" : " DESC"),
                        List.of(Tx.values(some, collectorType)),
                        lease,
                        max,
                        size);
            }
            return taken;
        }

        private List<Taken> takeAtOnce(String which, List<?> values, long lease, int max, int size)
                throws SQLException {
            long fence = membership.newFence();
            // The limit is a literal: as a parameter, PostgreSQL would plan the statement each time, since a generic
            // plan for any limit looks more expensive.
            String select = " " + which + " LIMIT " + size + " FOR UPDATE SKIP LOCKED";
            try {
                List<Taken> taken = database.dialect().writesInOneStatement()
                        ? membership.claimAtOnce(
                                TextEscaping.unescape(collectorType),
                                (tx, me) -> inOneStatement(tx, select, values, me, fence, lease, max, size))
                        : membership.claim((tx, me, delta) -> {
                            List<Taken> claimed = inTwoStatements(tx, select, values, me, fence, lease);
                            claimed.forEach(each -> delta.claimed(each.row()));
                            return claimed;
                        });
                return taken.stream()
                        .sorted(Comparator.comparing(each -> each.row().seq(), first))
                        .toList();
            } catch (CommitUnknownException | Error e) {
                membership.lost(fence, null);
                throw e;
            }
        }

        /**
         * Claims and counts in one statement, which is a transaction by itself. Without a row of counters, because this
         * instance is gone or has not used the collector type yet, the statement fails, and nothing is claimed.
         *
         * <p>Its commit need not be durable. If the server loses it, the batches are pending as before; the next commit
         * that is flushed, as that of a mark is, also flushes this one.
         */
        private List<Taken> inOneStatement(
                Tx tx, String select, List<?> values, long me, long fence, long lease, int max, int size)
                throws SQLException {
            boolean isAhead = size > max;
            everAhead |= isAhead;
            return tx.all(
                    "WITH "
                            + (isAhead
                                    ? dueWithinBytes(select)
                                    : "due AS (SELECT seq AS due_seq, due_at AS was_due" + select + ")")
                            + ", claimed AS (UPDATE {p}batch SET state = {in_flight}, owner = ?, fence = ?, due_at = {time} + ? FROM due"
                            + " WHERE seq = due_seq RETURNING was_due, " + Row.WITH_PAYLOAD + "), " + COUNTED
                            + " SELECT claimed.*, 1 / (SELECT COUNT(*) FROM counted) AS guard,"
                            + " set_config('synchronous_commit', 'off', true) FROM claimed",
                    row -> new Taken(Row.of(row), row.getLong("was_due"), Encoded.of(row)),
                    Tx.values(
                            values,
                            isAhead ? List.of((long) max, MAX_AHEAD_BYTES) : List.<Long>of(),
                            me,
                            fence,
                            isAhead ? lease + MAX_HOLD.toMillis() : lease,
                            collectorType,
                            me));
        }

        /** Those that are wanted, and of the others as many as fit into a number of bytes; only these are read. */
        private String dueWithinBytes(String select) {
            return "locked AS (SELECT seq AS due_seq, due_at AS was_due, bytes AS due_bytes" + select
                    + "), due AS (SELECT due_seq, was_due FROM (SELECT due_seq, was_due, ROW_NUMBER() OVER by_seq AS nth,"
                    + " SUM(due_bytes) OVER by_seq AS total FROM locked WINDOW by_seq AS (ORDER BY due_seq"
                    + (oldestFirst ? "" : " DESC") + ")) sums WHERE nth <= ? OR total <= ?)";
        }
    }

    private final Database database;
    private final InstanceMembership membership;
    private final CounterTable counters;
    private final Map<End, ClaimQueue> queues = new ConcurrentHashMap<>();
    /** The ids of what was claimed ahead, and where it waits. */
    private final Map<String, ClaimQueue> ahead = new ConcurrentHashMap<>();

    private volatile boolean everAhead;
    /** The number of queues from which on unused ones are removed. */
    private volatile int many = 2 * StoreLimits.MAX_IDLE_TYPES;

    Claims(Database database, InstanceMembership membership, CounterTable counters) {
        this.database = database;
        this.membership = membership;
        this.counters = counters;
    }

    /**
     * Claims pending batches that are due. They belong to this instance then.
     *
     * @param collectorType their collector type
     * @param order which ones come first
     * @param lease milliseconds until they are reported as timed out; for all requests that are served together, the
     *     longest
     * @param max the maximum number of batches, at least 1
     * @return in that order, each with the fence of the claim that took it
     * @throws BatchPersistenceException if this instance has no number yet
     */
    List<Taken> take(String collectorType, BatchOrder order, long lease, int max) throws SQLException {
        if (queues.size() > many) {
            forgetQueues();
        }
        return queues.computeIfAbsent(new End(collectorType, order), ClaimQueue::new)
                .take(new ClaimRequest(lease, max));
    }

    /**
     * Removes the queues of collector types that are no longer known. A caller still waiting in one holds a reference
     * to it, and is served.
     */
    private void forgetQueues() {
        Set<String> known = counters.lastKnown().keySet();
        queues.entrySet()
                .removeIf(each ->
                        !known.contains(each.getKey().collectorType()) && !ahead.containsValue(each.getValue()));
        many = 2 * Math.max(StoreLimits.MAX_IDLE_TYPES, queues.size());
    }

    /** Has claimed batches given back that no caller gets: no attempt was made. */
    void lost(List<Taken> taken) {
        taken.forEach(each -> membership.lost(each.row().fence(), each.row().seq()));
    }

    // ---- what was claimed ahead ------------------------------------------------------------------

    /** By how much the leases of what was claimed ahead are longer. */
    Duration hold() {
        return everAhead ? MAX_HOLD : Duration.ZERO;
    }

    /** Gives back what was claimed ahead and has not been handed out for too long. Does nothing most of the time. */
    void giveBackStale() {
        giveBackAhead(queue -> true, true);
    }

    /** Gives back what was claimed ahead and may be selected: an operator changes it like everything pending. */
    void giveBackAhead(BatchSelector selector) {
        if (!selector.ids().isEmpty()) {
            selector.ids().forEach(this::giveBackIfAhead);
        } else if (selector.collectorTypes().isEmpty()) {
            giveBackAhead(queue -> true, false);
        } else {
            selector.collectorTypes().forEach(this::giveBackAhead);
        }
    }

    /** Gives back what was claimed ahead of one collector type: it is not to be sent now. */
    void giveBackAhead(String collectorType) {
        String escaped = TextEscaping.escape(collectorType);
        giveBackAhead(queue -> queue.collectorType.equals(escaped), false);
    }

    private void giveBackAhead(Predicate<ClaimQueue> which, boolean onlyStale) {
        if (onlyStale ? ahead.isEmpty() : !everAhead) {
            return;
        }
        Set<ClaimQueue> each = new HashSet<>(ahead.values());
        if (!onlyStale) {
            // Also what is being claimed ahead right now: the lock is held until it can be seen.
            each.addAll(queues.values());
        }
        for (ClaimQueue queue : each) {
            if (which.test(queue)) {
                queue.giveBackAhead(onlyStale);
            }
        }
    }

    /**
     * Gives back a batch if it was claimed ahead: a mark finds it as if it had never been claimed, and it is not sent
     * after that mark. With all that is ahead with it, so that their order does not change.
     */
    void giveBackIfAhead(String batchId) {
        ClaimQueue queue = ahead.get(batchId);
        if (queue != null) {
            queue.giveBackAhead(false);
        }
    }

    private void giveBack(List<Taken> taken) {
        if (taken.isEmpty()) {
            return;
        }
        boolean done = false;
        try {
            database.call("giving back batches that are not sent now", () -> {
                membership.giveBack(taken.stream().map(Taken::row).toList());
                return null;
            });
            done = true;
        } catch (BatchPersistenceException e) {
            log.debug("Batches that were claimed and are not sent now are given back later", e);
        } finally {
            if (!done) {
                lost(taken);
            }
        }
    }

    private static List<Taken> inTwoStatements(Tx tx, String select, List<?> values, long me, long fence, long lease)
            throws SQLException {
        List<Taken> taken = tx.all(
                "SELECT {time} + ? AS lease_until, " + Row.WITH_PAYLOAD + select,
                row -> {
                    Row before = Row.of(row);
                    return new Taken(
                            before.claimed(me, fence, row.getLong("lease_until")), before.dueAt(), Encoded.of(row));
                },
                Tx.values(lease, values));
        if (!taken.isEmpty()) {
            List<Long> seqs = taken.stream().map(each -> each.row().seq()).toList();
            tx.update(
                    "UPDATE {p}batch SET state = {in_flight}, owner = ?, fence = ?, due_at = ? WHERE seq IN "
                            + Tx.in(seqs),
                    Tx.values(me, fence, taken.get(0).row().dueAt(), seqs));
        }
        return taken;
    }
}
