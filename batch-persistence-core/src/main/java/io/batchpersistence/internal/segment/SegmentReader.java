package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskReader;
import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Reads segments. A file stays open after a read, for the next one, and of a file that is read from its beginning
 * towards its end, as recovery does with the oldest batches first, more is read at once.
 *
 * <p>An open file belongs to one reader at a time, so no reader waits for another one's disk access: a second reader of
 * a segment opens it, too. A few are kept between reads. None is kept that was open when a segment was deleted: the
 * space of a deleted file is free only when it is closed.
 *
 * <p>What was read ahead of a segment that is being written may be outdated: records found damaged have to be read with
 * {@link #read}. Thread-safe.
 */
final class SegmentReader {

    private static final Logger log = LogSanitizer.logger(SegmentReader.class);

    /** Files kept open: more than threads usually read at the same moment, few for a process. */
    private static final int MAX_IDLE = 8;

    /** Bytes read at once: a dozen usual batches. */
    private static final int WINDOW_BYTES = 64 << 10;

    /** The largest gap in bytes to the next read, left by what is read by others or is gone, to read ahead all the same. */
    private static final int MAX_GAP_BYTES = 16 << 10;

    private final Disk disk;
    private final ReentrantLock lock = new ReentrantLock();

    // ---- guarded by the lock ---------------------------------------------------------------------

    /** The files that nobody is reading; the last one was used last. */
    private final @Nullable OpenSegment[] idle = new OpenSegment[MAX_IDLE];

    private int idleCount;
    /** Counts the calls of {@link #closeFiles}. */
    private long closings;

    private boolean closed;

    SegmentReader(Disk disk) {
        this.disk = disk;
    }

    /** A segment open for reading, owned by the thread that reads it. */
    private static final class OpenSegment {

        final int number;
        /** {@link SegmentReader#closings} when it was opened. */
        final long closings;

        final DiskReader file;
        /** The bytes that were read last, at {@link #windowAt}. */
        private byte[] window = {};

        private long windowAt;
        private int windowLength;
        private long lastEnd = Long.MAX_VALUE;

        OpenSegment(int number, long closings, DiskReader file) {
            this.number = number;
            this.closings = closings;
            this.file = file;
        }

        byte[] read(long offset, int length) throws IOException {
            byte[] bytes = new byte[length];
            int read = file.read(offset, bytes, 0, length);
            return read == length ? bytes : Arrays.copyOf(bytes, read);
        }

        byte[] readAhead(long offset, int length) throws IOException {
            boolean next = offset >= lastEnd && offset - lastEnd <= MAX_GAP_BYTES;
            lastEnd = offset + length;
            if (offset < windowAt || offset + length > windowAt + windowLength) {
                if (!next || length > WINDOW_BYTES / 2) {
                    return read(offset, length);
                }
                if (window.length == 0) {
                    window = new byte[WINDOW_BYTES];
                }
                windowLength = 0;
                windowLength = file.read(offset, window, 0, window.length);
                windowAt = offset;
            }
            int from = (int) (offset - windowAt);
            return Arrays.copyOfRange(window, from, Math.min(from + length, windowLength));
        }
    }

    /** Reads a part of a segment: fewer bytes than {@code length} if the file ends before. */
    byte[] read(int number, Path path, long offset, int length) throws IOException {
        return read(number, path, offset, length, false);
    }

    /**
     * Reads a part of a segment, and more if that is likely to be needed next, or what was read ahead: fewer bytes than
     * {@code length} if the file ends before, or ended then.
     */
    byte[] readAhead(int number, Path path, long offset, int length) throws IOException {
        return read(number, path, offset, length, true);
    }

    private byte[] read(int number, Path path, long offset, int length, boolean ahead) throws IOException {
        OpenSegment open = take(number);
        if (open == null) {
            open = open(number, path);
        }
        boolean kept = false;
        try {
            byte[] bytes = ahead ? open.readAhead(offset, length) : open.read(offset, length);
            kept = keep(open);
            return bytes;
        } finally {
            if (!kept) {
                close(open);
            }
        }
    }

    private OpenSegment open(int number, Path path) throws IOException {
        long before;
        lock.lock();
        try {
            before = closings;
        } finally {
            lock.unlock();
        }
        return new OpenSegment(number, before, disk.openForReading(path));
    }

    private @Nullable OpenSegment take(int number) {
        lock.lock();
        try {
            for (int i = idleCount - 1; i >= 0; i--) {
                OpenSegment open = idle[i];
                if (open != null && open.number == number) {
                    remove(i);
                    return open;
                }
            }
            return null;
        } finally {
            lock.unlock();
        }
    }

    /** Under the lock. */
    private void remove(int index) {
        idleCount--;
        System.arraycopy(idle, index + 1, idle, index, idleCount - index);
        idle[idleCount] = null;
    }

    /** Keeps a file open for the next reader. Returns false if the caller has to close it. */
    private boolean keep(OpenSegment open) {
        OpenSegment longestUnused = null;
        lock.lock();
        try {
            if (closed || open.closings != closings) {
                return false;
            }
            if (idleCount == MAX_IDLE) {
                longestUnused = idle[0];
                remove(0);
            }
            idle[idleCount++] = open;
        } finally {
            lock.unlock();
        }
        if (longestUnused != null) {
            close(longestUnused);
        }
        return true;
    }

    /**
     * Closes the files, those that are being read right after that. To be called before a segment is deleted, because
     * not every file system deletes open files, and after it, because a reader may have opened it meanwhile.
     */
    void closeFiles() {
        closings(false);
    }

    /** As {@link #closeFiles}; from now on no file is kept open. */
    void close() {
        closings(true);
    }

    private void closings(boolean last) {
        lock.lock();
        try {
            closings++;
            closed |= last;
        } finally {
            lock.unlock();
        }
        for (OpenSegment open; (open = takeOutdated()) != null; ) {
            close(open);
        }
    }

    private @Nullable OpenSegment takeOutdated() {
        lock.lock();
        try {
            for (int i = idleCount - 1; i >= 0; i--) {
                OpenSegment open = idle[i];
                if (open != null && open.closings != closings) {
                    remove(i);
                    return open;
                }
            }
            return null;
        } finally {
            lock.unlock();
        }
    }

    private static void close(OpenSegment open) {
        try {
            open.file.close();
        } catch (IOException e) {
            log.debug("Closing segment {} failed", open.number, e);
        }
    }
}
