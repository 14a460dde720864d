package io.batchpersistence.benchmarks;

import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

/** A database to test with. */
final class TestUrl {

    private static final String PROPERTY = "batch.jdbc.postgresql.url";

    private TestUrl() {}

    /** A PostgreSQL, if a system property contains its URL; else an in-memory H2. */
    static String postgresqlOrH2() {
        String url = System.getProperty(PROPERTY, "");
        return url.isBlank() ? "jdbc:h2:mem:benchmarks;DB_CLOSE_DELAY=-1" : url;
    }

    /**
     * A PostgreSQL. Without one, the test is skipped with a visible reason, unless {@code
     * BATCH_PERSISTENCE_DATABASE_TESTS=required}.
     */
    static String postgresql() {
        String url = System.getProperty(PROPERTY, "");
        if (url.isBlank()) {
            String reason = "no PostgreSQL to test with: -D" + PROPERTY + "=jdbc:… says where there is one";
            if ("required".equals(System.getenv("BATCH_PERSISTENCE_DATABASE_TESTS"))) {
                fail("database tests are required, but there is " + reason);
            }
            // The console's summary does not contain the reasons.
            System.out.println("SKIPPED: " + reason);
            abort(reason);
        }
        return url;
    }
}
