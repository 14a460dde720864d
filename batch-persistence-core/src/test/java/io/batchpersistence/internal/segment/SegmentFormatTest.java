package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The bytes of a small store in version 1 of its formats. Never change them: the files in users' directories do not
 * change either. If this test fails, the format needs a new version, and these bytes must still be readable.
 */
class SegmentFormatTest {

    private static final String SEGMENT = "1/0000000001.segment";
    private static final String LOG = "1/state-0000000000000002.journal";
    private static final String SEGMENT_WITH_DICTIONARY = "1/0000000002.segment";
    private static final String SNAPSHOT = "1/state-0000000000000002.snapshot";

    @TempDir
    Path directory;

    private final ManualClock clock = new ManualClock();

    private DiskStoreOptions options() {
        return DiskStoreOptions.builder(directory)
                .format(BatchFormat.JSON)
                .compression(Compression.NONE)
                .clock(clock)
                .build();
    }

    private void append(BatchStore store, String id, String type) {
        List<LogEntry> entries = List.of(LogEntry.of(clock.instant(), "INFO", "entry of " + id));
        store.append(new NewBatch(
                        id,
                        type,
                        entries,
                        Map.of("tenant", "t1"),
                        clock.instant(),
                        clock.instant().plusSeconds(300)))
                .join();
    }

    private MemoryDisk written() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = StoreKind.SEGMENT.open(options(), disk)) {
            append(store, "pending", "loki");
            append(store, "delivered", "loki");
            append(store, "dead", "elasticsearch");
            store.delivered("delivered");
            store.failed(
                    "pending",
                    BatchStore.ANY_FENCE,
                    "503",
                    clock.instant(),
                    (type, retries) -> new Verdict(false, clock.instant().plusSeconds(60), 1));
        }
        try (BatchStore store = StoreKind.SEGMENT.open(options(), disk)) {
            for (BatchStore.Claim claim :
                    store.claim("elasticsearch", BatchOrder.OLDEST_FIRST, clock.instant(), clock.instant(), 1)) {
                store.failed(
                        claim.batch().id(),
                        claim.fence(),
                        "400",
                        clock.instant(),
                        (type, retries) -> new Verdict(true, null, 1));
            }
        }
        return disk;
    }

    /** Without the preallocated space. */
    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes, 0, MemoryDisk.used(bytes)).replaceAll(".{96}(?!$)", "$0\n");
    }

    private static String golden(String name) throws IOException {
        try (InputStream in = SegmentFormatTest.class.getResourceAsStream("/golden/" + name + ".hex")) {
            return new String(Objects.requireNonNull(in, name).readAllBytes(), StandardCharsets.US_ASCII).strip();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {SEGMENT, LOG, SNAPSHOT})
    void segment_log_and_snapshot_are_written_as_ever(String name) throws IOException {
        assertThat(hex(written().get(inStore(name)))).isEqualTo(golden(name));
    }

    /** The dictionary is trained, so its bytes, and those of the payload, are zstd's; the rest is pinned by the others. */
    @Test
    void a_segment_with_a_dictionary_is_read() throws IOException {
        Files.write(
                inStore(SEGMENT_WITH_DICTIONARY),
                HexFormat.of().parseHex(golden(SEGMENT_WITH_DICTIONARY).replaceAll("\\s", "")));
        try (BatchStore store = StoreKind.SEGMENT.open(options())) {
            store.onCorruption(corruption -> {
                throw new AssertionError(corruption);
            });
            assertThat(store.find("with dictionary").orElseThrow().entries()).isEqualTo(Batches.entries(3));
        }
    }

    private Path inStore(String golden) {
        return directory.resolve(Path.of(golden).getFileName());
    }

    @Test
    void a_directory_with_these_files_opens_and_delivers() throws IOException {
        for (String name : List.of(SEGMENT, LOG, SNAPSHOT)) {
            Files.write(inStore(name), HexFormat.of().parseHex(golden(name).replaceAll("\\s", "")));
        }
        clock.set(clock.instant().plusSeconds(60));
        try (BatchStore store = StoreKind.SEGMENT.open(options())) {
            store.onCorruption(corruption -> {
                throw new AssertionError(corruption);
            });
            PersistedBatch batch = store.claim("loki", BatchOrder.OLDEST_FIRST, clock.instant(), clock.instant(), 9)
                    .get(0)
                    .batch();
            assertThat(batch.id()).isEqualTo("pending");
            assertThat(batch.retryCount()).isOne();
            assertThat(batch.failureReason()).isEqualTo("503");
            assertThat(batch.context()).isEqualTo(Map.of("tenant", "t1"));
            assertThat(batch.entries())
                    .containsExactly(LogEntry.of(clock.instant().minusSeconds(60), "INFO", "entry of pending"));
            assertThat(store.find("dead").orElseThrow().state()).isEqualTo(BatchState.DEAD);
            assertThat(store.find("dead").orElseThrow().failureReason()).isEqualTo("400");
            assertThat(store.find("delivered")).isEmpty();
            assertThat(store.stats().total().accepted()).isEqualTo(3);
            assertThat(store.stats().total().delivered()).isOne();
            assertThat(store.stats().total().isBalanced()).isTrue();
            assertThat(store.stats().collector("loki").inFlightVolume().entries())
                    .isOne();
            assertThat(store.stats().collector("elasticsearch").deadVolume().entries())
                    .isOne();
            assertThat(store.delivered("pending")).isNotNull();
        }
    }
}
