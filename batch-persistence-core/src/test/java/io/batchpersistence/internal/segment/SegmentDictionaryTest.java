package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Dictionaries are trained from what is persisted. They are in the segments whose records need them. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SegmentDictionaryTest extends DiskStoreFixture {

    private final MemoryDisk disk = new MemoryDisk();
    private int segmentSize = 64 << 10;
    private Compression compression = Compression.ZSTD;

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(segmentSize).compression(compression).compactionRate(1L << 40);
    }

    private BatchStore open() {
        return open(StoreKind.SEGMENT, disk);
    }

    private void plant() {
        disk.put(directory.resolve(PlantedDictionary.FILE), PlantedDictionary.segment());
    }

    /** Like those of the planted dictionary. */
    private static List<LogEntry> entries(String id) {
        return Batches.entries(1 + Math.floorMod(id.hashCode(), 4));
    }

    private Set<String> append(BatchStore store, String prefix, int count) {
        Set<String> ids = new HashSet<>();
        List<CompletableFuture<?>> appends = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ids.add(prefix + i);
            String id = prefix + i;
            appends.add(store.append(new NewBatch(id, "loki", entries(id), Map.of(), now(), now().plusSeconds(60))));
        }
        appends.forEach(CompletableFuture::join);
        return ids;
    }

    private void assertHolds(BatchStore store, Set<String> ids) {
        assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(ids);
        for (String id : ids) {
            assertThat(store.find(id).orElseThrow().entries()).as(id).isEqualTo(entries(id));
        }
        assertThat(reports).isEmpty();
    }

    private SegmentHead head(Path file) {
        try {
            return SegmentHead.read(
                    disk, file, Integer.parseInt(file.getFileName().toString().substring(0, 10)));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private long withDictionary() {
        return disk.files(".segment").stream()
                .filter(file -> head(file).dictionary() != null)
                .count();
    }

    @Test
    void one_is_trained_as_soon_as_there_are_samples_and_used_after_a_restart() {
        Set<String> ids = new HashSet<>();
        try (BatchStore store = open()) {
            ids.addAll(append(store, "before ", 20));
            assertThat(withDictionary()).isZero();
            int[] round = new int[1];
            Awaitility.await().until(() -> {
                ids.addAll(append(store, "round " + round[0]++ + ", ", 60));
                return withDictionary() > 0;
            });
            assertHolds(store, ids);
        }
        int before = disk.files(".segment").size();
        long had = withDictionary();
        try (BatchStore store = open()) {
            assertHolds(store, ids);
            ids.addAll(append(store, "after ", 1));
            assertThat(disk.files(".segment")).hasSize(before + 1);
            assertThat(withDictionary()).isEqualTo(had + 1);
            assertHolds(store, ids);
        }
    }

    @Test
    void small_batches_take_less_room_with_one() {
        segmentSize = 4 << 10;
        long without;
        try (BatchStore store = open()) {
            append(store, "batch ", 100);
            without = store.stats().total().bytes();
        }
        disk.files().forEach(disk::delete);
        plant();
        try (BatchStore store = open()) {
            append(store, "batch ", 100);
            assertThat(store.stats().total().bytes()).isLessThan(without);
        }
    }

    @Test
    void compaction_copies_records_with_and_without() {
        segmentSize = 4 << 10;
        Set<String> stuck = new HashSet<>();
        compression = Compression.NONE;
        try (BatchStore store = open()) {
            deliverMost(store, append(store, "plain ", 150), stuck);
        }
        disk.put(
                directory.resolve("0000099999.segment"),
                SegmentHead.toBytes(99_999, PlantedDictionary.dictionary(), 512));
        compression = Compression.ZSTD;
        try (BatchStore store = open()) {
            deliverMost(store, append(store, "compressed ", 300), stuck);
            int before = disk.files(".segment").size();
            store.reclaim();
            Awaitility.await().until(() -> disk.files(".segment").size() <= before / 2);
            assertThat(withDictionary()).isPositive();
            assertHolds(store, stuck);
        }
        try (BatchStore store = open()) {
            assertHolds(store, stuck);
        }
    }

    private static void deliverMost(BatchStore store, Set<String> ids, Set<String> stuck) {
        for (String id : ids) {
            if (id.endsWith("7")) {
                stuck.add(id);
            } else {
                assertThat(store.delivered(id)).isNotNull();
            }
        }
    }

    @Test
    void with_the_first_copy_damaged_the_second_one_is_used() {
        plant();
        Set<String> ids;
        try (BatchStore store = open()) {
            ids = append(store, "batch ", 50);
        }
        for (Path file : disk.files(".segment")) {
            byte[] bytes = disk.get(file);
            bytes[100] ^= 1;
            disk.put(file, bytes);
        }
        try (BatchStore store = open()) {
            assertHolds(store, ids);
        }
    }

    @Test
    void with_both_copies_damaged_the_batches_that_need_it_are_corrupt_and_counted() {
        plant();
        try (BatchStore store = open()) {
            append(store, "lost ", 10);
        }
        Path file = disk.files(".segment").get(0);
        byte[] bytes = disk.get(file);
        int end = head(file).end();
        bytes[100] ^= 1;
        bytes[end - 100] ^= 1;
        disk.put(file, bytes);
        try (BatchStore store = open()) {
            Set<String> kept = append(store, "kept ", 10);
            for (int i = 0; i < 10; i++) {
                assertThat(store.find("lost " + i)).isEmpty();
            }
            assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(kept);
            assertThat(store.stats().total().corrupt()).isEqualTo(10);
            assertThat(store.stats().total().isBalanced()).isTrue();
            assertThat(reports)
                    .hasSize(10)
                    .allSatisfy(report -> assertThat(report.reason()).contains("dictionary"));
        }
    }

    @Test
    void a_store_that_holds_nothing_has_no_segment_left() {
        plant();
        try (BatchStore store = open()) {
            append(store, "batch ", 5).forEach(store::delivered);
            store.reclaim();
            Awaitility.await().until(() -> disk.files(".segment").isEmpty());
        }
    }
}
