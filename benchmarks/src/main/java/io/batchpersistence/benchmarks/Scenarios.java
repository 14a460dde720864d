package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.batchpersistence.benchmarks.Candidate.Limit;
import io.batchpersistence.benchmarks.Candidate.Recovered;
import io.batchpersistence.benchmarks.Candidate.Stored;
import io.batchpersistence.benchmarks.Statistics.Durations;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The work that is timed. Each piece of work runs in its own process, on one store in one directory, and returns what
 * it measured. Metrics have their unit in their name.
 */
final class Scenarios {

    private static final int IN_FLIGHT = 256;
    private static final Duration LONGEST_SIZE = Duration.ofSeconds(20);
    /** Connections of a pool in addition to one per caller: for the background work of a store or its peer. */
    private static final int MORE_CONNECTIONS = 4;

    private static final double MICRO = 1e3;
    private static final double MEGA = 1e6;

    private final Step step;
    private final Candidate.Kind kind;
    private final Corpus corpus;
    private final List<List<LogEntry>> payloads;
    private final AtomicLong ids = new AtomicLong();

    private Scenarios(Step step) throws IOException {
        this.step = step;
        this.kind = Candidates.named(step.store());
        this.corpus = Corpus.of(step.path("corpus"), step.flag("many labels"));
        this.payloads = step.parameters().containsKey("entries") ? corpus.batches(step.integer("entries")) : List.of();
    }

    /** Runs a step. */
    static Map<String, Double> run(Step step) throws Exception {
        Files.createDirectories(step.directory());
        Scenarios scenarios = new Scenarios(step);
        return switch (step.work()) {
            case "persist" -> scenarios.persist();
            case "size" -> scenarios.size();
            case "async" -> scenarios.async();
            case "fill" -> scenarios.fill();
            case "reopen" -> scenarios.reopen();
            case "drain" -> scenarios.drain();
            case "recover" -> scenarios.recover();
            case "scale" -> scenarios.scale();
            case "growth" -> scenarios.growth();
            case "steady" -> scenarios.steady();
            default -> throw new IllegalArgumentException("there is no work '" + step.work() + "'");
        };
    }

    private Candidate open(boolean sync) throws Exception {
        return open(step.directory(), sync);
    }

    private Candidate open(Path directory, boolean sync) throws Exception {
        if (isInDatabase()) {
            DatabasePlace.prepare(directory, step.text("postgresql"), callers() + MORE_CONNECTIONS);
        }
        return kind.opener().open(directory, sync);
    }

    private boolean isInDatabase() {
        return kind.has(Limit.NEEDS_DATABASE);
    }

    private int callers() {
        Map<String, String> parameters = step.parameters();
        return Integer.parseInt(parameters.getOrDefault("workers", parameters.getOrDefault("threads", "1")));
    }

    /** With enough digits that text order equals creation order, which is the fastest for stores with sorted keys. */
    private String newId() {
        String digits = Long.toString(ids.getAndIncrement());
        return "batch-" + "0".repeat(12 - digits.length()) + digits;
    }

    private List<LogEntry> payload(long i) {
        return payloads.get((int) (i % payloads.size()));
    }

    // ---- persist: how fast, how long does a caller wait -----------------------------------------

    /**
     * A load of {@code persist}.
     *
     * @param callers number of concurrent threads
     * @param entries number of entries per batch
     * @param sync whether persisting forces
     */
    record Load(int callers, int entries, boolean sync) {

        private static final Pattern TEXT = Pattern.compile("(\\d+)x(\\d+)(:never)?");

        /** Reads callers x entries, {@code 8x100}; without sync {@code 8x100:never}. */
        static Load of(String text) {
            Matcher parts = TEXT.matcher(text);
            if (!parts.matches()) {
                throw new IllegalArgumentException(
                        "'" + text + "' is no load; callers x entries is meant: 8x100, without sync 8x100:never");
            }
            return new Load(Integer.parseInt(parts.group(1)), Integer.parseInt(parts.group(2)), parts.group(3) == null);
        }

        @Override
        public String toString() {
            return callers + "x" + entries + (sync ? "" : ":never");
        }

        /** The values of this load among those of a process that measured several. */
        Map<String, Double> valuesIn(Map<String, Double> all) {
            Map<String, Double> values = new LinkedHashMap<>();
            all.forEach((metric, value) -> {
                if (metric.startsWith(this + "/")) {
                    values.put(metric.substring(metric.indexOf('/') + 1), value);
                }
            });
            return values;
        }
    }

    /** Several loads, one after the other, so that the warm-up, which takes longest, is needed once. */
    private Map<String, Double> persist() throws Exception {
        List<Load> loads =
                Stream.of(step.text("loads").split(",")).map(Load::of).toList();
        double share = step.decimal("warmup") / 2 / loads.size();
        // On a disk that is slow to force, the code would remain cold: half of the warm-up runs without sync, in
        // another directory.
        Path elsewhere = step.directory().resolve("warm-up");
        Files.createDirectory(elsewhere);
        try (Candidate store = open(elsewhere, kind.has(Limit.ALWAYS_SYNCS))) {
            for (Load load : loads) {
                persistAndMark(store, load.callers(), corpus.batches(load.entries()), share);
            }
        }
        // Also discards what the operating system would still have to write.
        delete(elsewhere);
        Map<String, Double> values = new LinkedHashMap<>();
        for (Load load : loads) {
            measure(load, share).forEach((metric, value) -> values.put(load + "/" + metric, value));
        }
        return values;
    }

    private Map<String, Double> measure(Load load, double warmup) throws Exception {
        List<List<LogEntry>> batches = corpus.batches(load.entries());
        Path directory = Files.createDirectory(step.directory().resolve("measured"));
        try (Candidate store = open(directory, load.sync())) {
            persistAndMark(store, load.callers(), batches, warmup);
            // No garbage of the previous load.
            System.gc();
            long flushes = Machine.deviceFlushes(step.directory());
            long cpuNanos = Machine.processCpuNanos();
            Persisted persisted = persistAndMark(store, load.callers(), batches, step.decimal("seconds"));
            Map<String, Double> values = persisted.values(load.entries());
            // These show a regression on a noisy machine, too.
            values.put("cpu_us", (Machine.processCpuNanos() - cpuNanos) / MICRO / persisted.durations.length);
            values.put("allocated_bytes", (double) persisted.allocatedBytes / persisted.durations.length);
            if (flushes >= 0) {
                // This counts the flushes of the whole device, so it describes this store only on a quiet machine.
                values.put(
                        "flushes_per_batch",
                        (double) (Machine.deviceFlushes(step.directory()) - flushes) / persisted.durations.length);
            }
            return values;
        } finally {
            delete(directory);
        }
    }

    private static final class Persisted {
        final long[] durations;
        final double seconds;
        /** By the callers. */
        final long allocatedBytes;

        Persisted(long[] durations, double seconds, long allocatedBytes) {
            this.durations = durations;
            this.seconds = seconds;
            this.allocatedBytes = allocatedBytes;
        }

        double batchesPerSecond() {
            return durations.length / seconds;
        }

        Map<String, Double> values(int entries) {
            Map<String, Double> values = new LinkedHashMap<>();
            values.put("entries_per_s", entries * batchesPerSecond());
            values.put("batches_per_s", batchesPerSecond());
            putPercentiles(values, durations);
            return values;
        }
    }

    private static void putPercentiles(Map<String, Double> values, long[] sorted) {
        values.put("p50_us", Statistics.percentileOfSorted(sorted, 50) / MICRO);
        values.put("p99_us", Statistics.percentileOfSorted(sorted, 99) / MICRO);
        values.put("p999_us", Statistics.percentileOfSorted(sorted, 99.9) / MICRO);
        values.put("max_us", Statistics.percentileOfSorted(sorted, 100) / MICRO);
    }

    /** Threads that only persist and mark, each waiting only for its own batch. */
    private Persisted persistAndMark(Candidate store, int threads, List<List<LogEntry>> batches, double seconds)
            throws Exception {
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        LongAdder allocatedBytes = new LongAdder();
        List<Durations> durations = inParallel(threads, thread -> {
            Durations mine = new Durations();
            long allocated = Machine.allocatedBytes();
            long i = thread * 7919L;
            while (System.nanoTime() < end) {
                mine.add(store.persistAndMark(newId(), batches.get((int) (i++ % batches.size()))));
            }
            allocatedBytes.add(Machine.allocatedBytes() - allocated);
            return mine;
        });
        double took = (System.nanoTime() - start) / 1e9;
        return new Persisted(Statistics.sorted(durations), took, allocatedBytes.sum());
    }

    /** Work that several threads do. */
    @FunctionalInterface
    interface Worker<T> {
        T work(int thread) throws Exception;
    }

    /** Runs the worker in several threads and returns the result of each. */
    static <T> List<T> inParallel(int threads, Worker<T> worker) throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(threads);
        try {
            List<Callable<T>> tasks = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                int thread = t;
                tasks.add(() -> worker.work(thread));
            }
            List<T> results = new ArrayList<>();
            for (Future<T> future : executor.invokeAll(tasks)) {
                results.add(future.get());
            }
            return results;
        } finally {
            executor.shutdownNow();
        }
    }

    /**
     * Bytes on disk per byte of raw log: persisted, not marked, closed. With enough batches to make the space that
     * files reserve insignificant, but a store that needs minutes for so many small batches gets fewer.
     */
    private Map<String, Double> size() throws Exception {
        long wanted = (long) (step.decimal("megabytes") * MEGA);
        long raw = 0;
        long batches = 0;
        try (Candidate store = open(kind.has(Limit.ALWAYS_SYNCS))) {
            long end = System.nanoTime() + LONGEST_SIZE.toNanos();
            for (; raw < wanted && (raw == 0 || System.nanoTime() < end); batches++) {
                store.persist(newId(), payload(batches));
                raw += Corpus.rawBytes(payload(batches));
            }
        }
        return Map.of("disk_per_raw", (double) diskBytes() / raw);
    }

    // ---- async: many appends of one thread ------------------------------------------------------

    private Map<String, Double> async() throws Exception {
        boolean pipelined = step.text("mode").equals("pipelined");
        try (OwnStore store = (OwnStore) open(step.flag("sync"))) {
            appendFor(store, pipelined ? IN_FLIGHT : 1, step.decimal("warmup"));
            double seconds = step.decimal("seconds");
            long start = System.nanoTime();
            long batches = appendFor(store, pipelined ? IN_FLIGHT : 1, seconds);
            double took = (System.nanoTime() - start) / 1e9;
            Map<String, Double> values = new LinkedHashMap<>();
            values.put("entries_per_s", batches * step.integer("entries") / took);
            values.put("batches_per_s", batches / took);
            return values;
        }
    }

    private record UnderWay(String id, CompletableFuture<?> done) {}

    private long appendFor(OwnStore store, int inFlight, double seconds) {
        long end = System.nanoTime() + (long) (seconds * 1e9);
        Deque<UnderWay> underWay = new ArrayDeque<>();
        long batches = 0;
        while (System.nanoTime() < end || !underWay.isEmpty()) {
            if (System.nanoTime() < end) {
                String id = newId();
                underWay.add(new UnderWay(id, store.append(id, payload(batches++))));
            }
            if (underWay.size() >= inFlight || System.nanoTime() >= end) {
                UnderWay oldest = underWay.remove();
                oldest.done().join();
                store.mark(oldest.id());
            }
        }
        return batches;
    }

    // ---- a backlog: filled by one process, opened by another, drained by a third ----------------

    private Map<String, Double> fill() throws Exception {
        int batches = step.integer("pending");
        long start = System.nanoTime();
        try (Candidate store = open(kind.has(Limit.ALWAYS_SYNCS))) {
            Deque<CompletableFuture<?>> underWay = new ArrayDeque<>();
            for (int i = 0; i < batches; i++) {
                if (store instanceof OwnStore own) {
                    underWay.add(own.append(newId(), payload(i)));
                    if (underWay.size() > 1_000) {
                        underWay.remove().join();
                    }
                } else {
                    store.persist(newId(), payload(i));
                }
            }
            underWay.forEach(CompletableFuture::join);
            if (step.flag("failed")) {
                failOnce(((OwnStore) store).store(), batches);
            }
        }
        if (isInDatabase()) {
            // A real backlog is older than a minute, so autovacuum would have analyzed it.
            DatabasePlace.of(step.directory()).execute("ANALYZE");
        }
        return Map.of("fill_s", (System.nanoTime() - start) / 1e9);
    }

    /** The state during an outage: every batch was tried and waits for its next attempt. */
    private void failOnce(BatchStore store, int batches) {
        ids.set(0);
        for (int i = 0; i < batches; i++) {
            Instant now = Instant.now();
            store.failed(
                    newId(),
                    BatchStore.ANY_FENCE,
                    "connection refused",
                    now,
                    (type, retries) -> new BatchStore.Verdict(false, now, retries + 1));
        }
    }

    private Map<String, Double> reopen() throws Exception {
        long heapBefore = heapAfterGc();
        long start = System.nanoTime();
        try (Candidate store = open(true)) {
            long pending = store.pending();
            double known = (System.nanoTime() - start) / 1e9;
            Stored first = store.next();
            double read = (System.nanoTime() - start) / 1e9;
            if (pending != step.integer("pending") || first == null) {
                throw new IllegalStateException("of " + step.text("pending") + " pending batches, " + pending
                        + " are known after opening" + (first == null ? ", and none can be read" : ""));
            }
            Map<String, Double> values = new LinkedHashMap<>();
            values.put("known_s", known);
            values.put("first_read_s", read);
            values.put("heap_mb", (heapAfterGc() - heapBefore) / MEGA);
            return values;
        }
    }

    private Map<String, Double> drain() throws Exception {
        long heapBefore = heapAfterGc();
        // Before opening, since some stores read everything then.
        long start = System.nanoTime();
        try (Candidate store = open(true)) {
            Map<String, Double> values = drain(store, start);
            values.put("heap_before_mb", heapBefore / MEGA);
            return values;
        }
    }

    /** The most heap while batches are read. For one thread at a time. */
    private static final class HeapSamples {
        private long batches;
        private long most;
        private long pausedNanos;

        void batch() {
            if (++batches % 50_000 == 0) {
                long pause = System.nanoTime();
                most = Math.max(most, heapAfterGc());
                pausedNanos += System.nanoTime() - pause;
            }
        }
    }

    private Map<String, Double> drain(Candidate store, long start) throws Exception {
        HeapSamples heap = new HeapSamples();
        long batches = 0;
        long entries = 0;
        if (store instanceof OwnStore own) {
            Recovered recovered = own.recover(1, heap::batch);
            batches = recovered.batches();
            entries = recovered.entries();
        }
        for (Stored stored = store.next(); stored != null; stored = store.next()) {
            store.mark(stored.id());
            batches++;
            entries += stored.entries().size();
            heap.batch();
        }
        double took = (System.nanoTime() - start - heap.pausedNanos) / 1e9;
        if (batches != step.integer("pending")) {
            throw new IllegalStateException(
                    "of " + step.text("pending") + " pending batches, " + batches + " could be read");
        }
        Map<String, Double> values = new LinkedHashMap<>();
        values.put("entries_per_s", entries / took);
        values.put("batches_per_s", batches / took);
        values.put("heap_mb", Math.max(heapAfterGc(), heap.most) / MEGA);
        return values;
    }

    private Map<String, Double> recover() throws Exception {
        long start = System.nanoTime();
        try (Candidate.Shared store = (Candidate.Shared) open(true)) {
            Recovered recovered = store.recover(step.integer("workers"));
            double took = (System.nanoTime() - start) / 1e9;
            if (recovered.batches() != step.integer("pending") || store.pending() != 0) {
                throw new IllegalStateException("of " + step.text("pending") + " pending batches, "
                        + recovered.batches() + " were recovered, and " + store.pending() + " are left");
            }
            Map<String, Double> values = new LinkedHashMap<>();
            values.put("entries_per_s", recovered.entries() / took);
            values.put("batches_per_s", recovered.batches() / took);
            return values;
        }
    }

    /** Measures the cost of a backlog with a small heap. */
    private Map<String, Double> scale() throws Exception {
        int pending = step.integer("pending");
        Map<String, Double> values = new LinkedHashMap<>();
        long heapBefore = heapAfterGc();
        long start = System.nanoTime();
        try (Candidate store = open(true)) {
            values.put("open_s", (System.nanoTime() - start) / 1e9);
            if (store.pending() != pending) {
                throw new IllegalStateException(store.pending() + " batches are pending instead of " + pending);
            }
            values.put("heap_bytes_per_batch", (double) (heapAfterGc() - heapBefore) / pending);
            values.put("disk_bytes_per_batch", (double) diskBytes(step.directory()) / pending);
            ids.set(pending);
            int samples = step.integer("samples");
            long[] durations = persistSamples(store, samples);
            values.put("p50_us", Statistics.percentileOfSorted(durations, 50) / MICRO);
            values.put("p99_us", Statistics.percentileOfSorted(durations, 99) / MICRO);
            values.put("max_us", Statistics.percentileOfSorted(durations, 100) / MICRO);
            for (int i = 0; i < samples; i++) {
                ids.set(pending + (long) i);
                store.mark(newId());
            }
            Map<String, Double> drained = drain(store, System.nanoTime());
            drained.forEach((metric, value) -> values.put("drain_" + metric, value));
        }
        return values;
    }

    // ---- growth: does persisting slow down while the backlog grows ------------------------------

    private Map<String, Double> growth() throws Exception {
        try (Candidate store = open(true)) {
            ids.set(step.integer("pending"));
            // Warm-up.
            persistSamples(store, step.integer("samples") / 2);
            Map<String, Double> values = new LinkedHashMap<>();
            putPercentiles(values, persistSamples(store, step.integer("samples")));
            return values;
        }
    }

    private long[] persistSamples(Candidate store, int samples) throws Exception {
        Durations durations = new Durations();
        for (int i = 0; i < samples; i++) {
            String id = newId();
            long start = System.nanoTime();
            store.persist(id, payload(i));
            durations.add(System.nanoTime() - start);
        }
        return Statistics.sorted(List.of(durations));
    }

    // ---- steady: hours in small -----------------------------------------------------------------

    private static final int STUCK_ONE_IN = 100;
    private static final long MOST_STUCK = 20_000;

    /**
     * Writers at a fixed rate, below the store's maximum. A batch that is late because of the previous one is measured
     * from the time at which it should have started: a pause of the store counts for every batch that arrived in the
     * meantime. One batch in a hundred is never marked.
     */
    private Map<String, Double> steady() throws Exception {
        int writers = step.integer("threads");
        double duration = step.decimal("duration");
        double window = step.decimal("window");
        double rate = step.decimal("rate");
        LongAdder stuckBytes = new LongAdder();
        LongAdder stuck = new LongAdder();
        AtomicReference<List<Durations>> current = new AtomicReference<>(newWindow(writers));

        try (Candidate store = open(true)) {
            double calibration = step.decimal("calibration");
            persistAndMark(store, writers, payloads, calibration);
            double most = persistAndMark(store, writers, payloads, calibration).batchesPerSecond();
            double offered = rate > 0 ? rate : most * step.decimal("share");
            List<Long> encodedSizes = new ArrayList<>();
            for (List<LogEntry> payload : payloads) {
                encodedSizes.add(store.encodedSize(payload));
            }

            long start = System.nanoTime();
            long end = start + (long) (duration * 1e9);
            double interval = writers * 1e9 / offered;
            ExecutorService executor = Executors.newFixedThreadPool(writers);
            List<Future<Long>> running = new ArrayList<>();
            for (int w = 0; w < writers; w++) {
                int writer = w;
                running.add(executor.submit(() -> {
                    long n = 0;
                    while (true) {
                        long due = start + (long) ((n + (double) writer / writers) * interval);
                        if (due >= end) {
                            return n;
                        }
                        for (long wait = due - System.nanoTime(); wait > 0; wait = due - System.nanoTime()) {
                            LockSupport.parkNanos(wait);
                        }
                        long number = n++ * writers + writer;
                        String id = newId();
                        store.persist(id, payload(number));
                        Durations durations = current.get().get(writer);
                        synchronized (durations) {
                            durations.add(System.nanoTime() - due);
                        }
                        if (number % STUCK_ONE_IN == 0 && stuck.sum() < MOST_STUCK) {
                            stuck.increment();
                            stuckBytes.add(encodedSizes.get((int) (number % payloads.size())));
                        } else {
                            store.mark(id);
                        }
                    }
                }));
            }
            List<Window> windows = new ArrayList<>();
            try {
                for (int i = 1; System.nanoTime() < end; i++) {
                    long until = Math.min(end, start + (long) (i * window * 1e9));
                    for (long wait = until - System.nanoTime(); wait > 0; wait = until - System.nanoTime()) {
                        LockSupport.parkNanos(wait);
                    }
                    long live = store.liveBytes() >= 0 ? store.liveBytes() : stuckBytes.sum();
                    windows.add(
                            Window.of((until - start) / 1e9, current.getAndSet(newWindow(writers)), diskBytes(), live));
                    store.maintain();
                }
                long persisted = 0;
                for (Future<Long> one : running) {
                    persisted += one.get();
                }
                Path file = step.path("windows");
                if (file != null) {
                    Files.write(
                            file,
                            Stream.concat(
                                            Stream.of(Window.HEADER),
                                            windows.stream().map(Window::csv))
                                    .toList());
                }
                return steadySummary(windows, most, offered, persisted / ((System.nanoTime() - start) / 1e9));
            } finally {
                executor.shutdownNow();
            }
        }
    }

    private static List<Durations> newWindow(int writers) {
        return Stream.generate(Durations::new).limit(writers).toList();
    }

    private record Window(
            double second,
            long batches,
            double p50,
            double p99,
            double p999,
            double max,
            long disk,
            long live,
            double heap) {

        static final String HEADER =
                "second,batches,p50_us,p99_us,p999_us,max_us,disk_bytes,live_bytes,amplification,heap_mb";

        static Window of(double second, List<Durations> durations, long disk, long live) {
            long[] sorted = Statistics.sorted(durations.stream()
                    .map(writers -> {
                        // A writer may be adding its last value.
                        synchronized (writers) {
                            Durations copy = new Durations();
                            for (long nanos : writers.toArray()) {
                                copy.add(nanos);
                            }
                            return copy;
                        }
                    })
                    .toList());
            return new Window(
                    second,
                    sorted.length,
                    Statistics.percentileOfSorted(sorted, 50) / MICRO,
                    Statistics.percentileOfSorted(sorted, 99) / MICRO,
                    Statistics.percentileOfSorted(sorted, 99.9) / MICRO,
                    Statistics.percentileOfSorted(sorted, 100) / MICRO,
                    disk,
                    live,
                    ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed() / MEGA);
        }

        double amplification() {
            return live == 0 ? Double.NaN : (double) disk / live;
        }

        String csv() {
            return String.format(
                    Locale.ROOT,
                    "%.1f,%d,%.1f,%.1f,%.1f,%.1f,%d,%d,%.3f,%.1f",
                    second,
                    batches,
                    p50,
                    p99,
                    p999,
                    max,
                    disk,
                    live,
                    amplification(),
                    heap);
        }
    }

    private static Map<String, Double> steadySummary(
            List<Window> windows, double most, double offered, double achieved) {
        Map<String, Double> values = new LinkedHashMap<>();
        values.put("can_batches_per_s", most);
        values.put("offered_batches_per_s", offered);
        values.put("achieved_batches_per_s", achieved);
        values.put("p50_us", Statistics.median(windows.stream().map(Window::p50).toList()));
        values.put("p99_us", Statistics.median(windows.stream().map(Window::p99).toList()));
        values.put(
                "p999_us", Statistics.median(windows.stream().map(Window::p999).toList()));
        values.put(
                "worst_p99_us", Statistics.max(windows.stream().map(Window::p99).toList()));
        values.put(
                "worst_p999_us",
                Statistics.max(windows.stream().map(Window::p999).toList()));
        values.put("max_us", Statistics.max(windows.stream().map(Window::max).toList()));
        // The space that files reserve dominates while little is pending: so the end counts, and the worst value of the
        // second half.
        List<Window> late = windows.subList(windows.size() / 2, windows.size());
        values.put(
                "worst_amplification",
                Statistics.max(late.stream().map(Window::amplification).toList()));
        values.put("amplification", windows.get(windows.size() - 1).amplification());
        values.put("disk_mb", windows.get(windows.size() - 1).disk() / MEGA);
        values.put("live_mb", windows.get(windows.size() - 1).live() / MEGA);
        values.put(
                "worst_heap_mb",
                Statistics.max(windows.stream().map(Window::heap).toList()));
        return values;
    }

    // ---- files and heap ------------------------------------------------------------------------------

    private static long heapAfterGc() {
        // Twice: the second one collects what cleaners released after the first.
        for (int i = 0; i < 2; i++) {
            System.gc();
        }
        return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
    }

    /** Deletes a directory with its content and the schemas that belong to it; does nothing if it does not exist. */
    static void delete(Path directory) throws IOException {
        if (Files.exists(directory)) {
            try (Stream<Path> files = Files.walk(directory)) {
                for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                    DatabasePlace.dropNamedBy(file);
                    Files.deleteIfExists(file);
                }
            }
        }
    }

    private long diskBytes() throws IOException, SQLException {
        return isInDatabase() ? DatabasePlace.of(step.directory()).bytes() : diskBytes(step.directory());
    }

    /**
     * Bytes that the files occupy, including reserved space and excluding holes: blocks if the file system reports
     * them, else lengths.
     */
    static long diskBytes(Path directory) throws IOException {
        long blocks = Machine.allocatedBytes(directory);
        if (blocks >= 0) {
            return blocks;
        }
        try (Stream<Path> files = Files.walk(directory)) {
            return files.filter(Files::isRegularFile)
                    .mapToLong(Scenarios::length)
                    .sum();
        }
    }

    private static long length(Path file) {
        try {
            return Files.size(file);
        } catch (NoSuchFileException e) {
            // Deleted in the meantime.
            return 0;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
