package io.batchpersistence.benchmarks;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.github.luben.zstd.Zstd;
import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.rocksdb.CompressionType;
import org.rocksdb.FlushOptions;
import org.rocksdb.Options;
import org.rocksdb.RocksDB;
import org.rocksdb.RocksDBException;
import org.rocksdb.RocksIterator;
import org.rocksdb.WriteOptions;

/** A log-structured merge tree: the key is the batch id, the value the OTLP bytes. */
final class RocksDbStore implements Candidate {

    static final Kind KIND = new Kind(
            "rocksdb",
            "RocksDB",
            false,
            "OTLP protobuf; zstd on all levels; pipelined writes, for concurrent writers, and with sync recycled write-ahead "
                    + "logs, for cheaper syncs, as its documentation offers them; it groups the syncs of waiting threads by "
                    + "itself; flushed on close",
            "sync: write-ahead log forced (WriteOptions.sync); no sync: write-ahead log written to the operating system. "
                    + "Checksummed. Marks are deletes without sync.",
            Map.of(),
            RocksDbStore::new);

    private static final int DEFAULT_ZSTD_LEVEL = 3;

    private final Options options;
    private final WriteOptions write;
    private final WriteOptions delete;
    private final RocksDB db;
    private final AtomicLong pending = new AtomicLong();
    private @Nullable RocksIterator reading;

    private RocksDbStore(Path directory, boolean sync) throws RocksDBException {
        RocksDB.loadLibrary();
        this.options = new Options()
                .setCreateIfMissing(true)
                .setCompressionType(CompressionType.ZSTD_COMPRESSION)
                .setEnablePipelinedWrite(true)
                // Reduces what is forced besides data; without sync there is nothing to reduce.
                .setRecycleLogFileNum(sync ? 4 : 0);
        this.write = new WriteOptions().setSync(sync);
        this.delete = new WriteOptions();
        this.db = RocksDB.open(options, directory.toString());
        // Only the keys are needed, but they are stored beside the values: this reads all of them.
        try (RocksIterator all = db.newIterator()) {
            for (all.seekToFirst(); all.isValid(); all.next()) {
                pending.incrementAndGet();
            }
            all.status();
        }
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws RocksDBException {
        db.put(write, batchId.getBytes(UTF_8), Otlp.encode(entries));
        pending.incrementAndGet();
    }

    @Override
    public void mark(String batchId) throws RocksDBException {
        db.delete(delete, batchId.getBytes(UTF_8));
        pending.decrementAndGet();
    }

    @Override
    public long pending() {
        return pending.get();
    }

    @Override
    public @Nullable Stored next() throws RocksDBException, IOException {
        if (reading == null) {
            reading = db.newIterator();
            reading.seekToFirst();
        }
        if (!reading.isValid()) {
            reading.status();
            return null;
        }
        Stored stored = new Stored(new String(reading.key(), UTF_8), Otlp.decode(reading.value()));
        reading.next();
        return stored;
    }

    @Override
    public long encodedSize(List<LogEntry> entries) {
        return Zstd.compress(Otlp.encode(entries), DEFAULT_ZSTD_LEVEL).length;
    }

    @Override
    public void close() throws IOException {
        if (reading != null) {
            reading.close();
        }
        try (FlushOptions flush = new FlushOptions().setWaitForFlush(true)) {
            db.flush(flush);
        } catch (RocksDBException e) {
            throw new IOException(e);
        }
        db.close();
        write.close();
        delete.close();
        options.close();
    }
}
