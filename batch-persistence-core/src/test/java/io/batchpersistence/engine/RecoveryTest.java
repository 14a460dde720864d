package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.MDC;

class RecoveryTest extends BenchTest {

    @Test
    void a_failed_batch_is_sent_again_when_its_backoff_is_over_and_not_before() {
        bench.sender("loki", batch -> {});
        bench.persist("a");
        assertThat(bench.engine.markBatchFailed("a", "connection refused")).isTrue();
        assertThat(bench.summary("a").nextAttemptAt()).isEqualTo(bench.in(SECOND));

        bench.tickAfter(Duration.ofMillis(999));
        assertThat(bench.sent).isEmpty();
        bench.tickAfter(Duration.ofMillis(1));

        assertThat(bench.sent).containsExactly("a");
        assertThat(bench.isHeld("a")).isFalse();
        assertThat(bench.stats().delivered()).isEqualTo(1);
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    @Test
    void backoff_doubles_up_to_its_maximum_and_the_last_attempt_makes_a_dead_letter_that_is_announced() {
        bench.usual = bench.usual().outageThreshold(0).get();
        bench.sender("loki", throwing(() -> new IOException("down")));
        bench.persistFailed("a", "first send");

        List<Long> delays = new ArrayList<>();
        Instant last = bench.clock.instant();
        while (bench.state("a") != BatchState.DEAD) {
            int before = bench.sent.size();
            bench.tickAfter(SECOND);
            if (bench.sent.size() > before) {
                delays.add(Duration.between(last, bench.clock.instant()).toSeconds());
                last = bench.clock.instant();
            }
        }

        assertThat(delays).containsExactly(1L, 2L, 4L, 8L, 16L, 32L, 64L, 128L, 256L);
        assertThat(bench.dead).singleElement().satisfies(dead -> {
            assertThat(dead.id()).isEqualTo("a");
            assertThat(dead.retryCount()).isEqualTo(10);
            assertThat(dead.failureReason()).isEqualTo("java.io.IOException: down");
            assertThat(dead.state()).isEqualTo(BatchState.DEAD);
        });
        bench.tick();
        assertThat(bench.warnings()).anyMatch(line -> line.contains("'loki': 1 batches given up"));
    }

    @Test
    void draining_a_backlog_is_not_limited_by_the_tick() {
        bench.sender("loki", batch -> {});
        String[] ids = ids("b", 500);
        bench.persistDue(ids);
        bench.tick();
        assertThat(bench.sent).containsExactly(ids);
        assertThat(bench.stats().delivered()).isEqualTo(500);
    }

    @Test
    void newest_first_sends_fresh_batches_before_old_ones() {
        bench.usual = bench.usual().order(BatchOrder.NEWEST_FIRST).get();
        bench.sender("loki", batch -> {});
        bench.persistDue("old", "middle", "fresh");
        bench.tick();
        assertThat(bench.sent).containsExactly("fresh", "middle", "old");
    }

    @Test
    void a_permanent_rejection_is_a_dead_letter_at_once_and_does_not_count_as_an_outage() {
        bench.sender("loki", throwing(() -> new CompletionException(new PermanentDeliveryException("mapping error"))));
        bench.persistDue("a", "b", "c", "d");
        bench.tick();
        assertThat(bench.dead)
                .extracting(BatchSummary::failureReason)
                .containsOnly("mapping error")
                .hasSize(4);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
        assertThat(bench.lane().failuresInARow()).isZero();
    }

    @Test
    void dead_letters_beyond_their_own_bound_are_dropped_and_announced() {
        // The limit includes failure messages, so no dead letter fits.
        rebuild(builder -> builder.maxDeadLetterBytes(1));
        bench.sender("loki", throwing(() -> new PermanentDeliveryException("mapping error")));
        bench.persistDue("a", "b");
        bench.tick();
        assertThat(bench.dead).extracting(BatchSummary::id).containsExactly("a", "b");
        assertThat(bench.evicted).extracting(BatchSummary::id).containsExactly("a", "b");
        assertThat(bench.evicted).extracting(BatchSummary::state).containsOnly(BatchState.DEAD);
        assertThat(bench.stats().evicted()).isEqualTo(2);
        assertThat(bench.stats().isBalanced()).isTrue();
        bench.engine.cleanup();
        assertThat(bench.warnings())
                .anyMatch(line -> line.contains("2 batches dropped") && line.contains("maxDeadLetterBytes"));
        assertThatIllegalArgumentException().isThrownBy(() -> rebuild(builder -> builder.maxDeadLetterBytes(0)));
    }

    @Test
    void retry_after_is_honoured_for_the_batch_and_the_others_go_on() {
        List<Instant> attempts = new ArrayList<>();
        bench.sender("loki", batch -> {
            attempts.add(bench.clock.instant());
            if (attempts.size() == 1) {
                throw new RetryAfterException(Duration.ofSeconds(100), "429 Too Many Requests");
            }
        });
        bench.persistDue("a", "b");
        Instant start = bench.clock.instant();
        bench.tick();

        assertThat(bench.sent).containsExactly("a", "b");
        assertThat(bench.stats().delivered()).isEqualTo(1);
        assertThat(bench.summary("a").failureReason()).isEqualTo("429 Too Many Requests");
        assertThat(bench.summary("a").retryCount()).isEqualTo(1);
        assertThat(bench.summary("a").nextAttemptAt()).isBetween(start.plusSeconds(100), start.plusSeconds(110));
        bench.ticks(99, SECOND);
        assertThat(attempts).as("not before the collector wants it").hasSize(2);
        bench.ticks(11, SECOND);
        assertThat(bench.sent).containsExactly("a", "b", "a");
        assertThat(bench.stats().delivered()).isEqualTo(2);
    }

    @Test
    void retry_after_for_as_many_batches_in_a_row_as_make_an_outage_holds_for_the_whole_lane() {
        List<Instant> attempts = new ArrayList<>();
        bench.sender("loki", batch -> {
            attempts.add(bench.clock.instant());
            if (attempts.size() <= 3) {
                throw new RetryAfterException(Duration.ofSeconds(100), "429 Too Many Requests");
            }
        });
        bench.persistDue("a", "b", "c", "d", "e");
        bench.tick();
        assertThat(bench.sent).containsExactly("a", "b", "c");
        assertThat(bench.lane().nextProbeAt()).isEqualTo(bench.in(Duration.ofSeconds(100)));
        bench.ticks(99, SECOND);
        assertThat(attempts).as("nothing before the collector wants it").hasSize(3);
        bench.ticks(20, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(5);
    }

    @Test
    void an_absurd_retry_after_is_bounded_and_told_once() {
        bench.usual = bench.usual().outageThreshold(1).get();
        bench.sender(
                "loki", throwing(() -> new RetryAfterException(Duration.ofSeconds(Long.MAX_VALUE), "come back never")));
        bench.persistDue("a", "b");
        bench.tick();
        assertThat(bench.summary("a").nextAttemptAt())
                .isBetween(bench.in(Duration.ofHours(1)), bench.in(Duration.ofMinutes(66)));
        assertThat(bench.lane().nextProbeAt()).isEqualTo(bench.in(Duration.ofHours(1)));
        bench.tickAfter(Duration.ofHours(1));
        assertThat(bench.sent).containsExactly("a", "b");
        assertThat(bench.warnings())
                .filteredOn(line -> line.contains("maxRetryAfter"))
                .singleElement()
                .asString()
                .contains("loki", "'a'", "PT1H");
    }

    @Test
    void how_long_a_collector_may_ask_to_wait_is_a_setting_of_the_collector_and_what_is_not_longer_is_not_told() {
        bench.settings.put(
                "patient", bench.usual().maxRetryAfter(Duration.ofHours(3)).get());
        for (String type : List.of("loki", "patient")) {
            bench.sender(type, throwing(() -> new RetryAfterException(Duration.ofHours(2), "429")));
            bench.persist(type, type);
        }
        bench.store.reopen(bench.clock.instant());
        bench.tick();
        assertThat(bench.summary("loki").nextAttemptAt()).isBefore(bench.in(Duration.ofHours(2)));
        assertThat(bench.summary("patient").nextAttemptAt())
                .isBetween(bench.in(Duration.ofHours(2)), bench.in(Duration.ofMinutes(132)));
        assertThat(bench.warnings()).noneMatch(line -> line.contains("patient"));
    }

    @Test
    void an_error_from_the_sender_fails_the_batch_and_the_thread_goes_on() {
        bench.usual = bench.usual().outageThreshold(0).get();
        bench.sender("loki", batch -> {
            switch (batch.id()) {
                case "memory" -> throw new OutOfMemoryError("of the sender");
                case "stack" -> endless(0);
                case "link" -> throw new NoClassDefFoundError("Gone");
                default -> {}
            }
        });
        bench.persistDue("memory", "stack", "link", "good");
        bench.tick();
        assertThat(bench.summary("memory").failureReason()).isEqualTo("java.lang.OutOfMemoryError: of the sender");
        assertThat(bench.summary("stack").failureReason()).isEqualTo("java.lang.StackOverflowError");
        assertThat(bench.summary("link").failureReason()).contains("Gone");
        assertThat(bench.isHeld("good")).isFalse();
        assertThat(bench.warnings()).anyMatch(line -> line.contains("'memory' ended with an error"));
    }

    // The stack overflow is what this test is about.
    @SuppressWarnings("InfiniteRecursion")
    private static int endless(int depth) {
        return endless(depth + 1) + 1;
    }

    @Test
    void an_exception_whose_message_throws_still_fails_the_batch() {
        bench.sender("loki", throwing(() -> new IllegalStateException() {
            @Override
            public String getMessage() {
                throw new UnsupportedOperationException();
            }
        }));
        bench.persistDue("a");
        bench.tick();
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);
        assertThat(bench.summary("a").failureReason()).contains("RecoveryTest");
    }

    @Test
    void a_listener_that_throws_harms_nothing() {
        rebuild(builder -> builder.listener(new BatchListener() {
            @Override
            public void onDeadLettered(BatchSummary batch) {
                throw new AssertionError("bad listener");
            }
        }));
        bench.usual = bench.usual().maxRetries(1).get();
        bench.sender("loki", throwing(() -> new IOException("down")));
        bench.persistDue("a", "b");
        bench.tick();
        assertThat(bench.sent).containsExactly("a", "b");
        assertThat(bench.stats().dead()).isEqualTo(2);
        bench.persist("c");
        assertThat(bench.engine.markBatchFailed("c", "x")).isTrue();
    }

    // ---- settling

    @Test
    void a_batch_can_be_settled_only_once() {
        List<RecoveredBatch> held = sendAndHold("a");
        RecoveredBatch batch = held.get(0);
        assertThat(batch.isSettled()).isFalse();
        assertThat(batch.fail("no")).isTrue();
        assertThat(batch.isSettled()).isTrue();
        assertThat(batch.fail("again")).isFalse();
        assertThat(batch.acknowledge()).isFalse();
        assertThat(batch.reject("never")).isFalse();
        assertThat(batch.retryAfter(SECOND, "later")).isFalse();
        assertThat(bench.summary("a").retryCount()).isEqualTo(1);
        assertThat(bench.summary("a").failureReason()).isEqualTo("no");
    }

    @Test
    void a_target_that_says_nothing_keeps_its_slot_and_an_answer_later_continues_without_a_tick() {
        List<RecoveredBatch> held = sendAndHold("a", "b");
        bench.ticks(5, SECOND);
        assertThat(bench.sent).containsExactly("a");
        assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);

        assertThat(held.get(0).acknowledge()).isTrue();
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("a", "b");
        assertThat(bench.isHeld("a")).isFalse();
    }

    @Test
    void not_settling_times_out_as_a_failure_and_frees_the_slot() {
        sendAndHold("a", "b");
        bench.tickAfter(Duration.ofMinutes(5));
        assertThat(bench.state("a")).as("not yet over").isEqualTo(BatchState.IN_FLIGHT);
        bench.tickAfter(Duration.ofMillis(1));
        assertThat(bench.summary("a").failureReason()).isEqualTo("timed out after PT5M");
        assertThat(bench.summary("a").retryCount()).isEqualTo(1);
        assertThat(bench.lane().failuresInARow()).isEqualTo(1);
        assertThat(bench.sent).containsExactly("a", "b");
    }

    @Test
    void an_acknowledgement_after_the_timeout_is_still_honoured_a_failure_is_not() {
        List<RecoveredBatch> held = sendAndHold("a");
        bench.tickAfter(Duration.ofMinutes(6));
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);

        assertThat(held.get(0).fail("too late")).isFalse();
        assertThat(held.get(0).retryAfter(SECOND, "too late")).isFalse();
        assertThat(held.get(0).reject("too late")).isFalse();
        assertThat(bench.summary("a").failureReason()).isEqualTo("timed out after PT5M");
        assertThat(held.get(0).acknowledge()).isTrue();
        assertThat(bench.isHeld("a")).isFalse();
        assertThat(bench.stats().isBalanced()).isTrue();
        assertThat(held.get(0).acknowledge()).isFalse();
    }

    @Test
    void a_late_acknowledgement_of_a_batch_handed_out_again_wins_over_the_second_sending() {
        List<RecoveredBatch> held = sendAndHold("a");
        bench.tickAfter(Duration.ofMinutes(6));
        bench.tickAfter(SECOND);
        assertThat(held).hasSize(2);
        assertThat(held.get(0).fail("too late")).isFalse();
        assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(held.get(0).acknowledge()).isTrue();
        assertThat(bench.stats().delivered()).isEqualTo(1);
        bench.persistDue("b");
        bench.tick();
        assertThat(held).as("the slot of the second sending is free").hasSize(3);
        assertThat(held.get(1).acknowledge()).isFalse();
    }

    @Test
    void a_claim_the_store_lost_does_not_cost_the_lane_its_slot_for_good() {
        sendAndHold("a", "b");
        // Delivered without the engine.
        bench.store.delivered("a");
        bench.tickAfter(Duration.ofMinutes(5).plusMillis(1));
        assertThat(bench.sent).containsExactly("a", "b");
    }

    @Test
    void senders_that_never_end_are_given_only_so_many_threads() {
        AtomicInteger threads = new AtomicInteger();
        rebuild(builder -> builder.executor(task -> {
            threads.incrementAndGet();
            new Thread(() -> {
                        try {
                            task.run();
                        } finally {
                            threads.decrementAndGet();
                        }
                    })
                    .start();
        }));
        bench.usual = bench.usual().outageThreshold(0).get();
        CountDownLatch end = new CountDownLatch(1);
        bench.targets.put("loki", batch -> {
            while (end.getCount() > 0) {
                try {
                    end.await();
                } catch (InterruptedException e) {
                    // Ignores interrupts, as some client libraries do.
                }
            }
        });
        try {
            bench.persistDue(ids("b", 100));
            for (int abandoned = 0; abandoned < 33; abandoned++) {
                Awaitility.await().pollDelay(Duration.ZERO).until(() -> {
                    bench.engine.recover();
                    return bench.stats().inFlight() == 1;
                });
                int hanging = abandoned + 1;
                // Wait until the claim is done: a thread that has already read the clock would claim with a lease that
                // ends before the advance.
                Awaitility.await().pollDelay(Duration.ZERO).until(() -> threads.get() == hanging);
                assertThat(bench.stats().failedAttempts()).isEqualTo(abandoned);
                bench.clock.advance(Duration.ofMinutes(5).plusMillis(1));
            }
            bench.engine.recover();
            bench.engine.recover();
            assertThat(bench.stats().failedAttempts()).isEqualTo(33);
            assertThat(bench.stats().inFlight())
                    .as("the host has spent enough on it")
                    .isZero();
        } finally {
            end.countDown();
        }
    }

    @Test
    void a_late_acknowledgement_does_not_remove_another_batch_with_the_same_id() {
        List<RecoveredBatch> held = sendAndHold("a");
        assertThat(bench.engine.markBatchSuccess("a")).isTrue();
        bench.clock.advance(SECOND);
        bench.persist("a");
        assertThat(held.get(0).acknowledge()).isFalse();
        assertThat(bench.isHeld("a")).isTrue();
    }

    @Test
    void marking_or_discarding_a_handed_out_batch_frees_its_slot() {
        sendAndHold("a", "b", "c", "d");
        assertThat(bench.engine.markBatchSuccess("a")).isTrue();
        bench.executor.runAll();
        assertThat(bench.engine.markBatchFailed("b", "the listener said so")).isTrue();
        bench.executor.runAll();
        assertThat(bench.engine.discard(BatchSelector.all().ids("c").states(BatchState.IN_FLIGHT)))
                .isEqualTo(1);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("a", "b", "c", "d");
    }

    @Test
    void a_store_that_fails_while_settling_leaves_the_batch_to_be_settled_again() {
        List<Boolean> broken = new ArrayList<>(List.of(true));
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public synchronized BatchStore.Settled delivered(String batchId) {
                if (!broken.isEmpty()) {
                    throw new BatchPersistenceException("disk gone", null);
                }
                return super.delivered(batchId);
            }
        };
        rebuild(store, builder -> builder);
        List<RecoveredBatch> held = sendAndHold("a");
        assertThatCode(() -> held.get(0).acknowledge()).isInstanceOf(BatchPersistenceException.class);
        assertThat(held.get(0).isSettled()).isFalse();
        broken.clear();
        assertThat(held.get(0).acknowledge()).isTrue();
        assertThat(held.get(0).isSettled()).isTrue();
    }

    @Test
    void what_could_not_be_handed_to_recovery_is_handed_to_it_later_and_charged_nothing() {
        AtomicBoolean broken = new AtomicBoolean(true);
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public synchronized BatchStore.Settled released(String batchId, Function<String, Optional<Instant>> due) {
                if (broken.get()) {
                    throw new BatchPersistenceException("disk gone", null);
                }
                return super.released(batchId, due);
            }
        };
        rebuild(store, builder -> builder);
        // The batch is held, so nothing is thrown.
        bench.engine.persistUnsent("a", Batches.entries(1), "loki", Map.of());
        bench.ticks(20, Duration.ofMinutes(1));
        assertThat(bench.summary("a").state()).isEqualTo(BatchState.IN_FLIGHT);
        broken.set(false);
        bench.tick();
        assertThat(bench.summary("a").state()).isEqualTo(BatchState.PENDING);
        assertThat(bench.summary("a").retryCount()).isZero();
        assertThat(bench.summary("a").lastAttempt()).isNull();
        assertThat(bench.stats().failedAttempts()).isZero();
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "   ", "\t\n"})
    void a_blank_reason_becomes_unknown(String reason) {
        bench.persist("a");
        bench.engine.markBatchFailed("a", reason);
        assertThat(bench.summary("a").failureReason()).isEqualTo("unknown");
    }

    @Test
    void a_long_reason_is_cut_but_not_in_the_middle_of_a_character() {
        bench.persistFailed("a", "x".repeat(2_000));
        bench.persistFailed("b", "x".repeat(999) + "\uD83D\uDE00 and more");
        assertThat(bench.summary("a").failureReason()).hasSize(1_000);
        assertThat(bench.summary("b").failureReason()).isEqualTo("x".repeat(999));
    }

    @Test
    void no_reason_at_all_is_refused_and_the_batch_stays_in_flight() {
        bench.persist("a");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> bench.engine.markBatchFailed("a", (String) null))
                .withMessageContaining("reason");
        assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);
    }

    // ---- rounds

    @Test
    void a_batch_the_application_forgot_times_out_and_is_recovered() {
        bench.sender("loki", batch -> {});
        bench.persist("a");
        bench.tickAfter(Duration.ofMinutes(5).plusMillis(1));
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);
        bench.tickAfter(SECOND);
        assertThat(bench.sent).containsExactly("a");
    }

    @Test
    void without_a_target_nothing_is_attempted_and_it_is_said_once() {
        bench.persistDue("a");
        bench.ticks(100, SECOND);
        assertThat(bench.lane().unhandled()).isTrue();
        assertThat(bench.summary("a").retryCount()).isZero();
        assertThat(bench.warnings())
                .filteredOn(line -> line.contains("nothing sends them"))
                .hasSize(1);

        bench.sender("loki", batch -> {});
        bench.tick();
        assertThat(bench.sent).containsExactly("a");

        bench.targets.clear();
        bench.persistDue("b");
        bench.ticks(3, SECOND);
        assertThat(bench.warnings())
                .filteredOn(line -> line.contains("nothing sends them"))
                .hasSize(2);
    }

    @Test
    void no_target_is_no_news_while_the_application_is_still_sending() {
        bench.persist("a");
        bench.ticks(3, SECOND);
        assertThat(bench.lane().unhandled()).isFalse();
        assertThat(bench.warnings()).isEmpty();
    }

    @Test
    void an_executor_that_refuses_leaves_nothing_claimed() {
        bench.sender("loki", batch -> {});
        bench.persistDue("a");
        bench.executor.rejectFromNowOn(true);
        bench.tick();
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);
        bench.executor.rejectFromNowOn(false);
        bench.tick();
        assertThat(bench.sent).containsExactly("a");
    }

    @Test
    void an_executor_that_refuses_in_the_middle_of_a_round_does_not_cost_the_other_collectors_theirs() {
        for (String type : List.of("one", "two", "three")) {
            bench.sender(type, batch -> {});
            bench.persist(type, type);
        }
        bench.store.reopen(bench.clock.instant());
        bench.engine.recover();
        bench.executor.rejectFromNowOn(true);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactlyInAnyOrder("one", "two", "three");
    }

    @Test
    void ticks_that_find_the_executor_busy_do_not_pile_up() {
        bench.sender("loki", batch -> {});
        bench.persistDue("a");
        for (int i = 0; i < 1_000; i++) {
            bench.engine.recover();
        }
        assertThat(bench.executor.waiting()).isEqualTo(1);
    }

    @Test
    void one_collectors_trouble_in_the_store_or_the_settings_does_not_stop_the_others() {
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public synchronized List<Claim> claim(
                    String type, BatchOrder order, Instant now, Instant leaseUntil, int max) {
                if (type.equals("bad")) {
                    throw new ArrayIndexOutOfBoundsException("a bug");
                }
                return super.claim(type, order, now, leaseUntil, max);
            }

            @Override
            public synchronized List<Lease> timedOut(Instant now, int max) {
                throw new BatchPersistenceException("no timeouts today", null);
            }
        };
        rebuild(store, builder -> builder);
        for (String type : List.of("bad", "worse", "a", "b", "c", "d", "e")) {
            bench.sender(type, batch -> {});
            bench.persist(type, type);
        }
        bench.targets.put("bad", batch -> {});
        BatchPersistenceEngine engine = BatchPersistenceEngine.builder(store)
                .targets(type -> {
                    if (type.equals("worse")) {
                        throw new IllegalStateException("bean not there");
                    }
                    return bench.targets.get(type);
                })
                .executor(bench.executor)
                .clock(bench.clock)
                .build();
        store.reopen(bench.clock.instant());
        engine.recover();
        bench.executor.runAll();
        assertThat(bench.sent).containsExactlyInAnyOrder("a", "b", "c", "d", "e");
        assertThat(engine.stats().total().inFlight()).isZero();
        assertThat(engine.lanes().get("bad").state()).isEqualTo(LaneStatus.State.CLOSED);
    }

    @Test
    void reasons_that_are_excluded_are_left_alone_until_an_operator_asks() {
        rebuild(builder -> builder.excludeFailureReasons(List.of("*certificate*")));
        bench.sender("loki", batch -> {});
        bench.persist("held");
        bench.persist("other");
        bench.engine.markBatchFailed("held", "bad CERTIFICATE chain");
        bench.engine.markBatchFailed("other", "timeout");
        assertThat(bench.summary("held").nextAttemptAt()).isNull();

        bench.ticks(1_000, SECOND);
        assertThat(bench.sent).containsExactly("other");
        assertThat(bench.engine.recover(BatchSelector.all().failureReason("*certificate*")))
                .isEqualTo(1);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("other", "held");
    }

    @Test
    void exclusions_are_decided_anew_at_every_start() {
        bench.sender("loki", batch -> {});
        bench.persistFailed("a", "bad certificate");
        bench.restart(builder -> builder.excludeFailureReasons(List.of("*certificate*")));
        bench.ticks(10, SECOND);
        assertThat(bench.sent).isEmpty();
        bench.restart(builder -> builder);
        bench.tick();
        assertThat(bench.sent).containsExactly("a");
    }

    @Test
    void with_recovery_off_for_a_collector_only_what_an_operator_asks_for_is_sent() {
        bench.settings.put("loki", bench.usual().recovery(false).get());
        bench.sender("loki", batch -> {});
        bench.persistFailed("a", "down");
        bench.persistFailed("b", "down");
        bench.ticks(100, SECOND);
        assertThat(bench.sent).isEmpty();
        assertThat(bench.engine.recover(BatchSelector.all().ids("b"))).isEqualTo(1);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("b");
        bench.persist("c");
        bench.restart(builder -> builder);
        bench.ticks(100, SECOND);
        assertThat(bench.sent).as("also after a restart").containsExactly("b");
    }

    @Test
    void overrides_hold_for_their_collector_type_only() {
        bench.settings.put("strict", bench.usual().maxRetries(1).timeout(SECOND).get());
        bench.persist("s", "strict");
        bench.persist("l", "loki");
        assertThat(bench.summary("s").nextAttemptAt()).isEqualTo(bench.in(SECOND));
        assertThat(bench.summary("l").nextAttemptAt()).isEqualTo(bench.in(Duration.ofMinutes(5)));
        bench.engine.markBatchFailed("s", "x");
        bench.engine.markBatchFailed("l", "x");
        assertThat(bench.state("s")).isEqualTo(BatchState.DEAD);
        assertThat(bench.state("l")).isEqualTo(BatchState.PENDING);
    }

    @Test
    void replay_gives_a_dead_letter_a_fresh_budget_and_sends_it() {
        bench.usual = bench.usual().maxRetries(1).get();
        bench.sender("loki", batch -> {});
        bench.persistFailed("a", "down");
        assertThat(bench.engine.replay(BatchSelector.all())).isEqualTo(1);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("a");
        assertThat(bench.engine.replay(BatchSelector.all().states(BatchState.PENDING)))
                .isZero();
    }

    @Test
    void the_log_context_names_the_batch_while_it_is_sent_and_is_as_before_afterwards() {
        List<String> seen = new ArrayList<>();
        bench.sender("loki", batch -> {
            seen.add(MDC.get("batchId") + "/" + MDC.get("collectorType"));
            throw new IOException("x");
        });
        MDC.put("batchId", "outer");
        try {
            bench.persistDue("a");
            bench.tick();
            assertThat(seen).containsExactly("a/loki");
            assertThat(MDC.get("batchId")).isEqualTo("outer");
            assertThat(MDC.get("collectorType")).isNull();
        } finally {
            MDC.clear();
        }
    }

    @Test
    void thousands_of_collector_types_leave_nothing_behind() {
        for (int i = 0; i < 3_000; i++) {
            bench.persist("b" + i, "type" + i);
            bench.engine.markBatchSuccess("b" + i);
        }
        assertThat(bench.engine.lanes()).hasSize(3_000);
        bench.tick();
        assertThat(bench.engine.lanes()).isEmpty();
    }

    @Test
    void a_paused_collector_gets_nothing_until_it_is_resumed_also_after_a_restart() {
        bench.sender("loki", batch -> {});
        bench.sender("other", batch -> {});
        bench.persistDue("a");
        bench.persist("o", "other");
        bench.engine.releaseBatch("o");
        assertThat(bench.engine.pause("loki")).isTrue();
        assertThat(bench.engine.pause("loki")).isFalse();
        bench.tick();
        assertThat(bench.sent).containsExactly("o");
        assertThat(bench.engine
                        .deliver("b", Batches.entries(1), "loki", Map.of(), batch -> bench.sent.add("b"))
                        .outcome())
                .isEqualTo(DeliveryResult.Outcome.PENDING);
        assertThat(bench.engine.recover(BatchSelector.all())).isEqualTo(2);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("o");
        assertThat(bench.lane().paused()).isTrue();
        bench.restart(builder -> builder);
        bench.ticks(10, SECOND);
        assertThat(bench.sent).containsExactly("o");
        assertThat(bench.engine.pausedCollectorTypes()).containsExactly("loki");
        assertThat(bench.engine.resume("loki")).isTrue();
        assertThat(bench.engine.resume("loki")).isFalse();
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("o", "a", "b");
    }

    @Test
    void dead_letters_can_be_replayed_at_a_rate() {
        bench.sender("loki", throwing(() -> new PermanentDeliveryException("malformed")));
        bench.persistDue("a", "b", "c", "d", "e");
        bench.tick();
        bench.sent.clear();
        bench.sender("loki", batch -> {});
        assertThat(bench.engine.replay(BatchSelector.all(), 2)).isEqualTo(5);
        bench.executor.runAll();
        assertThat(bench.sent).containsExactly("a");
        bench.tickAfter(SECOND);
        assertThat(bench.sent).containsExactly("a", "b", "c");
        bench.tickAfter(SECOND);
        assertThat(bench.sent).hasSize(5);
        assertThatIllegalArgumentException().isThrownBy(() -> bench.engine.replay(BatchSelector.all(), -1));
    }

    @Test
    void when_an_outage_ends_dead_letters_that_used_up_their_retries_are_replayed_and_rejected_ones_are_not() {
        bench.usual = bench.usual()
                .maxRetries(1)
                .outageThreshold(4)
                .replayAfterOutage(true)
                .get();
        boolean[] down = {true};
        bench.sender("loki", batch -> {
            if (batch.id().equals("rejected")) {
                throw new PermanentDeliveryException("malformed");
            }
            if (down[0]) {
                throw new IllegalStateException("down");
            }
        });
        bench.persistDue("rejected", "a", "b", "c", "d", "probe");
        bench.ticks(5, SECOND);
        assertThat(bench.dead).extracting(BatchSummary::id).contains("rejected", "a");
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        down[0] = false;
        bench.ticks(60, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(5);
        assertThat(bench.state("rejected")).isEqualTo(BatchState.DEAD);
    }

    @Test
    void dead_letters_are_replayed_after_an_outage_also_when_others_hold_all_threads() {
        bench.usual = bench.usual()
                .maxRetries(1)
                .outageThreshold(1)
                .replayAfterOutage(true)
                .get();
        bench.persistFailed("a", "down");
        assertThat(bench.state("a")).isEqualTo(BatchState.DEAD);
        bench.persist("b");
        bench.executor.rejectFromNowOn(true);
        bench.engine.markBatchSuccess("b");
        Awaitility.await().until(() -> bench.state("a") == BatchState.PENDING);
    }

    @Test
    void with_concurrency_one_and_no_failures_batches_go_out_as_they_were_persisted_also_across_a_restart() {
        bench.sender("loki", batch -> {});
        bench.usual = bench.usual().maxRate(3).get();
        for (int i = 0; i < 10; i++) {
            bench.persist("b" + i);
        }
        bench.restart(builder -> builder);
        for (int i = 10; i < 20; i++) {
            bench.persist("b" + i);
            bench.engine.releaseBatch("b" + i);
        }
        bench.ticks(2, SECOND);
        bench.restart(builder -> builder);
        bench.ticks(20, SECOND);
        assertThat(bench.sent).containsExactly(ids("b", 20));
    }

    @Test
    void a_batch_that_failed_is_overtaken_and_its_attempts_are_numbered() {
        List<Integer> attempts = new ArrayList<>();
        bench.sender("loki", batch -> {
            if (batch.id().equals("a")) {
                attempts.add(batch.attempt());
                if (attempts.size() < 3) {
                    throw new IllegalStateException("hiccup");
                }
            }
        });
        bench.persistDue("a", "b", "c");
        bench.ticks(10, SECOND);
        assertThat(bench.sent).containsExactly("a", "b", "c", "a", "a");
        assertThat(attempts).containsExactly(1, 2, 3);
    }
}
