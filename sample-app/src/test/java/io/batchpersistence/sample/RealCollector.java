package io.batchpersistence.sample;

import java.io.IOException;
import java.net.URI;

/** A collector that nobody here wrote, in a process of its own. What it has taken it keeps across kills. */
interface RealCollector extends AutoCloseable {

    /** The collector type that sends to it. */
    String type();

    /** Its base; the same after every start. */
    URI url();

    /** Returns when it answers. */
    void start() throws IOException, InterruptedException;

    /** SIGKILL: it finishes nothing. Returns when it is gone. */
    void kill() throws InterruptedException;

    /** How many lines it has. */
    long count() throws IOException, InterruptedException;

    @Override
    void close();
}
