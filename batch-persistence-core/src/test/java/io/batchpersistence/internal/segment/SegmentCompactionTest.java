package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Compression;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.RecordFormat.View;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.GeneratedBatch;
import io.batchpersistence.store.StoreKind;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Compaction frees the space between stored batches. Whatever happens meanwhile, each batch is there exactly once. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SegmentCompactionTest extends DiskStoreFixture {

    private static final int BATCHES = 400;
    private static final Verdict LATER = new Verdict(false, null, 3);
    private static final Verdict DEAD = new Verdict(true, null, 10);

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10);
    }

    private BatchStore open(Disk disk) {
        return open(StoreKind.SEGMENT, disk);
    }

    private static String id(int i) {
        return "batch " + i;
    }

    private void append(BatchStore store, int from, int to) {
        List<CompletableFuture<?>> appends = new ArrayList<>();
        for (int i = from; i < to; i++) {
            appends.add(store.append(batch(id(i))));
            clock.advance(Duration.ofMillis(1));
        }
        appends.forEach(CompletableFuture::join);
    }

    private static boolean isStuck(int i) {
        return i % 20 == 7;
    }

    /** Keeps one of twenty batches: in flight, pending with failures, or dead, in turn. */
    private Set<String> settle(BatchStore store, int from, int to) {
        Set<String> stuck = new TreeSet<>();
        for (int i = from; i < to; i++) {
            if (!isStuck(i)) {
                assertThat(store.delivered(id(i))).isNotNull();
                continue;
            }
            stuck.add(id(i));
            int turn = i / 20 % 3;
            if (turn > 0) {
                fail(store, id(i), "reason " + turn, turn == 1 ? LATER : DEAD);
            }
        }
        return stuck;
    }

    private static List<Path> segments(MemoryDisk disk) {
        return disk.files(".segment");
    }

    /** Persists all, settles most of them, and waits until the segments with the others are compacted. */
    private Set<String> compact(BatchStore store, MemoryDisk disk, Runnable beforeChange) {
        append(store, 0, BATCHES);
        int before = segments(disk).size();
        disk.beforeChange(beforeChange);
        Set<String> stuck = settle(store, 0, BATCHES);
        store.reclaim();
        awaitFewSegments(disk, before / 5);
        disk.beforeChange(() -> {});
        return stuck;
    }

    private static void awaitFewSegments(MemoryDisk disk, int most) {
        Awaitility.await().until(() -> segments(disk).size() <= most);
    }

    /** Its entry in the index is larger than the record itself: a copy looks as sparse as the original. */
    @Test
    void a_single_tiny_batch_is_copied_once_and_not_for_ever() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            List<LogEntry> tiny = List.of(LogEntry.of(now(), "INFO", "x"));
            store.append(new NewBatch("1", "l", tiny, Map.of(), now(), now())).join();
            for (int i = 0; i < BATCHES; i++) {
                store.delivered(id(i));
            }
            store.reclaim();
            store.reclaim();
            awaitFewSegments(disk, 1);
            assertThat(ids(store)).containsExactly("1");
        }
        long last =
                Long.parseLong(segments(disk).get(0).getFileName().toString().substring(0, 10));
        try (BatchStore store = open(disk)) {
            store.reclaim();
            store.reclaim();
            assertThat(ids(store)).containsExactly("1");
        }
        assertThat(segments(disk)).hasSize(1);
        assertThat(Long.parseLong(segments(disk).get(0).getFileName().toString().substring(0, 10)))
                .isLessThanOrEqualTo(last + 1);
    }

    private void assertHolds(BatchStore store, Set<String> ids) {
        assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(ids);
        for (String id : ids) {
            assertThat(store.find(id).orElseThrow().entries()).as(id).isEqualTo(GeneratedBatch.entries(id));
        }
        assertBooks(store);
    }

    private void assertHoldsAtLeast(MemoryDisk found, Set<String> ids) {
        try (BatchStore store = open(found)) {
            assertThat(ids(store)).doesNotHaveDuplicates().containsAll(ids);
            assertBooks(store);
        }
    }

    private void assertBooks(BatchStore store) {
        assertThat(reports).allSatisfy(report -> assertThat(report.batches()).isZero());
        assertThat(store.stats().collectors().values())
                .allSatisfy(
                        stats -> assertThat(stats.isBalanced()).as("%s", stats).isTrue());
        assertThat(store.stats().total().corrupt()).isZero();
    }

    @Test
    void few_batches_that_are_held_do_not_keep_many_files() {
        MemoryDisk disk = new MemoryDisk();
        Set<String> stuck;
        try (BatchStore store = open(disk)) {
            stuck = compact(store, disk, () -> {});
            assertHolds(store, stuck);
            long live = store.stats().total().bytes();
            assertThat(segments(disk).stream()
                            .mapToLong(path -> disk.get(path).length)
                            .sum())
                    .isLessThanOrEqualTo(2 * live);
        }
        try (BatchStore store = open(disk)) {
            assertHolds(store, stuck);
            for (String id : stuck) {
                PersistedBatch batch = store.find(id).orElseThrow();
                int turn = Integer.parseInt(id.substring(6)) / 20 % 3;
                assertThat(batch.state()).as(id).isEqualTo(turn == 2 ? BatchState.DEAD : BatchState.PENDING);
                assertThat(batch.retryCount()).as(id).isEqualTo(new int[] {0, 3, 10}[turn]);
                assertThat(batch.failureReason()).as(id).isEqualTo(turn == 0 ? null : "reason " + turn);
            }
        }
    }

    @Test
    void batches_that_were_moved_come_in_the_order_in_which_they_were_persisted() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            IntStream.range(0, BATCHES).filter(i -> !isStuck(i)).forEach(i -> store.delivered(id(i)));
            store.reclaim();
            awaitFewSegments(disk, 10);
            append(store, BATCHES, BATCHES + 40);
        }
        try (BatchStore store = open(disk)) {
            for (String type : store.collectorTypes()) {
                List<Integer> order = claim(store, type, BATCHES).stream()
                        .map(claim -> Integer.parseInt(claim.batch().id().substring(6)))
                        .toList();
                assertThat(order).hasSizeGreaterThan(10).isSorted();
            }
        }
        // The oldest batch goes first, even if the files are in another order.
        try (BatchStore store = open(disk)) {
            assertThat(store.evictOldest(5))
                    .extracting(BatchSummary::id)
                    .containsExactly(id(7), id(27), id(47), id(67), id(87));
        }
    }

    /** The disk and the settled batches before one disk operation. */
    private record Moment(MemoryDisk disk, Set<String> settled) {}

    /**
     * Interrupts a store at every disk operation of a compaction, with concurrent settling and persisting, as a kill or
     * a power cut does. Then interrupts the recovery as well.
     */
    @Tag("slow")
    @Test
    void left_at_any_step_nothing_is_lost_and_nothing_is_there_twice() {
        MemoryDisk disk = new MemoryDisk();
        List<Moment> moments = new ArrayList<>();
        Set<String> settled = new HashSet<>();
        Set<String> all = new TreeSet<>();
        int extra = BATCHES / 10;
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            IntStream.range(0, BATCHES + extra)
                    .filter(SegmentCompactionTest::isStuck)
                    .forEach(i -> all.add(id(i)));
            int before = segments(disk).size();
            settle(store, 0, BATCHES);
            // Segments without batches are deleted durably.
            store.reclaim();
            synchronized (moments) {
                disk.beforeChange(() -> {
                    synchronized (moments) {
                        moments.add(new Moment(disk.copy(), Set.copyOf(settled)));
                    }
                });
            }
            append(store, BATCHES, BATCHES + extra);
            settle(store, BATCHES, BATCHES + extra);
            store.reclaim();
            // These batches are settled while they are being moved.
            for (int i = 7; i < BATCHES; i += 80) {
                synchronized (moments) {
                    settled.add(id(i));
                }
                store.delivered(id(i));
            }
            awaitFewSegments(disk, before / 5);
            disk.beforeChange(() -> {});
            Set<String> left = new TreeSet<>(all);
            left.removeAll(settled);
            assertHolds(store, left);
        }
        assertThat(moments).hasSizeGreaterThan(100);
        int repaired = 0;
        for (Moment moment : moments) {
            for (MemoryDisk found : List.of(moment.disk(), moment.disk().copy().afterPowerCut())) {
                boolean again = repaired++ % 10 == 0;
                List<MemoryDisk> second = new ArrayList<>();
                if (again) {
                    found.beforeChange(() -> second.add(found.copy()));
                }
                check(found, moment, all);
                found.beforeChange(() -> {});
                second.forEach(copy -> check(copy, moment, all));
            }
        }
    }

    /** A copy is renamed and originals are deleted. A power cut may undo each of these alone. */
    @Test
    void names_that_a_power_cut_undoes_one_by_one_cost_no_batch() {
        MemoryDisk disk = new MemoryDisk();
        List<MemoryDisk> moments = new ArrayList<>();
        Set<String> stuck;
        try (BatchStore store = open(disk)) {
            stuck = compact(store, disk, () -> {
                if (disk.hasUndecidedMove() && moments.size() < 15) {
                    moments.add(disk.copy());
                }
            });
        }
        assertThat(moments).isNotEmpty();
        Random random = new Random(1);
        for (MemoryDisk moment : moments) {
            moment.powerCuts(8, random, found -> assertHoldsAtLeast(found, stuck));
        }
    }

    /**
     * The process is killed after a copy is renamed, before the rename is durable. The next process finds the copy,
     * cannot start a journal (which would force the directory), and deletes the originals. Then the power fails.
     */
    @Tag("slow")
    @Test
    void originals_stay_until_the_name_of_a_copy_is_durable_also_if_another_process_gave_it() {
        MemoryDisk disk = new MemoryDisk();
        List<MemoryDisk> renamed = new ArrayList<>();
        Set<String> stuck;
        try (BatchStore store = open(disk)) {
            stuck = compact(store, disk, () -> {
                if (renamed.size() < 4 && disk.hasUndecidedMove(".segment")) {
                    renamed.add(disk.copy());
                }
            });
        }
        assertThat(renamed).isNotEmpty();
        Random random = new Random(1);
        for (MemoryDisk killed : renamed) {
            List<MemoryDisk> moments = new ArrayList<>();
            killed.beforeChange(() -> moments.add(killed.copy()));
            FaultyDisk full = new FaultyDisk(killed);
            full.fail(Operation.CREATE, "state-", "No space left on device");
            try (BatchStore store = open(full)) {
                store.reclaim();
            }
            killed.beforeChange(() -> {});
            for (MemoryDisk moment : moments) {
                moment.powerCuts(6, random, found -> assertHoldsAtLeast(found, stuck));
            }
        }
    }

    /**
     * A batch is moved above the active segment, delivered, and persisted again with its id. The power fails before the
     * mark is durable, so both are found, the earlier one in the later segment.
     */
    @Test
    void of_two_batches_with_one_id_the_later_one_is_held_whatever_segment_it_is_in() {
        MemoryDisk disk = new MemoryDisk();
        String id = id(7);
        MemoryDisk left;
        // Only force on request.
        DiskStoreOptions options = options().syncInterval(Duration.ofDays(1)).build();
        List<LogEntry> entries = List.of(LogEntry.of(clock.instant(), null, "persisted again"));
        try (BatchStore store = StoreKind.SEGMENT.open(options, disk)) {
            append(store, 0, BATCHES);
            int before = segments(disk).size();
            settle(store, 0, BATCHES);
            append(store, BATCHES, BATCHES + 1);
            store.reclaim();
            awaitFewSegments(disk, before / 5);
            assertThat(store.delivered(id)).isNotNull();
            store.append(batch(id, GeneratedBatch.collectorType(id), entries)).join();
            left = disk.afterPowerCut();
        }
        assertThat(segmentsWith(left, id)).hasSize(2);
        for (int opening = 0; opening < 2; opening++) {
            try (BatchStore store = open(left)) {
                assertThat(store.find(id).orElseThrow().entries()).isEqualTo(entries);
                assertThat(ids(store)).doesNotHaveDuplicates();
                assertBooks(store);
                assertThat(store.stats().total().accepted()).isEqualTo(BATCHES + 2);
            }
            // The earlier batch shares its segment with others.
            assertThat(segmentsWith(left, id)).hasSize(2);
        }
    }

    private static List<Path> segmentsWith(MemoryDisk disk, String id) {
        return segments(disk).stream()
                .filter(path -> new String(disk.get(path), StandardCharsets.ISO_8859_1).contains(id + "\u0012"))
                .toList();
    }

    /**
     * A batch is delivered just before its copy takes effect. The frames must be ordered so that the journal never says
     * that the batch is gone without its outcome.
     */
    @Test
    void killed_or_cut_off_while_a_copied_batch_is_said_to_be_gone_nothing_counts_as_missing() {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        List<MemoryDisk> moments = new ArrayList<>();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            // Writes the counters to the journal.
            store.reclaim();
            CountDownLatch copied = disk.blockForces(".segment.tmp");
            // The maintenance thread compacts on its own as soon as it pays.
            Set<String> left = settle(store, 0, BATCHES);
            Awaitility.await().until(() -> disk.waitingForces() == 1);
            // Keep the writer busy, so that one round contains both an append and the request of the maintenance
            // thread.
            CountDownLatch first = disk.blockForces();
            CompletableFuture<?> one = store.append(batch(id(BATCHES)));
            Awaitility.await().until(() -> disk.waitingForces() == 2);
            CompletableFuture<?> two = store.append(batch(id(BATCHES + 1)));
            copied.countDown();
            Awaitility.await().until(SegmentCompactionTest::housekeeperWaits);
            CountDownLatch second = disk.blockForces();
            first.countDown();
            one.join();
            Awaitility.await().until(() -> disk.waitingForces() == 1);
            // Too late for that round.
            left.forEach(id -> assertThat(store.delivered(id)).isNotNull());
            files.beforeChange(() -> {
                // The originals are gone by then.
                if (moments.size() < 12) {
                    moments.add(files.copy());
                }
            });
            second.countDown();
            two.join();
            store.reclaim();
            files.beforeChange(() -> {});
        }
        assertThat(moments).isNotEmpty();
        Random random = new Random(1);
        for (MemoryDisk moment : moments) {
            assertOpensWithoutLoss(moment.copy());
            moment.powerCuts(16, random, this::assertOpensWithoutLoss);
        }
    }

    /**
     * A force after a copy fails and drops the copies since the last force. That the last copied batch was delivered
     * meanwhile is no reason to go on with the others.
     */
    @Test
    void a_force_that_fails_for_a_batch_that_is_gone_meanwhile_costs_no_other() {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        DiskStoreOptions options = options()
                .segmentSize(1 << 20)
                .compression(Compression.NONE)
                .compactionRate(1L << 40)
                .build();
        Path original = directory.resolve("0000000001.segment");
        MemoryDisk cut;
        try (BatchStore store = StoreKind.SEGMENT.open(options, disk)) {
            // The first segment has 17 of them.
            for (int i = 0; i < 20; i++) {
                store.append(batch(id(i), "loki", large(i))).join();
            }
            for (int i = 7; i < 20; i++) {
                assertThat(store.delivered(id(i))).isNotNull();
            }
            CountDownLatch delivered = disk.blockForces(".segment.tmp");
            store.reclaim();
            // Waits for the force of the first five copies.
            Awaitility.await().until(() -> disk.waitingForces() == 1);
            assertThat(store.delivered(id(4))).isNotNull();
            disk.fail(Operation.FORCE, ".segment.tmp", "Input/output error").times(1);
            delivered.countDown();
            Awaitility.await().until(() -> {
                store.reclaim();
                return !files.afterPowerCut().files().contains(original);
            });
            cut = files.afterPowerCut();
        }
        try (BatchStore next = StoreKind.SEGMENT.open(options, cut)) {
            next.onCorruption(reports::add);
            assertThat(ids(next)).containsExactlyInAnyOrder(id(0), id(1), id(2), id(3), id(5), id(6));
            for (int i : new int[] {0, 1, 2, 3, 5, 6}) {
                assertThat(next.find(id(i)).orElseThrow().entries()).isEqualTo(large(i));
            }
            assertBooks(next);
        }
        assertThat(reports).isEmpty();
    }

    /** Large enough that five of them are copied before the first force. */
    private List<LogEntry> large(int i) {
        StringBuilder text = new StringBuilder();
        new Random(i).ints(60_000, ' ', '~').forEach(c -> text.append((char) c));
        return List.of(LogEntry.of(clock.instant(), null, text.toString()));
    }

    private static boolean housekeeperWaits() {
        return Thread.getAllStackTraces().entrySet().stream()
                .filter(thread -> thread.getKey().getName().equals("batch-persistence-housekeeper"))
                .anyMatch(thread -> Arrays.stream(thread.getValue())
                        .anyMatch(frame -> frame.getMethodName().equals("join")));
    }

    private void assertOpensWithoutLoss(MemoryDisk left) {
        try (BatchStore store = open(left)) {
            assertBooks(store);
        }
    }

    private void check(MemoryDisk found, Moment moment, Set<String> stuck) {
        try (BatchStore store = open(found)) {
            List<String> held = ids(store);
            assertThat(held).doesNotHaveDuplicates();
            // Batches of the second wave may not be acknowledged yet. Those of the first were.
            Set<String> owed = new TreeSet<>(stuck);
            owed.removeAll(moment.settled());
            owed.removeIf(id -> Integer.parseInt(id.substring(6)) >= BATCHES);
            assertThat(held).containsAll(owed);
            for (String id : owed) {
                assertThat(store.find(id).orElseThrow().entries()).isEqualTo(GeneratedBatch.entries(id));
            }
            assertBooks(store);
        }
    }

    @ParameterizedTest
    @EnumSource(
            value = Operation.class,
            names = {"CREATE", "WRITE", "FORCE", "MOVE", "FORCE_DIRECTORY", "DELETE", "READ"})
    void a_disk_that_fails_meanwhile_costs_nothing_but_the_attempt(Operation operation) {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        Set<String> stuck;
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            int before = segments(files).size();
            stuck = settle(store, 0, BATCHES);
            String what = operation == Operation.FORCE_DIRECTORY
                    ? directory.getFileName().toString()
                    : operation == Operation.READ || operation == Operation.MOVE ? ".segment" : ".segment.tmp";
            disk.fail(operation, what, "Input/output error").times(3);
            store.reclaim();
            store.reclaim();
            disk.heal();
            Awaitility.await().until(() -> {
                store.reclaim();
                return segments(files).size() <= before / 5;
            });
            assertHolds(store, stuck);
        }
        try (BatchStore store = open(disk)) {
            assertHolds(store, stuck);
        }
    }

    @Test
    void a_damaged_batch_is_set_aside_and_the_others_are_moved() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            int before = segments(disk).size();
            // Damage the payload only, so that only a full read detects it.
            for (Path segment : segments(disk)) {
                ids(disk, segment).forEach((start, id) -> {
                    if (id.equals(id(7))) {
                        disk.flip(segment, start + new View(disk.get(segment), start).length() - 1, 1);
                    }
                });
            }
            Set<String> stuck = settle(store, 0, BATCHES);
            stuck.remove(id(7));
            store.reclaim();
            awaitFewSegments(disk, before / 5);
            assertThat(reports).singleElement().satisfies(report -> {
                assertThat(report.batchId()).isEqualTo(id(7));
                assertThat(report.batches()).isOne();
                assertThat(report.quarantinedTo()).isNotNull();
            });
            reports.clear();
            assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(stuck);
            assertThat(store.stats().total().corrupt()).isOne();
            assertThat(store.stats().total().isBalanced()).isTrue();
        }
        assertThat(disk.files()).anyMatch(path -> path.toString().endsWith(".damaged"));
    }

    /** The numbers of removed batches between its neighbours may be in any segment. */
    @Test
    void damage_where_batches_were_moved_to_costs_only_the_batch_it_is_in() {
        MemoryDisk disk = new MemoryDisk();
        Set<String> left = new TreeSet<>();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            int before = segments(disk).size();
            for (int i = 0; i < BATCHES; i++) {
                // Some segments between the compacted ones stay complete.
                if (isStuck(i) || i / 40 % 3 == 1) {
                    left.add(id(i));
                } else {
                    store.delivered(id(i));
                }
            }
            store.reclaim();
            awaitFewSegments(disk, before / 2);
            assertHolds(store, left);
        }
        Path compacted = segments(disk).stream()
                .filter(segment -> ids(disk, segment).containsValue(id(7)))
                .findAny()
                .orElseThrow();
        NavigableMap<Integer, String> records = ids(disk, compacted);
        assertThat(records).hasSizeGreaterThan(3).containsValue(id(27));
        for (Map.Entry<Integer, String> record : records.entrySet()) {
            MemoryDisk damaged = disk.copy();
            damaged.flip(compacted, record.getKey() + 9, 1);
            // Damage the index, so that the records are scanned.
            damaged.flip(compacted, damaged.get(compacted).length - 1, 1);
            Set<String> others = new TreeSet<>(left);
            others.remove(record.getValue());
            for (int opening = 0; opening < 3; opening++) {
                reports.clear();
                try (BatchStore store = open(damaged)) {
                    assertThat(ids(store))
                            .as("%s, opening %s", record, opening)
                            .containsExactlyInAnyOrderElementsOf(others);
                    assertThat(store.stats().total().isBalanced()).isTrue();
                    assertThat(store.stats().total().corrupt()).as("%s", record).isOne();
                    assertThat(store.stats().total().accepted()).isEqualTo(BATCHES);
                }
                assertThat(reports.stream().mapToLong(Corruption::batches).sum())
                        .as("%s, opening %s", record, opening)
                        .isEqualTo(opening == 0 ? 1 : 0);
            }
        }
    }

    /** By offset of their record. */
    private static NavigableMap<Integer, String> ids(MemoryDisk disk, Path segment) {
        NavigableMap<Integer, String> ids = SegmentDamageTest.records(segment, disk.get(segment));
        ids.pollLastEntry();
        return ids;
    }

    @Test
    void a_reader_finds_a_batch_that_is_moved_under_it() {
        MemoryDisk files = new MemoryDisk();
        try (BatchStore store = open(files)) {
            append(store, 0, BATCHES);
            // Count now: some segments may be compacted as soon as they are sparse.
            int before = segments(files).size();
            Set<String> stuck = settle(store, 0, BATCHES);
            store.reclaim();
            // Loop until compaction has moved the batches.
            while (segments(files).size() > before / 5) {
                for (String id : stuck) {
                    assertThat(store.find(id)).isPresent();
                }
            }
            assertHolds(store, stuck);
            for (String id : stuck) {
                assertThat(store.delivered(id)).isNotNull();
            }
            store.reclaim();
            assertThat(segments(files)).isEmpty();
        }
        assertThat(reports).isEmpty();
    }

    @Test
    void a_full_store_gives_back_the_garbage_between_what_it_holds() {
        MemoryDisk disk = new MemoryDisk();
        DiskStoreOptions options =
                super.options().maxDiskUsage(DiskStoreOptions.MIN_DISK_USAGE).build();
        try (BatchStore store = StoreKind.SEGMENT.open(options, disk)) {
            int accepted = 0;
            while (!store.appendAndWait(batch(id(accepted))).isCompletedExceptionally()) {
                accepted++;
            }
            // Measure before the first delivery: compaction may start right then.
            long full = store.stats().diskUsage();
            assertThat(full).isLessThanOrEqualTo(DiskStoreOptions.MIN_DISK_USAGE);
            for (int i = 0; i < accepted; i++) {
                if (i % 5 != 0) {
                    store.delivered(id(i));
                }
            }
            store.reclaim();
            Awaitility.await().until(() -> {
                assertThat(store.stats().diskUsage()).isLessThanOrEqualTo(DiskStoreOptions.MIN_DISK_USAGE);
                return store.stats().diskUsage() < full / 2;
            });
            assertThat(store.appendAndWait(batch("one more"))).isCompleted();
            assertThat(store.count(ALL, clock.instant())).isEqualTo((accepted + 4) / 5 + 1);
        }
    }

    @Test
    void claims_are_kept_while_batches_are_moved() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            int before = segments(disk).size();
            settle(store, 0, BATCHES);
            for (String type : store.collectorTypes()) {
                store.replay(ALL.collectorTypes(type), clock.instant());
            }
            List<Claim> claims = new ArrayList<>();
            for (String type : store.collectorTypes()) {
                claims.addAll(claim(store, type, BATCHES));
            }
            assertThat(claims).isNotEmpty();
            store.reclaim();
            awaitFewSegments(disk, before / 5);
            for (Claim claim : claims) {
                assertThat(store.failed(
                                claim.batch().id(), claim.fence(), "503", clock.instant(), (type, retries) -> LATER))
                        .isNotNull();
            }
            assertBooks(store);
        }
    }
}
