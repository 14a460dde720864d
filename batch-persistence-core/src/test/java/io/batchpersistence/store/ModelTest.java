package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Lease;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.io.TempDirFactory;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Random operations on a disk store and on {@link InMemoryBatchStore}, which must always agree. Segments have the
 * minimum size, so that they are created, sealed and deleted all the time.
 *
 * <p>A failure names its seed. {@code -Dbatch.model.seed=N} runs a single seed, {@code -Dbatch.model.seeds=N} sets the
 * number of seeds.
 *
 * <p>Time only moves forward here. How a store handles a clock that is set back is tested elsewhere.
 */
@Tag("slow")
class ModelTest {

    private static final int STEPS = 200;
    private static final int MAX_BATCHES = 25;
    private static final String[] COLLECTORS = {"loki", "elasticsearch", "otlp"};
    private static final String[] REASONS = {"connection refused", "429 too many requests", "HTTP 503"};

    /** Nothing here must survive a power cut, so a file system in memory saves the time of forces. */
    private static final class InMemory implements TempDirFactory {
        private static final Path SHARED_MEMORY = Path.of("/dev/shm");

        @Override
        public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext test) throws IOException {
            return Files.isWritable(SHARED_MEMORY)
                    ? Files.createTempDirectory(SHARED_MEMORY, "model")
                    : Files.createTempDirectory("model");
        }
    }

    @TempDir(factory = InMemory.class)
    Path temp;

    @ParameterizedTest
    @EnumSource
    void agrees_with_the_model(StoreKind kind) throws Exception {
        Long one = Long.getLong("batch.model.seed");
        int seeds = Integer.getInteger("batch.model.seeds", kind == StoreKind.SEGMENT ? 250 : 50);
        for (long seed = one == null ? 1 : one; seed <= (one == null ? seeds : one); seed++) {
            Path directory = temp.resolve(kind + "-" + seed);
            Run run = new Run(kind, directory, seed);
            try {
                run.all();
            } catch (Exception | AssertionError e) {
                throw new AssertionError(
                        "seed " + seed + " of " + kind + " (run it alone with -Dbatch.model.seed=" + seed + "), after "
                                + run.steps + " steps, the last of them " + String.join(", ", run.last),
                        e);
            }
            delete(directory);
        }
    }

    private static void delete(Path directory) throws Exception {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path path : files.sorted((a, b) -> b.compareTo(a)).toList()) {
                Files.delete(path);
            }
        }
    }

    private static final class Run {

        private final StoreKind kind;
        private final Path directory;
        private final Random random;
        private final ManualClock clock = new ManualClock();
        private final InMemoryBatchStore model = new InMemoryBatchStore(MAX_BATCHES);
        private final Deque<String> last = new ArrayDeque<>();
        private BatchStore store;
        private int steps;
        private Instant opened;

        /** The fences of the claims in both stores, by id. */
        private final Map<String, Fences> claimed = new HashMap<>();

        private final List<Map.Entry<String, Fences>> stale = new ArrayList<>();
        /** By collector type: what the model was told to discard after the store chose what to evict or expire. */
        private final Map<String, long[]> chosen = new HashMap<>();

        private record Fences(long model, long store) {}

        Run(StoreKind kind, Path directory, long seed) {
            this.kind = kind;
            this.directory = directory;
            this.random = new Random(seed);
            open();
        }

        private void open() {
            opened = clock.instant();
            store = kind.open(DiskStoreOptions.builder(directory)
                    .segmentSize(4 << 10)
                    .maxBatches(MAX_BATCHES)
                    .sync(random.nextInt(10) == 0 ? SyncPolicy.ALWAYS : SyncPolicy.NEVER)
                    .format(pick(BatchFormat.values()))
                    .compression(pick(Compression.values()))
                    .clock(clock)
                    .build());
            store.onCorruption(corruption -> {
                throw new AssertionError("nothing was damaged, but: " + corruption);
            });
        }

        void all() {
            try {
                while (steps < STEPS) {
                    steps++;
                    step();
                    compareCounts();
                    if (random.nextInt(4) == 0) {
                        compareContents(selector());
                    }
                }
                reopen();
                compareCounts();
                compareContents(BatchSelector.all());
            } finally {
                store.close();
            }
        }

        private void step() {
            int dice = random.nextInt(100);
            if (dice < 30) {
                append();
            } else if (dice < 42) {
                claim();
            } else if (dice < 52) {
                deliver();
            } else if (dice < 68) {
                fail();
            } else if (dice < 73) {
                timeOut();
            } else if (dice < 78) {
                reschedule();
            } else if (dice < 82) {
                replay();
            } else if (dice < 84) {
                discard();
            } else if (dice < 87) {
                expire();
            } else if (dice < 89) {
                evict();
            } else if (dice < 91) {
                note("reclaim");
                store.reclaim();
            } else if (dice < 93) {
                reopen();
            } else {
                Duration by = Duration.ofMillis(random.nextInt(10) == 0 ? 3_600_000 : random.nextInt(8_000));
                note("clock on by " + by);
                clock.advance(by);
            }
        }

        private void append() {
            String id = id();
            Instant now = clock.instant();
            NewBatch batch = new NewBatch(
                    id,
                    pick(COLLECTORS),
                    GeneratedBatch.entries(random.nextInt(1_000)),
                    random.nextBoolean() ? Map.of() : Map.of("tenant", "t" + random.nextInt(3)),
                    now,
                    now.plusMillis(random.nextInt(20_000)));
            note("append " + id);
            Class<?> expected = outcome(model, batch);
            assertThat(outcome(store, batch)).isEqualTo(expected);
        }

        private static @Nullable Class<?> outcome(BatchStore store, NewBatch batch) {
            try {
                store.append(batch).join();
                return null;
            } catch (CompletionException e) {
                assertThat(e.getCause()).isInstanceOfAny(DuplicateBatchException.class, BatchRejectedException.class);
                return e.getCause().getClass();
            }
        }

        private void claim() {
            String collector = pick(COLLECTORS);
            BatchOrder order = pick(BatchOrder.values());
            int max = 1 + random.nextInt(5);
            Instant now = clock.instant();
            Instant leaseUntil = now.plusMillis(random.nextInt(20_000));
            note("claim " + max + " of " + collector + " " + order);
            List<Claim> expected = model.claim(collector, order, now, leaseUntil, max);
            List<Claim> claims = store.claim(collector, order, now, leaseUntil, max);
            assertThat(claims.stream().map(claim -> comparable(claim.batch())))
                    .containsExactlyElementsOf(expected.stream()
                            .map(claim -> comparable(claim.batch()))
                            .toList());
            for (int i = 0; i < claims.size(); i++) {
                String id = claims.get(i).batch().id();
                Fences fences =
                        new Fences(expected.get(i).fence(), claims.get(i).fence());
                Fences before = claimed.put(id, fences);
                if (before != null) {
                    stale.add(Map.entry(id, before));
                }
            }
        }

        private void deliver() {
            String id = id();
            note("delivered " + id);
            Settled expected = model.delivered(id);
            assertThat(store.delivered(id)).isEqualTo(expected);
        }

        private void fail() {
            Map.Entry<String, Fences> of = random.nextBoolean() && !claimed.isEmpty()
                    ? pick(new ArrayList<>(claimed.entrySet()))
                    : Map.entry(id(), new Fences(BatchStore.ANY_FENCE, BatchStore.ANY_FENCE));
            if (random.nextInt(10) == 0 && !stale.isEmpty()) {
                of = pick(stale);
            }
            fail(of.getKey(), of.getValue());
        }

        private void fail(String id, Fences fences) {
            String reason = pick(REASONS);
            Instant now = clock.instant();
            boolean dead = random.nextInt(3) == 0;
            Instant next = random.nextInt(4) == 0 ? null : now.plusMillis(random.nextInt(10_000));
            FailureDecision decision = (type, retries) -> new Verdict(dead, dead ? null : next, retries + 1);
            note((dead ? "dead " : next == null ? "held back " : "failed ") + id + " with " + fences);
            Settled expected = model.failed(id, fences.model(), reason, now, decision);
            assertThat(store.failed(id, fences.store(), reason, now, decision)).isEqualTo(expected);
        }

        private void timeOut() {
            Instant now = clock.instant();
            note("time out");
            Map<String, Lease> expected = byId(model.timedOut(now, Integer.MAX_VALUE));
            Map<String, Lease> leases = byId(store.timedOut(now, Integer.MAX_VALUE));
            assertThat(leases.keySet()).isEqualTo(expected.keySet());
            leases.forEach((id, lease) -> {
                assertThat(lease.collectorType()).isEqualTo(expected.get(id).collectorType());
                if (random.nextInt(3) > 0) {
                    fail(id, new Fences(expected.get(id).fence(), lease.fence()));
                }
            });
            // Timed-out batches are reported until they are settled, up to the limit of the call.
            int left = byId(model.timedOut(now, Integer.MAX_VALUE)).size();
            assertThat(store.timedOut(now, 2)).hasSize(Math.min(2, left));
        }

        private static Map<String, Lease> byId(List<Lease> leases) {
            return leases.stream().collect(Collectors.toMap(Lease::batchId, lease -> lease));
        }

        private void reschedule() {
            Instant now = clock.instant();
            Instant next = random.nextInt(4) == 0 ? null : now.plusMillis(random.nextInt(5_000));
            if (random.nextInt(4) == 0) {
                note("release held");
                assertThat(store.releaseHeld(now)).isEqualTo(model.releaseHeld(now));
            } else {
                BatchSelector selector = selector();
                note("reschedule " + selector + " to " + next);
                assertThat(store.reschedule(selector, now, next)).isEqualTo(model.reschedule(selector, now, next));
            }
        }

        private void replay() {
            BatchSelector selector = selector();
            note("replay " + selector);
            assertThat(store.replay(selector, clock.instant())).isEqualTo(model.replay(selector, clock.instant()));
        }

        private void discard() {
            BatchSelector selector = selector().limit(3);
            note("discard " + selector);
            assertThat(store.discard(selector, clock.instant())).isEqualTo(model.discard(selector, clock.instant()));
        }

        private void expire() {
            String collector = pick(COLLECTORS);
            Instant pendingBefore = clock.instant().minusMillis(random.nextInt(100_000));
            Instant deadBefore = clock.instant().minusMillis(random.nextInt(100_000));
            note("expire " + collector + " before " + pendingBefore + ", dead before " + deadBefore);
            if (random.nextInt(3) == 0) {
                // The store chooses which expired batches it removes. The model only checks whether there should be
                // another.
                List<BatchSummary> expired = store.expire(collector, pendingBefore, deadBefore, 1);
                follow(expired, 0);
                if (expired.isEmpty()) {
                    assertThat(model.expire(collector, pendingBefore, deadBefore, 1))
                            .isEmpty();
                }
                return;
            }
            List<BatchSummary> expected = model.expire(collector, pendingBefore, deadBefore, Integer.MAX_VALUE);
            assertThat(comparable(store.expire(collector, pendingBefore, deadBefore, Integer.MAX_VALUE)))
                    .containsExactlyInAnyOrderElementsOf(comparable(expected));
        }

        private void evict() {
            int max = 1 + random.nextInt(3);
            note("evict " + max);
            long evictable =
                    model.count(BatchSelector.all().states(BatchState.PENDING, BatchState.DEAD), clock.instant());
            List<BatchSummary> evicted = store.evictOldest(max);
            assertThat(evicted).hasSize((int) Math.min(max, evictable));
            follow(evicted, 1);
        }

        /** Applies the choice of the store to the model. */
        private void follow(List<BatchSummary> removed, int cause) {
            for (BatchSummary summary : removed) {
                BatchSelector same = BatchSelector.all().ids(summary.id());
                assertThat(comparable(List.of(summary))).isEqualTo(comparable(model.list(same, clock.instant())));
                assertThat(summary.state()).isNotEqualTo(BatchState.IN_FLIGHT);
                model.discard(same, clock.instant());
                chosen.computeIfAbsent(summary.collectorType(), type -> new long[2])[cause]++;
            }
        }

        private void reopen() {
            note("reopen");
            store.close();
            open();
            model.reopen(clock.instant());
            claimed.clear();
            stale.clear();
        }

        private void compareCounts() {
            assertThat(store.collectorTypes()).isEqualTo(model.collectorTypes());
            assertThat(store.stats().batches()).isEqualTo(model.stats().batches());
            assertThat(store.stats().problem()).isNull();
            for (String collector : COLLECTORS) {
                CollectorStats is = store.stats().collector(collector);
                CollectorStats expected = model.stats().collector(collector);
                long[] followed = chosen.getOrDefault(collector, new long[2]);
                assertThat(is.isBalanced()).as("%s", is).isTrue();
                assertThat(comparable(is, is, new long[2])).isEqualTo(comparable(expected, is, followed));
            }
        }

        /** With the bytes that the store has, and what followed its choice counted as expired or evicted. */
        private CollectorStats comparable(CollectorStats of, CollectorStats is, long[] followed) {
            return new CollectorStats(
                    of.accepted(),
                    of.delivered(),
                    of.pending(),
                    of.inFlight(),
                    of.dead(),
                    of.expired() + followed[0],
                    of.evicted() + followed[1],
                    of.discarded() - followed[0] - followed[1],
                    of.corrupt(),
                    of.failedAttempts(),
                    volume(of.pendingVolume(), is.pendingVolume()),
                    volume(of.inFlightVolume(), is.inFlightVolume()),
                    volume(of.deadVolume(), is.deadVolume()),
                    of.oldestPending(),
                    of.oldestDead(),
                    dueByNow(of.nextAttemptAt()));
        }

        /** The order among due batches is not specified. */
        private @Nullable Instant dueByNow(@Nullable Instant next) {
            Instant now = clock.instant();
            return next != null && next.isBefore(now) ? now : next;
        }

        /** The model has no bytes on disk, but there must be some if there are batches. */
        private BatchVolume volume(BatchVolume expected, BatchVolume is) {
            assertThat(is.bytes() > 0).isEqualTo(is.entries() > 0);
            return new BatchVolume(expected.entries(), is.bytes());
        }

        private void compareContents(BatchSelector selector) {
            Instant now = clock.instant();
            List<BatchSummary> expected = model.list(selector, now);
            List<BatchSummary> listed = comparable(store.list(selector, now));
            List<BatchSummary> expectedToBeListed = comparable(expected);
            // Show only the differences: the lists are long.
            if (!listed.equals(expectedToBeListed)) {
                assertThat(listed.stream().filter(each -> !expectedToBeListed.contains(each)))
                        .as("%s", selector)
                        .containsExactlyElementsOf(expectedToBeListed.stream()
                                .filter(each -> !listed.contains(each))
                                .toList());
                assertThat(listed.stream().map(BatchSummary::id))
                        .as("%s", selector)
                        .containsExactlyElementsOf(expectedToBeListed.stream()
                                .map(BatchSummary::id)
                                .toList());
            }
            assertThat(store.count(selector, now)).isEqualTo(expected.size());
            assertThat(store.failures(selector, now)).as("%s", selector).isEqualTo(model.failures(selector, now));
            Set<String> ids = new HashSet<>(Set.of(id()));
            expected.stream().limit(3).forEach(summary -> ids.add(summary.id()));
            for (String id : ids) {
                assertThat(store.find(id).map(this::comparable))
                        .isEqualTo(model.find(id).map(this::comparable));
            }
        }

        private List<BatchSummary> comparable(List<BatchSummary> summaries) {
            return summaries.stream()
                    // Positions differ, but their order does not.
                    .map(s -> new BatchSummary(
                            s.id(),
                            s.collectorType(),
                            s.state(),
                            s.createdAt(),
                            s.lastAttempt(),
                            comparable(s.state(), s.nextAttemptAt()),
                            s.retryCount(),
                            s.failureReason(),
                            s.earlierFailures(),
                            s.context(),
                            s.entryCount(),
                            // Bytes on disk, which the model does not have.
                            0,
                            0))
                    .toList();
        }

        private PersistedBatch comparable(PersistedBatch b) {
            return new PersistedBatch(
                    b.id(),
                    b.entries(),
                    b.collectorType(),
                    b.createdAt(),
                    b.lastAttempt(),
                    comparable(b.state(), b.nextAttemptAt()),
                    b.retryCount(),
                    b.failureReason(),
                    b.earlierFailures(),
                    b.context(),
                    b.state());
        }

        /** A batch that was due when the store was opened may have any earlier due time. */
        private @Nullable Instant comparable(BatchState state, @Nullable Instant next) {
            return state == BatchState.PENDING && next != null && next.isBefore(opened) ? opened : next;
        }

        private String id() {
            int number = random.nextInt(40);
            return number == 0 ? "../../etc/passwd" : number == 1 ? "Größe\u0000☃ 😀" : "batch-" + number;
        }

        private BatchSelector selector() {
            BatchSelector selector = BatchSelector.all().order(pick(BatchOrder.values()));
            if (random.nextInt(4) == 0) {
                Set<String> ids =
                        Stream.generate(this::id).limit(1 + random.nextInt(6)).collect(Collectors.toSet());
                selector = selector.ids(ids.toArray(new String[0]));
            }
            if (random.nextInt(4) == 0) {
                selector = selector.collectorTypes(pick(COLLECTORS));
            }
            if (random.nextInt(4) == 0) {
                selector = selector.failureReason(pick(new String[] {"*429*", "CONN*", "HTTP ???", "*"}));
            }
            if (random.nextInt(3) == 0) {
                selector = selector.states(pick(BatchState.values()));
            }
            if (random.nextInt(6) == 0) {
                selector = selector.olderThan(Duration.ofMillis(random.nextInt(60_000)));
            }
            if (random.nextInt(6) == 0) {
                selector = selector.youngerThan(Duration.ofMillis(random.nextInt(60_000)));
            }
            if (random.nextInt(6) == 0) {
                selector = selector.retries(random.nextInt(2), 1 + random.nextInt(3));
            }
            if (random.nextInt(4) == 0) {
                selector = selector.limit(1 + random.nextInt(8));
            }
            return selector;
        }

        private <T> T pick(T[] of) {
            return of[random.nextInt(of.length)];
        }

        private <T> T pick(List<T> of) {
            return of.get(random.nextInt(of.size()));
        }

        private void note(String step) {
            last.add(step);
            if (last.size() > 12) {
                last.remove();
            }
        }
    }
}
