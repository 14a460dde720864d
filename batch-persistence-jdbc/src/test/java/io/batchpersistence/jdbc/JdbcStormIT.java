package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.jdbc.Administrator.Accident;
import io.batchpersistence.jdbc.Administrator.Happened;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.store.GeneratedBatch;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAccumulator;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Two applications with two instances each and different TTLs share the tables, directly or behind a pooler. Meanwhile
 * an {@link Administrator} causes accidents and sets the database clock. Each acknowledged batch is sent, held or
 * accounted for. Each call ends. Health reports within a heartbeat that the database rejects writes, and that it
 * accepts them again.
 *
 * <p>{@code -Dbatch.storm.seconds=180} sets the duration, {@code …seed=1} the seed, and {@code …weights=CLOCK:0,LOCK:5}
 * the frequency of accidents.
 */
@Timeout(value = 1, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class JdbcStormIT {

    private static final int SECONDS = Integer.getInteger("batch.storm.seconds", 15);
    private static final long SEED = Long.getLong("batch.storm.seed", 1);
    private static final String WEIGHTS = System.getProperty("batch.storm.weights", "");

    private static final int INSTANCES = 2;
    private static final int POOL = 6;

    /** Longer than a day and an hour, by which the clock may be set ahead. */
    private static final Duration LONG_TTL = Duration.ofDays(3);

    private static final Duration SHORT_TTL = Duration.ofDays(1);
    private static final Duration BATCH_TIMEOUT = Duration.ofSeconds(5);
    private static final Duration HEARTBEAT = RecommendedPool.LEASE.dividedBy(3);

    /** The delay that a busy machine may add to any duration. */
    private static final Duration SLACK = Duration.ofSeconds(3);

    /** One attempt waits for a connection and for a response. */
    private static final Duration ATTEMPT = RecommendedPool.CONNECTION_TIMEOUT.plus(RecommendedPool.SOCKET_TIMEOUT);

    /** In the worst case the refusal begins right after a heartbeat. */
    private static final Duration UNTIL_TOLD = HEARTBEAT.plus(SLACK);

    /** The same if statements block instead of failing: the current one, then the one of the next heartbeat. */
    private static final Duration UNTIL_WAIT_TOLD =
            HEARTBEAT.plus(ATTEMPT.multipliedBy(2)).plus(SLACK);

    private static final Duration UNTIL_OVER =
            HEARTBEAT.multipliedBy(3).plus(ATTEMPT).plus(SLACK);

    /** The minimum duration of a refusal, which shows that no other success hides the problem. */
    private static final Duration REFUSAL = HEARTBEAT.plus(Duration.ofSeconds(1));

    /**
     * As in {@link JdbcNetworkIT}: a commit gets no response, each check of its outcome waits for a connection and a
     * lock, and the next group, which had to wait for that, is lost, too. The administrator may have blocked the call
     * before.
     */
    private static final Duration LONGEST_CALL = ATTEMPT.multipliedBy(2)
            .plus(RecommendedPool.CONNECTION_TIMEOUT
                    .plus(RecommendedPool.QUERY_TIMEOUT)
                    .multipliedBy(6))
            .plus(UNTIL_WAIT_TOLD)
            .plus(REFUSAL);

    private static final Duration LOOKS_APART = Duration.ofMillis(100);

    /** A stats() call waits for one attempt. */
    private static final Duration LONGEST_LOOK = ATTEMPT.plus(SLACK);

    /**
     * After the end, batches time out, failures are retried, leases end, and everything is sent, also after outages.
     */
    private static final Duration UNTIL_DRAINED = Duration.ofMinutes(5);

    // ---- an instance of an application -----------------------------------------------------------

    private final class App {
        final String name;
        final BatchPersistenceEngine engine;
        final AtomicLong numbers = new AtomicLong();
        /** From the last health check. */
        volatile @Nullable String problem = "not looked yet";

        App(String application, int instance, HikariDataSource pool, Administrator administrator, Duration ttl) {
            this.name = application + instance;
            JdbcStoreOptions options = JdbcStoreOptions.builder()
                    .tablePrefix(Administrator.PREFIX)
                    .initializeSchema(false)
                    .instanceName(name)
                    .lease(RecommendedPool.LEASE)
                    .queryTimeout(RecommendedPool.QUERY_TIMEOUT)
                    .build();
            CollectorSettings settings = new CollectorSettings(
                    BATCH_TIMEOUT,
                    ttl,
                    ttl.multipliedBy(7),
                    new RecoveryPolicy(Duration.ofMillis(200), 2, Duration.ofSeconds(2), 0.5, 1_000),
                    true,
                    2,
                    0,
                    BatchOrder.OLDEST_FIRST,
                    3,
                    Duration.ofHours(1),
                    false);
            engine = BatchPersistenceEngine.builder(JdbcBatchStore.open(
                            pool, options, new Database.Seams(administrator::now, System::nanoTime, true)))
                    .settings(type -> settings)
                    .targets(type -> this::recovered)
                    .listener(new Listener(application))
                    .build();
        }

        void persistAndSend() {
            Random random = new Random(name.hashCode() + SEED);
            while (stop.getCount() > 0) {
                String id = name + "-" + numbers.incrementAndGet();
                if (persist(id)) {
                    int what = random.nextInt(10);
                    if (what < 4) {
                        send(id, () -> engine.markBatchSuccess(id), null);
                    } else if (what < 6) {
                        quietly("fail", () -> engine.markBatchFailed(id, "503"));
                    } else if (what < 7) {
                        quietly("release", () -> engine.releaseBatch(id));
                    }
                    // Otherwise the batch is never settled, as if the sender hung.
                }
                pause(Duration.ofMillis(random.nextInt(20)));
            }
        }

        private boolean persist(String id) {
            try {
                timed("persist", LONGEST_CALL, () -> {
                    engine.persistBatch(
                            id,
                            GeneratedBatch.entries(id),
                            GeneratedBatch.collectorType(id),
                            GeneratedBatch.context(id));
                    return null;
                });
                acknowledged.add(id);
                return true;
            } catch (BatchPersistenceException e) {
                (String.valueOf(e.getMessage()).contains("may be stored") ? unknown : refused).add(id);
                refusals.merge(words(e), 1, Integer::sum);
            } catch (RuntimeException e) {
                violate("persisting " + id + " threw " + e);
            }
            return false;
        }

        private void recovered(RecoveredBatch recovered) {
            PersistedBatch batch = recovered.batch();
            String id = batch.id();
            long now = System.nanoTime();
            if (!batch.entries().equals(GeneratedBatch.entries(id))) {
                violate(id + " came with other entries");
            }
            if (refused.contains(id)) {
                violate(id + " was sent, but had been refused");
            }
            Long settled = marked.get(id);
            if (settled != null && settled - now < 0) {
                sentAfterMark(id, settled, now);
            }
            int dice = Math.floorMod((id + "/" + batch.retryCount()).hashCode() * 0x9E3779B9, 64);
            if (dice == 0 && acknowledged.contains(id)) {
                quietly("reject", () -> recovered.reject("400"));
            } else if (dice < 6) {
                quietly("fail", () -> recovered.fail("503"));
            } else {
                send(id, recovered::acknowledge, batch);
            }
        }

        private void send(String id, Supplier<Boolean> mark, @Nullable PersistedBatch batch) {
            sent.merge(id, 1, Integer::sum);
            long now = System.nanoTime();
            try {
                if (timed("mark", LONGEST_CALL, mark)) {
                    if (marked.put(id, System.nanoTime()) != null) {
                        violate(id + " was marked twice, at last by " + name + ", " + batch);
                    }
                } else {
                    notMine.add(new NotMine(id, now, System.nanoTime()));
                }
            } catch (BatchPersistenceException e) {
                notMarked.add(id);
            } catch (RuntimeException e) {
                violate("marking " + id + " threw " + e);
            }
        }

        void recover() {
            while (!over) {
                quietly("recover", () -> {
                    engine.recover();
                    return null;
                });
                pause(Duration.ofMillis(100));
            }
        }

        void cleanUp() {
            while (!over) {
                quietly("cleanup", engine::cleanup);
                pause(Duration.ofMillis(500));
            }
        }

        void look() {
            while (!over) {
                try {
                    problem = timed("stats", LONGEST_LOOK, () -> engine.stats().problem());
                } catch (RuntimeException e) {
                    violate("stats of " + name + " threw " + e);
                }
                pause(LOOKS_APART);
            }
        }
    }

    private final class Listener implements BatchListener {
        private final String application;

        Listener(String application) {
            this.application = application;
        }

        @Override
        public void onExpired(BatchSummary batch) {
            // All batches are minutes old, so none may expire.
            violate(batch.id() + " was expired by " + application);
        }

        @Override
        public void onCorrupted(Corruption damage) {
            corruptions.add(damage);
        }
    }

    // ---- the ledger ------------------------------------------------------------------------------

    private final CountDownLatch stop = new CountDownLatch(1);
    private volatile boolean over;

    private final Set<String> acknowledged = ConcurrentHashMap.newKeySet();
    private final Set<String> refused = ConcurrentHashMap.newKeySet();
    private final Set<String> unknown = ConcurrentHashMap.newKeySet();
    private final Map<String, Integer> refusals = new ConcurrentHashMap<>();
    /** How often each batch reached the target. */
    private final Map<String, Integer> sent = new ConcurrentHashMap<>();
    /** When a mark of each batch was acknowledged. */
    private final Map<String, Long> marked = new ConcurrentHashMap<>();

    private final Queue<NotMine> notMine = new ConcurrentLinkedQueue<>();
    private final Set<String> notMarked = ConcurrentHashMap.newKeySet();
    private final Set<String> expired = ConcurrentHashMap.newKeySet();
    private final Queue<Corruption> corruptions = new ConcurrentLinkedQueue<>();
    private final Map<String, LongAccumulator> longest = new ConcurrentHashMap<>();
    private final Map<Accident, Integer> sentAfterMark = new ConcurrentHashMap<>();
    private final Queue<String> violations = new ConcurrentLinkedQueue<>();
    private final Map<String, LongAccumulator> healthTook = new ConcurrentHashMap<>();

    @TempDir
    Path directory;

    private final List<AutoCloseable> opened = new ArrayList<>();
    private final List<App> apps = new ArrayList<>();
    private final List<Thread> threads = new ArrayList<>();
    private Administrator administrator;
    private long began;

    @AfterEach
    void close() throws Exception {
        stop.countDown();
        over = true;
        for (int i = opened.size() - 1; i >= 0; i--) {
            opened.get(i).close();
        }
    }

    private <T extends AutoCloseable> T closedAfterwards(T resource) {
        opened.add(resource);
        return resource;
    }

    private String at(long nanoTime) {
        return String.format("%.1f s", (nanoTime - began) / 1e9);
    }

    private void violate(String what) {
        violations.add(at(System.nanoTime()) + ": " + what);
    }

    private static String words(Throwable failure) {
        return String.valueOf(failure.getMessage()).replaceAll("[0-9]+", "#").replaceAll("storm\\w+", "#");
    }

    private <T> T timed(String what, Duration most, Supplier<T> call) {
        long start = System.nanoTime();
        try {
            return call.get();
        } finally {
            long took = System.nanoTime() - start;
            longest.computeIfAbsent(what, any -> new LongAccumulator(Math::max, 0))
                    .accumulate(took);
            if (took > most.toNanos()) {
                violate(what + " took " + Duration.ofNanos(took));
            }
        }
    }

    /**
     * Calls may fail because the database is unavailable. Any other failure, or too long a duration, is a violation.
     */
    private void quietly(String what, Supplier<?> call) {
        try {
            var unused = timed(what, LONGEST_CALL, call);
        } catch (BatchPersistenceException e) {
            // Retried later.
        } catch (RuntimeException e) {
            violate(what + " threw " + e);
        }
    }

    private void pause(Duration time) {
        try {
            if (stop.getCount() > 0) {
                var unused = stop.await(time.toNanos(), TimeUnit.NANOSECONDS);
            } else {
                Thread.sleep(time.toMillis());
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /**
     * A batch was sent by its earlier owner after another instance had marked it. Then an accident must have taken it
     * from that owner.
     */
    private void sentAfterMark(String id, long settled, long now) {
        Accident cause = cause(settled, now);
        if (cause != null) {
            sentAfterMark.merge(cause, 1, Integer::sum);
            return;
        }
        violate(id + " was sent after its mark had been acknowledged at " + at(settled));
    }

    /** A mark that changed nothing. */
    private record NotMine(String id, long since, long until) {}

    /** Whether the batch was taken from its owner, timed out, or was deleted. */
    private boolean isExplained(NotMine mark) {
        return mark.until() - mark.since() > BATCH_TIMEOUT.minus(SLACK).toNanos()
                || administrator.deleted().contains(mark.id())
                || cause(mark.since(), mark.until()) != null;
    }

    /** The accident that may have taken batches in flight from an instance during that time. */
    private @Nullable Accident cause(long since, long now) {
        for (Happened each : administrator.happened()) {
            if (each.tookClaims(since - BATCH_TIMEOUT.plus(LONGEST_CALL).toNanos(), now)) {
                return each.accident;
            }
        }
        return null;
    }

    // ---- health ----------------------------------------------------------------------------------

    private final class Health implements Administrator.Watch {
        @Override
        public void refuses(Accident accident, String what) {
            long start = System.nanoTime();
            boolean waits = accident == Accident.LOCK || accident == Accident.PAUSE;
            if (!isSeen(waits ? UNTIL_WAIT_TOLD : UNTIL_TOLD, accident + " told", true)) {
                violate("health says nothing although " + what);
                return;
            }
            while (System.nanoTime() - start < REFUSAL.toNanos()) {
                pause(LOOKS_APART);
                for (App app : apps) {
                    if (app.problem == null) {
                        violate("health of " + app.name + " says that all is well although " + what);
                    }
                }
            }
        }

        @Override
        public void over(Accident accident, String what) {
            if (!isSeen(UNTIL_OVER, accident + " over", false)) {
                violate("health tells of a problem although it is over that " + what + ": "
                        + apps.stream().map(app -> app.problem).toList());
            }
        }

        /** Whether all instances report a problem, or none, within that time. */
        private boolean isSeen(Duration most, String what, boolean problem) {
            long start = System.nanoTime();
            for (App app : apps) {
                while ((app.problem != null) != problem) {
                    if (System.nanoTime() - start > most.toNanos()) {
                        return false;
                    }
                    pause(LOOKS_APART);
                }
            }
            healthTook
                    .computeIfAbsent(what, any -> new LongAccumulator(Math::max, 0))
                    .accumulate(System.nanoTime() - start);
            return true;
        }
    }

    // ---- the storm -------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource({
        "POSTGRESQL, '', ''",
        "POSTGRESQL, session, ''",
        "POSTGRESQL, session, '&prepareThreshold=0'",
        "POSTGRESQL, transaction, ''",
        "POSTGRESQL, transaction, '&prepareThreshold=0'",
        "MARIADB, '', ''"
    })
    void whatever_is_done_to_the_database_nothing_is_lost_and_calls_end_and_health_is_honest(
            Kind kind, String pooling, String more) throws Exception {
        administrator = closedAfterwards(new Administrator(kind, SEED, WEIGHTS));
        PgBouncer pooler =
                pooling.isEmpty() ? null : closedAfterwards(PgBouncer.start(pooling, directory, administrator.url()));
        String url = (pooler == null ? administrator.url() : pooler.url()) + more;
        began = System.nanoTime();
        for (int i = 0; i < INSTANCES; i++) {
            apps.add(new App("long", i, pool(url, pooler), administrator, LONG_TTL));
            apps.add(new App("short", i, pool(url, pooler), administrator, SHORT_TTL));
        }
        for (App app : apps) {
            start(app::persistAndSend, app.name + "-writer");
            start(app::recover, app.name + "-recovery");
            start(app::cleanUp, app.name + "-cleanup");
            start(app::look, app.name + "-health");
        }
        Random random = new Random(SEED);
        Health health = new Health();
        while (System.nanoTime() - began < TimeUnit.SECONDS.toNanos(SECONDS)) {
            pause(Duration.ofMillis(200 + random.nextInt(800)));
            administrator.act(pooler, health);
        }
        administrator.setClockRight();
        stop.countDown();
        drain();
        over = true;
        for (Thread thread : threads) {
            thread.join(LONGEST_CALL.toMillis());
            if (thread.isAlive()) {
                violate(thread.getName() + " does not end: " + List.of(thread.getStackTrace()));
            }
        }
        for (App app : apps) {
            timed("close", LONGEST_CALL, () -> {
                app.engine.close();
                return null;
            });
        }
        check(kind + " " + pooling + " " + more);
    }

    private HikariDataSource pool(String url, @Nullable PgBouncer pooler) {
        HikariDataSource pool =
                closedAfterwards(pooler == null ? RecommendedPool.open(url) : RecommendedPool.openPooled(url));
        pool.setMaximumPoolSize(POOL);
        return pool;
    }

    private void start(Runnable work, String name) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        threads.add(thread);
        thread.start();
    }

    /** Sends everything except dead letters. */
    private void drain() throws Exception {
        long start = System.nanoTime();
        while (!administrator
                .query("SELECT batch_id FROM {p}batch WHERE state <> 2")
                .isEmpty()) {
            pause(Duration.ofMillis(200));
            if (System.nanoTime() - start > UNTIL_DRAINED.toNanos()) {
                violate("not sent " + UNTIL_DRAINED + " after the end: "
                        + administrator.query(
                                "SELECT CONCAT_WS(' ', batch_id, state, owner, due_at, since, retry_count, reason) FROM"
                                        + " {p}batch WHERE state <> 2 ORDER BY seq LIMIT 20"));
                return;
            }
        }
    }

    // ---- checks ----------------------------------------------------------------------------------

    private void check(String combination) throws Exception {
        JdbcStoreOptions options =
                JdbcStoreOptions.builder().tablePrefix(Administrator.PREFIX).build();
        try (HikariDataSource pool = TestDatabase.pool(administrator.ownUrl(), POOL);
                JdbcBatchStore last =
                        JdbcBatchStore.open(pool, options, new Database.Seams(null, System::nanoTime, false))) {
            last.heartbeat();
            Set<String> held = new HashSet<>();
            last.list(BatchSelector.all(), Instant.now()).forEach(each -> held.add(each.id()));
            Set<String> lost = without(acknowledged, sent.keySet(), held, expired, administrator.deleted());
            long several = sent.values().stream().filter(times -> times > 1).count();
            notMine.stream()
                    .filter(each -> !isExplained(each))
                    .forEach(each -> violate(each.id() + " was not the marker's any more at " + at(each.until())));
            Map<String, CollectorStats> books = new TreeMap<>(last.stats().collectors());
            System.out.printf(
                    "STORM %s, seed %d, %d s: %,d batches acknowledged, %,d refused, %,d not known; %,d at the target, %,d of them"
                            + " more than once; %,d marked, %,d marks failed, %,d were not the marker's any more; %,d held; %,d expired;"
                            + " %,d told as missing; sent after their mark, because of %s%n",
                    combination,
                    SEED,
                    SECONDS,
                    acknowledged.size(),
                    refused.size(),
                    unknown.size(),
                    sent.size(),
                    several,
                    marked.size(),
                    notMarked.size(),
                    notMine.size(),
                    held.size(),
                    expired.size(),
                    corruptions.stream().mapToLong(Corruption::batches).sum(),
                    sentAfterMark);
            System.out.printf("  accidents: %s%n", administrator.told());
            System.out.printf("  at most, seconds: health %s, calls %s%n", seconds(healthTook), seconds(longest));
            System.out.printf("  books: %s%n", books);
            System.out.printf("  refusals: %s%n", new TreeMap<>(refusals));
            if (!violations.isEmpty() || !lost.isEmpty()) {
                administrator.happened().forEach(each -> System.out.println("  " + each.told(began)));
            }
            assertThat(violations).as("violations").isEmpty();
            assertThat(lost)
                    .as("acknowledged, and neither sent nor held nor accounted")
                    .isEmpty();
            assertThat(without(held, without(held, refused)))
                    .as("held, but refused")
                    .isEmpty();
            checkBooks(last, books);
        }
    }

    private void checkBooks(JdbcBatchStore last, Map<String, CollectorStats> books) {
        Instant now = Instant.now();
        long accepted = 0;
        long corrupt = 0;
        for (Map.Entry<String, CollectorStats> each : books.entrySet()) {
            CollectorStats stats = each.getValue();
            BatchSelector all = BatchSelector.all().collectorTypes(each.getKey());
            assertThat(stats.isBalanced()).as("%s", stats).isTrue();
            assertThat(stats.pending()).isEqualTo(last.count(all.states(BatchState.PENDING), now));
            assertThat(stats.inFlight()).isEqualTo(last.count(all.states(BatchState.IN_FLIGHT), now));
            assertThat(stats.dead()).isEqualTo(last.count(all.states(BatchState.DEAD), now));
            assertThat(stats.bytes())
                    .isEqualTo(last.list(all, now).stream()
                            .mapToLong(BatchSummary::bytes)
                            .sum());
            accepted += stats.accepted();
            corrupt += stats.corrupt();
        }
        if (administrator.happened().stream().noneMatch(each -> each.accident.falsifies())) {
            assertThat(accepted)
                    .as("accepted")
                    .isBetween((long) acknowledged.size(), (long) acknowledged.size() + unknown.size());
            assertThat(corrupt).as("missing").isEqualTo(administrator.deleted().size());
        }
    }

    private static Map<String, String> seconds(Map<String, LongAccumulator> nanos) {
        Map<String, String> all = new TreeMap<>();
        nanos.forEach((what, each) -> all.put(what, String.format("%.1f", each.get() / 1e9)));
        return all;
    }

    @SafeVarargs
    private static Set<String> without(Collection<String> all, Collection<String>... others) {
        Set<String> rest = new TreeSet<>(all);
        for (Collection<String> some : others) {
            rest.removeAll(some);
        }
        return rest;
    }
}
