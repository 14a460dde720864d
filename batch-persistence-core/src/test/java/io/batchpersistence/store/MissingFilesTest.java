package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Files that are deleted, emptied or truncated after a kill lose batches that no counter on disk includes yet. The gap
 * in their numbers shows the loss.
 */
class MissingFilesTest extends DiskStoreFixture {

    private final Set<String> accepted = new HashSet<>();

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10).compactionRate(1);
    }

    private record Seen(Set<String> ids, long accepted, long delivered, long corrupt, long reported) {}

    private Seen seen(StoreKind kind, MemoryDisk disk) {
        reports.clear();
        try (BatchStore store = open(kind, disk)) {
            CollectorStats total = store.stats().total();
            assertThat(total.isBalanced()).isTrue();
            return new Seen(
                    Set.copyOf(ids(store)),
                    total.accepted(),
                    total.delivered(),
                    total.corrupt(),
                    reports.stream().mapToLong(Corruption::batches).sum());
        }
    }

    private void tryToAppend(BatchStore store, String id) {
        Throwable refused =
                store.append(batch(id)).handle((nothing, failure) -> failure).join();
        if (refused == null) {
            accepted.add(id);
        }
    }

    /** Everything happens after the checkpoint of the opening. The last batch is delivered, and the journal says so. */
    private MemoryDisk killedStore(StoreKind kind) {
        MemoryDisk files = new MemoryDisk();
        BatchStore store = open(kind, files);
        for (int i = 0; i < 30; i++) {
            tryToAppend(store, "batch " + i);
            if (i % 5 == 4) {
                assertThat(store.delivered("batch " + i)).isNotNull();
            }
        }
        // Forces the journal.
        store.pause("loki", true);
        MemoryDisk killed = files.copy();
        store.close();
        return killed;
    }

    private interface Harm {
        void to(MemoryDisk disk, Path file, byte[] bytes);
    }

    private void assertCounted(StoreKind kind, Harm harm) {
        MemoryDisk killed = killedStore(kind);
        Seen intact = seen(kind, killed.copy());
        assertThat(intact.accepted()).isEqualTo(30);
        List<Path> files = killed.files(kind.payload);
        int harmed = 0;
        // Nothing records that the newest segment was written to.
        for (Path file : kind == StoreKind.SEGMENT ? files.subList(0, files.size() - 1) : files) {
            MemoryDisk disk = killed.copy();
            harm.to(disk, file, disk.get(file));
            Seen now = seen(kind, disk);
            int lost = intact.ids().size() - now.ids().size();
            harmed += lost;
            assertThat(intact.ids()).containsAll(now.ids());
            assertThat(now.corrupt()).as(file + " corrupt").isEqualTo(lost);
            assertThat(now.reported()).as(file + " reported").isEqualTo(lost);
            assertThat(now.accepted()).as(file + " accepted").isEqualTo(intact.accepted());
            assertThat(now.delivered()).as(file + " delivered").isEqualTo(intact.delivered());
            Seen again = seen(kind, disk);
            assertThat(again.reported()).as(file + " told once").isZero();
            assertThat(again.corrupt()).as(file + " counted once").isEqualTo(lost);
            assertThat(again.ids()).isEqualTo(now.ids());
        }
        assertThat(harmed).isGreaterThan(10);
    }

    @ParameterizedTest
    @EnumSource
    void batches_in_a_deleted_file_are_counted(StoreKind kind) {
        assertCounted(kind, (disk, file, bytes) -> disk.delete(file));
    }

    @ParameterizedTest
    @EnumSource
    void batches_in_an_emptied_file_are_counted(StoreKind kind) {
        assertCounted(kind, (disk, file, bytes) -> disk.put(file, new byte[0]));
    }

    @ParameterizedTest
    @EnumSource
    void batches_cut_off_from_a_file_are_counted(StoreKind kind) {
        assertCounted(kind, (disk, file, bytes) -> disk.put(file, Arrays.copyOf(bytes, bytes.length / 3)));
    }

    /** In that case delivered and lost batches look the same. */
    @ParameterizedTest
    @EnumSource
    void no_numbers_are_missed_if_the_journal_was_overwritten_with_zeros(StoreKind kind) {
        MemoryDisk files = new MemoryDisk();
        BatchStore store = open(kind, files);
        for (int i = 0; i < 30; i++) {
            tryToAppend(store, "batch " + i);
        }
        for (int i = 0; i < 20; i++) {
            assertThat(store.delivered("batch " + i)).isNotNull();
        }
        store.reclaim();
        // Forces the journal.
        store.pause("loki", true);
        MemoryDisk killed = files.copy();
        store.close();
        for (Path file : killed.files(".journal")) {
            killed.put(file, new byte[killed.get(file).length]);
        }
        Seen now = seen(kind, killed);
        for (int i = 20; i < 30; i++) {
            assertThat(now.ids()).contains("batch " + i);
        }
        assertThat(now.reported()).isZero();
        assertThat(now.corrupt()).isZero();
    }

    /** The caller still has a refused batch, so it does not count as missing, however the process ends. */
    @ParameterizedTest
    @EnumSource
    void the_numbers_of_batches_that_were_refused_are_not_missed(StoreKind kind) {
        for (Operation operation : List.of(Operation.WRITE, Operation.FORCE, Operation.CREATE)) {
            accepted.clear();
            MemoryDisk files = new MemoryDisk();
            FaultyDisk disk = new FaultyDisk(files);
            BatchStore store = open(kind, disk);
            tryToAppend(store, "a");
            disk.fail(operation, kind.payload, "No space left on device").times(3);
            for (int i = 0; accepted.size() < 10; i++) {
                tryToAppend(store, "batch " + i);
            }
            MemoryDisk killed = files.copy();
            MemoryDisk cut = files.afterPowerCut();
            store.close();
            for (MemoryDisk left : List.of(killed, cut)) {
                Seen now = seen(kind, left);
                assertThat(now.ids()).as(operation + " failed").isEqualTo(accepted);
                assertThat(now.corrupt()).as(operation + " failed").isZero();
                assertThat(now.accepted()).as(operation + " failed").isEqualTo(10);
            }
        }
    }

    /**
     * Recording refused batches also writes the queued marks. Marks that are queued later must not be taken as written.
     */
    @ParameterizedTest
    @EnumSource
    void marks_made_while_the_journal_is_told_what_was_refused_are_kept(StoreKind kind) {
        for (int moment = 1; ; moment++) {
            MemoryDisk files = new MemoryDisk();
            FaultyDisk disk = new FaultyDisk(files);
            BatchStore store = open(kind, disk);
            tryToAppend(store, "a");
            tryToAppend(store, "keeps the segment");
            disk.fail(Operation.WRITE, kind.payload, "No space left on device");
            tryToAppend(store, "refused");
            disk.heal();
            // Writes the queued marks.
            store.pause("loki", true);
            AtomicInteger left = new AtomicInteger(moment);
            files.beforeChange(() -> {
                if (left.decrementAndGet() == 0) {
                    assertThat(store.delivered("a")).isNotNull();
                }
            });
            tryToAppend(store, "b");
            files.beforeChange(() -> {});
            boolean delivered = left.get() <= 0;
            // Writes the queued marks.
            store.pause("loki", false);
            MemoryDisk killed = files.copy();
            store.close();
            if (!delivered) {
                assertThat(moment).isGreaterThan(5);
                return;
            }
            Seen now = seen(kind, killed);
            String what = "delivered before change " + moment;
            assertThat(now.ids()).as(what).containsExactlyInAnyOrder("keeps the segment", "b");
            assertThat(now.delivered()).as(what).isOne();
            assertThat(now.corrupt()).as(what).isZero();
        }
    }

    /** The reserve of the journal is for marks. Thousands of refusals per second must not use it up. */
    @ParameterizedTest
    @EnumSource
    void refusals_do_not_fill_the_journal(StoreKind kind) {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        try (BatchStore store = open(kind, disk)) {
            tryToAppend(store, "a");
            disk.fail(Operation.WRITE, kind.payload, "No space left on device");
            tryToAppend(store, "refused");
            // Writes the queued marks.
            store.pause("loki", true);
            List<byte[]> before = journals(files);
            for (int i = 0; i < 20; i++) {
                tryToAppend(store, "refused " + i);
            }
            store.pause("loki", true);
            assertThat(journals(files)).usingRecursiveComparison().isEqualTo(before);
            disk.heal();
        }
    }

    private static List<byte[]> journals(MemoryDisk files) {
        return files.files(".journal").stream().map(files::get).toList();
    }

    /** Without a journal, delivered and lost batches look the same. */
    @ParameterizedTest
    @EnumSource
    void without_a_journal_nothing_is_missed(StoreKind kind) {
        MemoryDisk killed = killedStore(kind);
        killed.files().stream()
                .filter(file -> file.getFileName().toString().startsWith("state-"))
                .forEach(killed::delete);
        killed.delete(killed.files(kind.payload).get(1));
        Seen now = seen(kind, killed);
        assertThat(now.corrupt()).isZero();
        assertThat(now.reported()).isZero();
    }
}
