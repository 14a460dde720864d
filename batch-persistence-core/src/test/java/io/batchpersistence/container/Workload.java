package io.batchpersistence.container;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.store.DiskBatchStores;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/** What the programs in the container persist, and others on small disks. The content is derived from the id. */
public final class Workload {

    static final String COLLECTOR = "loki";

    private static final Instant TIME = Instant.parse("2026-01-01T00:00:00Z");

    private Workload() {}

    /**
     * Opens an engine with small segments, so that some become empty soon. The limit is far above the size of any test
     * disk.
     */
    static BatchPersistenceEngine open(Path directory) {
        DiskStoreOptions options = DiskStoreOptions.builder(directory)
                .maxDiskUsage(1L << 30)
                .segmentSize(256 << 10)
                .build();
        return BatchPersistenceEngine.builder(DiskBatchStores.segment(options)).build();
    }

    /** Entries of 64 characters each that compress badly. */
    public static List<LogEntry> entries(String id, int count) {
        Random random = new Random(id.hashCode());
        return IntStream.range(0, count)
                .mapToObj(i -> LogEntry.of(TIME.plusMillis(i), "INFO", text(random)))
                .toList();
    }

    private static String text(Random random) {
        return random.ints(64, '!', '~')
                .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
                .toString();
    }

    /** Prints one line for the test outside, in a single write. */
    static void say(String line) {
        synchronized (System.out) {
            System.out.print(line + "\n");
            System.out.flush();
        }
    }
}
