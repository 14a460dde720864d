package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.DirectoryLock;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.LoggerFactory;

/** Who can read the files of a store, and what happens to links in its directory. */
class PermissionsAndLinksTest {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    @TempDir
    Path root;

    private Path directory;

    @BeforeEach
    void posix() {
        assumeTrue(
                FileSystems.getDefault().supportedFileAttributeViews().contains("posix"),
                "a file system with POSIX permissions is needed");
        directory = root.resolve("store");
    }

    private BatchStore open(StoreKind kind) {
        return kind.open(
                DiskStoreOptions.builder(directory).segmentSize(4 << 10).build());
    }

    private static void append(BatchStore store, String id) {
        store.append(new NewBatch(id, "loki", Batches.entries(10), Map.of(), NOW, NOW.plusSeconds(60)))
                .join();
    }

    private static void fillAndUse(BatchStore store) {
        for (int i = 0; i < 100; i++) {
            append(store, "batch " + i);
            if (i % 3 > 0) {
                store.delivered("batch " + i);
            } else if (i % 2 == 0) {
                store.failed(
                        "batch " + i,
                        BatchStore.ANY_FENCE,
                        "503",
                        NOW,
                        (type, retries) -> new Verdict(false, NOW, retries + 1));
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

    private static String batches(StoreKind kind) {
        return kind == StoreKind.SEGMENT ? "*.segment" : "batch_*.json";
    }

    @ParameterizedTest
    @EnumSource
    void every_file_is_its_owners_alone(StoreKind kind) throws IOException {
        BatchStore store = open(kind);
        fillAndUse(store);
        // While the store is open, including prepared files and the journal.
        assertNobodyElseCanRead();
        store.close();
        Path damaged = oneOf(batches(kind));
        byte[] bytes = Files.readAllBytes(damaged);
        bytes[40] ^= 0x55;
        bytes[bytes.length / 2] ^= 0x55;
        Files.write(damaged, kind == StoreKind.SEGMENT ? bytes : new byte[] {'{', '"'});
        if (kind == StoreKind.SEGMENT) {
            // Without its index the segment is scanned.
            Files.write(damaged, java.util.Arrays.copyOf(bytes, bytes.length - 8));
        }

        BatchStore again = open(kind);
        fillAndUseAgain(again);
        again.close();
        assertThat(permissions().keySet())
                .as("there is a quarantine")
                .anyMatch(file -> file.startsWith("store/quarantine/"));
        assertThat(permissions().keySet()).anyMatch(file -> file.endsWith(".snapshot"));
        assertNobodyElseCanRead();
    }

    private static void fillAndUseAgain(BatchStore store) {
        append(store, "one more");
        store.reclaim();
    }

    @Test
    void a_directory_that_was_there_keeps_its_permissions_and_is_warned_about() throws IOException {
        ListAppender<ILoggingEvent> logged = new ListAppender<>();
        logged.start();
        Logger logger = (Logger) LoggerFactory.getLogger(DirectoryLock.class);
        logger.addAppender(logged);
        try {
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
        } finally {
            logger.detachAppender(logged);
        }
    }

    @ParameterizedTest
    @EnumSource
    void the_directory_may_be_a_link(StoreKind kind) throws IOException {
        Path real = Files.createDirectory(root.resolve("real"));
        Files.createSymbolicLink(directory, real);
        BatchStore store = open(kind);
        append(store, "a");
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
        append(store, "a");
        append(store, "b");
        store.failed("a", BatchStore.ANY_FENCE, "503", NOW, (type, retries) -> new Verdict(true, NOW, retries + 1));
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
        List<Corruption> told = new ArrayList<>();
        again.onCorruption(told::add);
        assertThat(again.list(BatchSelector.all(), NOW))
                .as("what is elsewhere is not ours")
                .isEmpty();
        for (int i = 0; i < 20; i++) {
            append(again, i == 0 ? "c" : "new " + i);
        }
        again.reclaim();
        assertThat(again.list(BatchSelector.all(), NOW))
                .extracting(BatchSummary::id)
                .hasSize(20)
                .contains("c", "new 19");
        assertThat(again.claim("loki", BatchOrder.OLDEST_FIRST, NOW.plusSeconds(100), NOW.plusSeconds(200), 100))
                .allSatisfy(claim -> assertThat(claim.batch().entries()).isEqualTo(Batches.entries(10)));
        again.close();

        assertThat(told).as("links are reported").isNotEmpty();
        assertThat(victim).hasContent("untouched");
        assertThat(root.resolve("nowhere")).doesNotExist();
        assertThat(evidence).isEmptyDirectory();
        outside.forEach((file, bytes) -> assertThat(file).hasBinaryContent(bytes));
        try (var files = Files.newDirectoryStream(elsewhere)) {
            assertThat(files).hasSize(outside.size() + 1);
        }
    }
}
