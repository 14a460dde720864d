package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.segment.RecordFormat.EncodedRecord;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.Files;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Records with valid checksums that no store has written are set aside. The records around them are read. */
class ForgedRecordTest extends DiskStoreFixture {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    private static EncodedRecord record(byte[] header) {
        NewBatch batch = new NewBatch("id", "loki", Batches.entries(2), Map.of(), NOW, NOW);
        return RecordFormat.encode(header, batch, BatchFormat.PROTOBUF, Compression.NONE, (raw, length) -> null, 0);
    }

    @Test
    void headers_that_make_no_sense() throws IOException {
        List<byte[]> headers = List.of(
                new BatchHeader("before", "loki", Map.of()).encode(),
                new byte[] {(byte) 0xFF, (byte) 0xFF, (byte) 0xFF},
                new byte[0],
                new BatchHeader("x", "y".repeat(70_000), Map.of()).encode(),
                new BatchHeader("after", "loki", Map.of()).encode());
        byte[] file = new byte[200_000];
        int at = 16;
        long sequence = 1;
        for (byte[] header : headers) {
            EncodedRecord record = record(header);
            RecordFormat.write(record, sequence++, 1, at, file, at);
            at += record.size();
        }
        Files.write(directory.resolve("0000000001.segment"), Arrays.copyOf(file, at));

        for (int opening = 0; opening < 2; opening++) {
            reports.clear();
            try (BatchStore store = open(StoreKind.SEGMENT)) {
                assertThat(reports).hasSize(opening == 0 ? 1 : 0);
                assertThat(ids(store)).containsExactly("before", "after");
                assertThat(store.stats().total().isBalanced()).isTrue();
                assertThat(store.stats().total().corrupt()).isEqualTo(3);
            }
        }
    }
}
