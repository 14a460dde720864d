package io.batchpersistence.internal.store;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps damaged bytes as evidence: one copy per damage, in the directory {@value #DIRECTORY}, named after the file and
 * the offset they come from. Limited in size; for a person to inspect and delete.
 */
final class Quarantine {

    static final String DIRECTORY = "quarantine";

    private static final Logger log = LogSanitizer.logger(Quarantine.class);

    private static final int CHUNK = 1 << 20;

    private final Disk disk;
    private final Path storeDirectory;
    private final Path directory;
    private final long maxBytes;
    private final ReentrantLock copying = new ReentrantLock();
    private volatile long bytes;

    /**
     * Measures the existing evidence.
     *
     * @param maxBytes limit on the evidence kept
     */
    Quarantine(Disk disk, Path storeDirectory, long maxBytes) {
        this.disk = disk;
        this.storeDirectory = storeDirectory;
        this.directory = storeDirectory.resolve(DIRECTORY);
        this.maxBytes = maxBytes;
        measure();
    }

    long bytes() {
        return bytes;
    }

    private void measure() {
        try {
            long sum = 0;
            if (disk.list(storeDirectory).contains(directory)) {
                for (Path kept : disk.list(directory)) {
                    sum += disk.size(kept);
                }
            }
            bytes = sum;
        } catch (IOException e) {
            log.warn("Could not list {}: {}", directory, e.toString());
        }
    }

    /** Measures the evidence again: a person may have deleted some, and a copy may have replaced another. */
    void refresh() {
        if (bytes > 0) {
            copying.lock();
            try {
                measure();
            } finally {
                copying.unlock();
            }
        }
    }

    /**
     * Copies damaged bytes. Other threads that found damage wait meanwhile; no others do.
     *
     * @return the copy, or {@code null} if there is no space, or copying failed
     */
    @Nullable
    Path keep(Path file, long offset, long length) {
        if (length == 0) {
            return null;
        }
        Path copy = directory.resolve(file.getFileName() + "-" + offset + ".damaged");
        copying.lock();
        try {
            // Counted, not measured: measuring for each of many damages would make opening quadratic.
            long counted = bytes + length;
            if (counted > maxBytes) {
                return null;
            }
            bytes = counted;
            disk.createDirectories(directory);
            disk.delete(copy);
            copy(file, offset, length, copy);
            return copy;
        } catch (IOException e) {
            log.warn("Could not copy damaged bytes of {} to {}: {}", file, copy, e.toString());
            measure();
            return null;
        } finally {
            copying.unlock();
        }
    }

    private void copy(Path file, long offset, long length, Path copy) throws IOException {
        try (DiskFile out = disk.create(copy)) {
            for (long done = 0; done < length; ) {
                byte[] chunk = disk.read(file, offset + done, (int) Math.min(CHUNK, length - done));
                if (chunk.length == 0) {
                    break;
                }
                out.write(done, chunk, 0, chunk.length);
                done += chunk.length;
            }
            out.force();
        }
        disk.forceDirectory(directory);
        // A process that was killed may have created the directory without forcing it.
        disk.forceDirectory(storeDirectory);
    }

    /** For a log line. */
    static String describe(@Nullable Path copy) {
        return copy == null ? "No copy is kept" : "Kept in " + copy;
    }
}
