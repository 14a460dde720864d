package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSender;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Two instances persist and deliver continuously on one PostgreSQL. One batch in ten fails at its first send. One in a
 * hundred always fails: it becomes a dead letter after half a minute, which expires a minute later. After two minutes
 * the number of stored batches is stable, and the tables and indexes must not grow any more.
 *
 * <p>{@code -Dbatch.jdbc.turnover.seconds=900} sets the duration, {@code -Dbatch.jdbc.turnover.rate=200} the batches
 * per second. Without the duration, the test uses some hundred batches and only checks the counters.
 */
@Timeout(value = 3, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class JdbcTurnoverTest {

    private static final int SECONDS = Integer.getInteger("batch.jdbc.turnover.seconds", 0);
    private static final int RATE = Integer.getInteger("batch.jdbc.turnover.rate", 200);
    private static final int FEW_BATCHES = 400;
    private static final int INSTANCES = 2;
    private static final int THREADS = 4;
    private static final int SAMPLES_A_RUN = 15;
    /** From the second to the last third of a run. In the first third the number of stored batches still grows. */
    private static final double MOST_GROWTH = 1.25;

    private static final CollectorSettings SETTINGS = new CollectorSettings(
            Duration.ofMinutes(5),
            Duration.ofMinutes(10),
            Duration.ofMinutes(1),
            new RecoveryPolicy(Duration.ofSeconds(1), 2, Duration.ofSeconds(20), 0.5, 6),
            true,
            4,
            0,
            BatchOrder.OLDEST_FIRST,
            0,
            Duration.ofHours(1),
            false);

    private TestDatabase database;
    private final List<HikariDataSource> pools = new ArrayList<>();
    private final List<BatchPersistenceEngine> engines = new ArrayList<>();
    private final ScheduledExecutorService schedule = Executors.newScheduledThreadPool(3);
    private final ThreadPoolExecutor callers = (ThreadPoolExecutor) Executors.newFixedThreadPool(INSTANCES * THREADS);
    private final AtomicInteger numbers = new AtomicInteger();
    private final ConcurrentLinkedQueue<Long> persistNanos = new ConcurrentLinkedQueue<>();
    private final ConcurrentLinkedQueue<Long> deliverNanos = new ConcurrentLinkedQueue<>();

    @AfterEach
    void close() {
        schedule.shutdownNow();
        callers.shutdownNow();
        engines.forEach(BatchPersistenceEngine::close);
        pools.forEach(HikariDataSource::close);
        if (database != null) {
            database.close();
        }
    }

    private BatchPersistenceEngine open(int number) {
        HikariDataSource pool = TestDatabase.pool(database.pool().getJdbcUrl(), 6);
        pools.add(pool);
        BatchSender sender = JdbcTurnoverTest::send;
        BatchPersistenceEngine engine = BatchPersistenceEngine.builder(JdbcBatchStore.open(
                        pool,
                        database.options().instanceName("instance-" + number).build()))
                .settings(type -> SETTINGS)
                .targets(type -> RecoveryTarget.of(sender))
                .build();
        engines.add(engine);
        var unused = schedule.scheduleWithFixedDelay(engine::recover, 200, 200, TimeUnit.MILLISECONDS);
        var unusedToo = schedule.scheduleWithFixedDelay(engine::cleanup, 5, 5, TimeUnit.SECONDS);
        return engine;
    }

    private static void send(PersistedBatch batch) throws Exception {
        int number = Integer.parseInt(batch.id().substring(batch.id().indexOf('-') + 1));
        if (number % 100 == 0 || (number % 10 == 1 && batch.retryCount() == 0)) {
            throw new IOException("503 Service Unavailable");
        }
    }

    /** A hundred lines of an access log, some kilobytes when compressed. */
    private static List<LogEntry> entries(int seed) {
        Random random = new Random(seed);
        List<LogEntry> entries = new ArrayList<>();
        Instant at = Instant.now();
        for (int i = 0; i < 100; i++) {
            entries.add(LogEntry.builder(
                            at.plusMillis(i),
                            "GET /orders/" + random.nextInt(1_000_000) + "/items?page=" + random.nextInt(40) + " 200 "
                                    + random.nextInt(90_000) + " in " + random.nextInt(900) + " ms")
                    .level("INFO")
                    .label("app", "shop")
                    .build());
        }
        return entries;
    }

    private void deliverOne(BatchPersistenceEngine engine) {
        int number = numbers.incrementAndGet();
        List<LogEntry> entries = entries(number);
        long began = System.nanoTime();
        engine.deliver("b-" + number, entries, number % 3 == 0 ? "loki" : "elasticsearch", Map.of(), batch -> {
            persistNanos.add(System.nanoTime() - began);
            send(batch);
        });
        deliverNanos.add(System.nanoTime() - began);
    }

    private static final String SIZES = """
            SELECT concat_ws(' ', pg_relation_size(c.oid), pg_indexes_size(c.oid), pg_total_relation_size(c.reltoastrelid),
              pg_total_relation_size(c.oid), s.n_dead_tup, s.autovacuum_count, s.n_tup_upd, s.n_tup_hot_upd)
            FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.oid = '{p}{table}'::regclass
            """;
    private static final String INDEXES = """
            SELECT replace(indexrelid::regclass::text, '{p}', '') || ' ' || pg_relation_size(indexrelid) / 1024 || ' kB'
            FROM pg_index WHERE indrelid IN ('{p}batch'::regclass, '{p}counter'::regclass) ORDER BY 1
            """;

    /** Bytes of a table with its indexes at some time. */
    private record Sizes(
            long heap, long indexes, long toast, long total, long dead, long vacuums, long updates, long hot) {
        static Sizes of(String line) {
            long[] each =
                    Arrays.stream(line.split(" ")).mapToLong(Long::parseLong).toArray();
            return new Sizes(each[0], each[1], each[2], each[3], each[4], each[5], each[6], each[7]);
        }
    }

    private Sizes sizes(String table) {
        return Sizes.of(database.query(SIZES.replace("{table}", table)).get(0));
    }

    private long held() {
        return Long.parseLong(database.query("SELECT COALESCE(SUM(pending + in_flight + dead), 0) FROM {p}counter")
                .get(0));
    }

    private static String percentiles(ConcurrentLinkedQueue<Long> queue) {
        List<Long> nanos = new ArrayList<>();
        for (Long each = queue.poll(); each != null; each = queue.poll()) {
            nanos.add(each);
        }
        long[] sorted = nanos.stream().mapToLong(Long::longValue).sorted().toArray();
        return sorted.length == 0
                ? "-"
                : String.format(
                        "%.1f/%.1f/%.1f",
                        sorted[sorted.length / 2] / 1e6,
                        sorted[sorted.length * 99 / 100] / 1e6,
                        sorted[sorted.length - 1] / 1e6);
    }

    private Sizes sample(double seconds, double since) {
        int delivered = deliverNanos.size();
        Sizes batch = sizes("batch");
        Sizes counter = sizes("counter");
        System.out.printf(
                "%5.0f s  %4.0f/s  %6d held  persist %s ms  deliver %s ms | batch: heap %d, indexes %d, payloads %d, total %d kB,"
                        + " %d dead rows, %d vacuums | counter: total %d kB, %.1f %% of updates HOT%n",
                seconds,
                delivered / since,
                held(),
                percentiles(persistNanos),
                percentiles(deliverNanos),
                batch.heap() / 1024,
                batch.indexes() / 1024,
                batch.toast() / 1024,
                batch.total() / 1024,
                batch.dead(),
                batch.vacuums(),
                counter.total() / 1024,
                100.0 * counter.hot() / Math.max(1, counter.updates()));
        return batch;
    }

    @Test
    void tables_and_indexes_do_not_grow_while_batches_come_and_go() throws Exception {
        database = TestDatabase.of(TestDatabase.Kind.POSTGRESQL);
        for (int i = 0; i < INSTANCES; i++) {
            open(i);
        }
        if (SECONDS > 0) {
            List<Sizes> samples = turnOver();
            System.out.println("indexes: " + String.join(", ", database.query(INDEXES)));
            int third = samples.size() / 3;
            assertThat(largest(samples.subList(2 * third, samples.size())))
                    .isLessThan(MOST_GROWTH * largest(samples.subList(third, 2 * third)));
        } else {
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < FEW_BATCHES; i++) {
                BatchPersistenceEngine engine = engines.get(i % INSTANCES);
                all.add(callers.submit(() -> deliverOne(engine)));
            }
            for (Future<?> each : all) {
                each.get();
            }
        }
        stop();
        booksAgreeWithRows();
    }

    private static double largest(List<Sizes> samples) {
        return samples.stream().mapToLong(Sizes::total).max().orElseThrow();
    }

    private List<Sizes> turnOver() throws Exception {
        long began = System.nanoTime();
        long interval = TimeUnit.SECONDS.toNanos(SECONDS) / SAMPLES_A_RUN;
        var unused = schedule.scheduleAtFixedRate(
                () -> {
                    for (int i = 0; i < Math.max(1, RATE / 20); i++) {
                        BatchPersistenceEngine engine = engines.get(i % INSTANCES);
                        callers.execute(() -> deliverOne(engine));
                    }
                },
                0,
                50,
                TimeUnit.MILLISECONDS);
        List<Sizes> samples = new CopyOnWriteArrayList<>();
        CountDownLatch left = new CountDownLatch(SAMPLES_A_RUN);
        var unusedToo = schedule.scheduleAtFixedRate(
                () -> {
                    samples.add(sample((System.nanoTime() - began) / 1e9, interval / 1e9));
                    left.countDown();
                },
                interval,
                interval,
                TimeUnit.NANOSECONDS);
        assertThat(left.await(2L * SECONDS + 60, TimeUnit.SECONDS)).isTrue();
        return samples;
    }

    /** Waits for the calls in progress. */
    private void stop() throws InterruptedException {
        schedule.shutdownNow();
        callers.getQueue().clear();
        callers.shutdown();
        assertThat(callers.awaitTermination(1, TimeUnit.MINUTES)).isTrue();
        engines.forEach(BatchPersistenceEngine::close);
    }

    private void booksAgreeWithRows() {
        assertThat(database.query(
                        "SELECT SUM(accepted) = SUM(delivered + expired + evicted + discarded + corrupt + pending"
                                + " + in_flight + dead) AND SUM(in_flight) = 0 FROM {p}counter"))
                .containsExactly("t");
        assertThat(database.query("SELECT SUM(accepted) FROM {p}counter"))
                .containsExactly(String.valueOf(numbers.get()));
        String counted = database.query(
                        "SELECT concat_ws(' ', SUM(pending), SUM(dead), SUM(pending_bytes + dead_bytes))"
                                + " FROM {p}counter")
                .get(0);
        assertThat(database.query(
                        "SELECT concat_ws(' ', COUNT(*) FILTER (WHERE state = 0), COUNT(*) FILTER (WHERE state = 2),"
                                + " COALESCE(SUM(bytes), 0)) FROM {p}batch"))
                .containsExactly(counted);
        System.out.printf(
                "turnover: %d batches accepted, %s%n",
                numbers.get(),
                database.query(
                                "SELECT concat_ws(', ', 'delivered ' || SUM(delivered), 'expired ' || SUM(expired), 'pending ' ||"
                                        + " SUM(pending), 'dead ' || SUM(dead)) FROM {p}counter")
                        .get(0));
    }
}
