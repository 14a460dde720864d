package io.batchpersistence.store.jdbc;

import io.batchpersistence.store.jdbc.TestDatabase.Kind;
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
 * Does to a database what administrators do to it, and sets its clock, at random from a seed, one thing at a time, and undoes it. The
 * store's tables are in a schema of their own (MariaDB: a database), and belong to somebody else than the user that the applications
 * connect as, who may do what {@code docs/jdbc-store.md} says that he must be allowed to.
 */
final class Administrator implements AutoCloseable {

    /** What can happen, and how often by default. */
    enum Accident {
        /** The database's clock is set, and set right some accidents later. */
        CLOCK(3),
        /** One row of {@code instance} is deleted. */
        INSTANCE(2),
        /** All of them are. */
        INSTANCES(1),
        /** Batches are deleted. */
        BATCHES(2),
        /** Rows of {@code counter} are deleted. */
        COUNTERS(1),
        /** Counters are set to something else. */
        WRONG_COUNTERS(1),
        /** The table {@code counter} is emptied. */
        NO_COUNTERS(1),
        /** Connections of the applications are ended by the server. */
        KILL(3),
        /** A column is added to a table, and dropped. */
        ALTER(2),
        /** What is done to tables at night. */
        MAINTENANCE(1),
        /** A pooler is told to load its settings again, or to use new connections. */
        RELOAD(1),
        /** A pooler is started again. */
        RESTART(1),
        /** Tables are locked for some seconds. */
        LOCK(2),
        /** The applications can only read for some seconds. */
        READ_ONLY(2),
        /** A permission is missing for some seconds. */
        REVOKE(2),
        /** A table has another name for some seconds. */
        RENAME(2),
        /** A pooler is paused for some seconds. */
        PAUSE(1);

        private final int weight;

        Accident(int weight) {
            this.weight = weight;
        }

        /** Whether the counters can't be compared with what was done any more. */
        boolean falsifies() {
            return this == COUNTERS || this == WRONG_COUNTERS || this == NO_COUNTERS;
        }

        /** Whether what an instance has in flight may not be its own any more afterwards. */
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

    /** Is told while the database takes nothing, and when it is over. */
    interface Watch {
        /** It takes nothing since now. Returns when it is to be undone. */
        void refuses(Accident accident, String what);

        /** It takes everything since now. Returns when the next thing may happen. */
        void over(Accident accident, String what);
    }

    /** What happened when. */
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

        /** Whether what an instance had in flight in that time may have been taken from it. */
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

    /** What the names of tables begin with. */
    static final String PREFIX = "b_";

    private static final String[] TABLES = {
        "batch", "instance", "counter", "lane", "outage", "corrupt", "schema_version"
    };
    /** Those that a sign of life writes to. */
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
    /** Of the schema, and of the user. */
    private final String name;

    private final String password;
    private final AtomicLong clock = new AtomicLong();
    /** How many accidents after which the clock is set right; 0 if it is. */
    private int untilRight;

    private @Nullable Happened wrongClock;
    private @Nullable Connection connection;

    private final List<Happened> happened = new CopyOnWriteArrayList<>();
    /** The ids of batches that were deleted. */
    private final Set<String> deleted = ConcurrentHashMap.newKeySet();
    /** How often something could not be done, as the database rolled it back for the sake of others, by what it was. */
    private final Map<Accident, Integer> failed = new EnumMap<>(Accident.class);

    /**
     * Makes a schema, a user, and the tables.
     *
     * @param weights as {@code CLOCK:0,LOCK:5}: how often what happens, where it is not as often as by default
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
        for (int version = 1; version <= Schema.VERSION; version++) {
            for (String statement : Schema.script(dialect, version)) {
                execute(statement.replace("{i}", PREFIX));
            }
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

    /** With the user, and where the tables are found without a schema. */
    String url() {
        String server = url.substring(0, url.indexOf('?'));
        return (postgresql() ? server : server.substring(0, server.lastIndexOf('/') + 1) + name) + "?user=" + name
                + "&password=" + password;
    }

    /** The same with all rights. */
    String ownUrl() {
        return postgresql() ? url + "&currentSchema=" + name : url.replaceFirst("/[^/?]*\\?", "/" + name + "?");
    }

    /** An expression for the clock, as it is set. */
    String now() {
        String real = (postgresql() ? Dialect.POSTGRESQL : Dialect.MARIADB).now();
        long ahead = clock.get();
        return ahead == 0 ? real : "(" + real + (ahead > 0 ? " + " : " - ") + Math.abs(ahead) + ")";
    }

    // ---- what was done ---------------------------------------------------------------------------

    List<Happened> happened() {
        return happened;
    }

    Set<String> deleted() {
        return deleted;
    }

    /** How often what was done, and what could not be done. */
    String told() {
        Map<Accident, Integer> done = new EnumMap<>(Accident.class);
        for (Happened each : happened) {
            done.merge(each.accident, 1, Integer::sum);
        }
        return done + (failed.isEmpty() ? "" : ", rolled back for the sake of others " + failed) + ", batches deleted "
                + deleted.size();
    }

    // ---- accidents -------------------------------------------------------------------------------

    /**
     * Does something.
     *
     * @param pooler {@code null} if there is none
     */
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

    /** The clock is right after this. */
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
            if (postgresql() || e.getErrorCode() != 1094) { // it has gone by itself
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

    // ---- what takes a while ----------------------------------------------------------------------

    /** As that of {@link AutoCloseable}. */
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

    /** In session mode a pooler would wait for the clients to go, so they are made to. */
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

    /** Again if it was rolled back for the sake of others, a few times: what was begun must be ended. */
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

    /** The first column. */
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
