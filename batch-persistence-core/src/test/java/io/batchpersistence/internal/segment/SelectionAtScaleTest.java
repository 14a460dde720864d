package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LogEntry;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.ForwardingDisk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.store.LongList;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import java.util.function.ToLongFunction;
import java.util.stream.IntStream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Operators select among many batches. The result must equal a filter over all batches, no payload is read for it, and
 * other threads persist meanwhile. This command runs it with a million batches in some minutes:
 *
 * <pre>mvn -pl batch-persistence-core -am test -Dtest=SelectionAtScaleTest -Dsurefire.failIfNoSpecifiedTests=false
 * -Dselection.batches=1000000</pre>
 */
@Tag("slow")
class SelectionAtScaleTest {

    private static final int BATCHES = Integer.getInteger("selection.batches", 20_000);
    private static final BatchSelector ALL = BatchSelector.all();
    private static final Instant START = Instant.parse("2026-01-01T00:00:00Z");
    /** Bytes read to identify a batch: its header and the data that follows it. */
    private static final long HEADER_READ = 1_024;

    private static final Duration HOUR = Duration.ofHours(1);
    /** One entry per batch: about four kilobytes that compress badly. */
    private static final List<LogEntry> ENTRIES = List.of(LogEntry.of(
            START,
            "INFO",
            IntStream.range(0, 400)
                    .mapToObj(i -> Integer.toHexString(i * 0x9E3779B9))
                    .toList()
                    .toString()));

    /** The expected state of a batch. */
    private record Held(
            String id, String type, BatchState state, Instant createdAt, int retries, String reason, Instant next) {

        static Held of(BatchSummary summary) {
            return new Held(
                    summary.id(),
                    summary.collectorType(),
                    summary.state(),
                    summary.createdAt(),
                    summary.retryCount(),
                    summary.failureReason(),
                    summary.nextAttemptAt());
        }

        boolean failedWith(String part) {
            return reason != null && reason.contains(part);
        }

        Held pending(int retries, Instant next) {
            return new Held(id, type, BatchState.PENDING, createdAt, retries, reason, next);
        }
    }

    private record Case(BatchSelector selector, Predicate<Held> filter) {
        Case limit(int limit) {
            return new Case(selector.limit(limit), filter);
        }

        Case order(BatchOrder order) {
            return new Case(selector.order(order), filter);
        }
    }

    @TempDir
    Path directory;

    private final ManualClock clock = new ManualClock(START);
    private final Map<String, Held> model = new LinkedHashMap<>();

    private volatile Runnable beforeRead = () -> {};
    private FaultyDisk disk;
    private BatchStore store;
    private BatchPersistenceEngine engine;

    @BeforeEach
    void fill() {
        disk = new FaultyDisk(hooked(new NioDisk()));
        store = StoreKind.SEGMENT.open(
                DiskStoreOptions.builder(directory)
                        .sync(SyncPolicy.NEVER)
                        .clock(clock)
                        .maxBatches(2L * BATCHES)
                        .maxDiskUsage(1L << 40)
                        // Compaction reads payloads.
                        .compactionRate(1)
                        // With a dictionary the payloads, which are all alike, would be smaller than their headers.
                        .compression(Compression.NONE)
                        .build(),
                disk);
        Random random = new Random(11);
        List<CompletableFuture<?>> appends = new ArrayList<>();
        for (int i = 0; i < BATCHES; i++) {
            String type = List.of("loki", "loki", "elasticsearch", "splunk").get(random.nextInt(4));
            Instant createdAt = START.plusMillis(2 * HOUR.toMillis() * i / BATCHES);
            String id = "batch-" + i;
            model.put(
                    id, new Held(id, type, BatchState.IN_FLIGHT, createdAt, 0, null, START.plus(HOUR.multipliedBy(9))));
            appends.add(store.append(new NewBatch(
                    id, type, ENTRIES, Map.of("tenant", "t" + i), createdAt, START.plus(HOUR.multipliedBy(9)))));
            if (appends.size() == 10_000) {
                appends.forEach(CompletableFuture::join);
                appends.clear();
            }
        }
        appends.forEach(CompletableFuture::join);
        clock.set(START.plus(HOUR.multipliedBy(2)));
        model.replaceAll((id, held) -> random.nextInt(20) == 0 ? held : afterFailures(held, random));
        engine = BatchPersistenceEngine.builder(store).clock(clock).build();
    }

    private Held afterFailures(Held held, Random random) {
        boolean dead = random.nextInt(4) == 0;
        int retries = random.nextInt(6);
        String reason = List.of("HTTP 429 Too Many Requests", "http 503", "HTTP 500", "connection refused", "timed out")
                .get(random.nextInt(5));
        Instant next = dead ? null : clock.instant().plus(HOUR);
        store.failed(
                held.id(),
                BatchStore.ANY_FENCE,
                reason,
                clock.instant(),
                (type, before) -> new Verdict(dead, next, retries));
        BatchState state = dead ? BatchState.DEAD : BatchState.PENDING;
        return new Held(held.id(), held.type(), state, held.createdAt(), retries, reason, next);
    }

    private Disk hooked(Disk real) {
        return new ForwardingDisk(real) {
            @Override
            protected DiskReader wrap(Path path, DiskReader reader) {
                return new ForwardingReader(reader) {
                    @Override
                    public int read(long offset, byte[] into, int at, int length) throws IOException {
                        beforeRead.run();
                        return super.read(offset, into, at, length);
                    }
                };
            }
        };
    }

    @AfterEach
    void close() {
        engine.close();
    }

    private Instant ago(Duration time) {
        return clock.instant().minus(time);
    }

    /** Each condition alone, and some combinations. */
    private List<Case> cases() {
        Duration young = Duration.ofMinutes(20);
        return List.of(
                new Case(ALL, held -> true),
                new Case(
                        ALL.ids("batch-1", "batch-77", "unknown"),
                        held -> held.id().matches("batch-(1|77)")),
                new Case(ALL.collectorTypes("loki"), held -> held.type().equals("loki")),
                new Case(
                        ALL.collectorTypes("splunk", "elasticsearch", "no one"),
                        held -> !held.type().equals("loki")),
                new Case(ALL.failureReason("http 50?"), held -> held.failedWith(" 50")),
                new Case(ALL.failureReason("*429*"), held -> held.failedWith("429")),
                new Case(ALL.failureReason("*"), held -> held.reason() != null),
                new Case(ALL.states(BatchState.PENDING), held -> held.state() == BatchState.PENDING),
                new Case(ALL.states(BatchState.DEAD, BatchState.IN_FLIGHT), held -> held.state() != BatchState.PENDING),
                new Case(ALL.olderThan(HOUR), held -> !held.createdAt().isAfter(ago(HOUR))),
                new Case(ALL.youngerThan(young), held -> held.createdAt().isAfter(ago(young))),
                new Case(ALL.retries(1, 2), held -> held.retries() == 1 || held.retries() == 2),
                new Case(ALL.retries(4, Integer.MAX_VALUE), held -> held.retries() >= 4),
                new Case(
                        ALL.collectorTypes("loki").failureReason("*refused").states(BatchState.DEAD),
                        held -> held.type().equals("loki")
                                && held.failedWith("refused")
                                && held.state() == BatchState.DEAD),
                new Case(
                        ALL.olderThan(young).youngerThan(HOUR).retries(0, 3),
                        held -> !held.createdAt().isAfter(ago(young))
                                && held.createdAt().isAfter(ago(HOUR))
                                && held.retries() <= 3),
                new Case(
                        ALL.collectorTypes("splunk", "loki")
                                .failureReason("HTTP*")
                                .states(BatchState.PENDING)
                                .olderThan(HOUR)
                                .retries(2, 5),
                        held -> !held.type().equals("elasticsearch")
                                && (held.failedWith("HTTP") || held.failedWith("http"))
                                && held.state() == BatchState.PENDING
                                && !held.createdAt().isAfter(ago(HOUR))
                                && held.retries() >= 2));
    }

    /** The expected result by brute force. */
    private List<Held> meant(Case one, BatchState... states) {
        List<Held> all = new ArrayList<>(model.values());
        if (one.selector().order() == BatchOrder.NEWEST_FIRST) {
            Collections.reverse(all);
        }
        return all.stream()
                .filter(one.filter())
                .filter(held -> states.length == 0 || List.of(states).contains(held.state()))
                .limit(one.selector().limit())
                .toList();
    }

    private List<Held> listed(BatchSelector selector) {
        return engine.list(selector).stream().map(Held::of).toList();
    }

    private long bytesReadBy(Runnable action) {
        long before = disk.bytesRead();
        action.run();
        return disk.bytesRead() - before;
    }

    /** Reads no payload, except to find a batch by its id. */
    private long withoutPayloads(Case one, ToLongFunction<BatchSelector> operation) {
        long[] result = {0};
        assertThat(bytesReadBy(() -> result[0] = operation.applyAsLong(one.selector())))
                .as(one.selector().toString())
                .isLessThanOrEqualTo(HEADER_READ * one.selector().ids().size());
        return result[0];
    }

    @Test
    void lists_and_counts_are_what_a_filter_gives_and_read_no_payload() {
        assertThat(engine.stats().total().bytes()).isGreaterThan(2 * HEADER_READ * BATCHES);
        for (Case unlimited : cases()) {
            Case few = unlimited.limit(100);
            for (Case one : List.of(unlimited, few, few.order(BatchOrder.NEWEST_FIRST))) {
                String name = one.selector().toString();
                List<Held> meant = meant(one);
                assertThat(meant).as(name).isNotEmpty();
                long read = bytesReadBy(() -> assertThat(listed(one.selector()).equals(meant))
                        .as(name)
                        .isTrue());
                assertThat(read)
                        .as(name)
                        .isLessThanOrEqualTo(HEADER_READ
                                * (meant.size() + one.selector().ids().size()));
                assertThat(withoutPayloads(one, engine::count)).as(name).isEqualTo(meant.size());
            }
        }
    }

    @Test
    void what_operators_do_is_done_to_what_a_filter_gives_and_reads_no_payload() {
        int cut = BATCHES / 50;
        for (Case each : cases()) {
            for (Case one : List.of(each, each.limit(cut), each.limit(cut).order(BatchOrder.NEWEST_FIRST))) {
                clock.advance(Duration.ofMillis(1));
                List<Held> due = meant(one, BatchState.PENDING);
                assertThat(withoutPayloads(one, engine::recover))
                        .isEqualTo(one.selector().states().contains(BatchState.DEAD) ? 0 : due.size());
                if (!one.selector().states().contains(BatchState.DEAD)) {
                    due.forEach(held -> model.put(held.id(), held.pending(held.retries(), clock.instant())));
                }
            }
        }
        assertThat(listed(ALL).equals(List.copyOf(model.values()))).isTrue();

        List<Case> narrowFirst = new ArrayList<>(cases());
        Collections.reverse(narrowFirst);
        for (Case each : narrowFirst) {
            Case one = each.limit(cut).order(BatchOrder.NEWEST_FIRST);
            clock.advance(Duration.ofMillis(1));
            List<Held> dead = one.selector().states().equals(Set.of(BatchState.PENDING))
                    ? List.of()
                    : meant(one, BatchState.DEAD);
            assertThat(withoutPayloads(one, engine::replay)).isEqualTo(dead.size());
            dead.forEach(held -> model.put(held.id(), held.pending(0, clock.instant())));
        }
        assertThat(listed(ALL).equals(List.copyOf(model.values()))).isTrue();

        for (Case each : narrowFirst) {
            Case one = each.limit(cut);
            List<Held> gone =
                    one.selector().states().isEmpty() ? meant(one, BatchState.PENDING, BatchState.DEAD) : meant(one);
            assertThat(withoutPayloads(one, engine::discard)).isEqualTo(gone.size());
            gone.forEach(held -> model.remove(held.id()));
        }
        assertThat(listed(ALL).equals(List.copyOf(model.values()))).isTrue();
        assertThat(engine.stats().total().isBalanced()).isTrue();
    }

    @Test
    void others_persist_while_everything_is_selected() throws Exception {
        AtomicInteger persisted = new AtomicInteger();
        AtomicBoolean more = new AtomicBoolean(true);
        Thread persisting = new Thread(() -> {
            while (more.get()) {
                String id = "new-" + persisted.get();
                engine.persistBatch(id, ENTRIES, "loki");
                engine.markBatchSuccess(id);
                persisted.incrementAndGet();
            }
        });
        Thread selecting = Thread.currentThread();
        AtomicInteger reads = new AtomicInteger();
        beforeRead = () -> {
            if (Thread.currentThread() == selecting && reads.incrementAndGet() == BATCHES / 2) {
                int soFar = persisted.get();
                Awaitility.await("in the middle of a list").until(() -> persisted.get() > soFar + 2);
            }
        };
        persisting.start();
        try {
            int before = persisted.get();
            List<Held> listed = listed(ALL);
            print("a list of everything", persisted.get() - before);
            assertThat(reads.get()).isGreaterThanOrEqualTo(BATCHES);
            assertThat(listed.stream().limit(BATCHES).toList().equals(List.copyOf(model.values())))
                    .isTrue();

            several(persisted, "a count by reason", () -> engine.count(ALL.failureReason("*4*9*")));
            several(persisted, "a recovery of everything", () -> engine.recover(ALL));
            int beforeReplay = persisted.get();
            engine.replay(ALL);
            print("a replay of everything", persisted.get() - beforeReplay);
            int beforeDiscard = persisted.get();
            engine.discard(ALL.olderThan(Duration.ZERO));
            print("a discard of everything", persisted.get() - beforeDiscard);
        } finally {
            more.set(false);
            persisting.join();
        }
        assertThat(engine.count(ALL.states(BatchState.DEAD))).isZero();
        assertThat(engine.stats().total().accepted()).isEqualTo(BATCHES + persisted.get());
        assertThat(engine.stats().total().isBalanced()).isTrue();
    }

    /**
     * The repeated queries of the endpoint and the page, concurrent with a persisting thread. Prints the duration of
     * both.
     */
    @Test
    void what_is_shown_is_what_a_filter_gives_and_reads_no_more_than_a_page() throws Exception {
        AtomicBoolean more = new AtomicBoolean(true);
        AtomicInteger persisted = new AtomicInteger();
        LongList latencies = new LongList();
        Thread persisting = new Thread(() -> {
            while (more.get()) {
                String id = "new-" + persisted.getAndIncrement();
                long began = System.nanoTime();
                engine.persistBatch(id, ENTRIES, "beside");
                latencies.add(System.nanoTime() - began);
                engine.markBatchSuccess(id);
            }
        });
        persisting.start();
        try {
            Awaitility.await().until(() -> persisted.get() > 1_000);
            int quiet = persisted.get();
            timed("statistics", engine::stats);
            timed("failures", () -> engine.failures(ALL));
            timed("failures of dead letters", () -> engine.failures(ALL.states(BatchState.DEAD)));
            assertFailures(ALL, held -> held.reason() != null);
            assertFailures(ALL.states(BatchState.DEAD), held -> held.state() == BatchState.DEAD);
            BatchSelector page =
                    ALL.collectorTypes("loki").failureReason("*429*").limit(100);
            Case first = new Case(page, held -> held.type().equals("loki") && held.failedWith("429"));
            List<Held> expected = meant(first);
            long middle = engine.list(ALL.ids("batch-" + BATCHES / 2)).get(0).position();
            timed("the first page of a list", () -> assertThat(listed(page)).isEqualTo(expected));
            timed(
                    "a page in the middle",
                    () -> assertThat(listed(page.after(middle)))
                            .hasSizeLessThanOrEqualTo(100)
                            .allMatch(first.filter()));
            more.set(false);
            persisting.join();
            System.out.printf(
                    "selection among %d: persisting took %s before, %s meanwhile%n",
                    BATCHES, percentiles(latencies, 0, quiet), percentiles(latencies, quiet, latencies.size()));
        } finally {
            more.set(false);
            persisting.join();
        }
        assertThat(bytesReadBy(() -> engine.failures(ALL))).isZero();
        assertThat(bytesReadBy(engine::stats)).isZero();
        assertThat(bytesReadBy(() -> engine.list(ALL.limit(100)))).isLessThanOrEqualTo(100 * HEADER_READ);
    }

    private void assertFailures(BatchSelector selector, Predicate<Held> filter) {
        assertThat(engine.failures(selector).stream()
                        .mapToLong(FailureGroup::batches)
                        .sum())
                .isEqualTo(model.values().stream().filter(filter).count());
    }

    private static void timed(String what, Runnable question) {
        LongList times = new LongList();
        for (int i = 0; i < 20; i++) {
            long began = System.nanoTime();
            question.run();
            times.add(System.nanoTime() - began);
        }
        System.out.printf("selection among %d: %s took %s%n", BATCHES, what, percentiles(times, 5, times.size()));
    }

    private static String percentiles(LongList nanos, int from, int to) {
        long[] sorted = Arrays.copyOfRange(nanos.toArray(), from, to);
        Arrays.sort(sorted);
        return String.format(
                Locale.ROOT,
                "p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d times)",
                sorted[sorted.length / 2] / 1e6,
                sorted[(int) (sorted.length * 0.99)] / 1e6,
                sorted[sorted.length - 1] / 1e6,
                sorted.length);
    }

    /** Repeats in case the persisting thread had no processor time meanwhile. */
    private static void several(AtomicInteger persisted, String what, Runnable selection) {
        Awaitility.await("others persist during " + what)
                .atMost(Duration.ofMinutes(1))
                .pollDelay(Duration.ZERO)
                .pollInterval(Duration.ofMillis(1))
                .pollInSameThread()
                .until(() -> {
                    int before = persisted.get();
                    selection.run();
                    int meanwhile = persisted.get() - before;
                    if (meanwhile > 3) {
                        print(what, meanwhile);
                    }
                    return meanwhile > 3;
                });
    }

    private static void print(String what, int persisted) {
        System.out.printf("selection among %d: %d batches persisted during %s%n", BATCHES, persisted, what);
    }
}
