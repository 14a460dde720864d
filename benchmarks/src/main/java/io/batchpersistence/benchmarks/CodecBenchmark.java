package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;

/** Entries to bytes on disk and back, for one batch. Lines of {@code -p corpus=DIR}, or generated ones. */
public class CodecBenchmark extends CorpusBenchmark {

    /** How entries are written, with zstd. */
    @Param({"PROTOBUF", "JSON"})
    public BatchFormat format = BatchFormat.PROTOBUF;

    private static final class Encoded {
        final byte[] compressed;
        final int rawLength;

        Encoded(byte[] compressed, int rawLength) {
            this.compressed = compressed;
            this.rawLength = rawLength;
        }
    }

    private List<List<LogEntry>> batches = List.of();
    private final List<Encoded> encoded = new ArrayList<>();
    private int next;

    /** Encodes once what is decoded later. */
    @Setup
    public void prepare() throws IOException {
        batches = readBatches();
        for (List<LogEntry> batch : batches) {
            byte[] raw = format.codec().encode(batch);
            encoded.add(new Encoded(Compression.ZSTD.compress(raw), raw.length));
        }
    }

    /** Encode and compress. */
    @Benchmark
    public byte[] encode() {
        return Compression.ZSTD.compress(format.codec().encode(batches.get(next())));
    }

    /** Decompress and decode. */
    @Benchmark
    public List<LogEntry> decode() {
        Encoded batch = encoded.get(next());
        return format.codec().decode(Compression.ZSTD.decompress(batch.compressed, batch.rawLength));
    }

    /** In turn, so that no batch's branches are learnt by heart. */
    private int next() {
        next = next + 1 < batches.size() ? next + 1 : 0;
        return next;
    }
}
