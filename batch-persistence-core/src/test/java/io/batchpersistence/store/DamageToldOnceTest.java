package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import io.batchpersistence.BatchListener;
import io.batchpersistence.Corruption;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A damage is logged once, at one level, and reported to the listener once; a torn tail is no damage. */
class DamageToldOnceTest extends DiskStoreFixture {

    @RegisterExtension
    final LogCapture logged = new LogCapture("io.batchpersistence");

    /** A store that was killed while it held two batches. */
    private MemoryDisk killed() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            append(store, "a", "b");
            return disk.copy();
        } finally {
            logged.list.clear();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {".segment", ".journal"})
    void a_torn_tail_that_lost_nothing_is_information(String ending) {
        MemoryDisk disk = killed();
        Path file = disk.last(ending);
        byte[] bytes = disk.get(file);
        // A record may itself end in zeros.
        for (int i = MemoryDisk.used(bytes) + 16, end = i + 50; i < end; i++) {
            bytes[i] = (byte) (i | 1);
        }
        disk.put(file, bytes);
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            assertThat(reports).isEmpty();
            assertThat(store.stats().total().corrupt()).isZero();
            assertThat(ids(store)).hasSize(2);
        }
        assertThat(logged.list)
                .allSatisfy(event -> assertThat(event.getLevel()).isEqualTo(Level.INFO))
                .filteredOn(event -> event.getFormattedMessage().contains("being written when"))
                .hasSize(1);
        assertThat(logged.list)
                .filteredOn(event -> event.getFormattedMessage().contains("nothing damaged"))
                .hasSize(1);
    }

    @Test
    void a_damage_is_logged_once_and_the_listener_learns_it_once() {
        MemoryDisk disk = killed();
        disk.flip(disk.last(".segment"), 100, 1);
        BatchListener listener = new BatchListener() {
            @Override
            public void onCorrupted(Corruption damage) {
                reports.add(damage);
            }
        };
        BatchStore store = StoreKind.SEGMENT.open(options().build(), disk);
        try (BatchPersistenceEngine engine =
                BatchPersistenceEngine.builder(store).listener(listener).build()) {
            Awaitility.await().until(() -> !reports.isEmpty());
            assertThat(engine.stats().total().corrupt()).isOne();
        }
        assertThat(reports).hasSize(1);
        assertThat(logged.list)
                .filteredOn(event -> event.getLevel().isGreaterOrEqual(Level.WARN))
                .singleElement()
                .satisfies(event -> {
                    assertThat(event.getLevel()).isEqualTo(Level.ERROR);
                    assertThat(event.getFormattedMessage()).contains("Lost: 1 batches");
                });
    }
}
