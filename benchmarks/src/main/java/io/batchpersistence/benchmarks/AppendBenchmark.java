package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.batchpersistence.SyncPolicy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.TearDown;

/**
 * One append to a segment store, including the wait for it, and its mark. {@code -t N} for N callers; {@code -p
 * dir=DIR} for the disk.
 */
public class AppendBenchmark extends CorpusBenchmark {

    /** When bytes are forced to the disk. */
    @Param({"NEVER", "ALWAYS"})
    public SyncPolicy sync = SyncPolicy.NEVER;

    /** Where the store's directory is created. */
    @Param("benchmarks/target")
    public String dir = "";

    private final AtomicLong ids = new AtomicLong();
    private List<List<LogEntry>> batches = List.of();
    private @Nullable Path directory;
    private @Nullable Candidate store;

    /** Opens an empty store. */
    @Setup
    public void open() throws Exception {
        batches = readBatches();
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

    /** Closes the store and deletes it. */
    @TearDown
    public void close() throws Exception {
        if (store != null && directory != null) {
            store.close();
            Scenarios.delete(directory);
        }
    }
}
