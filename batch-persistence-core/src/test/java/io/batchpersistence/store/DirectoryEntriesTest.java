package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.ForwardingDisk;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A killed process may have created directories that are found but were never forced. */
class DirectoryEntriesTest {

    @TempDir
    Path parent;

    private final ManualClock clock = new ManualClock();
    private final MemoryDisk files = new MemoryDisk();
    /** Forced directories and deleted files, in order. */
    private final List<Path> done = new ArrayList<>();

    private Disk recording() {
        return new ForwardingDisk(files) {
            @Override
            public void forceDirectory(Path forced) throws IOException {
                done.add(forced);
                super.forceDirectory(forced);
            }

            @Override
            public void delete(Path file) throws IOException {
                done.add(file);
                super.delete(file);
            }
        };
    }

    private BatchStore open(StoreKind kind, Path directory, Disk disk) {
        return kind.open(DiskStoreOptions.builder(directory).clock(clock).build(), disk);
    }

    @ParameterizedTest
    @EnumSource
    void that_of_the_store_is_durable_when_it_is_open(StoreKind kind) throws IOException {
        Path directory = Files.createDirectories(parent.resolve("data/batches"));
        open(kind, directory, recording()).close();
        assertThat(done.subList(0, 2)).containsExactly(parent.resolve("data").toRealPath(), parent.toRealPath());
    }

    @ParameterizedTest
    @EnumSource
    void and_one_whose_parents_can_not_be_forced_opens_all_the_same(StoreKind kind) throws IOException {
        Path directory = Files.createDirectories(parent.resolve("data/batches"));
        FaultyDisk disk = new FaultyDisk(files);
        disk.fail(Operation.FORCE_DIRECTORY, "data", "Invalid argument");
        try (BatchStore store = open(kind, directory, disk)) {
            store.append(GeneratedBatch.of("a", clock.instant(), clock.instant()))
                    .join();
            assertThat(store.count(BatchSelector.all(), clock.instant())).isOne();
        }
    }

    @ParameterizedTest
    @EnumSource(names = "JSON_FILES")
    void that_of_evidence_is_durable_before_the_damaged_file_is_deleted(StoreKind kind) {
        Path damaged = parent.resolve("batch_a.json");
        files.put(damaged, new byte[] {1});
        open(kind, parent, recording()).close();
        assertThat(done.subList(0, done.indexOf(damaged)))
                .contains(parent.resolve("quarantine"))
                .endsWith(parent);
    }
}
