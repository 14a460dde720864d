package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.container.Workload;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Small file systems that are mounted for the test: full, out of inodes, read-only. Needs root to mount them. Elsewhere
 * it is skipped with a message.
 */
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class MountedDiskTest {

    private static final String COLLECTOR = "loki";

    @TempDir
    Path temp;

    private final List<Path> mounted = new ArrayList<>();
    /** Acknowledged batches without a mark, with their number of entries. */
    private final Map<String, Integer> held = new LinkedHashMap<>();

    private final Set<String> marked = new HashSet<>();
    private Path disk;
    private Path directory;
    private BatchPersistenceEngine engine;
    private int lastId;

    private void mount(String name, String... arguments) throws Exception {
        disk = Files.createDirectories(temp.resolve(name));
        directory = disk.resolve("batches");
        List<String> command = new ArrayList<>(List.of("mount"));
        command.addAll(List.of(arguments));
        command.add(disk.toString());
        String problem = run(command);
        assumeTrue(problem == null, "can't mount a file system here, so this is not tested: " + problem);
        mounted.add(disk);
    }

    private static String run(List<String> command) throws InterruptedException {
        try {
            Process process =
                    new ProcessBuilder(command).redirectErrorStream(true).start();
            String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            return process.waitFor() == 0 ? null : String.join(" ", command) + ": " + said.strip();
        } catch (IOException e) {
            return e.toString();
        }
    }

    @AfterEach
    void unmount() throws InterruptedException {
        if (engine != null) {
            engine.close();
        }
        while (!mounted.isEmpty()) {
            unmountLast("-l");
        }
    }

    private void unmountLast(String... options) throws InterruptedException {
        List<String> command = new ArrayList<>(List.of("umount"));
        command.addAll(List.of(options));
        command.add(mounted.remove(mounted.size() - 1).toString());
        assertThat(run(command)).isNull();
    }

    private void open(StoreKind kind) {
        DiskStoreOptions options =
                DiskStoreOptions.builder(directory).segmentSize(64 << 10).build();
        engine = BatchPersistenceEngine.builder(kind.open(options)).build();
    }

    private Throwable persist(int size) {
        String id = "b" + ++lastId;
        Throwable thrown = catchThrowable(() -> engine.persistBatch(id, Workload.entries(id, size), COLLECTOR));
        if (thrown == null) {
            held.put(id, size);
        } else {
            assertThat(thrown)
                    .isExactlyInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining(id);
            assertThat(engine.find(id)).as("the refused one").isEmpty();
        }
        return thrown;
    }

    private Throwable persistUntilRefused(int size) {
        Throwable refused;
        do {
            refused = persist(size);
        } while (refused == null);
        return refused;
    }

    private void mark(int count) {
        for (String id : new ArrayList<>(held.keySet()).subList(0, count)) {
            assertThat(engine.markBatchSuccess(id)).as(id).isTrue();
            held.remove(id);
            marked.add(id);
        }
    }

    private void allIsThere() {
        assertThat(engine.list(BatchSelector.all()))
                .extracting(BatchSummary::id)
                .containsExactlyInAnyOrderElementsOf(held.keySet());
        held.forEach((id, size) ->
                assertThat(engine.find(id)).as(id).map(PersistedBatch::entries).contains(Workload.entries(id, size)));
        BatchStats stats = engine.stats();
        assertThat(stats.total().isBalanced()).isTrue();
        assertThat(stats.total().corrupt()).isZero();
        assertThat(stats.total().accepted()).isEqualTo(held.size() + (long) marked.size());
    }

    private static void say(String line) {
        System.out.println(line);
    }

    @ParameterizedTest
    @EnumSource
    void on_a_full_disk_persists_are_refused_marks_go_on_and_space_they_free_is_used(StoreKind kind) throws Exception {
        mount("full", "-t", "tmpfs", "-o", "size=1m", "batches");
        Path others = Files.write(disk.resolve("others"), new byte[150 << 10]);
        open(kind);
        fill();
        int before = held.size();
        Throwable refused = persist(1);
        assertThat(refused).hasRootCauseInstanceOf(IOException.class).hasMessageContaining("No space left on device");
        assertThat(engine.stats().problem()).contains("No space left on device");
        allIsThere();
        say("full disk, %s: %d batches acknowledged, then: %s".formatted(kind, before, refused.getMessage()));

        // Open the store on the full disk, with marks that no cleanup followed.
        mark(3);
        engine.close();
        open(kind);
        allIsThere();

        mark(held.size() / 2);
        engine.cleanup();
        long freed = free();
        assertThat(freed).as("bytes given back").isGreaterThan(64 << 10);
        while (free() > freed / 2) {
            assertThat(persist(1)).as("it goes on by itself").isNull();
        }
        assertThat(engine.stats().problem()).isNull();
        allIsThere();
        say("full disk, %s: marks freed %,d bytes, persisting went on, %d held, %d delivered, 0 lost"
                .formatted(kind, freed, held.size(), marked.size()));

        // Others free the space.
        fill();
        assertThat(persist(1)).isNotNull();
        Files.delete(others);
        assertThat(persist(20)).isNull();
        assertThat(engine.stats().problem()).isNull();
        engine.close();
        open(kind);
        allIsThere();
    }

    /** Fills the disk to the last byte. */
    private void fill() throws IOException {
        while (free() > 0) {
            persistUntilRefused(200);
            persistUntilRefused(1);
            try (OutputStream out = new FileOutputStream(disk.resolve("ballast").toFile(), true)) {
                while (free() > 0) {
                    out.write(new byte[4096]);
                }
            }
        }
    }

    private long free() throws IOException {
        return Files.getFileStore(disk).getUsableSpace();
    }

    @ParameterizedTest
    @EnumSource
    void out_of_inodes_it_is_as_on_a_full_disk_though_there_is_space(StoreKind kind) throws Exception {
        mount("inodes", "-t", "tmpfs", "-o", "size=64m,nr_inodes=40", "batches");
        open(kind);
        Throwable refused = persistUntilRefused(50);
        assertThat(refused).hasMessageContaining("No space left on device");
        assertThat(free()).as("there is space").isGreaterThan(10 << 20);
        assertThat(engine.stats().problem()).contains("No space left on device");
        allIsThere();
        say("out of inodes, %s: %d batches acknowledged, then: %s".formatted(kind, held.size(), refused.getMessage()));
        engine.close();
        open(kind);
        allIsThere();
        mark(held.size() / 2);
        engine.cleanup();
        for (int i = 0; i < 5; i++) {
            assertThat(persist(1)).as("it goes on by itself").isNull();
        }
        assertThat(engine.stats().problem()).isNull();
        engine.close();
        open(kind);
        allIsThere();
    }

    /** An administrator remounts: open files stay writable, but nothing can be created, renamed or deleted. */
    @ParameterizedTest
    @EnumSource
    void remounted_read_only_and_back(StoreKind kind) throws Exception {
        mount("read-only", "-t", "tmpfs", "-o", "size=8m", "batches");
        open(kind);
        for (int i = 0; i < 20; i++) {
            assertThat(persist(5)).isNull();
        }
        Path same = disk;
        mount("read-only", "--bind", "-o", "ro", same.toString());
        Throwable refused = persistUntilRefused(50);
        assertThat(refused).hasMessageContaining("Read-only file system");
        assertThat(engine.stats().problem()).contains("Read-only file system");
        say("read-only, %s: %s".formatted(kind, refused.getMessage()));
        mark(10);
        engine.cleanup();
        allIsThere();
        unmountLast("-l");
        assertThat(persist(50)).as("it goes on by itself").isNull();
        assertThat(engine.stats().problem()).isNull();
        engine.cleanup();
        engine.close();
        open(kind);
        allIsThere();
    }

    /** After a device error ext4 remounts itself read-only. Then not even open files are writable. */
    @ParameterizedTest
    @EnumSource
    void ext4_that_has_gone_read_only_after_an_error(StoreKind kind) throws Exception {
        Path image = temp.resolve("image");
        try (RandomAccessFile file = new RandomAccessFile(image.toFile(), "rw")) {
            file.setLength(16 << 20);
        }
        String problem = run(List.of("mkfs.ext4", "-q", "-F", image.toString()));
        assumeTrue(problem == null, "can't make an ext4 here, so this is not tested: " + problem);
        mount("ext4", "-o", "loop", image.toString());
        open(kind);
        for (int i = 0; i < 20; i++) {
            assertThat(persist(5)).isNull();
        }
        mark(5);
        // These marks are durable. Those after the error cannot be.
        engine.cleanup();
        assertThat(run(List.of("mount", "-o", "remount,abort", disk.toString())))
                .isNull();
        Throwable refused = persistUntilRefused(5);
        assertThat(refused).hasMessageContaining("Read-only file system");
        assertThat(engine.stats().problem()).contains("Read-only file system");
        allIsThere();
        engine.cleanup();
        engine.close();
        say("ext4 with an error, %s: %s".formatted(kind, refused.getMessage()));
        unmountLast();
        mount("ext4", "-o", "loop", image.toString());
        open(kind);
        allIsThere();
        assertThat(persist(5)).isNull();
    }
}
