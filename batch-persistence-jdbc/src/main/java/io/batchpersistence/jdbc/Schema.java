package io.batchpersistence.jdbc;

import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.jdbc.Tx.Reader;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.slf4j.Logger;

/**
 * The tables. A script per database creates them: {@code postgresql-1.sql} and so on, next to this class. Many instances
 * may start at once; one of them runs the script. Each statement is idempotent: MariaDB does not roll back the
 * statements before one that fails.
 */
final class Schema {

    /** The version of the tables that this software reads and writes. */
    static final int VERSION = 1;

    private static final Logger log = LogSanitizer.logger(Schema.class);

    private static final Pattern COMMENT = Pattern.compile("--[^\n]*");
    private static final Pattern END = Pattern.compile(";");

    /** MariaDB's limit on the length of a lock name, in characters. */
    private static final int MAX_LOCK_NAME = 64;

    /** How long to wait for an instance that is creating the tables. If it takes longer, the store tries again later. */
    private static final int LOCK_SECONDS = 10;

    private Schema() {}

    /**
     * Makes sure that the tables exist.
     *
     * @throws SQLException also if they are missing and must not be created, or are of another version
     */
    static void prepare(Database database) throws SQLException {
        int version = version(database);
        if (version == 0) {
            requireSchema(database);
        }
        if (version == 0 && database.makesTables()) {
            log.info("Creating the tables {}… of version {}", database.tables(), VERSION);
            try {
                create(database);
            } catch (SQLException e) {
                // Otherwise another instance was faster.
                if (version(database) != VERSION) {
                    throw e;
                }
            }
            version = version(database);
        }
        if (version != VERSION) {
            throw new SQLException("the tables " + database.tables() + "… are "
                    + (version == 0
                            ? "missing; let this software create them (initialize_schema), or run the script shipped with it: "
                                    + scriptName(database.dialect())
                            : "of version " + version + ", but this software needs version " + VERSION
                                    + ": they were created by a newer release"));
        }
    }

    /**
     * Requires that the configured schema exists: of a missing schema, the database reports only that its tables are
     * missing, or that they can't be created.
     */
    private static void requireSchema(Database database) throws SQLException {
        String wanted = database.options().schema();
        if (wanted == null) {
            return;
        }
        List<String> names = database.read(tx -> tx.all(database.dialect().schemas(), row -> row.getString(1)));
        List<String> alike =
                names.stream().filter(name -> isAlike(name, wanted)).sorted().toList();
        if (names.contains(wanted) || (names.stream().anyMatch(wanted::equalsIgnoreCase) && foldsCase(database))) {
            return;
        }
        throw new SQLException(
                "there is no schema '" + wanted + "', or this user does not see it"
                        + (alike.isEmpty()
                                ? ""
                                : "; there is "
                                        + alike.stream()
                                                .map(name -> "'" + name + "'")
                                                .collect(Collectors.joining(", "))
                                        + ": a schema's name is quoted, so upper and lower case are not the same"),
                "3F000");
    }

    private static boolean isAlike(String one, String other) {
        return letters(one).equalsIgnoreCase(letters(other));
    }

    private static String letters(String name) {
        return name.replaceAll("[^\\p{L}\\p{N}]", "");
    }

    /** On some file systems, MariaDB's schema names are case-insensitive. */
    private static boolean foldsCase(Database database) throws SQLException {
        if (database.dialect() != Dialect.MARIADB) {
            return false;
        }
        Integer folds = database.read(tx -> tx.one("SELECT @@lower_case_table_names", row -> row.getInt(1)));
        return folds != null && folds != 0;
    }

    private static String scriptName(Dialect dialect) {
        return dialect.id() + "-" + VERSION + ".sql";
    }

    private static int version(Database database) throws SQLException {
        try {
            Integer version = database.read(
                    tx -> tx.one("SELECT COALESCE(MAX(version), 0) FROM {p}schema_version", row -> row.getInt(1)));
            return version == null ? 0 : version;
        } catch (SQLException e) {
            if (Dialect.isMissingTable(e) || Dialect.isMissingSchema(e)) {
                return 0;
            }
            throw e;
        }
    }

    private static void create(Database database) throws SQLException {
        database.write(tx -> {
            lock(database, tx);
            try {
                tx.execute("CREATE TABLE IF NOT EXISTS {p}schema_version (version integer PRIMARY KEY)");
                if (tx.one("SELECT version FROM {p}schema_version", Reader.LONG) == null) {
                    for (String statement : script(database.dialect())) {
                        tx.execute(statement);
                    }
                }
            } finally {
                if (database.dialect() == Dialect.MARIADB) {
                    tx.all("SELECT RELEASE_LOCK(?)", Reader.LONG, lockName(database));
                }
            }
            return null;
        });
    }

    private static void lock(Database database, Tx tx) throws SQLException {
        switch (database.dialect()) {
            // Held until the transaction ends.
            case POSTGRESQL ->
                tx.all("SELECT 1 FROM (SELECT pg_advisory_xact_lock(?)) AS locked", Reader.LONG, lockNumber(database));
            // DDL commits implicitly here, so the lock is held by the connection.
            case MARIADB -> {
                Long locked = tx.one("SELECT GET_LOCK(?, ?)", Reader.LONG, lockName(database), LOCK_SECONDS);
                if (locked == null || locked != 1) {
                    throw new SQLException("another instance has been creating the tables " + database.tables()
                            + "… for more than " + LOCK_SECONDS + " s");
                }
            }
            // An instance that comes second finds everything created, or fails and checks the version again.
            case H2 -> {}
        }
    }

    private static String lockName(Database database) {
        String name = database.tables() + "schema";
        return name.length() <= MAX_LOCK_NAME ? name : Long.toHexString(lockNumber(database));
    }

    private static long lockNumber(Database database) {
        // The upper bytes spell "batch".
        return 0x6261_7463_6800_0000L + (database.tables().hashCode() & 0xFF_FFFFL);
    }

    /** The statements of a script. No string literal in them contains a semicolon or two hyphens. */
    static List<String> script(Dialect dialect) {
        String name = scriptName(dialect);
        try (InputStream in = Schema.class.getResourceAsStream(name)) {
            if (in == null) {
                throw new IllegalStateException("there is no script " + name);
            }
            String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
            String bare = COMMENT.matcher(text).replaceAll("");
            return Stream.of(END.split(bare))
                    .map(String::strip)
                    .filter(statement -> !statement.isEmpty())
                    .toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
