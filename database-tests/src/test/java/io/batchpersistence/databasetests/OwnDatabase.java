package io.batchpersistence.databasetests;

import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.UUID;

/**
 * An empty database for one test, dropped on close: an in-memory H2, or a schema in the PostgreSQL that a system
 * property names; without it, the test is skipped with a visible reason, unless {@code
 * BATCH_PERSISTENCE_DATABASE_TESTS=required}.
 */
final class OwnDatabase implements AutoCloseable {

    enum Kind {
        H2("h2"),
        POSTGRESQL("postgresql");

        /** The prefix of this database's script names. */
        final String scripts;

        Kind(String scripts) {
            this.scripts = scripts;
        }
    }

    private static final String PROPERTY = "batch.jdbc.postgresql.url";

    final Kind kind;
    final String url;
    private final String end;

    private OwnDatabase(Kind kind, String url, String end) {
        this.kind = kind;
        this.url = url;
        this.end = end;
    }

    static OwnDatabase of(Kind kind) {
        String name = "t" + UUID.randomUUID().toString().replace("-", "");
        if (kind == Kind.H2) {
            return new OwnDatabase(kind, "jdbc:h2:mem:" + name + ";DB_CLOSE_DELAY=-1;USER=sa", "SHUTDOWN");
        }
        String server = System.getProperty(PROPERTY);
        if (server == null || server.isBlank()) {
            String reason = "no PostgreSQL to test with: -D" + PROPERTY + "=jdbc:… says where there is one";
            if ("required".equals(System.getenv("BATCH_PERSISTENCE_DATABASE_TESTS"))) {
                fail("database tests are required, but there is " + reason);
            }
            // The console's summary does not contain the reasons.
            System.out.println("SKIPPED: " + reason);
            abort(reason);
        }
        execute(server, "CREATE SCHEMA " + name);
        return new OwnDatabase(
                kind,
                server + (server.contains("?") ? "&" : "?") + "currentSchema=" + name,
                "DROP SCHEMA " + name + " CASCADE");
    }

    private static void execute(String url, String sql) {
        try (Connection connection = DriverManager.getConnection(url);
                Statement statement = connection.createStatement()) {
            statement.execute(sql);
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void close() {
        execute(url, end);
    }
}
