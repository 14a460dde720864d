package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.store.segment.SegmentBatchStore;
import java.net.InetAddress;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A directory belongs to one store at a time; who comes second is told who was first. */
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

    /** Holds the store of a directory open until it is killed. */
    static final class Holder {
        public static void main(String[] args) throws Exception {
            SegmentBatchStore store = SegmentBatchStore.open(options(Path.of(args[0])));
            store.append(GeneratedBatch.of("left behind", SINCE, SINCE)).join();
            System.out.println("holding");
            System.in.read(); // the parent never writes and never closes; it kills
            store.close();
        }
    }

    @Test
    void whoComesSecondIsToldWhoHoldsTheDirectoryUntilTheHolderIsKilled() throws Exception {
        Path directory = temp.resolve("store");
        try (ChildJvm child = new ChildJvm(Holder.class, temp.resolve("err"), directory.toString())) {
            assertThat(child.readLine()).as(child::errors).isEqualTo("holding");

            assertThatExceptionOfType(DirectoryLockedException.class)
                    .isThrownBy(() -> SegmentBatchStore.open(options(directory)))
                    .withMessageContaining(directory.toRealPath().toString())
                    .withMessageContaining("process " + child.pid())
                    .withMessageContaining(InetAddress.getLocalHost().getHostName())
                    .withMessageContaining("since " + SINCE)
                    .withMessageContaining("needs a directory of its own");

            child.kill();
            child.awaitKilled();
            try (SegmentBatchStore store = SegmentBatchStore.open(options(directory))) {
                assertThat(store.find("left behind")).isPresent();
            }
        }
    }

    @Test
    void twoStoresInOneProcessAreToldApartToo() throws Exception {
        Path directory = temp.resolve("store");
        try (SegmentBatchStore first = SegmentBatchStore.open(options(directory))) {
            Path sameByAnotherName = directory.resolve("..").resolve("store");
            assertThatExceptionOfType(DirectoryLockedException.class)
                    .isThrownBy(() -> SegmentBatchStore.open(options(sameByAnotherName)))
                    .withMessageContaining("another store of this application")
                    .withMessageContaining("process " + ProcessHandle.current().pid())
                    .withMessageContaining(InetAddress.getLocalHost().getHostName())
                    .withMessageContaining("since " + SINCE);
            // And the attempt has not taken the lock from the first: another process is still refused.
            first.append(GeneratedBatch.of("a", SINCE, SINCE)).join();
            try (ChildJvm child = new ChildJvm(Holder.class, temp.resolve("err"), directory.toString())) {
                assertThat(child.readLine()).isNull();
                assertThat(child.errors()).contains("DirectoryLockedException");
            }
        }
        try (SegmentBatchStore again = SegmentBatchStore.open(options(directory))) {
            assertThat(again.find("a")).isPresent();
        }
    }
}
