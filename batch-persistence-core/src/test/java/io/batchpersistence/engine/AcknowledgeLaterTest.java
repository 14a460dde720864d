package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.test.InMemoryBatchStore;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Recovery with a store that takes long to record what has been delivered. */
class AcknowledgeLaterTest {

    private static final int MOST = 16;

    /** Records a delivery when it is waited for, and not before. */
    private static final class SlowStore extends InMemoryBatchStore {
        private final List<String> unrecorded = new ArrayList<>();
        private final List<String> recorded = new ArrayList<>();
        private boolean fails;
        private boolean refusesAll;
        private Runnable whileWaiting = () -> {};

        @Override
        public CompletableFuture<Settled> deliveredLater(String batchId) {
            unrecorded.add(batchId);
            return new CompletableFuture<>() {
                @Override
                public Settled join() {
                    whileWaiting.run();
                    unrecorded.remove(batchId);
                    if (fails) {
                        completeExceptionally(new BatchPersistenceException("the commit failed", null));
                    } else {
                        recorded.add(batchId);
                        complete(delivered(batchId));
                    }
                    return super.join();
                }
            };
        }

        @Override
        public synchronized Settled failed(
                String batchId, long fence, String reason, Instant at, FailureDecision decision) {
            if (refusesAll) {
                throw new BatchPersistenceException("the store is away", null);
            }
            return super.failed(batchId, fence, reason, at, decision);
        }
    }

    private final SlowStore store = new SlowStore();
    private final Bench bench = new Bench(store, builder -> builder);

    @AfterEach
    void close() {
        bench.close();
    }

    private static String[] ids(int count) {
        String[] ids = new String[count];
        for (int i = 0; i < count; i++) {
            ids[i] = "b%02d".formatted(i);
        }
        return ids;
    }

    private void concurrency(int most) {
        bench.usual = bench.usual().concurrency(most).get();
    }

    @Test
    void the_next_batches_are_sent_while_the_store_records_the_last_ones_and_in_their_order() {
        concurrency(1);
        List<Integer> unrecorded = new ArrayList<>();
        bench.sender("loki", batch -> unrecorded.add(store.unrecorded.size()));
        String[] ids = ids(40);
        bench.persistDue(ids);
        bench.tick();
        assertThat(bench.sent).containsExactly(ids);
        assertThat(unrecorded.subList(0, MOST)).containsExactly(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        assertThat(unrecorded.subList(MOST, 40)).as("the most that wait").containsOnly(MOST - 1);
        assertThat(store.recorded).as("all, before the task ends").containsExactly(ids);
        assertThat(bench.stats().delivered()).isEqualTo(40);
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void the_limit_is_one_of_all_workers_of_a_lane() {
        concurrency(8);
        List<Integer> unrecorded = new ArrayList<>();
        bench.sender("loki", batch -> unrecorded.add(store.unrecorded.size()));
        bench.persistDue(ids(40));
        bench.tick();
        assertThat(unrecorded).hasSize(40).allMatch(waiting -> waiting < MOST / 8);
    }

    @Test
    void a_batch_whose_delivery_could_not_be_recorded_is_sent_once_more_and_the_others_are_not() {
        concurrency(1);
        bench.sender("loki", batch -> store.fails = batch.id().equals("b01"));
        bench.persistDue("b00", "b01");
        bench.tick();
        // Both are recorded after the second was sent.
        assertThat(bench.sent).containsExactly("b00", "b01");
        assertThat(bench.isHeld("b00")).isTrue();
        store.fails = false;
        bench.sender("loki", batch -> {});
        bench.tickAfter(BenchTest.SECOND.multipliedBy(10));
        assertThat(bench.sent).containsExactlyInAnyOrder("b00", "b01", "b00", "b01");
        assertThat(bench.stats().pending() + bench.stats().inFlight()).isZero();
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void that_the_store_fails_to_record_many_is_no_failure_of_the_collector_nor_a_retry() {
        concurrency(1);
        bench.sender("loki", batch -> {});
        store.fails = true;
        String[] ids = ids(20);
        bench.persistDue(ids);
        bench.tick();
        assertThat(bench.sent).containsExactly(ids);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
        assertThat(bench.lane().failuresInARow()).isZero();
        assertThat(bench.stats().pending()).isEqualTo(20);
        assertThat(bench.summary("b00").retryCount()).isZero();
        bench.tickAfter(Duration.ofMillis(900));
        assertThat(bench.sent).as("after a pause").hasSize(20);
        store.fails = false;
        bench.tickAfter(BenchTest.SECOND);
        assertThat(bench.sent).hasSize(40);
        assertThat(bench.stats().delivered()).isEqualTo(20);
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void what_the_store_cannot_even_put_off_is_sent_after_its_timeout_and_that_is_no_failure_either() {
        concurrency(1);
        bench.sender("loki", batch -> {});
        store.fails = true;
        store.refusesAll = true;
        bench.persistDue(ids(16));
        bench.tick();
        assertThat(bench.stats().inFlight()).isEqualTo(16);
        store.fails = false;
        store.refusesAll = false;
        bench.tickAfter(bench.usual.batchTimeout().plus(BenchTest.SECOND));
        assertThat(bench.stats().delivered()).isEqualTo(16);
        assertThat(bench.engine.counters().timedOut()).isZero();
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void a_success_is_older_evidence_than_a_failure_before_it_was_recorded() {
        bench.usual = bench.usual().concurrency(1).outageThreshold(1).get();
        bench.sender("loki", batch -> {
            if (batch.id().equals("b01")) {
                throw new IOException("down");
            }
        });
        bench.persistDue("b00", "b01");
        bench.tick();
        assertThat(store.recorded).containsExactly("b00");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        assertThat(bench.lane().failuresInARow()).isOne();
    }

    @Test
    void while_workers_wait_for_the_store_further_rounds_do_not_exceed_the_limit() {
        concurrency(1);
        List<Integer> unrecorded = new ArrayList<>();
        bench.sender("loki", batch -> unrecorded.add(store.unrecorded.size()));
        int[] rounds = {0};
        store.whileWaiting = () -> {
            if (rounds[0]++ < 3) {
                bench.tick();
            }
        };
        bench.persistDue(ids(80));
        bench.tick();
        assertThat(rounds[0]).isGreaterThan(3);
        assertThat(unrecorded).hasSize(80).allMatch(waiting -> waiting < MOST);
        assertThat(bench.stats().delivered()).isEqualTo(80);
    }

    @Test
    void a_thread_that_waits_for_the_store_is_one_that_the_lane_holds() {
        Instant now = bench.clock.instant();
        Lane lane = new Lane("loki", bench.usual, new SplittableRandom(7), now, null);
        Lane.Permit permit = lane.tryAcquire(now, false);
        lane.threadFreed(permit);
        lane.releaseUnrecorded(permit);
        assertThat(lane.holdsThread()).isTrue();
        assertThat(lane.tryAcquire(now, true)).isNull();
        assertThat(lane.retire(now, outage -> {})).isFalse();
        lane.recorded();
        assertThat(lane.holdsThread()).isFalse();
        assertThat(lane.tryAcquire(now, true)).isNotNull();
    }

    @Test
    void while_the_collector_has_not_answered_since_a_failure_nothing_is_put_off() {
        concurrency(1);
        List<Integer> unrecorded = new ArrayList<>();
        bench.sender("loki", batch -> {
            unrecorded.add(store.unrecorded.size());
            if (batch.id().equals("b00")) {
                throw new IOException("down");
            }
        });
        bench.persistDue(ids(4));
        bench.tick();
        assertThat(bench.sent).containsExactly("b00", "b01", "b02", "b03");
        // The first success is recorded before the third batch is sent.
        assertThat(unrecorded).containsExactly(0, 0, 0, 1);
        assertThat(bench.lane().failuresInARow()).isZero();
    }

    @Test
    void a_target_that_acknowledges_later_by_another_thread_waits() throws Exception {
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.persistDue("a");
        bench.tick();
        Thread other = new Thread(held.get(0)::acknowledgeLater);
        other.start();
        other.join();
        assertThat(store.unrecorded).isEmpty();
        assertThat(held.get(0).isSettled()).isTrue();
        assertThat(bench.isHeld("a")).isFalse();
    }

    @Test
    void a_batch_that_is_being_recorded_cannot_be_settled_otherwise() {
        bench.target("loki", batch -> {
            batch.acknowledgeLater();
            assertThat(batch.fail("no")).isFalse();
            assertThat(batch.acknowledge()).isFalse();
            assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);
        });
        bench.persistDue("a");
        bench.tick();
        assertThat(store.recorded).containsExactly("a");
        assertThat(bench.stats().delivered()).isOne();
    }
}
