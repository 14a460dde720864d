package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.zip.Deflater;
import org.h2.mvstore.Cursor;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;
import org.jspecify.annotations.Nullable;

/** The tree below the H2 database: the key is the batch id, the value the OTLP bytes. */
final class MvStoreStore implements Candidate {

    static final Kind KIND = new Kind(
            "h2-mvstore",
            "H2 MVStore",
            false,
            "OTLP protobuf in a map; compressHigh (Deflate); old chunks retained for 45 s, as by default; closed with the "
                    + "200 ms of compaction that an H2 database allows itself",
            "sync: commit() and sync() by each caller, as its documentation says for durability; no sync: left to its "
                    + "background thread, which commits once a second or when the buffer is full, so a killed process loses "
                    + "that much. Checksummed. Marks are committed with the next batch.",
            Map.of(
                    Limit.LESS_SAFE_WITHOUT_SYNC,
                    "without sync a batch is only in the process for up to a second, so a killed process loses it"),
            MvStoreStore::new);

    // The limit of an H2 database when it is closed, MAX_COMPACT_TIME.
    private static final int COMPACT_MILLIS = 200;

    private final MVStore store;
    private final MVMap<String, byte[]> batches;
    private final boolean sync;
    private @Nullable Cursor<String, byte[]> reading;

    private MvStoreStore(Path directory, boolean sync) {
        this.sync = sync;
        this.store = new MVStore.Builder()
                .fileName(directory.resolve("batches.mv").toString())
                .compressHigh()
                .open();
        this.batches = store.openMap("batches");
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) {
        batches.put(batchId, Otlp.encode(entries));
        if (sync) {
            store.commit();
            store.sync();
        }
    }

    @Override
    public void mark(String batchId) {
        batches.remove(batchId);
    }

    @Override
    public long pending() {
        return batches.sizeAsLong();
    }

    @Override
    public @Nullable Stored next() throws IOException {
        if (reading == null) {
            reading = batches.cursor(null);
        }
        if (!reading.hasNext()) {
            return null;
        }
        String id = reading.next();
        return new Stored(id, Otlp.decode(reading.getValue()));
    }

    @Override
    public long encodedSize(List<LogEntry> entries) {
        byte[] bytes = Otlp.encode(entries);
        Deflater deflater = new Deflater();
        try {
            deflater.setInput(bytes);
            deflater.finish();
            byte[] out = new byte[bytes.length + 64];
            return deflater.deflate(out);
        } finally {
            deflater.end();
        }
    }

    @Override
    public void close() {
        store.close(COMPACT_MILLIS);
    }
}
