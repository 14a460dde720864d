package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Discarding batches in flight must be linear. Quadratic work would take minutes. */
class DiscardInFlightTest extends DiskStoreFixture {

    private static final int BATCHES = 80_000;

    @Test
    void many_batches_in_flight_are_discarded_in_no_time_and_their_ids_are_free_again() {
        DiskStoreOptions options = options().compression(Compression.NONE).build();
        try (BatchStore store = StoreKind.SEGMENT.open(options, new MemoryDisk())) {
            appendMany(store, BATCHES);
            BatchSelector inFlight = BatchSelector.all().states(BatchState.IN_FLIGHT);
            long discarded =
                    assertTimeoutPreemptively(Duration.ofSeconds(20), () -> store.discard(inFlight, clock.instant()));
            assertThat(discarded).isEqualTo(BATCHES);
            appendMany(store, 10);
            assertThat(store.delivered("1")).isNotNull();
            assertThat(store.discard(inFlight, clock.instant())).isEqualTo(9);
            clock.advance(Duration.ofDays(1));
            assertThat(store.timedOut(clock.instant(), BATCHES)).isEmpty();
        }
    }

    private void appendMany(BatchStore store, int batches) {
        CompletableFuture<?>[] appended = IntStream.range(0, batches)
                .mapToObj(number -> store.append(batch("" + number, "loki", Batches.entries(1))))
                .toArray(CompletableFuture[]::new);
        CompletableFuture.allOf(appended).join();
    }
}
