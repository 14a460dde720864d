package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Segment numbers are never reused, so journal frames never apply to a later segment. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SegmentNumbersTest extends DiskStoreFixture {

    private static final String FULL = "No space left on device";
    private static final int BATCHES = 40;

    private final Set<String> numbers = new TreeSet<>();
    private int segmentSize = 1 << 20;

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(segmentSize);
    }

    private BatchStore open(Disk disk) {
        return open(StoreKind.SEGMENT, disk);
    }

    private List<String> persistMany(BatchStore store) {
        List<String> ids =
                IntStream.range(0, BATCHES).mapToObj(i -> "batch " + i).toList();
        append(store, ids.toArray(String[]::new));
        return ids;
    }

    private static List<String> segments(MemoryDisk disk) {
        return disk.files().stream()
                .map(path -> path.getFileName().toString())
                .filter(name -> name.endsWith(".segment"))
                .toList();
    }

    /** A write fails, and the journal records it. Then everything is delivered, and no segment is left. */
    private MemoryDisk leftEmptyAfterAFailedWrite() {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        try (BatchStore store = open(disk)) {
            append(store, "accepted");
            disk.fail(Operation.WRITE, ".segment", FULL).partly(100).times(1);
            assertThat(store.append(batch("refused"))).failsWithin(Duration.ofSeconds(30));
            numbers.addAll(segments(files));
            assertThat(store.delivered("accepted")).isNotNull();
        }
        assertThat(segments(files)).isEmpty();
        return files;
    }

    private void assertHolds(MemoryDisk killed, List<String> ids) {
        List<String> found = segments(killed);
        try (BatchStore store = open(killed)) {
            assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(ids);
            assertThat(store.stats().total().corrupt()).isZero();
        }
        assertThat(reports).isEmpty();
        assertThat(found).isNotEmpty().doesNotContainAnyElementsOf(numbers);
    }

    @Test
    void a_store_that_goes_on_with_its_last_journal_begins_no_segment_of_a_number_that_was_there() {
        MemoryDisk files = leftEmptyAfterAFailedWrite();
        FaultyDisk disk = new FaultyDisk(files);
        disk.fail(Operation.CREATE, "state-", FULL);
        List<String> ids;
        MemoryDisk killed;
        try (BatchStore store = open(disk)) {
            assertThat(store.stats().problem()).isNull();
            ids = persistMany(store);
            killed = files.copy();
        }
        assertHolds(killed, ids);
    }

    @Test
    void nor_does_one_that_begins_a_journal_in_which_the_segments_before_are_not_mentioned() {
        MemoryDisk files = leftEmptyAfterAFailedWrite();
        List<String> ids;
        MemoryDisk killed;
        try (BatchStore store = open(files)) {
            ids = persistMany(store);
            killed = files.copy();
        }
        assertHolds(killed.copy(), ids);

        // The snapshot is damaged. The previous one is used, with the frames of its log about the deleted segment.
        killed.flip(killed.last(".snapshot"), 30, 1);
        assertHolds(killed, ids);
    }

    @Test
    void a_segment_that_was_deleted_keeps_its_number_also_if_the_process_is_killed() {
        segmentSize = 4 << 10;
        MemoryDisk files = new MemoryDisk();
        MemoryDisk killed;
        try (BatchStore store = open(files)) {
            List<String> ids = persistMany(store);
            numbers.addAll(segments(files));
            ids.forEach(id -> assertThat(store.delivered(id)).isNotNull());
            store.reclaim();
            killed = files.copy();
        }
        assertThat(numbers).hasSizeGreaterThan(2);
        assertThat(segments(killed)).isEmpty();
        for (MemoryDisk found : List.of(killed, killed.afterPowerCut())) {
            List<String> ids;
            MemoryDisk again;
            try (BatchStore store = open(found)) {
                ids = persistMany(store);
                again = found.copy();
            }
            assertHolds(again, ids);
        }
    }

    /** A number that the next opening would not read is never assigned. */
    @Test
    void where_no_number_is_left_batches_are_refused() {
        MemoryDisk files = new MemoryDisk();
        files.put(directory.resolve("1000000000.segment"), new byte[0]);
        try (BatchStore store = open(files)) {
            assertThat(store.append(batch("a")))
                    .failsWithin(Duration.ofSeconds(30))
                    .withThrowableThat()
                    .withMessageContaining("no segment numbers left");
        }
        assertThat(segments(files)).allSatisfy(name -> assertThat(name).isEqualTo("1000000000.segment"));
    }
}
