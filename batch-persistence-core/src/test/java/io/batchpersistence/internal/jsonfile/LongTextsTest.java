package io.batchpersistence.internal.jsonfile;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSummary;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.file.Files;
import org.junit.jupiter.api.Test;

/** Documents that were edited by hand may have texts that are too long for a journal. */
class LongTextsTest extends DiskStoreFixture {

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
            try (BatchStore store = open(StoreKind.JSON_FILES)) {
                assertThat(store.list(ALL, now()))
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
