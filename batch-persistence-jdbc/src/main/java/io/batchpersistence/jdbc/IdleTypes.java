package io.batchpersistence.jdbc;

import io.batchpersistence.internal.spi.StoreLimits;
import io.batchpersistence.jdbc.CounterTable.Counter;
import io.batchpersistence.jdbc.CounterTable.CounterDelta;
import java.sql.SQLException;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * Folds the counters of idle collector types, those that hold no batches any more. The
 * {@value StoreLimits#MAX_IDLE_TYPES} types used last keep their own counters; those of the others are added to
 * the counters of {@value StoreLimits#OTHER_TYPES}. Otherwise an application that names a collector type after
 * each tenant would accumulate rows forever, and each read of the statistics would take longer. For the upkeep thread.
 *
 * <p>Two steps, since a type may have counters of several instances. First each instance adds its own rows of such a
 * type to the type's row of instance 0. Once that is the only row left, any instance adds it to the row of
 * {@value StoreLimits#OTHER_TYPES}.
 *
 * <p>Why no count is lost, or counted twice:
 *
 * <ul>
 *   <li>Rows are moved under locks, in the same transaction as the row that they are added to. Sums over all rows stay
 *       the same.
 *   <li>The row added to {@value StoreLimits#OTHER_TYPES} by itself holds nothing and is balanced. So the
 *       remaining rows of its type stay correct whatever happens concurrently: an instance that persists a batch of
 *       that type again does it in a row of its own, as for a new type.
 *   <li>A group that finds its row gone changes nothing. Its instance checks its row in the instance table, finds that
 *       it is alive, recreates the counter row, and writes the group again.
 *   <li>A group whose commit outcome is unknown is looked up by its token in the row of its first type
 *       ({@link GroupWriter}). Only the instance itself moves its rows, and it skips those that carry the token of the
 *       unresolved group. While the commit is under way the row is locked, and skipped, too. A row that is not locked
 *       and carries another token is moved: in that case the group was rolled back, or has not reached that row yet,
 *       will not find it, and starts again. So a recreated row that does not carry the group's token still means that
 *       the group was not committed.
 *   <li>The rows of an instance that is gone are all added to those of instance 0, as before: a group under its number
 *       is not written again.
 * </ul>
 *
 * <p>Which types were used last follows from the tokens, which are timestamps; a row of instance 0 has the highest
 * token of the rows that were added to it. This never waits for a row while it holds a lock on one of this instance's
 * own. As long as there are not too many idle types, which is known from the last read of the statistics, the database
 * is not queried.
 */
final class IdleTypes {

    /** Collector types per transaction. */
    private static final int CHUNK_SIZE = 250;

    /** Collector types per round. */
    private static final int MAX_READ = 10_000;

    private static final String IDLE = "SELECT collector_type, COUNT(*) AS rows_of_all,"
            + " SUM(CASE WHEN instance = ? THEN 1 ELSE 0 END) AS rows_of_mine,"
            + " SUM(CASE WHEN instance = " + CounterTable.NO_OWNER
            + " THEN 1 ELSE 0 END) AS rows_of_gone FROM {p}counter"
            + " WHERE collector_type <> ? AND collector_type NOT IN (SELECT collector_type FROM {p}lane WHERE paused = 1)"
            + " GROUP BY collector_type HAVING " + CounterTable.HELD_NOTHING
            + " ORDER BY MAX(token) DESC, collector_type LIMIT "
            + MAX_READ + " OFFSET " + StoreLimits.MAX_IDLE_TYPES;

    /** An idle type that is not among those used last; its name is escaped, as in the table. */
    private record Idle(String collectorType, long all, long mine, long ofGone) {}

    private final Database database;
    private final CounterTable counters;

    IdleTypes(Database database, CounterTable counters) {
        this.database = database;
        this.counters = counters;
    }

    /** Folds the idle types beyond the limit. Checks between two transactions whether to stop. */
    void forget(long me, BooleanSupplier stops) throws SQLException {
        if (counters.idleTypes() <= StoreLimits.MAX_IDLE_TYPES) {
            return;
        }
        List<Idle> idle = idle(me);
        if (each(idle, type -> type.mine() > 0, stops, types -> giveUp(me, types))) {
            idle = idle(me);
        }
        each(idle, type -> type.all() == type.ofGone(), stops, this::addToOther);
    }

    private List<Idle> idle(long me) throws SQLException {
        return database.read(tx -> tx.all(
                IDLE,
                row -> new Idle(row.getString(1), row.getLong(2), row.getLong(3), row.getLong(4)),
                me,
                StoreLimits.OTHER_TYPES));
    }

    @FunctionalInterface
    private interface Step {
        void run(List<String> types) throws SQLException;
    }

    /** Runs a step on the matching types in chunks, and returns whether there were any. */
    private static boolean each(List<Idle> idle, Predicate<Idle> which, BooleanSupplier stops, Step step)
            throws SQLException {
        List<String> types =
                idle.stream().filter(which).map(Idle::collectorType).sorted().toList();
        for (int from = 0; from < types.size() && !stops.getAsBoolean(); from += CHUNK_SIZE) {
            try {
                step.run(types.subList(from, Math.min(from + CHUNK_SIZE, types.size())));
            } catch (SQLException e) {
                if (!Dialect.isDuplicate(e)) {
                    throw e;
                }
                // Another instance is doing the same; these types are handled in the next round.
            }
        }
        return !types.isEmpty();
    }

    /** Adds this instance's counters to those of instance 0. */
    private void giveUp(long me, List<String> types) throws SQLException {
        database.write(tx -> {
            // First, while no row is locked yet, since the insert may wait.
            CounterTable.insertMissing(tx, unescaped(types), CounterTable.NO_OWNER, CounterTable.MAIN);
            List<String> free =
                    lockOfGone(tx, types).stream().map(Counter::collectorType).toList();
            if (free.isEmpty()) {
                return null;
            }
            List<Counter> mine =
                    CounterTable.lock(tx, me, "part <= 0 AND collector_type IN " + Tx.in(free), free.toArray());
            // Read only after the rows are locked.
            long unresolved = counters.unresolved();
            List<Counter> moved = mine.stream()
                    .filter(counter ->
                            counter.part() != CounterTable.MAIN || unresolved == 0 || counter.token() != unresolved)
                    .toList();
            CounterDelta delta = new CounterDelta();
            moved.forEach(counter -> delta.add(TextEscaping.unescape(counter.collectorType()), counter));
            delta.write(tx, CounterTable.NO_OWNER, CounterTable.MAIN);
            CounterTable.delete(tx, me, moved);
            tx.afterCommit(counters::changed);
            return null;
        });
    }

    private void addToOther(List<String> types) throws SQLException {
        database.write(tx -> {
            // Lock this row first, and do nothing if another instance holds it, so that two concurrent runs never wait
            // for each other.
            CounterTable.insertMissing(tx, Set.of(StoreLimits.OTHER_TYPES), CounterTable.NO_OWNER, CounterTable.MAIN);
            if (lockOfGone(tx, List.of(StoreLimits.OTHER_TYPES)).isEmpty()) {
                return null;
            }
            List<Counter> idle =
                    lockOfGone(tx, types).stream().filter(Counter::isIdle).toList();
            CounterDelta delta = new CounterDelta();
            idle.forEach(counter -> delta.add(StoreLimits.OTHER_TYPES, counter));
            delta.write(tx, CounterTable.NO_OWNER, CounterTable.MAIN);
            CounterTable.delete(tx, CounterTable.NO_OWNER, idle);
            tx.afterCommit(counters::changed);
            return null;
        });
    }

    private static List<Counter> lockOfGone(Tx tx, List<String> types) throws SQLException {
        return CounterTable.lock(
                tx,
                CounterTable.NO_OWNER,
                "part = " + CounterTable.MAIN + " AND collector_type IN " + Tx.in(types),
                types.toArray());
    }

    private static Set<String> unescaped(List<String> types) {
        return types.stream().map(TextEscaping::unescape).collect(Collectors.toSet());
    }
}
