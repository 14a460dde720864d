package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.awaitility.Awaitility;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.JRE;

/** Commit leader and followers, and batches from one entry to a hundred megabytes, on a real disk. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class SegmentWriterTest extends DiskStoreFixture {

    private NewBatch loki(String id, List<LogEntry> entries) {
        return batch(id, "loki", entries);
    }

    private NewBatch loki(String id) {
        return loki(id, List.of(LogEntry.of(now(), "INFO", "entry of " + id)));
    }

    @Test
    void a_caller_who_waits_alone_writes_his_batch_himself() {
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            int before = disk.segmentForces();
            assertThat(store.appendAndWait(loki("mine"))).isCompleted();
            assertThat(disk.lastForcing()).isSameAs(Thread.currentThread());
            assertThat(disk.segmentForces() - before).isOne();

            store.append(loki("someone's")).join();
            assertThat(disk.lastForcing()).isNotSameAs(Thread.currentThread());
            assertThat(store.find("mine")).isPresent();
            assertThat(store.find("someone's")).isPresent();
        }
    }

    @Test
    void a_sync_interval_of_centuries_means_that_nothing_is_forced() {
        DiskStoreOptions never = options()
                .sync(SyncPolicy.INTERVAL)
                .syncInterval(Duration.ofDays(365_000))
                .build();
        try (BatchStore store = StoreKind.SEGMENT.open(never)) {
            assertThat(store.append(loki("mine")).join()).isNull();
            assertThat(store.delivered("mine")).isNotNull();
            assertThat(store.append(loki("next")).join()).isNull();
        }
    }

    @Test
    void callers_that_come_while_another_writes_share_the_next_force() throws Exception {
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            store.appendAndWait(loki("first")).join();
            int before = disk.segmentForces();
            CountDownLatch gate = disk.blockForces();
            List<Thread> callers = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                String id = "caller " + i;
                Thread caller = new Thread(() -> store.appendAndWait(loki(id)).join());
                callers.add(caller);
                caller.start();
                if (i == 0) {
                    Awaitility.await().until(() -> disk.waitingForces() == 1);
                }
            }
            Awaitility.await()
                    .until(() ->
                            callers.stream().skip(1).allMatch(caller -> caller.getState() == Thread.State.WAITING));
            gate.countDown();
            for (Thread caller : callers) {
                caller.join();
            }
            assertThat(disk.segmentForces() - before).isEqualTo(2);
            assertThat(store.stats().total().accepted()).isEqualTo(9);
        }
    }

    @Test
    void all_callers_that_share_a_force_are_notified_whatever_they_are() throws Exception {
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            CountDownLatch gate = disk.blockForces();
            List<CompletableFuture<?>> callers = new ArrayList<>();
            callers.add(store.append(loki("first")));
            Awaitility.await().until(() -> disk.waitingForces() == 1);
            List<Thread> threads = new ArrayList<>();
            AtomicInteger interrupted = new AtomicInteger();
            for (int i = 0; i < 12; i++) {
                String id = "caller " + i;
                if (i % 4 == 3) {
                    callers.add(store.append(loki(id)));
                    continue;
                }
                CompletableFuture<@Nullable Void> returned = new CompletableFuture<>();
                callers.add(returned);
                Runnable waits = () -> {
                    assertThat(store.appendAndWait(loki(id))).isCompleted();
                    interrupted.addAndGet(Thread.interrupted() ? 1 : 0);
                    returned.complete(null);
                };
                if (i % 4 == 0) {
                    startVirtual(waits);
                } else {
                    threads.add(new Thread(waits));
                    threads.get(threads.size() - 1).start();
                }
            }
            Awaitility.await()
                    .until(() -> threads.stream().allMatch(thread -> thread.getState() == Thread.State.WAITING));
            threads.get(0).interrupt();
            threads.get(3).interrupt();
            gate.countDown();
            for (CompletableFuture<?> caller : callers) {
                assertThat(caller.get(60, TimeUnit.SECONDS)).isNull();
            }
            assertThat(interrupted).hasValue(2);
            assertThat(store.stats().total().accepted()).isEqualTo(13);
        }
    }

    /** On a platform thread before Java 21. */
    private static void startVirtual(Runnable task) throws ReflectiveOperationException {
        if (JRE.currentJre().compareTo(JRE.JAVA_21) < 0) {
            new Thread(task).start();
        } else {
            Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, task);
        }
    }

    @Test
    void an_interrupted_caller_writes_all_the_same_and_harms_no_other() {
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            CompletableFuture<?> others = store.append(loki("others"));
            Thread.currentThread().interrupt();
            try {
                for (int i = 0; i < 20; i++) {
                    assertThat(store.appendAndWait(loki("interrupted " + i))).isCompleted();
                }
                assertThat(Thread.currentThread().isInterrupted()).isTrue();
            } finally {
                Thread.interrupted();
            }
            others.join();
            assertThat(store.appendAndWait(loki("after"))).isCompleted();
            assertThat(store.stats().total().accepted()).isEqualTo(22);
        }
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            assertThat(store.stats().total().pending()).isEqualTo(22);
        }
    }

    @Test
    void one_thread_can_have_many_batches_under_way() {
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            store.appendAndWait(loki("first")).join();
            int before = disk.segmentForces();
            CountDownLatch gate = disk.blockForces();
            List<CompletableFuture<?>> underWay = new ArrayList<>();
            for (int i = 0; i < 1_000; i++) {
                underWay.add(store.append(loki("batch " + i)));
            }
            assertThat(underWay).noneMatch(CompletableFuture::isDone);
            gate.countDown();
            underWay.forEach(CompletableFuture::join);
            assertThat(disk.segmentForces() - before).isLessThan(10);
        }
    }

    @Test
    void who_waits_is_told_what_went_wrong_with_his_batch_alone() {
        FaultyDisk disk = new FaultyDisk(new NioDisk());
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            store.appendAndWait(loki("before")).join();
            disk.fail(FaultyDisk.Operation.FORCE, ".segment", "Input/output error")
                    .times(1);
            CompletableFuture<?> failed = store.appendAndWait(loki("failed"));
            assertThatExceptionOfType(ExecutionException.class)
                    .isThrownBy(failed::get)
                    .withMessageContaining("Input/output error")
                    .withMessageContaining("'failed'");
            assertThat(store.appendAndWait(loki("failed"))).isCompleted();
            assertThat(store.stats().total().accepted()).isEqualTo(2);
        }
    }

    @Test
    void full_segments_are_sealed_while_the_store_goes_on() throws IOException {
        Random random = new Random(1);
        DiskStoreOptions options =
                options().segmentSize(1 << 20).compression(Compression.NONE).build();
        int batches = 0;
        try (BatchStore store = StoreKind.SEGMENT.open(options)) {
            for (; batches < 60; batches++) {
                store.appendAndWait(loki("batch " + batches, List.of(message(random, 100_000))))
                        .join();
            }
            Awaitility.await()
                    .until(() -> segments().stream()
                                    .filter(SegmentWriterTest::isSealed)
                                    .count()
                            >= 5);
        }
        assertThat(segments()).allMatch(SegmentWriterTest::isSealed);
        try (BatchStore store = StoreKind.SEGMENT.open(options)) {
            assertThat(store.stats().total().pending()).isEqualTo(batches);
        }
    }

    private List<Path> segments() throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.filter(file -> file.toString().endsWith(".segment"))
                    .sorted()
                    .toList();
        }
    }

    private static byte[] bytes(Path file) {
        try {
            return Files.readAllBytes(file);
        } catch (IOException e) {
            // Deleted meanwhile.
            return new byte[0];
        }
    }

    private static boolean isSealed(Path file) {
        byte[] bytes = bytes(file);
        return bytes.length > 20
                && bytes[bytes.length - 4] == 'B'
                && bytes[bytes.length - 3] == 'P'
                && bytes[bytes.length - 2] == 'E';
    }

    private LogEntry message(Random random, int length) {
        byte[] text = new byte[length];
        random.nextBytes(text);
        for (int i = 0; i < length; i++) {
            text[i] = (byte) (' ' + (text[i] & 63));
        }
        return LogEntry.of(now(), "INFO", new String(text, StandardCharsets.ISO_8859_1));
    }

    @Test
    void a_batch_of_a_hundred_megabytes_and_one_of_an_entry_both_come_back() {
        Random random = new Random(3);
        List<LogEntry> huge =
                Stream.generate(() -> message(random, 1 << 20)).limit(100).toList();
        Disk disk = new NioDisk();
        try (BatchStore store = StoreKind.SEGMENT.open(
                options().sync(SyncPolicy.NEVER).compression(Compression.NONE).build(), disk)) {
            store.appendAndWait(loki("tiny before")).join();
            store.appendAndWait(loki("huge", huge)).join();
            store.appendAndWait(loki("tiny after")).join();
        }
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            List<Claim> claims = claim(store, "loki", 9);
            assertThat(claims)
                    .extracting(claim -> claim.batch().id())
                    .containsExactly("tiny before", "huge", "tiny after");
            assertThat(claims.get(1).batch().entries().equals(huge)).isTrue();
            assertThat(store.delivered("huge")).isNotNull();
            store.reclaim();
            Awaitility.await().until(() -> store.stats().diskUsage() < 1 << 20);
            assertThat(store.find("tiny before")).isPresent();
            assertThat(store.find("tiny after")).isPresent();
        }
    }

    @Test
    void a_batch_that_no_record_can_hold_is_refused_with_what_to_do() {
        LogEntry large = LogEntry.of(now(), "INFO", "x".repeat(90 << 20));
        try (BatchStore store = StoreKind.SEGMENT.open(
                options().sync(SyncPolicy.NEVER).compression(Compression.NONE).build())) {
            CompletableFuture<?> refused = store.appendAndWait(loki("too large", List.of(large, large, large)));
            assertThatExceptionOfType(ExecutionException.class)
                    .isThrownBy(refused::get)
                    .withCauseInstanceOf(IllegalArgumentException.class)
                    .withMessageContaining("at most 268435456")
                    .withMessageContaining("split its 3 entries");
            assertThat(store.appendAndWait(loki("next"))).isCompleted();
        }
    }
}
