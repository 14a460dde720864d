package io.batchpersistence.store.jdbc;

import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLNonTransientConnectionException;
import java.sql.SQLRecoverableException;
import java.sql.SQLTransientConnectionException;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** In what databases differ, and nothing else does. */
enum Dialect {
    POSTGRESQL("postgresql", "CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS bigint)") {
        @Override
        String insertEnd() {
            // Without it, a batch that is held already would end the transaction, which may be the caller's.
            return " ON CONFLICT (batch_id) DO NOTHING";
        }

        @Override
        boolean claimsInOneStatement() {
            return true;
        }

        @Override
        boolean returnsDeleted() {
            return true;
        }

        @Override
        String firstOfMany(boolean oldestFirst) {
            // Were the type a constant, the primary key would give the same order, and with it go all batches of other
            // types.
            String direction = oldestFirst ? "" : " DESC";
            return "FROM {p}batch WHERE collector_type >= ? AND collector_type <= ? AND state = 0 AND due_at <= {now}"
                    + " ORDER BY collector_type" + direction + ", seq" + direction;
        }

        @Override
        List<String> typeOfMany(String collectorType) {
            return List.of(collectorType, collectorType);
        }
    },
    /** MySQL, too. */
    MARIADB("mariadb", "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000)") {
        @Override
        String firstOfMany(boolean oldestFirst) {
            return super.firstOfMany(oldestFirst).replace("{p}batch", "{p}batch FORCE INDEX (seq)");
        }
    },
    H2("h2", "CAST(FLOOR(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000) AS BIGINT)");

    /** MariaDB: lock wait timeout, deadlock, record has changed since last read. H2: lock timeout, concurrent update. */
    private static final Set<Integer> TRANSIENT_CODES = Set.of(1205, 1213, 1020, 50200, 90131);

    /** PostgreSQL's, MariaDB's, and those of H2. */
    private static final Set<String> MISSING_STATES = Set.of("42P01", "42S02", "42S03", "42S04");

    /** PostgreSQL: shut down, crashed, starting or shutting down. */
    private static final Set<String> LOST_STATES = Set.of("57P01", "57P02", "57P03");

    /** H2: connection broken, database closed. */
    private static final Set<Integer> LOST_CODES = Set.of(90067, 90098, 90121);

    private final String id;
    private final String now;

    Dialect(String id, String now) {
        this.id = id;
        this.now = now;
    }

    static Dialect of(Connection connection) throws SQLException {
        String product = connection.getMetaData().getDatabaseProductName();
        return switch (product.toLowerCase(Locale.ROOT)) {
            case "postgresql" -> POSTGRESQL;
            case "mariadb", "mysql" -> MARIADB;
            case "h2" -> H2;
            default ->
                throw new SQLException(
                        "the database is " + product + ", but must be PostgreSQL, MariaDB, MySQL or H2", "0A000");
        };
    }

    /** Whether that database lives in this process's memory, and nowhere else. */
    boolean isEmbedded(String url) {
        return this == H2 && url.startsWith("jdbc:h2:mem:");
    }

    /** What its scripts are called by. */
    String id() {
        return id;
    }

    /**
     * The database's clock in milliseconds since 1970, whatever time zones there are. The same all through a statement, else no
     * index could be used with it.
     */
    String now() {
        return now;
    }

    /** How to end an insert of batches so that what is held already is left out; it fails if that is empty. */
    String insertEnd() {
        return "";
    }

    /**
     * From where, and in what order, to take the first ones of many that are due, along an index of those that are pending.
     */
    String firstOfMany(boolean oldestFirst) {
        return "FROM {p}batch WHERE collector_type = ? AND state = 0 AND due_at <= {now} ORDER BY seq"
                + (oldestFirst ? "" : " DESC");
    }

    /** The values for that. */
    List<String> typeOfMany(String collectorType) {
        return List.of(collectorType);
    }

    /** Whether one statement can select for update, update what that found, and something else, and return it. */
    boolean claimsInOneStatement() {
        return false;
    }

    /** Whether a delete can return what it has deleted. */
    boolean returnsDeleted() {
        return false;
    }

    /**
     * Whether the transaction was rolled back for the sake of another one, so that it may do when it is tried again.
     *
     * @param failure a failure of a statement, or of a commit
     */
    static boolean isTransient(SQLException failure) {
        for (SQLException e = failure; e != null; e = e.getNextException()) {
            String state = state(e);
            if ((state.startsWith("40") && !state.equals("40003"))
                    || state.equals("55P03")
                    || TRANSIENT_CODES.contains(e.getErrorCode())) {
                return true;
            }
        }
        return false;
    }

    /** Whether the connection is of no use any more, or there was none to be had. */
    static boolean isConnectionLost(SQLException failure) {
        for (SQLException e = failure; e != null; e = e.getNextException()) {
            String state = state(e);
            if (e instanceof SQLTransientConnectionException
                    || e instanceof SQLNonTransientConnectionException
                    || e instanceof SQLRecoverableException
                    || state.startsWith("08")
                    || LOST_STATES.contains(state)
                    || LOST_CODES.contains(e.getErrorCode())) {
                return true;
            }
        }
        return false;
    }

    static boolean isDuplicate(SQLException failure) {
        for (SQLException e = failure; e != null; e = e.getNextException()) {
            if (state(e).equals("23505") || e.getErrorCode() == 1062) {
                return true;
            }
        }
        return false;
    }

    /** Whether a statement has made itself fail, by dividing by zero, because something was not there. */
    static boolean isGuard(SQLException failure) {
        return state(failure).equals("22012");
    }

    static boolean isMissingTable(SQLException failure) {
        return MISSING_STATES.contains(state(failure));
    }

    /** Its first line: further ones may quote what was to be stored, and so does what a driver says of a batch of statements. */
    static String message(SQLException failure) {
        SQLException next = failure instanceof BatchUpdateException ? failure.getNextException() : null;
        String message = String.valueOf((next == null ? failure : next).getMessage());
        int end = message.indexOf('\n');
        return end < 0 ? message : message.substring(0, end);
    }

    private static String state(SQLException failure) {
        String state = failure.getSQLState();
        return state == null ? "" : state;
    }
}
