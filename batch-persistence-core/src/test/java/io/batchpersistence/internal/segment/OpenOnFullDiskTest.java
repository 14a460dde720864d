package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.internal.disk.ForwardingDisk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** If there is no space for a new journal on opening, the store continues in the reserve of the last one. */
class OpenOnFullDiskTest extends DiskStoreFixture {

    private final FullDisk disk = new FullDisk();

    /** Persists a to d, of two collector types, and fills the disk. */
    @BeforeEach
    void fill() {
        try (BatchStore store = open()) {
            for (String id : List.of("a", "b", "c", "d")) {
                String collector = id.equals("a") ? "loki" : "elasticsearch";
                store.append(batch(id, collector, Batches.entries(3))).join();
            }
        }
        disk.full = true;
    }

    @Test
    void its_marks_are_there_at_the_next_opening() {
        try (BatchStore store = open()) {
            assertThat(store.stats().problem()).isNull();
            assertThat(store.delivered("b")).isNotNull();
        }
        try (BatchStore store = open()) {
            assertThat(ids(store)).containsExactlyInAnyOrder("a", "c", "d");
            assertThat(store.delivered("a")).isNotNull();
        }
        disk.full = false;
        try (BatchStore store = open()) {
            assertThat(ids(store)).containsExactlyInAnyOrder("c", "d");
            assertThat(store.stats().collector("loki").delivered()).isEqualTo(1);
            assertThat(store.stats().collector("elasticsearch").delivered()).isEqualTo(1);
            assertThat(store.stats().total().isBalanced()).isTrue();
            assertThat(store.stats().total().corrupt()).isZero();
        }
    }

    @Test
    void a_new_journal_is_begun_when_there_is_room_again() {
        try (BatchStore store = open()) {
            assertThat(store.delivered("b")).isNotNull();
            disk.full = false;
            store.append(batch("e", "loki", Batches.entries(3))).join();
        }
        try (BatchStore store = open()) {
            assertThat(ids(store)).containsExactlyInAnyOrder("a", "c", "d", "e");
            assertThat(store.delivered("e")).isNotNull();
        }
        try (BatchStore store = open()) {
            assertThat(ids(store)).containsExactlyInAnyOrder("a", "c", "d");
            assertThat(store.stats().total().isBalanced()).isTrue();
        }
    }

    private BatchStore open() {
        return open(StoreKind.SEGMENT, disk);
    }

    /** Files can be created on the full disk and written where they have bytes, but cannot grow. */
    private static final class FullDisk extends ForwardingDisk {

        private volatile boolean full;

        FullDisk() {
            super(new NioDisk());
        }

        @Override
        protected DiskFile wrap(Path path, DiskFile file) {
            return new ForwardingFile(file) {
                @Override
                public void write(long offset, byte[] bytes, int from, int length) throws IOException {
                    if (full && offset + length > disk.size(path)) {
                        throw new IOException("No space left on device");
                    }
                    super.write(offset, bytes, from, length);
                }
            };
        }
    }
}
