package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LaneStatus.State;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Several instances on one store that shares outage state between them. Each runs one round per second, in turn. */
@ExtendWith(MutedLog.class)
class SharedOutageTest {

    private static final Duration SECOND = Duration.ofSeconds(1);
    private static final Duration TIMEOUT = Duration.ofMinutes(5);

    private final ManualClock clock = new ManualClock();
    private final StepExecutor executor = new StepExecutor();
    private final Outages outages = new Outages();
    private final Store store = new Store();
    private final List<Member> members = new ArrayList<>();
    private CollectorSettings settings = Bench.with()
            .retry(Bench.NO_JITTER)
            .timeout(TIMEOUT)
            .ttl(Duration.ofDays(30), Duration.ofDays(30))
            .get();

    private boolean down;
    private boolean shared = true;

    /** Shared outages in memory. The methods named in {@link #failing} fail. */
    private final class Outages implements SharedOutages {
        private final class Down {
            final Instant since = clock.instant();
            Instant nextProbe = Instant.EPOCH;
            int probes;
            String lastFailure = "";
        }

        final Map<String, Down> down = new TreeMap<>();
        final Set<String> failing = new HashSet<>();

        private void call(String method) {
            if (failing.contains(method)) {
                throw new BatchPersistenceException(method + " failed in the database", null);
            }
        }

        @Override
        public Map<String, Outage> current() {
            call("current");
            Map<String, Outage> all = new HashMap<>();
            Instant now = clock.instant();
            down.forEach((type, each) -> all.put(
                    type,
                    new Outage(
                            Duration.between(each.since, now),
                            Duration.between(now, each.nextProbe),
                            each.probes,
                            each.lastFailure)));
            return all;
        }

        @Override
        public boolean began(String collectorType, Duration untilProbe, String lastFailure) {
            call("began");
            if (down.containsKey(collectorType)) {
                return false;
            }
            Down began = new Down();
            began.nextProbe = clock.instant().plus(untilProbe);
            began.lastFailure = lastFailure;
            down.put(collectorType, began);
            return true;
        }

        @Override
        public int takeProbe(String collectorType, Duration timeout) {
            call("takeProbe");
            Down known = down.get(collectorType);
            if (known == null) {
                return NOT_DOWN;
            }
            if (known.nextProbe.isAfter(clock.instant())) {
                return NOT_DUE;
            }
            if (!store.hasDue(collectorType)) {
                return NOTHING_TO_SEND;
            }
            known.nextProbe = clock.instant().plus(timeout);
            return ++known.probes;
        }

        @Override
        public void nextProbe(String collectorType, int probe, Duration untilProbe) {
            call("nextProbe");
            assertThat(untilProbe).isGreaterThanOrEqualTo(Duration.ZERO);
            Down known = down.get(collectorType);
            if (known != null && (probe == ANY_PROBE || probe == known.probes)) {
                known.nextProbe = clock.instant().plus(untilProbe);
            }
        }

        @Override
        public boolean ended(String collectorType) {
            call("ended");
            return down.remove(collectorType) != null;
        }
    }

    /** A store that stays open when one of its instances closes. */
    private final class Store extends InMemoryBatchStore {
        boolean claimFails;

        @Override
        public @Nullable SharedOutages sharedOutages() {
            return shared ? outages : null;
        }

        boolean hasDue(String type) {
            Instant now = clock.instant();
            return list(BatchSelector.all().collectorTypes(type).states(BatchState.PENDING), now).stream()
                    .anyMatch(batch -> batch.nextAttemptAt() != null
                            && !batch.nextAttemptAt().isAfter(now));
        }

        @Override
        public synchronized List<Claim> claim(
                String collectorType, BatchOrder order, Instant now, Instant leaseUntil, int max) {
            if (claimFails) {
                throw new BatchPersistenceException("claiming failed in the database", null);
            }
            return super.claim(collectorType, order, now, leaseUntil, max);
        }

        @Override
        public synchronized void close() {}
    }

    /** One instance with everything that it has sent and announced. */
    private final class Member {
        final List<Instant> sent = new ArrayList<>();
        final List<CollectorOutage> opened = new ArrayList<>();
        final List<CollectorOutage> closed = new ArrayList<>();
        final BatchPersistenceEngine engine;
        /** Whether this instance cannot reach the collector. */
        boolean cutOff;

        @Nullable
        RecoveryTarget target;

        Member(Function<EngineBuilder, EngineBuilder> more) {
            RecoveryTarget usual = RecoveryTarget.of(batch -> {
                if (down || cutOff) {
                    throw new IOException("connection refused");
                }
            });
            BatchListener listener = new BatchListener() {
                @Override
                public void onOutageOpened(CollectorOutage outage) {
                    opened.add(outage);
                }

                @Override
                public void onOutageClosed(CollectorOutage outage) {
                    closed.add(outage);
                }
            };
            engine = more.apply(BatchPersistenceEngine.builder(store)
                            .settings(type -> settings)
                            .targets(type -> batch -> {
                                sent.add(clock.instant());
                                (target == null ? usual : target).handOver(batch);
                            })
                            .listener(listener)
                            .executor(executor)
                            .announcements(Runnable::run)
                            .random(new SplittableRandom(members.size()))
                            .clock(clock))
                    .build();
        }

        void round() {
            engine.recover();
            executor.runAll();
        }

        State state() {
            LaneStatus lane = engine.lanes().get("loki");
            return lane == null ? State.CLOSED : lane.state();
        }
    }

    private Member join() {
        Member member = new Member(builder -> builder);
        members.add(member);
        return member;
    }

    private void join(int count) {
        for (int i = 0; i < count; i++) {
            join();
        }
    }

    /** Persists batches that are pending and due, without an owner. */
    private void persistDue(int count) {
        for (int i = 0; i < count; i++) {
            persistDue("b" + store.stats().total().accepted());
        }
    }

    private void persistDue(String id) {
        members.get(0).engine.persistBatch(id, Batches.entries(1), "loki");
        members.get(0).engine.releaseBatch(id);
        executor.runAll();
    }

    private void rounds(int seconds) {
        for (int i = 0; i < seconds; i++) {
            clock.advance(SECOND);
            members.forEach(Member::round);
        }
    }

    private List<Instant> sent() {
        return members.stream().flatMap(member -> member.sent.stream()).sorted().toList();
    }

    private void assertAllDelivered() {
        assertThat(store.stats().total().accepted())
                .isPositive()
                .isEqualTo(store.stats().total().delivered());
        assertThat(outages.down).isEmpty();
        assertThat(members).allSatisfy(member -> assertThat(member.state()).isNotEqualTo(State.OPEN));
    }

    /** The times of the sends during ten minutes of outage. */
    private static List<Instant> sentInTenMinutes(int instances, int batches) {
        SharedOutageTest test = new SharedOutageTest();
        test.shared = instances > 1;
        test.join(instances);
        test.down = true;
        // Paused until all batches are persisted.
        test.members.get(0).engine.pause("loki");
        test.persistDue(batches);
        test.members.get(0).engine.resume("loki");
        test.executor.runAll();
        test.rounds(600);
        assertThat(test.members).allSatisfy(member -> assertThat(member.state()).isEqualTo(State.OPEN));
        return test.sent();
    }

    @Test
    void fifty_instances_send_the_probes_that_one_would_send_and_when_it_would() {
        List<Instant> alone = sentInTenMinutes(1, 100);
        assertThat(alone).hasSizeBetween(10, 20);
        assertThat(sentInTenMinutes(50, 100)).isEqualTo(alone);
    }

    /** Only the instance that has postponed the batch knows that it may be sent early. */
    @Test
    void so_they_do_where_there_is_a_single_batch() {
        List<Instant> alone = sentInTenMinutes(1, 1);
        List<Instant> together = sentInTenMinutes(10, 1);
        assertThat(together).hasSizeBetween(alone.size() - 1, alone.size() + 1);
        assertThat(together.get(together.size() - 1))
                .isBetween(
                        alone.get(alone.size() - 1).minusSeconds(20),
                        alone.get(alone.size() - 1).plusSeconds(20));
    }

    @Test
    void probes_cost_no_batch_its_retries_and_are_counted_together() {
        join(3);
        down = true;
        persistDue(100);
        rounds(2 * 3_600);
        assertThat(store.list(BatchSelector.all(), clock.instant()))
                .filteredOn(batch -> batch.retryCount() > 0)
                .hasSize(3);
        assertThat(sent()).hasSizeBetween(2 * 12, 3 * 12);
        assertThat(members.get(0).engine.lanes().get("loki").probes())
                .as("known to all")
                .isEqualTo(sent().size() - 3)
                .isEqualTo(members.get(2).engine.lanes().get("loki").probes());
    }

    @Test
    void all_begin_to_ramp_when_one_has_found_it_back() {
        join(10);
        down = true;
        persistDue(500);
        rounds(600);
        members.forEach(member -> member.sent.clear());
        down = false;
        while (store.stats().total().delivered() == 0) {
            rounds(1);
        }
        rounds(1);
        assertThat(members).allSatisfy(member -> assertThat(member.state()).isEqualTo(State.RAMPING));
        rounds(2);
        assertThat(members)
                .allSatisfy(
                        member -> assertThat(member.sent.size()).as("ramped").isBetween(2, 15));
        rounds(60);
        assertAllDelivered();
    }

    @Test
    void each_instance_announces_beginning_and_end_and_one_of_them_as_its_own() {
        join(10);
        down = true;
        persistDue(100);
        Instant began = clock.instant();
        rounds(60);
        down = false;
        rounds(300);
        assertAllDelivered();
        for (List<CollectorOutage> announced : List.of(
                members.stream().flatMap(member -> member.opened.stream()).toList(),
                members.stream().flatMap(member -> member.closed.stream()).toList())) {
            assertThat(announced).hasSize(10).allMatch(outage -> outage.since().equals(began));
            assertThat(announced).filteredOn(CollectorOutage::foundHere).hasSize(1);
        }
        assertThat(members).allSatisfy(member -> {
            assertThat(member.opened).hasSize(1);
            assertThat(member.opened.get(0).lastFailure()).contains("connection refused");
            assertThat(member.closed).hasSize(1).allMatch(CollectorOutage::answered);
        });
    }

    @Test
    void two_that_find_it_out_at_once_have_found_one_outage() {
        join(2);
        down = true;
        settings = Bench.with().retry(Bench.NO_JITTER).outageThreshold(1).get();
        for (Member member : members) {
            String id = "of " + members.indexOf(member);
            member.engine.persistBatch(id, Batches.entries(1), "loki");
            member.engine.markBatchFailed(id, "503");
        }
        assertThat(members).allSatisfy(member -> assertThat(member.opened).hasSize(1));
        assertThat(members.get(0).opened.get(0).foundHere()).isTrue();
        assertThat(members.get(1).opened.get(0).foundHere()).isFalse();
        down = false;
        rounds(10);
        assertAllDelivered();
    }

    @Test
    void who_starts_during_an_outage_knows_it_from_its_first_round_on() {
        join(1);
        down = true;
        persistDue(10);
        rounds(60);
        Member late = join();
        late.round();
        assertThat(late.state()).isEqualTo(State.OPEN);
        assertThat(late.engine.lanes().get("loki").outageSince())
                .isEqualTo(members.get(0).engine.lanes().get("loki").outageSince());
        assertThat(late.engine
                        .deliver("new", Batches.entries(1), "loki", Map.of(), batch -> late.sent.add(clock.instant()))
                        .outcome())
                .isEqualTo(Outcome.PENDING);
        executor.runAll();
        assertThat(late.sent).isEmpty();
    }

    @Test
    void what_a_collector_wishes_for_many_batches_holds_for_all_instances() {
        join(3);
        int[] limited = {3};
        for (Member member : members) {
            member.target = RecoveryTarget.of(batch -> {
                if (limited[0]-- > 0) {
                    throw new RetryAfterException(Duration.ofSeconds(100), "HTTP 429");
                }
            });
        }
        persistDue(20);
        Instant requested = clock.instant();
        assertThat(sent()).hasSize(3);
        rounds(99);
        assertThat(sent()).as("no one before the collector wants it").hasSize(3);
        rounds(60);
        assertThat(sent().get(3)).isEqualTo(requested.plusSeconds(100));
        assertAllDelivered();
    }

    @Test
    void a_stream_that_the_collector_limits_costs_the_others_nothing_however_many_instances_send() {
        join(3);
        for (Member member : members) {
            member.target = RecoveryTarget.of(batch -> {
                if (batch.id().startsWith("limited")) {
                    throw new RetryAfterException(Duration.ofSeconds(30), "HTTP 429");
                }
            });
        }
        for (int second = 0; second < 900; second++) {
            persistDue((second % 2 == 0 ? "limited" : "good") + second);
            rounds(1);
        }
        assertThat(store.stats().total().delivered()).isEqualTo(450);
        assertThat(members).allSatisfy(member -> assertThat(member.opened).isEmpty());
        assertThat(store.stats().total().dead()).isPositive();
    }

    @Test
    void one_that_alone_cannot_reach_the_collector_does_not_stop_the_others() {
        join(5);
        members.get(0).cutOff = true;
        for (int second = 0; second < 300; second++) {
            for (Member member : members) {
                String id = members.indexOf(member) + "-" + second;
                member.engine.deliver(id, Batches.entries(1), "loki", Map.of(), batch -> {
                    member.sent.add(clock.instant());
                    if (member.cutOff) {
                        throw new IOException("no route to host");
                    }
                });
            }
            executor.runAll();
            rounds(1);
        }
        assertThat(members.subList(1, 5)).allSatisfy(member -> {
            assertThat(member.opened.size()).isLessThan(4);
            assertThat(member.sent.size()).isGreaterThan(270);
        });
        assertThat(members.get(0).opened.size()).isLessThan(5);
        assertThat(members.get(0).sent.size()).as("until it knows, and probes").isLessThan(25);
        assertThat(members.get(0).state()).isEqualTo(State.OPEN);
        assertThat(store.stats().total().delivered()).isGreaterThan(1_490);
        members.get(0).cutOff = false;
        persistDue(300);
        for (int i = 0; i < 310 && members.get(0).state() == State.OPEN; i++) {
            persistDue(1);
            // This instance gets one before the others.
            members.get(0).engine.recover();
            executor.runAll();
            rounds(1);
        }
        assertThat(members.get(0).state()).isNotEqualTo(State.OPEN);
        assertThat(members.get(0).closed).hasSameSizeAs(members.get(0).opened);
        rounds(60);
        assertAllDelivered();
    }

    @Test
    void what_others_say_counts_again_once_it_fails_here_too() {
        join(2);
        members.get(1).engine.persistBatch("a", Batches.entries(1), "loki");
        outages.began("loki", Duration.ofSeconds(10), "503");
        clock.advance(Duration.ofMillis(1));
        // Sent before the outage.
        members.get(1).engine.markBatchSuccess("a");
        members.get(1).round();
        assertThat(members.get(1).state()).isEqualTo(State.CLOSED);
        members.get(1).engine.persistBatch("c", Batches.entries(1), "loki");
        members.get(1).engine.markBatchFailed("c", "503");
        members.get(1).round();
        assertThat(members.get(1).state()).isEqualTo(State.OPEN);
    }

    // ---- instances that die or leave -------------------------------------------------------------

    /** A member that has claimed a probe and does not respond. */
    private Member withProbe() {
        List<RecoveredBatch> held = new ArrayList<>();
        down = true;
        persistDue(10);
        rounds(2);
        members.forEach(member -> {
            member.target = held::add;
            member.sent.clear();
        });
        while (held.isEmpty()) {
            rounds(1);
        }
        assertThat(held).hasSize(1);
        Member prober = members.stream()
                .filter(member -> !member.sent.isEmpty())
                .findFirst()
                .orElseThrow();
        members.forEach(member -> {
            member.target = null;
            member.sent.clear();
        });
        return prober;
    }

    @Test
    void one_that_is_killed_with_the_probe_holds_it_up_no_longer_than_the_batch_timeout() {
        join(3);
        Member killed = withProbe();
        members.remove(killed);
        Instant taken = clock.instant();
        rounds(299);
        assertThat(sent()).isEmpty();
        rounds(2);
        assertThat(sent()).containsExactly(taken.plus(TIMEOUT));
        rounds(600);
        assertThat(sent()).hasSizeBetween(4, 12);
        down = false;
        rounds(900);
        assertAllDelivered();
    }

    @Test
    void one_that_closes_with_the_probe_out_leaves_it_to_the_others() {
        join(3);
        Member leaving = withProbe();
        members.remove(leaving);
        leaving.engine.close();
        rounds(1);
        assertThat(sent()).hasSize(1);
    }

    @Test
    void a_probe_that_is_released_unsent_is_for_anybody_to_repeat() {
        join(3);
        Member prober = withProbe();
        String id = store.list(BatchSelector.all().states(BatchState.IN_FLIGHT), clock.instant())
                .get(0)
                .id();
        prober.engine.releaseBatch(id);
        executor.runAll();
        rounds(2);
        assertThat(sent()).hasSize(1);
    }

    @Test
    void a_probe_that_is_not_settled_times_out_and_the_next_one_follows() {
        join(3);
        // All other instances stay alive.
        withProbe();
        rounds(299);
        assertThat(sent()).isEmpty();
        rounds(10);
        assertThat(sent()).hasSizeBetween(1, 2);
    }

    @Test
    void a_result_that_comes_when_another_probe_is_out_does_not_bring_a_third() {
        join(2);
        List<RecoveredBatch> held = new ArrayList<>();
        down = true;
        persistDue(10);
        rounds(1);
        members.forEach(member -> member.target = held::add);
        while (held.isEmpty()) {
            rounds(1);
        }
        Member frozen = members.stream()
                .filter(member -> member.sent.contains(clock.instant()))
                .findFirst()
                .orElseThrow();
        members.remove(frozen);
        // The other instance repeats the probe.
        rounds(301);
        assertThat(held).hasSize(2);
        held.get(0).fail("late");
        members.add(frozen);
        rounds(290);
        assertThat(held).hasSize(2);
    }

    @Test
    void batches_pushed_back_by_one_are_due_again_when_another_one_has_ended_the_outage() {
        join(4);
        down = true;
        persistDue(20);
        rounds(3_600);
        down = false;
        persistDue("fresh");
        members.get(3).engine.persistBatch("sent by the application", Batches.entries(1), "loki");
        members.get(3).engine.markBatchSuccess("sent by the application");
        rounds(40);
        assertAllDelivered();
    }

    @Test
    void an_operator_has_it_probed_at_once_by_the_first_instance() {
        join(3);
        down = true;
        persistDue(20);
        rounds(3_600);
        Instant next = members.get(0).engine.lanes().get("loki").nextProbeAt();
        assertThat(next).isAfter(clock.instant().plusSeconds(5));
        members.forEach(member -> member.sent.clear());
        down = false;
        members.get(1).engine.recover(BatchSelector.all().collectorTypes("loki"));
        executor.runAll();
        assertThat(sent()).hasSize(1);
        rounds(2);
        assertThat(members).allSatisfy(member -> assertThat(member.state()).isNotEqualTo(State.OPEN));
    }

    @Test
    void an_outage_without_batches_is_forgotten_by_all() {
        join(3);
        down = true;
        persistDue(5);
        rounds(10);
        members.get(1).engine.discard(BatchSelector.all());
        rounds(600);
        assertThat(outages.down).isEmpty();
        assertThat(members).allSatisfy(member -> {
            assertThat(member.engine.lanes()).isEmpty();
            assertThat(member.opened).hasSize(1);
            assertThat(member.closed).hasSize(1).noneMatch(CollectorOutage::answered);
        });
        assertThat(members.stream().flatMap(member -> member.closed.stream()))
                .filteredOn(CollectorOutage::foundHere)
                .hasSize(1);
    }

    @Test
    void an_outage_that_no_instance_remembers_is_forgotten_too() {
        join(2);
        down = true;
        persistDue(5);
        rounds(10);
        members.get(0).engine.discard(BatchSelector.all());
        members.clear();
        join(2);
        rounds(60);
        assertThat(outages.down).containsKey("loki");
        assertThat(members).allSatisfy(member -> assertThat(member.opened).isEmpty());
        rounds(600);
        assertThat(outages.down).isEmpty();
    }

    @Test
    void an_outage_left_over_from_the_day_before_costs_one_probe() {
        join(1);
        down = true;
        persistDue(5);
        rounds(10);
        members.clear();
        clock.advance(Duration.ofHours(20));
        down = false;
        store.reopen(clock.instant());
        join(2);
        rounds(1);
        assertThat(store.stats().total().delivered()).isPositive();
        rounds(20);
        assertAllDelivered();
    }

    @Test
    void a_type_that_never_opens_here_does_not_open_for_others() {
        join(2);
        settings = Bench.with().retry(Bench.NO_JITTER).outageThreshold(0).get();
        outages.began("loki", SECOND, "503");
        persistDue(5);
        rounds(1);
        assertThat(store.stats().total().delivered()).isEqualTo(5);
        assertThat(members).allSatisfy(member -> assertThat(member.opened).isEmpty());
    }

    // ---- a store that fails ----------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"current", "began", "takeProbe", "nextProbe", "ended"})
    void whatever_cannot_be_told_or_learned_nothing_waits_for_ever(String method) {
        join(3);
        outages.failing.add(method);
        down = true;
        persistDue(100);
        rounds(1_200);
        assertThat(sent().size()).as("as many as without the others, at most").isLessThan(3 * 16);
        assertThat(store.list(BatchSelector.all(), clock.instant()))
                .noneMatch(batch -> batch.state() == BatchState.DEAD);
        down = false;
        rounds(900);
        assertThat(store.stats().total().delivered()).isEqualTo(100);
        assertThat(members)
                .allSatisfy(member -> assertThat(
                                member.engine.lanes().values().stream().filter(lane -> lane.state() == State.OPEN))
                        .as("the lanes that hold batches are served")
                        .hasSizeLessThan(2));
        outages.failing.clear();
        rounds(900);
        assertAllDelivered();
        assertThat(members).allSatisfy(member -> assertThat(member.opened).hasSameSizeAs(member.closed));
    }

    @ParameterizedTest
    @ValueSource(strings = {"current", "began", "takeProbe", "nextProbe", "ended"})
    void what_could_not_be_told_is_told_when_the_store_is_there_again(String method) {
        join(3);
        down = true;
        outages.failing.add(method);
        persistDue(100);
        rounds(30);
        outages.failing.clear();
        rounds(600);
        members.forEach(member -> member.sent.clear());
        rounds(3_600);
        assertThat(sent()).as("one in five minutes, or in four").hasSizeBetween(12, 15);
        assertThat(outages.down).containsKey("loki");
        outages.failing.add(method);
        down = false;
        rounds(600);
        outages.failing.clear();
        rounds(60);
        assertAllDelivered();
    }

    @Test
    void the_end_of_an_outage_that_could_not_be_told_is_told_in_the_next_round() {
        join(3);
        down = true;
        persistDue(2_000);
        rounds(60);
        outages.failing.addAll(List.of("ended", "current"));
        down = false;
        while (store.stats().total().delivered() == 0) {
            rounds(1);
        }
        assertThat(outages.down).containsKey("loki");
        assertThat(members)
                .filteredOn(member -> member.state() == State.RAMPING)
                .hasSize(1);
        rounds(3);
        assertThat(members)
                .as("its own knowledge is newer")
                .filteredOn(member -> member.state() == State.RAMPING)
                .isNotEmpty();
        outages.failing.clear();
        rounds(1);
        assertThat(outages.down).isEmpty();
        rounds(1);
        assertThat(members).noneMatch(member -> member.state() == State.OPEN);
        assertThat(members)
                .allSatisfy(member ->
                        assertThat(member.closed).hasSameSizeAs(member.opened).hasSize(1));
    }

    @Test
    void a_probe_whose_batch_cannot_be_claimed_is_given_back() {
        join(2);
        down = true;
        persistDue(20);
        rounds(60);
        down = false;
        store.claimFails = true;
        rounds(70);
        assertThat(outages.down.get("loki").probes).isGreaterThan(5);
        store.claimFails = false;
        rounds(2);
        assertThat(store.stats().total().delivered()).isPositive();
        assertThat(store.count(BatchSelector.all().states(BatchState.IN_FLIGHT), clock.instant()))
                .isZero();
    }
}
