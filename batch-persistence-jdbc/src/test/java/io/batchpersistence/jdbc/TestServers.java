package io.batchpersistence.jdbc;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.PullImageResultCallback;
import com.github.dockerjava.api.exception.NotFoundException;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.utility.DockerImageName;

/**
 * Database servers for tests. {@code -Dbatch.jdbc.postgresql.url} or {@code -Dbatch.jdbc.mariadb.url} selects an
 * existing server. Otherwise one container per JVM is started from the image that {@code -Dbatch.jdbc.….image} names,
 * by default the official one. If neither is available, tests are skipped with a message, unless the environment sets
 * {@code BATCH_PERSISTENCE_DATABASE_TESTS=required}.
 */
final class TestServers {

    private static final Map<Kind, String> IMAGES =
            Map.of(Kind.POSTGRESQL, "postgres:17", Kind.MARIADB, "mariadb:10.11");
    private static final int PULL_SECONDS = 300;

    // Guarded by the class.
    private static final Map<Kind, String> URLS = new EnumMap<>(Kind.class);
    /** Why there can be no container; empty if there can. */
    private static final Map<Kind, String> MISSING = new EnumMap<>(Kind.class);

    private static final Set<String> SAID = new HashSet<>();

    private TestServers() {}

    /** Returns the URL of the server, or skips the test if there is none. */
    static synchronized String url(Kind kind) {
        String named = System.getProperty(property(kind, "url"), "");
        if (!named.isBlank()) {
            return named;
        }
        String instead = "-D" + property(kind, "url") + "=jdbc:…";
        GenericContainer<?> container = URLS.containsKey(kind) ? null : container(kind, instead);
        if (container != null) {
            try {
                URLS.put(kind, start(kind, container));
            } catch (RuntimeException e) {
                // The next test would fail the same way.
                MISSING.put(kind, "the container does not start (" + e + ")");
                skip(kind, instead);
            }
        }
        return URLS.get(kind);
    }

    private static String property(Kind kind, String what) {
        return "batch.jdbc." + kind.name().toLowerCase(Locale.ROOT) + "." + what;
    }

    private static String start(Kind kind, GenericContainer<?> container) {
        boolean postgresql = kind == Kind.POSTGRESQL;
        int port = postgresql ? 5432 : 3306;
        container
                .withExposedPorts(port)
                .withEnv(
                        postgresql
                                ? Map.of("POSTGRES_USER", "test", "POSTGRES_PASSWORD", "test", "POSTGRES_DB", "test")
                                : Map.of(
                                        "MARIADB_USER", "test",
                                        "MARIADB_PASSWORD", "test",
                                        "MARIADB_ROOT_PASSWORD", "test",
                                        "MARIADB_DATABASE", "test"));
        container.start();
        String url = "jdbc:" + kind.name().toLowerCase(Locale.ROOT) + "://" + container.getHost() + ":"
                + container.getMappedPort(port) + "/test?user=test&password=test";
        // Both images first start a temporary server to initialize the data.
        await().atMost(Duration.ofMinutes(2))
                .pollInterval(Duration.ofMillis(200))
                .ignoreExceptionsInstanceOf(SQLException.class)
                .until(() -> {
                    DriverManager.getConnection(url).close();
                    return true;
                });
        return url;
    }

    /**
     * Creates a container that the caller starts and stops. Skips the test if containers are not available.
     *
     * @param instead what else could be set
     */
    static synchronized GenericContainer<?> container(Kind kind, String instead) {
        String image = System.getProperty(property(kind, "image"), IMAGES.get(kind));
        if (!MISSING.computeIfAbsent(kind, any -> whyMissing(image)).isEmpty()) {
            skip(kind, instead);
        }
        return new GenericContainer<>(DockerImageName.parse(image)).withImagePullPolicy(name -> false);
    }

    private static String whyMissing(String image) {
        if (!DockerClientFactory.instance().isDockerAvailable()) {
            return "no Docker engine answers";
        }
        DockerClient docker = DockerClientFactory.instance().client();
        try {
            docker.inspectImageCmd(image).exec();
            return "";
        } catch (NotFoundException e) {
            return whyNotPulled(docker, image);
        }
    }

    private static String whyNotPulled(DockerClient docker, String image) {
        String reason = "not within " + PULL_SECONDS + " s";
        try {
            if (docker.pullImageCmd(image)
                    .exec(new PullImageResultCallback())
                    .awaitCompletion(PULL_SECONDS, TimeUnit.SECONDS)) {
                return "";
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            reason = "interrupted";
        } catch (RuntimeException e) {
            // No network, no registry, or no such image.
            reason = String.valueOf(e.getMessage()).strip();
        }
        return "the image " + image + " can't be pulled (" + reason + ")";
    }

    private static void skip(Kind kind, String instead) {
        skip("no " + kind + " to test with: " + MISSING.get(kind) + ", and no " + instead + " says where there is one");
    }

    /** Skips the test, unless such tests are required. */
    static synchronized void skip(String reason) {
        if ("required".equals(System.getenv("BATCH_PERSISTENCE_DATABASE_TESTS"))) {
            fail("database tests are required, but there is " + reason);
        }
        if (SAID.add(reason)) {
            // The console summary does not show reasons.
            System.out.println("SKIPPED: " + reason);
        }
        abort(reason);
    }
}
