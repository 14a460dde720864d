package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.batchpersistence.store.SyncPolicy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
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
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** One append to a segment store, waited for, and its mark. {@code -t N} for N callers; {@code -p dir=DIR} for the disk. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public class AppendBenchmark {

    /** When bytes are forced. */
    @Param({"NEVER", "ALWAYS"})
    public SyncPolicy sync = SyncPolicy.NEVER;

    /** Entries of a batch. */
    @Param({"20", "100", "1000"})
    public int entries;

    /** Directory with {@code *.log} files, or empty. */
    @Param("")
    public String corpus = "";

    /** Where the store's directory is made. */
    @Param("benchmarks/target")
    public String dir = "";

    private final AtomicLong ids = new AtomicLong();
    private List<List<LogEntry>> batches = List.of();
    private @Nullable Path directory;
    private @Nullable Candidate store;

    /** Opens an empty store. */
    @Setup
    public void open() throws Exception {
        batches = Corpus.of(corpus.isEmpty() ? null : Path.of(corpus)).batches(entries);
        directory = Files.createTempDirectory(Files.createDirectories(Path.of(dir)), "append");
        store = OwnStore.SEGMENT.opener().open(directory, sync == SyncPolicy.ALWAYS);
    }

    /** Appends and marks. */
    @Benchmark
    public void append() throws Exception {
        long id = ids.getAndIncrement();
        String batchId = Long.toString(id);
        if (store != null) {
            store.persist(batchId, batches.get((int) (id % batches.size())));
            store.mark(batchId);
        }
    }

    /** Closes and deletes it. */
    @TearDown
    public void close() throws Exception {
        if (store != null && directory != null) {
            store.close();
            Scenarios.delete(directory);
        }
    }
}
