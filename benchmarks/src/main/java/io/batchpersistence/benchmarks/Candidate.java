package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A store under measurement. {@link #persist} and {@link #mark} are called by many threads, everything else by one, while
 * nobody else calls. Encoding is part of persisting, decoding part of reading.
 */
interface Candidate extends AutoCloseable {

    /**
     * Takes a batch; returns when it is as durable as the store was opened for.
     *
     * @param batchId never used before
     * @param entries of the batch
     */
    void persist(String batchId, List<LogEntry> entries) throws Exception;

    /**
     * Marks a batch delivered. No store is made to force marks: a mark that a power cut takes back is a batch sent twice.
     *
     * @param batchId one that was persisted, or read by {@link #next}
     */
    void mark(String batchId) throws Exception;

    /** How many batches are there and not marked, as known since opening. */
    long pending() throws Exception;

    /** Reads the oldest batch not yet read nor marked; {@code null} if there is none. */
    @Nullable
    Stored next() throws Exception;

    /**
     * A batch as it was read.
     *
     * @param id its id; empty if the store keeps none
     * @param entries decoded
     */
    record Stored(String id, List<LogEntry> entries) {}

    /** What an application would do from time to time to get disk space back. */
    default void maintain() throws Exception {}

    /** Bytes of what is pending, if the store can tell; else negative. */
    default long liveBytes() {
        return -1;
    }

    /**
     * Bytes that one batch takes in this store's own encoding, apart from all overhead.
     *
     * @param entries of the batch
     */
    default long encodedSize(List<LogEntry> entries) {
        return Otlp.encode(entries).length;
    }

    @Override
    void close() throws IOException;

    /**
     * What is known about a store without opening it.
     *
     * @param name for the command line
     * @param title for tables
     * @param own whether it is of this project
     * @param configuration how it is configured, and who says so
     * @param guarantee what has happened when {@code persist} returns, with and without sync
     * @param limits what it can't do, and why
     * @param opener opens it
     */
    record Kind(
            String name,
            String title,
            boolean own,
            String configuration,
            String guarantee,
            Map<Limit, String> limits,
            Opener opener) {

        public Kind {
            limits = Map.copyOf(limits);
        }

        boolean has(Limit limit) {
            return limits.containsKey(limit);
        }
    }

    /** What a store can't do. */
    enum Limit {
        /** It never forces anything to the device. */
        NEVER_SYNCS,
        /** It can't be told not to. */
        ALWAYS_SYNCS,
        /** Two threads at once break it; here a lock keeps them apart. */
        ONE_WRITER,
        /** A batch can't be marked; marking does nothing. */
        NO_MARK,
        /** Only the oldest can be marked; marking another marks that one. */
        MARKS_IN_ORDER,
        /** What is pending is not known after opening. */
        PENDING_UNKNOWN,
        /** The batch id is not kept. */
        NO_ID,
        /** It keeps batches in a database, see {@link DatabasePlace}. */
        NEEDS_DATABASE;

        static final String NO_DATABASE_GIVEN = "needs a database: measured with --postgresql only";
    }

    /** A store of which several workers can take what is pending, no two of them the same. */
    interface Shared extends Candidate {
        /**
         * Has everything that is pending taken, decoded and marked, as the store's own way is after an outage; returns when
         * nothing is left.
         *
         * @param workers threads that do so at the same time
         */
        Recovered recover(int workers) throws Exception;
    }

    /**
     * What was recovered.
     *
     * @param batches so many
     * @param entries that were in them
     */
    record Recovered(long batches, long entries) {

        static final Recovered NONE = new Recovered(0, 0);

        Recovered and(Stored one) {
            return new Recovered(batches + 1, entries + one.entries().size());
        }

        static Recovered sum(List<Recovered> parts) {
            return new Recovered(
                    parts.stream().mapToLong(Recovered::batches).sum(),
                    parts.stream().mapToLong(Recovered::entries).sum());
        }
    }

    /** Opens a store. */
    @FunctionalInterface
    interface Opener {
        /**
         * Opens it.
         *
         * @param directory exists; empty, or left by the same store; for one in a database, {@link DatabasePlace#prepare prepared}
         * @param sync whether persisting forces to the device
         */
        Candidate open(Path directory, boolean sync) throws Exception;
    }
}
