package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.test.InMemoryBatchStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Bad input gets a clear error that says what to change. Existing data stays intact. */
class BadInputTest {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05.678901234Z");
    private static final List<LogEntry> ENTRIES = List.of(LogEntry.of(NOW, "INFO", "kept"));

    @TempDir
    private Path directory;

    private BatchPersistence persistence;

    @BeforeEach
    void open() {
        persistence = open(directory.resolve("batches"));
        persistence.persistBatch("good", ENTRIES, "loki");
    }

    private static BatchPersistence open(Path path) {
        return BatchPersistenceEngine.builder(
                        DiskBatchStores.segment(DiskStoreOptions.builder(path).build()))
                .build();
    }

    private static void assertRefused(ThrowingCallable call, String why) {
        assertThatIllegalArgumentException().isThrownBy(call).withMessageContaining(why);
    }

    @AfterEach
    void whatWasThereIsUnharmed() {
        assertThat(persistence.find("good"))
                .hasValueSatisfying(batch -> assertThat(batch.entries()).isEqualTo(ENTRIES));
        assertThat(persistence.stats().total().isBalanced()).isTrue();
        persistence.close();
    }

    @Test
    void blank_and_overlong_names() {
        for (String blank : Arrays.asList(null, "", "  ", "\t\n")) {
            assertRefused(() -> persistence.persistBatch(blank, ENTRIES, "loki"), "batch id must not be");
            assertRefused(() -> persistence.persistBatch("a", ENTRIES, blank), "collector type must not be");
        }
        assertRefused(
                () -> persistence.persistBatch("x".repeat(256), ENTRIES, "loki"),
                "at most 255 characters, but has 256");
        persistence.persistBatch("x".repeat(255), ENTRIES, "loki");
        assertThat(persistence.find("x".repeat(255))).isPresent();
        assertRefused(() -> persistence.persistBatch("half \uD83D", ENTRIES, "loki"), "unpaired surrogate");
    }

    @Test
    void names_that_no_batch_can_have_are_refused_everywhere_and_unknown_to_marks() {
        for (String name : List.of("x".repeat(256), "x".repeat(70_000), " ", "half \uD83D")) {
            List<ThrowingCallable> refused = List.of(
                    () -> persistence.pause(name),
                    () -> persistence.resume(name),
                    () -> BatchPersistenceEngine.disabled().pause(name),
                    () -> BatchPersistenceEngine.disabled().resume(name),
                    () -> BatchSelector.all().ids("a", name),
                    () -> BatchSelector.all().collectorTypes("loki", name));
            assertThat(refused)
                    .allSatisfy(call -> assertThatThrownBy(call).isInstanceOf(IllegalArgumentException.class));
            assertThat(persistence.markBatchSuccess(name)).isFalse();
            assertThat(persistence.markBatchFailed(name, "why")).isFalse();
            assertThat(persistence.releaseBatch(name)).isFalse();
            assertThat(persistence.find(name)).isEmpty();
        }
        assertThat(persistence.pausedCollectorTypes()).isEmpty();
        persistence.cleanup();
    }

    @Test
    void an_overlong_context_or_glob() {
        assertRefused(
                () -> persistence.persistBatch(
                        "a", ENTRIES, "loki", Map.of("k".repeat(30_000), "v".repeat(35_000), "k", "v".repeat(536))),
                "the context has 65537 characters, but can have at most 65536");
        assertRefused(
                () -> BatchSelector.all().failureReason("*".repeat(8_193)), "at most 8192 characters, but has 8193");
        assertThatThrownBy(() -> BatchPersistenceEngine.builder(new InMemoryBatchStore())
                        .excludeFailureReasons(List.of("?".repeat(8_193))))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void duplicate_ids() {
        assertThatThrownBy(() ->
                        persistence.persistBatch("good", List.of(LogEntry.of(NOW, "INFO", "another")), "elasticsearch"))
                .isInstanceOf(DuplicateBatchException.class)
                .hasMessageContaining("'good' is already stored");
    }

    @Test
    void path_like_ids_are_ids_and_nothing_else() throws Exception {
        List<String> ids =
                List.of("../../etc/passwd", "/etc/passwd", "..", "C:\\x", "a\0b", "%2e%2e", "lock", "a/b/../c");
        for (String id : ids) {
            persistence.persistBatch(id, ENTRIES, "../" + id);
            assertThat(persistence.find(id))
                    .hasValueSatisfying(batch -> assertThat(batch.id()).isEqualTo(id));
        }
        try (var files = Files.list(directory)) {
            assertThat(files).as("nothing beside the store's directory").containsExactly(directory.resolve("batches"));
        }
        ids.forEach(id -> assertThat(persistence.markBatchSuccess(id)).isTrue());
    }

    @Test
    void no_entries_and_null_entries() {
        assertRefused(() -> persistence.persistBatch("a", List.of(), "loki"), "a batch has at least one entry");
        assertRefused(() -> persistence.persistBatch("a", null, "loki"), "entries must not be null");
        assertRefused(
                () -> persistence.persistBatch("a", Arrays.asList(ENTRIES.get(0), null), "loki"),
                "entry 1 of 2 is null");
        assertThat(persistence.find("a")).isEmpty();
    }

    @Test
    void null_fields() {
        assertThatThrownBy(() -> LogEntry.of(null, "INFO", "x")).hasMessageContaining("timestamp must not be null");
        assertThatThrownBy(() -> LogEntry.of(NOW, "INFO", null)).hasMessageContaining("message must not be null");
        Map<String, String> label = new HashMap<>();
        label.put("app", null);
        assertThatThrownBy(() -> LogEntry.builder(NOW, "x").labels(label).build())
                .hasMessageContaining("label 'app' must not be null");
        assertRefused(() -> LogEntry.builder(NOW, "x").field("at", NOW).build(), "fields.at is a java.time.Instant");
        assertRefused(
                () -> LogEntry.builder(NOW, "x").field("ratio", Double.NaN).build(), "fields.ratio is NaN");
        assertRefused(() -> LogEntry.of(Instant.MAX, "INFO", "x"), "out of range");
        LogEntry jsonNull = LogEntry.builder(NOW, "x").field("nothing", null).build();
        persistence.persistBatch("null-field", List.of(jsonNull), "loki");
        assertThat(persistence.find("null-field"))
                .hasValueSatisfying(batch -> assertThat(batch.entries()).containsExactly(jsonNull));
    }

    @Test
    void a_batch_of100_megabytes_is_kept() {
        String megabyte = "0123456789".repeat(100_000);
        List<LogEntry> large = IntStream.range(0, 100)
                .mapToObj(number -> LogEntry.of(NOW, "INFO", number + megabyte))
                .toList();
        persistence.persistBatch("large", large, "loki");
        persistence.persistBatch("small", List.of(LogEntry.of(NOW, "INFO", "x")), "loki");
        assertThat(persistence.find("large"))
                .hasValueSatisfying(
                        batch -> assertThat(batch.entries().equals(large)).isTrue());
        assertThat(persistence.markBatchSuccess("large")).isTrue();
        assertThat(persistence.find("small")).isPresent();
    }

    @Test
    void lone_surrogates_and_control_characters() {
        LogEntry odd =
                LogEntry.of(NOW, "INFO", "a\uD800b \uDC00 \u0000\u0001\u001B[31m \r\n\t \u2028 \uFFFF \uD83D\uDE00");
        assertThat(odd.message())
                .as("what no wire format can carry is replaced where a caller can see it")
                .isEqualTo("a\uFFFDb \uFFFD \u0000\u0001\u001B[31m \r\n\t \u2028 \uFFFF \uD83D\uDE00");
        persistence.persistBatch("odd", List.of(odd), "loki", Map.of("k\uD800", "v\u0000"));
        assertThat(persistence.find("odd")).hasValueSatisfying(batch -> {
            assertThat(batch.entries()).containsExactly(odd);
            assertThat(batch.context()).isEqualTo(Map.of("k\uFFFD", "v\u0000"));
        });
    }

    @Test
    void marks_on_unknown_ids_change_nothing() {
        assertThat(persistence.markBatchSuccess("unknown")).isFalse();
        assertThat(persistence.markBatchFailed("unknown", "why")).isFalse();
        assertThat(persistence.stats().total().delivered()).isZero();
    }

    @Test
    void directories_that_can_not_be_used() throws Exception {
        Path file = Files.writeString(directory.resolve("file"), "a file");
        assertThatThrownBy(() -> open(file))
                .isInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining(file.toString())
                .hasMessageContaining("is a file; remove it or choose another directory");
        // Nothing, not even root, can create a directory below a file. Tests often run as root.
        assertThatThrownBy(() -> open(file.resolve("below")))
                .isInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining("can't be created")
                .hasMessageContaining("choose another directory");
        assertThat(file).hasContent("a file");
    }

    @Test
    void negative_durations_and_zero_limits() {
        DiskStoreOptions.Builder options = DiskStoreOptions.builder(directory);
        assertThatThrownBy(() -> options.maxBatches(0).build()).hasMessageContaining("max pending batches must be");
        options.maxBatches(1);
        assertThatThrownBy(() -> options.maxDiskUsage(0).build())
                .hasMessageContaining("max disk usage must be at least");
        options.maxDiskUsage(1 << 20);
        assertThatThrownBy(() -> options.syncInterval(Duration.ofMillis(-1)).build())
                .hasMessageContaining("sync interval must be positive");
        assertThatThrownBy(() -> new RecoveryPolicy(Duration.ofSeconds(-1), 2, Duration.ofMinutes(1), 0, 1))
                .hasMessageContaining("backoff base must be positive");
        assertThatThrownBy(() -> new RecoveryPolicy(Duration.ofSeconds(1), 2, Duration.ofMinutes(1), 0, 0))
                .hasMessageContaining("max retries must be at least 1");
        CollectorSettings ok = CollectorSettings.DEFAULT;
        assertThatThrownBy(() -> new CollectorSettings(
                        Duration.ofSeconds(-5),
                        ok.batchTtl(),
                        ok.deadLetterTtl(),
                        ok.retry(),
                        true,
                        1,
                        0,
                        ok.order(),
                        3,
                        ok.maxRetryAfter(),
                        false))
                .hasMessageContaining("batch timeout must be positive");
    }
}
