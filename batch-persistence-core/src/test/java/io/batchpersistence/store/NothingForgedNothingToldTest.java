package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.classic.spi.IThrowableProxy;
import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.LoggerFactory;
import org.slf4j.MDC;

/**
 * Ids, collector types, reasons and exceptions come from outside, and entries are confidential. Log lines must neither
 * be forged by the former nor contain the latter.
 */
class NothingForgedNothingToldTest {

    private static final String FORGED = "x\n2026-01-01 ERROR forged\r\u001B[31m\u202E\u2028y";
    private static final String SECRET = "hunter2";

    @TempDir
    Path directory;

    private final ManualClock clock = new ManualClock();
    private final Logger root = (Logger) LoggerFactory.getLogger("io.batchpersistence");

    @RegisterExtension
    final LogCapture logged = new LogCapture("io.batchpersistence");

    private final List<String> printed = new ArrayList<>();
    private final Map<String, @Nullable String> contextOfLog = new LinkedHashMap<>();

    @BeforeEach
    void listen() {
        root.setLevel(Level.TRACE);
        root.setAdditive(false);
    }

    @AfterEach
    void leave() {
        root.setAdditive(true);
        root.setLevel(null);
    }

    private BatchPersistence open(StoreKind kind) {
        RecoveryTarget target = recovered -> {
            contextOfLog.putAll(Objects.requireNonNull(MDC.getCopyOfContextMap()));
            printed.add(recovered.toString());
            printed.add(recovered.batch().toString());
            if (recovered.batch().id().endsWith("dead")) {
                throw new PermanentDeliveryException("rejected: " + FORGED);
            }
            if (recovered.batch().id().endsWith("error")) {
                throw new AssertionError("error: " + FORGED, new IOException(FORGED));
            }
            throw new IOException("failed: " + FORGED, new IllegalStateException(FORGED));
        };
        return BatchPersistenceEngine.builder(kind.open(
                        DiskStoreOptions.builder(directory).clock(clock).build()))
                .targets(type -> target)
                .clock(clock)
                .executor(Runnable::run)
                .listener(new BatchListener() {
                    @Override
                    public void onDeadLettered(BatchSummary batch) {
                        printed.add(batch.toString());
                        throw new IllegalStateException(FORGED);
                    }

                    @Override
                    public void onExpired(BatchSummary batch) {
                        printed.add(batch.toString());
                    }

                    @Override
                    public void onCorrupted(Corruption damage) {
                        printed.add(damage.toString());
                        printed.add(damage.reason());
                    }
                })
                .build();
    }

    private List<LogEntry> secret() {
        return List.of(LogEntry.builder(clock.instant(), "password=" + SECRET)
                .level(SECRET)
                .label("token", SECRET)
                .field("key", SECRET)
                .source(SECRET, SECRET)
                .trace(SECRET, SECRET)
                .build());
    }

    @ParameterizedTest
    @EnumSource
    void whatever_happens_to_a_batch(StoreKind kind) throws IOException {
        Map<String, String> context = Map.of("authorization", SECRET);
        BatchPersistence persistence = open(kind);
        for (String end : List.of("", "dead", "error", "late")) {
            persistence.persistBatch(FORGED + end, secret(), FORGED, context);
            persistence.releaseBatch(FORGED + end);
        }
        persistence.persistBatch("times out " + FORGED, secret(), FORGED, context);
        assertThatThrownBy(() -> persistence.persistBatch(FORGED, secret(), FORGED))
                .isInstanceOf(DuplicateBatchException.class)
                .satisfies(thrown -> printed.add(thrown.toString()));
        for (int i = 0; i < 5; i++) {
            clock.advance(Duration.ofMinutes(6));
            persistence.recover();
        }
        assertThat(persistence.count(BatchSelector.all().states(BatchState.DEAD)))
                .as("what was rejected is a dead letter")
                .isPositive();
        persistence.list(BatchSelector.all()).forEach(batch -> printed.add(batch.toString() + batch.failureReason()));
        persistence.find(FORGED).ifPresent(batch -> printed.add(batch.toString() + batch.entries()));
        persistence.close();
        damage(kind);
        BatchPersistence again = open(kind);
        again.list(BatchSelector.all());
        clock.advance(Duration.ofDays(10));
        again.cleanup();
        again.close();

        for (ILoggingEvent event : logged.list) {
            printed.add(event.getFormattedMessage());
            for (IThrowableProxy thrown = event.getThrowableProxy(); thrown != null; thrown = thrown.getCause()) {
                printed.add(thrown.getClassName() + ": " + thrown.getMessage());
            }
        }
        assertThat(contextOfLog).isNotEmpty();
        printed.addAll(contextOfLog.values().stream().map(String::valueOf).toList());

        assertThat(printed)
                .as("something was printed")
                .anyMatch(line -> line.contains("forged"))
                .anyMatch(line -> line.contains("dead letters"))
                .anyMatch(line -> line.contains("Damage in"));
        assertThat(printed).allSatisfy(line -> {
            assertThat(line.lines()).hasSizeLessThan(2);
            assertThat(line).doesNotContain("\n", "\r", "\u001B", "\u202E", "\u2028");
            assertThat(line).doesNotContain(SECRET);
        });
    }

    /** Makes the store detect damage while it reads the confidential payload. */
    private void damage(StoreKind kind) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                if (kind == StoreKind.SEGMENT && file.toString().endsWith(".segment")) {
                    byte[] bytes = Files.readAllBytes(file);
                    bytes[70] ^= 0x55;
                    Files.write(file, Arrays.copyOf(bytes, bytes.length - 8));
                } else if (file.toString().endsWith(".json")) {
                    String text = Files.readString(file, StandardCharsets.UTF_8);
                    Files.writeString(file, text.replace("\"" + SECRET + "\"", SECRET));
                }
            }
        }
        if (kind == StoreKind.JSON_FILES) {
            Files.writeString(
                    directory.resolve("batch_a\nERROR forged\u001B[31m.json"),
                    "{\"id\":\"a\",\"collector_type\":\"b\",\"created_at\":\"" + SECRET + "\",\"entries\":[]}");
            Files.writeString(
                    directory.resolve("batch_time.json"),
                    "{\"id\":\"a\",\"collector_type\":\"b\",\"entries\":[{\"message\":\"m\",\"timestamp\":\"" + SECRET
                            + "\"}]}");
            Files.writeString(directory.resolve("batch_number.json"), "{\"retry_count\":" + SECRET + "}");
        }
    }
}
