package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Clients choose ids, for example with an {@code Idempotency-Key}. No choice of ids costs more than another. */
class HostileIdsTest extends DiskStoreFixture {

    /**
     * Two texts of the same length and CRC32C. CRC32C is linear, so all concatenations of the same number of them
     * collide, too.
     */
    private static final String ONE = "batch-1371838";

    private static final String OTHER = "batch-2000402";
    private static final int PLACES = 9;
    private static final int IDS = 1 << PLACES;

    private static List<String> colliding() {
        List<String> ids = IntStream.range(0, IDS)
                .mapToObj(number -> {
                    StringBuilder id = new StringBuilder();
                    for (int place = 0; place < PLACES; place++) {
                        id.append((number >> place & 1) == 0 ? ONE : OTHER);
                    }
                    return id.toString();
                })
                .toList();
        assertThat(ids).doesNotHaveDuplicates();
        assertThat(ids.stream().map(HostileIdsTest::crc).distinct()).hasSize(1);
        return ids;
    }

    private static long crc(String text) {
        CRC32C crc = new CRC32C();
        crc.update(text.getBytes(StandardCharsets.UTF_8));
        return crc.getValue();
    }

    private static List<String> spread() {
        return IntStream.range(0, IDS)
                .mapToObj(number -> String.format("%0" + PLACES * ONE.length() + "d", number))
                .toList();
    }

    /** The bytes that each step reads from disk. */
    private Map<String, Long> read(StoreKind kind, String name, List<String> ids) throws IOException {
        Map<String, Long> read = new HashMap<>();
        FaultyDisk disk = new FaultyDisk(new MemoryDisk());
        DiskStoreOptions options = DiskStoreOptions.builder(Files.createDirectory(directory.resolve(name)))
                .clock(clock)
                .build();
        long before;
        try (BatchStore store = kind.open(options, disk)) {
            before = disk.bytesRead();
            List<CompletableFuture<Void>> appended = new ArrayList<>();
            for (String id : ids) {
                appended.add(store.append(batch(id, "loki", Batches.entries(1))));
            }
            appended.forEach(CompletableFuture::join);
            read.put("appending", disk.bytesRead() - before);
        }
        for (String opening : List.of("opening what was being written", "opening what was ended")) {
            before = disk.bytesRead();
            try (BatchStore store = kind.open(options, disk)) {
                assertThat(store.stats().batches()).isEqualTo(ids.size());
                read.put(opening, disk.bytesRead() - before);
            }
        }
        try (BatchStore store = kind.open(options, disk)) {
            before = disk.bytesRead();
            for (String id : ids) {
                assertThat(store.delivered(id)).isNotNull();
            }
            read.put("marking", disk.bytesRead() - before);
        }
        return read;
    }

    @ParameterizedTest
    @EnumSource
    void ids_that_share_a_checksum_cost_no_more_reads_than_any_others(StoreKind kind) throws IOException {
        Map<String, Long> usual = read(kind, "spread", spread());
        assertThat(read(kind, "colliding", colliding()))
                .allSatisfy((step, bytes) -> assertThat(bytes).as(step).isLessThanOrEqualTo(usual.get(step) * 11 / 10));
    }
}
