package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A batch is delivered, and another one with its id is persisted before the mark is durable. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class IdUsedAgainTest extends DiskStoreFixture {

    private static final String ID = "the id";

    @Override
    protected DiskStoreOptions.Builder options() {
        // Only force on request.
        return super.options().syncInterval(Duration.ofDays(1));
    }

    private CompletableFuture<Void> persist(BatchStore store, String content) {
        return store.append(batch(ID, "loki", GeneratedBatch.entries(content)));
    }

    @ParameterizedTest
    @EnumSource
    void wherever_the_power_goes_neither_is_missing(StoreKind kind) {
        MemoryDisk disk = new MemoryDisk();
        List<MemoryDisk> moments = new ArrayList<>();
        MemoryDisk acknowledged;
        try (BatchStore store = open(kind, disk)) {
            persist(store, "first").join();
            store.reclaim();
        }
        // The counters include the first batch.
        try (BatchStore store = open(kind, disk)) {
            disk.beforeChange(() -> moments.add(disk.copy()));
            assertThat(store.delivered(ID)).isNotNull();
            persist(store, "second").join();
            disk.beforeChange(() -> {});
            acknowledged = disk.copy();
        }
        assertThat(moments).hasSizeGreaterThan(2);
        Random random = new Random(1);
        moments.forEach(moment -> moment.powerCuts(10, random, cut -> check(kind, cut, false)));
        acknowledged.powerCuts(50, random, cut -> check(kind, cut, true));
    }

    private void check(StoreKind kind, MemoryDisk cut, boolean second) {
        try (BatchStore store = open(kind, cut)) {
            assertThat(ids(store)).hasSizeLessThanOrEqualTo(1);
            if (second) {
                assertThat(store.find(ID).orElseThrow().entries()).isEqualTo(GeneratedBatch.entries("second"));
            }
            CollectorStats stats = store.stats().total();
            assertThat(stats.corrupt()).as("%s", stats).isZero();
            assertThat(stats.isBalanced()).as("%s", stats).isTrue();
            assertThat(stats.accepted()).as("%s", stats).isBetween(second ? 2L : 1L, 2L);
        }
        assertThat(reports).allSatisfy(report -> assertThat(report.batches()).isZero());
    }

    @ParameterizedTest
    @EnumSource
    void the_first_one_does_not_come_back_when_the_second_one_is_gone_too(StoreKind kind) {
        MemoryDisk disk = new MemoryDisk();
        MemoryDisk cut;
        try (BatchStore store = open(kind, disk)) {
            append(store, "stays in the same file");
            persist(store, "first").join();
        }
        try (BatchStore store = open(kind, disk)) {
            assertThat(store.delivered(ID)).isNotNull();
            persist(store, "second").join();
            cut = disk.afterPowerCut();
        }
        FaultyDisk full = new FaultyDisk(cut);
        // The previous journal stays in use.
        full.fail(Operation.CREATE, "state-", "No space left on device");
        MemoryDisk killed;
        try (BatchStore store = open(kind, full)) {
            assertThat(store.delivered(ID)).isNotNull();
            store.reclaim();
            killed = cut.copy();
        }
        try (BatchStore store = open(kind, killed)) {
            assertThat(ids(store)).containsExactly("stays in the same file");
            assertThat(store.stats().total().delivered()).isEqualTo(2);
            assertThat(store.stats().total().corrupt()).isZero();
        }
    }

    /**
     * The opening continues the last journal. It writes counters that fill several sectors, and then the removal of the
     * first batch.
     */
    @Test
    void an_opening_counts_the_first_one_before_it_says_that_it_is_gone() {
        MemoryDisk disk = new MemoryDisk();
        int types = 20;
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            persist(store, "first").join();
            for (int i = 0; i < types; i++) {
                String id = "other " + i;
                store.append(batch(id, "t".repeat(200) + i, GeneratedBatch.entries(id)))
                        .join();
            }
        }
        MemoryDisk cut;
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            assertThat(store.delivered(ID)).isNotNull();
            persist(store, "second").join();
            cut = disk.afterPowerCut();
        }
        List<MemoryDisk> moments = new ArrayList<>();
        cut.beforeChange(() -> moments.add(cut.copy()));
        FaultyDisk full = new FaultyDisk(cut);
        full.fail(Operation.CREATE, "state-", "No space left on device");
        open(StoreKind.SEGMENT, full).close();
        Random random = new Random(1);
        for (MemoryDisk moment : moments) {
            moment.powerCuts(20, random, left -> {
                try (BatchStore store = open(StoreKind.SEGMENT, left)) {
                    CollectorStats stats = store.stats().total();
                    assertThat(stats.corrupt()).as("%s", stats).isZero();
                    assertThat(stats.accepted()).as("%s", stats).isEqualTo(types + 2);
                }
            });
        }
    }

    @Test
    void in_a_document_of_its_own_it_is_refused_while_the_mark_can_not_be_made_durable() {
        FaultyDisk disk = new FaultyDisk(new MemoryDisk());
        try (BatchStore store = open(StoreKind.JSON_FILES, disk)) {
            persist(store, "first").join();
            disk.fail(Operation.FORCE, "state-", "Input/output error");
            assertThat(store.delivered(ID)).isNotNull();
            assertThat(persist(store, "second"))
                    .failsWithin(Duration.ofSeconds(30))
                    .withThrowableThat()
                    .withMessageContaining("before its end is durable");
            disk.heal();
            persist(store, "second").join();
            assertThat(store.find(ID).orElseThrow().entries()).isEqualTo(GeneratedBatch.entries("second"));
        }
    }
}
