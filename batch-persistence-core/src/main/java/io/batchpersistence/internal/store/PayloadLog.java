package io.batchpersistence.internal.store;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.UnreadableFileException;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * Stores the bytes of a store's batches. {@link IndexedBatchStore} does everything else: which batch is in what state,
 * the accounting, the journal.
 *
 * <p>{@link #encode}, {@link #header}, {@link #content}, {@link #diskUsage}, {@link #availableBytes} and {@link #compactionBytesAvailable}
 * are called by any thread, {@link MaintenanceTask#run} and the copying of a {@link Compaction} by the housekeeper, everything
 * else by one thread at a time: first the thread that opens the store, then the commit leader.
 */
public interface PayloadLog {

    /**
     * Reads the existing files.
     *
     * @param loading receives what is found
     * @throws IOException if the directory can't be read, or holds {@linkplain #refuseOther another store's} batches;
     *     damage does not fail it
     */
    void load(Loading loading) throws IOException;

    /**
     * Fails if another kind of store has written batches into the directory: they would be ignored and counted as lost.
     *
     * @param disk the file system
     * @param file a file of that store; what is not a regular file, such as a link, is ignored
     * @param store the name of the store that reads it
     * @throws IOException says what to do
     */
    static void refuseOther(Disk disk, Path file, String store) throws IOException {
        try {
            disk.read(file, 0, 1);
        } catch (UnreadableFileException e) {
            throw e;
        } catch (IOException e) {
            return;
        }
        throw new IOException("the file " + file.getFileName() + " was written by the store '" + store
                + "', which alone reads it. Set the store to " + store
                + " again; to change it, use another directory once all batches are delivered. If there are files of both, move"
                + " those of one into a directory of their own");
    }

    /**
     * Converts a time to its stored form. Times that do not fit, such as {@link Instant#MAX} for never, become the
     * nearest that does.
     *
     * @param time a time
     * @return milliseconds since 1970; never {@link Long#MAX_VALUE}, which stands for no time at all
     */
    static long millis(Instant time) {
        if (time.getEpochSecond() >= Long.MAX_VALUE / 1_000) {
            return Long.MAX_VALUE - 1;
        }
        return time.getEpochSecond() <= Long.MIN_VALUE / 1_000 ? Long.MIN_VALUE : time.toEpochMilli();
    }

    /** Receives what {@link #load} finds. */
    interface Loading {

        /**
         * Whether a batch's bytes are only a remnant.
         *
         * @param sequence its number
         * @return whether the batch is delivered, expired or otherwise gone
         */
        boolean isGone(long sequence);

        /**
         * Where a file's accepted content ends.
         *
         * @param file the file's number
         * @return {@code null} if there is no such limit
         */
        @Nullable
        FileEnd fileEnd(int file);

        /**
         * The highest file number known to have been assigned, whether there is such a file or not. No number is
         * assigned twice.
         *
         * @return 0 if there was none
         */
        int lastFile();

        /**
         * Assigns a number to a batch that was put there by hand.
         *
         * @return one never used before
         */
        long newSequence();

        /**
         * Reports a batch that is held.
         *
         * @param pointer where it is
         * @param idHash {@link IndexedBatchStore#idHash} of its id
         * @param collectorType its collector type
         * @param createdAt when it was persisted, milliseconds since 1970
         * @param entryCount how many entries it has
         * @param persistedState its state, if the payload knows it better than the journal
         */
        void found(
                RecordPointer pointer,
                long idHash,
                String collectorType,
                long createdAt,
                int entryCount,
                @Nullable PersistedState persistedState);

        /**
         * Reports bytes that were being written when the process or the machine stopped: no batch in them was accepted.
         *
         * @param file the file
         * @param offset where
         * @param length how many
         */
        void tornTail(Path file, long offset, long length);

        /**
         * Reports damaged bytes.
         *
         * @param file the file
         * @param offset where
         * @param length how many
         * @param reason what is wrong
         * @param id the id of the batch in them, if it could be read
         * @param collectorType its collector type, if it could be read
         * @param lost the numbers of the batches lost in them, or possibly lost, unless they are held elsewhere; 0 for
         *     a batch whose number is lost, too
         * @return whether the bytes have been copied to a place where a person can inspect them
         */
        boolean damaged(
                Path file,
                long offset,
                long length,
                String reason,
                @Nullable String id,
                @Nullable String collectorType,
                long[] lost);
    }

    /**
     * Where the accepted content of a file ends.
     *
     * @param offset from there on nothing was accepted
     * @param lastSequence the highest number of a batch that was ever written to the file: it identifies the file, in
     *     case there is another one under its number
     */
    record FileEnd(long offset, long lastSequence) {}

    /** A batch turned into bytes. */
    interface Encoded {
        /**
         * Its size on disk.
         *
         * @return bytes
         */
        int size();
    }

    /**
     * Turns a batch into bytes.
     *
     * @param batch the batch
     * @param idHash {@link IndexedBatchStore#idHash} of its id
     * @return for {@link #write}
     * @throws IllegalArgumentException if it is larger than a record can be
     */
    Encoded encode(NewBatch batch, long idHash);

    /** A batch on its way to the disk. */
    final class Append {
        final String id;
        final String collectorType;
        final long idHash;
        final long createdAt;
        final long leaseUntil;
        final int entryCount;
        final long sequence;
        final Encoded encoded;
        final CompletableFuture<@Nullable Void> done = new CompletableFuture<>();

        /** The caller, if it waits, see {@link StoreWriter#await}; it completes the future itself. */
        final @Nullable Thread waiting;

        /** What that caller has to write, as commit leader; {@code null} if another thread writes the batch. */
        StoreWriter.@Nullable Round round;

        /** Whether the caller that waits may go on. */
        volatile boolean settled;

        @Nullable
        RecordPointer pointer;

        @Nullable
        Throwable failure;

        /** Whether the result has reached the index, so that nothing has to be decided about it any more. */
        boolean published;

        Append(NewBatch batch, long sequence, Encoded encoded, long idHash, @Nullable Thread waiting) {
            this.id = batch.id();
            this.idHash = idHash;
            this.collectorType = batch.collectorType();
            this.createdAt = millis(batch.createdAt());
            this.leaseUntil = millis(batch.leaseUntil());
            this.entryCount = batch.entries().size();
            this.sequence = sequence;
            this.encoded = encoded;
            this.waiting = waiting;
        }

        /**
         * Its number.
         *
         * @return larger than that of every append before it
         */
        public long sequence() {
            return sequence;
        }

        /**
         * What to write.
         *
         * @return made by {@link PayloadLog#encode}
         */
        public Encoded encoded() {
            return encoded;
        }

        /**
         * Reports that it is as durable as the settings promise.
         *
         * @param where where it is
         */
        public void stored(RecordPointer where) {
            pointer = where;
        }

        /**
         * Reports that it is not stored, and will not turn up later.
         *
         * @param why what went wrong
         */
        public void failed(Throwable why) {
            pointer = null;
            failure = why;
        }
    }

    /**
     * Whether files of removed batches are in the way of these appends. Such files are deleted in
     * {@link #journalForced}: until it is durable how a batch has ended, its bytes must stay, or a power cut makes it a
     * missing one.
     *
     * @param group what is written next
     */
    default boolean needsJournalForced(List<Append> group) {
        return false;
    }

    /**
     * Writes batches, with one force for all of them, and reports the result to each append. Throws nothing.
     *
     * @param group in order of their numbers
     */
    void write(List<Append> group);

    /**
     * Forces what was written without force.
     *
     * @throws IOException if that failed
     */
    void force() throws IOException;

    /**
     * What is known of a batch without its entries.
     *
     * @param id its id
     * @param collectorType its collector type
     * @param createdAt when it was persisted
     * @param context what the caller gave along
     * @param entryCount how many entries it has
     */
    record Header(String id, String collectorType, Instant createdAt, Map<String, String> context, int entryCount) {}

    /**
     * A batch's bytes, decoded.
     *
     * @param header all but the entries
     * @param entries the entries
     */
    record Content(Header header, List<LogEntry> entries) {}

    /**
     * Reads a batch without its entries.
     *
     * @param pointer where it is
     * @return the header
     * @throws io.batchpersistence.internal.codec.DamagedPayloadException if the bytes are damaged
     * @throws IOException if they can't be read
     */
    Header header(RecordPointer pointer) throws IOException;

    /**
     * Reads a batch.
     *
     * @param pointer where it is
     * @return the batch
     * @throws io.batchpersistence.internal.codec.DamagedPayloadException if the bytes are damaged
     * @throws IOException if they can't be read
     */
    Content content(RecordPointer pointer) throws IOException;

    /**
     * Which file a location is in.
     *
     * @param pointer the location
     * @return its path
     */
    Path file(RecordPointer pointer);

    /**
     * The state of a batch has changed. The journal is written next.
     *
     * @param pointer where its bytes are
     * @param persistedState its new state
     */
    void changed(RecordPointer pointer, PersistedState persistedState);

    /**
     * A batch is gone. The journal is written next; the bytes must stay until {@link #journalForced} or
     * {@link #reclaim}.
     *
     * @param pointer where its bytes are
     */
    void removed(RecordPointer pointer);

    /**
     * Bytes have turned out to be a copy, or the original, of a batch that is held elsewhere: they are not needed.
     *
     * @param pointer where they are
     */
    default void superseded(RecordPointer pointer) {
        throw new IllegalStateException("there are no copies of " + pointer);
    }

    /**
     * Whether {@link #reclaim} has so much to delete that forcing the journal for it pays off.
     *
     * @return always false if the housekeeper deletes files, see {@link #nextDeletion}
     */
    default boolean isReclaimable() {
        return false;
    }

    /**
     * Deletes files that hold no batches, including the one being written if it is not empty. The journal has been
     * forced already.
     */
    void reclaim();

    /**
     * Everything that the journal contains up to now has been forced.
     *
     * @throws IOException if the changes reported to {@link #changed} can't be made durable, too; this is called again
     *     later
     */
    default void journalForced() throws IOException {}

    /** Why the changes reported to {@link #changed} are not in the payload files yet, if that failed. Needs no lock. */
    default @Nullable IOException markFailure() {
        return null;
    }

    /**
     * Whether it needs the calls of {@link #journalForced}.
     *
     * @return always the same
     */
    default boolean awaitsJournal() {
        return false;
    }

    /** A maintenance task: work on files that no caller waits for. */
    interface MaintenanceTask {
        /** Does the work; not as commit leader. Throws nothing. */
        void run();

        /** Puts the result into effect; commit leader only. */
        void finish();
    }

    /**
     * Whether the housekeeper should call {@link #nextMaintenanceTask}, then {@link #nextCompaction}.
     *
     * @return whether there may be work; cheap to call
     */
    default boolean hasMaintenance() {
        return false;
    }

    /**
     * The next maintenance task.
     *
     * @return {@code null} if there is none
     */
    default @Nullable MaintenanceTask nextMaintenanceTask() {
        return null;
    }

    /**
     * The deletion of files that hold no batches. The journal is forced before it is run.
     *
     * @param all whether to include the file being written
     * @return {@code null} if there are none, or if {@link #reclaim} has to be called for it
     */
    default @Nullable MaintenanceTask nextDeletion(boolean all) {
        return null;
    }

    /** Copies the batches held in some sparse files into a new one. */
    interface Compaction extends AutoCloseable {

        /**
         * Whether it replaces a file.
         *
         * @param file a file's number
         * @return whether that file is replaced
         */
        boolean replaces(int file);

        /**
         * Reads a batch that is to be copied. Not called as commit leader; nor are {@link #copy} and {@link #finish}.
         *
         * @param from where it is
         * @return its bytes
         * @throws io.batchpersistence.internal.codec.DamagedPayloadException if they are damaged
         * @throws IOException if they can't be read; no other batch is affected
         */
        byte[] read(RecordPointer from) throws IOException;

        /**
         * Copies a batch.
         *
         * @param from where it is
         * @param bytes the bytes read there; modified
         * @return where its copy is
         * @throws IOException if it can't be written. Then the whole compaction has failed: earlier copies may not
         *     become durable either, whatever {@link #finish} reports.
         */
        RecordPointer copy(RecordPointer from, byte[] bytes) throws IOException;

        /**
         * Makes the copies durable.
         *
         * @throws IOException if that failed
         */
        void finish() throws IOException;

        /**
         * Puts the new file beside those it replaces. Commit leader only, like {@link #moved}.
         *
         * @throws IOException if that failed; then nothing has changed
         */
        void install() throws IOException;

        /**
         * Reports what has become of a batch that was copied.
         *
         * @param from where it was
         * @param to where its copy is
         * @param held whether it is at its new place from now on; otherwise it is gone
         */
        void moved(RecordPointer from, RecordPointer to, boolean held);

        /** Removes the copies if they have not been installed. */
        @Override
        void close();
    }

    /**
     * Begins a compaction if it pays off.
     *
     * @param all whether to compact even if little is gained
     * @return {@code null} if it does not pay off
     */
    default @Nullable Compaction nextCompaction(boolean all) {
        return null;
    }

    /**
     * The space that must stay free for compaction, so that a full store can reclaim the garbage in its files.
     *
     * @return bytes
     */
    default long compactionBytesAvailable() {
        return 0;
    }

    /**
     * Called after {@link #load} with the batches that were reported as damaged and are not held elsewhere. They belong
     * to {@link #gone}, so that the loss is not counted again.
     *
     * @param sequences their numbers
     */
    default void lost(long[] sequences) {}

    /**
     * The batches that are gone although their bytes are still there.
     *
     * @return their numbers
     */
    long[] gone();

    /**
     * Where the accepted content of damaged files ends.
     *
     * @return the ends by file number
     */
    Map<Integer, FileEnd> fileEnds();

    /**
     * The highest number that a file has had.
     *
     * @return 0 if files have no numbers
     */
    default int lastFile() {
        return 0;
    }

    /**
     * Bytes of all payload files.
     *
     * @return real file sizes, reserved room included
     */
    long diskUsage();

    /**
     * How much of {@link #diskUsage} is reserved for batches to come.
     *
     * @return bytes; negative if those accepted so far will need more than they use now
     */
    long availableBytes();

    /** Ends the file being written and closes it. Throws nothing. */
    void close();
}
