package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * The directory of an open store is deleted, moved or replaced. Its files stay open, so writing and forcing them would
 * succeed.
 */
class DirectoryGoneTest extends DiskStoreFixture {

    @TempDir
    Path temp;

    private BatchStore store;

    /** A directory that can be moved. */
    @BeforeEach
    void directory() {
        directory = temp.resolve("store");
    }

    @AfterEach
    void close() {
        store.close();
    }

    @ParameterizedTest
    @EnumSource
    void nothing_is_taken_while_it_is_gone_and_health_is_told(StoreKind kind) throws IOException {
        store = open(kind);
        append(store, "a");
        delete(directory);
        assertThat(store.stats().problem())
                .as("without anybody having tried to write")
                .contains(directory.toString(), "was deleted, moved away or replaced", "restart");
        assertRefused("b");
        assertThat(directory).as("not created again behind anybody's back").doesNotExist();
        assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(() -> store.find("a"));
        assertThat(store.delivered("no one")).isNull();
        store.reclaim();
        assertThat(reports).as("it may come back").isEmpty();
        store.close();
        store = open(kind);
        append(store, "c");
        assertThat(ids(store)).containsExactly("c");
    }

    @ParameterizedTest
    @EnumSource
    void nothing_is_written_to_or_deleted_in_another_that_is_put_in_its_place(StoreKind kind) throws IOException {
        store = open(kind);
        append(store, "a", "b");
        Path moved = temp.resolve("moved");
        Files.move(directory, moved);
        copy(moved, directory);
        List<String> before = listing(directory);
        assertThat(store.stats().problem()).contains("replaced");
        assertRefused("c");
        store.reclaim();
        store.close();
        assertThat(listing(directory)).isEqualTo(before);
        // The store is in the state of the copy: two batches. Nothing else is known.
        store = open(kind);
        assertThat(ids(store)).containsExactly("a", "b");
        assertThat(reports).isEmpty();
    }

    @ParameterizedTest
    @EnumSource
    void all_is_well_when_it_is_put_back(StoreKind kind) throws IOException {
        store = open(kind);
        append(store, "a", "b");
        fail(store, "a", false);
        Path moved = temp.resolve("moved");
        Files.move(directory, moved);
        assertRefused("c");
        assertThatExceptionOfType(BatchPersistenceException.class)
                .as("what can't be read now is no damage")
                .isThrownBy(() -> claim(store, GeneratedBatch.collectorType("a"), 1));
        Files.move(moved, directory);
        append(store, "c");
        // A document that could not be rewritten before is rewritten now.
        store.reclaim();
        assertThat(store.stats().problem()).isNull();
        assertThat(store.delivered("a")).isNotNull();
        store.close();
        store = open(kind);
        assertThat(ids(store)).containsExactly("b", "c");
        assertThat(reports).isEmpty();
        assertThat(store.stats().total().isBalanced()).isTrue();
        assertThat(store.stats().total().accepted()).isEqualTo(3);
    }

    private void assertRefused(String id) {
        assertThat(store.append(batch(id)))
                .failsWithin(Duration.ofSeconds(30))
                .withThrowableOfType(ExecutionException.class)
                .withCauseInstanceOf(BatchPersistenceException.class)
                .withMessageContaining("was deleted, moved away or replaced");
    }

    private static List<String> listing(Path directory) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.map(file -> file.getFileName() + " " + file.toFile().length() + " "
                            + file.toFile().lastModified())
                    .sorted()
                    .toList();
        }
    }

    private static void copy(Path from, Path to) throws IOException {
        Files.createDirectory(to);
        try (Stream<Path> files = Files.list(from)) {
            for (Path file : files.toList()) {
                Files.copy(file, to.resolve(file.getFileName()));
            }
        }
    }

    private static void delete(Path directory) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(directory);
    }
}
