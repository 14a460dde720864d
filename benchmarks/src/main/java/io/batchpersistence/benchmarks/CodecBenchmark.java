package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/** Entries to bytes on disk and back, for one batch. Lines of {@code -p corpus=DIR}, or generated ones. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public class CodecBenchmark {

    /** How entries are written, with zstd. */
    @Param({"PROTOBUF", "JSON"})
    public BatchFormat format = BatchFormat.PROTOBUF;

    /** Entries of a batch. */
    @Param({"20", "100", "1000"})
    public int entries;

    /** Directory with {@code *.log} files, or empty. */
    @Param("")
    public String corpus = "";

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
        batches = Corpus.of(corpus.isEmpty() ? null : Path.of(corpus)).batches(entries);
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
