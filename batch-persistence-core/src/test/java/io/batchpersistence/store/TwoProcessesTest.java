package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A directory belongs to one store at a time. A second process gets an error that names the owner. */
@Timeout(value = 2, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class TwoProcessesTest {

    private static final Instant SINCE = Instant.parse("2026-03-01T12:34:56Z");

    @TempDir
    Path temp;

    private static DiskStoreOptions options(Path directory) {
        return DiskStoreOptions.builder(directory)
                .clock(Clock.fixed(SINCE, ZoneOffset.UTC))
                .build();
    }

    /** Keeps the store of a directory open until it is killed. */
    static final class Holder {
        public static void main(String[] args) throws Exception {
            BatchStore store = DiskBatchStores.segment(options(Path.of(args[0])));
            store.append(GeneratedBatch.of("left behind", SINCE, SINCE)).join();
            System.out.println("holding");
            // The parent never writes and never closes the pipe. It kills this process.
            System.in.read();
            store.close();
        }
    }

    @Test
    void who_comes_second_is_told_who_holds_the_directory_until_the_holder_is_killed() throws Exception {
        Path directory = temp.resolve("store");
        try (ChildJvm child = new ChildJvm(Holder.class, temp.resolve("err"), directory.toString())) {
            assertThat(child.readLine()).as(child::errors).isEqualTo("holding");

            assertThatExceptionOfType(DirectoryLockedException.class)
                    .isThrownBy(() -> DiskBatchStores.segment(options(directory)))
                    .withMessageContaining(directory.toRealPath().toString())
                    .withMessageContaining("process " + child.pid())
                    .withMessageContaining(InetAddress.getLocalHost().getHostName())
                    .withMessageContaining("since " + SINCE)
                    .withMessageContaining("needs a directory of its own");

            child.kill();
            child.awaitKilled();
            try (BatchStore store = DiskBatchStores.segment(options(directory))) {
                assertThat(store.find("left behind")).isPresent();
            }
        }
    }

    @Test
    void two_stores_in_one_process_are_told_apart_too() throws Exception {
        Path directory = temp.resolve("store");
        try (BatchStore first = DiskBatchStores.segment(options(directory))) {
            Path sameByAnotherName = directory.resolve("..").resolve("store");
            assertThatExceptionOfType(DirectoryLockedException.class)
                    .isThrownBy(() -> DiskBatchStores.segment(options(sameByAnotherName)))
                    .withMessageContaining("another store of this application")
                    .withMessageContaining("process " + ProcessHandle.current().pid())
                    .withMessageContaining(InetAddress.getLocalHost().getHostName())
                    .withMessageContaining("since " + SINCE);
            // The attempt has not released the lock of the first process: another process is still refused.
            first.append(GeneratedBatch.of("a", SINCE, SINCE)).join();
            try (ChildJvm child = new ChildJvm(Holder.class, temp.resolve("err"), directory.toString())) {
                assertThat(child.readLine()).isNull();
                assertThat(child.errors()).contains("DirectoryLockedException");
            }
        }
        try (BatchStore again = DiskBatchStores.segment(options(directory))) {
            assertThat(again.find("a")).isPresent();
        }
    }

    /** Opens a store on request, prints whether it could, and keeps it. */
    static final class Racer {
        public static void main(String[] args) throws Exception {
            System.out.println("ready");
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            in.readLine();
            try (BatchStore store = DiskBatchStores.segment(options(Path.of(args[0])))) {
                store.append(GeneratedBatch.of(args[1], SINCE, SINCE)).join();
                System.out.println("won");
                // Never returns: the process is killed.
                in.readLine();
            } catch (DirectoryLockedException e) {
                System.out.println("lost to " + e.getMessage());
            }
        }
    }

    @Test
    void of_two_that_start_at_the_same_time_one_gets_the_directory() throws Exception {
        Path directory = temp.resolve("store");
        try (ChildJvm a = new ChildJvm(Racer.class, temp.resolve("a.err"), directory.toString(), "a");
                ChildJvm b = new ChildJvm(Racer.class, temp.resolve("b.err"), directory.toString(), "b")) {
            assertThat(a.readLine()).as(a::errors).isEqualTo("ready");
            assertThat(b.readLine()).as(b::errors).isEqualTo("ready");
            a.writeLine("go");
            b.writeLine("go");
            String ofA = a.readLine();
            String ofB = b.readLine();
            boolean aWon = "won".equals(ofA);
            assertThat(aWon ? ofB : ofA)
                    .as("a: %s, b: %s; %s%s", ofA, ofB, a.errors(), b.errors())
                    .startsWith("lost to ")
                    .contains(directory.toRealPath().toString());
            assertThat(aWon ? ofA : ofB).isEqualTo("won");
            (aWon ? a : b).kill();
            (aWon ? a : b).awaitKilled();
            try (BatchStore store = DiskBatchStores.segment(options(directory))) {
                assertThat(store.find(aWon ? "a" : "b")).isPresent();
                assertThat(store.find(aWon ? "b" : "a")).isEmpty();
            }
        }
    }

    /** Only the operating system's lock counts, not the content of the file: process ids are reused. */
    @Test
    void a_lock_file_that_names_a_living_process_which_does_not_hold_it_is_no_obstacle() throws Exception {
        Path directory = Files.createDirectory(temp.resolve("store"));
        Path lock = directory.resolve("lock");
        long living = ProcessHandle.current().parent().orElseThrow().pid();
        Files.writeString(lock, "process " + living + " on this host since yesterday");
        try (BatchStore store = DiskBatchStores.segment(options(directory))) {
            store.append(GeneratedBatch.of("a", SINCE, SINCE)).join();
            assertThat(Files.readString(lock))
                    .contains("process " + ProcessHandle.current().pid());
        }
    }
}
