package io.batchpersistence.store.file;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.store.DiskStoreOptions;
import io.batchpersistence.store.GeneratedBatch;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A person copies a document, to look at it or to be sure of it. */
class CopiedDocumentTest {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    @TempDir
    Path directory;

    private JsonFileBatchStore open() {
        return JsonFileBatchStore.open(DiskStoreOptions.builder(directory).build());
    }

    @ParameterizedTest
    @ValueSource(strings = {"batch_a.json", "batch_z.json", "batch_b.json"}) // before it, after it, over another one
    void isTheSameBatchAndNotLost(String copy) throws IOException {
        try (JsonFileBatchStore store = open()) {
            for (String id : new String[] {"m", "b"}) {
                store.append(GeneratedBatch.of(id, NOW, NOW.plusSeconds(60))).join();
            }
        }
        Files.write(directory.resolve(copy), Files.readAllBytes(directory.resolve("batch_m.json")));
        for (int opening = 0; opening < 3; opening++) {
            try (JsonFileBatchStore store = open()) {
                assertThat(store.list(BatchSelector.all().ids("m"), NOW))
                        .extracting(BatchSummary::id)
                        .containsExactly("m");
                assertThat(store.find("m").orElseThrow().entries()).isEqualTo(GeneratedBatch.entries("m"));
                assertThat(store.stats().total().isBalanced()).isTrue();
            }
        }
    }
}
