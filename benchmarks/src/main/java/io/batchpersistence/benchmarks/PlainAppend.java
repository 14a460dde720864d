package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The simplest solution with a file: append length and bytes to one file, and force it. */
final class PlainAppend implements Candidate {

    static final Kind KIND = new Kind(
            "plain-append",
            "plain append + fsync",
            false,
            "OTLP protobuf, length-prefixed, appended to one file; a lock around write and force(false)",
            "sync: forced to the device by each caller (fdatasync); no sync: written to the operating system. No checksum.",
            Map.of(
                    Limit.ONE_WRITER,
                    "a lock lets one caller at a time write and force",
                    Limit.NO_MARK,
                    "a file has no way to say that a batch is delivered; marking does nothing, so draining "
                            + "only reads"),
            PlainAppend::new);

    private final Path file;
    private final boolean sync;
    private final FileChannel channel;
    private long pending;
    private @Nullable DataInputStream reading;

    private PlainAppend(Path directory, boolean sync) throws IOException {
        this.file = directory.resolve("batches.otlp");
        this.sync = sync;
        this.channel =
                FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
        // Skip from length to length.
        ByteBuffer length = ByteBuffer.allocate(Integer.BYTES);
        long position = 0;
        while (channel.read(length.clear(), position) == Integer.BYTES) {
            position += Integer.BYTES + length.getInt(0);
            pending++;
        }
        channel.position(position);
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws IOException {
        byte[] bytes = Otlp.encode(batchId, entries);
        ByteBuffer record = ByteBuffer.allocate(Integer.BYTES + bytes.length)
                .putInt(bytes.length)
                .put(bytes)
                .flip();
        synchronized (this) {
            while (record.hasRemaining()) {
                channel.write(record);
            }
            if (sync) {
                channel.force(false);
            }
            pending++;
        }
    }

    @Override
    public void mark(String batchId) {}

    @Override
    public long pending() {
        return pending;
    }

    @Override
    public @Nullable Stored next() throws IOException {
        if (reading == null) {
            InputStream in = Files.newInputStream(file);
            reading = new DataInputStream(new BufferedInputStream(in, 1 << 16));
        }
        reading.mark(1);
        if (reading.read() < 0) {
            return null;
        }
        reading.reset();
        return Otlp.decodeWithId(reading.readNBytes(reading.readInt()));
    }

    @Override
    public void close() throws IOException {
        if (reading != null) {
            reading.close();
        }
        channel.close();
    }
}
