package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Measurements: counters, lag, and their values in the context. */
class EngineCountersTest extends BenchTest {

    @Test
    void batches_that_are_refused_are_counted_and_duplicates_are_not() {
        rebuild(new InMemoryBatchStore(1), builder -> builder.overflow(OverflowPolicy.REJECT, SECOND));
        bench.persist("a");
        assertThatThrownBy(() -> bench.persist("b")).isInstanceOf(BatchRejectedException.class);
        assertThat(bench.engine.persistBatchAsync("c", Batches.entries(1), "loki"))
                .isCompletedExceptionally();
        assertThatThrownBy(() -> bench.persist("a")).isInstanceOf(DuplicateBatchException.class);
        assertThat(bench.engine.counters().refusedFull()).isEqualTo(2);
        assertThat(bench.engine.counters().refusedError()).isZero();
    }

    @Test
    void timeouts_and_replays_are_counted() {
        bench.usual = bench.usual().timeout(SECOND).maxRetries(1).get();
        bench.holdingTarget("loki");
        bench.persistDue("a");
        bench.tick();
        bench.tickAfter(SECOND.multipliedBy(2));
        assertThat(bench.engine.counters().timedOut()).isEqualTo(1);
        assertThat(bench.dead).hasSize(1);
        assertThat(bench.engine.counters().replayed()).isZero();
        bench.engine.replay(BatchSelector.all());
        assertThat(bench.engine.counters().replayed()).isEqualTo(1);
    }

    @Test
    void batches_being_sent_are_counted_while_they_are() {
        bench.sender(
                "loki", batch -> assertThat(bench.engine.counters().sending()).isEqualTo(1));
        bench.persistDue("a");
        bench.tick();
        assertThat(bench.stats().delivered()).isEqualTo(1);
        assertThat(bench.engine.counters().sending()).isZero();
    }

    @Test
    void a_batch_tells_how_long_it_was_due() {
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.persist("a");
        // Due now, but no recovery round runs yet.
        bench.engine.releaseBatch("a");
        bench.tickAfter(SECOND.multipliedBy(7));
        assertThat(held.get(0).overdue()).isEqualTo(SECOND.multipliedBy(7));
        held.get(0).retryAfter(Duration.ofMinutes(1), "later");
        bench.tickAfter(Duration.ofMinutes(1).plus(SECOND.multipliedBy(30)));
        assertThat(held.get(1).overdue())
                .as("since the next attempt, not since the first")
                .isBetween(SECOND.multipliedBy(20), SECOND.multipliedBy(30));
    }

    @Test
    void time_in_which_the_application_did_not_run_is_no_lag() {
        bench.persistDue("a");
        bench.clock.advance(Duration.ofHours(5));
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.restart(builder -> builder);
        bench.tickAfter(SECOND);
        assertThat(held.get(0).overdue()).isEqualTo(SECOND);
    }

    @Test
    void what_is_added_to_the_context_is_kept_with_the_batch() {
        rebuild(builder -> builder.contexts(given -> {
            Map<String, String> more = new HashMap<>(given);
            more.put("trace", Thread.currentThread().getName());
            return more;
        }));
        String caller = Thread.currentThread().getName();
        bench.engine.persistBatch("a", Batches.entries(1), "loki", Map.of("tenant", "x"));
        bench.engine
                .persistBatchAsync("b", Batches.entries(1), "loki", Map.of("tenant", "x"))
                .join();
        Map<String, String> expected = Map.of("tenant", "x", "trace", caller);
        bench.engine.deliver(
                "c",
                Batches.entries(1),
                "loki",
                Map.of("tenant", "x"),
                sent -> assertThat(sent.context()).isEqualTo(expected));
        assertThat(bench.stats().delivered()).isEqualTo(1);
        assertThat(List.of("a", "b"))
                .allSatisfy(id -> assertThat(bench.engine.find(id).orElseThrow().context())
                        .isEqualTo(expected));
    }
}
