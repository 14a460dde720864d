package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueue;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;
import org.jspecify.annotations.Nullable;

/** A queue in memory-mapped files. */
final class ChronicleQueueStore implements Candidate {

    static final Kind KIND = new Kind(
            "chronicle-queue",
            "Chronicle Queue",
            false,
            "OTLP protobuf; one appender a thread, and a lock around the write, since its own one spins; syncMode(SYNC) and ExcerptAppender.sync() after each batch, which is an "
                    + "msync(MS_SYNC) of what was written; block size and roll cycle by default",
            "sync: msync of the mapped pages by each caller; no sync: in the page cache (survives a killed process). No "
                    + "checksum.",
            Map.of(
                    Limit.NO_MARK,
                    "a reader has a position, a batch has no state: out of order nothing can be acknowledged, "
                            + "so marking does nothing, draining only reads, and files are deleted by the application "
                            + "once it knows that it needs none of their batches"),
            ChronicleQueueStore::new);

    private final SingleChronicleQueue queue;
    private final ThreadLocal<ExcerptAppender> appenders;
    private final boolean sync;
    private @Nullable ExcerptTailer reading;

    private ChronicleQueueStore(Path directory, boolean sync) {
        this.sync = sync;
        this.queue = SingleChronicleQueueBuilder.binary(directory)
                .syncMode(sync ? SyncMode.SYNC : SyncMode.NONE)
                .build();
        this.appenders = ThreadLocal.withInitial(queue::createAppender);
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) {
        ExcerptAppender appender = appenders.get();
        Bytes<byte[]> bytes = Bytes.wrapForRead(Otlp.encode(batchId, entries));
        try {
            // The queue's own write lock spins, which is expensive on a machine with fewer cores than writers.
            synchronized (queue) {
                appender.writeBytes(bytes);
            }
        } finally {
            bytes.releaseLast();
        }
        if (sync) {
            appender.sync();
        }
    }

    @Override
    public void mark(String batchId) {}

    /** All batches that were ever written: the queue does not know which of them were delivered. */
    @Override
    public long pending() {
        return queue.entryCount();
    }

    @Override
    public @Nullable Stored next() throws IOException {
        if (reading == null) {
            reading = queue.createTailer();
        }
        Bytes<?> bytes = Bytes.allocateElasticOnHeap();
        try {
            return reading.readBytes(bytes) ? Otlp.decodeWithId(bytes.toByteArray()) : null;
        } finally {
            bytes.releaseLast();
        }
    }

    @Override
    public void close() {
        queue.close();
    }
}
