package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Tag;

/**
 * One instance with a fallback, random calls, and a database that goes away and returns. Connections are lost before,
 * during and after commits, and the instance restarts. Every acknowledged batch is there until it is delivered, and the
 * counters balance.
 */
@Tag("slow")
class FallbackCampaignTest extends FallbackTestBase {

    private static final int STEPS = 500;

    private Random random;
    private final Map<String, Long> mine = new HashMap<>();
    private final Set<String> acknowledged = new TreeSet<>();
    private final Set<String> delivered = new TreeSet<>();
    private boolean away;
    private long accepted;

    @OnEachDatabase
    void whatever_happens_what_was_acknowledged_is_there_until_it_is_delivered(Kind kind) {
        long seed = Long.getLong("faults.seed", 1);
        random = new Random(seed);
        begin(kind);
        source.accidents(random, 12);
        for (int step = 0; step < STEPS; step++) {
            act("b" + step);
            CollectorStats shown = loki();
            assertThat(shown.isBalanced())
                    .as("seed %s, step %s: %s", seed, step, shown)
                    .isTrue();
        }
        restartDatabase();
        primary.heartbeat();
        store.close();
        openFallback();
        primary.heartbeat();
        // Wait until the lease of batches that could not be returned has ended.
        pass(LEASE.plusMillis(1), primary);
        // Batches in flight in the fallback are pending now.
        List<Claim> left = claim();
        left.forEach(claim -> store.released(claim.batch().id(), type -> Optional.of(clock.instant())));
        store.mover.move();
        String what = "seed " + seed;
        assertThat(local()).as(what).isEmpty();
        Set<String> held = shared();
        Set<String> missing = new TreeSet<>(acknowledged);
        missing.removeAll(held);
        missing.removeAll(delivered);
        assertThat(missing).as(what).isEmpty();
        Set<String> fromNowhere = new TreeSet<>(held);
        fromNowhere.removeAll(acknowledged);
        assertThat(fromNowhere).as(what).isEmpty();
        for (String id : held) {
            assertThat(store.find(id)).as(what).isPresent();
        }
        CollectorStats stats = balanced();
        assertThat(stats.inFlight()).as(what).isZero();
        assertThat(stats.corrupt()).as(what).isZero();
        assertThat(stats.accepted()).as(what).isGreaterThanOrEqualTo(accepted);
        // Delivered at least once. After an accident a batch may be in both places. Then it is sent and counted twice.
        assertThat(stats.accepted() - accepted).as(what).isLessThan(STEPS / 20);
        assertThat(acknowledged).as(what).hasSizeGreaterThan(STEPS / 6);
        assertThat(delivered).as(what).hasSizeGreaterThan(STEPS / 20);
    }

    private void act(String id) {
        Instant now = clock.instant();
        try {
            switch (random.nextInt(14)) {
                case 0, 1, 2, 3 -> {
                    store.append(batch(id)).join();
                    acknowledged.add(id);
                    accepted++;
                    mine.put(id, 0L);
                }
                case 4, 5 -> {
                    for (Claim claim : claim()) {
                        assertThat(acknowledged).contains(claim.batch().id());
                        mine.put(claim.batch().id(), claim.fence());
                    }
                }
                case 6, 7 -> {
                    String any = any();
                    if (store.delivered(any) != null) {
                        delivered.add(any);
                    }
                    mine.remove(any);
                }
                case 8, 9 -> {
                    String any = any();
                    boolean dead = random.nextInt(4) == 0;
                    store.failed(
                            any,
                            mine.getOrDefault(any, 0L),
                            "503",
                            now,
                            (type, retries) -> new Verdict(dead, dead ? null : now, retries + 1));
                    mine.remove(any);
                }
                case 10 -> {
                    pass(Duration.ofSeconds(random.nextInt(12)));
                    primary.heartbeat();
                }
                case 11 -> {
                    away = !away;
                    if (away) {
                        source.refuse();
                    } else {
                        source.recover();
                        source.accidents(random, 12);
                        primary.heartbeat();
                    }
                }
                case 12 -> store.mover.move();
                default -> {
                    if (random.nextInt(5) == 0) {
                        store.close();
                        openFallback();
                        mine.clear();
                    } else {
                        store.replay(ALL.states(BatchState.DEAD).limit(1), now);
                    }
                }
            }
        } catch (BatchPersistenceException e) {
            // The database is away, or an accident happened.
            assertThat(e.getMessage()).isNotNull();
        } catch (CompletionException e) {
            throw new AssertionError("an append that failed although there is a fallback", e);
        }
    }

    private String any() {
        List<String> ids = List.copyOf(new TreeSet<>(mine.keySet()));
        return ids.isEmpty() ? "none" : ids.get(random.nextInt(ids.size()));
    }
}
