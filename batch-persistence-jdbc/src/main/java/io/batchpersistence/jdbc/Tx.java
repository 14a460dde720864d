package io.batchpersistence.jdbc;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** A transaction on a connection, with helpers for statements. For one thread. */
final class Tx {

    /** Maps a row. */
    @FunctionalInterface
    interface Reader<T> {
        Reader<Long> LONG = row -> row.getLong(1);

        T read(ResultSet row) throws SQLException;
    }

    private final Database database;
    private final Connection connection;
    private final int timeoutSeconds;
    private final List<Runnable> afterCommit = new ArrayList<>(1);
    private boolean doubtsWarnings;
    private @Nullable SQLException doubt;

    Tx(Database database, Connection connection, int timeoutSeconds) {
        this.database = database;
        this.connection = connection;
        this.timeoutSeconds = timeoutSeconds;
    }

    /**
     * Registers an action to run after the transaction is committed, and only then. An exception from it is logged and
     * changes nothing.
     */
    void afterCommit(Runnable action) {
        afterCommit.add(action);
    }

    void committed() {
        for (Runnable action : afterCommit) {
            try {
                action.run();
            } catch (RuntimeException | Error e) {
                Database.logged(e);
            }
        }
    }

    /** Returns all rows in a list: every query has a limit. */
    <T> List<T> all(String sql, Reader<T> reader, @Nullable Object... values) throws SQLException {
        try (PreparedStatement statement = prepare(sql, values);
                ResultSet rows = statement.executeQuery()) {
            List<T> all = new ArrayList<>();
            while (rows.next()) {
                all.add(reader.read(rows));
            }
            for (SQLWarning next = doubtsWarnings ? statement.getWarnings() : null;
                    next != null;
                    next = next.getNextWarning()) {
                if (String.valueOf(next.getSQLState()).startsWith("01")) {
                    doubt = next;
                }
            }
            return all;
        }
    }

    /** Heeds warnings, see {@link #doubt}: for a statement whose commit must be durable. */
    void doubtWarnings() {
        doubtsWarnings = true;
    }

    /**
     * A warning by the database: a statement that is a transaction by itself may be committed, but not replicated. A
     * cancelled statement is, if its commit was waiting for a standby. {@code null} if there was none.
     */
    @Nullable
    SQLException doubt() {
        return doubt;
    }

    /** Returns the first row; {@code null} if there is none. */
    <T> @Nullable T one(String sql, Reader<T> reader, @Nullable Object... values) throws SQLException {
        List<T> all = all(sql, reader, values);
        return all.isEmpty() ? null : all.get(0);
    }

    /** Executes an update, and returns the number of rows it changed. */
    int update(String sql, @Nullable Object... values) throws SQLException {
        try (PreparedStatement statement = prepare(sql, values)) {
            return statement.executeUpdate();
        }
    }

    /** Executes an update for several sets of values, as one JDBC batch. */
    void updates(String sql, List<@Nullable Object[]> rows) throws SQLException {
        if (rows.isEmpty()) {
            return;
        }
        if (rows.size() == 1) {
            update(sql, rows.get(0));
            return;
        }
        try (PreparedStatement statement = database.prepare(connection, database.sql(timeAsValue(sql)))) {
            statement.setQueryTimeout(timeoutSeconds);
            for (@Nullable Object[] values : rows) {
                bind(statement, withTime(sql, values));
                statement.addBatch();
            }
            statement.executeBatch();
        }
    }

    /** Executes a statement without values. */
    void execute(String sql) throws SQLException {
        try (PreparedStatement statement = database.prepare(connection, database.sql(sql))) {
            statement.setQueryTimeout(timeoutSeconds);
            statement.execute();
        }
    }

    private static final String TIME = "{time}";

    /**
     * Turns the placeholder for the time into a parameter: otherwise a new statement text would have to be prepared for
     * each moment.
     */
    private String timeAsValue(String sql) {
        return sql.contains(TIME) ? sql.replace(TIME, database.dialect().number()) : sql;
    }

    private @Nullable Object[] withTime(String sql, @Nullable Object... values) throws SQLException {
        if (!sql.contains(TIME)) {
            return values;
        }
        long time = database.time(this);
        List<@Nullable Object> all = new ArrayList<>(values.length + 3);
        int given = 0;
        for (int at = 0; at < sql.length(); at++) {
            if (sql.charAt(at) == '?') {
                all.add(values[given++]);
            } else if (sql.startsWith(TIME, at)) {
                all.add(time);
            }
        }
        return all.toArray();
    }

    private PreparedStatement prepare(String sql, @Nullable Object... values) throws SQLException {
        @Nullable Object[] all = withTime(sql, values);
        PreparedStatement statement = database.prepare(connection, database.sql(timeAsValue(sql)));
        try {
            statement.setQueryTimeout(timeoutSeconds);
            bind(statement, all);
            return statement;
        } catch (SQLException | RuntimeException e) {
            try (statement) {
                throw e;
            }
        }
    }

    private static void bind(PreparedStatement statement, @Nullable Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            Object value = values[i];
            if (value == null) {
                // Only numeric columns are nullable.
                statement.setNull(i + 1, Types.BIGINT);
            } else if (value instanceof Long number) {
                statement.setLong(i + 1, number);
            } else if (value instanceof Integer number) {
                statement.setInt(i + 1, number);
            } else if (value instanceof byte[] bytes) {
                statement.setBytes(i + 1, bytes);
            } else {
                statement.setString(i + 1, (String) value);
            }
        }
    }

    /** A parenthesized list of as many question marks as there are values. */
    static String in(Collection<?> values) {
        return "(" + "?, ".repeat(Math.max(0, values.size() - 1)) + "?)";
    }

    /** Flattens values and collections of values into one array. */
    static @Nullable Object[] values(@Nullable Object... parts) {
        List<@Nullable Object> all = new ArrayList<>();
        for (Object part : parts) {
            if (part instanceof Collection<?> several) {
                all.addAll(several);
            } else {
                all.add(part);
            }
        }
        return all.toArray();
    }
}
