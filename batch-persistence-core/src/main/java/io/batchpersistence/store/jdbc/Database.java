package io.batchpersistence.store.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DeferredLog;
import io.batchpersistence.SingleLine;
import io.batchpersistence.store.jdbc.Tx.Reader;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLNonTransientConnectionException;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongSupplier;
import java.util.function.Supplier;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Connections, transactions, times. Thread-safe.
 *
 * <p>A transaction that the database rolls back for the sake of another one, or whose connection is lost before its commit, is
 * tried again, a few times. If the commit itself is interrupted, nobody knows what became of it: that is told with
 * {@link CommitUnknownException}, and only those who can find out go on.
 */
final class Database {

    /** A transaction's work. May be run several times. */
    @FunctionalInterface
    interface Work<T extends @Nullable Object> {
        T run(Tx tx) throws SQLException;
    }

    /**
     * What tests replace.
     *
     * @param now an expression for the database's clock; {@code null} for its own
     * @param ticker nanoseconds that pass
     * @param live whether time passes by itself: there are pauses, and signs of life
     * @param threads makes the store's own threads
     */
    record Seams(@Nullable Supplier<String> now, LongSupplier ticker, boolean live, Threads threads) {
        static final Seams NONE = new Seams(null, System::nanoTime, true);

        Seams(@Nullable Supplier<String> now, LongSupplier ticker, boolean live) {
            this(now, ticker, live, Threads.DAEMONS);
        }
    }

    /** Makes threads. */
    @FunctionalInterface
    interface Threads {
        Threads DAEMONS = (work, name) -> io.batchpersistence.internal.store.Threads.ofStore(name, work);

        Thread make(Runnable work, String name);
    }

    /** The connection was lost while the transaction committed. */
    static class CommitUnknownException extends SQLException {
        private static final long serialVersionUID = 1L;

        CommitUnknownException(SQLException cause) {
            super("it is not known whether the transaction was committed: " + Dialect.message(cause), cause);
        }
    }

    private static final Logger log = SingleLine.logger(Database.class);

    private static final int ATTEMPTS = 6;

    /** For a look that somebody waits for who wants to know how things are, and not to wait. */
    private static final int LOOK_SECONDS = 1;

    /** A transaction that takes longer is a problem. */
    private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(3);

    private static final String PID = "SELECT pg_backend_pid()";
    private static final int PID_LOOKS = 8;
    private static final long FIRST_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(4);

    /** Times further off are as good as never; what is added to them still fits. */
    private static final long FARTHEST = 1L << 61;

    /** A clock that differs by less from the database's is not corrected: times come back as they were given. */
    private static final long TOLERATED_MILLIS = 1_000;

    private final DataSource dataSource;
    private final JdbcStoreOptions options;
    private final DatabaseClock clock;
    private final Seams seams;
    private final int timeoutSeconds;

    private volatile @Nullable Dialect dialect;
    private volatile boolean setsIsolation;
    /** Whether connections come read-only, as a pool may have been told. */
    private volatile boolean comesReadOnly;
    /** PostgreSQL's own driver, where it can be reached. */
    private volatile @Nullable Pgjdbc driver;
    /**
     * Whether something between the driver and the server may give each transaction another server connection. Then nothing is prepared
     * on the server, and transactions begin and end with statements of this store, as what the driver prepares for that may be executed
     * as another client's statement of the same name.
     */
    private volatile boolean pooled;
    /** Why nothing can be trusted to such a pooler; {@code null} if all is well. */
    private volatile @Nullable String unsafe;
    /** Added to each statement: to the driver, it is another one than what it may have prepared before. */
    private volatile String suffix = "";

    private final AtomicInteger suffixes = new AtomicInteger();
    private volatile boolean embedded;
    /** The database's clock minus the callers'. */
    private volatile long ahead;
    /** The callers' clock for waits minus the one for ages: they may keep two, see {@link #noteNow}. */
    private volatile long waitsAhead;

    /** The most bytes that a statement can have, with its values. */
    private volatile long largestStatement = Long.MAX_VALUE;

    /** Which threads have a transaction under way, and since when. */
    private final Map<Thread, Long> waits = new ConcurrentHashMap<>();

    private volatile @Nullable String problem;
    /** Whether that was more than a lost connection: then only {@link #ready} ends it, since other statements may well succeed. */
    private volatile boolean refuses;
    /** Whether the tables are there: until then, that something can be asked is no news. */
    private volatile boolean ready;

    Database(DataSource dataSource, JdbcStoreOptions options, Seams seams) {
        this.dataSource = dataSource;
        this.options = options;
        this.seams = seams;
        this.clock = new DatabaseClock(options.lease().toNanos());
        this.timeoutSeconds =
                (int) Math.max(1, options.queryTimeout().plusMillis(999).toSeconds());
    }

    JdbcStoreOptions options() {
        return options;
    }

    int timeoutSeconds() {
        return timeoutSeconds;
    }

    long tick() {
        return seams.ticker().getAsLong();
    }

    boolean isLive() {
        return seams.live();
    }

    Threads threads() {
        return seams.threads();
    }

    /** Why the database can't be used; {@code null} if it can. */
    @Nullable
    String problem() {
        return problem;
    }

    /** The transaction of the calling thread takes long by itself: that is no sign of anything. */
    void takesLong() {
        waits.remove(Thread.currentThread());
    }

    /** That something is waited for longer than usual, which may well end by itself; {@code null} if nothing is. */
    @Nullable
    String waiting() {
        long now = tick();
        long longest = 0;
        for (long since : waits.values()) {
            longest = Math.max(longest, now - since);
        }
        return longest < PATIENCE_NANOS
                ? null
                : "a transaction of this store has waited for a connection, or for the database, for "
                        + TimeUnit.NANOSECONDS.toSeconds(longest)
                        + " s: somebody may have locked the tables (PostgreSQL: pg_stat_activity and pg_blocking_pids; MariaDB: SHOW"
                        + " PROCESSLIST), the pool may be too small, or the database too slow";
    }

    void problem(@Nullable String words) {
        String before = problem;
        problem = words; // first: logging may fail
        try {
            if (words != null && before == null) {
                log.warn("The store in the database can't be used: {}", words);
            } else if (words == null && before != null) {
                log.info("The store in the database can be used again");
            }
        } catch (RuntimeException | Error e) {
            // What the caller is about to be told matters more.
        }
    }

    /**
     * The database can't be used for a reason that others' successes say nothing about: it does not take what must be written.
     *
     * @param words why
     */
    void refuses(String words) {
        refuses = true;
        problem(words);
    }

    /** The database is there, and so are the tables, and it takes what is written. */
    void ready() {
        ready = true;
        refuses = false;
        problem(null);
    }

    Dialect dialect() {
        Dialect known = dialect;
        if (known == null) {
            throw new BatchPersistenceException(
                    "the database has not been reached yet: " + problem + "; it is tried again by itself", null);
        }
        return known;
    }

    /** Fills in the names of tables, and the time. */
    String sql(String text) {
        Dialect known = dialect();
        Supplier<String> replaced = seams.now();
        String filled = text.replace("{i}", options.tablePrefix());
        if (filled.contains("{now}")) {
            filled = filled.replace("{now}", replaced == null ? known.now() : replaced.get());
        }
        String schema = options.schema();
        return filled.replace("{p}", (schema == null ? "" : known.quoted(schema) + ".") + options.tablePrefix());
    }

    /** What the names of all tables begin with, for people: not quoted. */
    String tables() {
        return (options.schema() == null ? "" : options.schema() + ".") + options.tablePrefix();
    }

    /** Tells of a failure that changes nothing any more, if it can be told. */
    static void logged(Throwable failure) {
        try {
            log.error("Something failed after its transaction had been committed", failure);
        } catch (RuntimeException | Error e) {
            // Then logging is what fails.
        }
    }

    // ---- transactions ----------------------------------------------------------------------------

    private enum Mode {
        READ,
        LOOK,
        TRANSACTION,
        STATEMENT
    }

    /** Runs statements each of which is a transaction of its own, and changes nothing. */
    <T extends @Nullable Object> T read(Work<T> work) throws SQLException {
        return repeat(work, Mode.READ);
    }

    /** The same, but soon over: it fails if there is no answer within a second. */
    <T extends @Nullable Object> T look(Work<T> work) throws SQLException {
        return once(work, Mode.LOOK);
    }

    /** Runs a transaction. */
    <T extends @Nullable Object> T write(Work<T> work) throws SQLException {
        return repeat(work, Mode.TRANSACTION);
    }

    /** Runs a single statement that changes something, and is a transaction of its own: one round trip. */
    <T extends @Nullable Object> T writeAtOnce(Work<T> work) throws SQLException {
        return repeat(work, Mode.STATEMENT);
    }

    /** For the thread that calls: an interrupt is put off until it is done, and whatever fails says what was being done. */
    <T extends @Nullable Object> T call(String what, Call<T> call) {
        boolean begun = DeferredLog.begin(); // it may hold locks and connections that persisting needs
        boolean interrupted = Thread.interrupted();
        try {
            return call.run();
        } catch (SQLException e) {
            throw failed(what, e);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
            DeferredLog.end(begun);
        }
    }

    /** Something that asks the database. */
    @FunctionalInterface
    interface Call<T extends @Nullable Object> {
        T run() throws SQLException;
    }

    static BatchPersistenceException failed(String what, SQLException e) {
        return new BatchPersistenceException(what + " failed in the database: " + Dialect.message(e), e);
    }

    private <T extends @Nullable Object> T repeat(Work<T> work, Mode mode) throws SQLException {
        boolean interrupted = false;
        try {
            for (int attempt = 1; ; attempt++) {
                try {
                    T result = once(work, mode);
                    if (ready && problem != null && !refuses) {
                        problem(null);
                    }
                    return result;
                } catch (CommitUnknownException e) {
                    if (e.getCause() instanceof SQLException cause) {
                        prepareAnew(cause);
                    }
                    problem(Dialect.message(e));
                    throw e;
                } catch (SQLException e) {
                    boolean cutShort = Thread.interrupted(); // a pool's wait for a connection is
                    interrupted |= cutShort;
                    boolean lost = Dialect.isConnectionLost(e);
                    boolean again = cutShort
                            || prepareAnew(e)
                            || Dialect.isTransient(e)
                            || (lost && !(e instanceof NoConnection));
                    if (!again || attempt == ATTEMPTS) {
                        if (lost || e instanceof NoConnection) {
                            problem(Dialect.message(e));
                        } else if (ready && Dialect.isRefusal(e)) {
                            refuses(Dialect.message(e));
                        }
                        throw e;
                    }
                    long pause = FIRST_PAUSE_NANOS << attempt;
                    LockSupport.parkNanos(
                            pause / 2 + ThreadLocalRandom.current().nextLong(pause));
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** Whether there was no connection to be had, rather than one that was lost. */
    static boolean isNoConnection(SQLException failure) {
        return failure instanceof NoConnection;
    }

    /** There was no connection to be had. The pool has waited for one already, so it is no use to ask again. */
    private static final class NoConnection extends SQLException {
        private static final long serialVersionUID = 1L;

        NoConnection(SQLException cause) {
            super("no connection: " + Dialect.message(cause), cause.getSQLState(), cause.getErrorCode(), cause);
        }
    }

    void pause(long nanos) {
        if (seams.live()) {
            LockSupport.parkNanos(nanos);
        }
    }

    private Connection connect() throws SQLException {
        try {
            return dataSource.getConnection();
        } catch (SQLException e) {
            throw new NoConnection(e);
        } catch (RuntimeException e) { // of a pool that says it in its own way
            throw new NoConnection(new SQLNonTransientConnectionException(String.valueOf(e.getMessage()), "08001", e));
        }
    }

    /** Finds out what database it is, once. */
    void meet() throws SQLException {
        if (dialect != null) {
            return;
        }
        try (Connection connection = connect()) {
            Dialect met = Dialect.of(connection);
            embedded = met.isEmbedded(String.valueOf(connection.getMetaData().getURL()));
            boolean autoCommit = withAutoCommit(connection);
            if (met == Dialect.POSTGRESQL) {
                findPooler(connection);
            }
            // Elsewhere, what another transaction has committed meanwhile would not be seen by the statements after it.
            setsIsolation = pooled
                    ? !"read committed".equals(ask(connection, "SELECT current_setting('transaction_isolation')"))
                    : connection.getTransactionIsolation() != Connection.TRANSACTION_READ_COMMITTED;
            comesReadOnly =
                    connection.isReadOnly() && met != Dialect.H2; // H2 says that of a database, and knows no other
            if (!autoCommit) {
                connection.setAutoCommit(false);
            }
            dialect = met;
        }
    }

    // ---- poolers ---------------------------------------------------------------------------------

    /**
     * Finds out whether there is a pooler on the way to PostgreSQL. It tells each client a number that is not a server process' own. A
     * driver that keeps that number to itself still shows it if two connections that are open at the same time have one process, or one
     * has several.
     */
    private void findPooler(Connection connection) throws SQLException {
        Pgjdbc known = Pgjdbc.of(connection);
        driver = known;
        if (known != null) {
            if (!String.valueOf(known.backendPid(connection)).equals(ask(connection, PID))) {
                poolerFound();
            }
            return;
        }
        Set<String> mine = new HashSet<>();
        Set<String> others = new HashSet<>();
        try (Connection other = dataSource.getConnection()) {
            boolean autoCommit = withAutoCommit(other);
            for (int look = 0; look < PID_LOOKS; look++) {
                mine.add(ask(connection, PID));
                others.add(ask(other, PID));
            }
            if (!autoCommit) {
                other.setAutoCommit(false);
            }
        } catch (SQLException e) {
            if (Dialect.isForeignStatement(e)) {
                poolerFound();
            }
            log.debug("It could not be found out whether there is a pooler", e);
        }
        if (mine.size() > 1 || others.size() > 1 || mine.equals(others)) {
            poolerFound();
        }
    }

    /** Else all statements would be one transaction, and a pooler would have all of them executed by one process. */
    private static boolean withAutoCommit(Connection connection) throws SQLException {
        boolean before = connection.getAutoCommit();
        if (!before) {
            connection.setAutoCommit(true);
        }
        return before;
    }

    /** Looks again: what is on the way to the database can change while this runs. */
    void lookForPooler() throws SQLException {
        if (dialect != Dialect.POSTGRESQL || pooled || unsafe != null) {
            return;
        }
        try (Connection connection = connect()) {
            boolean autoCommit = withAutoCommit(connection);
            findPooler(connection);
            if (!autoCommit) {
                connection.setAutoCommit(false);
            }
        }
    }

    private void poolerFound() {
        if (driver != null) {
            if (!pooled) {
                pooled = true;
                log.info(
                        "There is a pooler between this application and PostgreSQL: the store prepares nothing on the server. The"
                                + " application's own transactions need prepareThreshold=0 in the driver's URL if the pooler gives each"
                                + " transaction another server connection");
            }
        } else {
            unsafe =
                    "a pooler gives each transaction another server connection, and the driver may prepare statements on them, so that"
                            + " a commit can be executed as another client's rollback: set prepareThreshold=0 in the driver's URL and let"
                            + " the DataSource unwrap org.postgresql.PGConnection, or set the pooler's pool_mode to session, and restart the application";
        }
    }

    /**
     * Sees whether something failed because of how it had been prepared: then everything is prepared anew, and more carefully, if it
     * was not what this connection had prepared.
     *
     * @return whether it may do when it is tried again
     */
    private boolean prepareAnew(SQLException failure) {
        if (dialect != Dialect.POSTGRESQL) {
            return false;
        }
        boolean foreign = Dialect.isForeignStatement(failure);
        if (foreign) {
            poolerFound();
        }
        if (foreign || Dialect.isStalePlan(failure)) {
            suffix = " /* " + suffixes.incrementAndGet() + " */";
            return true;
        }
        return false;
    }

    private String ask(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = prepare(connection, sql);
                ResultSet row = statement.executeQuery()) {
            row.next();
            return String.valueOf(row.getString(1));
        }
    }

    /** Makes a statement of a text that is complete. */
    PreparedStatement prepare(Connection connection, String sql) throws SQLException {
        Pgjdbc careful = pooled || dialect == null ? driver : null;
        if (careful == null) {
            return connection.prepareStatement(sql + suffix);
        }
        PreparedStatement statement = connection.prepareStatement(sql + suffix + " /* not prepared */");
        try {
            careful.neverPrepares(statement);
        } catch (SQLException | RuntimeException e) {
            try (statement) {
                throw e;
            }
        }
        return statement;
    }

    /** Without a limit of time: a commit that waits for a standby would not be undone if it were cancelled. */
    private void end(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = prepare(connection, sql)) {
            statement.execute();
        }
    }

    /** Whether tables that are missing are made. */
    boolean makesTables() {
        return switch (options.initializeSchema()) {
            case ALWAYS -> true;
            case NEVER -> false;
            case EMBEDDED -> embedded;
        };
    }

    private <T extends @Nullable Object> T once(Work<T> work, Mode mode) throws SQLException {
        var unused = dialect(); // until it has been met, nobody but who tries to meet it waits for a connection
        requireSafe();
        Thread thread = Thread.currentThread();
        waits.put(thread, tick());
        try {
            return once(work, mode, connect());
        } finally {
            waits.remove(thread);
        }
    }

    private <T extends @Nullable Object> T once(Work<T> work, Mode mode, Connection connection) throws SQLException {
        Way way = new Way(mode == Mode.TRANSACTION, pooled, setsIsolation, comesReadOnly);
        int isolation = Connection.TRANSACTION_READ_COMMITTED;
        boolean autoCommit = true;
        boolean done = false;
        try {
            autoCommit = connection.getAutoCommit();
            if (autoCommit == way.driverBegins()) {
                connection.setAutoCommit(!way.driverBegins());
            }
            if (way.setsWritable()) {
                connection.setReadOnly(false);
            }
            if (way.setsLevel()) {
                isolation = connection.getTransactionIsolation();
                connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            }
            if (way.begins()) {
                end(connection, way.begin());
            }
            Tx tx = new Tx(this, connection, mode == Mode.LOOK ? LOOK_SECONDS : timeoutSeconds);
            T result;
            try {
                result = work.run(tx);
            } catch (SQLException e) {
                if (mode == Mode.STATEMENT && Dialect.isConnectionLost(e)) {
                    throw new CommitUnknownException(e); // it may have got there all the same
                }
                throw e;
            }
            if (way.begins() || way.driverBegins()) {
                commit(connection, way);
            }
            tx.committed();
            done = true;
            return result;
        } finally {
            leave(connection, way, done, autoCommit, isolation);
        }
    }

    /**
     * How a transaction is made.
     *
     * @param transaction whether what is to be run needs one
     * @param pooled whether the driver must have nothing to do with it
     * @param otherLevel whether connections come with another isolation level
     * @param readOnly whether they come read-only
     */
    private record Way(boolean transaction, boolean pooled, boolean otherLevel, boolean readOnly) {
        boolean driverBegins() {
            return transaction && !pooled;
        }

        boolean begins() {
            return pooled && (transaction || otherLevel || readOnly);
        }

        /** Not more than is needed: a standby refuses to begin what writes in a way that says nothing about that. */
        String begin() {
            return "BEGIN ISOLATION LEVEL READ COMMITTED" + (readOnly ? ", READ WRITE" : "");
        }

        /** Not behind a pooler: it would be another client's level, too. */
        boolean setsLevel() {
            return otherLevel && !pooled;
        }

        /** For the same reason. */
        boolean setsWritable() {
            return readOnly && !pooled;
        }
    }

    private void requireSafe() throws SQLException {
        String why = unsafe;
        if (why != null) {
            refuses(why);
            throw new SQLException(why);
        }
    }

    private void commit(Connection connection, Way way) throws SQLException {
        try {
            if (way.begins()) {
                end(connection, "COMMIT");
            } else {
                connection.commit();
            }
        } catch (SQLException e) {
            if (Dialect.isTransient(e)) {
                throw e; // rolled back, and it says so
            }
            throw new CommitUnknownException(e);
        } catch (RuntimeException | Error e) {
            throw new CommitUnknownException(new SQLException("the driver failed: " + e, e));
        }
    }

    /** Gives a connection back as it was. What fails here is the connection's end, and no news about the transaction. */
    private void leave(Connection connection, Way way, boolean done, boolean autoCommit, int isolation) {
        try (connection) {
            if (!done && way.begins()) {
                rollback(connection);
            } else if (!done && way.driverBegins()) {
                connection.rollback();
            }
            if (way.setsLevel()) {
                if (way.driverBegins()) {
                    connection.setAutoCommit(true);
                }
                connection.setTransactionIsolation(isolation);
            }
            if (way.setsWritable()) {
                connection.setReadOnly(true);
            }
            if (connection.getAutoCommit() != autoCommit) {
                connection.setAutoCommit(autoCommit);
            }
        } catch (SQLException e) {
            log.debug("A connection could not be left as it was", e);
        }
    }

    /** The pool does not know of the transaction: a connection that is still in it must not get to anybody else. */
    private void rollback(Connection connection) throws SQLException {
        boolean over = false;
        try {
            end(connection, "ROLLBACK");
            over = true;
        } finally {
            if (!over) {
                connection.abort(Runnable::run);
            }
        }
    }

    // ---- limits ----------------------------------------------------------------------------------

    /** The most bytes that a statement can have, with its values, as the database said last. */
    long largestStatement() {
        return largestStatement;
    }

    /** Asks the database how large a statement can be: whoever administers it may change that at any time. */
    void readLimits() throws SQLException {
        String query = dialect().largestStatement();
        if (query != null) {
            Long limit = read(tx -> tx.one(query, Reader.LONG));
            largestStatement = limit == null ? Long.MAX_VALUE : limit;
        }
    }

    // ---- times -----------------------------------------------------------------------------------

    /**
     * Learns what callers take for now when they wait for something: that may lag behind their clock, when it jumps.
     *
     * @param now their time
     */
    void noteNow(Instant now) {
        waitsAhead = millis(now) - options.clock().millis();
    }

    /**
     * A time that somebody waits for, as a distance.
     *
     * @param time on the callers' clock for waits
     * @return milliseconds to add to the database's now
     */
    long untilWait(Instant time) {
        return until(time, waitsAhead);
    }

    /**
     * A time as a distance.
     *
     * @param time on the callers' clock
     * @return milliseconds to add to the database's now
     */
    long until(Instant time) {
        return until(time, 0);
    }

    private long until(Instant time, long clockAhead) {
        return within(millis(time) - within(options.clock().millis() + clockAhead));
    }

    /**
     * What is between two times of one clock.
     *
     * @param from the earlier
     * @param to the later
     * @return milliseconds
     */
    static long between(Instant from, Instant to) {
        return within(millis(to) - millis(from));
    }

    /** As milliseconds; those that are as good as endless as the longest that can be added to any time. */
    static long millis(Duration duration) {
        return duration.toSeconds() >= FARTHEST / 1_000 ? FARTHEST : within(duration.toMillis());
    }

    private static long millis(Instant time) {
        if (time.getEpochSecond() >= FARTHEST / 1_000) {
            return FARTHEST;
        }
        return time.getEpochSecond() <= -FARTHEST / 1_000 ? -FARTHEST : time.toEpochMilli();
    }

    private static long within(long millis) {
        return Math.max(-FARTHEST, Math.min(FARTHEST, millis));
    }

    /**
     * A time of the database as callers are to see it.
     *
     * @param millis on the database's clock
     * @return on theirs
     */
    Instant shown(long millis) {
        return Instant.ofEpochMilli(millis - ahead);
    }

    /**
     * The other way round: a time as it is kept.
     *
     * @param time on the callers' clock
     * @return milliseconds on the database's clock
     */
    long kept(Instant time) {
        return within(millis(time)) + ahead;
    }

    @Nullable
    Instant shownOrNull(@Nullable Long millis) {
        return millis == null ? null : shown(millis);
    }

    /**
     * Reads the database's clock and compares it with the callers'. A small difference counts as none, and one that is known goes on
     * counting while it is about the same: else the time at which a batch was persisted would be another one at each look.
     */
    void readClock() throws SQLException {
        read(tx -> {
            readClock(tx);
            return null;
        });
    }

    private void readClock(Tx tx) throws SQLException {
        Clock callers = options.clock();
        long tickBefore = tick();
        long before = callers.millis();
        Long now = tx.one("SELECT {now}", Reader.LONG);
        if (now != null && clock.read(tickBefore, now, tick(), before)) {
            long measured = now - before - (callers.millis() - before) / 2;
            if (Math.abs(measured - ahead) > TOLERATED_MILLIS) {
                ahead = Math.abs(measured) > TOLERATED_MILLIS ? measured : 0;
            }
        }
    }

    /** The same, to compare with what others have written. */
    long time() throws SQLException {
        if (clock.isDoubtful(tick(), options.clock().millis())) {
            readClock();
        }
        return clock.now(tick());
    }

    /** Whether the database's clock shows what the callers' does, about. */
    boolean agreesWithCallers() {
        return ahead == 0;
    }

    /**
     * The time to write: the database's clock as this instance has followed it. It is read again, in the same transaction, if this
     * machine has been suspended since, or its clock was set.
     */
    long time(Tx tx) throws SQLException {
        if (clock.isDoubtful(tick(), options.clock().millis())) {
            readClock(tx);
        }
        return clock.now(tick());
    }

    /** The database's clock, as far as this instance has followed it. */
    DatabaseClock clock() {
        return clock;
    }
}
