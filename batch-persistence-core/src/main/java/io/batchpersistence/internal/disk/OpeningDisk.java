package io.batchpersistence.internal.disk;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.slf4j.Logger;

/**
 * A disk for a store that is being opened. Decisions made then are final, so a failed read is tried again for a moment,
 * and ends the opening with an {@link UnreadableFileException} if it keeps failing. A file that does not exist, or is
 * not a regular file, is not such a failure: its state is known. After {@link #opened} every call goes straight
 * through.
 */
public final class OpeningDisk extends ForwardingDisk {

    private static final Logger log = LogSanitizer.logger(OpeningDisk.class);

    /** Pauses between attempts. */
    private static final int[] PAUSES_MILLIS = {2, 20, 200};

    private volatile boolean opening = true;

    public OpeningDisk(Disk disk) {
        super(disk);
    }

    /** Ends the opening: from now on callers can wait after a failed read, and try again. */
    public void opened() {
        opening = false;
    }

    private interface Reading<T> {
        T read() throws IOException;
    }

    private <T> T read(Path file, Reading<T> reading) throws IOException {
        for (int attempt = 0; ; attempt++) {
            try {
                return reading.read();
            } catch (NoSuchFileException | NotRegularFileException e) {
                throw e;
            } catch (IOException e) {
                if (!opening) {
                    throw e;
                }
                if (attempt == PAUSES_MILLIS.length) {
                    throw new UnreadableFileException(file, e);
                }
                log.warn("{} can't be read: {}; it is tried again", file, e.toString());
                disk.pause(Duration.ofMillis(PAUSES_MILLIS[attempt]));
            }
        }
    }

    /**
     * While the store is being opened, the file is opened for each read instead, so that nothing stays open should that
     * end in a failure.
     */
    @Override
    public DiskReader openForReading(Path file) throws IOException {
        if (!opening) {
            return super.openForReading(file);
        }
        return new DiskReader() {
            @Override
            public int read(long offset, byte[] into, int at, int length) throws IOException {
                byte[] bytes = OpeningDisk.this.read(file, offset, length);
                System.arraycopy(bytes, 0, into, at, bytes.length);
                return bytes.length;
            }

            @Override
            public void close() {
                // Nothing is open.
            }
        };
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        return read(file, () -> disk.read(file, offset, length));
    }

    @Override
    public long size(Path file) throws IOException {
        return read(file, () -> disk.size(file));
    }

    @Override
    public List<Path> list(Path directory) throws IOException {
        return read(directory, () -> disk.list(directory));
    }
}
