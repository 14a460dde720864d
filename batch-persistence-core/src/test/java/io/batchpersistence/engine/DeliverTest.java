package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureClassifier.Classification;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;

/** The first send uses the application's thread and the same lane as recovery. */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class DeliverTest extends BenchTest {

    private static final BatchSender DOWN = throwing(() -> new IOException("connection refused"));
    private static final BatchSender LIMITED = throwing(() -> new RetryAfterException(Duration.ofSeconds(30), "429"));
    private final List<PersistedBatch> taken = new ArrayList<>();
    private final BatchSender up = taken::add;

    private DeliveryResult deliver(String id, BatchSender sender) {
        return bench.engine.deliver(id, Batches.entries(2), "loki", Map.of("tenant", "a"), sender);
    }

    /** Not the common pool: it may have a single thread, and some of these tasks wait for each other. */
    private static final Executor OWN_THREADS = task -> new Thread(task).start();

    private static <T> CompletableFuture<T> onItsOwnThread(Supplier<T> task) {
        return CompletableFuture.supplyAsync(task, OWN_THREADS);
    }

    @Test
    void it_is_persisted_sent_and_marked() {
        AtomicBoolean held = new AtomicBoolean();
        assertThat(deliver("a", batch -> {
                            held.set(bench.isHeld("a"));
                            up.send(batch);
                        })
                        .isDelivered())
                .isTrue();
        assertThat(held).as("persisted before it is sent").isTrue();
        assertThat(taken.get(0).attempt()).isOne();
        assertThat(taken.get(0).entries()).isEqualTo(Batches.entries(2));
        assertThat(taken.get(0).context()).containsEntry("tenant", "a");
        assertThat(bench.isHeld("a")).isFalse();
        assertThat(bench.stats().delivered()).isOne();
    }

    @Test
    void what_is_not_persisted_is_thrown_and_not_sent() {
        bench.persist("a");
        assertThatThrownBy(() -> deliver("a", up)).isInstanceOf(DuplicateBatchException.class);
        assertThatThrownBy(() -> deliver(" ", up)).isInstanceOf(IllegalArgumentException.class);
        assertThat(taken).isEmpty();
    }

    @Test
    void within_a_transaction_that_the_batch_would_be_part_of_nothing_is_persisted_nor_sent() {
        AtomicBoolean joined = new AtomicBoolean(true);
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public boolean joinsTransaction() {
                return joined.get();
            }
        };
        rebuild(store, builder -> builder);
        assertThatThrownBy(() -> deliver("a", up))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("before the commit")
                .hasMessageContaining("BatchDelivery");
        assertThat(taken).isEmpty();
        assertThat(bench.isHeld("a")).isFalse();
        joined.set(false);
        assertThat(deliver("a", up).isDelivered()).isTrue();
    }

    @Test
    void failures_open_the_lane_and_then_batches_go_straight_to_disk_unburnt() {
        for (int i = 0; i < 3; i++) {
            assertThat(deliver("failed-" + i, DOWN).outcome()).isEqualTo(Outcome.PENDING);
        }
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.OPEN);
        assertThat(deliver("later", up)).isEqualTo(new DeliveryResult(Outcome.PENDING, null));
        assertThat(taken).isEmpty();
        assertThat(bench.summary("later").retryCount()).isZero();
        assertThat(bench.summary("later").lastAttempt()).isNull();

        bench.sender("loki", up);
        bench.ticks(20, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(4);
    }

    @Test
    void while_the_lane_ramps_up_first_sends_share_its_rate_with_recovery() {
        bench.usual = bench.usual().outageThreshold(1).get();
        deliver("failed", DOWN);
        bench.sender("loki", up);
        // The probe. From here the rate is 1 per second, then 2.
        bench.tickAfter(SECOND);
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.RAMPING);
        assertThat(deliver("too-soon", up).outcome()).isEqualTo(Outcome.PENDING);
        bench.clock.advance(SECOND);
        assertThat(deliver("one", up).outcome()).isEqualTo(Outcome.DELIVERED);
        assertThat(deliver("two", up).outcome()).isEqualTo(Outcome.DELIVERED);
        assertThat(deliver("three", up).outcome()).isEqualTo(Outcome.PENDING);
        bench.tick();
        assertThat(bench.sent).as("recovery has no more than they have left").containsExactly("failed");
        bench.ticks(2, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(5);
    }

    @Test
    void a_collectors_wish_to_wait_holds_for_first_sends_too_when_it_is_about_many() {
        for (int i = 0; i < 2; i++) {
            deliver("throttled" + i, LIMITED);
        }
        // The remaining rate is 1 per second.
        bench.clock.advance(SECOND);
        deliver("throttled2", LIMITED);
        assertThat(deliver("a", up).outcome()).isEqualTo(Outcome.PENDING);
        bench.sender("loki", up);
        bench.ticks(29, SECOND);
        assertThat(taken).isEmpty();
        bench.tickAfter(SECOND);
        assertThat(taken).as("a probe").hasSize(1);
        bench.clock.advance(SECOND);
        assertThat(deliver("b", up).outcome()).isEqualTo(Outcome.DELIVERED);
    }

    @Test
    void max_rate_holds_for_first_sends_and_concurrency_does_not() {
        bench.usual = bench.usual().maxRate(2).get();
        AtomicReference<DeliveryResult> inner = new AtomicReference<>();
        assertThat(deliver("outer", batch -> inner.set(deliver("inner", up))).isDelivered())
                .isTrue();
        assertThat(inner.get().isDelivered())
                .as("two at a time, with concurrency 1")
                .isTrue();
        assertThat(deliver("third", up).outcome()).isEqualTo(Outcome.PENDING);
    }

    @Test
    void a_rejected_batch_is_dead_and_the_classifier_has_its_say() {
        assertThat(deliver("a", throwing(() -> new PermanentDeliveryException("malformed")))
                        .outcome())
                .isEqualTo(Outcome.DEAD);

        rebuild(builder -> builder.failureClassifier(
                failure -> failure instanceof IOException ? Classification.PERMANENT : Classification.TRANSIENT));
        assertThat(deliver("b", DOWN).outcome()).isEqualTo(Outcome.DEAD);
        assertThat(deliver("c", throwing(IllegalStateException::new)).outcome()).isEqualTo(Outcome.PENDING);
    }

    @Test
    void a_classifier_that_throws_makes_it_transient() {
        rebuild(builder -> builder.failureClassifier(failure -> {
            throw new IllegalStateException("bad classifier");
        }));
        assertThat(deliver("a", DOWN).outcome()).isEqualTo(Outcome.PENDING);
        assertThat(bench.summary("a").failureReason()).contains("connection refused");
    }

    @Test
    void throttled_without_a_delay_waits_for_the_batchs_own_backoff() {
        rebuild(builder -> builder.failureClassifier(failure -> Classification.retryAfter(Duration.ZERO)));
        deliver("a", DOWN);
        assertThat(bench.summary("a").nextAttemptAt()).isEqualTo(bench.in(SECOND));
        assertThat(bench.lane().state()).isEqualTo(LaneStatus.State.CLOSED);
        deliver("b", DOWN);
        assertThat(bench.lane().state()).as("two in a row slow the lane down").isEqualTo(LaneStatus.State.RAMPING);
    }

    @Test
    void an_error_is_a_failure_and_not_thrown() {
        DeliveryResult result = deliver("a", throwing(() -> new OutOfMemoryError("of the sender")));
        assertThat(result.outcome()).isEqualTo(Outcome.PENDING);
        assertThat(result.failure()).isInstanceOf(OutOfMemoryError.class);
        assertThat(bench.summary("a").failureReason()).contains("OutOfMemoryError");
    }

    @Test
    void an_interrupted_sender_leaves_the_thread_interrupted_and_the_batch_marked() {
        assertThat(deliver("a", throwing(InterruptedException::new)).outcome()).isEqualTo(Outcome.PENDING);
        assertThat(Thread.interrupted()).isTrue();
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);
    }

    @Test
    void a_mark_that_fails_is_no_failure_of_the_collector() {
        InMemoryBatchStore store = new InMemoryBatchStore() {
            @Override
            public synchronized Settled delivered(String batchId) {
                throw new BatchPersistenceException("no marks today", null);
            }
        };
        rebuild(store, builder -> builder);
        assertThat(deliver("a", up)).isEqualTo(new DeliveryResult(Outcome.DELIVERED, null));
        assertThat(bench.lane().failuresInARow()).isZero();
        assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);
    }

    @Test
    void a_batch_discarded_under_the_sender_stays_so() {
        assertThat(deliver(
                                "a",
                                batch ->
                                        bench.engine.discard(BatchSelector.all().states(BatchState.IN_FLIGHT)))
                        .isDelivered())
                .as("the collector has it")
                .isTrue();
        assertThat(bench.stats().discarded()).isOne();
        assertThat(bench.stats().isBalanced()).isTrue();
    }

    /** Sends "a" on another thread, which hangs in the sender. Returns the future result. */
    private CompletableFuture<DeliveryResult> hanging(CountDownLatch started, CountDownLatch release) {
        return onItsOwnThread(() -> deliver("a", batch -> {
            started.countDown();
            release.await();
        }));
    }

    /** The sender is interrupted before its claim ends, and it may return in between. */
    @Test
    void an_interrupt_that_was_meant_for_a_sender_does_not_stay_with_the_callers_thread() throws Exception {
        CountDownLatch returned = new CountDownLatch(1);
        CountDownLatch sending = new CountDownLatch(1);
        AppenderBase<ILoggingEvent> inBetween = new AppenderBase<>() {
            @Override
            protected void append(ILoggingEvent event) {
                if (event.getFormattedMessage().contains("was interrupted")) {
                    try {
                        returned.await();
                    } catch (InterruptedException e) {
                        throw new IllegalStateException(e);
                    }
                }
            }
        };
        Logger logger = (Logger) LoggerFactory.getLogger(BatchPersistenceEngine.class);
        inBetween.start();
        logger.addAppender(inBetween);
        try {
            AtomicBoolean left = new AtomicBoolean();
            CompletableFuture<DeliveryResult> result = onItsOwnThread(() -> {
                DeliveryResult delivered = deliver("a", batch -> {
                    sending.countDown();
                    new CountDownLatch(1).await();
                });
                left.set(Thread.currentThread().isInterrupted());
                returned.countDown();
                return delivered;
            });
            sending.await();
            bench.clock.advance(Duration.ofMinutes(6));
            bench.engine.recover();
            assertThat(result.get().failure()).isInstanceOf(InterruptedException.class);
            assertThat(left).isFalse();
        } finally {
            returned.countDown();
            logger.detachAppender(inBetween);
        }
    }

    /** An exception from the appender would suggest that the caller still owns the batch. */
    @Test
    void an_appender_that_throws_takes_nothing_from_what_the_caller_is_told() {
        AppenderBase<ILoggingEvent> broken = new AppenderBase<>() {
            @Override
            public synchronized void doAppend(ILoggingEvent event) {
                throw new NoClassDefFoundError("a layout that is not deployed");
            }

            @Override
            protected void append(ILoggingEvent event) {}
        };
        Logger logger = (Logger) LoggerFactory.getLogger(BatchPersistenceEngine.class);
        broken.start();
        logger.addAppender(broken);
        try {
            DeliveryResult result =
                    deliver("a", throwing(() -> new NoClassDefFoundError("a client that is not deployed")));
            assertThat(result.outcome()).isEqualTo(Outcome.PENDING);
            assertThat(bench.summary("a").retryCount()).isOne();
        } finally {
            logger.detachAppender(broken);
        }
    }

    @Test
    void a_sender_that_hangs_is_interrupted_at_the_timeout_and_its_failure_is_not_counted_twice() throws Exception {
        CountDownLatch started = new CountDownLatch(1);
        CompletableFuture<DeliveryResult> result = hanging(started, new CountDownLatch(1));
        started.await();
        bench.tickAfter(Duration.ofMinutes(6));
        assertThat(result.get().failure()).isInstanceOf(InterruptedException.class);
        assertThat(bench.summary("a").retryCount()).isOne();
        assertThat(bench.summary("a").failureReason()).isEqualTo("timed out after PT5M");
        assertThat(bench.lane().failuresInARow()).isOne();
        assertThat(bench.warnings()).anyMatch(line -> line.contains("took longer than the batch timeout"));
    }

    private static void awaitStubbornly(CountDownLatch release) {
        boolean released = false;
        while (!released) {
            try {
                release.await();
                released = true;
            } catch (InterruptedException e) {
                // Ignored on purpose.
            }
        }
    }

    @Test
    void a_late_failure_does_not_fail_the_attempt_of_another_and_a_late_success_is_honoured() throws Exception {
        for (boolean succeeds : new boolean[] {false, true}) {
            rebuild(builder -> builder);
            var held = bench.holdingTarget("loki");
            CountDownLatch started = new CountDownLatch(1);
            CountDownLatch release = new CountDownLatch(1);
            CompletableFuture<DeliveryResult> late = onItsOwnThread(() -> deliver("a", batch -> {
                started.countDown();
                awaitStubbornly(release);
                if (!succeeds) {
                    throw new IOException("late");
                }
            }));
            started.await();
            bench.tickAfter(Duration.ofMinutes(6));
            bench.tickAfter(SECOND);
            assertThat(held).hasSize(1);
            release.countDown();
            late.get();
            assertThat(bench.isHeld("a")).isEqualTo(!succeeds);
            if (!succeeds) {
                assertThat(bench.state("a")).isEqualTo(BatchState.IN_FLIGHT);
            }
            assertThat(held.get(0).acknowledge()).isEqualTo(!succeeds);
            assertThat(bench.stats().delivered()).isOne();
            assertThat(bench.stats().isBalanced()).isTrue();
        }
    }

    @Test
    void a_late_success_is_honoured_also_if_the_batch_had_to_wait_for_room() throws Exception {
        rebuild(new InMemoryBatchStore(1), builder -> builder.overflow(OverflowPolicy.BLOCK, Duration.ofSeconds(30)));
        bench.persist("in-the-way");
        CountDownLatch started = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        CompletableFuture<DeliveryResult> late = onItsOwnThread(() -> deliver("a", batch -> {
            started.countDown();
            awaitStubbornly(release);
        }));
        Awaitility.await().until(() -> bench.engine.callersWaitingForSpace() == 1);
        bench.clock.advance(SECOND);
        bench.engine.markBatchSuccess("in-the-way");
        started.await();
        bench.tickAfter(Duration.ofMinutes(6));
        assertThat(bench.state("a")).isEqualTo(BatchState.PENDING);
        release.countDown();
        late.get();
        assertThat(bench.isHeld("a")).isFalse();
    }

    @Test
    void close_waits_for_first_sends_and_what_comes_meanwhile_stays_for_the_next_start() throws Exception {
        CountDownLatch started = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        CompletableFuture<DeliveryResult> result = hanging(started, release);
        started.await();
        CompletableFuture<Void> closing = CompletableFuture.runAsync(bench.engine::close, OWN_THREADS);
        Awaitility.await().until(bench.engine::isClosing);
        assertThat(deliver("meanwhile", up)).isEqualTo(new DeliveryResult(Outcome.PENDING, null));
        assertThat(closing).isNotDone();
        release.countDown();
        assertThat(result.get().isDelivered()).isTrue();
        closing.get(20, TimeUnit.SECONDS);
        assertThat(taken).isEmpty();
        assertThat(bench.store.isClosed()).isTrue();
    }
}
