package io.batchpersistence.jdbc;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.StandardSocketOptions;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A network between clients and a server that a test can interrupt. Thread-safe.
 *
 * <p>In a black hole no data arrives and neither side gets an error, not even when the other one closes its end. New
 * connections are accepted but get no response. Afterwards the data in transit arrives late or never. In the latter
 * case the connections stay as they are, and the server waits for clients that have given up, as behind a firewall that
 * has dropped their state.
 */
final class CutProxy implements AutoCloseable {

    private final InetSocketAddress server;
    private final ServerSocket listening;
    private final Set<Link> links = ConcurrentHashMap.newKeySet();

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    // Guarded by the lock.
    private boolean questionsPass = true;
    private boolean answersPass = true;
    /** The generation of connections. Connections of an earlier one are lost for ever. */
    private int era;

    private boolean closed;

    CutProxy(String host, int port) throws IOException {
        server = new InetSocketAddress(host, port);
        listening = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        start("accepting", this::accept);
    }

    String address() {
        return listening.getInetAddress().getHostAddress() + ":" + listening.getLocalPort();
    }

    /** Closes all connections at both ends. New ones are possible. */
    void reset() {
        links.forEach(Link::reset);
    }

    /** Stops all data. */
    void openHole() {
        set(false, false);
    }

    /** Passes requests, but no responses. */
    void swallowAnswers() {
        set(true, false);
    }

    private void set(boolean questions, boolean answers) {
        lock.lock();
        try {
            questionsPass = questions;
            answersPass = answers;
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Delivers all data in transit. */
    void closeHole() {
        set(true, true);
    }

    /** New connections work. Existing ones are lost for ever. */
    void closeHoleAndForget() {
        lock.lock();
        try {
            era++;
            set(true, true);
        } finally {
            lock.unlock();
        }
    }

    private void accept() {
        while (!listening.isClosed()) {
            try {
                Link link = new Link(listening.accept());
                links.add(link);
                start("connecting", link::connect);
            } catch (IOException e) {
                // The proxy is closed, or the client is gone.
            }
        }
    }

    private static void start(String name, Runnable work) {
        Thread thread = new Thread(work, "cut-proxy-" + name);
        thread.setDaemon(true);
        thread.start();
    }

    private final class Link {
        private final Socket client;
        private final Socket toServer = new Socket();
        private final int made;

        Link(Socket client) throws IOException {
            this.client = client;
            client.setTcpNoDelay(true);
            lock.lock();
            try {
                made = era;
            } finally {
                lock.unlock();
            }
        }

        void connect() {
            try {
                if (!passes(true)) {
                    return;
                }
                toServer.connect(server);
                toServer.setTcpNoDelay(true);
                start("answers", () -> pump(toServer, client, false));
                pump(client, toServer, true);
            } catch (IOException e) {
                reset();
            }
        }

        private void pump(Socket from, Socket to, boolean questions) {
            byte[] buffer = new byte[1 << 16];
            try {
                while (true) {
                    int length = from.getInputStream().read(buffer);
                    if (!passes(questions)) {
                        // Neither side gets an error.
                        return;
                    }
                    if (length < 0) {
                        break;
                    }
                    to.getOutputStream().write(buffer, 0, length);
                }
                end();
            } catch (IOException e) {
                if (passes(questions)) {
                    reset();
                }
            }
        }

        /** Waits while data is stopped. Returns whether the connection works afterwards. */
        private boolean passes(boolean questions) {
            lock.lock();
            try {
                while (made == era && !closed && !(questions ? questionsPass : answersPass)) {
                    changed.awaitUninterruptibly();
                }
                return made == era && !closed;
            } finally {
                lock.unlock();
            }
        }

        void end() {
            links.remove(this);
            close(client);
            close(toServer);
        }

        void reset() {
            for (Socket socket : new Socket[] {client, toServer}) {
                try {
                    socket.setOption(StandardSocketOptions.SO_LINGER, 0);
                } catch (IOException e) {
                    // Already closed.
                }
            }
            end();
        }

        private static void close(Socket socket) {
            try {
                socket.close();
            } catch (IOException e) {
                // The socket is not used any more.
            }
        }
    }

    @Override
    public void close() throws IOException {
        lock.lock();
        try {
            closed = true;
            changed.signalAll();
        } finally {
            lock.unlock();
        }
        listening.close();
        links.forEach(Link::end);
    }
}
