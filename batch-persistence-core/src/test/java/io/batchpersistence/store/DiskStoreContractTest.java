package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchStats;
import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.BatchStoreContract;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletionException;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What every disk store guarantees beyond {@link BatchStoreContract}: a single owner and limits in bytes. */
abstract class DiskStoreContractTest extends BatchStoreContract {

    @TempDir
    Path directory;

    private long maxDiskUsage = 1 << 30;
    private long segmentSize;

    abstract BatchStore open(DiskStoreOptions.Builder options);

    @Override
    protected BatchStore open() {
        return Surroundings.of(open(options()));
    }

    private DiskStoreOptions.Builder options() {
        return DiskStoreOptions.builder(directory)
                .maxBatches(maxBatches)
                .maxDiskUsage(maxDiskUsage)
                .segmentSize(segmentSize)
                .clock(clock);
    }

    void reopenWith(long newMaxDiskUsage, long newSegmentSize) {
        store.close();
        maxDiskUsage = newMaxDiskUsage;
        segmentSize = newSegmentSize;
        reopen();
    }

    /** Content that does not compress, so that its size is known. */
    private NewBatch noise(String id, int bytes) {
        byte[] random = new byte[bytes / 2];
        new Random(id.hashCode()).nextBytes(random);
        return new NewBatch(
                id,
                "loki",
                List.of(LogEntry.of(Instant.EPOCH, null, HexFormat.of().formatHex(random))),
                Map.of(),
                now(),
                now().plusSeconds(60));
    }

    /** Appends until a batch is refused. Returns the accepted ids. */
    List<String> fill(String prefix, int bytesEach) {
        List<String> taken = new ArrayList<>();
        try {
            for (int i = 0; i < 100_000; i++) {
                store.append(noise(prefix + i, bytesEach)).join();
                taken.add(prefix + i);
            }
            throw new AssertionError("the store took everything");
        } catch (CompletionException e) {
            assertThat(e.getCause()).isInstanceOf(BatchRejectedException.class).hasMessageContaining("maxDiskUsage");
        }
        return taken;
    }

    long bytesOnDisk() {
        try (Stream<Path> files = Files.walk(directory)) {
            return files.filter(Files::isRegularFile)
                    .mapToLong(file -> file.toFile().length())
                    .sum();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void a_directory_has_one_owner_at_a_time() {
        append("a");
        assertThatExceptionOfType(DirectoryLockedException.class)
                .isThrownBy(this::open)
                .withMessageContaining(directory.getFileName().toString());
        append("b");
        reopen();
        assertThat(store.count(ALL, now())).isEqualTo(2);
    }

    @Test
    void the_bound_on_bytes_holds_and_delivering_makes_room() {
        reopenWith(2 << 20, 0);
        List<String> first = fill("a", 20_000);
        assertThat(first).hasSizeGreaterThan(10);
        assertThat(store.stats().diskUsage()).isLessThanOrEqualTo(2 << 20);
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(2 << 20);
        assertThat(store.stats().fillLevel()).isGreaterThan(0.9);
        assertThat(store.stats().total().accepted()).isEqualTo(first.size());

        first.forEach(store::delivered);
        store.reclaim();
        assertThat(bytesOnDisk()).isLessThan(1 << 20);
        assertThat(store.stats().diskUsage()).isLessThan(1 << 20);
        List<String> second = fill("b", 20_000);
        assertThat(second).hasSizeGreaterThanOrEqualTo(first.size() - 2);
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(2 << 20);

        reopen();
        assertThat(store.count(ALL, now())).isEqualTo(second.size());
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(2 << 20);
    }

    @Test
    void evicting_makes_room_at_once() {
        reopenWith(1 << 20, 0);
        List<String> taken = fill("a", 20_000);
        reopen();
        int evicted = 0;
        while (evicted < taken.size()) {
            evicted += store.evictOldest(1).size();
            try {
                store.append(noise("new", 20_000)).join();
                break;
            } catch (CompletionException e) {
                assertThat(e.getCause()).isInstanceOf(BatchRejectedException.class);
            }
        }
        assertThat(store.find("new")).isPresent();
        assertThat(evicted).isLessThanOrEqualTo(taken.size() / 4);
    }

    @Test
    void the_usage_reported_is_that_of_the_files() {
        append(IntStream.range(0, 50).mapToObj(i -> "batch " + i).toArray(String[]::new));
        reopen();
        append("one more");
        long lock = directory.resolve("lock").toFile().length();
        assertThat(store.stats().diskUsage()).isEqualTo(bytesOnDisk() - lock);
        store.discard(BatchSelector.all(), now());
        store.reclaim();
        assertThat(store.stats().diskUsage()).isEqualTo(bytesOnDisk() - lock);
    }

    @Test
    void what_was_written_is_counted() {
        BatchStats.Writes before = store.stats().writes();
        append("a", "b", "c");
        store.append(noise("noise", 10_000)).join();
        BatchStats.Writes after = store.stats().writes();
        assertThat(after.batches() - before.batches()).isEqualTo(4);
        assertThat(after.groups() - before.groups()).isBetween(1L, 4L);
        assertThat(after.bytes() - before.bytes()).isGreaterThan(5_000);
        assertThat(after.forces() - before.forces()).isGreaterThanOrEqualTo(after.groups() - before.groups());
        assertThat(after.forceNanos()).isGreaterThan(before.forceNanos());
        assertThat(after.groupNanos()).isGreaterThan(before.groupNanos());
    }

    @Test
    void what_is_refused_was_not_written() {
        reopenWith(1 << 20, 0);
        int taken = fill("a", 20_000).size();
        assertThat(store.stats().writes().batches()).isEqualTo(taken);
    }

    @Test
    void a_batch_larger_than_a_segment_is_taken() {
        reopenWith(1 << 30, 4 << 10);
        NewBatch large = noise("large", 3_000_000);
        store.append(large).join();
        append("small");
        reopen();
        assertThat(store.find("large").orElseThrow().entries()).isEqualTo(large.entries());
        assertThat(store.delivered("large")).isNotNull();
        store.reclaim();
        assertThat(bytesOnDisk()).isLessThan(2_000_000);
    }

    @Test
    void an_interrupted_thread_can_open() {
        append("a");
        Thread.currentThread().interrupt();
        reopen();
        assertThat(Thread.interrupted()).isTrue();
        append("b");
        assertThat(store.count(ALL, now())).isEqualTo(2);
    }
}
