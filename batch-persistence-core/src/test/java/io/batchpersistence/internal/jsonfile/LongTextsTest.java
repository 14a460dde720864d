package io.batchpersistence.internal.jsonfile;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Documents that were edited by hand may have texts that are too long for a journal. */
class LongTextsTest {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    @TempDir
    Path directory;

    private void document(String id, String collectorType, String reason) throws IOException {
        Files.writeString(
                directory.resolve("batch_" + id.substring(0, 1) + ".json"),
                "{\"id\":\"" + id + "\",\"collector_type\":\"" + collectorType
                        + "\",\"state\":\"dead\",\"failure_reason\":\"" + reason
                        + "\",\"entries\":[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\"}]}");
    }

    @Test
    void are_set_aside_or_cut_off() throws IOException {
        document("a", "loki", "x".repeat(100_000));
        document("b", "t".repeat(70_000), "no");
        document("c".repeat(70_000), "loki", "no");

        for (int opening = 0; opening < 2; opening++) {
            try (BatchStore store = StoreKind.JSON_FILES.open(
                    DiskStoreOptions.builder(directory).build())) {
                assertThat(store.list(BatchSelector.all(), NOW))
                        .singleElement()
                        .satisfies(batch -> assertThat(batch.failureReason()).hasSize(4_096))
                        .extracting(BatchSummary::id)
                        .isEqualTo("a");
                assertThat(store.stats().total().isBalanced()).isTrue();
                assertThat(store.stats().total().corrupt()).isEqualTo(2);
            }
        }
    }
}
