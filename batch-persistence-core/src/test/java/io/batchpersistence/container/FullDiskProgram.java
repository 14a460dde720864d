package io.batchpersistence.container;

import static io.batchpersistence.container.Workload.COLLECTOR;
import static io.batchpersistence.container.Workload.entries;
import static io.batchpersistence.container.Workload.say;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** Runs in the container with a small disk at {@code args[0]}. Exits with status 0 if all checks pass. */
final class FullDiskProgram {

    private static final int REFUSALS = 10;

    private final Path disk;
    private final Path directory;
    private final Path ballast;
    /** Acknowledged batches without a mark, with their number of entries. */
    private final Map<String, Integer> held = new LinkedHashMap<>();

    private final Set<String> marked = new LinkedHashSet<>();
    private BatchPersistenceEngine engine;
    private int lastId;

    private FullDiskProgram(Path disk) {
        this.disk = disk;
        this.directory = disk.resolve("batches");
        this.ballast = disk.resolve("ballast");
        this.engine = Workload.open(directory);
    }

    public static void main(String[] args) throws IOException {
        FullDiskProgram program = new FullDiskProgram(Path.of(args[0]));
        program.run();
        say("passed");
    }

    private void run() throws IOException {
        fill();
        refuses();
        allIsThere("before the disk was full, read on the full disk");

        for (int time = 1; time <= 2; time++) {
            markEveryThird();
            assertThat(usable())
                    .as("bytes given back by marks that empty no segment")
                    .isZero();
            engine.close();
            engine = Workload.open(directory);
            assertThat(engine.stats().problem()).as("opened on the full disk").isNull();
            allIsThere("and not marked, after opening on the full disk (%d)".formatted(time));
        }

        markOldestHalf();
        assertThat(engine.cleanup()).isZero();
        assertThat(usable()).as("bytes given back by the delivered batches").isGreaterThan(512 << 10);
        say("marked; %,d of %,d bytes are free again".formatted(usable(), total()));

        goesOn();
        allIsThere("and not marked, after persisting went on");

        fill();
        refuses();
        markOldestHalf();
        engine.close();
        Files.delete(ballast);
        engine = Workload.open(directory);
        allIsThere("and not marked, after the second time the disk was full");
        engine.close();
    }

    /** Fills the disk until neither a large batch, a small batch, nor one byte of another file fits. */
    private void fill() throws IOException {
        int before = held.size();
        do {
            persistUntilRefused(100);
            persistUntilRefused(1);
        } while (fillWithBallast());
        assertThat(usable()).as("usable bytes").isZero();
        say("%,d batches acknowledged, then the disk of %,d bytes was full".formatted(held.size() - before, total()));
    }

    private void persistUntilRefused(int size) {
        for (int refused = 0; refused < REFUSALS; ) {
            String id = "batch-" + ++lastId;
            Throwable failure = catchThrowable(() -> engine.persistBatch(id, entries(id, size), COLLECTOR));
            if (failure == null) {
                held.put(id, size);
            } else {
                assertThat(failure).isExactlyInstanceOf(BatchPersistenceException.class);
                refused++;
            }
        }
    }

    /** Simulates another process that writes to the disk. Returns whether there was space. */
    private boolean fillWithBallast() throws IOException {
        long before = Files.exists(ballast) ? Files.size(ballast) : 0;
        byte[] page = new byte[4096];
        try (OutputStream out = new FileOutputStream(ballast.toFile(), true)) {
            while (usable() > 0) {
                out.write(page);
            }
        }
        return Files.size(ballast) > before;
    }

    private void refuses() {
        String id = "batch-" + ++lastId;
        assertThatRefused(id);
        assertThat(engine.find(id)).as("the refused batch").isEmpty();
        assertThat(engine.stats().problem()).contains("No space left on device");
        // A refused batch still belongs to the caller, who may retry it with the same id.
        assertThatRefused(id);
    }

    private void assertThatRefused(String id) {
        Throwable failure = catchThrowable(() -> engine.persistBatch(id, entries(id, 1), COLLECTOR));
        assertThat(failure)
                .isExactlyInstanceOf(BatchPersistenceException.class)
                .hasMessageContainingAll(id, directory.toString(), "No space left on device")
                .hasRootCauseInstanceOf(IOException.class);
        say("refused: " + failure.getMessage());
    }

    private void markEveryThird() {
        int i = 0;
        for (String id : new ArrayList<>(held.keySet())) {
            if (i++ % 3 == 0) {
                mark(id);
            }
        }
    }

    private void markOldestHalf() {
        new ArrayList<>(held.keySet()).subList(0, held.size() / 2).forEach(this::mark);
    }

    private void mark(String id) {
        assertThat(engine.markBatchSuccess(id)).as("mark of %s", id).isTrue();
        held.remove(id);
        marked.add(id);
    }

    /** The store recovers on its own once batches are persisted. */
    private void goesOn() {
        for (int i = 0; i < 20; i++) {
            String id = "batch-" + ++lastId;
            engine.persistBatch(id, entries(id, 100), COLLECTOR);
            held.put(id, 100);
        }
        assertThat(engine.stats().problem()).isNull();
        say("20 more batches acknowledged; no problem reported any more");
    }

    private void allIsThere(String which) {
        held.forEach((id, size) ->
                assertThat(engine.find(id)).as(id).map(PersistedBatch::entries).contains(entries(id, size)));
        assertThat(engine.list(BatchSelector.all().limit(1_000_000)))
                .extracting(BatchSummary::id)
                .containsExactlyInAnyOrderElementsOf(held.keySet());
        CollectorStats stats = engine.stats().collector(COLLECTOR);
        assertThat(stats.isBalanced()).as("balance of %s", stats).isTrue();
        assertThat(stats.accepted()).isEqualTo(held.size() + (long) marked.size());
        assertThat(stats.delivered()).isEqualTo(marked.size());
        assertThat(stats.corrupt()).isZero();
        say("intact: all %,d batches acknowledged %s; %,d marked ones are gone; %s"
                .formatted(held.size(), which, marked.size(), stats));
    }

    private long usable() throws IOException {
        return Files.getFileStore(disk).getUsableSpace();
    }

    private long total() throws IOException {
        return Files.getFileStore(disk).getTotalSpace();
    }
}
