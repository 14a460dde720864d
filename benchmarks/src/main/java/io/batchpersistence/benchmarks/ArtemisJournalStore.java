package io.batchpersistence.benchmarks;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.activemq.artemis.core.io.nio.NIOSequentialFileFactory;
import org.apache.activemq.artemis.core.journal.PreparedTransactionInfo;
import org.apache.activemq.artemis.core.journal.RecordInfo;
import org.apache.activemq.artemis.core.journal.impl.JournalImpl;
import org.jspecify.annotations.Nullable;

/** The journal of the Artemis message broker, without the broker. */
final class ArtemisJournalStore implements Candidate {

    static final Kind KIND = new Kind(
            "artemis-journal",
            "Artemis journal",
            false,
            "OTLP protobuf; NIO (its ASYNCIO needs libaio), files of 10 MB, 2 to begin with, compaction from 10 files and below "
                    + "30 % as by default; the buffer's timeout, within which syncs are gathered, is measured as \"artemis "
                    + "create\" measures it: 250 forced writes of 4 KiB, five times, and of the fastest time the mean",
            "sync: gathered and forced within the buffer's timeout; no sync: in the process's buffer until the timeout, so a "
                    + "killed process can lose it. Marks are delete records without sync.",
            Map.of(
                    Limit.LESS_SAFE_WITHOUT_SYNC,
                    "without sync a batch is only in the process until the buffer's timeout, so a killed process loses it"),
            ArtemisJournalStore::new);

    // journal-file-size
    private static final int FILE_SIZE = 10 << 20;
    // journal-min-files
    private static final int MIN_FILES = 2;
    // journal-pool-files as "artemis create" sets it
    private static final int POOL_FILES = 10;
    private static final int COMPACT_MIN_FILES = 10;
    private static final int COMPACT_PERCENTAGE = 30;
    // journal-buffer-size
    private static final int BUFFER_SIZE = 490 * 1024;
    private static final byte BATCH = 1;

    private final boolean sync;
    private final NIOSequentialFileFactory files;
    private final JournalImpl journal;
    private final AtomicLong recordIds = new AtomicLong();
    /** Records are marked by number, so an application has to remember the record number of each batch. */
    private final Map<String, Long> recordOf = new ConcurrentHashMap<>();

    private final List<RecordInfo> loaded = new ArrayList<>();
    private int read;

    private ArtemisJournalStore(Path directory, boolean sync) throws Exception {
        this.sync = sync;
        int timeout = bufferTimeout(directory);
        this.files = new NIOSequentialFileFactory(directory.toFile(), true, BUFFER_SIZE, timeout, 1, false);
        files.setDatasync(true);
        this.journal = new JournalImpl(
                FILE_SIZE, MIN_FILES, POOL_FILES, COMPACT_MIN_FILES, COMPACT_PERCENTAGE, files, "batches", "amq", 1);
        journal.start();
        journal.load(loaded, new ArrayList<PreparedTransactionInfo>(), (id, records, deleted) -> {}, false);
        for (RecordInfo record : loaded) {
            recordOf.put(id(record), record.id);
            recordIds.accumulateAndGet(record.id, Math::max);
        }
    }

    /** Measured when the directory is new, and kept, as in the configuration of a broker. */
    private static int bufferTimeout(Path directory) throws IOException {
        Path configuration = directory.resolve("journal-buffer-timeout");
        if (!Files.exists(configuration)) {
            Files.writeString(configuration, String.valueOf(forcedWriteNanos(directory)));
        }
        return Integer.parseInt(Files.readString(configuration));
    }

    /** The mean duration of forced writes into a preallocated file, in the fastest of some rounds. */
    private static int forcedWriteNanos(Path directory) throws IOException {
        Path file = directory.resolve("speed.tmp");
        int writes = 250;
        long fastest = Long.MAX_VALUE;
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.allocate(4096 * writes), 0);
            channel.force(true);
            ByteBuffer block = ByteBuffer.allocateDirect(4096);
            for (int round = 0; round < 5; round++) {
                long start = System.nanoTime();
                for (int i = 0; i < writes; i++) {
                    channel.write(block.clear(), 4096L * i);
                    channel.force(false);
                }
                fastest = Math.min(fastest, System.nanoTime() - start);
            }
        } finally {
            Files.deleteIfExists(file);
        }
        return (int) (fastest / writes);
    }

    private static String id(RecordInfo record) {
        ByteBuffer data = ByteBuffer.wrap(record.data);
        byte[] id = new byte[data.getInt()];
        data.get(id);
        return new String(id, UTF_8);
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws Exception {
        byte[] id = batchId.getBytes(UTF_8);
        byte[] otlp = Otlp.encode(entries);
        byte[] record = ByteBuffer.allocate(Integer.BYTES + id.length + otlp.length)
                .putInt(id.length)
                .put(id)
                .put(otlp)
                .array();
        long recordId = recordIds.incrementAndGet();
        journal.appendAddRecord(recordId, BATCH, record, sync);
        recordOf.put(batchId, recordId);
    }

    @Override
    public void mark(String batchId) throws Exception {
        Long recordId = recordOf.remove(batchId);
        if (recordId == null) {
            throw new IllegalStateException("batch " + batchId + " is not held");
        }
        journal.appendDeleteRecord(recordId, false);
    }

    @Override
    public long pending() {
        return recordOf.size();
    }

    /** The journal returns records only when it is loaded: an application that needs them later must keep them. */
    @Override
    public @Nullable Stored next() throws IOException {
        if (read == loaded.size()) {
            return null;
        }
        RecordInfo record = loaded.set(read++, null);
        ByteBuffer data = ByteBuffer.wrap(record.data);
        data.position(Integer.BYTES + data.getInt(0));
        byte[] otlp = new byte[data.remaining()];
        data.get(otlp);
        return new Stored(id(record), Otlp.decode(otlp));
    }

    @Override
    public void close() {
        journal.stop();
        files.stop();
    }
}
