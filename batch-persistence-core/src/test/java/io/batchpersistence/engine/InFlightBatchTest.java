package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class InFlightBatchTest {

    private final Lane lane = new Lane("loki", CollectorSettings.DEFAULT, new SplittableRandom(1), Instant.EPOCH, null);
    private final InFlightBatch inFlight = new InFlightBatch(
            new Claim(
                    new PersistedBatch(
                            "a",
                            Batches.entries(1),
                            "loki",
                            Instant.EPOCH,
                            null,
                            Instant.EPOCH,
                            0,
                            null,
                            Map.of(),
                            BatchState.IN_FLIGHT),
                    1),
            lane,
            lane.tryAcquire(Instant.EPOCH, false),
            new InFlightBatch.SettlementHandler() {
                @Override
                public boolean acknowledge(InFlightBatch settled) {
                    return true;
                }

                @Override
                public boolean fail(InFlightBatch settled, Failure failure) {
                    return true;
                }
            },
            Duration.ZERO);

    private boolean interruptFromAnotherThread() {
        boolean[] reached = new boolean[1];
        Thread other = new Thread(() -> reached[0] = inFlight.interrupt());
        other.start();
        // Not join(), which an interrupt would end.
        while (other.isAlive()) {
            Thread.onSpinWait();
        }
        return reached[0];
    }

    @Test
    void our_interrupt_is_not_left_behind_for_the_next_batch_of_the_thread() {
        inFlight.executionStarted();
        assertThat(interruptFromAnotherThread()).isTrue();
        assertThat(Thread.currentThread().isInterrupted()).isTrue();
        inFlight.executionEnded();
        assertThat(Thread.interrupted()).isFalse();
    }

    @Test
    void an_interrupt_by_the_application_is_kept() {
        inFlight.executionStarted();
        Thread.currentThread().interrupt();
        inFlight.executionEnded();
        assertThat(Thread.interrupted()).isTrue();
    }

    @Test
    void a_thread_that_has_gone_on_is_not_interrupted() {
        inFlight.executionStarted();
        inFlight.executionEnded();
        assertThat(interruptFromAnotherThread()).isFalse();
        assertThat(Thread.interrupted()).isFalse();
    }

    @Test
    void the_slot_is_freed_once_however_often_the_claim_ends() {
        assertThat(lane.tryAcquire(Instant.EPOCH, false)).isNull();
        inFlight.detach();
        inFlight.detach();
        assertThat(lane.tryAcquire(Instant.EPOCH, false)).isNotNull();
        assertThat(lane.tryAcquire(Instant.EPOCH, false)).as("one slot only").isNull();
    }
}
