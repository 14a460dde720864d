package io.batchpersistence.jdbc;

import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLNonTransientConnectionException;
import java.sql.SQLRecoverableException;
import java.sql.SQLTransientConnectionException;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/** The differences between databases, all in one place. */
enum Dialect {
    POSTGRESQL("postgresql", "CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS bigint)") {
        @Override
        String insertEnd() {
            // Without this clause, a batch that is already stored would abort the transaction, which may be the
            // caller's.
            return " ON CONFLICT (batch_id) DO NOTHING";
        }

        @Override
        String schemas() {
            // Includes schemas that the user has no privileges on.
            return "SELECT nspname FROM pg_namespace";
        }

        @Override
        boolean writesInOneStatement() {
            return true;
        }

        @Override
        boolean returnsDeleted() {
            return true;
        }

        @Override
        String firstOfMany(boolean oldestFirst) {
            // The row comparison is deliberate: with the type as a constant, the primary key would give the same order,
            // and scanning it would go through all batches of other types.
            String direction = oldestFirst ? "" : " DESC";
            return "FROM {p}batch WHERE (collector_type, seq) " + (oldestFirst ? ">=" : "<=")
                    + " (?, ?) AND collector_type "
                    + (oldestFirst ? "<=" : ">=")
                    + " ? AND state = {pending} AND due_at <= {now} ORDER BY collector_type"
                    + direction
                    + ", seq" + direction;
        }

        @Override
        List<Object> valuesOfMany(String collectorType, long from) {
            return List.of(collectorType, from, collectorType);
        }
    },
    /** Also MySQL. */
    MARIADB("mariadb", "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000)") {
        @Override
        String firstOfMany(boolean oldestFirst) {
            return super.firstOfMany(oldestFirst).replace("{p}batch", "{p}batch FORCE INDEX (seq)");
        }

        @Override
        String quoted(String name) {
            return '`' + name.replace("`", "``") + '`';
        }

        @Override
        String largestStatement() {
            return "SELECT @@max_allowed_packet";
        }
    },
    H2("h2", "CAST(FLOOR(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000) AS BIGINT)");

    private static final int MAX_LINKED = 1_000;

    /**
     * MariaDB: lock wait timeout, deadlock, record has changed since last read. H2: lock timeout, concurrent update.
     */
    private static final Set<Integer> TRANSIENT_CODES = Set.of(1205, 1213, 1020, 50200, 90131);

    /** Missing tables: the SQL states of PostgreSQL, MariaDB and H2. */
    private static final Set<String> MISSING_STATES = Set.of("42P01", "42S02", "42S03", "42S04");

    /** Missing schemas: the SQL states of PostgreSQL and H2. */
    private static final Set<String> MISSING_SCHEMA_STATES = Set.of("3F000", "90079");

    private static final int MARIADB_MISSING_SCHEMA = 1049;

    /** PostgreSQL: no such prepared statement, prepared statement already exists, wrong number of parameters. */
    private static final Set<String> FOREIGN_STATES = Set.of("26000", "42P05", "08P01");

    /** PostgreSQL: shut down, crashed, starting up or shutting down. */
    private static final Set<String> LOST_STATES = Set.of("57P01", "57P02", "57P03");

    /**
     * PostgreSQL: read-only transaction (also MariaDB), no permission, and a missing table, schema or column. Also the
     * states of MariaDB and H2 for the same.
     */
    private static final Set<String> REFUSAL_STATES = Set.of("25006", "42501", "42703", "3F000", "42S22");

    /**
     * PostgreSQL: insufficient resources, such as a full disk or no memory; system errors, such as I/O errors; damaged
     * tables.
     */
    private static final Set<String> REFUSAL_CLASSES = Set.of("53", "58", "XX");

    /**
     * MariaDB: read-only in three ways; disk or table full; files that can't be opened, read or written, or are
     * damaged; no memory; access denied in five ways. H2: no rights, read-only, files that can't be written or read.
     */
    private static final Set<Integer> REFUSAL_CODES = Set.of(
            1290, 1792, 1836, 1036, 1021, 1114, 3, 1016, 1026, 1030, 1034, 1194, 1195, 1932, 1037, 1041, 1044, 1045,
            1142, 1143, 1227, 1370, 90096, 90097, 90028, 90031);

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

    /** Whether the database is kept in this process's memory, and nowhere else. */
    boolean isEmbedded(String url) {
        return this == H2 && url.startsWith("jdbc:h2:mem:");
    }

    /** Quotes a name for a statement, whatever characters it has. */
    String quoted(String name) {
        return '"' + name.replace("\"", "\"\"") + '"';
    }

    /** A query for the names of all schemas. */
    String schemas() {
        return "SELECT schema_name FROM information_schema.schemata";
    }

    /** The prefix of the names of its scripts. */
    String id() {
        return id;
    }

    /**
     * The SQL expression for the database's clock in milliseconds since 1970, whatever the time zones. It is constant
     * within a statement; otherwise no index could be used with it.
     */
    String now() {
        return now;
    }

    /** A placeholder for a number, where the type is not known from the context. */
    String number() {
        return this == H2 ? "CAST(? AS BIGINT)" : "?";
    }

    /**
     * The end of an insert of batches that skips those that are already stored; if empty, the insert fails with a
     * duplicate.
     */
    String insertEnd() {
        return "";
    }

    /** The FROM and ORDER BY clauses that take the first of many due batches, along an index on pending ones. */
    String firstOfMany(boolean oldestFirst) {
        return "FROM {p}batch WHERE collector_type = ? AND seq " + (oldestFirst ? ">=" : "<=")
                + " ? AND state = {pending} AND due_at <= {now} ORDER BY seq" + (oldestFirst ? "" : " DESC");
    }

    /**
     * The values for {@link #firstOfMany}.
     *
     * @param from the sequence number to start at
     */
    List<Object> valuesOfMany(String collectorType, long from) {
        return List.of(collectorType, from);
    }

    /** Whether one statement can select for update, insert, update and delete, and return what it has changed. */
    boolean writesInOneStatement() {
        return false;
    }

    /** A query for the maximum size of a statement in bytes; {@code null} if there is no limit that is ever reached. */
    @Nullable
    String largestStatement() {
        return null;
    }

    /** Whether a delete can return the deleted rows. */
    boolean returnsDeleted() {
        return false;
    }

    /** Whether the transaction was rolled back because of a conflict with another one, so that a retry may succeed. */
    static boolean isTransient(SQLException failure) {
        return any(failure, e -> {
            String state = state(e);
            return (state.startsWith("40") && !state.equals("40003"))
                    || state.equals("55P03")
                    || TRANSIENT_CODES.contains(e.getErrorCode());
        });
    }

    /** Whether the connection is broken, or none could be obtained. */
    static boolean isConnectionLost(SQLException failure) {
        return any(failure, e -> {
            String state = state(e);
            return e instanceof SQLTransientConnectionException
                    || e instanceof SQLNonTransientConnectionException
                    || e instanceof SQLRecoverableException
                    || state.startsWith("08")
                    || LOST_STATES.contains(state)
                    || LOST_CODES.contains(e.getErrorCode());
        });
    }

    static boolean isDuplicate(SQLException failure) {
        return any(failure, e -> state(e).equals("23505") || e.getErrorCode() == 1062);
    }

    /** The number of linked exceptions is limited: a driver, or a pool around it, may have linked them in a circle. */
    private static boolean any(SQLException failure, Predicate<SQLException> condition) {
        SQLException e = failure;
        for (int looked = 0; e != null && looked < MAX_LINKED; looked++) {
            if (condition.test(e)) {
                return true;
            }
            e = e.getNextException();
        }
        return false;
    }

    /** Whether a statement has failed on purpose, by a division by zero, because a required row was missing. */
    static boolean isGuard(SQLException failure) {
        return any(failure, e -> state(e).equals("22012"));
    }

    /**
     * Whether a prepared statement did not exist, was not the one that this connection had prepared, or its name was
     * taken: a pooler had it executed by a server process that had not prepared it.
     */
    static boolean isForeignStatement(SQLException failure) {
        return any(failure, e -> FOREIGN_STATES.contains(state(e)));
    }

    /** Whether a statement must be prepared again, because a table has been altered since. */
    static boolean isStalePlan(SQLException failure) {
        return any(failure, e -> state(e).equals("0A000"));
    }

    static boolean isMissingTable(SQLException failure) {
        return any(failure, e -> MISSING_STATES.contains(state(e)));
    }

    static boolean isMissingSchema(SQLException failure) {
        return any(
                failure, e -> MISSING_SCHEMA_STATES.contains(state(e)) || e.getErrorCode() == MARIADB_MISSING_SCHEMA);
    }

    /**
     * Whether the database refused a statement for a reason that is not specific to that statement: it will refuse all
     * others like it until an administrator intervenes.
     */
    static boolean isRefusal(SQLException failure) {
        return any(failure, e -> {
            String state = state(e);
            return MISSING_STATES.contains(state)
                    || REFUSAL_STATES.contains(state)
                    || REFUSAL_CLASSES.contains(state.substring(0, Math.min(2, state.length())))
                    || REFUSAL_CODES.contains(e.getErrorCode());
        });
    }

    /**
     * The first line of the message: further lines may quote the data to be stored, and so may the message of a driver
     * about a JDBC batch.
     */
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
