package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Collector types come and go, for example one per tenant. They leave a sum and nothing else. */
class ManyCollectorTypesTest extends DiskStoreFixture {

    private static final int KEPT = 1_000;

    private final MemoryDisk disk = new MemoryDisk();
    private long maxDiskUsage = 1 << 30;
    private BatchStore store;

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().maxDiskUsage(maxDiskUsage).sync(SyncPolicy.NEVER);
    }

    private void append(String id, String type) {
        store.appendAndWait(batch(id, type, Batches.entries(1))).join();
    }

    private void deliverOneOf(String type) {
        append(type, type);
        assertThat(store.delivered(type)).isNotNull();
    }

    private static String type(int number) {
        return "tenant-" + number + "-of-a-long-name-that-has-some-forty-characters";
    }

    private void assertCounted(long delivered) {
        BatchStats stats = store.stats();
        assertThat(stats.total().accepted()).isEqualTo(delivered);
        assertThat(stats.total().delivered()).isEqualTo(delivered);
        assertThat(stats.collectors().values()).allMatch(CollectorStats::isBalanced);
    }

    @ParameterizedTest
    @EnumSource
    void a_small_store_goes_on_however_many_types_it_has_seen(StoreKind kind) {
        maxDiskUsage = DiskStoreOptions.MIN_DISK_USAGE;
        store = open(kind, disk);
        int types = 12_000;
        for (int i = 0; i < types; i++) {
            deliverOneOf(type(i));
            if (i % 500 == 0) {
                store.reclaim();
            }
        }
        store.reclaim();
        assertCounted(types);
        assertThat(store.stats().collectors()).hasSizeLessThan(KEPT);
        assertThat(store.stats().diskUsage()).isLessThan(DiskStoreOptions.MIN_DISK_USAGE / 2);
        store.close();
        store = open(kind, disk);
        assertCounted(types);
        assertThat(store.stats().collectors()).hasSizeLessThan(KEPT);
        deliverOneOf("afterwards");
        assertCounted(types + 1);
        store.close();
    }

    @Test
    void what_holds_batches_or_is_paused_is_not_forgotten_and_a_type_may_come_again() {
        store = open(StoreKind.SEGMENT, disk);
        append("held", "held");
        store.pause("paused", true);
        deliverOneOf("paused");
        deliverOneOf("again");
        for (int i = 0; i < 3 * KEPT; i++) {
            deliverOneOf(type(i));
        }
        assertThat(store.stats().collectors())
                .hasSizeBetween(KEPT, KEPT + 4)
                .containsKeys("held", "paused", "other", type(3 * KEPT - 1))
                .doesNotContainKeys("again", type(0));
        deliverOneOf("again");
        assertThat(store.stats().collector("again").accepted()).isOne();

        store.close();
        store = open(StoreKind.SEGMENT, disk);
        assertThat(store.pausedCollectorTypes()).containsExactly("paused");
        assertThat(store.stats().total().accepted()).isEqualTo(3 * KEPT + 4);
        assertThat(store.stats().total().delivered()).isEqualTo(3 * KEPT + 3);
        assertThat(store.stats().total().corrupt()).isZero();
        assertThat(store.count(BatchSelector.all().collectorTypes("held").states(BatchState.PENDING), clock.instant()))
                .isOne();
        store.pause("paused", false);
        for (int i = 0; i < 2 * KEPT; i++) {
            deliverOneOf(type(i));
        }
        assertThat(store.stats().collectors()).doesNotContainKey("paused");
        assertThat(store.stats().total().delivered()).isEqualTo(5 * KEPT + 3);
        store.close();
    }
}
