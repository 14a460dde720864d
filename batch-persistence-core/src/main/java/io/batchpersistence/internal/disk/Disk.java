package io.batchpersistence.internal.disk;

import java.io.Closeable;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.locks.LockSupport;

/**
 * All that the stores ask of a file system. It opens only regular files: symbolic links in the store's directory are
 * not followed, only removed or renamed. Only the owner can read what it creates.
 *
 * <p>It promises no more than POSIX does:
 *
 * <ul>
 *   <li>Bytes written survive a power cut only after {@link DiskFile#force}; until then any 512-byte piece of them may
 *       survive or vanish alone.
 *   <li>Creating, moving or deleting a file survives a power cut only after {@link #forceDirectory}.
 *   <li>A failed write may have written a part.
 *   <li>After a failed force nothing is known about the bytes it was for, and a later force that succeeds says nothing
 *       about them.
 *   <li>{@link #move} replaces the target atomically.
 * </ul>
 *
 * <p>An interrupt of the calling thread has no effect on any of it. Thread-safe.
 */
public interface Disk {

    /** Creates a new, empty file for writing, which must not exist. */
    DiskFile create(Path file) throws IOException;

    /** Opens an existing file for writing. */
    DiskFile open(Path file) throws IOException;

    /** Opens an existing file for reading. */
    DiskReader openForReading(Path file) throws IOException;

    /** Reads a part of a file: fewer bytes than {@code length} if the file ends before. */
    byte[] read(Path file, long offset, int length) throws IOException;

    /** The size of an existing file in bytes. */
    long size(Path file) throws IOException;

    /** The paths of the files and directories in a directory, in no particular order. */
    List<Path> list(Path directory) throws IOException;

    /**
     * Creates a directory and its parents where absent, and forces their entries.
     *
     * @param directory must not be a symbolic link, though its parents may be
     */
    void createDirectories(Path directory) throws IOException;

    /** Renames an existing file within its file system, replacing the target. */
    void move(Path from, Path to) throws IOException;

    /** Deletes a file if it exists. */
    void delete(Path file) throws IOException;

    /** Makes creations, moves and deletions in a directory durable. */
    void forceDirectory(Path directory) throws IOException;

    /**
     * Writes the beginning of a file again as it is read, so that the next {@link DiskFile#force} makes it durable. For
     * bytes that another process has written: it may not have forced them, or its force may have failed. Such bytes can
     * be read as long as the system runs, but another force does not write them; only another write does.
     *
     * @param open the file, open for writing
     * @param file where it is
     * @param end how many bytes
     */
    default void rewrite(DiskFile open, Path file, long end) throws IOException {
        for (long at = 0; at < end; ) {
            byte[] bytes = read(file, at, (int) Math.min(256 << 10, end - at));
            if (bytes.length == 0) {
                throw new IOException(file + " ends at " + at + " and not at " + end);
            }
            open.write(at, bytes, 0, bytes.length);
            at += bytes.length;
        }
    }

    /** Pauses before a failed operation is tried again. A simulated disk need not wait. */
    default void pause(Duration pause) {
        LockSupport.parkNanos(pause.toNanos());
    }

    /** A file open for reading, also after it was renamed or deleted. For one thread at a time. */
    interface DiskReader extends Closeable {

        /** Reads a part of the file: fewer bytes than {@code length} if it ends before. Returns how many. */
        int read(long offset, byte[] into, int at, int length) throws IOException;

        @Override
        void close() throws IOException;
    }

    /** A file open for writing. For one thread at a time. */
    interface DiskFile extends Closeable {

        /**
         * Writes all of the bytes.
         *
         * @throws IOException if not all could be written; a part may have been
         */
        void write(long offset, byte[] bytes, int from, int length) throws IOException;

        /**
         * Makes what was written durable.
         *
         * @throws IOException if that failed; the bytes must then be considered lost
         */
        void force() throws IOException;

        void truncate(long size) throws IOException;

        @Override
        void close() throws IOException;
    }
}
