package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.jdbc.Tx.Reader;
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
 * <p>A transaction that the database rolls back because of a conflict with another one, or whose connection is lost
 * before its commit, is retried a few times. If the commit itself is interrupted, its outcome is unknown: that is
 * reported as {@link CommitUnknownException}, and only callers that can find out the outcome continue.
 */
final class Database {

    /** The work of a transaction. May be run several times. */
    @FunctionalInterface
    interface Work<T extends @Nullable Object> {
        T run(Tx tx) throws SQLException;
    }

    /**
     * The parts that tests replace.
     *
     * @param now an SQL expression for the database's clock; {@code null} for its own
     * @param ticker a monotonic clock, nanoseconds
     * @param live whether time passes by itself: there are pauses, and heartbeats
     * @param threads creates the store's own threads
     */
    record Seams(@Nullable Supplier<String> now, LongSupplier ticker, boolean live, Threads threads) {
        static final Seams NONE = new Seams(null, System::nanoTime, true);

        Seams(@Nullable Supplier<String> now, LongSupplier ticker, boolean live) {
            this(now, ticker, live, Threads.DAEMONS);
        }
    }

    /** Creates threads. */
    @FunctionalInterface
    interface Threads {
        Threads DAEMONS = (work, name) -> io.batchpersistence.internal.spi.Threads.ofStore(name, work);

        Thread make(Runnable work, String name);
    }

    /** The connection was lost while the transaction committed. */
    static class CommitUnknownException extends SQLException {
        private static final long serialVersionUID = 1L;

        CommitUnknownException(SQLException cause) {
            super("it is not known whether the transaction was committed: " + Dialect.message(cause), cause);
        }
    }

    private static final Logger log = LogSanitizer.logger(Database.class);

    private static final int ATTEMPTS = 6;

    /** The time limit of a statement for a caller that wants to know the current state without waiting. */
    private static final int QUICK_TIMEOUT_SECONDS = 1;

    /** A transaction that takes longer is reported as a problem. */
    private static final long SLOW_AFTER_NANOS = TimeUnit.SECONDS.toNanos(3);

    private static final String PENDING = String.valueOf(Row.number(BatchState.PENDING));
    private static final String IN_FLIGHT = String.valueOf(Row.number(BatchState.IN_FLIGHT));
    private static final String DEAD = String.valueOf(Row.number(BatchState.DEAD));

    private static final String PID = "SELECT pg_backend_pid()";
    private static final int PID_LOOKS = 8;
    private static final long FIRST_PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(4);

    /** Milliseconds. More distant times are as good as never; a sum with this value still fits into a long. */
    private static final long MAX_MILLIS = 1L << 61;

    /**
     * A difference between the callers' and the database's clock below this is not corrected: times are returned as
     * they were given.
     */
    private static final long TOLERATED_MILLIS = 1_000;

    private final DataSource dataSource;
    private final JdbcStoreOptions options;
    private final DatabaseClock clock;
    private final Seams seams;
    private final int timeoutSeconds;

    private volatile @Nullable Dialect dialect;
    private volatile boolean setsIsolation;
    /** Whether connections are read-only by default, as a pool may be configured. */
    private volatile boolean comesReadOnly;
    /** PostgreSQL's own driver, if it can be reached. */
    private volatile @Nullable Pgjdbc driver;
    /**
     * Whether a pooler between the driver and the server may give each transaction another server connection. Then
     * nothing is prepared on the server, and transactions begin and end with statements of this store: the statement
     * that the driver prepares for that might execute as another client's statement of the same name.
     */
    private volatile boolean pooled;
    /** Why the store can't work safely behind such a pooler; {@code null} if it can. */
    private volatile @Nullable String unsafe;
    /**
     * Appended to each statement, so that the driver treats it as another statement than those that it may have
     * prepared before.
     */
    private volatile String suffix = "";

    private final AtomicInteger suffixes = new AtomicInteger();
    private volatile boolean embedded;
    /** The database's clock minus the callers' clock, milliseconds. */
    private volatile long ahead;
    /**
     * The callers' clock for waits minus their clock for ages, milliseconds: they may use two, see {@link #noteNow}.
     */
    private volatile long waitsAhead;

    /** The maximum size of a statement in bytes, with its values. */
    private volatile long largestStatement = Long.MAX_VALUE;

    /** The threads with a transaction under way, and since when. */
    private final Map<Thread, Long> waits = new ConcurrentHashMap<>();

    private volatile @Nullable String problem;
    /**
     * Whether the problem is more than a lost connection: then only {@link #ready} clears it, since other statements
     * may well succeed.
     */
    private volatile boolean refuses;
    /** Whether the tables are known to exist: until then, a successful query does not clear the problem. */
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

    /**
     * Excludes the transaction of the calling thread from {@link #waiting}: it takes long by nature, which is no sign
     * of a problem.
     */
    void takesLong() {
        waits.remove(Thread.currentThread());
    }

    /** Describes a wait that takes longer than usual, but may well end by itself; {@code null} if there is none. */
    @Nullable
    String waiting() {
        long now = tick();
        long longest = 0;
        for (long since : waits.values()) {
            longest = Math.max(longest, now - since);
        }
        return longest < SLOW_AFTER_NANOS
                ? null
                : "a transaction of this store has waited for a connection, or for the database, for "
                        + TimeUnit.NANOSECONDS.toSeconds(longest)
                        + " s: another session may have locked the tables (PostgreSQL: pg_stat_activity and pg_blocking_pids; MariaDB: SHOW"
                        + " PROCESSLIST), the pool may be too small, or the database too slow";
    }

    void problem(@Nullable String words) {
        String before = problem;
        // First, since logging may fail.
        problem = words;
        try {
            if (words != null && before == null) {
                log.warn("The store in the database can't be used: {}", words);
            } else if (words == null && before != null) {
                log.info("The store in the database can be used again");
            }
        } catch (RuntimeException | Error e) {
            // A failure to log must not hide what the caller is about to report.
        }
    }

    /**
     * Records that the database can't be used for a reason that successes of other statements don't disprove: it does
     * not accept what must be written.
     */
    void refuses(String words) {
        refuses = true;
        problem(words);
    }

    /** Records that the database is reachable, has the tables, and accepts writes. */
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

    /** Fills in the table names, the numbers of the states, and the expression for the time. */
    String sql(String text) {
        Dialect known = dialect();
        Supplier<String> replaced = seams.now();
        String filled = text.replace("{i}", options.tablePrefix())
                .replace("{pending}", PENDING)
                .replace("{in_flight}", IN_FLIGHT)
                .replace("{dead}", DEAD);
        if (filled.contains("{now}")) {
            filled = filled.replace("{now}", replaced == null ? known.now() : replaced.get());
        }
        String schema = options.schema();
        return filled.replace("{p}", (schema == null ? "" : known.quoted(schema) + ".") + options.tablePrefix());
    }

    /** The prefix of all table names for messages: not quoted. */
    String tables() {
        return (options.schema() == null ? "" : options.schema() + ".") + options.tablePrefix();
    }

    /** Logs a failure that has no effect any more, if it can be logged. */
    static void logged(Throwable failure) {
        try {
            log.error("Something failed after its transaction had been committed", failure);
        } catch (RuntimeException | Error e) {
            // Logging itself failed.
        }
    }

    // ---- transactions ----------------------------------------------------------------------------

    private enum Mode {
        READ,
        LOOK,
        TRANSACTION,
        STATEMENT
    }

    /** Runs read-only statements, each of which is a transaction of its own. */
    <T extends @Nullable Object> T read(Work<T> work) throws SQLException {
        return repeat(work, Mode.READ);
    }

    /**
     * Runs read-only statements like {@link #read}, but without retries, and fails if a statement is not answered
     * within a second.
     */
    <T extends @Nullable Object> T readQuickly(Work<T> work) throws SQLException {
        return once(work, Mode.LOOK);
    }

    /** Runs a transaction. */
    <T extends @Nullable Object> T write(Work<T> work) throws SQLException {
        return repeat(work, Mode.TRANSACTION);
    }

    /** Runs a single writing statement that is a transaction of its own: one round trip. */
    <T extends @Nullable Object> T writeAtOnce(Work<T> work) throws SQLException {
        return repeat(work, Mode.STATEMENT);
    }

    /**
     * Runs a call on the calling thread: an interrupt is deferred until it is done, and an exception says what was
     * being done.
     */
    <T extends @Nullable Object> T call(String what, Call<T> call) {
        // The call may hold locks and connections that persisting needs.
        boolean begun = DeferredLog.begin();
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

    /** A call that queries the database. */
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
                    // An interrupt ends a pool's wait for a connection.
                    boolean cutShort = Thread.interrupted();
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

    /** Whether no connection could be obtained, as opposed to one that was lost. */
    static boolean isNoConnection(SQLException failure) {
        return failure instanceof NoConnection;
    }

    /** No connection could be obtained. The pool has already waited for one, so a retry is no use. */
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
        } catch (RuntimeException e) {
            // Some pools report it with an exception of their own.
            throw new NoConnection(new SQLNonTransientConnectionException(String.valueOf(e.getMessage()), "08001", e));
        }
    }

    /** Detects the kind of database, once. */
    void inspect() throws SQLException {
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
            // At other isolation levels, later statements would not see what another transaction has committed
            // meanwhile.
            setsIsolation = pooled
                    ? !"read committed".equals(queryOne(connection, "SELECT current_setting('transaction_isolation')"))
                    : connection.getTransactionIsolation() != Connection.TRANSACTION_READ_COMMITTED;
            // In H2, read-only is a property of the database, not of the connection.
            comesReadOnly = connection.isReadOnly() && met != Dialect.H2;
            if (!autoCommit) {
                connection.setAutoCommit(false);
            }
            dialect = met;
        }
    }

    // ---- poolers ---------------------------------------------------------------------------------

    /**
     * Detects a pooler between this process and PostgreSQL. A pooler tells each client a process id that is not the one
     * of a server process. If the driver does not reveal that id, a pooler still shows in two connections that are open
     * at the same time: both have one server process, or one of them has several.
     */
    private void findPooler(Connection connection) throws SQLException {
        Pgjdbc known = Pgjdbc.of(connection);
        driver = known;
        if (known != null) {
            if (!String.valueOf(known.backendPid(connection)).equals(queryOne(connection, PID))) {
                poolerFound();
            }
            return;
        }
        Set<String> mine = new HashSet<>();
        Set<String> others = new HashSet<>();
        try (Connection other = dataSource.getConnection()) {
            boolean autoCommit = withAutoCommit(other);
            for (int look = 0; look < PID_LOOKS; look++) {
                mine.add(queryOne(connection, PID));
                others.add(queryOne(other, PID));
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

    /**
     * Turns auto-commit on, and returns whether it was on. Without it, all statements would be one transaction, which a
     * pooler would have executed by a single process.
     */
    private static boolean withAutoCommit(Connection connection) throws SQLException {
        boolean before = connection.getAutoCommit();
        if (!before) {
            connection.setAutoCommit(true);
        }
        return before;
    }

    /** Detects a pooler again: what is between this process and the database can change while this runs. */
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
     * Checks whether a statement failed because of how it had been prepared, so that a retry may succeed. If so,
     * everything is prepared again, and more carefully if the statement executed was not the one that this connection
     * had prepared.
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

    private String queryOne(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = prepare(connection, sql);
                ResultSet row = statement.executeQuery()) {
            row.next();
            return String.valueOf(row.getString(1));
        }
    }

    /** Creates a statement from SQL without placeholders for names and times. */
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

    /**
     * Executes a statement that ends or begins a transaction, without a time limit: cancelling a commit that waits for
     * a standby would not undo it.
     */
    private void end(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = prepare(connection, sql)) {
            statement.execute();
        }
    }

    /** Whether missing tables are created. */
    boolean makesTables() {
        return switch (options.initializeSchema()) {
            case ALWAYS -> true;
            case NEVER -> false;
            case EMBEDDED -> embedded;
        };
    }

    private <T extends @Nullable Object> T once(Work<T> work, Mode mode) throws SQLException {
        // Throws until the kind of database is known: until then, only the thread that detects it waits for a
        // connection.
        var unused = dialect();
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
        TransactionMode way = new TransactionMode(mode == Mode.TRANSACTION, pooled, setsIsolation, comesReadOnly);
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
            Tx tx = new Tx(this, connection, mode == Mode.LOOK ? QUICK_TIMEOUT_SECONDS : timeoutSeconds);
            T result;
            try {
                result = work.run(tx);
            } catch (SQLException e) {
                if (mode == Mode.STATEMENT && Dialect.isConnectionLost(e)) {
                    // The statement may have been executed all the same.
                    throw new CommitUnknownException(e);
                }
                throw e;
            }
            SQLException doubt = tx.doubt();
            if (mode == Mode.STATEMENT && !way.begins() && doubt != null) {
                throw new CommitUnknownException(doubt);
            }
            if (way.begins() || way.driverBegins()) {
                commit(connection, way);
            }
            tx.committed();
            done = true;
            return result;
        } finally {
            restoreAndClose(connection, way, done, autoCommit, isolation);
        }
    }

    /**
     * How a transaction is run.
     *
     * @param transaction whether the work needs a transaction
     * @param pooled whether the driver must not begin and end it
     * @param otherLevel whether connections have another isolation level by default
     * @param readOnly whether connections are read-only by default
     */
    private record TransactionMode(boolean transaction, boolean pooled, boolean otherLevel, boolean readOnly) {
        boolean driverBegins() {
            return transaction && !pooled;
        }

        boolean begins() {
            return pooled && (transaction || otherLevel || readOnly);
        }

        /**
         * Requests read-write only where needed: a standby refuses to begin a read-write transaction with an error that
         * does not tell the cause.
         */
        String begin() {
            return "BEGIN ISOLATION LEVEL READ COMMITTED" + (readOnly ? ", READ WRITE" : "");
        }

        /** Not behind a pooler: the level would apply to other clients, too. */
        boolean setsLevel() {
            return otherLevel && !pooled;
        }

        /** Not behind a pooler: the mode would apply to other clients, too. */
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

    private void commit(Connection connection, TransactionMode way) throws SQLException {
        try {
            if (way.begins()) {
                end(connection, "COMMIT");
            } else {
                connection.commit();
            }
        } catch (SQLException e) {
            if (Dialect.isTransient(e)) {
                // The database reports that it has rolled back.
                throw e;
            }
            throw new CommitUnknownException(e);
        } catch (RuntimeException | Error e) {
            throw new CommitUnknownException(new SQLException("the driver failed: " + e, e));
        }
    }

    /**
     * Returns a connection in its original state. A failure here means that the connection is broken, and says nothing
     * about the transaction.
     */
    private void restoreAndClose(
            Connection connection, TransactionMode way, boolean done, boolean autoCommit, int isolation) {
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

    /**
     * Rolls back a transaction that the pool does not know of: if that fails, the connection is aborted, since it must
     * not be handed to another thread while still in the transaction.
     */
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

    /** The maximum size of a statement in bytes, with its values, as last read from the database. */
    long largestStatement() {
        return largestStatement;
    }

    /** Reads the maximum size of a statement from the database: its administrator may change it at any time. */
    void readLimits() throws SQLException {
        String query = dialect().largestStatement();
        if (query != null) {
            Long limit = read(tx -> tx.one(query, Reader.LONG));
            largestStatement = limit == null ? Long.MAX_VALUE : limit;
        }
    }

    // ---- times -----------------------------------------------------------------------------------

    /** Records the callers' now for waits, which may lag behind their clock when that jumps. */
    void noteNow(Instant now) {
        waitsAhead = millis(now) - options.clock().millis();
    }

    /** Converts the end of a wait, on the callers' clock for waits, to milliseconds to add to the database's now. */
    long waitToDatabaseMillis(Instant time) {
        return toDatabaseMillis(time, waitsAhead);
    }

    /** Converts a time on the callers' clock to milliseconds to add to the database's now. */
    long toDatabaseMillis(Instant time) {
        return toDatabaseMillis(time, 0);
    }

    private long toDatabaseMillis(Instant time, long clockAhead) {
        return within(millis(time) - within(options.clock().millis() + clockAhead));
    }

    /** The milliseconds between two times of one clock. */
    static long between(Instant from, Instant to) {
        return within(millis(to) - millis(from));
    }

    /**
     * Converts a duration to milliseconds; one that is as good as endless becomes the longest that can be added to any
     * time.
     */
    static long millis(Duration duration) {
        return duration.toSeconds() >= MAX_MILLIS / 1_000 ? MAX_MILLIS : within(duration.toMillis());
    }

    private static long millis(Instant time) {
        if (time.getEpochSecond() >= MAX_MILLIS / 1_000) {
            return MAX_MILLIS;
        }
        return time.getEpochSecond() <= -MAX_MILLIS / 1_000 ? -MAX_MILLIS : time.toEpochMilli();
    }

    private static long within(long millis) {
        return Math.max(-MAX_MILLIS, Math.min(MAX_MILLIS, millis));
    }

    /** Converts milliseconds on the database's clock to a time on the callers' clock. */
    Instant callerTime(long millis) {
        return Instant.ofEpochMilli(millis - ahead);
    }

    /** Converts a time on the callers' clock to milliseconds on the database's clock. */
    long storedMillis(Instant time) {
        return within(millis(time)) + ahead;
    }

    @Nullable
    Instant callerTimeOrNull(@Nullable Long millis) {
        return millis == null ? null : callerTime(millis);
    }

    /**
     * Reads the database's clock and compares it with the callers' clock. A small difference is ignored, and a known
     * one is kept as long as the measured one is about the same: otherwise the time at which a batch was persisted
     * would be different each time it is read.
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

    /**
     * Returns the time to compare with what others have written: the database's clock as this instance has followed it.
     * It is read again if this machine has been suspended since, or its clock was set.
     */
    long time() throws SQLException {
        if (isClockDoubtful()) {
            readClock();
        }
        return clock.now(tick());
    }

    private boolean isClockDoubtful() {
        return clock.isDoubtful(tick(), options.clock().millis());
    }

    /** Whether the database's clock and the callers' clock agree, within a tolerance. */
    boolean agreesWithCallers() {
        return ahead == 0;
    }

    /**
     * Returns the time to write: the database's clock as this instance has followed it. It is read again, in the same
     * transaction, if this machine has been suspended since, or its clock was set.
     */
    long time(Tx tx) throws SQLException {
        if (isClockDoubtful()) {
            readClock(tx);
        }
        return clock.now(tick());
    }

    /** The database's clock, as far as this instance has followed it. */
    DatabaseClock clock() {
        return clock;
    }
}
