package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.ForwardingDisk;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Segments are kept open for reading: few, no deleted ones, and none for ever. */
class SegmentReaderTest extends DiskStoreFixture {

    private static final int SIZE = 1 << 20;

    private final MemoryDisk files = new MemoryDisk();
    private final CountingDisk disk = new CountingDisk();
    private final SegmentReader reader = new SegmentReader(disk);
    private final byte[] content = new byte[SIZE];

    /** Counts what is opened, read and closed. */
    private final class CountingDisk extends ForwardingDisk {

        int opened;
        int closed;
        int reads;
        Runnable whileReading = () -> {};

        CountingDisk() {
            super(files);
        }

        int open() {
            return opened - closed;
        }

        @Override
        protected DiskReader wrap(Path path, DiskReader file) {
            opened++;
            return new ForwardingReader(file) {
                @Override
                public int read(long offset, byte[] into, int at, int length) throws IOException {
                    reads++;
                    whileReading.run();
                    return super.read(offset, into, at, length);
                }

                @Override
                public void close() throws IOException {
                    closed++;
                    super.close();
                }
            };
        }
    }

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10);
    }

    private static Path path(int number) {
        return Path.of("/store/" + number);
    }

    private void put(int... numbers) {
        new Random(1).nextBytes(content);
        for (int number : numbers) {
            files.put(path(number), content);
        }
    }

    private void reads(int number, int offset, int length) throws IOException {
        assertThat(reader.readAhead(number, path(number), offset, length))
                .isEqualTo(Arrays.copyOfRange(content, offset, Math.min(SIZE, offset + length)));
    }

    @Test
    void a_file_is_opened_once_and_little_of_it_read_where_it_is_needed() throws IOException {
        put(1);
        for (int offset : new int[] {500_000, 100, 900_000, 100_000}) {
            reads(1, offset, 5_000);
        }
        assertThat(disk.opened).isOne();
        assertThat(disk.reads).isEqualTo(4);
    }

    @Test
    void from_the_second_record_in_a_row_on_a_dozen_is_read_at_once() throws IOException {
        put(1);
        int end = 0;
        for (int i = 0; i < 100; i++) {
            // Every third one is another collector's.
            end += i % 3 == 0 ? 5_000 : 0;
            reads(1, end, 5_000);
            end += 5_000;
        }
        assertThat(disk.reads).isBetween(5, 20);
        int before = disk.reads;
        reads(1, end, 60_000);
        assertThat(disk.reads).as("a large record is read as it is").isEqualTo(before + 1);
    }

    @Test
    void the_end_of_a_file_ends_a_read() throws IOException {
        put(1);
        reads(1, SIZE - 12_000, 5_000);
        reads(1, SIZE - 7_000, 5_000);
        reads(1, SIZE - 2_000, 5_000);
        assertThat(reader.read(1, path(1), SIZE - 10, 20)).hasSize(10);
        assertThat(reader.read(1, path(1), SIZE + 10, 20)).isEmpty();
    }

    @Test
    void what_was_read_ahead_too_early_can_be_read_again() throws IOException {
        put(1);
        reads(1, 0, 100);
        reads(1, 100, 100);
        byte[] early = reader.readAhead(1, path(1), 200, 100);
        try (var file = files.open(path(1))) {
            file.write(200, new byte[100], 0, 100);
        }
        assertThat(reader.readAhead(1, path(1), 200, 100)).isEqualTo(early);
        assertThat(reader.read(1, path(1), 200, 100)).isEqualTo(new byte[100]);
    }

    @Test
    void few_files_are_kept_open() throws IOException {
        for (int number = 1; number <= 20; number++) {
            put(number);
            reads(number, 0, 10);
        }
        assertThat(disk.open()).isEqualTo(8);
        int opened = disk.opened;
        // The last ones, in the order of their use.
        reads(13, 0, 10);
        reads(21 - 1, 0, 10);
        assertThat(disk.opened).isEqualTo(opened);
        reads(1, 0, 10);
        reads(13, 0, 10);
        assertThat(disk.opened).isEqualTo(opened + 1);
        reader.close();
        assertThat(disk.open()).isZero();
    }

    @Test
    void a_file_that_is_being_read_when_files_are_deleted_is_closed_after_that() throws IOException {
        put(1, 2);
        reads(2, 0, 10);
        disk.whileReading = () -> {
            disk.whileReading = () -> {};
            files.delete(path(1));
            reader.closeFiles();
            assertThat(disk.open()).as("the other one is closed at once").isOne();
        };
        reads(1, 0, 10);
        assertThat(disk.open()).isZero();
        assertThat(files.used()).isEqualTo(SIZE);
        assertThatThrownBy(() -> reads(1, 0, 10)).isInstanceOf(NoSuchFileException.class);
        reads(2, 0, 10);
        assertThat(disk.open()).isOne();
    }

    @Test
    void two_readers_of_a_segment_do_not_wait_for_each_other() throws IOException {
        put(1);
        disk.whileReading = () -> {
            disk.whileReading = () -> {};
            try {
                reads(1, 500, 10);
            } catch (IOException e) {
                throw new AssertionError(e);
            }
        };
        reads(1, 0, 10);
        assertThat(disk.opened).isEqualTo(2);
        assertThat(disk.open()).isEqualTo(2);
    }

    @Test
    void whatever_a_read_throws_the_file_is_closed_and_opened_again() throws IOException {
        put(1);
        List<Throwable> failures = new ArrayList<>(
                List.of(new OutOfMemoryError("Java heap space"), new IllegalStateException("unexpected")));
        for (Throwable failure : failures) {
            disk.whileReading = () -> sneak(failure);
            assertThatThrownBy(() -> reads(1, 0, 10)).isSameAs(failure);
            assertThat(disk.open()).isZero();
        }
        disk.whileReading = () -> {};
        reads(1, 0, 10);
        reads(1, 10, 10);
        // In the middle of reading ahead.
        disk.whileReading = () -> sneak(failures.get(0));
        assertThatThrownBy(() -> reads(1, 200_000, 10)).isSameAs(failures.get(0));
        disk.whileReading = () -> {};
        reads(1, 200_000, 10);
        assertThat(disk.open()).isOne();
    }

    private static void sneak(Throwable failure) {
        if (failure instanceof Error error) {
            throw error;
        }
        throw (RuntimeException) failure;
    }

    @Test
    void when_it_is_closed_a_late_reader_leaves_nothing_open() throws IOException {
        put(1);
        disk.whileReading = reader::close;
        reads(1, 0, 10);
        assertThat(disk.open()).isZero();
        disk.whileReading = () -> {};
        reads(1, 0, 10);
        assertThat(disk.open()).isZero();
    }

    // ---- as the store uses it --------------------------------------------------------------------

    @Test
    void no_deleted_segment_takes_space_and_none_is_open_after_closing() {
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            for (int i = 0; i < 60; i++) {
                store.append(batch("batch-" + i, "loki", Batches.entries(2))).join();
                fail(store, "batch-" + i, false);
            }
            assertThat(claim(store, "loki", 60)).hasSize(60);
            assertThat(disk.open()).isPositive();
            for (int i = 0; i < 60; i++) {
                assertThat(store.delivered("batch-" + i)).isNotNull();
            }
            store.reclaim();
            assertThat(files.files(".segment")).isEmpty();
            assertThat(files.used())
                    .isEqualTo(files.files().stream()
                            .mapToLong(file -> files.get(file).length)
                            .sum());
            store.append(batch("last", "loki", Batches.entries(2))).join();
            assertThat(store.find("last")).isPresent();
            assertThat(disk.open()).isPositive();
        }
        assertThat(disk.open()).isZero();
        assertThat(reports).isEmpty();
    }

    @Test
    void a_segment_is_read_while_it_is_written() {
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            for (int i = 0; i < 300; i++) {
                store.append(batch("batch-" + i, "loki", Batches.entries(1))).join();
                fail(store, "batch-" + i, false);
                assertThat(claim(store, "loki", 1)).hasSize(1);
            }
            assertThat(reports).isEmpty();
        }
    }
}
