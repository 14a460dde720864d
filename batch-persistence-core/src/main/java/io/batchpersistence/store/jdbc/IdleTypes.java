package io.batchpersistence.store.jdbc;

import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.store.jdbc.Books.Changes;
import io.batchpersistence.store.jdbc.Books.Counter;
import java.sql.SQLException;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * Collector types that hold nothing any more: the last {@value IndexedBatchStore#MAX_IDLE_TYPES} keep their counters, what the
 * others have counted is added to those of {@value IndexedBatchStore#OTHER_TYPES}. Else an application that names a collector type
 * after each tenant would have rows for ever, and each look at the statistics would take longer. For the thread of the upkeep.
 *
 * <p>Two steps, since a type may have counters of several instances. First each instance adds its own rows of such a type to the
 * type's row of instance 0. When that is the only row left, any instance adds it to the row of the others.
 *
 * <p>Why nothing is lost, or counted twice:
 *
 * <ul>
 *   <li>Rows are moved under locks, in one transaction with what they are added to. Sums over all rows stay the same.
 *   <li>What is added to the others is one row that by itself holds nothing and is balanced. So what is left of its type stays right
 *       whatever happens at the same time: an instance that persists a batch of that type again does it in a row of its own, as for
 *       a new type.
 *   <li>A group that comes to a row that is gone changes nothing. Its instance sees in its row of the table of instances that it is
 *       alive, makes the row again, and writes the group anew.
 *   <li>A group whose commit was lost is looked for by its token in the row of its first type ({@link GroupWriter}). Only the
 *       instance itself moves its rows, and it leaves those that have the token of the group whose fate is not known yet. While the
 *       commit is under way the row is locked, and is left, too. A row that is free and has another token is moved: then the group
 *       was undone, or has not come to that row yet, will not find it, and starts anew. So a row that was made again, and has not
 *       the group's token, still means that the group was not committed.
 *   <li>The rows of an instance that is gone are all added to those of instance 0, as before: a group of its number is not written
 *       again.
 * </ul>
 *
 * <p>Which types were the last ones is told by the tokens, which are times; a row of instance 0 has the highest of those that were
 * added to it. No row is waited for while one of this instance's own is locked. As long as there are not too many types, which is
 * known from the last look at the statistics, the database is not asked.
 */
final class IdleTypes {

    /** Types of one transaction. */
    private static final int AT_ONCE = 250;

    /** Types of one round. */
    private static final int MOST = 10_000;

    private static final String IDLE = "SELECT collector_type, COUNT(*) AS rows_of_all,"
            + " SUM(CASE WHEN instance = ? THEN 1 ELSE 0 END) AS rows_of_mine,"
            + " SUM(CASE WHEN instance = " + Books.NOBODY + " THEN 1 ELSE 0 END) AS rows_of_gone FROM {p}counter"
            + " WHERE collector_type <> ? AND collector_type NOT IN (SELECT collector_type FROM {p}lane WHERE paused = 1)"
            + " GROUP BY collector_type HAVING " + Books.HELD_NOTHING
            + " ORDER BY MAX(token) DESC, collector_type LIMIT "
            + MOST + " OFFSET " + IndexedBatchStore.MAX_IDLE_TYPES;

    /** One that is not among the last ones. The name is as it is in the table. */
    private record Idle(String collectorType, long all, long mine, long ofGone) {}

    private final Database database;
    private final Books books;

    IdleTypes(Database database, Books books) {
        this.database = database;
        this.books = books;
    }

    /**
     * Forgets those that are too many.
     *
     * @param me this instance's number
     * @param stops is asked between two transactions
     */
    void forget(long me, BooleanSupplier stops) throws SQLException {
        if (books.idleTypes() <= IndexedBatchStore.MAX_IDLE_TYPES) {
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
                IndexedBatchStore.OTHER_TYPES));
    }

    @FunctionalInterface
    private interface Step {
        void run(List<String> types) throws SQLException;
    }

    /** Whether there were any. */
    private static boolean each(List<Idle> idle, Predicate<Idle> which, BooleanSupplier stops, Step step)
            throws SQLException {
        List<String> types =
                idle.stream().filter(which).map(Idle::collectorType).sorted().toList();
        for (int from = 0; from < types.size() && !stops.getAsBoolean(); from += AT_ONCE) {
            try {
                step.run(types.subList(from, Math.min(from + AT_ONCE, types.size())));
            } catch (SQLException e) {
                if (!Dialect.isDuplicate(e)) {
                    throw e;
                }
                // Another instance is about to do the same: it is done in the next round.
            }
        }
        return !types.isEmpty();
    }

    /** Adds this instance's counters to those of instance 0. */
    private void giveUp(long me, List<String> types) throws SQLException {
        database.write(tx -> {
            Books.insertMissing(tx, unescaped(types), Books.NOBODY, Books.MAIN); // may wait, so it comes first
            List<String> free =
                    lockOfGone(tx, types).stream().map(Counter::collectorType).toList();
            if (free.isEmpty()) {
                return null;
            }
            List<Counter> mine = Books.lock(tx, me, "part <= 0 AND collector_type IN " + Tx.in(free), free.toArray());
            long unresolved = books.unresolved(); // after the rows are locked
            List<Counter> moved = mine.stream()
                    .filter(counter -> counter.part() != Books.MAIN || unresolved == 0 || counter.token() != unresolved)
                    .toList();
            Changes changes = new Changes();
            moved.forEach(counter -> changes.add(Texts.unescape(counter.collectorType()), counter));
            changes.write(tx, Books.NOBODY, Books.MAIN);
            Books.delete(tx, me, moved);
            tx.afterCommit(books::changed);
            return null;
        });
    }

    private void addToOther(List<String> types) throws SQLException {
        database.write(tx -> {
            // First, and if somebody has it, not at all: so two that do this at once do not wait for each other.
            Books.insertMissing(tx, Set.of(IndexedBatchStore.OTHER_TYPES), Books.NOBODY, Books.MAIN);
            if (lockOfGone(tx, List.of(IndexedBatchStore.OTHER_TYPES)).isEmpty()) {
                return null;
            }
            List<Counter> idle =
                    lockOfGone(tx, types).stream().filter(Counter::isIdle).toList();
            Changes changes = new Changes();
            idle.forEach(counter -> changes.add(IndexedBatchStore.OTHER_TYPES, counter));
            changes.write(tx, Books.NOBODY, Books.MAIN);
            Books.delete(tx, Books.NOBODY, idle);
            tx.afterCommit(books::changed);
            return null;
        });
    }

    private static List<Counter> lockOfGone(Tx tx, List<String> types) throws SQLException {
        return Books.lock(
                tx, Books.NOBODY, "part = " + Books.MAIN + " AND collector_type IN " + Tx.in(types), types.toArray());
    }

    private static Set<String> unescaped(List<String> types) {
        return types.stream().map(Texts::unescape).collect(Collectors.toSet());
    }
}
