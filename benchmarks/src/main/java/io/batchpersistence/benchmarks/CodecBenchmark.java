package io.batchpersistence.benchmarks;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.Formats;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;

/**
 * Encodes entries to bytes on disk and decodes them, for one batch. Lines of {@code -p corpus=DIR}, or generated ones.
 */
public class CodecBenchmark extends CorpusBenchmark {

    /** The format of the entries, with zstd. */
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

    /** Encodes all batches once, to be decoded later. */
    @Setup
    public void prepare() throws IOException {
        batches = readBatches();
        for (List<LogEntry> batch : batches) {
            byte[] raw = Formats.codec(format).encode(batch);
            encoded.add(new Encoded(Compressions.compress(Compression.ZSTD, raw), raw.length));
        }
    }

    /** Encodes and compresses. */
    @Benchmark
    public byte[] encode() {
        return Compressions.compress(Compression.ZSTD, Formats.codec(format).encode(batches.get(next())));
    }

    /** Decompresses and decodes. */
    @Benchmark
    public List<LogEntry> decode() {
        Encoded batch = encoded.get(next());
        return Formats.codec(format)
                .decode(Compressions.decompress(Compression.ZSTD, batch.compressed, batch.rawLength));
    }

    /** In turn, so that branch prediction does not adapt to one batch. */
    private int next() {
        next = next + 1 < batches.size() ? next + 1 : 0;
        return next;
    }
}
