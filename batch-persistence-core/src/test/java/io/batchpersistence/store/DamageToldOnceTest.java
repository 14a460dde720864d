package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

/** A damage is logged once, at one level, and reported to the listener once; a torn tail is no damage. */
class DamageToldOnceTest {

    private static final Instant NOW = Instant.parse("2026-01-01T00:00:00Z");

    @TempDir
    Path directory;

    private final Logger root = (Logger) LoggerFactory.getLogger("io.batchpersistence");
    private final ListAppender<ILoggingEvent> logged = new ListAppender<>();
    private final List<Corruption> reports = new ArrayList<>();

    @BeforeEach
    void listen() {
        logged.start();
        root.addAppender(logged);
    }

    @AfterEach
    void stopListening() {
        root.detachAppender(logged);
    }

    private BatchStore open(MemoryDisk disk) {
        return StoreKind.SEGMENT.open(DiskStoreOptions.builder(directory).build(), disk);
    }

    /** A store that was killed while it held two batches. */
    private MemoryDisk killed() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            for (String id : List.of("a", "b")) {
                store.append(GeneratedBatch.of(id, NOW, NOW.plusSeconds(60))).join();
            }
            return disk.copy();
        } finally {
            logged.list.clear();
        }
    }

    private static Path last(MemoryDisk disk, String ending) {
        return disk.files().stream()
                .filter(path -> path.toString().endsWith(ending))
                .max(Path::compareTo)
                .orElseThrow();
    }

    private static int used(byte[] bytes) {
        int used = bytes.length;
        while (bytes[used - 1] == 0) {
            used--;
        }
        return used;
    }

    @ParameterizedTest
    @ValueSource(strings = {".segment", ".journal"})
    void a_torn_tail_that_lost_nothing_is_information(String ending) {
        MemoryDisk disk = killed();
        Path file = last(disk, ending);
        byte[] bytes = disk.get(file);
        // A record may itself end in zeros.
        for (int i = used(bytes) + 16, end = i + 50; i < end; i++) {
            bytes[i] = (byte) (i | 1);
        }
        disk.put(file, bytes);
        try (BatchStore store = open(disk)) {
            store.onCorruption(reports::add);
            assertThat(reports).isEmpty();
            assertThat(store.stats().total().corrupt()).isZero();
            assertThat(store.list(BatchSelector.all(), NOW)).hasSize(2);
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
        Path segment = last(disk, ".segment");
        byte[] bytes = disk.get(segment);
        bytes[100] ^= 1;
        disk.put(segment, bytes);
        BatchListener listener = new BatchListener() {
            @Override
            public void onCorrupted(Corruption damage) {
                reports.add(damage);
            }
        };
        BatchStore store = open(disk);
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
