package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The journal grows, is replaced by a snapshot during writes, and shrinks. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SegmentJournalTest extends DiskStoreFixture {

    private static final int BATCHES = 1_000;
    /** More than enough to make a snapshot due: each change takes 48 bytes of the journal's four megabytes. */
    private static final int CHANGES = 100_000;

    private BatchStore open(Disk disk) {
        return open(StoreKind.SEGMENT, disk);
    }

    @AfterEach
    void no_damage_is_reported() {
        assertThat(reports).isEmpty();
    }

    private void append(BatchStore store, int from, int to) {
        List<CompletableFuture<?>> appends = new ArrayList<>();
        for (int i = from; i < to; i++) {
            appends.add(store.append(batch(
                    "batch " + i,
                    i % 2 == 0 ? "loki" : "elasticsearch",
                    List.of(LogEntry.of(clock.instant(), "INFO", "entry " + i)))));
        }
        appends.forEach(CompletableFuture::join);
    }

    /** The due time encodes the round, which shows which round was the last. */
    private static Instant due(int round) {
        return Instant.parse("2030-01-01T00:00:00Z").plusSeconds(round);
    }

    /** Changes all pending batches repeatedly. */
    private void change(BatchStore store, int fromRound, int toRound) {
        for (int round = fromRound; round < toRound; round++) {
            assertThat(store.reschedule(ALL, clock.instant(), due(round))).isPositive();
        }
    }

    private void fail(BatchStore store, int i, boolean dead, String reason) {
        fail(store, "batch " + i, reason, new Verdict(dead, due(0), 1));
    }

    @Test
    void a_snapshot_is_written_while_others_write_and_may_be_lost_at_any_time() {
        MemoryDisk files = new MemoryDisk();
        FaultyDisk disk = new FaultyDisk(files);
        List<MemoryDisk> leftBehind = new ArrayList<>();
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            fail(store, 0, true, "400");
            for (int i = 1; i < BATCHES; i++) {
                fail(store, i, false, "503");
            }
            int rounds = CHANGES / BATCHES;
            CountDownLatch gate = disk.blockForces(".tmp");
            change(store, 0, rounds);
            Awaitility.await().until(() -> disk.waitingForces() == 1);

            // Its snapshot is not finished, but the new generation is in use.
            change(store, rounds, rounds + 1);
            store.delivered("batch 1");
            store.discard(ALL.ids("no one"), clock.instant());
            append(store, BATCHES, BATCHES + 1);
            assertThat(store.delivered("batch " + BATCHES)).isNotNull();
            // Also writes the earlier marks.
            append(store, BATCHES + 1, BATCHES + 2);
            assertThat(store.delivered("batch " + (BATCHES + 1))).isNotNull();
            change(store, rounds, rounds + 1);
            int snapshots = files.files(".snapshot").size();
            MemoryDisk killed = files.copy();
            assertThat(killed.files(".tmp")).hasSize(1);

            gate.countDown();
            Awaitility.await()
                    .until(() -> files.files(".snapshot").size() > snapshots
                            || files.files(".tmp").isEmpty());
            MemoryDisk finished = files.copy();
            Path newest = finished.last(".snapshot");
            MemoryDisk damaged = finished.copy();
            damaged.flip(newest, damaged.get(newest).length / 2, 1);

            assertThat(store.stats().total().delivered()).isEqualTo(3);
            leftBehind.addAll(List.of(killed, killed.afterPowerCut(), finished, damaged));
        }
        leftBehind.forEach(left -> assertDelivered(left, CHANGES / BATCHES));
        assertDelivered(files, CHANGES / BATCHES);
    }

    private void assertDelivered(MemoryDisk left, int round) {
        try (BatchStore store = open(left)) {
            assertThat(store.list(ALL.states(BatchState.PENDING), clock.instant()))
                    .hasSize(BATCHES - 2)
                    .allSatisfy(batch -> {
                        assertThat(batch.nextAttemptAt()).isEqualTo(due(round));
                        assertThat(batch.retryCount()).isOne();
                        assertThat(batch.failureReason()).isEqualTo("503");
                    });
            assertThat(store.list(ALL.states(BatchState.DEAD), clock.instant()))
                    .singleElement()
                    .satisfies(batch -> assertThat(batch.failureReason()).isEqualTo("400"));
            assertThat(store.stats().total().accepted()).isEqualTo(BATCHES + 2);
            assertThat(store.stats().total().delivered()).isEqualTo(3);
            assertThat(store.stats().collectors().values()).allMatch(stats -> stats.isBalanced());
        }
    }

    @Test
    void a_long_reason_that_all_share_is_written_once() {
        MemoryDisk disk = new MemoryDisk();
        String html = "<html>" + "503 Service Unavailable ".repeat(150) + "</html>";
        try (BatchStore store = open(disk)) {
            append(store, 0, BATCHES);
            for (int i = 0; i < BATCHES; i++) {
                fail(store, i, i % 2 == 0, html + (i % 3 == 0 ? "" : "!"));
            }
        }
        assertThat(disk.files(".journal").stream()
                        .mapToLong(path -> disk.get(path).length)
                        .sum())
                .isLessThan(300_000);
        try (BatchStore store = open(disk)) {
            assertThat(store.list(ALL, clock.instant())).hasSize(BATCHES).allSatisfy(batch -> {
                int i = Integer.parseInt(batch.id().substring(6));
                assertThat(batch.failureReason()).isEqualTo(html + (i % 3 == 0 ? "" : "!"));
                assertThat(batch.state()).isEqualTo(i % 2 == 0 ? BatchState.DEAD : BatchState.PENDING);
            });
        }
    }

    @Test
    void more_reasons_than_are_numbered_at_a_time_are_all_remembered() {
        MemoryDisk disk = new MemoryDisk();
        // More than a journal numbers at a time. The store keeps only the first 4,096 reasons exactly and replaces the
        // digits of later ones.
        int many = 4_500;
        try (BatchStore store = open(disk)) {
            append(store, 0, many);
            for (int i = 0; i < many; i++) {
                fail(store, i, false, "request " + Integer.toString(i, 26).replaceAll("[0-9]", "z") + i);
            }
            for (int i = 0; i < many; i++) {
                assertThat(store.find("batch " + i).orElseThrow().failureReason())
                        .isNotNull();
            }
        }
        try (BatchStore store = open(disk)) {
            for (int i = 0; i < 4_096; i++) {
                assertThat(store.find("batch " + i).orElseThrow().failureReason())
                        .isEqualTo("request " + Integer.toString(i, 26).replaceAll("[0-9]", "z") + i);
            }
        }
    }

    /** After a backlog is delivered, nothing is left on the disk. */
    @Test
    void when_all_is_delivered_one_cleanup_leaves_what_an_empty_store_has() {
        MemoryDisk disk = new MemoryDisk();
        try (BatchStore store = open(disk)) {
            append(store, 0, 40_000);
            for (int i = 0; i < 40_000; i++) {
                fail(store, i, false, "503 in " + i % 100);
            }
            // Makes the journal large.
            change(store, 0, 3);
            store.reclaim();
            assertThat(size(disk)).isGreaterThan(10_000_000);
            for (int i = 0; i < 40_000; i++) {
                assertThat(store.delivered("batch " + i)).isNotNull();
            }
            store.reclaim();
            // Two logs with their reserve, and two nearly empty snapshots.
            assertThat(size(disk)).isLessThan(2 * (64 << 10) + 1_000);
            assertThat(store.stats().diskUsage()).isEqualTo(size(disk));
        }
        try (BatchStore store = open(disk)) {
            assertThat(store.stats().total().delivered()).isEqualTo(40_000);
            assertThat(store.stats().total().isBalanced()).isTrue();
        }
    }

    private static long size(MemoryDisk disk) {
        return disk.files().stream()
                .filter(path -> !path.getFileName().toString().equals("lock"))
                .mapToLong(path -> disk.get(path).length)
                .sum();
    }

    @Test
    void old_generations_are_deleted_and_the_one_before_is_kept() {
        MemoryDisk disk = new MemoryDisk();
        for (int i = 0; i < 5; i++) {
            try (BatchStore store = open(disk)) {
                append(store, i, i + 1);
            }
        }
        assertThat(disk.files(".journal")).hasSize(2);
        assertThat(disk.files(".snapshot")).hasSize(2);
        assertThat(disk.files(".tmp")).isEmpty();
    }
}
