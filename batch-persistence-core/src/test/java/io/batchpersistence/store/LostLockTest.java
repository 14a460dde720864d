package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.DirectoryLock;
import io.batchpersistence.spi.BatchStore;
import java.io.File;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.LoggerFactory;

/**
 * POSIX drops all locks of a process on a file when the process closes any descriptor of it. No acknowledged batch may
 * be lost because of that.
 */
@Timeout(value = 2, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class LostLockTest extends DiskStoreFixture {

    @TempDir
    Path temp;

    /** Tries to open the store, prints the result, and writes. Closes or exits on request. */
    static final class Other {
        public static void main(String[] args) throws Exception {
            try (BatchStore store = StoreKind.valueOf(args[0])
                    .open(DiskStoreOptions.builder(Path.of(args[1])).build())) {
                for (int i = 0; i < 20; i++) {
                    store.append(GeneratedBatch.of("other" + i, Instant.EPOCH, Instant.EPOCH))
                            .join();
                }
                System.out.println("opened");
                System.in.read();
            } catch (DirectoryLockedException e) {
                System.out.println("refused: " + e.getMessage());
            }
        }
    }

    private ChildJvm other(StoreKind kind) throws IOException {
        return new ChildJvm(Other.class, temp.resolve("err"), kind.name(), directory.toString());
    }

    private void assertAnotherProcessIsRefused(StoreKind kind) throws Exception {
        try (ChildJvm child = other(kind)) {
            assertThat(child.readLine()).as(child::errors).startsWith("refused");
        }
    }

    /** Reads all files, as a backup inside the application does. */
    private void readAllFiles() throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                Files.readAllBytes(file);
            }
        }
    }

    private Map<String, String> listing() throws IOException {
        Map<String, String> listing = new TreeMap<>();
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                listing.put(
                        file.getFileName().toString(),
                        file.toFile().lastModified() + " " + Arrays.hashCode(Files.readAllBytes(file)));
            }
        }
        return listing;
    }

    private void assertRefused(BatchStore store, String id, String why) {
        assertThat(store.append(batch(id)))
                .failsWithin(Duration.ofSeconds(30))
                .withThrowableOfType(ExecutionException.class)
                .withCauseInstanceOf(BatchPersistenceException.class)
                .withMessageContaining(why);
    }

    @ParameterizedTest
    @EnumSource
    void the_application_reads_the_lock_file_and_the_next_cleanup_locks_it_again(StoreKind kind) throws Exception {
        try (BatchStore store = open(kind)) {
            append(store, "a");
            readAllFiles();
            store.reclaim();
            assertAnotherProcessIsRefused(kind);
            append(store, "b");
            assertThat(store.stats().problem()).isNull();
        }
    }

    @ParameterizedTest
    @EnumSource
    void a_holder_that_has_lost_the_lock_to_another_process_writes_nothing_more_and_says_so(StoreKind kind)
            throws Exception {
        List<String> acknowledged = new ArrayList<>();
        BatchStore store = open(kind);
        for (int i = 0; i < 20; i++) {
            append(store, "own" + i);
            acknowledged.add("own" + i);
        }
        readAllFiles();
        try (ChildJvm child = other(kind)) {
            assertThat(child.readLine()).as(child::errors).isEqualTo("opened");
            String by = "was taken over by process " + child.pid();
            // Do not call stats() first, which checks the lock: the first write must check it.
            assertRefused(store, "refused", by);
            assertThat(store.stats().problem()).contains(directory.toRealPath().toString(), by, "backup", "Restart");
            assertThatThrownBy(() -> claim(store, GeneratedBatch.collectorType("own0"), 1))
                    .as("what the other one sends is not sent twice")
                    .isInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining(by);
            child.freeze();
            Map<String, String> before = listing();
            store.reclaim();
            store.close();
            assertThat(listing()).isEqualTo(before);
            child.thaw();
            child.writeLine("done");
            assertThat(child.readLine()).isNull();
        }
        for (int i = 0; i < 20; i++) {
            acknowledged.add("other" + i);
        }
        try (BatchStore again = open(kind)) {
            assertThat(ids(again)).containsAll(acknowledged);
            assertThat(again.stats().total().corrupt()).isZero();
            assertThat(again.stats().problem()).isNull();
        }
    }

    /** The writer detects the loss, and an appender may persist the log line into the same store. */
    @ParameterizedTest
    @EnumSource
    void an_appender_that_persists_what_it_is_told_of_the_loss_does_not_wait_for_itself(StoreKind kind)
            throws Exception {
        List<Throwable> refused = new CopyOnWriteArrayList<>();
        try (BatchStore store = open(kind)) {
            AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
                @Override
                protected void append(ILoggingEvent event) {
                    try {
                        LostLockTest.this.append(store, "logged");
                    } catch (RuntimeException e) {
                        refused.add(e);
                    }
                }
            };
            appender.start();
            Logger logger = (Logger) LoggerFactory.getLogger(DirectoryLock.class);
            logger.addAppender(appender);
            try {
                append(store, "a");
                readAllFiles();
                try (ChildJvm child = other(kind)) {
                    assertThat(child.readLine()).as(child::errors).isEqualTo("opened");
                    assertRefused(store, "b", "was taken over");
                    store.reclaim();
                    store.reclaim();
                    assertThat(refused)
                            .as("told once")
                            .singleElement()
                            .satisfies(e -> assertThat(e).rootCause().hasMessageContaining("was taken over"));
                }
            } finally {
                logger.detachAppender(appender);
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void an_idle_holder_notices_with_the_cleanup_before_it_writes(StoreKind kind) throws Exception {
        try (BatchStore store = open(kind)) {
            append(store, "a", "b");
            assertThat(store.delivered("a")).isNotNull();
            Path lock = directory.resolve("lock");
            FileTime modified = Files.getLastModifiedTime(lock);
            readAllFiles();
            try (ChildJvm child = other(kind)) {
                assertThat(child.readLine()).as(child::errors).isEqualTo("opened");
                // Simulates a file system with coarse timestamps, which hide the change.
                Files.setLastModifiedTime(lock, modified);
                child.freeze();
                Map<String, String> before = listing();
                store.reclaim();
                assertThat(listing()).isEqualTo(before);
                assertThat(store.stats().problem()).contains("was taken over by process " + child.pid());
            }
        }
    }

    /** An interrupt closes the channel in use, and closing it releases the lock. */
    @ParameterizedTest
    @EnumSource
    void an_interrupted_thread_keeps_the_lock(StoreKind kind) throws Exception {
        Thread.currentThread().interrupt();
        BatchStore store = open(kind);
        assertThat(store.stats().problem()).isNull();
        Path lock = directory.resolve("lock");
        assertThat(lock.toFile().setLastModified(1_000_000_000_000L)).isTrue();
        assertThat(store.stats().problem()).as("read, not only looked at").isNull();
        store.reclaim();
        assertThat(Thread.interrupted()).isTrue();
        assertAnotherProcessIsRefused(kind);
        append(store, "a");
        store.close();
    }

    @ParameterizedTest
    @EnumSource
    void a_touched_lock_file_is_no_reason_to_stop(StoreKind kind) throws Exception {
        try (BatchStore store = open(kind)) {
            append(store, "a");
            assertThat(directory.resolve("lock").toFile().setLastModified(1_000_000_000_000L))
                    .isTrue();
            append(store, "b");
            store.reclaim();
            assertThat(store.stats().problem()).isNull();
        }
    }

    @ParameterizedTest
    @EnumSource
    void a_deleted_lock_file_stops_all_writing_and_the_message_says_what_to_do(StoreKind kind) throws Exception {
        BatchStore store = open(kind);
        append(store, "a");
        Path lock = directory.toRealPath().resolve("lock");
        Files.delete(lock);
        assertThat(store.stats().problem())
                .startsWith("the file " + lock + " was deleted")
                .contains("restarted")
                .contains("Never delete");
        assertRefused(store, "b", "was deleted");
        try (ChildJvm child = other(kind)) {
            assertThat(child.readLine()).as(child::errors).isEqualTo("opened");
            assertThat(store.stats().problem())
                    .contains("another process may use the directory", "its name is in the file");
            assertRefused(store, "c", "another process may use the directory");
            store.reclaim();
            store.close();
            child.writeLine("done");
            assertThat(child.readLine()).isNull();
        }
        try (BatchStore again = open(kind)) {
            assertThat(ids(again)).hasSize(21).contains("a", "other19");
        }
    }

    /** Some backups copy a directory with hard links. The copy has the same lock file. */
    @Test
    void the_same_lock_file_by_another_name_is_refused_and_stays_locked() throws Exception {
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            append(store, "a");
            Path copy = Files.createDirectory(temp.resolve("copy"));
            Files.createLink(copy.resolve("lock"), directory.resolve("lock"));
            DiskStoreOptions options = DiskStoreOptions.builder(copy).build();
            assertThatExceptionOfType(DirectoryLockedException.class)
                    .isThrownBy(() -> DiskBatchStores.segment(options))
                    .withMessageContaining("same JVM");
            assertAnotherProcessIsRefused(StoreKind.SEGMENT);
            append(store, "b");
        }
    }

    /** Two web applications in one container, each with its own copy of the library. */
    @ParameterizedTest
    @EnumSource
    void a_second_copy_of_the_library_in_the_same_jvm_is_refused_and_costs_the_first_nothing(Registry registry)
            throws Exception {
        try (URLClassLoader first = copyOfTheLibrary();
                URLClassLoader second = copyOfTheLibrary()) {
            AutoCloseable store = open(first);
            if (registry == Registry.LOST) {
                System.getProperties().keySet().removeIf(key -> key.toString().startsWith("io.batchpersistence.lock."));
            }
            for (int i = 0; i < 2; i++) {
                assertThatThrownBy(() -> open(second))
                        .satisfies(e -> assertThat(e.toString())
                                .startsWith(DirectoryLockedException.class.getName())
                                .contains("in the same JVM (process "
                                        + ProcessHandle.current().pid() + " on "));
            }
            assertAnotherProcessIsRefused(StoreKind.SEGMENT);
            store.close();
            open(second).close();
        }
        assertThat(System.getProperties().stringPropertyNames())
                .noneMatch(name -> name.startsWith("io.batchpersistence.lock."));
    }

    /** What all class loaders share: system properties, which a test framework may replace. */
    enum Registry {
        THERE,
        LOST
    }

    private static URLClassLoader copyOfTheLibrary() throws IOException {
        List<URL> urls = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
            urls.add(Path.of(entry).toUri().toURL());
        }
        return new URLClassLoader(urls.toArray(URL[]::new), ClassLoader.getPlatformClassLoader());
    }

    private AutoCloseable open(ClassLoader library) throws Exception {
        Class<?> options = library.loadClass(DiskStoreOptions.class.getName());
        Object builder = options.getMethod("builder", Path.class).invoke(null, directory);
        Object built = builder.getClass().getMethod("build").invoke(builder);
        try {
            return (AutoCloseable) library.loadClass(DiskBatchStores.class.getName())
                    .getMethod("segment", options)
                    .invoke(null, built);
        } catch (InvocationTargetException e) {
            throw (Exception) e.getCause();
        }
    }
}
