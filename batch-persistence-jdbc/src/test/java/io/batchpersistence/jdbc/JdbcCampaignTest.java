package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Tag;

/**
 * Three instances with random calls: they persist, claim and mark, are frozen, and join and leave. Connections are lost
 * before, during and after commits, and transactions are rolled back. Every accepted batch is there until it is
 * settled, and is settled once.
 */
@Tag("slow")
class JdbcCampaignTest extends JdbcTestBase {

    private static final int INSTANCES = 3;
    private static final int STEPS = 400;

    private Random random;
    private final List<JdbcBatchStore> stores = new ArrayList<>();
    /** By instance: the fences of the batches that it believes to have in flight. */
    private final List<Map<String, Long>> flights = new ArrayList<>();

    private final Set<String> held = new TreeSet<>();
    private int accepted;
    private int delivered;
    private int expired;

    private JdbcBatchStore openOne() {
        return open(source, options -> options);
    }

    @OnEachDatabase
    void whatever_happens_nothing_is_lost_and_nothing_is_settled_twice(Kind kind) {
        onFaulty(kind);
        long seed = Long.getLong("faults.seed", 1);
        random = new Random(seed);
        for (int i = 0; i < INSTANCES; i++) {
            stores.add(openOne());
            flights.add(new HashMap<>());
        }
        source.accidents(random, 20);
        for (int step = 0; step < STEPS; step++) {
            act(random.nextInt(INSTANCES), "b" + step);
        }
        source.recover();
        stores.forEach(JdbcBatchStore::close);
        JdbcBatchStore last = open();
        last.heartbeat();
        // Wait until the lease of batches that could not be returned has ended.
        pass(LEASE.plusMillis(1), last);
        CollectorStats stats = balanced(last);
        String what = "seed " + seed + ": " + stats;
        assertThat(last.list(ALL, clock.instant()).stream()
                        .map(BatchSummary::id)
                        .collect(Collectors.toSet()))
                .as(what)
                .isEqualTo(held);
        assertThat(stats.accepted()).as(what).isEqualTo(accepted);
        assertThat(stats.delivered()).as(what).isEqualTo(delivered);
        assertThat(stats.expired()).as(what).isEqualTo(expired);
        assertThat(stats.inFlight()).as(what).isZero();
        assertThat(stats.corrupt()).as(what).isZero();
        assertThat(database.query("SELECT instance FROM {p}counter WHERE instance <> 0"))
                .as("counters of those that are gone")
                .isEmpty();
        for (String id : List.copyOf(held)) {
            assertThat(last.find(id)).as(what).isPresent();
        }
    }

    private void act(int who, String id) {
        JdbcBatchStore store = stores.get(who);
        Map<String, Long> mine = flights.get(who);
        Instant now = clock.instant();
        try {
            switch (random.nextInt(12)) {
                case 0, 1, 2 -> {
                    append(store, id);
                    accepted++;
                    held.add(id);
                    mine.put(id, 0L);
                }
                case 3, 4 -> {
                    for (Claim claim : store.claim("loki", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 3)) {
                        assertThat(held).contains(claim.batch().id());
                        mine.put(claim.batch().id(), claim.fence());
                    }
                }
                case 5, 6, 7 -> {
                    String any = any(mine);
                    boolean settled = store.delivered(any) != null;
                    if (settled) {
                        assertThat(held.remove(any))
                                .as("delivered twice: %s", any)
                                .isTrue();
                        delivered++;
                    }
                    mine.remove(any);
                }
                case 8 -> {
                    String any = any(mine);
                    boolean dead = random.nextInt(4) == 0;
                    store.failed(
                            any,
                            mine.getOrDefault(any, 0L),
                            "503",
                            now,
                            (type, retries) -> new Verdict(dead, dead ? null : now, retries + 1));
                    mine.remove(any);
                }
                case 9 -> {
                    pass(Duration.ofSeconds(random.nextInt(25)));
                    store.heartbeat();
                }
                case 10 -> {
                    stores.get((who + 1) % INSTANCES).heartbeat();
                    if (random.nextInt(4) == 0) {
                        store.close();
                        stores.set(who, openOne());
                        mine.clear();
                    }
                }
                default -> {
                    if (store.count(ALL.states(BatchState.DEAD), now) > 3) {
                        for (BatchSummary gone : expireWithoutAccidents(store, now)) {
                            assertThat(held.remove(gone.id())).isTrue();
                            expired++;
                        }
                    }
                }
            }
        } catch (BatchPersistenceException e) {
            // After a single accident the store finds out the outcome.
            assertThat(e.getMessage()).doesNotContain("may be stored");
        } catch (java.util.concurrent.CompletionException e) {
            assertThat(e.getCause()).isInstanceOf(BatchPersistenceException.class);
            assertThat(e.getCause().getMessage()).doesNotContain("may be stored");
        }
    }

    /** Without accidents, because otherwise the removed batches would be unknown. */
    private List<BatchSummary> expireWithoutAccidents(JdbcBatchStore store, Instant now) {
        source.recover();
        try {
            return store.expire("loki", Instant.MIN, now.plusMillis(1), 2);
        } finally {
            source.accidents(random, 20);
        }
    }

    private String any(Map<String, Long> mine) {
        List<String> ids = List.copyOf(new TreeSet<>(mine.keySet()));
        return ids.isEmpty() ? "none" : ids.get(random.nextInt(ids.size()));
    }
}
