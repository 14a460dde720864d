package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.test.InMemoryBatchStore;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

class OutageTest extends BenchTest {

    private boolean down;

    private void collector() {
        bench.sender("loki", batch -> {
            if (down || batch.id().startsWith("poison")) {
                throw new IOException("connection refused");
            }
        });
    }

    @Test
    void sixty_hours_of_outage_cost_probes_and_no_batch() {
        bench.usual = bench.usual()
                .retry(RecoveryPolicy.DEFAULT)
                .ttl(Duration.ofDays(30), Duration.ofDays(30))
                .get();
        collector();
        bench.persistDue(ids("b", 1_000));
        down = true;
        bench.ticks(60 * 60 * 6, Duration.ofSeconds(10));

        assertThat(bench.dead).isEmpty();
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        assertThat(bench.sent).as("a probe every 2.5 to 5 minutes").hasSizeBetween(60 * 12, 60 * 24 + 20);
        assertThat(bench.store.list(BatchSelector.all(), bench.clock.instant()))
                .extracting(BatchSummary::retryCount)
                .as("only the three that opened the lane paid for it")
                .filteredOn(retries -> retries > 0)
                .hasSize(3)
                .containsOnly(1);
        assertThat(bench.warnings())
                .filteredOn(line -> line.contains("is marked down"))
                .hasSize(1);

        down = false;
        bench.ticks(60 * 10, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(1_000);
        assertThat(bench.stats().isBalanced()).isTrue();
        assertThat(bench.lane()).as("nothing left to know").isNull();
    }

    @Test
    void after_an_outage_the_rate_is_one_two_four_a_second() {
        collector();
        bench.persistDue(ids("b", 3_000));
        down = true;
        bench.ticks(10, SECOND);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        down = false;
        while (bench.stats().delivered() == 0) {
            bench.tickAfter(SECOND);
        }
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        assertThat(bench.lane().outageSince()).isNull();
        List<Long> perSecond = new ArrayList<>();
        for (int i = 0; i < 9; i++) {
            long before = bench.stats().delivered();
            bench.tickAfter(SECOND);
            perSecond.add(bench.stats().delivered() - before);
        }
        assertThat(perSecond).containsExactly(2L, 4L, 8L, 16L, 32L, 64L, 128L, 256L, 512L);
        bench.tickAfter(SECOND);
        assertThat(bench.lane() == null || bench.lane().state() == LaneStatus.State.CLOSED)
                .isTrue();
        bench.ticks(5, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(3_000);
    }

    @Test
    void probes_come_one_at_a_time_with_growing_distance() {
        collector();
        down = true;
        bench.usual = bench.usual().concurrency(8).get();
        bench.persistDue(ids("b", 100));
        List<Instant> probes = new ArrayList<>();
        bench.tick();
        int before = bench.sent.size();
        assertThat(bench.lane().outageSince()).isEqualTo(bench.clock.instant());
        assertThat(bench.lane().nextProbeAt()).isEqualTo(bench.in(SECOND));
        Instant opened = bench.clock.instant();
        for (int i = 0; i < 40; i++) {
            bench.tickAfter(SECOND);
            if (bench.sent.size() > before) {
                assertThat(bench.sent.size()).isEqualTo(before + 1);
                before = bench.sent.size();
                probes.add(bench.clock.instant());
            }
        }
        assertThat(probes)
                .containsExactly(
                        opened.plusSeconds(1),
                        opened.plusSeconds(3),
                        opened.plusSeconds(7),
                        opened.plusSeconds(15),
                        opened.plusSeconds(31));
    }

    @Test
    void an_unsettled_probe_is_the_only_one() {
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.usual = bench.usual().concurrency(4).outageThreshold(1).get();
        bench.persistDue(ids("b", 10));
        bench.persistFailed("x", "down");
        bench.ticks(60, SECOND);
        assertThat(held).hasSize(1);
        held.get(0).fail("still down");
        bench.executor.runAll();
        assertThat(held).hasSize(1);
        bench.ticks(2, SECOND);
        assertThat(held).hasSize(2);
        held.get(1).acknowledge();
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
    }

    @Test
    void a_single_batch_is_probed_at_the_lanes_own_pace() {
        collector();
        down = true;
        bench.usual = bench.usual().outageThreshold(1).get();
        bench.persistDue("only");
        bench.tick();
        bench.ticks(31, SECOND);
        assertThat(bench.sent)
                .as("the failure, and probes after 1, 3, 7, 15 and 31 seconds")
                .hasSize(6);
        assertThat(bench.summary("only").retryCount()).isEqualTo(1);
    }

    @Test
    void poison_at_the_front_of_the_queue_does_not_keep_the_lane_open() {
        collector();
        bench.persistDue("poison1", "poison2", "poison3", "poison4", "poison5", "good1", "good2", "good3");
        bench.ticks(40, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(3);
        assertThat(bench.isHeld("good1") || bench.isHeld("good2") || bench.isHeld("good3"))
                .isFalse();
    }

    @Test
    void poison_amid_good_batches_ends_as_a_dead_letter_and_alone() {
        collector();
        bench.usual = bench.usual().maxRetries(4).get();
        bench.persistDue("poison");
        for (int i = 0; i < 300; i++) {
            bench.tickAfter(SECOND);
            bench.persist("good" + i);
            bench.engine.markBatchFailed("good" + i, "first send");
        }
        bench.ticks(10, SECOND);
        assertThat(bench.dead).extracting(BatchSummary::id).containsExactly("poison");
        assertThat(bench.stats().delivered()).isEqualTo(300);
    }

    /** Until the lane has closed again. Of 20 batches most have been pushed back as probes. */
    private void recoverFromAnHourOfOutage() {
        collector();
        down = true;
        bench.persistDue(ids("b", 20));
        bench.ticks(3_600, SECOND);
        down = false;
        while (bench.lane().state() == LaneStatus.State.OPEN) {
            bench.tickAfter(SECOND);
        }
    }

    @Test
    void batches_pushed_back_as_probes_are_sent_when_the_lane_has_closed_again() {
        recoverFromAnHourOfOutage();
        bench.ticks(15, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(20);
    }

    @Test
    void batches_pushed_back_as_probes_are_sent_also_if_making_them_due_fails_once() {
        boolean[] failing = {false};
        int[] failed = {0};
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public synchronized long reschedule(BatchSelector selector, Instant now, Instant nextAttemptAt) {
                if (failing[0]) {
                    failed[0]++;
                    throw new BatchPersistenceException("rescheduling failed", null);
                }
                return super.reschedule(selector, now, nextAttemptAt);
            }
        };
        rebuild(store, builder -> builder);
        recoverFromAnHourOfOutage();
        failing[0] = true;
        while (failed[0] == 0) {
            bench.tickAfter(SECOND);
        }
        failing[0] = false;
        bench.ticks(15, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(20);
    }

    @Test
    void failures_of_first_sends_open_the_lane_too_and_then_cost_no_retries() {
        for (String id : ids("b", 5)) {
            bench.persistFailed(id, "down");
        }
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        assertThat(bench.lane().failuresInARow()).isEqualTo(5);
        assertThat(bench.lane().lastFailure()).isEqualTo("down");
        assertThat(bench.summary("b2").retryCount()).isEqualTo(1);
        assertThat(bench.summary("b3").retryCount()).isZero();
    }

    @Test
    void a_success_of_the_application_ends_the_outage() {
        collector();
        down = true;
        bench.persistDue(ids("b", 3));
        bench.tick();
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        bench.persist("fresh");
        bench.engine.markBatchSuccess("fresh");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        assertThat(bench.lane().failuresInARow()).isZero();
    }

    @Test
    void a_permanent_answer_proves_that_the_collector_lives() {
        bench.usual = bench.usual().outageThreshold(1).get();
        List<RecoveredBatch> held = sendAndHold("a", "b");
        held.get(0).fail("down");
        bench.ticks(1, SECOND);
        held.get(1).reject("malformed");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        assertThat(bench.state(bench.sent.get(1))).isEqualTo(BatchState.DEAD);
    }

    @Test
    void a_failure_while_ramping_halves_the_rate_and_threshold_failures_open_the_lane_again() {
        collector();
        bench.usual = bench.usual().outageThreshold(2).get();
        down = true;
        bench.persistDue(ids("b", 200));
        bench.tick();
        down = false;
        // Sends the probe, then 2, 4 and 8 batches.
        bench.ticks(4, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(15);
        bench.persistFailed("first-send", "hiccup");
        long before = bench.stats().delivered();
        bench.tickAfter(SECOND.dividedBy(2));
        assertThat(bench.stats().delivered() - before)
                .as("half a second at 4 a second")
                .isEqualTo(2);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        down = true;
        bench.ticks(3, SECOND);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
    }

    @Test
    void
            throttling_while_ramping_halves_the_rate_and_the_threshold_opens_the_lane_for_as_long_as_the_collector_wants() {
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.usual = bench.usual().outageThreshold(1).concurrency(100).get();
        bench.persistDue(ids("b", 50));
        bench.persistFailed("x", "down");
        bench.tickAfter(SECOND);
        held.get(0).acknowledge();
        bench.usual = bench.usual().outageThreshold(3).concurrency(100).get();
        // Sends 2, then 4 batches.
        bench.ticks(2, SECOND);
        assertThat(held).hasSize(7);
        assertThat(bench.lane().rate()).isEqualTo(4);
        held.get(1).retryAfter(Duration.ofSeconds(20), "429");
        assertThat(bench.lane().rate()).as("it may be about this one batch").isEqualTo(4);
        held.get(2).retryAfter(Duration.ofSeconds(20), "429");
        assertThat(bench.lane().rate()).isEqualTo(2);
        held.get(3).retryAfter(Duration.ofSeconds(20), "429");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        bench.ticks(19, SECOND);
        assertThat(held).as("not before the collector wants it").hasSize(7);
        bench.tickAfter(SECOND);
        assertThat(held).as("a probe").hasSize(8);
        held.get(7).acknowledge();
        bench.tickAfter(SECOND);
        assertThat(held).hasSize(10);
    }

    @Test
    void an_operator_can_have_a_collector_that_is_down_probed_at_once() {
        collector();
        down = true;
        bench.persistDue(ids("b", 10));
        bench.ticks(600, SECOND);
        int before = bench.sent.size();
        assertThat(bench.lane().nextProbeAt()).isAfter(bench.clock.instant());
        down = false;
        assertThat(bench.engine.recover(BatchSelector.all().collectorTypes("loki")))
                .isEqualTo(10);
        bench.executor.runAll();
        assertThat(bench.sent).hasSize(before + 1);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
    }

    @Test
    void with_threshold_zero_a_lane_never_opens() {
        collector();
        down = true;
        bench.usual = bench.usual().outageThreshold(0).get();
        bench.persistDue(ids("b", 50));
        bench.tick();
        assertThat(bench.sent).hasSize(50);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
    }

    @Test
    void max_rate_holds_and_a_long_pause_does_not_save_up() {
        collector();
        bench.usual = bench.usual().maxRate(5).get();
        bench.persistDue(ids("b", 100));
        bench.tick();
        assertThat(bench.sent).hasSize(5);
        bench.ticks(2, SECOND);
        assertThat(bench.sent).hasSize(15);
        bench.tickAfter(Duration.ofHours(1));
        assertThat(bench.sent).hasSize(20);
        bench.ticks(5, Duration.ofMillis(200));
        assertThat(bench.sent).hasSize(25);
    }

    @Test
    void a_rate_below_one_a_second_is_possible() {
        collector();
        bench.usual = bench.usual().maxRate(0.1).get();
        bench.persistDue(ids("b", 10));
        bench.tick();
        bench.ticks(30, SECOND);
        assertThat(bench.sent).hasSize(4);
    }

    @Test
    void an_empty_look_costs_no_rate() {
        collector();
        bench.usual = bench.usual().maxRate(1).get();
        bench.persist("in-flight");
        bench.ticks(1, SECOND);
        bench.tick();
        bench.tick();
        bench.engine.markBatchFailed("in-flight", "x");
        bench.tickAfter(SECOND);
        assertThat(bench.sent).hasSize(1);
    }

    @Test
    void a_clock_set_back_stops_neither_rate_nor_probes_nor_pauses_for_longer_than_they_were() {
        collector();
        bench.usual = bench.usual().maxRate(1).outageThreshold(3).get();
        bench.persistDue(ids("b", 20));
        bench.tick();
        bench.clock.advance(Duration.ofDays(-1));
        bench.engine.recover(BatchSelector.all());
        bench.executor.runAll();
        bench.ticks(3, SECOND);
        assertThat(bench.sent.size()).isBetween(3, 5);

        down = true;
        bench.ticks(20, SECOND);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        bench.clock.advance(Duration.ofDays(-1));
        bench.store.reschedule(BatchSelector.all(), bench.clock.instant(), bench.clock.instant());
        down = false;
        bench.ticks(60, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(20);
    }

    @Test
    void a_clock_that_leaps_ahead_does_not_end_the_ramp_at_once() {
        collector();
        bench.usual =
                bench.usual().ttl(Duration.ofDays(999), Duration.ofDays(999)).get();
        down = true;
        bench.persistDue(ids("b", 2_000));
        bench.tick();
        down = false;
        bench.tickAfter(SECOND);
        long before = bench.stats().delivered();
        bench.tickAfter(Duration.ofDays(2));
        assertThat(bench.stats().delivered() - before).isEqualTo(2);
    }

    @Test
    void a_throttling_answer_counts_towards_the_retries_only_if_the_collector_has_taken_another_batch_since_the_last() {
        bench.sender("loki", batch -> {
            if (batch.id().equals("a")) {
                throw new RetryAfterException(SECOND, "429");
            }
        });
        bench.persistDue("a");
        bench.ticks(60, SECOND);
        assertThat(bench.sent)
                .as("after 1, 3 (it has failed once now), 7, 15, 31 seconds")
                .hasSizeBetween(5, 7);
        assertThat(bench.lane().state()).as("one batch says nothing").isEqualTo(LaneStatus.State.CLOSED);
        assertThat(bench.summary("a").retryCount()).isEqualTo(1);
        bench.persistDue("good");
        bench.ticks(120, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(1);
        assertThat(bench.summary("a").retryCount()).as("it is this batch").isEqualTo(2);
    }

    @Test
    void a_throttled_probe_is_pushed_back_and_not_brought_back_before_the_collector_wants_it() {
        bench.usual = bench.usual().outageThreshold(1).get();
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.persist("x");
        // Recovery sends x, too.
        bench.persistDue("a", "b");
        bench.tick();
        held.get(0).fail("down");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        bench.usual = bench.usual().outageThreshold(3).get();
        bench.ticks(1, SECOND);
        Instant wanted = bench.in(Duration.ofSeconds(100));
        String limited = held.get(1).batch().id();
        held.get(1).retryAfter(Duration.ofSeconds(100), "429");
        assertThat(bench.lane().nextProbeAt())
                .as("the wait is that batch's and not the lane's")
                .isEqualTo(bench.in(Duration.ofSeconds(2)));
        bench.ticks(2, SECOND);
        held.get(2).acknowledge();
        while (bench.clock.instant().isBefore(wanted.minus(SECOND))) {
            bench.tickAfter(SECOND);
            held.forEach(RecoveredBatch::acknowledge);
        }
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
        assertThat(bench.stats().delivered()).isEqualTo(2);
        assertThat(bench.sent).filteredOn(limited::equals).hasSize(2);
        bench.ticks(15, SECOND);
        assertThat(bench.sent).filteredOn(limited::equals).hasSize(3);
    }

    @Test
    void throttled_batches_that_have_failed_before_say_nothing_new_about_the_collector() {
        bench.usual = bench.usual().concurrency(8).get();
        List<RecoveredBatch> held = sendAndHold(ids("b", 4));
        for (int i = 0; i < 4; i++) {
            held.get(i).retryAfter(SECOND, "429");
            bench.persist("between" + i);
            bench.engine.markBatchSuccess("between" + i);
        }
        bench.ticks(3, SECOND);
        assertThat(held).hasSize(8);
        held.subList(4, 8).forEach(batch -> batch.retryAfter(SECOND, "429"));
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
        assertThat(bench.lane().failuresInARow()).isZero();
        assertThat(bench.outages).isEmpty();
    }

    @Test
    void an_outage_without_batches_is_forgotten() {
        collector();
        down = true;
        bench.persistDue(ids("b", 3));
        bench.tick();
        bench.engine.discard(BatchSelector.all());
        bench.tickAfter(SECOND);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        bench.tickAfter(Duration.ofMinutes(10));
        assertThat(bench.engine.lanes()).isEmpty();
    }

    @Test
    void an_outage_is_announced_when_it_opens_and_when_it_closes() {
        collector();
        bench.persistDue(ids("b", 10));
        down = true;
        bench.tick();
        Instant opened = bench.clock.instant();
        // Probes after 1, 3 and 7 seconds.
        bench.ticks(7, SECOND);
        assertThat(bench.outages)
                .containsExactly(
                        new CollectorOutage("loki", opened, null, false, 0, "java.io.IOException: connection refused"));
        assertThat(bench.lane().probes()).isEqualTo(3);
        down = false;
        bench.ticks(8, SECOND);
        assertThat(bench.outages)
                .hasSize(2)
                .last()
                .isEqualTo(new CollectorOutage("loki", opened, opened.plusSeconds(15), true, 4, null));
        assertThat(bench.lane().probes()).isZero();
        bench.ticks(10, SECOND);
        assertThat(bench.outages).hasSize(2);
    }

    @Test
    void an_outage_for_which_no_batch_waits_is_closed_without_an_answer() {
        bench.usual = bench.usual().outageThreshold(1).get();
        bench.persistFailed("only", "down");
        Instant opened = bench.clock.instant();
        bench.engine.discard(BatchSelector.all());
        bench.ticks(10, Duration.ofMinutes(1));
        assertThat(bench.lane()).isNull();
        assertThat(bench.outages).hasSize(2);
        assertThat(bench.outages.get(1).since()).isEqualTo(opened);
        assertThat(bench.outages.get(1).until()).isAfter(opened);
        assertThat(bench.outages.get(1).answered()).isFalse();
    }

    @Test
    void a_listener_of_outages_that_throws_harms_nothing() {
        rebuild(builder -> builder.listener(new BatchListener() {
            @Override
            public void onOutageOpened(CollectorOutage outage) {
                throw new AssertionError("bad listener");
            }

            @Override
            public void onOutageClosed(CollectorOutage outage) {
                throw new IllegalStateException("bad listener");
            }
        }));
        collector();
        bench.persistDue(ids("b", 10));
        down = true;
        bench.tick();
        down = false;
        bench.ticks(10, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(10);
    }

    @Test
    void a_throttling_answer_from_a_collector_that_was_up_halves_what_it_had_been_given() {
        bench.usual = bench.usual().concurrency(64).get();
        List<RecoveredBatch> held = sendAndHold(ids("b", 1_000));
        assertThat(held).hasSize(64);
        held.get(0).retryAfter(Duration.ofSeconds(5), "429");
        assertThat(bench.lane().state()).as("it may be about that batch").isEqualTo(LaneStatus.State.CLOSED);
        held.get(1).retryAfter(Duration.ofSeconds(5), "429");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        assertThat(bench.lane().rate()).isEqualTo(32);
        held.forEach(RecoveredBatch::acknowledge);
        bench.tickAfter(SECOND.dividedBy(2));
        assertThat(held).as("half a second at 32 a second, and the one at once").hasSize(64 + 1 + 16);
    }

    @Tag("slow")
    @Test
    void one_look_at_ten_thousand_collector_types_that_wait_starts_no_thread_for_each() {
        int types = 10_000;
        bench.usual = bench.usual().outageThreshold(1).get();
        for (int i = 0; i < types; i++) {
            String type = "type-" + i;
            bench.sender(type, batch -> {});
            bench.persist("b" + i, type);
            // One batch is due in a second. Its lane stays open until then.
            bench.engine.markBatchFailed("b" + i, "down");
        }
        bench.engine.recover();
        assertThat(bench.executor.waiting()).isOne();
        bench.executor.runAll();
        assertThat(bench.sent).isEmpty();
        bench.tickAfter(SECOND);
        assertThat(bench.sent).hasSize(types);
        bench.ticks(12, SECOND);
        assertThat(bench.engine.lanes().size()).isZero();
    }
}
