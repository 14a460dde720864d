package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** While no journal can be written, what it does not say is not relied on. */
class NoJournalTest extends DiskStoreFixture {

    private static final String BROKEN = "Input/output error";

    private final MemoryDisk files = new MemoryDisk();
    private final FaultyDisk disk = new FaultyDisk(files);

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10);
    }

    /** Opens what a kill, or a power cut, leaves: each batch is held or known to be delivered, and none is lost. */
    private void assertNothingLost(StoreKind kind, MemoryDisk left) {
        try (BatchStore store = open(kind, left)) {
            CollectorStats total = store.stats().total();
            assertThat(total.isBalanced()).as("%s", total).isTrue();
            assertThat(total.corrupt()).isZero();
            assertThat(total.accepted()).isEqualTo(2);
            assertThat(ids(store)).hasSize(2 - (int) total.delivered());
            assertThat(reports).isEmpty();
        }
    }

    @ParameterizedTest
    @CsvSource({"SEGMENT, WRITE", "SEGMENT, FORCE", "JSON_FILES, WRITE", "JSON_FILES, FORCE"})
    void when_it_can_not_be_written_or_forced_delivered_batches_are_not_taken_for_lost(
            StoreKind kind, Operation failing) {
        BatchStore store = open(kind, disk);
        append(store, "a", "b");
        store.reclaim();
        disk.fail(failing, "state-", BROKEN);
        assertThat(store.delivered("a")).isNotNull();
        assertThat(store.delivered("b")).isNotNull();
        store.reclaim();
        assertThat(store.stats().problem()).contains(BROKEN);
        assertThat(files.files(kind.payload)).isNotEmpty();
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
        append(store, "a");
        disk.fail(Operation.WRITE, "state-", BROKEN);
        store.delivered("a");
        store.reclaim();
        assertThat(files.files(kind.payload)).isNotEmpty();
        disk.heal();
        store.reclaim();
        assertThat(files.files(kind.payload)).isEmpty();
        store.close();
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
        try (BatchStore next = open(kind, cut)) {
            assertThat(next.pausedCollectorTypes()).containsExactly("loki");
        }
    }
}
