package io.batchpersistence.jdbc;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.internal.spi.StoreLimits;
import io.batchpersistence.jdbc.Database.CommitUnknownException;
import io.batchpersistence.jdbc.Row.Encoded;
import io.batchpersistence.jdbc.Tx.Reader;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Claims batches that are due. Of concurrent callers for the same collector type, one claims for all of them, in one
 * transaction; a caller that comes alone claims at once. Thread-safe.
 *
 * <p>A claiming transaction updates counters of its own, so that claims and group commits never block each other.
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

    /**
     * Adds what {@code claimed} has claimed to the counters. The parameters are the collector type and the instance.
     */
    private static final String COUNTED = "counted AS (UPDATE {p}counter SET pending = pending - batches,"
            + " pending_entries = pending_entries - entries, pending_bytes = pending_bytes - size,"
            + " in_flight = in_flight + batches, in_flight_entries = in_flight_entries + entries,"
            + " in_flight_bytes = in_flight_bytes + size FROM (SELECT COUNT(*) AS batches, SUM(entry_count) AS entries,"
            + " SUM(bytes) AS size FROM claimed) sums WHERE batches > 0 AND collector_type = ? AND instance = ? AND part = "
            + CounterTable.CLAIMS + " RETURNING 1)";

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
            List<ClaimRequest> group = new ArrayList<>();
            int max = 0;
            long lease = 0;
            for (ClaimRequest next = waiting.peek();
                    next != null && (group.isEmpty() || max + next.max <= CHUNK_SIZE);
                    next = waiting.peek()) {
                // Add before removing: a request that is in neither collection would wait forever.
                group.add(next);
                waiting.remove();
                max += next.max;
                // All requests have the same lease, that of the collector type.
                lease = Math.max(lease, next.lease);
            }
            List<Taken> taken = List.of();
            try {
                taken = take(lease, max);
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

        /**
         * Claims in two steps, so that it is never slow. First a query for the earliest due batches, which mostly ends
         * the work. If few are due, they are sorted here, and the first ones are claimed, or the next ones if others
         * have claimed all of those; if many are due, the first ones are soon found among all that are pending.
         */
        private List<Taken> take(long lease, int max) throws SQLException {
            if (withoutLook > 0) {
                withoutLook--;
                List<Taken> taken = takeOfMany(reached, lease, max);
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
                return takeOfMany(oldestFirst ? 0 : Long.MAX_VALUE, lease, max);
            }
            return due.isEmpty()
                    ? List.of()
                    : takeOfFew(due.stream().sorted(first).toList(), lease, max);
        }

        private List<Taken> takeOfMany(long from, long lease, int max) throws SQLException {
            Dialect dialect = database.dialect();
            List<Taken> taken =
                    takeAtOnce(dialect.firstOfMany(oldestFirst), dialect.valuesOfMany(collectorType, from), lease, max);
            if (!taken.isEmpty()) {
                reached = taken.get(taken.size() - 1).row().seq();
            }
            return taken;
        }

        private List<Taken> takeOfFew(List<Long> candidates, long lease, int max) throws SQLException {
            List<Taken> taken = List.of();
            for (int from = 0, next; taken.isEmpty() && from < candidates.size(); from = next) {
                next = Math.min(candidates.size(), from + Math.min(max, MAX_SORTED_HERE) + SPARE_CANDIDATES);
                List<Long> some = candidates.subList(from, next);
                taken = takeAtOnce(
                        "FROM {p}batch WHERE seq IN " + Tx.in(some)
                                + " AND collector_type = ? AND state = {pending} AND due_at <= {now} ORDER BY seq"
                                + (oldestFirst ? "" : " DESC"),
                        List.of(Tx.values(some, collectorType)),
                        lease,
                        max);
            }
            return taken;
        }

        private List<Taken> takeAtOnce(String which, List<?> values, long lease, int max) throws SQLException {
            long fence = membership.newFence();
            // The limit is a literal: as a parameter, PostgreSQL would plan the statement each time, since a generic
            // plan for any limit looks more expensive.
            String select = " " + which + " LIMIT " + max + " FOR UPDATE SKIP LOCKED";
            try {
                List<Taken> taken = database.dialect().claimsInOneStatement()
                        ? membership.claimAtOnce(
                                TextEscaping.unescape(collectorType),
                                (tx, me) -> inOneStatement(tx, select, values, me, fence, lease))
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
        private List<Taken> inOneStatement(Tx tx, String select, List<?> values, long me, long fence, long lease)
                throws SQLException {
            return tx.all(
                    "WITH due AS (SELECT seq AS due_seq, due_at AS was_due" + select
                            + "), claimed AS (UPDATE {p}batch SET state = {in_flight}, owner = ?, fence = ?, due_at = {time} + ? FROM due"
                            + " WHERE seq = due_seq RETURNING was_due, " + Row.WITH_PAYLOAD + "), " + COUNTED
                            + " SELECT claimed.*, 1 / (SELECT COUNT(*) FROM counted) AS guard,"
                            + " set_config('synchronous_commit', 'off', true) FROM claimed",
                    row -> new Taken(Row.of(row), row.getLong("was_due"), Encoded.of(row)),
                    Tx.values(values, me, fence, lease, collectorType, me));
        }
    }

    private final Database database;
    private final InstanceMembership membership;
    private final CounterTable counters;
    private final Map<End, ClaimQueue> queues = new ConcurrentHashMap<>();
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
        queues.keySet().removeIf(end -> !known.contains(end.collectorType()));
        many = 2 * Math.max(StoreLimits.MAX_IDLE_TYPES, queues.size());
    }

    /** Gives back claimed batches that no caller gets: no attempt was made. */
    void lost(List<Taken> taken) {
        taken.forEach(each -> membership.lost(each.row().fence(), each.row().seq()));
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
