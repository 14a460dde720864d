package io.batchpersistence.jdbc;

import static org.awaitility.Awaitility.await;

import java.io.DataInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A local PgBouncer in front of the PostgreSQL under test. Its files are in a separate directory. */
final class PgBouncer implements AutoCloseable {

    /** Fewer than the clients have, so that clients share them. */
    private static final int SERVER_CONNECTIONS = 4;

    /** The PostgreSQL protocol, version 3.0. */
    private static final int PROTOCOL = 3 << 16;

    private static final String ADMINISTRATOR = "administrator";

    private final List<String> command;
    private final int port;
    private final String url;
    private Process process;

    private PgBouncer(List<String> command, int port, String url) throws IOException {
        this.command = command;
        this.port = port;
        this.url = url;
        this.process = run();
    }

    /**
     * Starts a PgBouncer with that {@code pool_mode} in an empty directory, or skips the test with a message if there
     * is none.
     */
    static PgBouncer start(String mode, Path directory) throws IOException {
        return start(mode, directory, TestServers.url(TestDatabase.Kind.POSTGRESQL));
    }

    /** Starts a PgBouncer for another user or database of that server: all clients are the user of that URL. */
    static PgBouncer start(String mode, Path directory, String to) throws IOException {
        URI server = URI.create(to.substring("jdbc:".length()));
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
                        "admin_users = " + ADMINISTRATOR,
                        "pool_mode = " + mode,
                        "default_pool_size = " + (mode.equals("session") ? 60 : SERVER_CONNECTIONS),
                        "max_client_conn = 200",
                        "server_login_retry = 1",
                        "ignore_startup_parameters = extra_float_digits",
                        ""));
        List<String> command = new ArrayList<>();
        // PgBouncer refuses to run as root.
        if (System.getProperty("user.name").equals("root")) {
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
            command.addAll(List.of("runuser", "-u", "nobody", "--"));
        }
        command.addAll(List.of(program, settings.toString()));
        PgBouncer bouncer = new PgBouncer(
                command, port, "jdbc:postgresql://127.0.0.1:" + port + server.getPath() + "?" + server.getQuery());
        bouncer.awaitAnswer();
        return bouncer;
    }

    private Process run() throws IOException {
        return new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .start();
    }

    private void awaitAnswer() {
        await().atMost(Duration.ofMinutes(1))
                .ignoreExceptionsInstanceOf(SQLException.class)
                .until(() -> {
                    DriverManager.getConnection(url).close();
                    return true;
                });
    }

    String database() {
        return URI.create(url.substring("jdbc:".length())).getPath().substring(1);
    }

    /** Stops it with all connections, and starts it again with the same directory and port. */
    void restart() throws IOException {
        close();
        process = run();
        awaitAnswer();
    }

    /**
     * Sends a command, such as {@code PAUSE}, to its console. The PostgreSQL driver cannot do this: it sets parameters
     * that the console does not know.
     */
    void console(String command) throws IOException {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
            socket.setSoTimeout(20_000);
            DataInputStream in = new DataInputStream(socket.getInputStream());
            byte[] who = ("user\0" + ADMINISTRATOR + "\0database\0pgbouncer\0\0").getBytes(StandardCharsets.US_ASCII);
            byte[] query = (command + "\0").getBytes(StandardCharsets.US_ASCII);
            // Each message in one packet: the console does not wait for the rest of the first one.
            socket.getOutputStream()
                    .write(ByteBuffer.allocate(8 + who.length)
                            .putInt(8 + who.length)
                            .putInt(PROTOCOL)
                            .put(who)
                            .array());
            awaitReady(in);
            socket.getOutputStream()
                    .write(ByteBuffer.allocate(5 + query.length)
                            .put((byte) 'Q')
                            .putInt(4 + query.length)
                            .put(query)
                            .array());
            awaitReady(in);
        }
    }

    private static void awaitReady(DataInputStream in) throws IOException {
        for (int type = in.readByte(); type != 'Z'; type = in.readByte()) {
            byte[] content = in.readNBytes(in.readInt() - 4);
            if (type == 'E') {
                throw new IOException(new String(content, StandardCharsets.UTF_8).replace('\0', ' '));
            }
        }
        in.readNBytes(in.readInt() - 4);
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
        TestServers.skip("no PgBouncer to test with (Debian's package pgbouncer)");
        throw new AssertionError();
    }

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
