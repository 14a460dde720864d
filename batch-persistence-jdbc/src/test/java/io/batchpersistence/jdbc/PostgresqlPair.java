package io.batchpersistence.jdbc;

import static org.awaitility.Awaitility.await;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.testcontainers.containers.Container.ExecResult;
import org.testcontainers.containers.ExecConfig;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;

/**
 * A PostgreSQL primary and its synchronous standby with their own data: local processes, or both in one container. They
 * can be killed, frozen and promoted.
 */
final class PostgresqlPair implements AutoCloseable {

    private static final String USER = "test";

    private interface Host extends AutoCloseable {
        /** Runs a script as a user that may start a server. The path contains the server's programs. */
        String run(String script);

        /** The address of a server for clients. */
        String address(int server);

        int port(int server);

        /** The addresses that clients connect from. */
        String listenAddresses();

        @Override
        void close();
    }

    private final Host host;
    private final String directory;
    private int primary;

    private PostgresqlPair(Host host) {
        this.host = host;
        this.directory = host.run("mktemp -d");
    }

    /** Starts a primary without a standby, or skips the test. */
    static PostgresqlPair start() {
        String bin = System.getProperty("batch.jdbc.postgresql.bin", "");
        Host host = bin.isBlank()
                ? new InContainer(
                        TestServers.container(TestDatabase.Kind.POSTGRESQL, "batch.jdbc.postgresql.bin=DIRECTORY")
                                .withExposedPorts(5432, 5433)
                                .withCommand("sleep", "infinity")
                                // No server listens yet.
                                .waitingFor(Wait.forSuccessfulCommand("true"))
                                // An init process must reap the killed servers.
                                .withCreateContainerCmdModifier(create -> Objects.requireNonNull(create.getHostConfig())
                                        .withInit(true)))
                : new OnThisMachine(bin);
        PostgresqlPair pair = new PostgresqlPair(host);
        boolean started = false;
        try {
            pair.host.run("initdb -D " + pair.data(0) + " -U " + USER + " -A trust -E UTF8 --locale=C --no-sync"
                    + " && echo 'host all all all trust' >>" + pair.data(0) + "/pg_hba.conf");
            pair.startServer(0);
            started = true;
            return pair;
        } finally {
            if (!started) {
                pair.close();
            }
        }
    }

    private String data(int server) {
        return directory + "/" + server;
    }

    /** Without Unix sockets: the socket file of a killed server blocks the port until the process is reaped. */
    private void startServer(int server) {
        host.run("pg_ctl -D " + data(server) + " -l " + directory + "/log -w -t 60 -o '-p " + host.port(server)
                + " -c listen_addresses=" + host.listenAddresses()
                + " -c unix_socket_directories= -c shared_buffers=64MB -c max_connections=100' start || { tail -n 20 "
                + directory
                + "/log; exit 1; }");
    }

    private int standby() {
        return 1 - primary;
    }

    /** A URL with which the driver finds the primary. */
    String url() {
        return "jdbc:postgresql://" + host.address(0) + "," + host.address(1) + "/postgres?user=" + USER
                + "&targetServerType=primary";
    }

    /** Creates a standby of the primary. From then on a commit returns only when both have it. */
    void addStandby() {
        host.run("rm -rf " + data(standby()) + " && pg_basebackup -D " + data(standby()) + " -R -h 127.0.0.1 -p "
                + host.port(primary) + " -U " + USER + " -c fast -X stream --no-sync");
        startServer(standby());
        waitForStandby(true);
        await().atMost(Duration.ofMinutes(1))
                .until(() -> "1"
                        .equals(askPrimary("SELECT count(*) FROM pg_stat_replication"
                                + " WHERE state = 'streaming' AND sync_state = 'sync'")));
    }

    /** The standby does not receive later commits. */
    void cutStandbyOff() {
        ask(standby(), "ALTER SYSTEM SET primary_conninfo = ''");
        ask(standby(), "SELECT pg_reload_conf()");
        await().atMost(Duration.ofMinutes(1))
                .until(() -> "0".equals(ask(standby(), "SELECT count(*) FROM pg_stat_wal_receiver")));
    }

    /** Waits until a commit that is a statement of its own waits for the standby. */
    void awaitWaitingCommit() {
        await().atMost(Duration.ofMinutes(1))
                .until(() -> "1"
                        .equals(askPrimary("SELECT count(*) FROM pg_stat_activity"
                                + " WHERE wait_event = 'SyncRep' AND query = 'COMMIT'")));
    }

    /** From then on a commit waits for the standby, or does not. */
    void waitForStandby(boolean waits) {
        askPrimary("ALTER SYSTEM SET synchronous_standby_names = '" + (waits ? "*" : "") + "'");
        askPrimary("SELECT pg_reload_conf()");
    }

    private String askPrimary(String sql) {
        return ask(primary, sql);
    }

    private String ask(int server, String sql) {
        try (Connection connection = DriverManager.getConnection(
                        "jdbc:postgresql://" + host.address(server) + "/postgres?user=" + USER);
                Statement statement = connection.createStatement()) {
            if (!statement.execute(sql)) {
                return "";
            }
            try (ResultSet row = statement.getResultSet()) {
                row.next();
                return row.getString(1);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(sql, e);
        }
    }

    /**
     * Kills the server and its connection processes at once. What it had in memory is lost, as after a power failure.
     */
    void killPrimary() {
        signal("KILL");
        // Removes its shared memory and its pid file, whose process id may soon be reused.
        host.run("ipcrm -m $(sed -n 7p " + data(primary) + "/postmaster.pid | awk '{ print $2 }') || true; rm "
                + data(primary) + "/postmaster.pid");
    }

    /** Freezes the server. Its connections stay open. */
    void freezePrimary() {
        signal("STOP");
    }

    void thawPrimary() {
        signal("CONT");
    }

    private void signal(String name) {
        host.run("postmaster=$(head -n 1 " + data(primary) + "/postmaster.pid)\n"
                + "children=$(cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent=$postmaster '$4 == parent { print $1 }')\n"
                + "kill -" + name + " $postmaster $children");
    }

    /** Promotes the standby. Commits wait for no standby until there is a new one. */
    void promoteStandby() {
        host.run("pg_ctl -D " + data(standby()) + " -w -t 60 promote");
        primary = standby();
    }

    @Override
    public void close() {
        try {
            for (int server = 0; server < 2; server++) {
                host.run("[ ! -e " + data(server) + "/postmaster.pid ] || pg_ctl -D " + data(server)
                        + " -m immediate stop || true");
            }
            host.run("rm -rf " + directory);
        } finally {
            host.close();
        }
    }

    /**
     * Local processes. Needs Linux. PostgreSQL refuses to run as root, so the servers then run as the user of the
     * Debian package.
     */
    private static final class OnThisMachine implements Host {
        private final String bin;
        private final int[] ports = new int[2];

        OnThisMachine(String bin) {
            this.bin = bin;
            try (ServerSocket one = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
                    ServerSocket other = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
                ports[0] = one.getLocalPort();
                ports[1] = other.getLocalPort();
            } catch (IOException e) {
                throw new IllegalStateException(e);
            }
        }

        @Override
        public String run(String script) {
            List<String> command = new ArrayList<>();
            if (System.getProperty("user.name").equals("root")) {
                command.addAll(List.of("runuser", "-u", "postgres", "--"));
            }
            command.addAll(List.of("sh", "-c", "cd / && PATH=" + bin + ":$PATH && " + script));
            try {
                Process process =
                        new ProcessBuilder(command).redirectErrorStream(true).start();
                String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
                if (!process.waitFor(2, TimeUnit.MINUTES) || process.exitValue() != 0) {
                    throw new IllegalStateException(script + "\n" + output);
                }
                return output.strip();
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(script, e);
            }
        }

        @Override
        public String address(int server) {
            return "127.0.0.1:" + port(server);
        }

        @Override
        public int port(int server) {
            return ports[server];
        }

        @Override
        public String listenAddresses() {
            // The servers accept any local client.
            return "127.0.0.1";
        }

        @Override
        public void close() {
            // The servers are already stopped.
        }
    }

    private static final class InContainer implements Host {
        private final GenericContainer<?> container;

        InContainer(GenericContainer<?> container) {
            this.container = container;
            container.start();
        }

        @Override
        public String run(String script) {
            try {
                ExecResult result = container.execInContainer(ExecConfig.builder()
                        .user("postgres")
                        .command(new String[] {"sh", "-c", "cd / && " + script})
                        .build());
                if (result.getExitCode() != 0) {
                    throw new IllegalStateException(script + "\n" + result.getStdout() + result.getStderr());
                }
                return result.getStdout().strip();
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(script, e);
            }
        }

        @Override
        public String address(int server) {
            return container.getHost() + ":" + container.getMappedPort(port(server));
        }

        @Override
        public int port(int server) {
            return 5432 + server;
        }

        @Override
        public String listenAddresses() {
            return "*";
        }

        @Override
        public void close() {
            container.stop();
        }
    }
}
