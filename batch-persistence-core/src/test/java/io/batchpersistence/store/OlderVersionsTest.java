package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.TreeSet;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Opens directories of each version of the formats and delivers their batches. {@link FixtureWriter} wrote them. */
class OlderVersionsTest {

    private static final Instant NOW = FixtureWriter.THEN.plusSeconds(3_600);
    private static final BatchSelector ALL = BatchSelector.all();

    @TempDir
    Path directory;

    private BatchStore open(StoreKind kind) {
        BatchStore store = kind.open(DiskStoreOptions.builder(directory)
                .clock(Clock.fixed(NOW, ZoneOffset.UTC))
                .build());
        store.onCorruption(corruption -> {
            throw new AssertionError(corruption);
        });
        return store;
    }

    private void copy(String fixture) throws IOException, URISyntaxException {
        Path from = Path.of(Objects.requireNonNull(getClass().getResource("/fixtures/" + fixture), fixture)
                .toURI());
        try (Stream<Path> files = Files.list(from)) {
            for (Path file : files.toList()) {
                Files.copy(file, directory.resolve(file.getFileName().toString()));
            }
        }
    }

    private static List<String> ids(int... lastDigits) {
        return IntStream.range(0, FixtureWriter.BATCHES)
                .filter(i -> IntStream.of(lastDigits).anyMatch(digit -> i % 10 == digit))
                .mapToObj(FixtureWriter::id)
                .toList();
    }

    private static void assertWhole(PersistedBatch batch) {
        assertThat(batch.entries()).isEqualTo(GeneratedBatch.entries(batch.id()));
        assertThat(batch.context()).isEqualTo(GeneratedBatch.context(batch.id()));
        assertThat(batch.collectorType()).isEqualTo(GeneratedBatch.collectorType(batch.id()));
    }

    @ParameterizedTest
    @CsvSource({"SEGMENT,segment-1", "JSON_FILES,json_files-1"})
    void opens_and_delivers(StoreKind kind, String fixture) throws Exception {
        copy(fixture);

        try (BatchStore store = open(kind)) {
            assertState(store);
        }
        // As the current version left it.
        try (BatchStore store = open(kind)) {
            assertState(store);
            assertDelivers(store);
        }
        try (BatchStore store = open(kind)) {
            assertThat(store.count(ALL.states(BatchState.PENDING, BatchState.IN_FLIGHT), NOW))
                    .isEqualTo(6);
            assertThat(store.stats().total().isBalanced()).isTrue();
        }
    }

    private static void assertState(BatchStore store) {
        List<String> pending = new ArrayList<>(ids(3, 4, 7, 8, 9));
        pending.add("in flight");
        assertThat(store.list(ALL.states(BatchState.PENDING), NOW))
                .extracting(BatchSummary::id)
                .containsExactlyInAnyOrderElementsOf(pending);
        assertThat(store.list(ALL.states(BatchState.DEAD), NOW))
                .extracting(BatchSummary::id)
                .containsExactlyInAnyOrderElementsOf(ids(5));

        PersistedBatch failed = store.find("batch 13").orElseThrow();
        assertWhole(failed);
        assertThat(failed.retryCount()).isOne();
        assertThat(failed.failureReason()).isEqualTo("503 Service Unavailable");
        assertThat(failed.lastAttempt()).isEqualTo(FixtureWriter.THEN.plusMillis(13));
        assertThat(failed.nextAttemptAt()).isEqualTo(FixtureWriter.THEN.plusSeconds(13));
        PersistedBatch held = store.find("batch 54").orElseThrow();
        assertThat(held.retryCount()).isEqualTo(4);
        assertThat(held.failureReason()).isEqualTo("Überlast 54");
        assertThat(held.nextAttemptAt()).isNull();
        PersistedBatch dead = store.find("batch 45").orElseThrow();
        assertWhole(dead);
        assertThat(dead.retryCount()).isEqualTo(10);
        assertThat(dead.failureReason()).isEqualTo("400 Bad Request");

        assertThat(store.stats().total().accepted()).isEqualTo(FixtureWriter.BATCHES + 1);
        assertThat(store.stats().total().delivered()).isEqualTo(18);
        assertThat(store.stats().total().discarded()).isEqualTo(6);
        assertThat(store.stats().collectors().values()).allMatch(stats -> stats.isBalanced());
    }

    /** Delivers all batches except those that recovery must not send. */
    private static void assertDelivers(BatchStore store) {
        TreeSet<String> delivered = new TreeSet<>();
        for (String type : store.collectorTypes()) {
            for (BatchStore.Claim claim :
                    store.claim(type, BatchOrder.OLDEST_FIRST, NOW, NOW.plusSeconds(60), Integer.MAX_VALUE)) {
                assertWhole(claim.batch());
                assertThat(store.delivered(claim.batch().id())).isNotNull();
                delivered.add(claim.batch().id());
            }
        }
        TreeSet<String> due = new TreeSet<>(ids(3, 7, 8, 9));
        due.add("in flight");
        assertThat(delivered).isEqualTo(due);
    }
}
