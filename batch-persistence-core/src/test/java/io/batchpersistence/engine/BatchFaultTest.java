package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Classification;
import io.batchpersistence.LaneStatus.State;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RetryAfterException;
import java.io.IOException;
import java.io.NotSerializableException;
import java.net.ConnectException;
import java.nio.channels.UnresolvedAddressException;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** A batch that cannot be sent because of its content, not because of its collector. */
class BatchFaultTest extends BenchTest {

    /** Stands for an exception of a library that the core does not know. */
    private static final class RecordTooLargeException extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }

    private static List<Throwable> faultsOfTheBatch() {
        return List.of(
                new NullPointerException(),
                new IllegalArgumentException("no such level"),
                new NumberFormatException("for input string"),
                new NotSerializableException("a field"),
                new RecordTooLargeException());
    }

    private static List<Throwable> faultsOfNobodyKnowsWhom() {
        return List.of(
                new ConnectException("connection refused"),
                new IOException("HTTP 503"),
                new IllegalStateException("HTTP 401, 403 or 404"),
                new UnresolvedAddressException(),
                new RuntimeException(new NullPointerException()),
                new RetryAfterException(SECOND, "HTTP 429"),
                new OutOfMemoryError());
    }

    @ParameterizedTest
    @MethodSource("faultsOfTheBatch")
    void a_poison_batch_alone_becomes_a_dead_letter_and_its_collector_is_not_taken_to_be_down(Throwable thrown) {
        bench.sender("loki", throwing(() -> thrown));
        bench.persistDue("poison");
        bench.ticks(1_000, SECOND);
        assertThat(bench.dead).extracting(BatchSummary::id).containsExactly("poison");
        assertThat(bench.state("poison")).isEqualTo(BatchState.DEAD);
        assertThat(bench.sent).hasSize(10);
        assertThat(bench.outages).isEmpty();
    }

    @ParameterizedTest
    @MethodSource("faultsOfNobodyKnowsWhom")
    void what_may_be_the_collectors_fault_never_makes_a_dead_letter_of_a_batch_that_is_alone(Throwable thrown) {
        // Fewer failures than it takes to open the lane.
        bench.usual = bench.usual().maxRetries(2).get();
        bench.sender("loki", throwing(() -> thrown));
        bench.persistDue("only");
        bench.ticks(24 * 60, Duration.ofMinutes(1));
        assertThat(bench.dead).isEmpty();
        assertThat(bench.summary("only").retryCount()).isLessThanOrEqualTo(1);
        bench.sender("loki", batch -> {});
        bench.ticks(20, Duration.ofMinutes(1));
        assertThat(bench.stats().delivered()).isEqualTo(1);
    }

    @Test
    void poison_batches_of_their_own_fault_cost_the_good_ones_nothing() {
        bench.sender("loki", batch -> {
            if (batch.id().startsWith("poison")) {
                throw new IllegalArgumentException("no such level");
            }
        });
        bench.persistDue("poison0", "poison1", "poison2", "poison3", "good0", "good1", "poison4");
        bench.tick();
        assertThat(bench.stats().delivered()).isEqualTo(2);
        assertThat(bench.lane().state()).isEqualTo(State.CLOSED);
        assertThat(bench.lane().failuresInARow()).isZero();
    }

    @Test
    void as_a_probe_it_pays_itself_and_the_next_probe_goes_out_at_once() {
        boolean[] down = {true};
        bench.sender("loki", batch -> {
            if (batch.id().equals("poison")) {
                throw new NullPointerException();
            }
            if (down[0]) {
                throw new IOException("connection refused");
            }
        });
        bench.usual = bench.usual().maxRetries(4).get();
        bench.persistDue("a", "b", "c");
        bench.tick();
        assertThat(bench.lane().state()).isEqualTo(State.OPEN);
        bench.persistDue("poison");
        bench.ticks(3_600, SECOND);
        assertThat(bench.lane().state()).isEqualTo(State.OPEN);
        assertThat(bench.state("poison"))
                .as("the outage of its collector does not keep it")
                .isEqualTo(BatchState.DEAD);
        assertThat(bench.engine.count(BatchSelector.all().retries(2, 10).states(BatchState.PENDING)))
                .isZero();
        bench.persistDue("poison2");
        down[0] = false;
        bench.ticks(600, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(4);
    }

    @Test
    void it_neither_ends_an_outage_nor_keeps_its_probe() {
        rebuild(builder -> builder.failureClassifier(
                failure -> failure instanceof IOException ? Classification.BATCH : Classification.TRANSIENT));
        bench.usual = bench.usual().outageThreshold(1).get();
        List<RecoveredBatch> held = sendAndHold("a", "b", "c");
        held.get(0).fail("down");
        bench.ticks(1, SECOND);
        String probe = held.get(1).batch().id();
        bench.engine.markBatchFailed(probe, new IOException("HTTP 409"));
        assertThat(bench.lane().state()).isEqualTo(State.OPEN);
        assertThat(bench.summary(probe).retryCount()).isEqualTo(probe.equals("a") ? 2 : 1);
        bench.tick();
        assertThat(held).as("without a second passing").hasSize(3);
        held.get(2).acknowledge();
        assertThat(bench.lane().state()).isEqualTo(State.RAMPING);
    }

    @Test
    void the_default_lays_to_the_batch_what_comes_from_it_and_the_plain_one_nothing() {
        assertThat(faultsOfTheBatch()).allSatisfy(failure -> {
            assertThat(FailureClassifier.DEFAULT.classify(failure)).isEqualTo(Classification.BATCH);
            assertThat(FailureClassifier.TRANSIENT.classify(failure)).isEqualTo(Classification.TRANSIENT);
        });
        assertThat(faultsOfNobodyKnowsWhom())
                .allSatisfy(failure ->
                        assertThat(FailureClassifier.DEFAULT.classify(failure)).isEqualTo(Classification.TRANSIENT));
        assertThat(FailureClassifier.DEFAULT.classify(new PermanentDeliveryException("says so itself")))
                .isEqualTo(Classification.TRANSIENT);
    }
}
