package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Compression;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.ChildJvm;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.h2.jdbcx.JdbcConnectionPool;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The native library of zstd cannot be loaded. Opening a store reports it, and no stored batch is taken as damaged. */
@Timeout(value = 2, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class NativeLibraryTest {

    private static final Instant NOW = Instant.parse("2026-03-01T12:00:00Z");
    private static final int HELD = 30;

    enum Hindrance {
        NO_TEMPORARY_DIRECTORY("java.io.tmpdir") {
            @Override
            List<String> options(Path temp) {
                return List.of("-Djava.io.tmpdir=" + temp.resolve("absent"));
            }
        },
        MOUNTED_NOEXEC("noexec") {
            @Override
            List<String> options(Path temp) throws Exception {
                Path mounted = Files.createDirectories(temp.resolve("noexec"));
                assumeTrue(
                        run("mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", mounted.toString()) == 0,
                        "only root can mount a file system without the right to execute files");
                return List.of("-Djava.io.tmpdir=" + mounted);
            }
        },
        NOT_THE_LIBRARY("ZstdNativePath") {
            @Override
            List<String> options(Path temp) throws IOException {
                return List.of("-DZstdNativePath=" + Files.writeString(temp.resolve("libzstd.so"), "no library"));
            }
        },
        NATIVE_ACCESS_DENIED("--enable-native-access=ALL-UNNAMED") {
            @Override
            List<String> options(Path temp) {
                assumeTrue(Runtime.version().feature() >= 24, "access to native code can be denied from JDK 24 on");
                return List.of("--illegal-native-access=deny");
            }
        };

        final String hint;

        Hindrance(String hint) {
            this.hint = hint;
        }

        abstract List<String> options(Path temp) throws Exception;
    }

    enum Kind {
        SEGMENT,
        JSON_FILES,
        JDBC,
        FALLBACK;

        private static JdbcConnectionPool pool;

        BatchStore open(Path directory, Compression compression) {
            Clock clock = Clock.fixed(NOW, ZoneOffset.UTC);
            DiskStoreOptions onDisk = DiskStoreOptions.builder(directory)
                    .compression(compression)
                    .clock(clock)
                    .build();
            JdbcStoreOptions inDatabase = JdbcStoreOptions.builder()
                    .compression(compression)
                    .clock(clock)
                    .build();
            return switch (this) {
                case SEGMENT -> DiskBatchStores.segment(onDisk);
                case JSON_FILES -> DiskBatchStores.jsonFiles(onDisk);
                case JDBC -> JdbcBatchStore.open(database(directory), inDatabase);
                case FALLBACK -> FallbackBatchStore.open(database(directory), inDatabase, onDisk);
            };
        }

        private static DataSource database(Path directory) {
            pool = JdbcConnectionPool.create("jdbc:h2:file:" + directory.resolve("database"), "", "");
            return pool;
        }

        /** Releases the database, so that another process can use it. */
        static void close(BatchStore store) {
            store.close();
            if (pool != null) {
                pool.dispose();
            }
        }
    }

    @TempDir
    Path temp;

    private Path directory;

    private static int run(String... command) throws Exception {
        return new ProcessBuilder(command)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(ProcessBuilder.Redirect.DISCARD)
                .start()
                .waitFor();
    }

    @AfterEach
    void unmount() throws Exception {
        if (Files.exists(temp.resolve("noexec"))) {
            run("umount", temp.resolve("noexec").toString());
        }
    }

    private List<String> inChild(Hindrance hindrance, Kind kind, Compression compression) throws Exception {
        directory = Files.createDirectories(temp.resolve("store"));
        List<String> options = new ArrayList<>(hindrance.options(temp));
        options.add("-Xmx128m");
        try (ChildJvm child = new ChildJvm(
                Program.class,
                temp.resolve("err"),
                options,
                "",
                directory.toString(),
                kind.name(),
                compression.name())) {
            return child.awaitPassed();
        }
    }

    private static void append(BatchStore store, String id) {
        store.append(new NewBatch(id, "loki", Batches.entries(100), Map.of(), NOW, NOW))
                .join();
    }

    /** Persists and sends, and prints the results. */
    static final class Program {
        public static void main(String[] args) {
            BatchStore store;
            try {
                store = Kind.valueOf(args[1]).open(Path.of(args[0]), Compression.valueOf(args[2]));
            } catch (BatchPersistenceException e) {
                System.out.println("RESULT not opened: " + e.getMessage());
                return;
            }
            List<Corruption> damage = new ArrayList<>();
            store.onCorruption(damage::add);
            store.releaseHeld(NOW);
            try {
                append(store, "new");
                store.released("new", type -> Optional.of(NOW));
            } catch (CompletionException | LinkageError e) {
                System.out.println("RESULT not appended: " + e);
            }
            claimAll(store);
            try {
                System.out.println("RESULT found: "
                        + store.find("held 1").map(batch -> batch.entries().size()));
            } catch (BatchPersistenceException | LinkageError e) {
                System.out.println("RESULT not found: " + e);
            }
            BatchStats.Unreadable unreadable = store.stats().unreadable();
            if (unreadable != null) {
                System.out.println("RESULT unreadable: " + unreadable.batches() + ": " + unreadable.first());
            }
            System.out.println(
                    "RESULT held: " + store.list(BatchSelector.all(), NOW).size() + ", corrupt: "
                            + store.stats().total().corrupt() + ", damage: " + damage);
            Kind.close(store);
        }

        /** Claims like recovery, with one check per second. */
        private static void claimAll(BatchStore store) {
            for (int second = 0; second < 10; second++) {
                Instant now = NOW.plusSeconds(second);
                try {
                    for (Claim claim : store.claim("loki", BatchOrder.OLDEST_FIRST, now, now.plusSeconds(300), 1)) {
                        System.out.println("RESULT claimed: " + claim.batch().id());
                        store.delivered(claim.batch().id());
                    }
                } catch (BatchPersistenceException e) {
                    // Checked again a second later.
                } catch (LinkageError e) {
                    System.out.println("RESULT not claimed: " + e);
                    return;
                }
            }
        }
    }

    private static List<String> results(List<String> lines) {
        return lines.stream()
                .filter(line -> line.startsWith("RESULT"))
                .map(line -> line.substring(7))
                .toList();
    }

    @ParameterizedTest
    @EnumSource
    void a_store_that_compresses_is_not_opened_and_says_what_to_do(Hindrance hindrance) throws Exception {
        assertThat(results(inChild(hindrance, Kind.SEGMENT, Compression.ZSTD)))
                .singleElement()
                .asString()
                .startsWith("not opened: zstd's native library can't be loaded: ")
                .contains(hindrance.hint)
                .doesNotContain("null");
        assertThat(directory).as("nothing was begun").isEmptyDirectory();
    }

    @ParameterizedTest
    @EnumSource(names = {"JDBC", "FALLBACK"})
    void nor_is_one_in_a_database(Kind kind) throws Exception {
        assertThat(results(inChild(Hindrance.NOT_THE_LIBRARY, kind, Compression.ZSTD)))
                .singleElement()
                .asString()
                .startsWith("not opened: zstd's native library can't be loaded: ")
                .contains("-DZstdNativePath=");
    }

    @Test
    void json_files_do_not_need_it() throws Exception {
        assertThat(results(inChild(Hindrance.NOT_THE_LIBRARY, Kind.JSON_FILES, Compression.ZSTD)))
                .containsExactly("claimed: new", "found: Optional.empty", "held: 0, corrupt: 0, damage: []");
    }

    /** Compressed batches stay and do not block uncompressed ones. */
    @ParameterizedTest
    @EnumSource(names = {"SEGMENT", "JDBC", "FALLBACK"})
    void without_compression_a_store_works_and_what_is_held_compressed_stays(Kind kind) throws Exception {
        directory = Files.createDirectories(temp.resolve("store"));
        BatchStore before = kind.open(directory, Compression.ZSTD);
        for (int i = 0; i < HELD; i++) {
            append(before, "held " + i);
        }
        Kind.close(before);

        List<String> results = results(inChild(Hindrance.NOT_THE_LIBRARY, kind, Compression.NONE));
        assertThat(results).hasSize(4).contains("claimed: new", "held: " + HELD + ", corrupt: 0, damage: []");
        assertThat(results)
                .filteredOn(line -> line.startsWith("unreadable: " + HELD + ": "))
                .singleElement()
                .asString()
                .contains("'held 0'", "native library can't be loaded");
        assertThat(results)
                .filteredOn(line -> line.startsWith("not found: "))
                .singleElement()
                .asString()
                .contains("CompressionUnavailableException", "native library can't be loaded");

        BatchStore store = kind.open(directory, Compression.NONE);
        store.releaseHeld(NOW);
        assertThat(store.list(BatchSelector.all(), NOW))
                .extracting(BatchSummary::retryCount)
                .hasSize(HELD)
                .containsOnly(0);
        // A database has its own clock: a postponed batch is not due for a while, regardless of the test's clock.
        store.reschedule(BatchSelector.all(), NOW, NOW);
        Instant later = NOW.plus(Duration.ofHours(1));
        List<Claim> claims = new ArrayList<>();
        await().untilAsserted(() -> {
            claims.addAll(
                    store.claim("loki", BatchOrder.OLDEST_FIRST, later, later.plus(Duration.ofHours(1)), 2 * HELD));
            assertThat(claims).hasSize(HELD);
        });
        assertThat(claims)
                .allSatisfy(claim -> assertThat(claim.batch().entries()).isEqualTo(Batches.entries(100)));
        Kind.close(store);
    }
}
