package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.internal.disk.DirectoryLock;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Who can read the files of a store, and what happens to links in its directory. */
class PermissionsAndLinksTest extends DiskStoreFixture {

    @TempDir
    Path root;

    @BeforeEach
    void posix() {
        assumeTrue(
                FileSystems.getDefault().supportedFileAttributeViews().contains("posix"),
                "a file system with POSIX permissions is needed");
        directory = root.resolve("store");
    }

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options().segmentSize(4 << 10);
    }

    private void persist(BatchStore store, String id) {
        store.append(batch(id, "loki", Batches.entries(10))).join();
    }

    private void fillAndUse(BatchStore store) {
        for (int i = 0; i < 100; i++) {
            persist(store, "batch " + i);
            if (i % 3 > 0) {
                store.delivered("batch " + i);
            } else if (i % 2 == 0) {
                fail(store, "batch " + i, false);
            }
        }
        store.reclaim();
    }

    private Map<String, String> permissions() throws IOException {
        Map<String, String> permissions = new TreeMap<>();
        try (Stream<Path> files = Files.walk(root)) {
            for (Path file : files.filter(path -> path.startsWith(directory)).toList()) {
                permissions.put(
                        root.relativize(file).toString(),
                        PosixFilePermissions.toString(Files.getPosixFilePermissions(file, LinkOption.NOFOLLOW_LINKS)));
            }
        }
        return permissions;
    }

    private void assertNobodyElseCanRead() throws IOException {
        assertThat(permissions())
                .allSatisfy((file, permissions) -> assertThat(permissions)
                        .as(file)
                        .isEqualTo(Files.isDirectory(root.resolve(file)) ? "rwx------" : "rw-------"));
    }

    private Path oneOf(String glob) throws IOException {
        try (var files = Files.newDirectoryStream(directory, glob)) {
            return files.iterator().next();
        }
    }

    @ParameterizedTest
    @EnumSource
    void every_file_is_its_owners_alone(StoreKind kind) throws IOException {
        BatchStore store = open(kind);
        fillAndUse(store);
        // While the store is open, including prepared files and the journal.
        assertNobodyElseCanRead();
        store.close();
        Path damaged = oneOf("*" + kind.payload);
        byte[] bytes = Files.readAllBytes(damaged);
        bytes[40] ^= 0x55;
        bytes[bytes.length / 2] ^= 0x55;
        Files.write(damaged, kind == StoreKind.SEGMENT ? bytes : new byte[] {'{', '"'});
        if (kind == StoreKind.SEGMENT) {
            // Without its index the segment is scanned.
            Files.write(damaged, java.util.Arrays.copyOf(bytes, bytes.length - 8));
        }

        try (BatchStore again = open(kind)) {
            persist(again, "one more");
            again.reclaim();
        }
        assertThat(permissions().keySet())
                .as("there is a quarantine")
                .anyMatch(file -> file.startsWith("store/quarantine/"));
        assertThat(permissions().keySet()).anyMatch(file -> file.endsWith(".snapshot"));
        assertNobodyElseCanRead();
    }

    @Test
    void a_directory_that_was_there_keeps_its_permissions_and_is_warned_about() throws IOException {
        try (LogCapture logged = new LogCapture(DirectoryLock.class)) {
            Files.createDirectory(directory);
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
            open(StoreKind.SEGMENT).close();
            assertThat(permissions()).containsEntry("store", "rwxr-xr-x");
            assertThat(permissions()).containsEntry("store/lock", "rw-------");
            assertThat(logged.list)
                    .singleElement()
                    .satisfies(event -> assertThat(event.getFormattedMessage())
                            .contains("Other users can look into")
                            .contains("rwxr-xr-x")
                            .contains("chmod 700"));

            logged.list.clear();
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxrwx---"));
            open(StoreKind.SEGMENT).close();
            assertThat(logged.list).as("a group may be meant").isEmpty();
        }
    }

    @ParameterizedTest
    @EnumSource
    void the_directory_may_be_a_link(StoreKind kind) throws IOException {
        Path real = Files.createDirectory(root.resolve("real"));
        Files.createSymbolicLink(directory, real);
        BatchStore store = open(kind);
        persist(store, "a");
        store.close();
        try (BatchStore again = open(kind)) {
            assertThat(again.find("a")).isPresent();
        }
        assertThat(real).isNotEmptyDirectory();
    }

    /** Every file of a store is replaced by a link to it elsewhere. No link is followed. */
    @ParameterizedTest
    @EnumSource
    void links_are_not_followed(StoreKind kind) throws IOException {
        BatchStore store = open(kind);
        persist(store, "a");
        persist(store, "b");
        fail(store, "a", true);
        store.close();
        Path elsewhere = Files.createDirectory(root.resolve("elsewhere"));
        Map<Path, byte[]> outside = new TreeMap<>();
        try (var files = Files.newDirectoryStream(directory)) {
            for (Path file : files) {
                if (!file.endsWith("lock")) {
                    Path moved = Files.move(file, elsewhere.resolve(file.getFileName()));
                    Files.createSymbolicLink(file, moved);
                    outside.put(moved, Files.readAllBytes(moved));
                }
            }
        }
        Path evidence = Files.createDirectory(root.resolve("evidence"));
        Files.createSymbolicLink(directory.resolve("quarantine"), evidence);
        // Looks like a leftover of a killed process, which is overwritten or deleted, but not through the link.
        Path victim = Files.writeString(elsewhere.resolve("victim"), "untouched");
        for (String name : List.of("0000000009.segment.tmp", "state-0000000000000009.tmp", "batch_c.json.tmp")) {
            Files.createSymbolicLink(directory.resolve(name), victim);
        }
        Files.createSymbolicLink(directory.resolve("batch_c.json"), victim);
        Files.createSymbolicLink(directory.resolve("0000000003.segment"), victim);
        Files.createSymbolicLink(directory.resolve("0000000004.segment"), root.resolve("nowhere"));

        BatchStore again = open(kind);
        assertThat(ids(again)).as("what is elsewhere is not ours").isEmpty();
        for (int i = 0; i < 20; i++) {
            persist(again, i == 0 ? "c" : "new " + i);
        }
        again.reclaim();
        assertThat(ids(again)).hasSize(20).contains("c", "new 19");
        clock.advance(Duration.ofSeconds(100));
        assertThat(claim(again, "loki", 100))
                .allSatisfy(claim -> assertThat(claim.batch().entries()).isEqualTo(Batches.entries(10)));
        again.close();

        assertThat(reports).as("links are reported").isNotEmpty();
        assertThat(victim).hasContent("untouched");
        assertThat(root.resolve("nowhere")).doesNotExist();
        assertThat(evidence).isEmptyDirectory();
        outside.forEach((file, bytes) -> assertThat(file).hasBinaryContent(bytes));
        try (var files = Files.newDirectoryStream(elsewhere)) {
            assertThat(files).hasSize(outside.size() + 1);
        }
    }
}
