package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A batch that cannot be read, for example because the heap is too small, is named and counted. It does not block
 * others.
 */
class UnreadableBatchTest extends DiskStoreFixture {

    private final FaultyDisk disk = new FaultyDisk(new MemoryDisk());
    private BatchStore store;

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().compression(Compression.NONE);
    }

    @AfterEach
    void close() {
        store.close();
    }

    private void markPending(String id, int size) {
        store.appendAndWait(batch(id, "loki", List.of(LogEntry.of(now(), "INFO", "x".repeat(size)))))
                .join();
        assertThat(store.released(id, type -> Optional.of(clock.instant()))).isNotNull();
    }

    private List<String> claim() {
        return claim(store, "loki", 1).stream().map(claim -> claim.batch().id()).toList();
    }

    private void assertCantBeRead() {
        assertThat(catchThrowableOfType(BatchPersistenceException.class, this::claim))
                .hasMessageContainingAll("batch", "'loki'", "Java heap space", "more memory");
    }

    @ParameterizedTest
    @EnumSource
    void is_named_and_counted_and_tried_again_less_and_less_often(StoreKind kind) {
        store = open(kind, disk);
        markPending("large", 100_000);
        markPending("small", 10);
        disk.memory(10_000);
        assertCantBeRead();
        assertThat(claim()).as("it does not stand in the way").containsExactly("small");
        BatchStats.Unreadable unreadable = Objects.requireNonNull(store.stats().unreadable());
        assertThat(unreadable.batches()).isOne();
        assertThat(unreadable.first()).contains("large", "10 s", "attempts so far: 1");
        assertThat(store.stats().problem()).as("it can take batches").isNull();
        int attempts = 1;
        for (int seconds = 0; seconds < 3_600; seconds += 10) {
            clock.advance(Duration.ofSeconds(10));
            try {
                assertThat(claim()).isEmpty();
            } catch (BatchPersistenceException e) {
                attempts++;
            }
        }
        assertThat(attempts).isBetween(8, 14);
        assertThat(store.stats().total().pending()).isOne();
        assertThat(store.stats().total().corrupt()).isZero();
        assertThat(reports).isEmpty();

        disk.memory(Integer.MAX_VALUE);
        clock.advance(Duration.ofMinutes(10));
        assertThat(claim()).containsExactly("large");
        assertThat(store.stats().unreadable()).isNull();
    }

    @ParameterizedTest
    @EnumSource
    void is_not_counted_any_more_once_it_is_gone(StoreKind kind) {
        store = open(kind, disk);
        markPending("large", 100_000);
        disk.memory(10_000);
        assertCantBeRead();
        assertThat(store.discard(BatchSelector.all(), clock.instant())).isOne();
        assertThat(store.stats().unreadable()).isNull();
    }

    @ParameterizedTest
    @EnumSource
    void an_error_of_the_disk_is_told_in_the_same_way(StoreKind kind) {
        store = open(kind, disk);
        markPending("a", 10);
        disk.fail(Operation.READ, "", "Input/output error");
        assertThat(catchThrowableOfType(BatchPersistenceException.class, this::claim))
                .hasMessageContaining("Input/output error");
        assertThat(Objects.requireNonNull(store.stats().unreadable()).first()).contains("Input/output error");
        disk.heal();
        clock.advance(Duration.ofSeconds(10));
        assertThat(claim()).containsExactly("a");
        assertThat(store.stats().unreadable()).isNull();
    }
}
