package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.StoreKind;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A backlog of a hundred thousand batches: opening does not read them, and they are claimed in order. */
class BigBacklogTest {

    private static final int BATCHES = 100_000;
    private static final Instant START = Instant.parse("2026-01-01T00:00:00Z");
    /** One entry per batch: about a kilobyte that compresses badly. */
    private static final List<LogEntry> ENTRIES = List.of(LogEntry.of(
            START,
            "INFO",
            IntStream.range(0, 100)
                    .mapToObj(i -> Integer.toHexString(i * 0x9E3779B9))
                    .toList()
                    .toString()));

    @TempDir
    Path directory;

    private DiskStoreOptions options() {
        // With a dictionary the payloads, which are all alike, would be smaller than their entries in the index.
        return DiskStoreOptions.builder(directory)
                .sync(SyncPolicy.NEVER)
                .compression(Compression.NONE)
                .build();
    }

    @Test
    void opening_reads_indexes_and_not_payloads_and_batches_come_in_order() {
        fill();
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = StoreKind.SEGMENT.open(options(), disk)) {
            long payload = store.stats().total().bytes();
            assertThat(store.stats().total().pending()).isEqualTo(BATCHES);
            assertThat(disk.bytesRead()).isLessThan(payload / 10).isLessThan(50L * BATCHES);

            Instant now = Instant.now();
            List<Claim> oldest = store.claim("loki", BatchOrder.OLDEST_FIRST, now, now, 500);
            List<Claim> newest = store.claim("loki", BatchOrder.NEWEST_FIRST, now, now, 500);
            List<Claim> next = store.claim("loki", BatchOrder.OLDEST_FIRST, now, now, 500);
            assertThat(ids(oldest)).isEqualTo(ids(IntStream.range(0, 500)));
            assertThat(ids(newest)).isEqualTo(ids(IntStream.range(0, 500).map(i -> BATCHES - 1 - i)));
            assertThat(ids(next)).isEqualTo(ids(IntStream.range(500, 1_000)));
            assertThat(oldest)
                    .allSatisfy(claim -> assertThat(claim.batch().entries()).isEqualTo(ENTRIES));
            assertThat(store.find("batch-" + BATCHES / 2)).isPresent();
        }
    }

    private void fill() {
        try (BatchStore store = StoreKind.SEGMENT.open(options())) {
            List<CompletableFuture<?>> appends = new ArrayList<>();
            for (int i = 0; i < BATCHES; i++) {
                appends.add(store.append(
                        new NewBatch("batch-" + i, "loki", ENTRIES, Map.of(), START.plusMillis(i), START)));
            }
            appends.forEach(CompletableFuture::join);
        }
    }

    private static List<String> ids(List<Claim> claims) {
        return claims.stream().map(claim -> claim.batch().id()).toList();
    }

    private static List<String> ids(IntStream numbers) {
        return numbers.mapToObj(i -> "batch-" + i).toList();
    }
}
