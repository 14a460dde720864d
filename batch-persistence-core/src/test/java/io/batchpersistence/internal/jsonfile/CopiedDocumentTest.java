package io.batchpersistence.internal.jsonfile;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.GeneratedBatch;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A person copies a document, to read it or as a backup. */
class CopiedDocumentTest {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    @TempDir
    Path directory;

    private BatchStore open() {
        return StoreKind.JSON_FILES.open(DiskStoreOptions.builder(directory).build());
    }

    @ParameterizedTest
    // Before it, after it, and over another one.
    @ValueSource(strings = {"batch_a.json", "batch_z.json", "batch_b.json"})
    void is_the_same_batch_and_not_lost(String copy) throws IOException {
        try (BatchStore store = open()) {
            for (String id : new String[] {"m", "b"}) {
                store.append(GeneratedBatch.of(id, NOW, NOW.plusSeconds(60))).join();
            }
        }
        Files.write(directory.resolve(copy), Files.readAllBytes(directory.resolve("batch_m.json")));
        for (int opening = 0; opening < 3; opening++) {
            try (BatchStore store = open()) {
                assertThat(store.list(BatchSelector.all().ids("m"), NOW))
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
        try (BatchStore store = open()) {
            for (String id : new String[] {"batch 15", "batch 35"}) {
                store.append(GeneratedBatch.of(id, NOW, NOW.plusSeconds(60))).join();
            }
        }
        Path document = directory.resolve(JsonBatchFile.name(damaged));
        String changed =
                Files.readString(document).replace("\"id\" : \"" + damaged + "\"", "\"id\" : \"" + other + "\"");
        Files.writeString(document, changed);
        List<Corruption> reports = new ArrayList<>();
        for (int opening = 0; opening < 3; opening++) {
            try (BatchStore store = open()) {
                store.onCorruption(reports::add);
                assertThat(store.list(BatchSelector.all(), NOW))
                        .extracting(BatchSummary::id)
                        .containsExactly(other);
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
