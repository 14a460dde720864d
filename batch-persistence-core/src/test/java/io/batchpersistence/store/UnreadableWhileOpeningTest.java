package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A file that is unreadable during opening, because there is no file descriptor left or the device reports an error, is
 * not damaged. Its batches, marks and counters are there once it can be read.
 */
class UnreadableWhileOpeningTest extends DiskStoreFixture {

    /** Read operations of the last successful opening. */
    private int looks;

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10).compactionRate(1);
    }

    /** Batches in every state, marks in the journal and in its snapshot, sealed segments and an active one. */
    private MemoryDisk killedStore(StoreKind kind) {
        MemoryDisk files = new MemoryDisk();
        try (BatchStore store = open(kind, files)) {
            appendAndSettle(store, "batch 0 ");
        }
        try (BatchStore store = open(kind, files)) {
            appendAndSettle(store, "batch 1 ");
            // Forces the journal.
            store.pause("loki", true);
            return files.copy();
        }
    }

    private void appendAndSettle(BatchStore store, String prefix) {
        for (int i = 0; i < 8; i++) {
            String id = prefix + i;
            store.appendAndWait(batch(id)).join();
            if (i % 4 == 1) {
                assertThat(store.delivered(id)).isNotNull();
            } else if (i % 4 > 1) {
                boolean dead = i % 4 == 3;
                fail(store, id, "503", new Verdict(dead, dead ? null : now().plusSeconds(60), 1));
            }
        }
    }

    private record Seen(List<BatchSummary> batches, Map<String, CollectorStats> stats, List<Long> lost) {}

    private Seen seen(StoreKind kind, FaultyDisk disk) {
        reports.clear();
        try (BatchStore store = open(kind, disk)) {
            looks = disk.looks();
            disk.heal();
            return new Seen(
                    store.list(BatchSelector.all(), clock.instant()),
                    store.stats().collectors(),
                    reports.stream().map(Corruption::batches).toList());
        }
    }

    @ParameterizedTest
    @EnumSource
    void a_read_that_fails_for_a_moment_changes_nothing(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        Seen expected = seen(kind, new FaultyDisk(killed.copy()));
        assertThat(expected.batches()).hasSize(12);
        for (int number = 1; ; number++) {
            FaultyDisk disk = new FaultyDisk(killed.copy());
            disk.failLooks(number, 1);
            String what = "look " + number + " fails";
            assertThat(seen(kind, disk)).as(what).isEqualTo(expected);
            boolean failed = looks >= number;
            assertThat(seen(kind, disk)).as(what + ", opened again").isEqualTo(expected);
            if (!failed) {
                return;
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void while_files_can_not_be_read_the_store_is_not_opened_and_nothing_is_forgotten(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        Seen expected = seen(kind, new FaultyDisk(killed.copy()));
        int refused = 0;
        for (int number = 1; ; number++) {
            FaultyDisk disk = new FaultyDisk(killed.copy());
            disk.failLooks(number, Integer.MAX_VALUE);
            String what = "all looks from " + number + " on fail";
            try {
                // The opening had read all that it needs.
                open(kind, disk).close();
            } catch (BatchPersistenceException e) {
                assertThat(e).as(what).hasMessageContaining("Too many open files");
                refused++;
            }
            boolean failed = disk.looks() >= number;
            disk.heal();
            assertThat(seen(kind, disk)).as(what + ", opened again").isEqualTo(expected);
            if (!failed) {
                assertThat(refused).isGreaterThan(10);
                return;
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void who_reads_the_refusal_knows_which_file_it_is_and_what_to_do(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        FaultyDisk disk = new FaultyDisk(killed);
        disk.fail(Operation.READ, kind.payload, "Input/output error");
        assertThat(catchThrowableOfType(BatchPersistenceException.class, () -> open(kind, disk)))
                .hasMessageContainingAll(
                        directory.toString(), kind.payload, "Input/output error", "start again", "move it");
        disk.heal();
        assertThat(seen(kind, disk).batches()).hasSize(12);
    }

    @ParameterizedTest
    @EnumSource
    void whichever_file_can_not_be_read_what_is_in_it_is_there_once_it_can(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        Seen expected = seen(kind, new FaultyDisk(killed.copy()));
        List<Path> files = killed.files();
        assertThat(files).hasSizeGreaterThan(5);
        for (Path file : files) {
            FaultyDisk disk = new FaultyDisk(killed.copy());
            disk.fail(Operation.READ, file.getFileName().toString(), "Input/output error");
            try (BatchStore store = open(kind, disk)) {
                // The opening does not need that file, so it may be deleted.
                store.reclaim();
            } catch (BatchPersistenceException e) {
                assertThat(e).hasMessageContaining(file.toString());
            }
            disk.heal();
            assertThat(seen(kind, disk)).as(file + " could not be read").isEqualTo(expected);
        }
    }

    /** A failed opening has neither set the damaged file aside nor repaired it. */
    @ParameterizedTest
    @EnumSource
    void damage_found_before_the_file_that_can_not_be_read_is_told_and_counted_by_the_next_opening(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        Path first = killed.files(kind.payload).get(0);
        byte[] bytes = killed.get(first);
        bytes[kind == StoreKind.SEGMENT ? 100 : 0] ^= 0x55;
        killed.put(first, Arrays.copyOf(bytes, bytes.length - 8));
        clock.advance(Duration.ofSeconds(1));
        Seen expected = seen(kind, new FaultyDisk(killed.copy()));
        assertThat(expected.lost().stream().mapToLong(Long::longValue).sum()).isPositive();

        FaultyDisk disk = new FaultyDisk(killed);
        disk.fail(Operation.READ, killed.last(kind.payload).getFileName().toString(), "Input/output error");
        assertThat(catchThrowableOfType(BatchPersistenceException.class, () -> open(kind, disk)))
                .isNotNull();
        disk.heal();
        assertThat(seen(kind, disk)).isEqualTo(expected);
    }
}
