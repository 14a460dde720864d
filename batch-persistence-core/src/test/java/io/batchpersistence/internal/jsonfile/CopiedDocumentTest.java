package io.batchpersistence.internal.jsonfile;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.GeneratedBatch;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A person copies a document, to read it or as a backup. */
class CopiedDocumentTest extends DiskStoreFixture {

    @ParameterizedTest
    // Before it, after it, and over another one.
    @ValueSource(strings = {"batch_a.json", "batch_z.json", "batch_b.json"})
    void is_the_same_batch_and_not_lost(String copy) throws IOException {
        try (BatchStore store = open(StoreKind.JSON_FILES)) {
            append(store, "m", "b");
        }
        Files.write(directory.resolve(copy), Files.readAllBytes(directory.resolve("batch_m.json")));
        for (int opening = 0; opening < 3; opening++) {
            try (BatchStore store = open(StoreKind.JSON_FILES)) {
                assertThat(store.list(ALL.ids("m"), now()))
                        .extracting(BatchSummary::id)
                        .containsExactly("m");
                assertThat(store.find("m").orElseThrow().entries()).isEqualTo(GeneratedBatch.entries("m"));
                assertThat(store.stats().total().isBalanced()).isTrue();
            }
        }
    }

    /** A flipped bit gives a document the id of another one that was persisted before or after it. */
    @ParameterizedTest
    @CsvSource({"batch 35, batch 15", "batch 15, batch 35"})
    void that_has_got_the_id_of_another_one_costs_only_itself(String damaged, String other) throws IOException {
        try (BatchStore store = open(StoreKind.JSON_FILES)) {
            append(store, "batch 15", "batch 35");
        }
        Path document = directory.resolve(JsonBatchFile.name(damaged));
        String changed =
                Files.readString(document).replace("\"id\" : \"" + damaged + "\"", "\"id\" : \"" + other + "\"");
        Files.writeString(document, changed);
        for (int opening = 0; opening < 3; opening++) {
            try (BatchStore store = open(StoreKind.JSON_FILES)) {
                assertThat(ids(store)).containsExactly(other);
                assertThat(store.find(other).orElseThrow().entries()).isEqualTo(GeneratedBatch.entries(other));
                CollectorStats total = store.stats().total();
                assertThat(total.isBalanced()).isTrue();
                assertThat(total.accepted()).isEqualTo(2);
                assertThat(store.stats()
                                .collectors()
                                .get(GeneratedBatch.collectorType(damaged))
                                .corrupt())
                        .isEqualTo(1);
            }
        }
        assertThat(reports).singleElement().satisfies(report -> {
            assertThat(report.file()).isEqualTo(document);
            assertThat(report.batches()).isEqualTo(1);
            assertThat(Files.readString(report.quarantinedTo())).isEqualTo(changed);
        });
        assertThat(document).doesNotExist();
    }
}
