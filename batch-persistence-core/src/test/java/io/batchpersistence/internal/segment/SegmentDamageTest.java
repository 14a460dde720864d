package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.CollectorStats;
import io.batchpersistence.Compression;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.segment.RecordFormat.View;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * A small store, damaged in every way at every place. In every case it opens, undamaged batches are unchanged, lost
 * ones are reported and counted, and the next opening reports nothing new.
 */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
@ExtendWith(MutedLog.class)
class SegmentDamageTest extends DiskStoreFixture {

    enum Left {
        CLOSED,
        KILLED
    }

    private static final String GONE = "delivered";

    private final Map<String, List<LogEntry>> accepted = new TreeMap<>();

    @Override
    protected DiskStoreOptions.Builder options() {
        // So slow that compaction never finishes: records must not move during the test.
        return super.options()
                .compression(Compression.NONE)
                .segmentSize(4 << 10)
                .compactionRate(1);
    }

    private void persist(BatchStore store, String id, String type) {
        List<LogEntry> entries = List.of(LogEntry.of(now(), "INFO", "entry of " + id));
        store.append(batch(id, type, entries)).join();
        accepted.put(id, entries);
    }

    /** Two segments, the first with a delivered batch. The third, without other batches, is deleted. */
    private MemoryDisk store(Left left) {
        MemoryDisk disk = new MemoryDisk();
        BatchStore first = StoreKind.SEGMENT.open(options().build(), disk);
        persist(first, "long gone", "loki");
        first.delivered("long gone");
        first.close();
        BatchStore second = StoreKind.SEGMENT.open(options().build(), disk);
        persist(second, "a", "loki");
        persist(second, GONE, "loki");
        persist(second, "b", "elasticsearch");
        fail(second, "a", false);
        second.delivered(GONE);
        second.close();
        BatchStore third = StoreKind.SEGMENT.open(options().build(), disk);
        persist(third, "c", "loki");
        persist(third, "d", "elasticsearch");
        persist(third, "e", "loki");
        accepted.remove(GONE);
        accepted.remove("long gone");
        // The journal has the count of accepted batches from here on.
        third.reclaim();
        MemoryDisk killed = disk.copy();
        third.close();
        return left == Left.KILLED ? killed : disk;
    }

    /** What a store reports and contains. */
    private record Seen(Map<String, List<LogEntry>> batches, List<Corruption> reports, CollectorStats stats) {
        long lost() {
            return reports.stream().mapToLong(Corruption::batches).sum();
        }
    }

    private Seen open(MemoryDisk disk) {
        try (BatchStore store = StoreKind.SEGMENT.open(options().build(), disk)) {
            return look(store);
        }
    }

    private Seen look(BatchStore store) {
        List<Corruption> reports = new ArrayList<>();
        store.onCorruption(reports::add);
        Map<String, List<LogEntry>> batches = new TreeMap<>();
        for (String type : store.collectorTypes()) {
            for (Claim claim : claim(store, type, 100)) {
                batches.put(claim.batch().id(), claim.batch().entries());
            }
        }
        assertThat(store.stats().collectors())
                .allSatisfy((type, stats) ->
                        assertThat(stats.isBalanced()).as("%s: %s", type, stats).isTrue());
        return new Seen(batches, reports, store.stats().total());
    }

    /** Checks what must always hold. Returns the first result. */
    private Seen check(MemoryDisk damaged, Set<String> hit, boolean journalHit, String what) {
        Seen seen = open(damaged);
        Map<String, List<LogEntry>> batches = new TreeMap<>(seen.batches());
        if (journalHit) {
            batches.remove(GONE);
        }
        assertThat(accepted).as(what).containsAllEntriesOf(batches);
        Set<String> missing = new HashSet<>(accepted.keySet());
        missing.removeAll(batches.keySet());
        assertThat(hit).as(what).containsAll(missing);
        assertThat(seen.lost()).as("%s: %s", what, seen).isEqualTo(seen.stats().corrupt());
        Seen again = open(damaged);
        assertThat(again.reports()).as(what).isEmpty();
        assertThat(again.batches()).as(what).isEqualTo(seen.batches());
        assertThat(again.stats().corrupt()).as(what).isEqualTo(seen.stats().corrupt());
        return seen;
    }

    /** Ids by the offset of their record, and the end of the last record. */
    static NavigableMap<Integer, String> records(Path segment, byte[] bytes) {
        int number = Integer.parseInt(segment.getFileName().toString().substring(0, 10));
        NavigableMap<Integer, String> records = new TreeMap<>();
        int at = 16;
        for (View view = new View(bytes, at); view.hasValidHeader(number, at); view = new View(bytes, at)) {
            records.put(at, view.header().id());
            at += view.length();
        }
        records.put(at, "");
        return records;
    }

    private static Set<String> at(NavigableMap<Integer, String> records, int offset) {
        Map.Entry<Integer, String> record = records.floorEntry(offset);
        return record == null || record.getValue().isEmpty() ? Set.of() : Set.of(record.getValue());
    }

    @ParameterizedTest
    @EnumSource
    void the_undamaged_store_is_whole(Left left) {
        Seen seen = check(store(left), Set.of(), false, "undamaged");
        assertThat(seen.batches()).isEqualTo(accepted);
        assertThat(seen.reports()).isEmpty();
        assertThat(seen.stats().accepted()).isEqualTo(7);
    }

    @ParameterizedTest
    @EnumSource
    void a_bit_flipped_in_any_byte_of_a_segment_costs_at_most_the_batch_it_is_in(Left left) {
        MemoryDisk disk = store(left);
        Random random = new Random(1);
        for (Path segment : disk.files(".segment")) {
            byte[] bytes = disk.get(segment);
            NavigableMap<Integer, String> records = records(segment, bytes);
            assertThat(records).hasSize(4);
            for (int at = 0; at < Math.min(bytes.length, MemoryDisk.used(bytes) + 3); at++) {
                byte[] flipped = bytes.clone();
                flipped[at] ^= (byte) (1 << random.nextInt(8));
                MemoryDisk damaged = disk.copy();
                damaged.put(segment, flipped);
                Set<String> hit = at(records, at);
                String what = segment.getFileName() + " at " + at + " in " + hit;
                Seen seen = check(damaged, hit, false, what);
                if (hit.stream().anyMatch(accepted::containsKey)) {
                    assertThat(seen.batches()).as(what).doesNotContainKeys(hit.toArray(String[]::new));
                    assertThat(seen.reports()).as(what).isNotEmpty();
                    assertThat(seen.lost()).as(what).isOne();
                    assertThat(damaged.files(".damaged")).as(what).isNotEmpty();
                } else {
                    assertThat(seen.lost()).as(what).isZero();
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void a_segment_cut_off_anywhere_loses_no_batch_before_the_cut(Left left) {
        MemoryDisk disk = store(left);
        for (Path segment : disk.files(".segment")) {
            byte[] bytes = disk.get(segment);
            NavigableMap<Integer, String> records = records(segment, bytes);
            for (int length = 0; length < Math.min(bytes.length, MemoryDisk.used(bytes) + 3); length++) {
                MemoryDisk damaged = disk.copy();
                damaged.put(segment, Arrays.copyOf(bytes, length));
                int cut = length;
                Set<String> hit = records.keySet().stream()
                        .filter(start -> records.higherKey(start) != null && records.higherKey(start) > cut)
                        .map(records::get)
                        .collect(Collectors.toSet());
                String what = segment.getFileName() + " cut off at " + length;
                Seen seen = check(damaged, hit, false, what);
                hit.retainAll(accepted.keySet());
                assertThat(seen.batches()).as(what).hasSize(accepted.size() - hit.size());
                assertThat(seen.lost()).as(what).isEqualTo(hit.size());
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void damage_to_the_journal_loses_no_batch(Left left) {
        MemoryDisk disk = store(left);
        Random random = new Random(2);
        for (Path journal : journals(disk)) {
            byte[] bytes = disk.get(journal);
            boolean newest = disk.files("").stream().noneMatch(other -> isNewer(other, journal));
            // The older journal is not read.
            for (int at = 0; at < Math.min(bytes.length, MemoryDisk.used(bytes) + 3); at += newest ? 1 : 20) {
                MemoryDisk damaged = disk.copy();
                byte[] flipped = bytes.clone();
                flipped[at] ^= (byte) (1 << random.nextInt(8));
                damaged.put(journal, flipped);
                nothingIsLost(damaged, journal.getFileName() + " flipped at " + at);
                damaged = disk.copy();
                damaged.put(journal, Arrays.copyOf(bytes, at));
                nothingIsLost(damaged, journal.getFileName() + " cut off at " + at);
            }
        }
    }

    private static List<Path> journals(MemoryDisk disk) {
        List<Path> journals = new ArrayList<>(disk.files(".journal"));
        assertThat(journals).hasSizeGreaterThan(1);
        journals.addAll(disk.files(".snapshot"));
        assertThat(journals).hasSizeGreaterThan(2);
        return journals;
    }

    /** Whether the file is of the same kind and a later generation. */
    private static boolean isNewer(Path other, Path journal) {
        String name = journal.getFileName().toString();
        String otherName = other.getFileName().toString();
        return otherName.startsWith("state-")
                && otherName.substring(22).equals(name.substring(22))
                && otherName.compareTo(name) > 0;
    }

    private void nothingIsLost(MemoryDisk damaged, String what) {
        Seen seen = check(damaged, Set.of(), true, what);
        assertThat(seen.batches()).as(what).containsAllEntriesOf(accepted);
        assertThat(seen.lost()).as(what).isZero();
    }

    @ParameterizedTest
    @EnumSource
    void any_file_may_be_gone_empty_or_something_else(Left left) {
        MemoryDisk disk = store(left);
        byte[] garbage = new byte[5_000];
        new Random(3).nextBytes(garbage);
        Map<String, BiConsumer<MemoryDisk, Path>> ways = Map.of(
                "deleted", MemoryDisk::delete,
                "emptied", (d, path) -> d.put(path, new byte[0]),
                "zeros", (d, path) -> d.put(path, new byte[5_000]),
                "garbage", (d, path) -> d.put(path, garbage),
                "text",
                        (d, path) ->
                                d.put(path, "BPR\1 BPSTATE\1 hello".repeat(99).getBytes(StandardCharsets.UTF_8)));
        for (Path file : disk.files()) {
            ways.forEach((way, damage) -> {
                MemoryDisk damaged = disk.copy();
                damage.accept(damaged, file);
                String what = file.getFileName() + " " + way;
                if (file.toString().endsWith(".segment")) {
                    Set<String> hit =
                            new HashSet<>(records(file, disk.get(file)).values());
                    hit.retainAll(accepted.keySet());
                    Seen seen = check(damaged, hit, false, what);
                    assertThat(seen.batches()).as(what).hasSize(accepted.size() - hit.size());
                    assertThat(seen.lost()).as(what).isEqualTo(hit.size());
                } else {
                    nothingIsLost(damaged, what);
                }
            });
        }
    }

    @Test
    void all_journals_may_be_gone() {
        MemoryDisk disk = store(Left.CLOSED);
        journals(disk).forEach(disk::delete);
        nothingIsLost(disk, "no journal");
    }

    @Test
    void foreign_files_and_directories_are_left_alone() throws IOException {
        Map<String, List<LogEntry>> batches = new TreeMap<>();
        try (BatchStore store = StoreKind.SEGMENT.open(options().build(), new NioDisk())) {
            persist(store, "a", "loki");
            batches.putAll(accepted);
        }
        Files.writeString(directory.resolve("notes.txt"), "mine");
        Files.writeString(directory.resolve("1.segment"), "mine");
        Files.writeString(directory.resolve("99999999999.segment"), "mine");
        Files.writeString(directory.resolve("state-1.journal"), "mine");
        Files.createDirectory(directory.resolve("0000000099.segment"));
        Files.createDirectory(directory.resolve("state-0000000000000099.journal"));
        Files.createDirectories(directory.resolve("sub/0000000001.segment"));
        for (int opening = 0; opening < 2; opening++) {
            try (BatchStore store = StoreKind.SEGMENT.open(options().build(), new NioDisk())) {
                Seen seen = look(store);
                assertThat(seen.batches()).isEqualTo(batches);
                assertThat(seen.lost()).isZero();
                persist(store, "more " + opening, "loki");
                store.delivered("more " + opening);
            }
        }
        for (String name : List.of("notes.txt", "1.segment", "99999999999.segment", "state-1.journal")) {
            assertThat(directory.resolve(name)).hasContent("mine");
        }
        assertThat(directory.resolve("0000000099.segment")).isDirectory();
        assertThat(directory.resolve("sub/0000000001.segment")).isDirectory();
    }

    @ParameterizedTest
    @ValueSource(strings = {"flipped", "cut off", "deleted"})
    void damage_while_open_costs_only_what_it_hit(String way) {
        MemoryDisk disk = store(Left.CLOSED);
        Path segment = disk.files(".segment").get(0);
        byte[] bytes = disk.get(segment);
        int lastRecord =
                records(segment, bytes).lowerKey(records(segment, bytes).lastKey());
        BatchStore store = StoreKind.SEGMENT.open(options().build(), disk);
        switch (way) {
            case "flipped" -> {
                bytes[lastRecord + 70] ^= 4;
                disk.put(segment, bytes);
            }
            case "cut off" -> disk.put(segment, Arrays.copyOf(bytes, lastRecord + 70));
            default -> disk.delete(segment);
        }
        Seen seen = look(store);
        Set<String> expected = new HashSet<>(Set.of("a", "c", "d", "e"));
        if (way.equals("deleted")) {
            expected.remove("a");
        }
        assertThat(seen.batches()).containsOnlyKeys(expected);
        assertThat(seen.lost())
                .isEqualTo(5 - expected.size())
                .isEqualTo(seen.stats().corrupt());
        assertThat(seen.reports()).allSatisfy(report -> {
            assertThat(report.file()).isEqualTo(segment);
            assertThat(report.collectorType()).isNotNull();
        });
        if (!way.equals("deleted")) {
            assertThat(seen.reports().get(0).quarantinedTo()).isNotNull();
            assertThat(disk.files()).contains(seen.reports().get(0).quarantinedTo());
        }
        assertThat(store.find("b")).isEmpty();
        // The id is free.
        persist(store, "b", "elasticsearch");
        assertThat(store.delivered("b")).isNotNull();
        store.close();
        Seen again = open(disk);
        assertThat(again.lost()).isZero();
        assertThat(again.batches()).containsOnlyKeys(expected);
    }

    @Test
    void a_listener_is_told_of_what_was_found_before_it_came_and_only_once() {
        MemoryDisk disk = store(Left.CLOSED);
        disk.delete(disk.files(".segment").get(0));
        try (BatchStore store = StoreKind.SEGMENT.open(options().build(), disk)) {
            List<Corruption> first = new ArrayList<>();
            store.onCorruption(first::add);
            assertThat(first).extracting(Corruption::collectorType).containsExactlyInAnyOrder("loki", "elasticsearch");
            List<Corruption> second = new ArrayList<>();
            store.onCorruption(second::add);
            assertThat(second).isEmpty();
        }
    }
}
