package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/** Batches of log lines, from {@code -p corpus=DIR} or generated, and the durations of a microbenchmark. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public abstract class CorpusBenchmark {

    /** Entries per batch. */
    @Param({"1", "10", "100", "1000"})
    public int entries;

    /** Directory with {@code *.log} files, or empty. */
    @Param("")
    public String corpus = "";

    /** Whether neighbouring lines have different labels. */
    @Param("true")
    public boolean manyLabels = true;

    /** All lines, in batches. */
    List<List<LogEntry>> readBatches() throws IOException {
        return Corpus.of(corpus.isEmpty() ? null : Path.of(corpus), manyLabels).batches(entries);
    }
}
