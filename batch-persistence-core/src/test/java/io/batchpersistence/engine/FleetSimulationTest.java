package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Many instances share one collector with a limited capacity that returns from an outage. Time is simulated and
 * randomness is seeded, so runs are reproducible. Small by default. This command prints the figures of
 * {@code docs/recovery.md}:
 *
 * <pre>mvn -pl batch-persistence-core -am test -Dtest=FleetSimulationTest -Dsurefire.failIfNoSpecifiedTests=false
 * -Dsimulation.instances=500</pre>
 */
@Tag("slow")
// Hundreds of lanes open and close.
@ExtendWith(MutedLog.class)
class FleetSimulationTest {

    private static final int INSTANCES = Integer.getInteger("simulation.instances", 50);
    /** Requests that the collector accepts per second, from all instances together. */
    private static final int CAPACITY = 2 * INSTANCES;

    private static final int BACKLOG = 200;
    private static final int OUTAGE_SECONDS = 3_600;
    /** All instances persist in the same second, so they detect the outage together: the worst case. */
    private static final int SECONDS_BETWEEN_BATCHES = OUTAGE_SECONDS / BACKLOG;

    private static final int NAIVE_RETRY_SECONDS = 30;
    private static final Duration SECOND = Duration.ofSeconds(1);

    /** Accepts {@link #CAPACITY} requests a second and rejects the others. Rejects all during an outage. */
    private static final class Collector {
        final List<Integer> requests = new ArrayList<>(List.of(0));
        int rejected;
        boolean down = true;
        private int takenInSecond;

        boolean takes() {
            requests.set(requests.size() - 1, requests.get(requests.size() - 1) + 1);
            if (down || takenInSecond >= CAPACITY) {
                rejected++;
                return false;
            }
            takenInSecond++;
            return true;
        }

        void nextSecond() {
            requests.add(0);
            takenInSecond = 0;
        }

        /** Ends the outage and resets the counters. */
        int returns() {
            int soFar = total();
            down = false;
            requests.clear();
            requests.add(0);
            rejected = 0;
            takenInSecond = 0;
            return soFar;
        }

        int total() {
            return requests.stream().mapToInt(Integer::intValue).sum();
        }

        int peak() {
            return Collections.max(requests);
        }
    }

    /** What the collector saw. Seconds count from the end of the outage. */
    private record Fleet(
            int peakInOutage,
            int requestsInOutage,
            int peak,
            int requests,
            int rejected,
            int halfDrained,
            int drained) {

        double rejectedShare() {
            return (double) rejected / requests;
        }

        void print(String policy) {
            System.out.printf(
                    "fleet of %d, %s: outage %d requests, at most %d in one second; then %d requests, at most %d in one second,"
                            + " for a capacity of %d; %.1f %% rejected; half of %d batches delivered after %d s, all after"
                            + " %d s%n",
                    INSTANCES,
                    policy,
                    requestsInOutage,
                    peakInOutage,
                    requests,
                    peak,
                    CAPACITY,
                    100 * rejectedShare(),
                    INSTANCES * BACKLOG,
                    halfDrained,
                    drained);
        }
    }

    /** A simulated fleet. The order of the instances changes every second, so that none is always first. */
    private abstract static class Simulation {
        final Collector collector = new Collector();

        abstract void persist(int instance, int batch);

        abstract void aSecondPasses();

        abstract void round(int instance);

        abstract long waiting();

        Fleet run() {
            List<Integer> order =
                    new ArrayList<>(IntStream.range(0, INSTANCES).boxed().toList());
            Random random = new Random(3);
            for (int second = 0; second < OUTAGE_SECONDS; second++) {
                if (second % SECONDS_BETWEEN_BATCHES == 0) {
                    for (int instance : order) {
                        persist(instance, second / SECONDS_BETWEEN_BATCHES);
                    }
                }
                second(order, random);
            }
            int peakInOutage = collector.peak();
            int requestsInOutage = collector.returns();
            assertThat(waiting()).isEqualTo((long) INSTANCES * BACKLOG);
            int halfDrained = 0;
            int drained = 0;
            while (waiting() > 0) {
                assertThat(++drained).isLessThan(OUTAGE_SECONDS);
                second(order, random);
                halfDrained += 2 * waiting() > (long) INSTANCES * BACKLOG ? 1 : 0;
            }
            return new Fleet(
                    peakInOutage,
                    requestsInOutage,
                    collector.peak(),
                    collector.total(),
                    collector.rejected,
                    halfDrained + 1,
                    drained);
        }

        private void second(List<Integer> order, Random random) {
            aSecondPasses();
            collector.nextSecond();
            Collections.shuffle(order, random);
            order.forEach(this::round);
        }
    }

    private static final class WithLanes extends Simulation implements AutoCloseable {
        private final ManualClock clock = new ManualClock();
        private final StepExecutor executor = new StepExecutor();
        private final List<BatchPersistenceEngine> engines =
                IntStream.range(0, INSTANCES).mapToObj(this::engine).toList();
        private final int[] sentInSecond = new int[INSTANCES];
        private final int[] mostSentInSecond = new int[INSTANCES];

        private BatchPersistenceEngine engine(int number) {
            RecoveryTarget target = RecoveryTarget.of(batch -> {
                sentInSecond[number]++;
                if (!collector.takes()) {
                    throw new IOException("HTTP 503");
                }
            });
            return BatchPersistenceEngine.builder(new InMemoryBatchStore())
                    .settings(type -> CollectorSettings.DEFAULT)
                    .targets(type -> target)
                    .executor(executor)
                    .announcements(Runnable::run)
                    .random(new SplittableRandom(number))
                    .clock(clock)
                    .build();
        }

        @Override
        void persist(int instance, int batch) {
            String id = "b" + batch;
            engines.get(instance).persistBatch(id, Batches.entries(1), "loki");
            engines.get(instance).releaseBatch(id);
            executor.runAll();
        }

        @Override
        void aSecondPasses() {
            clock.advance(SECOND);
            Arrays.fill(sentInSecond, 0);
        }

        @Override
        void round(int instance) {
            engines.get(instance).recover();
            executor.runAll();
            int sent = sentInSecond[instance];
            if (sent > 2 * Math.max(1, mostSentInSecond[instance])) {
                fail(
                        "instance %d sends %d in a second and %d was the most before: no ramp",
                        instance, sent, mostSentInSecond[instance]);
            }
            mostSentInSecond[instance] = Math.max(mostSentInSecond[instance], sent);
        }

        @Override
        long waiting() {
            return engines.stream()
                    .mapToLong(engine -> engine.stats().total().pending())
                    .sum();
        }

        long delivered() {
            return engines.stream()
                    .mapToLong(engine -> engine.stats().total().delivered())
                    .sum();
        }

        @Override
        public void close() {
            engines.forEach(BatchPersistenceEngine::close);
        }
    }

    /** Fixed retry delay without lanes, jitter or a retry limit. */
    private static final class Naive extends Simulation {
        private final List<List<Integer>> due = IntStream.range(0, INSTANCES)
                .<List<Integer>>mapToObj(i -> new ArrayList<>())
                .toList();
        private final Random random = new Random(5);
        private final boolean spread;
        private int now;

        /** @param spread whether the batches are due in different seconds, which is the best case */
        Naive(boolean spread) {
            this.spread = spread;
        }

        @Override
        void persist(int instance, int batch) {
            due.get(instance).add(now + (spread ? random.nextInt(NAIVE_RETRY_SECONDS) : 0));
        }

        @Override
        void aSecondPasses() {
            now++;
        }

        @Override
        void round(int instance) {
            due.get(instance).replaceAll(at -> at > now ? at : collector.takes() ? -1 : now + NAIVE_RETRY_SECONDS);
            due.get(instance).removeIf(at -> at < 0);
        }

        @Override
        long waiting() {
            return due.stream().mapToLong(List::size).sum();
        }
    }

    @Test
    void a_fleet_does_not_trample_down_the_collector_that_comes_back() {
        try (WithLanes lanes = new WithLanes()) {
            Fleet fleet = lanes.run();
            fleet.print("with lanes");
            assertThat(fleet.peakInOutage())
                    .as("one each, when all notice at once")
                    .isLessThanOrEqualTo(INSTANCES);
            assertThat(fleet.requestsInOutage()).isLessThan(60 * INSTANCES);
            assertThat(fleet.peak()).isLessThan(CAPACITY * 5 / 4);
            assertThat(fleet.rejectedShare()).isLessThan(0.05);
            assertThat(fleet.drained()).isLessThan(10 * 60);
            assertThat(lanes.delivered()).isEqualTo((long) INSTANCES * BACKLOG);
        }
    }

    /** Proves that the simulated collector can be overloaded. */
    @Test
    void without_pacing_it_is_trampled_down() {
        Fleet together = new Naive(false).run();
        together.print("without pacing, all at once");
        assertThat(together.peak()).isGreaterThan(10 * CAPACITY);
        assertThat(together.rejectedShare()).isGreaterThan(0.8);
        Fleet spread = new Naive(true).run();
        spread.print("without pacing, spread evenly");
        assertThat(spread.peak()).isGreaterThan(3 * CAPACITY);
        assertThat(spread.rejectedShare()).isGreaterThan(0.4);
    }
}
