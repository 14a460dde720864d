package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LaneStatus.State;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Disasters in simulated time with seeded randomness, so runs are reproducible. Small by default. This command prints
 * the figures of {@code docs/recovery.md}:
 *
 * <pre>mvn -pl batch-persistence-core -am test -Dtest=RecoverySimulationTest -Dsurefire.failIfNoSpecifiedTests=false
 * -Dsimulation.batches=100000</pre>
 */
class RecoverySimulationTest extends BenchTest {

    private static final int OUTAGE_SECONDS = 60 * 3_600;
    /** One tick per second during the outage would only slow the test down. The drain uses one tick per second. */
    private static final int TICK_SECONDS = 10;

    private static final int BATCHES = Integer.getInteger("simulation.batches", 1_000);
    private static final int HOURS = Integer.getInteger("simulation.hours", 1);

    @TempDir
    Path directory;

    private static void print(String line, Object... values) {
        System.out.printf(line + "%n", values);
    }

    private record Weekend(
            BatchStats stats, int probes, long healthyMaxLatencyMillis, List<Long> drain, int drainSeconds) {}

    private Weekend weekend(boolean outage, Path path) {
        ManualClock clock = new ManualClock();
        StepExecutor executor = new StepExecutor();
        CollectorSettings settings = Bench.with()
                .retry(RecoveryPolicy.DEFAULT)
                .ttl(Duration.ofDays(7), Duration.ofDays(7))
                .maxRate(200)
                .get();
        boolean[] down = {outage};
        int[] refused = {0};
        Map<String, Instant> persistedAt = new HashMap<>();
        long[] healthyLatency = {0};
        RecoveryTarget first = RecoveryTarget.of(batch -> {
            if (down[0]) {
                refused[0]++;
                throw new IOException("connection refused");
            }
        });
        RecoveryTarget healthy = RecoveryTarget.of(batch -> healthyLatency[0] = Math.max(
                healthyLatency[0],
                Duration.between(persistedAt.remove(batch.id()), clock.instant())
                        .toMillis()));
        BatchStore store = DiskBatchStores.segment(DiskStoreOptions.builder(path)
                .sync(SyncPolicy.NEVER)
                .clock(clock)
                .build());
        try (BatchPersistenceEngine engine = BatchPersistenceEngine.builder(store)
                .settings(type -> settings)
                .targets(Map.of("a", first, "b", healthy, "c", healthy)::get)
                .executor(executor)
                .random(new SplittableRandom(1))
                .clock(clock)
                .build()) {
            int persisted = 0;
            for (int second = 0; second < OUTAGE_SECONDS; second += TICK_SECONDS) {
                while ((long) persisted * OUTAGE_SECONDS < (long) BATCHES * (second + TICK_SECONDS)) {
                    for (String type : List.of("a", "b", "c")) {
                        String id = type + persisted;
                        persistedAt.put(id, clock.instant());
                        engine.persistBatch(id, Batches.entries(1), type);
                        engine.releaseBatch(id);
                        executor.runAll();
                    }
                    persisted++;
                }
                if (second % 36_000 == 0) {
                    engine.cleanup();
                }
                clock.advance(Duration.ofSeconds(TICK_SECONDS));
                engine.recover();
                executor.runAll();
            }
            int probes = refused[0];
            down[0] = false;
            List<Long> drain = new ArrayList<>();
            int seconds = 0;
            long before = engine.stats().collector("a").delivered();
            while (engine.stats().total().pending() > 0) {
                assertThat(++seconds).isLessThan(OUTAGE_SECONDS);
                clock.advance(SECOND);
                engine.recover();
                executor.runAll();
                long now = engine.stats().collector("a").delivered();
                if (now > before || !drain.isEmpty()) {
                    drain.add(now - before);
                }
                before = now;
            }
            return new Weekend(engine.stats(), probes, healthyLatency[0], drain, seconds);
        }
    }

    @Test
    void a_weekend_costs_no_batch_and_the_healthy_collectors_nothing() {
        Weekend quiet = weekend(false, directory.resolve("quiet"));
        Weekend bad = weekend(true, directory.resolve("bad"));
        var a = bad.stats().collector("a");
        assertThat(a.delivered()).isEqualTo(BATCHES);
        assertThat(a.dead() + a.expired() + a.evicted() + a.pending()).isZero();
        assertThat(bad.stats().total().delivered()).isEqualTo(3L * BATCHES);
        assertThat(bad.stats().total().isBalanced()).isTrue();
        assertThat(bad.healthyMaxLatencyMillis()).isEqualTo(quiet.healthyMaxLatencyMillis());
        assertThat(bad.probes()).isBetween(60 * 60 / 5, 60 * 60 / 2);
        assertThat(bad.drain().subList(0, 5)).containsExactly(1L, 2L, 4L, 8L, 16L);
        assertThat(bad.drain()).allSatisfy(rate -> assertThat(rate).isLessThanOrEqualTo(200));
        print(
                "weekend: %d delivered of %d, %d dead, %d expired; %d attempts in 60 h; others' longest latency %d ms (%d ms"
                        + " without outage); all delivered %d s after the return",
                a.delivered(),
                a.accepted(),
                a.dead(),
                a.expired(),
                bad.probes(),
                bad.healthyMaxLatencyMillis(),
                quiet.healthyMaxLatencyMillis(),
                bad.drainSeconds());
        print(
                "weekend, batches a second from the first success on: %s",
                bad.drain().stream().limit(12).toList());
    }

    /** Ten retries after 1, 2, 4 … 30 s, without lanes or jitter. Then the batch is deleted. */
    @Test
    void the_original_policy_loses_the_weekend() {
        long lost = 0;
        long attempts = 0;
        for (int i = 0; i < BATCHES; i++) {
            long at = (long) i * OUTAGE_SECONDS / BATCHES;
            boolean delivered = false;
            for (int attempt = 0; attempt <= 10 && !delivered; attempt++) {
                at += attempt == 0 ? 0 : Math.min(30, 1L << (attempt - 1));
                delivered = at >= OUTAGE_SECONDS;
                attempts += delivered ? 0 : 1;
            }
            lost += delivered ? 0 : 1;
        }
        print("weekend, original policy: %d of %d lost, %d attempts in 60 h", lost, BATCHES, attempts);
        assertThat(lost).isGreaterThan(BATCHES * 99L / 100);
    }

    @Test
    void poison_ends_as_one_dead_letter() {
        bench.sender("loki", batch -> {
            if (batch.id().equals("b50")) {
                throw new PermanentDeliveryException("HTTP 400");
            }
        });
        bench.persistDue(ids("b", 100));
        bench.tick();
        assertThat(bench.stats().delivered()).isEqualTo(99);
        assertThat(bench.state("b50")).isEqualTo(BatchState.DEAD);
        assertThat(bench.sent).filteredOn("b50"::equals).hasSize(1);
    }

    @ParameterizedTest
    @ValueSource(strings = {"PT1S", "PT30S", "PT1H"})
    void batches_that_their_collector_limits_do_not_keep_those_behind_them_from_being_sent(Duration retryAfter) {
        bench.sender("loki", batch -> {
            if (batch.id().startsWith("limited")) {
                throw new RetryAfterException(retryAfter, "HTTP 429");
            }
        });
        bench.persistDue("limited0", "limited1", "limited2");
        bench.persistDue(ids("good", 20));
        // Rate-limited batches are at both ends of the queue.
        bench.persistDue("limited3");
        bench.ticks((int) retryAfter.toSeconds() + 60, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(20);
        bench.ticks(24 * 360, Duration.ofSeconds(10));
        assertThat(bench.dead)
                .as("the collector takes nothing else: it may not be the batches that it limits")
                .isEmpty();
        assertThat(bench.sent.size())
                .as("attempts in a day: at most one in the backoff's longest delay for each")
                .isLessThan(20 + 4 * (24 * 12 + 20));
        bench.engine.cleanup();
        assertThat(bench.expired).hasSize(4);
    }

    @Test
    void one_stream_that_its_collector_limits_costs_the_other_streams_of_the_collector_nothing() {
        bench.usual = bench.usual().retry(RecoveryPolicy.DEFAULT).get();
        Map<String, Instant> persistedAt = new HashMap<>();
        Duration[] longest = {Duration.ZERO};
        bench.sender("loki", batch -> {
            if (batch.id().startsWith("limited")) {
                throw new RetryAfterException(Duration.ofSeconds(30), "HTTP 429");
            }
            Duration took = Duration.between(persistedAt.remove(batch.id()), bench.clock.instant());
            longest[0] = took.compareTo(longest[0]) > 0 ? took : longest[0];
        });
        for (int second = 0; second < HOURS * 3_600; second++) {
            String id = (second % 2 == 0 ? "limited" : "good") + second;
            persistedAt.put(id, bench.clock.instant());
            bench.persist(id);
            bench.engine.releaseBatch(id);
            bench.tickAfter(SECOND);
            if (second % 20 == 0) {
                // The store is slow with many dead letters.
                bench.engine.discard(BatchSelector.all().states(BatchState.DEAD));
            }
        }
        print(
                "one of two streams limited, Retry-After 30 s: %d of %d good ones in %d hours, the slowest after %s;"
                        + " %d attempts for %d others that are dead letters",
                bench.stats().delivered(),
                HOURS * 1_800,
                HOURS,
                longest[0],
                bench.sent.size() - bench.stats().delivered(),
                bench.dead.size());
        assertThat(bench.stats().delivered()).isEqualTo(HOURS * 1_800L);
        assertThat(longest[0]).isLessThanOrEqualTo(SECOND);
        assertThat(bench.outages).isEmpty();
        assertThat(bench.dead)
                .as("the collector took others meanwhile: it is the batches that it limits")
                .hasSizeGreaterThan(HOURS * 1_800 / 2)
                .allSatisfy(batch -> assertThat(batch.retryCount()).isEqualTo(10));
    }

    @Test
    void a_collector_that_limits_everything_for_an_hour_is_asked_when_it_wants_and_no_batch_pays() {
        boolean[] limits = {true};
        bench.sender("loki", batch -> {
            if (limits[0]) {
                throw new RetryAfterException(Duration.ofMinutes(10), "HTTP 429");
            }
        });
        bench.persistDue(ids("b", 100));
        bench.ticks(3_599, SECOND);
        assertThat(bench.sent).as("three, and then one every ten minutes").hasSize(3 + 5);
        assertThat(bench.engine.count(BatchSelector.all().retries(1, 10))).isEqualTo(3);
        limits[0] = false;
        // Rate-limited batches wait up to 10 % longer because of jitter.
        bench.ticks(70, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(100);
    }

    @Test
    void a_slow_collector_is_served_at_its_pace_and_no_other_waits_for_it() {
        // Each is held for ten seconds.
        Queue<RecoveredBatch> held = new ArrayDeque<>();
        Queue<Instant> until = new ArrayDeque<>();
        bench.target("slow", batch -> {
            held.add(batch);
            until.add(bench.in(Duration.ofSeconds(10)));
        });
        bench.sender("loki", batch -> {});
        for (int i = 0; i < 20; i++) {
            bench.persist("slow" + i, "slow");
        }
        // Recovery sends it together with those in flight.
        bench.persistDue("due");
        int fast = 1;
        for (int second = 0; second < 230; second++) {
            bench.persist("fast" + second, "loki");
            bench.engine.releaseBatch("fast" + second);
            bench.tick();
            fast++;
            assertThat(bench.stats().delivered()).as("at once").isEqualTo(fast);
            bench.clock.advance(SECOND);
            while (!until.isEmpty() && !bench.clock.instant().isBefore(until.element())) {
                until.remove();
                held.remove().acknowledge();
            }
        }
        assertThat(bench.engine.stats().collector("slow").delivered()).isEqualTo(20);
        assertThat(bench.engine.stats().collector("slow").failedAttempts()).isZero();
    }

    @Test
    void a_flapping_collector_gets_everything_and_kills_nothing() {
        Instant begin = bench.clock.instant();
        boolean[] flapping = {true};
        bench.sender("loki", batch -> {
            if (flapping[0] && Duration.between(begin, bench.clock.instant()).toSeconds() % 10 >= 5) {
                throw new IOException("connection reset");
            }
        });
        for (int second = 0; second < 3_600; second++) {
            bench.persist("b" + second);
            bench.engine.releaseBatch("b" + second);
            bench.tickAfter(SECOND);
        }
        print(
                "flapping, 5 s up and 5 s down: %d of 3600 delivered within the hour",
                bench.stats().delivered());
        assertThat(bench.stats().delivered())
                .as("the most of them while it flaps")
                .isGreaterThan(1_800);
        flapping[0] = false;
        bench.ticks(600, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(3_600);
        assertThat(bench.dead).isEmpty();
    }

    @Test
    void a_sender_out_of_memory_is_an_outage_and_when_there_is_memory_again_everything_goes_out() {
        boolean[] memory = {false};
        bench.sender("loki", batch -> {
            if (!memory[0]) {
                throw new OutOfMemoryError("Java heap space");
            }
        });
        bench.persistDue(ids("b", 50));
        bench.ticks(3_600, SECOND);
        assertThat(bench.lane().state()).isEqualTo(State.OPEN);
        assertThat(bench.stats().pending()).isEqualTo(50);
        assertThat(bench.engine.count(BatchSelector.all().retries(1, 10))).isEqualTo(3);
        memory[0] = true;
        bench.ticks(600, SECOND);
        assertThat(bench.stats().delivered()).isEqualTo(50);
    }

    @Test
    void a_sender_that_never_returns_is_an_outage_and_its_batches_wait() {
        bench.holdingTarget("loki");
        bench.sender("other", batch -> {});
        bench.persistDue(ids("b", 50));
        bench.ticks(3_600, SECOND);
        assertThat(bench.lane().state()).isEqualTo(State.OPEN);
        assertThat(bench.stats().pending() + bench.stats().inFlight()).isEqualTo(50);
        assertThat(bench.stats().inFlight()).isLessThanOrEqualTo(1);
        assertThat(bench.dead).isEmpty();
        bench.persist("x", "other");
        bench.engine.releaseBatch("x");
        bench.tick();
        assertThat(bench.engine.stats().collector("other").delivered()).isOne();
    }
}
