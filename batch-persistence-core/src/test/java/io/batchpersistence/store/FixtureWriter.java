package io.batchpersistence.store;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.segment.PlantedDictionary;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Stream;

/**
 * Writes the directories below {@code src/test/resources/fixtures}, which {@link OlderVersionsTest} opens. Run it once
 * for each version of the storage formats, before the format changes, with the code that still writes it:
 *
 * <pre>
 * mvn -B -q -pl batch-persistence-core test-compile dependency:build-classpath -Dmdep.outputFile=target/test.classpath
 * java -cp batch-persistence-core/target/test-classes:batch-persistence-core/target/classes:$(cat
 * batch-persistence-core/target/test.classpath) io.batchpersistence.store.FixtureWriter \
 * batch-persistence-core/src/test/resources/fixtures VERSION
 * </pre>
 *
 * <p>Each directory is left as after {@code kill -9}: sealed segments, an active one, a snapshot and a journal.
 */
final class FixtureWriter {

    /** The time of everything in a fixture. */
    static final Instant THEN = Instant.parse("2026-01-02T03:04:05.678Z");

    static final int BATCHES = 60;

    private FixtureWriter() {}

    public static void main(String[] args) throws IOException {
        Path fixtures = Path.of(args[0]);
        for (StoreKind kind : StoreKind.values()) {
            Path directory = Files.createTempDirectory("fixture");
            write(kind, directory, fixtures.resolve(kind.name().toLowerCase(Locale.ROOT) + "-" + args[1]));
        }
    }

    private static DiskStoreOptions options(Path directory, BatchFormat format, Compression compression) {
        return DiskStoreOptions.builder(directory)
                .segmentSize(4 << 10)
                .format(format)
                .compression(compression)
                .clock(Clock.fixed(THEN, ZoneOffset.UTC))
                .build();
    }

    private static void write(StoreKind kind, Path directory, Path fixture) throws IOException {
        if (kind == StoreKind.SEGMENT) {
            Files.write(directory.resolve(PlantedDictionary.FILE), PlantedDictionary.segment());
        }
        try (BatchStore store = kind.open(options(directory, BatchFormat.PROTOBUF, Compression.ZSTD))) {
            append(store, 0, BATCHES / 2);
            settle(store, 0, BATCHES / 2);
        }
        try (BatchStore store = kind.open(options(directory, BatchFormat.JSON, Compression.NONE))) {
            append(store, BATCHES / 2, BATCHES);
            settle(store, BATCHES / 2, BATCHES);
            store.append(GeneratedBatch.of("in flight", THEN, THEN.plusSeconds(60)))
                    .join();
            store.count(BatchSelector.all(), THEN);
            store.reclaim();
            awaitNoChange(directory);
            copy(directory, fixture);
        }
    }

    /** Housekeeping goes on for a while; a copy of several moments would be none of a directory. */
    private static void awaitNoChange(Path directory) throws IOException {
        Map<Path, FileTime> before = Map.of();
        for (Map<Path, FileTime> now = changed(directory); !now.equals(before); now = changed(directory)) {
            before = now;
            LockSupport.parkNanos(TimeUnit.SECONDS.toNanos(1));
        }
    }

    private static Map<Path, FileTime> changed(Path directory) throws IOException {
        Map<Path, FileTime> changed = new HashMap<>();
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                changed.put(file, Files.getLastModifiedTime(file));
            }
        } catch (NoSuchFileException e) {
            return Map.of(directory, FileTime.from(Instant.now()));
        }
        return changed;
    }

    private static void append(BatchStore store, int from, int to) {
        for (int i = from; i < to; i++) {
            store.append(GeneratedBatch.of(id(i), THEN.plusMillis(i), THEN.plusSeconds(60)))
                    .join();
        }
    }

    /**
     * Of ten batches three are delivered, two fail, one becomes a dead letter, one is discarded, and the others are not
     * sent.
     */
    private static void settle(BatchStore store, int from, int to) {
        for (int i = from; i < to; i++) {
            switch (i % 10) {
                case 0, 1, 2 -> store.delivered(id(i));
                case 3 -> fail(store, i, new Verdict(false, THEN.plusSeconds(i), 1), "503 Service Unavailable");
                case 4 -> fail(store, i, new Verdict(false, null, 4), "Überlast " + i);
                case 5 -> fail(store, i, new Verdict(true, null, 10), "400 Bad Request");
                case 6 -> store.discard(BatchSelector.all().ids(id(i)), THEN);
                default -> {
                    // In flight, so it is due after reopening.
                }
            }
        }
    }

    private static void fail(BatchStore store, int i, Verdict verdict, String reason) {
        store.failed(id(i), BatchStore.ANY_FENCE, reason, THEN.plusMillis(i), (type, retries) -> verdict);
    }

    static String id(int i) {
        return "batch " + i;
    }

    private static void copy(Path from, Path to) throws IOException {
        Files.createDirectories(to);
        try (Stream<Path> files = Files.list(from)) {
            List<Path> all = files.filter(file -> !file.endsWith("lock")).toList();
            for (Path file : all) {
                Files.copy(file, to.resolve(file.getFileName().toString()));
            }
        }
    }
}
