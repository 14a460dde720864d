package io.batchpersistence.jdbc;

import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * Does to a database what administrators do, and sets its clock: at random from a seed, one accident at a time, and
 * undoes it. The tables of the store are in their own schema (MariaDB: a database). They belong to a different user
 * than the one of the applications, who has the permissions that {@code docs/jdbc-store.md} lists.
 */
final class Administrator implements AutoCloseable {

    /** The possible accidents with their default frequency. */
    enum Accident {
        /** Sets the database clock, and corrects it some accidents later. */
        CLOCK(3),
        /** Deletes one row of {@code instance}. */
        INSTANCE(2),
        /** Deletes all rows of {@code instance}. */
        INSTANCES(1),
        /** Deletes batches. */
        BATCHES(2),
        /** Deletes rows of {@code counter}. */
        COUNTERS(1),
        /** Changes counters. */
        WRONG_COUNTERS(1),
        /** Empties the table {@code counter}. */
        NO_COUNTERS(1),
        /** The server ends connections of the applications. */
        KILL(3),
        /** Adds a column to a table and drops it. */
        ALTER(2),
        /** Runs nightly table maintenance. */
        MAINTENANCE(1),
        /** Makes a pooler reload its settings or use new connections. */
        RELOAD(1),
        /** Restarts a pooler. */
        RESTART(1),
        /** Locks tables for some seconds. */
        LOCK(2),
        /** Makes the database read-only for the applications for some seconds. */
        READ_ONLY(2),
        /** Revokes a permission for some seconds. */
        REVOKE(2),
        /** Renames a table for some seconds. */
        RENAME(2),
        /** Pauses a pooler for some seconds. */
        PAUSE(1);

        private final int weight;

        Accident(int weight) {
            this.weight = weight;
        }

        /** Whether the counters can no longer be compared with the calls. */
        boolean falsifies() {
            return this == COUNTERS || this == WRONG_COUNTERS || this == NO_COUNTERS;
        }

        /** Whether an instance may lose its batches in flight. */
        boolean takesClaims() {
            return switch (this) {
                case CLOCK, INSTANCE, INSTANCES, LOCK, READ_ONLY, REVOKE, RENAME, PAUSE -> true;
                default -> false;
            };
        }

        private boolean needsPooler() {
            return this == RELOAD || this == RESTART || this == PAUSE;
        }
    }

    /** Is notified when the database starts to refuse writes, and when it stops. */
    interface Watch {
        /** The database refuses writes from now on. Returns when to undo this. */
        void refuses(Accident accident, String what);

        /** The database accepts writes from now on. Returns when the next accident may happen. */
        void over(Accident accident, String what);
    }

    /** An accident with its times. */
    static final class Happened {
        final Accident accident;
        final long from = System.nanoTime();
        private volatile @Nullable Long until;
        private volatile String what = "";

        Happened(Accident accident) {
            this.accident = accident;
        }

        private void over(String what) {
            this.what = what;
            until = System.nanoTime();
        }

        /** Whether an instance may have lost batches that were in flight during that time. */
        boolean tookClaims(long since, long now) {
            Long end = until;
            return accident.takesClaims() && from - now < 0 && (end == null || end - since > 0);
        }

        String told(long began) {
            Long end = until;
            return String.format(
                    "%.1f to %.1f s: %s %s",
                    (from - began) / 1e9, end == null ? Double.NaN : (end - began) / 1e9, accident, what);
        }
    }

    /** The prefix of the table names. */
    static final String PREFIX = "b_";

    private static final String[] TABLES = {
        "batch", "instance", "counter", "lane", "outage", "corrupt", "schema_version"
    };
    /** The tables that a heartbeat writes to. */
    private static final String[] WRITTEN = {"batch", "instance", "counter", "lane", "outage"};

    private static final long[] STEPS_MILLIS = {
        Duration.ofSeconds(3).toMillis(),
        Duration.ofHours(1).toMillis(),
        Duration.ofHours(25).toMillis()
    };

    private static final int ATTEMPTS = 5;

    private final Kind kind;
    private final Random random;
    private final Map<Accident, Integer> weights = new EnumMap<>(Accident.class);
    private final String url;
    /** The name of the schema and of the user. */
    private final String name;

    private final String password;
    private final AtomicLong clock = new AtomicLong();
    /** The number of accidents until the clock is corrected; 0 if it is right. */
    private int untilRight;

    private @Nullable Happened wrongClock;
    private @Nullable Connection connection;

    private final List<Happened> happened = new CopyOnWriteArrayList<>();
    /** The ids of deleted batches. */
    private final Set<String> deleted = ConcurrentHashMap.newKeySet();
    /** By accident: how often it failed because the database rolled it back, for example after a deadlock. */
    private final Map<Accident, Integer> failed = new EnumMap<>(Accident.class);

    /**
     * Creates a schema, a user and the tables.
     *
     * @param weights such as {@code CLOCK:0,LOCK:5}: frequencies that differ from the default
     */
    Administrator(Kind kind, long seed, String weights) throws SQLException {
        this.kind = kind;
        this.random = new Random(seed);
        this.url = TestServers.url(kind);
        this.name = "storm" + Long.toString(System.nanoTime() & 0xFFFF_FFFFL, 36);
        this.password = name;
        for (Accident accident : Accident.values()) {
            this.weights.put(accident, accident.weight);
        }
        for (String each : weights.isBlank() ? new String[0] : weights.split(",", -1)) {
            String[] parts = each.split(":", -1);
            this.weights.put(Accident.valueOf(parts[0].strip()), Integer.valueOf(parts[1].strip()));
        }
        makeUser();
        makeTables();
    }

    private boolean postgresql() {
        return kind == Kind.POSTGRESQL;
    }

    private void makeUser() throws SQLException {
        if (postgresql()) {
            execute("CREATE ROLE " + name + " LOGIN PASSWORD '" + password + "'");
            execute("CREATE SCHEMA " + name);
            execute("GRANT USAGE ON SCHEMA " + name + " TO " + name);
            execute("ALTER ROLE " + name + " SET idle_in_transaction_session_timeout = "
                    + RecommendedPool.IDLE_TRANSACTION_TIMEOUT.toMillis());
        } else {
            execute("CREATE DATABASE " + name);
            for (String host : new String[] {"%", "localhost"}) {
                execute("CREATE USER " + name + "@'" + host + "' IDENTIFIED BY '" + password + "'");
            }
        }
    }

    private void makeTables() throws SQLException {
        Dialect dialect = postgresql() ? Dialect.POSTGRESQL : Dialect.MARIADB;
        for (String statement : Schema.script(dialect)) {
            execute(statement.replace("{i}", PREFIX));
        }
        for (String table : TABLES) {
            permit("GRANT", "SELECT, INSERT, UPDATE, DELETE", table);
        }
    }

    @Override
    public void close() throws SQLException {
        if (postgresql()) {
            execute("DROP SCHEMA IF EXISTS " + name + " CASCADE");
            killAll();
            execute("DROP ROLE IF EXISTS " + name);
        } else {
            execute("DROP DATABASE IF EXISTS " + name);
            execute("DROP USER IF EXISTS " + name + "@'%', " + name + "@'localhost'");
        }
        Connection last = connection;
        if (last != null) {
            last.close();
        }
    }

    // ---- for the applications --------------------------------------------------------------------

    /** The URL for the applications: with their user, and a default schema with the tables. */
    String url() {
        String server = url.substring(0, url.indexOf('?'));
        return (postgresql() ? server : server.substring(0, server.lastIndexOf('/') + 1) + name) + "?user=" + name
                + "&password=" + password;
    }

    /** The URL for the owner of the tables. */
    String ownUrl() {
        return postgresql() ? url + "&currentSchema=" + name : url.replaceFirst("/[^/?]*\\?", "/" + name + "?");
    }

    /** An expression for the current time of the clock that is set. */
    String now() {
        String real = (postgresql() ? Dialect.POSTGRESQL : Dialect.MARIADB).now();
        long ahead = clock.get();
        return ahead == 0 ? real : "(" + real + (ahead > 0 ? " + " : " - ") + Math.abs(ahead) + ")";
    }

    // ---- results ---------------------------------------------------------------------------------

    List<Happened> happened() {
        return happened;
    }

    Set<String> deleted() {
        return deleted;
    }

    /** How often each accident happened, and how often it failed. */
    String told() {
        Map<Accident, Integer> done = new EnumMap<>(Accident.class);
        for (Happened each : happened) {
            done.merge(each.accident, 1, Integer::sum);
        }
        return done + (failed.isEmpty() ? "" : ", rolled back for the sake of others " + failed) + ", batches deleted "
                + deleted.size();
    }

    // ---- accidents -------------------------------------------------------------------------------

    /** Causes an accident, also to a pooler, if there is one. */
    void act(@Nullable PgBouncer pooler, Watch watch) throws SQLException, IOException {
        if (untilRight > 0 && --untilRight == 0) {
            setClockRight();
            return;
        }
        Accident accident = choose(pooler != null);
        Happened now = new Happened(accident);
        happened.add(now);
        try {
            String what = act(accident, pooler, watch);
            if (accident == Accident.CLOCK) {
                wrongClock = now;
            } else {
                now.over(what);
            }
        } catch (SQLException e) {
            if (!Dialect.isTransient(e)) {
                throw e;
            }
            now.over("rolled back for the sake of others");
            failed.merge(accident, 1, Integer::sum);
        }
    }

    private Accident choose(boolean pooled) {
        int all = 0;
        for (Map.Entry<Accident, Integer> each : weights.entrySet()) {
            all += weight(each, pooled);
        }
        int chosen = random.nextInt(all);
        for (Map.Entry<Accident, Integer> each : weights.entrySet()) {
            chosen -= weight(each, pooled);
            if (chosen < 0) {
                return each.getKey();
            }
        }
        throw new IllegalStateException();
    }

    private int weight(Map.Entry<Accident, Integer> each, boolean pooled) {
        boolean can = each.getKey() == Accident.CLOCK
                ? untilRight == 0
                : pooled || !each.getKey().needsPooler();
        return can ? each.getValue() : 0;
    }

    void setClockRight() {
        untilRight = 0;
        long ahead = clock.getAndSet(0);
        Happened wrong = wrongClock;
        if (wrong != null) {
            wrong.over("ahead by " + Duration.ofMillis(ahead));
            wrongClock = null;
        }
    }

    private String act(Accident accident, @Nullable PgBouncer pooler, Watch watch) throws SQLException, IOException {
        return switch (accident) {
            case CLOCK -> setClock();
            case INSTANCE -> {
                List<String> all = query("SELECT id FROM {p}instance ORDER BY id");
                yield all.isEmpty()
                        ? "none"
                        : update("DELETE FROM {p}instance WHERE id = " + all.get(random.nextInt(all.size())));
            }
            case INSTANCES -> update("DELETE FROM {p}instance");
            case BATCHES -> deleteBatches();
            case COUNTERS -> {
                List<String> all = query("SELECT DISTINCT instance FROM {p}counter ORDER BY instance");
                yield all.isEmpty()
                        ? "none"
                        : update("DELETE FROM {p}counter WHERE instance = " + all.get(random.nextInt(all.size())));
            }
            case WRONG_COUNTERS -> {
                String column = CounterTable.COLUMNS.get(random.nextInt(CounterTable.COLUMNS.size()));
                yield update("UPDATE {p}counter SET " + column + " = " + column + " + " + (random.nextInt(200) - 100));
            }
            case NO_COUNTERS -> update("TRUNCATE TABLE {p}counter");
            case KILL -> kill(1 + random.nextInt(3));
            case ALTER -> alter();
            case MAINTENANCE -> maintain();
            case RELOAD -> {
                String command = random.nextBoolean() ? "RELOAD" : "RECONNECT";
                of(pooler).console(command);
                yield command;
            }
            case RESTART -> {
                of(pooler).restart();
                yield "restarted";
            }
            case LOCK -> lock(watch);
            case READ_ONLY -> readOnly(watch);
            case REVOKE -> revoke(watch);
            case RENAME -> rename(watch);
            case PAUSE -> pause(of(pooler), watch);
        };
    }

    private static PgBouncer of(@Nullable PgBouncer pooler) {
        if (pooler == null) {
            throw new IllegalStateException("there is no pooler");
        }
        return pooler;
    }

    private String setClock() {
        long step = STEPS_MILLIS[random.nextInt(STEPS_MILLIS.length)];
        clock.set(random.nextBoolean() ? step : -step);
        untilRight = 1 + random.nextInt(6);
        return "";
    }

    private String deleteBatches() throws SQLException {
        List<String> ids = query("SELECT batch_id FROM {p}batch ORDER BY seq LIMIT 50");
        List<String> some = new ArrayList<>();
        for (int i = random.nextInt(4); i >= 0 && !ids.isEmpty(); i--) {
            some.add(ids.remove(random.nextInt(ids.size())));
        }
        for (String id : some) {
            if (!update("DELETE FROM {p}batch WHERE batch_id = '" + id + "'").endsWith(": 0")) {
                deleted.add(id);
            }
        }
        return "deleted " + some;
    }

    private String kill(int most) throws SQLException {
        List<String> all = query(
                postgresql()
                        ? "SELECT pid FROM pg_stat_activity WHERE usename = '" + name + "' ORDER BY pid"
                        : "SELECT id FROM information_schema.processlist WHERE user = '" + name + "' ORDER BY id");
        int killed = 0;
        while (killed < most && !all.isEmpty()) {
            kill(all.remove(random.nextInt(all.size())));
            killed++;
        }
        return killed + " connections";
    }

    private void kill(String id) throws SQLException {
        try {
            execute(postgresql() ? "SELECT pg_terminate_backend(" + id + ")" : "KILL " + id);
        } catch (SQLException e) {
            // Error 1094: the connection is already gone.
            if (postgresql() || e.getErrorCode() != 1094) {
                throw e;
            }
        }
    }

    private void killAll() throws SQLException {
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + name + "'");
    }

    private String alter() throws SQLException {
        String table = WRITTEN[random.nextInt(WRITTEN.length)];
        execute("ALTER TABLE {p}" + table + " ADD COLUMN IF NOT EXISTS more integer");
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(random.nextInt(500)));
        execute("ALTER TABLE {p}" + table + " DROP COLUMN IF EXISTS more");
        return table;
    }

    private String maintain() throws SQLException {
        String[] all = postgresql()
                ? new String[] {"VACUUM", "ANALYZE", "REINDEX TABLE", "VACUUM FULL", "CLUSTER"}
                : new String[] {"ANALYZE TABLE", "OPTIMIZE TABLE", "CHECK TABLE"};
        String what = all[random.nextInt(all.length)] + " {p}" + WRITTEN[random.nextInt(WRITTEN.length)];
        if (what.startsWith("CLUSTER")) {
            what = "CLUSTER {p}batch USING b_batch_age";
        }
        execute(what);
        return what;
    }

    // ---- accidents that last ---------------------------------------------------------------------

    /** An action that throws, like {@link AutoCloseable}. */
    @FunctionalInterface
    private interface Action {
        void run() throws SQLException, IOException;
    }

    private static String refused(Accident accident, String what, Action begin, Action end, Watch watch)
            throws SQLException, IOException {
        try {
            begin.run();
            watch.refuses(accident, what);
        } finally {
            end.run();
        }
        watch.over(accident, what);
        return what;
    }

    private String lock(Watch watch) throws SQLException, IOException {
        try (Connection own = connect();
                Statement statement = own.createStatement()) {
            own.setAutoCommit(false);
            return refused(
                    Accident.LOCK,
                    "the tables are locked",
                    () -> statement.execute(filled(
                            postgresql()
                                    ? "LOCK TABLE {p}batch, {p}counter IN ACCESS EXCLUSIVE MODE"
                                    : "LOCK TABLES {p}batch WRITE, {p}counter WRITE")),
                    () -> {
                        if (!postgresql()) {
                            statement.execute("UNLOCK TABLES");
                        }
                        own.rollback();
                    },
                    watch);
        }
    }

    private String readOnly(Watch watch) throws SQLException, IOException {
        return postgresql()
                ? refused(
                        Accident.READ_ONLY,
                        "read-only",
                        () -> {
                            execute("ALTER ROLE " + name + " SET default_transaction_read_only = on");
                            killAll();
                        },
                        () -> {
                            execute("ALTER ROLE " + name + " RESET default_transaction_read_only");
                            killAll();
                        },
                        watch)
                : refused(
                        Accident.READ_ONLY,
                        "read-only",
                        () -> execute("SET GLOBAL read_only = 1"),
                        () -> execute("SET GLOBAL read_only = 0"),
                        watch);
    }

    private String revoke(Watch watch) throws SQLException, IOException {
        String[] all = {
            "INSERT batch", "UPDATE batch", "DELETE batch", "SELECT batch", "UPDATE counter", "UPDATE instance"
        };
        String[] what = all[random.nextInt(all.length)].split(" ", -1);
        return refused(
                Accident.REVOKE,
                "no permission to " + what[0] + " " + what[1],
                () -> permit("REVOKE", what[0], what[1]),
                () -> permit("GRANT", what[0], what[1]),
                watch);
    }

    private void permit(String how, String rights, String table) throws SQLException {
        for (String host : postgresql() ? new String[] {""} : new String[] {"@'%'", "@'localhost'"}) {
            execute(how + " " + rights + " ON {p}" + table + (how.equals("GRANT") ? " TO " : " FROM ") + name + host);
        }
    }

    private String rename(Watch watch) throws SQLException, IOException {
        String table = WRITTEN[random.nextInt(WRITTEN.length)];
        return refused(
                Accident.RENAME,
                "no table " + table,
                () -> renameTo(table, "elsewhere"),
                () -> renameTo("elsewhere", table),
                watch);
    }

    private void renameTo(String from, String to) throws SQLException {
        execute("ALTER TABLE {p}" + from + " RENAME TO " + (postgresql() ? PREFIX : name + "." + PREFIX) + to);
    }

    /** In session mode a pooler waits until its clients disconnect, so disconnect them. */
    private static String pause(PgBouncer pooler, Watch watch) throws SQLException, IOException {
        String database = pooler.database();
        return refused(
                Accident.PAUSE,
                "the pooler is paused",
                () -> pooler.console("KILL " + database),
                () -> pooler.console("RESUME " + database),
                watch);
    }

    // ---- statements ------------------------------------------------------------------------------

    private Connection connect() throws SQLException {
        Connection made = DriverManager.getConnection(url);
        try (Statement statement = made.createStatement()) {
            statement.execute(
                    postgresql()
                            ? "SET lock_timeout = '5s'"
                            : "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5");
        }
        return made;
    }

    private String filled(String sql) {
        return sql.replace("{p}", name + "." + PREFIX);
    }

    private Statement statement() throws SQLException {
        Connection known = connection;
        if (known == null || !known.isValid(5)) {
            known = connect();
            connection = known;
        }
        return known.createStatement();
    }

    /** Retries a few times after a rollback by the database: an accident that has begun must end. */
    private void execute(String sql) throws SQLException {
        for (int attempt = 1; ; attempt++) {
            try (Statement statement = statement()) {
                statement.execute(filled(sql));
                return;
            } catch (SQLException e) {
                if (!Dialect.isTransient(e) || attempt == ATTEMPTS) {
                    throw e;
                }
            }
        }
    }

    private String update(String sql) throws SQLException {
        try (Statement statement = statement()) {
            return sql + ": " + statement.executeUpdate(filled(sql));
        }
    }

    /** Returns the first column. */
    List<String> query(String sql) throws SQLException {
        try (Statement statement = statement();
                ResultSet rows = statement.executeQuery(filled(sql))) {
            List<String> all = new ArrayList<>();
            while (rows.next()) {
                all.add(rows.getString(1));
            }
            return all;
        }
    }
}
