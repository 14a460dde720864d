package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.internal.spi.StoreLimits;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * Counter table: rows of counters in the database for each collector type and instance, so that instances do not block
 * each other, and no batches need to be counted. Thread-safe.
 */
final class CounterTable {

    /** In the order of {@link CounterDelta}: first the columns that only grow, then three for each state. */
    static final List<String> COLUMNS = List.of(
            "accepted",
            "delivered",
            "expired",
            "evicted",
            "discarded",
            "corrupt",
            "pending",
            "pending_entries",
            "pending_bytes",
            "in_flight",
            "in_flight_entries",
            "in_flight_bytes",
            "dead",
            "dead_entries",
            "dead_bytes");

    private static final int ACCEPTED = 0;
    private static final int FIRST_STATE = 6;

    /** Each removal reason is counted in the column of its name. */
    private static int column(RemovalReason reason) {
        return COLUMNS.indexOf(reason.name().toLowerCase(Locale.ROOT));
    }

    private static final String ADD =
            COLUMNS.stream().map(column -> column + " = " + column + " + ?").collect(Collectors.joining(", "));
    static final String SUMS =
            COLUMNS.stream().map(column -> "SUM(" + column + ") AS " + column).collect(Collectors.joining(", "));

    private static final String UNACCOUNTED =
            "SUM(accepted - delivered - expired - evicted - discarded - corrupt - pending - in_flight - dead)";

    /** A HAVING condition on the rows of a collector type: they hold nothing and are balanced. */
    static final String HELD_NOTHING = COLUMNS.subList(FIRST_STATE, COLUMNS.size()).stream()
            .map(column -> "SUM(" + column + ") = 0 AND ")
            .collect(Collectors.joining("", "", UNACCOUNTED + " = 0"));

    /** The instance number under which the counters of instances that are gone are collected. */
    static final long NO_OWNER = 0;

    /** The part of the counters of an instance that nearly every transaction adds to. */
    static final long MAIN = 0;

    /** The part that claims are added to: in the main part, claims and group commits would block each other. */
    static final long CLAIMS = -1;

    private static final String UPDATE =
            "UPDATE {p}counter SET " + ADD + " WHERE collector_type = ? AND instance = ? AND part = ?";
    /** Ends with a WHERE clause that may be extended, as does {@link #DELIVER_GONE}. */
    static final String UPDATE_WITH_TOKEN = UPDATE.replace("SET ", "SET token = ?, ");

    /** Counts the row in {@code gone}, if there is one, as delivered. The values are the token, the instance and part. */
    static final String DELIVER_GONE = deliverGone();

    private static String deliverGone() {
        StringBuilder sql = new StringBuilder("UPDATE {p}counter c SET token = ?, delivered = delivered + 1");
        String[] values = {"1", "entry_count", "bytes"};
        List<String> held = COLUMNS.subList(FIRST_STATE, COLUMNS.size());
        for (int i = 0; i < held.size(); i++) {
            String column = held.get(i);
            sql.append(", ")
                    .append(column)
                    .append(" = ")
                    .append(column)
                    .append(" - CASE WHEN state = ")
                    .append(i / 3);
            sql.append(" THEN ").append(values[i % 3]).append(" ELSE 0 END");
        }
        return sql + " FROM gone WHERE c.collector_type = gone.collector_type AND instance = ? AND part = ?";
    }

    /**
     * A token is a time in milliseconds on the database's clock, followed by this many bits that distinguish groups of
     * the same millisecond.
     */
    private static final int TOKEN_BITS = 20;

    private static final long LAST_TOKEN_MILLIS = 1L << 42;
    private static final String UPDATE_WITH_LAST_USE = UPDATE.replace(
            "SET ",
            "SET token = GREATEST(token, LEAST(?, LEAST({now}, " + LAST_TOKEN_MILLIS + ") * " + (1 << TOKEN_BITS)
                    + ")), ");

    /**
     * Returns the next token. It is also a timestamp: a row's token is the time of its last use.
     *
     * @param previous the last token of this process
     * @param millis now, on the database's clock
     */
    static long token(long previous, long millis) {
        return Math.max(previous + 1, Math.min(millis, LAST_TOKEN_MILLIS) << TOKEN_BITS);
    }

    private static final String INSERT = "INSERT INTO {p}counter (collector_type, instance, part, token, "
            + String.join(", ", COLUMNS) + ") VALUES (?, ?, ?, 0" + ", ?".repeat(COLUMNS.size()) + ")";

    /** The counter changes of one transaction. For one thread. */
    static final class CounterDelta {

        /**
         * Sorted by name, so that every transaction locks rows in the same order: otherwise two of them could deadlock.
         */
        private final SortedMap<String, long[]> byType = new TreeMap<>();

        /** Written to the counters, so that it can be found out whether the transaction was committed; 0 for none. */
        long token;

        /** The latest token of the rows that were added, by collector type. */
        private final Map<String, Long> lastUses = new HashMap<>();

        private long[] of(String collectorType) {
            return byType.computeIfAbsent(collectorType, type -> new long[COLUMNS.size()]);
        }

        void accepted(String collectorType) {
            of(collectorType)[ACCEPTED]++;
        }

        /** Counts a batch as if it had never been accepted. */
        void withdrawn(Row row) {
            of(row.collectorType())[ACCEPTED]--;
            left(row.collectorType(), row.state(), row.entryCount(), row.bytes());
        }

        void gone(Row row, RemovalReason reason) {
            of(row.collectorType())[column(reason)]++;
            left(row.collectorType(), row.state(), row.entryCount(), row.bytes());
        }

        void moved(Row row, BatchState to) {
            left(row.collectorType(), row.state(), row.entryCount(), row.bytes());
            entered(row.collectorType(), to, row.entryCount(), row.bytes());
        }

        /** Counts a pending batch as claimed. */
        void claimed(Row row) {
            add(row.collectorType(), BatchState.PENDING, -1, -row.entryCount(), -row.bytes());
            entered(row.collectorType(), BatchState.IN_FLIGHT, row.entryCount(), row.bytes());
        }

        void entered(String collectorType, BatchState state, long entries, long bytes) {
            add(collectorType, state, 1, entries, bytes);
        }

        private void left(String collectorType, BatchState state, long entries, long bytes) {
            add(collectorType, state, -1, -entries, -bytes);
        }

        private void add(String collectorType, BatchState state, long batches, long entries, long bytes) {
            long[] counts = of(collectorType);
            int at = FIRST_STATE + 3 * Row.number(state);
            counts[at] += batches;
            counts[at + 1] += entries;
            counts[at + 2] += bytes;
        }

        void add(String collectorType, long[] more) {
            long[] counts = of(collectorType);
            for (int i = 0; i < counts.length; i++) {
                counts[i] += more[i];
            }
        }

        /** Adds the counters of another row. */
        void add(String collectorType, Counter counter) {
            add(collectorType, counter.counts());
            lastUses.merge(collectorType, counter.token(), Math::max);
        }

        boolean isEmpty() {
            return byType.isEmpty();
        }

        Set<String> collectorTypes() {
            return byType.keySet();
        }

        /** The collector type of the row whose token shows whether this transaction was committed. */
        String firstType() {
            return byType.firstKey();
        }

        long heldBatches() {
            return sum(FIRST_STATE);
        }

        long heldBytes() {
            return sum(FIRST_STATE + 2);
        }

        private long sum(int column) {
            long sum = 0;
            for (long[] counts : byType.values()) {
                sum += counts[column] + counts[column + 3] + counts[column + 6];
            }
            return sum;
        }

        /**
         * Writes the changes. Returns the collector types without a row: if there are any, the transaction must not be
         * committed.
         */
        List<String> write(Tx tx, long instance, long part) throws SQLException {
            List<String> missing = new ArrayList<>();
            for (Map.Entry<String, long[]> type : byType.entrySet()) {
                List<@Nullable Object> values = new ArrayList<>(COLUMNS.size() + 4);
                // Without a token of its own, a transaction must not overwrite the one of another transaction, whose
                // outcome may still be looked up by it.
                String update = UPDATE;
                if (token != 0) {
                    update = UPDATE_WITH_TOKEN;
                    values.add(token);
                } else if (instance == NO_OWNER) {
                    // Here, tokens are nothing but the time of the last use.
                    update = UPDATE_WITH_LAST_USE;
                    values.add(lastUses.getOrDefault(type.getKey(), 0L));
                }
                addValues(values, type.getValue(), type.getKey(), instance, part);
                if (tx.update(update, values.toArray()) == 0) {
                    missing.add(type.getKey());
                }
            }
            return missing;
        }

        /** Adds the values for {@link #UPDATE_WITH_TOKEN} for one collector type. */
        void addValues(List<@Nullable Object> values, String collectorType, long instance, long part) {
            values.add(token);
            addValues(values, of(collectorType), collectorType, instance, part);
        }

        private static void addValues(
                List<@Nullable Object> values, long[] counts, String collectorType, long instance, long part) {
            for (long count : counts) {
                values.add(count);
            }
            values.add(TextEscaping.escape(collectorType));
            values.add(instance);
            values.add(part);
        }

        /** Writes the changes as new rows, which no other transaction waits for. */
        void insert(Tx tx, long instance, long part) throws SQLException {
            for (Map.Entry<String, long[]> type : byType.entrySet()) {
                insertRow(tx, type.getKey(), instance, part, type.getValue());
            }
        }
    }

    /** Inserts rows with zero counts where rows are missing. */
    static void insertMissing(Tx tx, Collection<String> collectorTypes, long instance, long part) throws SQLException {
        List<String> types =
                collectorTypes.stream().map(TextEscaping::escape).sorted().toList();
        Set<String> there = Set.copyOf(tx.all(
                "SELECT collector_type FROM {p}counter WHERE instance = ? AND part = ? AND collector_type IN "
                        + Tx.in(types),
                row -> row.getString(1),
                Tx.values(instance, part, types)));
        for (String type : types) {
            if (!there.contains(type)) {
                insertRow(tx, TextEscaping.unescape(type), instance, part, new long[COLUMNS.size()]);
            }
        }
    }

    static void insertRow(Tx tx, String collectorType, long instance, long part, long[] counts) throws SQLException {
        @Nullable Object[] values = new @Nullable Object[COLUMNS.size() + 3];
        values[0] = TextEscaping.escape(collectorType);
        values[1] = instance;
        values[2] = part;
        for (int i = 0; i < COLUMNS.size(); i++) {
            values[i + 3] = counts[i];
        }
        tx.update(INSERT, values);
    }

    /**
     * Inserts, updates and deletes counters, to find out whether the database accepts such writes. Other transactions
     * never see them.
     */
    static void tryWriting(Tx tx, long me) throws SQLException {
        insertRow(tx, "", -me, MAIN, new long[COLUMNS.size()]);
        tx.update("UPDATE {p}counter SET accepted = 0 WHERE collector_type = ? AND instance = ?", "", -me);
        tx.update("DELETE FROM {p}counter WHERE collector_type = ? AND instance = ?", "", -me);
    }

    private static long[] counts(ResultSet row) throws SQLException {
        long[] counts = new long[COLUMNS.size()];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = row.getLong(COLUMNS.get(i));
        }
        return counts;
    }

    /** A row; the collector type is escaped, as in the table. */
    // Never compared, never printed.
    @SuppressWarnings("ArrayRecordComponent")
    record Counter(String collectorType, long part, long token, long[] counts) {

        /** Whether the row holds nothing, and everything that it has accepted is accounted for. */
        boolean isIdle() {
            long gone = 0;
            for (int i = ACCEPTED + 1; i < FIRST_STATE; i++) {
                gone += counts[i];
            }
            for (int i = FIRST_STATE; i < counts.length; i++) {
                if (counts[i] != 0) {
                    return false;
                }
            }
            return counts[ACCEPTED] == gone;
        }
    }

    /**
     * Locks the rows of one instance that meet some conditions, and skips those that others have locked instead of
     * waiting for them.
     */
    static List<Counter> lock(Tx tx, long instance, String which, @Nullable Object... values) throws SQLException {
        return tx.all(
                "SELECT * FROM {p}counter WHERE instance = ? AND " + which + " FOR UPDATE SKIP LOCKED",
                row -> new Counter(
                        row.getString("collector_type"), row.getLong("part"), row.getLong("token"), counts(row)),
                Tx.values(instance, List.of(values)));
    }

    static void delete(Tx tx, long instance, List<Counter> counters) throws SQLException {
        List<@Nullable Object[]> keys = new ArrayList<>(counters.size());
        for (Counter counter : counters) {
            keys.add(new @Nullable Object[] {instance, counter.collectorType(), counter.part()});
        }
        tx.updates("DELETE FROM {p}counter WHERE instance = ? AND collector_type = ? AND part = ?", keys);
    }

    // ---- recounting ------------------------------------------------------------------------------

    /**
     * The stored batches minus the counters, from one query: every transaction changes both together, so a difference
     * seen now persists until it is corrected, whatever is done meanwhile. Last column: how many more batches were
     * accepted than are accounted for.
     */
    private static final String DIFFERENCES = differences();

    private static String differences() {
        List<String> held = COLUMNS.subList(FIRST_STATE, COLUMNS.size());
        StringBuilder counted = new StringBuilder("SELECT collector_type");
        StringBuilder said = new StringBuilder("SELECT collector_type");
        StringBuilder sums = new StringBuilder("SELECT collector_type");
        StringBuilder any = new StringBuilder("SUM(imbalance) <> 0");
        String[] values = {"1", "entry_count", "bytes"};
        for (int i = 0; i < held.size(); i++) {
            String column = held.get(i);
            counted.append(", SUM(CASE WHEN state = ")
                    .append(i / 3)
                    .append(" THEN ")
                    .append(values[i % 3]);
            counted.append(" ELSE 0 END) AS ").append(column);
            said.append(", -SUM(").append(column).append(") AS ").append(column);
            sums.append(", SUM(").append(column).append(") AS ").append(column);
            any.append(" OR SUM(").append(column).append(") <> 0");
        }
        return sums + ", SUM(imbalance) AS imbalance FROM (" + counted
                + ", 0 AS imbalance FROM {p}batch GROUP BY collector_type UNION ALL " + said + ", " + UNACCOUNTED
                + " AS imbalance FROM {p}counter GROUP BY collector_type) both_sides GROUP BY collector_type HAVING "
                + any;
    }

    /**
     * Batches that are gone without having been accounted for.
     *
     * @param bytes as far as the counters knew
     */
    record Missing(String collectorType, long batches, long bytes) {}

    /**
     * Compares the counters with the stored batches, and adds corrections to the transaction's changes: missing
     * batches, which it returns, count as corrupt, batches that were never counted as accepted. Must not run
     * concurrently.
     */
    static List<Missing> recount(Tx tx, CounterDelta delta) throws SQLException {
        List<Missing> missing = new ArrayList<>();
        tx.all(DIFFERENCES, row -> {
            String type = TextEscaping.unescape(row.getString("collector_type"));
            long[] counts = new long[COLUMNS.size()];
            long batches = 0;
            long bytes = 0;
            for (int i = FIRST_STATE; i < counts.length; i++) {
                counts[i] = row.getLong(COLUMNS.get(i));
                batches += (i - FIRST_STATE) % 3 == 0 ? counts[i] : 0;
                bytes += (i - FIRST_STATE) % 3 == 2 ? counts[i] : 0;
            }
            long lost = row.getLong("imbalance") - batches;
            if (lost > 0) {
                counts[column(RemovalReason.CORRUPT)] = lost;
                missing.add(new Missing(type, lost, Math.max(0, -bytes)));
            } else {
                counts[ACCEPTED] = -lost;
            }
            delta.add(type, counts);
            return type;
        });
        return missing;
    }

    // ---- what is known of them -------------------------------------------------------------------

    private static final long FRESH_NANOS = TimeUnit.SECONDS.toNanos(1);

    private static final String STATS = "SELECT c.*,"
            + oldest("oldest_pending", "since", "state = {pending}")
            + ", " + oldest("oldest_flying", "since", "state = {in_flight}")
            + ", " + oldest("oldest_dead", "since", "state = {dead}")
            + ", " + oldest("next_due", "due_at", "state = {pending}")
            + " FROM (SELECT collector_type, " + SUMS + " FROM {p}counter GROUP BY collector_type) c";

    private static String oldest(String name, String column, String condition) {
        return " (SELECT MIN(b." + column + ") FROM {p}batch b WHERE b.collector_type = c.collector_type AND b."
                + condition + ") AS " + name;
    }

    private record Known(Map<String, CollectorStats> collectors, long version, long at) {}

    private final Database database;

    /** How many changes this instance has made. */
    private final AtomicLong version = new AtomicLong();

    private final AtomicLong heldBatches = new AtomicLong();
    private final AtomicLong heldBytes = new AtomicLong();
    /** Failed attempts are counted per process, not in the database. */
    private final Map<String, Long> failedAttempts = new ConcurrentHashMap<>();
    /** The token of the group whose outcome is not known yet; 0 for none. */
    private volatile long unresolved;

    private final AtomicBoolean looking = new AtomicBoolean();
    private volatile Known known = new Known(Map.of(), -1, 0);

    CounterTable(Database database) {
        this.database = database;
    }

    void failed(String collectorType) {
        failedAttempts.merge(collectorType, 1L, Long::sum);
        changed();
    }

    /**
     * Set from before a group is written until its outcome is known; 0 for none. The row with that token must not be
     * removed.
     */
    void unresolved(long token) {
        unresolved = token;
    }

    long unresolved() {
        return unresolved;
    }

    /** How many collector types hold nothing, as of the last read of the counters. */
    int idleTypes() {
        int idle = 0;
        for (Map.Entry<String, CollectorStats> each : known.collectors().entrySet()) {
            CollectorStats stats = each.getValue();
            if (stats.pending() == 0
                    && stats.inFlight() == 0
                    && stats.dead() == 0
                    && !each.getKey().equals(StoreLimits.OTHER_TYPES)) {
                idle++;
            }
        }
        return idle;
    }

    /** Applies changes of this instance, which are visible in the totals at once. */
    void committed(CounterDelta delta) {
        heldBatches.addAndGet(delta.heldBatches());
        heldBytes.addAndGet(delta.heldBytes());
        changed();
    }

    /** Notes that the counters may have changed. */
    void changed() {
        version.incrementAndGet();
    }

    /** Whether some counters are impossible, as of the last read. */
    boolean areInconsistent() {
        for (CollectorStats stats : known.collectors().values()) {
            if (stats.pending() < 0
                    || stats.inFlight() < 0
                    || stats.dead() < 0
                    || (stats.dead() > 0) == (stats.oldestDead() == null)
                    || (stats.pending() + stats.inFlight() > 0) == (stats.oldestPending() == null)
                    || !stats.isBalanced()) {
                return true;
            }
        }
        return false;
    }

    /** Approximate: what other instances did in the last second may be missing. */
    long heldBatches() {
        return heldBatches.get();
    }

    long heldBytes() {
        return heldBytes.get();
    }

    /**
     * Reads the counters again if the last read is more than a second old, unless another thread is already doing so.
     */
    void refreshIfOld() throws SQLException {
        if (isOld(known) && looking.compareAndSet(false, true)) {
            try {
                refresh();
            } finally {
                looking.set(false);
            }
        }
    }

    private boolean isOld(Known looked) {
        return looked.version() < 0 || database.tick() - looked.at() > FRESH_NANOS;
    }

    /**
     * Returns the statistics by collector type, with everything that this instance did, and what the others did until a
     * second ago; the last ones known if the database can't be queried, or does not answer soon.
     */
    Map<String, CollectorStats> lastKnownOrNow() {
        Known looked = known;
        if (isUpToDate(looked) || database.waiting() != null) {
            return looked.collectors();
        }
        try {
            return refresh(database::readQuickly);
        } catch (SQLException | BatchPersistenceException e) {
            return lastKnown();
        }
    }

    /** As of the last read; does not query the database. */
    Map<String, CollectorStats> lastKnown() {
        return known.collectors();
    }

    Map<String, CollectorStats> collectors() throws SQLException {
        Known looked = known;
        return isUpToDate(looked) ? looked.collectors() : refresh();
    }

    private boolean isUpToDate(Known looked) {
        return !isOld(looked) && looked.version() == version.get();
    }

    private Map<String, CollectorStats> refresh() throws SQLException {
        return refresh(database::read);
    }

    @FunctionalInterface
    private interface Look {
        Map<String, CollectorStats> run(Database.Work<Map<String, CollectorStats>> work) throws SQLException;
    }

    private Map<String, CollectorStats> refresh(Look look) throws SQLException {
        long before = version.get();
        long at = database.tick();
        Set<String> failed = Set.copyOf(failedAttempts.keySet());
        Map<String, CollectorStats> collectors = look.run(tx -> {
            Map<String, CollectorStats> read = new HashMap<>();
            for (Map.Entry<String, CollectorStats> each : tx.all(STATS, this::stats)) {
                read.put(each.getKey(), each.getValue());
            }
            return read;
        });
        known = new Known(collectors, before, at);
        boolean forgotten = false;
        for (String type : failed) {
            // These types had failures, and hence counters, before the read.
            Long count = collectors.containsKey(type) || type.equals(StoreLimits.OTHER_TYPES)
                    ? null
                    : failedAttempts.remove(type);
            if (count != null) {
                failedAttempts.merge(StoreLimits.OTHER_TYPES, count, Long::sum);
                forgotten = true;
            }
        }
        if (forgotten) {
            // Read again, so that those failures are shown with the other types.
            return refresh(look);
        }
        long batches = 0;
        long bytes = 0;
        for (CollectorStats stats : collectors.values()) {
            batches += stats.pending() + stats.inFlight() + stats.dead();
            bytes += stats.bytes();
        }
        // A change committed meanwhile may be counted twice, or not at all, until the next read, which is soon.
        heldBatches.set(batches);
        heldBytes.set(bytes);
        return collectors;
    }

    private Map.Entry<String, CollectorStats> stats(ResultSet row) throws SQLException {
        String type = TextEscaping.unescape(row.getString("collector_type"));
        long[] counts = counts(row);
        return Map.entry(
                type,
                new CollectorStats(
                        counts[ACCEPTED],
                        counts[column(RemovalReason.DELIVERED)],
                        counts[FIRST_STATE],
                        counts[FIRST_STATE + 3],
                        counts[FIRST_STATE + 6],
                        counts[column(RemovalReason.EXPIRED)],
                        counts[column(RemovalReason.EVICTED)],
                        counts[column(RemovalReason.DISCARDED)],
                        counts[column(RemovalReason.CORRUPT)],
                        failedAttempts.getOrDefault(type, 0L),
                        new BatchVolume(counts[FIRST_STATE + 1], counts[FIRST_STATE + 2]),
                        new BatchVolume(counts[FIRST_STATE + 4], counts[FIRST_STATE + 5]),
                        new BatchVolume(counts[FIRST_STATE + 7], counts[FIRST_STATE + 8]),
                        earliest(time(row, "oldest_pending"), time(row, "oldest_flying")),
                        time(row, "oldest_dead"),
                        time(row, "next_due")));
    }

    private @Nullable Instant time(ResultSet row, String column) throws SQLException {
        long millis = row.getLong(column);
        return row.wasNull() ? null : database.callerTime(millis);
    }

    private static @Nullable Instant earliest(@Nullable Instant one, @Nullable Instant other) {
        if (one == null || other == null) {
            return one == null ? other : one;
        }
        return one.isBefore(other) ? one : other;
    }
}
