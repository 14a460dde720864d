package io.batchpersistence.sample;

import java.io.IOException;
import java.net.URI;

/** A third-party collector in its own process. It keeps what it has accepted across kills. */
interface RealCollector extends AutoCloseable {

    /** The collector type whose sender sends to it. */
    String type();

    /** The base URL; the same after every start. */
    URI url();

    /** Starts the collector; returns when it responds. */
    void start() throws IOException, InterruptedException;

    /** Kills the collector with SIGKILL, without a clean shutdown. Returns when the process has ended. */
    void kill() throws InterruptedException;

    /** The number of lines that the collector has. */
    long count() throws IOException, InterruptedException;

    @Override
    void close();
}
