package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A store under measurement. {@link #persist} and {@link #mark} are called by many threads, all other methods by a
 * single thread, with no concurrent calls. Encoding is part of persisting, decoding part of reading.
 */
interface Candidate extends AutoCloseable {

    /**
     * Persists a batch; returns when it is as durable as the store was opened for.
     *
     * @param batchId never used before
     * @param entries the entries of the batch
     */
    void persist(String batchId, List<LogEntry> entries) throws Exception;

    /**
     * Marks a batch as delivered. Marks are not forced in any store: a mark that is lost in a power failure causes a
     * batch to be sent twice.
     *
     * @param batchId the id of a batch that was persisted, or read by {@link #next}
     */
    void mark(String batchId) throws Exception;

    /**
     * Persists a batch and marks it as delivered, as an application does with a collector that takes it at once.
     *
     * @param batchId never used before
     * @param entries the entries of the batch
     * @return how long persisting alone took, in nanoseconds
     */
    default long persistAndMark(String batchId, List<LogEntry> entries) throws Exception {
        long start = System.nanoTime();
        persist(batchId, entries);
        long took = System.nanoTime() - start;
        mark(batchId);
        return took;
    }

    /** The number of batches that are not marked, as known since opening. */
    long pending() throws Exception;

    /** Reads the oldest batch that is neither read nor marked yet; {@code null} if there is none. */
    @Nullable
    Stored next() throws Exception;

    /**
     * A batch as it was read.
     *
     * @param id the batch's id; empty if the store keeps none
     * @param entries the decoded entries
     */
    record Stored(String id, List<LogEntry> entries) {}

    /** Reclaims disk space, as an application would do periodically. */
    default void maintain() throws Exception {}

    /** Bytes of the pending batches, if the store can tell; else negative. */
    default long liveBytes() {
        return -1;
    }

    /**
     * Returns the size of one batch in this store's own encoding, without any overhead, in bytes.
     *
     * @param entries the entries of the batch
     */
    default long encodedSize(List<LogEntry> entries) {
        return Otlp.encode(entries).length;
    }

    @Override
    void close() throws IOException;

    /**
     * The properties of a store, known without opening it.
     *
     * @param name the name on the command line
     * @param title the name in tables
     * @param own whether it is a store of this project
     * @param configuration how it is configured, and the source of that configuration
     * @param guarantee what is guaranteed when {@code persist} returns, with and without sync
     * @param limits what it can't do, and why
     * @param opener opens the store
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

        private static final String BEFORE = "-before";

        /** The same store of this project as another checkout builds it. */
        Kind before() {
            return new Kind(
                    name + BEFORE,
                    title.replace("this project", "before"),
                    own,
                    configuration + "; as the checkout of --before builds it",
                    guarantee,
                    limits,
                    opener);
        }

        boolean isBefore() {
            return name.endsWith(BEFORE);
        }

        /** What is less safe than in this project's stores when persisting returns; {@code null} if nothing is. */
        @Nullable
        String lessSafe(boolean sync) {
            return limits.get(sync ? Limit.LESS_SAFE_WITH_SYNC : Limit.LESS_SAFE_WITHOUT_SYNC);
        }
    }

    /** What a store does not support. */
    enum Limit {
        /** It never forces anything to the device. */
        NEVER_SYNCS,
        /** It can't be configured not to force. */
        ALWAYS_SYNCS,
        /** With sync, a power failure can take a batch whose persisting has returned. */
        LESS_SAFE_WITH_SYNC,
        /** Without sync, a killed process can take a batch whose persisting has returned. */
        LESS_SAFE_WITHOUT_SYNC,
        /** Two concurrent threads break it; here a lock serializes them. */
        ONE_WRITER,
        /** A batch can't be marked; marking does nothing. */
        NO_MARK,
        /** Only the oldest batch can be marked; marking another one marks the oldest. */
        MARKS_IN_ORDER,
        /** The number of pending batches is not known after opening. */
        PENDING_UNKNOWN,
        /** The batch id is not kept. */
        NO_ID,
        /** It keeps batches in a database, see {@link DatabasePlace}. */
        NEEDS_DATABASE;

        static final String COMMITTED_LATER =
                "without sync the server writes a commit within 0.6 s, so a killed server loses that much";
        static final String NO_DATABASE_GIVEN = "needs a database: measured with --postgresql only";
    }

    /** A store whose pending batches can be claimed by several workers, each batch by one of them. */
    interface Shared extends Candidate {
        /**
         * Claims, decodes and marks everything that is pending, in the store's own way after an outage; returns when
         * nothing is left.
         *
         * @param workers number of concurrent threads
         */
        Recovered recover(int workers) throws Exception;
    }

    /**
     * The number of recovered batches and entries.
     *
     * @param batches number of batches
     * @param entries number of entries in them
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
         * Opens a store.
         *
         * @param directory exists; empty, or left by the same store; for a store in a database, {@link
         *     DatabasePlace#prepare prepared}
         * @param sync whether persisting forces to the device
         */
        Candidate open(Path directory, boolean sync) throws Exception;
    }
}
