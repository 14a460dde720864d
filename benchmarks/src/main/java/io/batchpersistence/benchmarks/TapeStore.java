package io.batchpersistence.benchmarks;

import com.squareup.tape2.QueueFile;
import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Square's queue in a file: elements in a ring; only the head can be removed. */
final class TapeStore implements Candidate {

    static final Kind KIND = new Kind(
            "tape",
            "Square Tape",
            false,
            "OTLP protobuf in a QueueFile; zero(false), so that removed elements are not overwritten",
            "the file is opened \"rwd\": every write, the header's too, is forced before it returns. No checksum. Marks are "
                    + "forced, too.",
            Map.of(
                    Limit.ALWAYS_SYNCS, "it opens its file \"rwd\" and offers no other way",
                    Limit.ONE_WRITER, "not thread-safe, its documentation says; a lock keeps callers apart",
                    Limit.MARKS_IN_ORDER,
                            "first in, first out: only the head can be removed, whichever batch was meant"),
            (directory, sync) -> new TapeStore(directory));

    private final QueueFile queue;

    private TapeStore(Path directory) throws IOException {
        this.queue = new QueueFile.Builder(directory.resolve("batches.tape").toFile())
                .zero(false)
                .build();
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws IOException {
        byte[] bytes = Otlp.encode(batchId, entries);
        synchronized (this) {
            queue.add(bytes);
        }
    }

    @Override
    public synchronized void mark(String batchId) throws IOException {
        queue.remove();
    }

    @Override
    public long pending() {
        return queue.size();
    }

    /** Returns the head; the element behind it only after the head was marked. */
    @Override
    public @Nullable Stored next() throws IOException {
        byte[] bytes = queue.peek();
        return bytes == null ? null : Otlp.decodeWithId(bytes);
    }

    @Override
    public void close() throws IOException {
        queue.close();
    }
}
