package io.batchpersistence.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchStore;
import io.batchpersistence.BatchStore.Claim;
import io.batchpersistence.BatchStore.Verdict;
import io.batchpersistence.LogEntry;
import io.batchpersistence.NewBatch;
import io.batchpersistence.store.segment.SegmentBatchStore;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/**
 * Prints what a backlog costs: opening time, heap per pending batch, bytes on disk, latency of persisting right after
 * opening, rate of draining. Not a test: it measures. From the root of the repository:
 *
 * <pre>
 * mvn -B -q -pl batch-persistence-core test-compile dependency:build-classpath \
 *     -Dmdep.outputFile=target/test.classpath -Dmdep.includeScope=test
 * java -cp batch-persistence-core/target/test-classes:batch-persistence-core/target/classes:$(cat
 *     batch-persistence-core/target/test.classpath) [-Dcorpus=DIR] [-Dfailed=true] io.batchpersistence.store.ScaleReport \
 *     [N...]
 * </pre>
 *
 * A batch has 100 entries: lines of the {@code *.log} files in the directory {@code corpus}, or generated ones. With
 * {@code failed} every batch has failed once, as it is in an outage. The store is filled by this process and opened by
 * another one with a heap of 256 MB. Files are in the page cache then.
 */
final class ScaleReport {

    private static final int ENTRIES = 100;
    private static final Instant LATER = Instant.parse("2100-01-01T00:00:00Z");
    private static final long MEGABYTE = 1_000_000;

    private ScaleReport() {}

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("open")) {
            open(Path.of(args[1]));
            return;
        }
        List<List<LogEntry>> payloads = payloads();
        for (String n : args.length == 0 ? new String[] {"10000", "100000", "1000000"} : args) {
            Path directory = Files.createTempDirectory("batch-scale-report");
            try {
                fill(directory, Integer.parseInt(n), payloads);
                ProcessBuilder child = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Xmx256m",
                        "-cp",
                        System.getProperty("java.class.path"),
                        ScaleReport.class.getName(),
                        "open",
                        directory.toString());
                child.inheritIO().start().waitFor();
            } finally {
                delete(directory);
            }
        }
    }

    private static DiskStoreOptions options(Path directory, SyncPolicy sync) {
        return DiskStoreOptions.builder(directory)
                .sync(sync)
                .maxBatches(10_000_000)
                .maxDiskUsage(64L << 30)
                .build();
    }

    // ---- filling ---------------------------------------------------------------------------------

    private static void fill(Path directory, int batches, List<List<LogEntry>> payloads) {
        boolean fail = Boolean.getBoolean("failed");
        long start = System.nanoTime();
        try (BatchStore store = SegmentBatchStore.open(options(directory, SyncPolicy.NEVER))) {
            Deque<CompletableFuture<?>> underWay = new ArrayDeque<>();
            for (int i = 0; i < batches; i++) {
                underWay.add(store.append(new NewBatch(
                        "batch-" + i, "loki", payloads.get(i % payloads.size()), Map.of(), Instant.now(), LATER)));
                if (underWay.size() > 1_000) {
                    underWay.remove().join();
                }
            }
            underWay.forEach(CompletableFuture::join);
            for (int i = 0; fail && i < batches; i++) {
                store.failed(
                        "batch-" + i,
                        BatchStore.ANY_FENCE,
                        "connection refused",
                        Instant.now(),
                        (type, retries) -> new Verdict(false, Instant.now(), 1));
            }
        }
        System.out.printf(
                "%n%,d batches of %d entries%s, filled in %.1f s%n",
                batches, ENTRIES, fail ? ", each failed once" : "", seconds(start));
    }

    private static List<List<LogEntry>> payloads() throws IOException {
        List<String> lines = new ArrayList<>();
        String corpus = System.getProperty("corpus");
        if (corpus == null) {
            for (int i = 0; i < 5_000; i++) {
                lines.add("2026-01-01 12:00:" + i % 60 + " INFO [worker-" + i % 7 + "] request " + i * 7919L + " took "
                        + i * 31 % 977 + " ms");
            }
        } else {
            try (Stream<Path> files = Files.list(Path.of(corpus))) {
                for (Path file : files.filter(path -> path.toString().endsWith(".log"))
                        .sorted()
                        .toList()) {
                    lines.addAll(Files.readAllLines(file, StandardCharsets.ISO_8859_1));
                }
            }
        }
        List<List<LogEntry>> payloads = new ArrayList<>();
        for (int from = 0; from + ENTRIES <= lines.size(); from += ENTRIES) {
            List<LogEntry> entries = new ArrayList<>();
            for (String line : lines.subList(from, from + ENTRIES)) {
                entries.add(LogEntry.builder(Instant.now(), line)
                        .level("INFO")
                        .label("app", "scale")
                        .source("file", "/var/log/app.log:" + entries.size())
                        .build());
            }
            payloads.add(entries);
        }
        return payloads;
    }

    // ---- measuring -------------------------------------------------------------------------------

    private static void open(Path directory) throws IOException {
        long heapBefore = heap();
        long start = System.nanoTime();
        try (BatchStore store = SegmentBatchStore.open(options(directory, SyncPolicy.ALWAYS))) {
            double opened = seconds(start);
            long batches = store.stats().batches();
            System.out.printf(
                    "  opened with -Xmx256m in %.2f s; heap %.0f bytes a batch (%.1f MB)%n",
                    opened, (double) (heap() - heapBefore) / batches, (heap() - heapBefore) / (double) MEGABYTE);
            sizes(directory, batches);
            persist(store);
            drain(store);
        }
    }

    private static void sizes(Path directory, long batches) throws IOException {
        long segments = 0;
        long journals = 0;
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                if (file.toString().endsWith(".segment")) {
                    segments += Files.size(file);
                } else if (file.toString().endsWith(".journal")) {
                    journals += Files.size(file);
                }
            }
        }
        System.out.printf(
                "  segments %,.1f MB (%d bytes a batch), journals %.1f MB%n",
                segments / (double) MEGABYTE, segments / batches, journals / (double) MEGABYTE);
    }

    private static void persist(BatchStore store) throws IOException {
        List<List<LogEntry>> payloads = payloads();
        int count = 2_000;
        long[] nanos = new long[count];
        for (int i = 0; i < count; i++) {
            long start = System.nanoTime();
            store.append(new NewBatch(
                            "fresh-" + i, "other", payloads.get(i % payloads.size()), Map.of(), Instant.now(), LATER))
                    .join();
            nanos[i] = System.nanoTime() - start;
        }
        Arrays.sort(nanos);
        System.out.printf(
                "  persist with fsync, one thread: median %.2f ms, 99%% %.2f ms, worst %.2f ms%n",
                nanos[count / 2] / 1e6, nanos[count * 99 / 100] / 1e6, nanos[count - 1] / 1e6);
    }

    private static void drain(BatchStore store) {
        long start = System.nanoTime();
        long drained = 0;
        long most = 0;
        while (true) {
            List<Claim> claims = store.claim("loki", BatchOrder.OLDEST_FIRST, Instant.now(), LATER, 100);
            if (claims.isEmpty()) {
                break;
            }
            for (Claim claim : claims) {
                store.delivered(claim.batch().id());
            }
            drained += claims.size();
            if (drained % 100_000 == 0) {
                most = Math.max(most, heap());
            }
        }
        System.out.printf(
                "  drained by one thread: %,.0f batches/s%s%n",
                drained / seconds(start),
                most == 0 ? "" : String.format(", heap meanwhile at most %.1f MB", most / (double) MEGABYTE));
    }

    private static long heap() {
        System.gc();
        return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
    }

    private static double seconds(long startNanos) {
        return (System.nanoTime() - startNanos) / 1e9;
    }

    private static void delete(Path directory) throws IOException {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }
}
