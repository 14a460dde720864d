package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Damages directories of each version of the storage formats: truncated at every offset, a flipped bit in every byte,
 * and each file deleted, emptied, duplicated, renamed, or replaced. In every case the store opens, undamaged batches
 * are unchanged, and lost batches are counted, kept aside, and reported once.
 */
@ExtendWith(MutedLog.class)
class DamageTest {

    enum Fixture {
        SEGMENT_1(StoreKind.SEGMENT, "segment-1", 0.3),
        JSON_FILES_1(StoreKind.JSON_FILES, "json_files-1", 0.2);

        final StoreKind kind;
        final String directory;
        final double share;

        Fixture(StoreKind kind, String directory, double share) {
            this.kind = kind;
            this.directory = directory;
            this.share = share;
        }

        /** The fixture of the other store. */
        Fixture other() {
            return this == SEGMENT_1 ? JSON_FILES_1 : SEGMENT_1;
        }
    }

    private static final int VARIANTS = 120;

    @TempDir
    Path directory;

    private MemoryDisk load(Fixture fixture) throws IOException, URISyntaxException {
        MemoryDisk disk = new MemoryDisk();
        Path from = Path.of(Objects.requireNonNull(getClass().getResource("/fixtures/" + fixture.directory))
                .toURI());
        try (Stream<Path> files = Files.list(from)) {
            for (Path file : files.sorted().toList()) {
                disk.put(directory.resolve(file.getFileName().toString()), Files.readAllBytes(file));
            }
        }
        return disk;
    }

    /** What a store reports and contains. */
    private record Seen(
            Map<String, PersistedBatch> batches, List<Corruption> reports, Map<String, CollectorStats> stats) {
        long lost() {
            return reports.stream().mapToLong(Corruption::batches).sum();
        }

        long corrupt() {
            return stats.values().stream().mapToLong(CollectorStats::corrupt).sum();
        }
    }

    private Seen open(Fixture fixture, MemoryDisk disk) {
        List<Corruption> reports = new ArrayList<>();
        try (BatchStore store = fixture.kind.open(
                DiskStoreOptions.builder(directory)
                        // Compaction must not move records during the test.
                        .compactionRate(1)
                        .clock(Clock.fixed(FixtureWriter.THEN.plusSeconds(3_600), ZoneOffset.UTC))
                        .build(),
                disk)) {
            store.onCorruption(reports::add);
            Map<String, PersistedBatch> batches = new HashMap<>();
            for (BatchSummary summary : store.list(BatchSelector.all(), FixtureWriter.THEN)) {
                store.find(summary.id()).ifPresent(batch -> batches.put(batch.id(), batch));
            }
            return new Seen(batches, reports, store.stats().collectors());
        }
    }

    /** A damaged directory, and the batches that the damage may cost. */
    private record Damage(String what, Path file, MemoryDisk damaged, Set<String> hit, boolean exact) {}

    private interface Variant {
        Damage apply();
    }

    @ParameterizedTest
    @EnumSource
    void costs_only_what_it_hit_and_is_told_once(Fixture fixture) throws Exception {
        MemoryDisk disk = load(fixture);
        Seen whole = open(fixture, disk.copy());
        assertThat(whole.reports()).isEmpty();
        assertThat(whole.batches()).hasSize(37);
        Campaign.run(
                "DamageTest#costs_only_what_it_hit_and_is_told_once[" + fixture + "]",
                fixture.share,
                1,
                campaign -> seed -> {
                    Random random = new Random(seed);
                    List<Variant> variants = variants(fixture, disk, whole, random);
                    Collections.shuffle(variants, random);
                    long end = Campaign.end(fixture.share);
                    int done = 0;
                    for (Variant variant : variants) {
                        if (Campaign.isLong() ? System.nanoTime() > end : done >= VARIANTS) {
                            break;
                        }
                        done++;
                        campaign.count("damaged variants", 1);
                        check(fixture, whole, variant.apply());
                    }
                    campaign.count("of possible variants", variants.size());
                });
    }

    private List<Variant> variants(Fixture fixture, MemoryDisk disk, Seen whole, Random random)
            throws IOException, URISyntaxException {
        List<Variant> variants = new ArrayList<>();
        MemoryDisk other = load(fixture.other());
        List<Path> files = disk.files();
        for (Path file : files) {
            byte[] bytes = disk.get(file);
            NavigableMap<Integer, String> records = records(file, bytes, whole);
            Set<String> all = new HashSet<>(records.values());
            all.remove("");
            int used = MemoryDisk.used(bytes);
            for (int at = 0; at <= used; at++) {
                int offset = at;
                variants.add(() -> with(
                        disk,
                        file,
                        Arrays.copyOf(bytes, offset),
                        "cut off at " + offset,
                        endingAfter(records, offset),
                        true));
                int bit = random.nextInt(8);
                if (at < bytes.length) {
                    variants.add(() -> with(
                            disk,
                            file,
                            flipped(bytes, offset, bit),
                            "bit " + bit + " flipped at " + offset,
                            at(records, offset),
                            !isJson(file)));
                }
            }
            variants.add(() -> without(disk, file, all));
            variants.add(() -> with(disk, file, new byte[0], "emptied", all, true));
            variants.add(() -> with(disk, file, new byte[bytes.length], "zeroed", all, isJson(file)));
            byte[] garbage = new byte[5_000];
            random.nextBytes(garbage);
            variants.add(() -> with(disk, file, garbage, "garbage", all, isJson(file)));
            Path neighbour = files.get(random.nextInt(files.size()));
            variants.add(() -> with(
                    disk,
                    file,
                    disk.get(neighbour),
                    "like " + neighbour.getFileName(),
                    neighbour.equals(file) ? Set.of() : all,
                    false));
            byte[] strange =
                    other.get(other.files().get(random.nextInt(other.files().size())));
            // A journal of another store is valid too, so the store cannot detect it.
            if (!isJournal(file)) {
                variants.add(() -> with(disk, file, strange, "of another store", all, false));
            }
            variants.add(() -> {
                MemoryDisk damaged = disk.copy();
                Path twice = file.resolveSibling(file.getFileName().toString().replaceFirst("\\d", "9"));
                damaged.put(twice, bytes);
                return new Damage(
                        file.getFileName() + " also as " + twice.getFileName(), twice, damaged, Set.of(), false);
            });
            variants.add(() -> {
                MemoryDisk damaged = disk.copy();
                damaged.delete(file);
                Path renamed = file.resolveSibling(file.getFileName().toString().replaceFirst("\\d", "9"));
                damaged.put(renamed, bytes);
                return new Damage(
                        file.getFileName() + " as " + renamed.getFileName(),
                        renamed,
                        damaged,
                        isJson(file) ? Set.of() : all,
                        false);
            });
            variants.add(() -> {
                MemoryDisk damaged = disk.copy();
                damaged.put(file.resolveSibling(file.getFileName() + ".bak"), bytes);
                damaged.put(directory.resolve("notes.txt"), bytes);
                damaged.put(directory.resolve("sub").resolve(file.getFileName()), bytes);
                return new Damage(file.getFileName() + " and strangers", file, damaged, Set.of(), true);
            });
        }
        return variants;
    }

    private static Damage with(MemoryDisk disk, Path file, byte[] bytes, String how, Set<String> hit, boolean exact) {
        MemoryDisk damaged = disk.copy();
        damaged.put(file, bytes);
        return new Damage(file.getFileName() + " " + how, file, damaged, hit, exact);
    }

    private static Damage without(MemoryDisk disk, Path file, Set<String> hit) {
        MemoryDisk damaged = disk.copy();
        damaged.delete(file);
        return new Damage(file.getFileName() + " deleted", file, damaged, hit, true);
    }

    private static boolean isJson(Path file) {
        return file.toString().endsWith(".json");
    }

    private static boolean isJournal(Path file) {
        return file.getFileName().toString().startsWith("state-");
    }

    private static byte[] flipped(byte[] bytes, int at, int bit) {
        byte[] flipped = bytes.clone();
        flipped[at] ^= (byte) (1 << bit);
        return flipped;
    }

    /** The ids of stored batches by the offset of their record, and the end of the last record. */
    private static NavigableMap<Integer, String> records(Path file, byte[] bytes, Seen whole) {
        NavigableMap<Integer, String> records = new TreeMap<>();
        if (isJson(file)) {
            String text = new String(bytes, StandardCharsets.UTF_8);
            String id = text.replaceFirst("(?s).*?\"id\" : \"([^\"]*)\".*", "$1");
            records.put(0, whole.batches().containsKey(id) ? id : "");
            records.put(bytes.length, "");
        } else if (file.toString().endsWith(".segment")) {
            ByteBuffer in = ByteBuffer.wrap(bytes);
            // The magic number of a dictionary: BPD, version 1. Its length follows, and the offset of the second copy.
            int at = in.getInt(16) == 0x42504401 ? in.getInt(24) + 16 + in.getInt(20) : 16;
            // That of a record: BA, version 1.
            while (at + 14 <= bytes.length && in.getShort(at) == (short) 0xBA01) {
                in.position(at + 14);
                varint(in);
                varint(in);
                int header = varint(in);
                int payload = varint(in);
                varint(in);
                int headerAt = in.position() + 4;
                String id = BatchHeader.decode(Arrays.copyOfRange(bytes, headerAt, headerAt + header))
                        .id();
                records.put(at, whole.batches().containsKey(id) ? id : "");
                at = headerAt + header + payload;
            }
            records.put(at, "");
        }
        return records;
    }

    private static int varint(ByteBuffer in) {
        int value = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = in.get();
            value |= (next & 0x7F) << shift;
            if (next >= 0) {
                return value;
            }
        }
    }

    private static Set<String> at(NavigableMap<Integer, String> records, int offset) {
        Map.Entry<Integer, String> record = records.floorEntry(offset);
        return record == null || record.getValue().isEmpty() ? Set.of() : Set.of(record.getValue());
    }

    private static Set<String> endingAfter(NavigableMap<Integer, String> records, int offset) {
        return records.entrySet().stream()
                .filter(record -> records.higherKey(record.getKey()) != null
                        && records.higherKey(record.getKey()) > offset
                        && !record.getValue().isEmpty())
                .map(Map.Entry::getValue)
                .collect(Collectors.toSet());
    }

    private void check(Fixture fixture, Seen whole, Damage damage) {
        String what = fixture + ", " + damage.what();
        MemoryDisk disk = damage.damaged();
        byte[] bytes = disk.files().contains(damage.file()) ? disk.get(damage.file()) : new byte[0];
        Seen seen = open(fixture, disk);

        Set<String> safe = new TreeSet<>(whole.batches().keySet());
        safe.removeAll(damage.hit());
        assertThat(seen.batches()).as(what).containsKeys(safe.toArray(new String[0]));
        // Documents have no checksum, so a changed document that is still valid JSON is accepted.
        boolean changedInPlace = isJson(damage.file());
        seen.batches().forEach((id, batch) -> {
            if (safe.contains(id) || !changedInPlace) {
                assertThat(batch.entries()).as(what + ": " + id).isEqualTo(GeneratedBatch.entries(id));
                assertThat(batch.context()).as(what + ": " + id).isEqualTo(GeneratedBatch.context(id));
                assertThat(batch.collectorType()).as(what + ": " + id).isEqualTo(GeneratedBatch.collectorType(id));
            }
            if (safe.contains(id) && !isJournal(damage.file())) {
                assertThat(batch).as(what + ": " + id).isEqualTo(whole.batches().get(id));
            }
        });
        if (!isJournal(damage.file()) && !changedInPlace) {
            assertThat(whole.batches().keySet())
                    .as(what)
                    .containsAll(seen.batches().keySet());
        }
        seen.stats()
                .forEach((type, stats) ->
                        assertThat(stats.isBalanced()).as("%s: %s", what, stats).isTrue());
        assertThat(seen.lost()).as("%s: %s", what, seen.reports()).isEqualTo(seen.corrupt());
        long missing = damage.hit().stream()
                .filter(id -> !seen.batches().containsKey(id))
                .count();
        // A batch that was accepted after the last checkpoint of the journal and then overwritten is not known to have
        // existed. A document that has become another valid document is not lost.
        assertThat(seen.lost()).as("%s: %s", what, seen.reports()).isLessThanOrEqualTo(changedInPlace ? 1 : missing);
        if (missing > 0 && !changedInPlace) {
            assertThat(seen.reports()).as(what).isNotEmpty();
        }
        if (damage.exact()) {
            assertThat(seen.lost()).as("%s: %s", what, seen.reports()).isEqualTo(missing);
        }
        for (Corruption report : seen.reports()) {
            if (report.length() > 0) {
                assertThat(report.reason()).as(what).isNotBlank();
                Path kept = report.quarantinedTo();
                assertThat(kept).as("%s: %s", what, report).isNotNull();
                assertThat(report.file()).as(what).isEqualTo(damage.file());
                assertThat(disk.get(kept))
                        .as("%s: %s", what, report)
                        .isEqualTo(Arrays.copyOfRange(
                                bytes, (int) report.offset(), (int) (report.offset() + report.length())));
            }
        }

        Seen again = open(fixture, disk);
        // A file with a foreign name is left in place, so it is found again.
        assertThat(again.reports())
                .as(what + ", once more")
                .isEqualTo(seen.reports().stream()
                        .filter(report -> report.reason().contains("left as it is"))
                        .toList());
        assertThat(again.batches()).as(what + ", once more").isEqualTo(seen.batches());
        assertThat(again.corrupt()).as(what + ", once more").isEqualTo(seen.corrupt());
    }
}
