package io.batchpersistence.store.jdbc;

import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A PgBouncer of this machine, in front of the PostgreSQL that is tested with. Its files are in a directory of its own. */
final class PgBouncer implements AutoCloseable {

    /** Fewer than clients have, so that clients share them. */
    private static final int SERVER_CONNECTIONS = 4;

    private final Process process;
    private final String url;

    private PgBouncer(Process process, String url) {
        this.process = process;
        this.url = url;
    }

    /**
     * Starts one, or skips the test, visibly, where there is none.
     *
     * @param mode its {@code pool_mode}
     * @param directory an empty one
     */
    static PgBouncer start(String mode, Path directory) throws IOException {
        URI server = URI.create(TestServers.url(TestDatabase.Kind.POSTGRESQL).substring("jdbc:".length()));
        String program = program();
        int port;
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = free.getLocalPort();
        }
        Path settings = directory.resolve("pgbouncer.ini");
        Files.writeString(
                settings,
                String.join(
                        "\n",
                        "[databases]",
                        "* = host=" + server.getHost() + " port=" + server.getPort() + " " + credentials(server),
                        "[pgbouncer]",
                        "listen_addr = 127.0.0.1",
                        "listen_port = " + port,
                        "unix_socket_dir =",
                        "auth_type = any",
                        "pool_mode = " + mode,
                        "default_pool_size = " + (mode.equals("session") ? 60 : SERVER_CONNECTIONS),
                        "max_client_conn = 200",
                        "ignore_startup_parameters = extra_float_digits",
                        ""));
        List<String> command = new ArrayList<>();
        if (System.getProperty("user.name").equals("root")) { // as whom it refuses to run
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
            command.addAll(List.of("runuser", "-u", "nobody", "--"));
        }
        command.addAll(List.of(program, settings.toString()));
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .start();
        PgBouncer bouncer = new PgBouncer(
                process, "jdbc:postgresql://127.0.0.1:" + port + server.getPath() + "?" + server.getQuery());
        await().atMost(Duration.ofMinutes(1))
                .ignoreExceptionsInstanceOf(SQLException.class)
                .until(() -> {
                    DriverManager.getConnection(bouncer.url).close();
                    return true;
                });
        return bouncer;
    }

    private static String credentials(URI server) {
        return server.getQuery().replace('&', ' ');
    }

    private static String program() {
        for (String place : List.of("/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer")) {
            if (Files.isExecutable(Path.of(place))) {
                return place;
            }
        }
        String reason = "no PgBouncer to test with (Debian's package pgbouncer)";
        if ("required".equals(System.getenv("BATCH_PERSISTENCE_DATABASE_TESTS"))) {
            fail("database tests are required, but there is " + reason);
        }
        System.out.println("SKIPPED: " + reason); // the console's summary has no reasons
        abort(reason);
        throw new AssertionError();
    }

    /** For clients. */
    String url() {
        return url;
    }

    @Override
    public void close() {
        process.destroy();
        try {
            if (!process.waitFor(20, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }
}
