package io.batchpersistence.benchmarks;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.UUID;
import javax.sql.DataSource;

/**
 * The location of a store in a database: its own schema. A file in the store's directory names the schema, so such a
 * store is opened with a directory like all others, and deleting the directory drops the schema.
 *
 * @param url the database's URL
 * @param schema contains only the tables of this store
 * @param connections size of the connection pool
 */
record DatabasePlace(String url, String schema, int connections) {

    private static final String FILE = "database.properties";

    /** The schema's name for SQL: not every database folds an unquoted one to lower case. */
    String quotedSchema() {
        return '"' + schema + '"';
    }

    /**
     * Creates a schema for a directory, unless it has one.
     *
     * @param connections size of the pool for the next opening of the store
     */
    static void prepare(Path directory, String url, int connections) throws IOException, SQLException {
        Path file = directory.resolve(FILE);
        boolean fresh = !Files.exists(file);
        DatabasePlace place = new DatabasePlace(
                url,
                fresh
                        ? "benchmark_" + UUID.randomUUID().toString().substring(0, 8)
                        : of(directory).schema(),
                connections);
        // Write the file first, so that the schema is dropped even after a failure.
        place.write(file);
        if (fresh) {
            place.execute("CREATE SCHEMA " + place.quotedSchema());
        }
    }

    private void write(Path file) throws IOException {
        Properties properties = new Properties();
        properties.setProperty("url", url);
        properties.setProperty("schema", schema);
        properties.setProperty("connections", String.valueOf(connections));
        try (OutputStream out = Files.newOutputStream(file)) {
            properties.store(out, null);
        }
    }

    /** The location of a directory that was {@link #prepare prepared}. */
    static DatabasePlace of(Path directory) throws IOException {
        return read(directory.resolve(FILE));
    }

    private static DatabasePlace read(Path file) throws IOException {
        Properties properties = new Properties();
        try (InputStream in = Files.newInputStream(file)) {
            properties.load(in);
        }
        return new DatabasePlace(
                properties.getProperty("url"),
                properties.getProperty("schema"),
                Integer.parseInt(properties.getProperty("connections")));
    }

    /**
     * Drops the schema that a file names, if it is such a file. Reports a schema that can't be dropped, since it
     * remains.
     */
    static void dropNamedBy(Path file) throws IOException {
        if (!file.getFileName().toString().equals(FILE)) {
            return;
        }
        DatabasePlace place = read(file);
        try {
            place.execute("DROP SCHEMA IF EXISTS " + place.quotedSchema() + " CASCADE");
        } catch (SQLException e) {
            System.err.println("schema " + place.schema() + " is left in the database: " + e.getMessage());
        }
    }

    /**
     * Creates a connection pool.
     *
     * @param sync whether a commit forces before it returns; only for PostgreSQL, other databases keep their own
     *     behaviour
     */
    HikariDataSource pool(boolean sync) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setMaximumPoolSize(connections);
        if (url.startsWith("jdbc:postgresql:")) {
            config.addDataSourceProperty("options", "-c synchronous_commit=" + (sync ? "on" : "off"));
        }
        return new HikariDataSource(config);
    }

    void execute(String sql) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url);
                Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    /** The disk space of the tables, their indexes and out-of-line values (TOAST), in bytes; PostgreSQL only. */
    long bytes() throws SQLException {
        return Long.parseLong(ask(
                url,
                "SELECT SUM(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                        + " WHERE c.relkind = 'r' AND n.nspname = '" + schema + "'"));
    }

    /** The server version and its settings that matter here; PostgreSQL only. */
    static String describe(String url) throws SQLException {
        return ask(
                url,
                "SELECT split_part(version(), ' ', 1) || ' ' || current_setting('server_version') || '; ' || (SELECT"
                        + " string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings WHERE name"
                        + " IN ('fsync', 'full_page_writes', 'max_connections', 'max_wal_size', 'shared_buffers',"
                        + " 'synchronous_commit', 'wal_sync_method'))");
    }

    /** The number of rows in a table. */
    static long count(DataSource pool, String table) throws SQLException {
        try (Connection connection = pool.getConnection();
                PreparedStatement count = connection.prepareStatement("SELECT COUNT(*) FROM " + table);
                ResultSet rows = count.executeQuery()) {
            rows.next();
            return rows.getLong(1);
        }
    }

    private static String ask(String url, String sql) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }
}
