package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.ManualClock;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** While no journal can be written, what it does not say is not relied on. */
class NoJournalTest {

    private static final String BROKEN = "Input/output error";

    @TempDir
    Path directory;

    private final ManualClock clock = new ManualClock();
    private final List<Corruption> reports = new ArrayList<>();
    private final MemoryDisk files = new MemoryDisk();
    private final FaultyDisk disk = new FaultyDisk(files);

    private BatchStore open(StoreKind kind, FaultyDisk on) {
        BatchStore store = kind.open(
                DiskStoreOptions.builder(directory)
                        .segmentSize(4 << 10)
                        .clock(clock)
                        .build(),
                on);
        store.onCorruption(reports::add);
        return store;
    }

    /** Opens what a kill, or a power cut, leaves: each batch is held or known to be delivered, and none is lost. */
    private void assertNothingLost(StoreKind kind, MemoryDisk left) {
        try (BatchStore store = open(kind, new FaultyDisk(left))) {
            CollectorStats total = store.stats().total();
            assertThat(total.isBalanced()).as("%s", total).isTrue();
            assertThat(total.corrupt()).isZero();
            assertThat(total.accepted()).isEqualTo(2);
            assertThat(store.list(BatchSelector.all(), clock.instant())).hasSize(2 - (int) total.delivered());
            assertThat(reports).isEmpty();
        }
    }

    @ParameterizedTest
    @EnumSource
    void when_it_can_not_be_written_delivered_batches_are_not_taken_for_lost(StoreKind kind) {
        deliverWithoutJournal(kind, Operation.WRITE);
    }

    @ParameterizedTest
    @EnumSource
    void when_it_can_not_be_forced_delivered_batches_are_not_taken_for_lost(StoreKind kind) {
        deliverWithoutJournal(kind, Operation.FORCE);
    }

    private void deliverWithoutJournal(StoreKind kind, Operation failing) {
        BatchStore store = open(kind, disk);
        for (String id : List.of("a", "b")) {
            store.append(GeneratedBatch.of(id, clock.instant(), clock.instant().plusSeconds(60)))
                    .join();
        }
        store.reclaim();
        disk.fail(failing, "state-", BROKEN);
        assertThat(store.delivered("a")).isNotNull();
        assertThat(store.delivered("b")).isNotNull();
        store.reclaim();
        assertThat(store.stats().problem()).contains(BROKEN);
        assertThat(payloads()).isNotEmpty();
        MemoryDisk killed = files.copy();
        MemoryDisk cut = files.afterPowerCut();
        store.close();
        assertNothingLost(kind, killed);
        assertNothingLost(kind, cut);
        assertNothingLost(kind, files.copy());
    }

    @ParameterizedTest
    @EnumSource
    void with_the_next_journal_their_space_is_free(StoreKind kind) {
        BatchStore store = open(kind, disk);
        store.append(GeneratedBatch.of("a", clock.instant(), clock.instant().plusSeconds(60)))
                .join();
        disk.fail(Operation.WRITE, "state-", BROKEN);
        store.delivered("a");
        store.reclaim();
        assertThat(payloads()).isNotEmpty();
        disk.heal();
        store.reclaim();
        assertThat(payloads()).isEmpty();
        store.close();
    }

    private List<Path> payloads() {
        return files.files().stream()
                .filter(path -> path.toString().endsWith(".segment")
                        || path.getFileName().toString().startsWith("batch_"))
                .toList();
    }

    @ParameterizedTest
    @EnumSource
    void a_pause_that_is_not_durable_is_in_effect_and_its_caller_learns_it(StoreKind kind) {
        BatchStore store = open(kind, disk);
        disk.fail(Operation.WRITE, "state-", BROKEN);
        assertThatExceptionOfType(BatchPersistenceException.class)
                .isThrownBy(() -> store.pause("loki", true))
                .withMessageContainingAll("loki", "until a restart");
        assertThat(store.pausedCollectorTypes()).containsExactly("loki");
        disk.heal();
        assertThat(store.pause("loki", true)).as("changed").isFalse();
        MemoryDisk cut = files.afterPowerCut();
        store.close();
        try (BatchStore next = open(kind, new FaultyDisk(cut))) {
            assertThat(next.pausedCollectorTypes()).containsExactly("loki");
        }
    }
}
