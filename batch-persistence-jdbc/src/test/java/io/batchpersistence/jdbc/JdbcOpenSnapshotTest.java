package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.jdbc.PlanCollector.Plan;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Batches come and go on PostgreSQL while another session keeps a snapshot open, so that no dead row can be removed.
 * Counts pages, not time.
 *
 * <p>{@code -Dbatch.jdbc.snapshot.seconds=600} sets the duration, {@code -Dbatch.jdbc.snapshot.rate=100} the batches
 * per second of each of the two collector types. {@code -Dbatch.jdbc.snapshot.held=false} runs without that session,
 * for comparison.
 */
@Timeout(value = 1, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class JdbcOpenSnapshotTest {

    private static final int SECONDS = Integer.getInteger("batch.jdbc.snapshot.seconds", 0);
    private static final int RATE = Integer.getInteger("batch.jdbc.snapshot.rate", 100);
    private static final boolean HELD = !"false".equals(System.getProperty("batch.jdbc.snapshot.held"));
    private static final int SAMPLE_SECONDS = 30;
    private static final int BACKLOG = 1_000;
    private static final int CLAIM_SIZE = 100;
    /** Enough claims to include expensive searches, of which the test allows two. */
    private static final int CLAIMS = 40;

    private static final int FEW_PAGES = 15;
    private static final Pattern SEARCH = Pattern.compile(
            "Index Scan (?:Backward )?using \\S*batch_seq on .*\\R(?:(?!Buffers).*\\R)*?\\s*Buffers: shared hit=(\\d+)");
    private static final Duration TIMEOUT = Duration.ofMinutes(5);

    private static final String SIZES = """
            SELECT 'rows ' || pg_relation_size(c.oid) / 1024 || ' kB, indexes ' || pg_indexes_size(c.oid) / 1024 || ' kB, dead '
              || s.n_dead_tup
            FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.oid = '{p}{table}'::regclass
            """;

    private TestDatabase database;
    private PlanCollector collector;
    private JdbcBatchStore store;
    private volatile boolean explains;
    private int number;

    @BeforeEach
    void open() {
        database = TestDatabase.of(TestDatabase.Kind.POSTGRESQL);
        collector = new PlanCollector(database.pool().getJdbcUrl());
        DataSource explained = collector.source();
        DataSource source = FaultyDataSource.proxy(
                DataSource.class,
                (proxy, method, arguments) ->
                        FaultyDataSource.call(explains ? explained : database.pool(), method, arguments));
        store = JdbcBatchStore.open(
                source,
                database.options().maxBytes(1L << 40).build(),
                new Database.Seams(null, System::nanoTime, false));
    }

    @AfterEach
    void close() {
        if (store != null) {
            store.close();
        }
        if (collector != null) {
            collector.close();
        }
        if (database != null) {
            database.close();
        }
    }

    private CompletableFuture<Void> append(String type) {
        Instant now = Instant.now();
        return store.appendUnsent(
                new NewBatch("b" + number++, type, Batches.entries(3), Map.of("tenant", "a"), now, now.plus(TIMEOUT)),
                now.minusSeconds(1_000));
    }

    private Claim claim(String type) {
        Instant now = Instant.now();
        List<Claim> claims = store.claim(type, BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 1);
        assertThat(claims).hasSize(1);
        return claims.get(0);
    }

    /** Appends a batch, claims one and delivers it. Returns the duration of each step. */
    private long[] once(String type) {
        long began = System.nanoTime();
        append(type).join();
        long appended = System.nanoTime();
        String id = claim(type).batch().id();
        long claimed = System.nanoTime();
        assertThat(store.delivered(id)).isNotNull();
        return new long[] {appended - began, claimed - appended, System.nanoTime() - claimed};
    }

    private List<Plan> explain(Runnable action) {
        explains = true;
        collector.take();
        action.run();
        List<Plan> plans = collector.take();
        explains = false;
        return plans;
    }

    private static long pages(List<Plan> plans) {
        return plans.stream().mapToLong(Plan::pages).sum();
    }

    /** The pages read by an append, a claim and a mark. */
    private long[] pages(String type) {
        long[] pages = new long[3];
        pages[0] = pages(explain(() -> append(type).join()));
        String[] id = new String[1];
        pages[1] = pages(explain(() -> id[0] = claim(type).batch().id()));
        pages[2] = pages(explain(() -> assertThat(store.delivered(id[0])).isNotNull()));
        return pages;
    }

    private static String median(List<long[]> times, int which) {
        long[] sorted = times.stream().mapToLong(each -> each[which]).sorted().toArray();
        return String.format("%.1f/%.1f", sorted[sorted.length / 2] / 1e6, sorted[sorted.length * 99 / 100] / 1e6);
    }

    private static String medians(List<long[]> times) {
        return median(times, 0) + " " + median(times, 1) + " " + median(times, 2);
    }

    private String sizes(String table) {
        return database.query(SIZES.replace("{table}", table)).get(0);
    }

    /** The pages read in the search for the first batch, by all statements that search the index by number. */
    private static long searched(List<Plan> plans) {
        long pages = 0;
        for (Plan plan : plans) {
            Matcher scan = SEARCH.matcher(plan.text());
            while (scan.find()) {
                pages += Long.parseLong(scan.group(1));
            }
        }
        return pages;
    }

    private void hold(Runnable action) throws SQLException {
        try (Connection elsewhere = database.pool().getConnection();
                Statement statement = elsewhere.createStatement()) {
            if (HELD) {
                elsewhere.setAutoCommit(false);
                statement.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
                statement.execute("SELECT 1 FROM pg_class");
            }
            action.run();
        }
    }

    @Test
    void claims_do_not_go_through_all_that_was_claimed_before_again_and_again() throws SQLException {
        List<CompletableFuture<Void>> appended = new ArrayList<>();
        for (int i = 0; i < 2 * BACKLOG; i++) {
            appended.add(append("many"));
        }
        appended.forEach(CompletableFuture::join);
        database.update("VACUUM ANALYZE {p}batch");
        hold(() -> {
            Instant now = Instant.now();
            for (int i = 0; i < BACKLOG; i += CLAIM_SIZE) {
                assertThat(store.claim("many", BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), CLAIM_SIZE))
                        .hasSize(CLAIM_SIZE);
            }
            List<Long> searched = new ArrayList<>();
            for (int i = 0; i < CLAIMS; i++) {
                searched.add(searched(explain(() -> claim("many"))));
            }
            assertThat(searched)
                    .as("pages")
                    .filteredOn(pages -> pages > FEW_PAGES)
                    .hasSizeLessThanOrEqualTo(2);
        });
    }

    @Test
    void claims_are_measured_while_batches_come_and_go() throws SQLException {
        assumeTrue(SECONDS > 0, "-Dbatch.jdbc.snapshot.seconds says for how long");
        for (int i = 0; i < BACKLOG; i++) {
            append("many").join();
        }
        database.update("VACUUM ANALYZE {p}batch");
        hold(this::turnOver);
    }

    private void turnOver() {
        long began = System.nanoTime();
        long next = began;
        for (int sample = 1; sample <= SECONDS / SAMPLE_SECONDS; sample++) {
            List<long[]> many = new ArrayList<>();
            List<long[]> few = new ArrayList<>();
            long end = began + TimeUnit.SECONDS.toNanos((long) sample * SAMPLE_SECONDS);
            while (System.nanoTime() < end) {
                many.add(once("many"));
                few.add(once("few"));
                next += TimeUnit.SECONDS.toNanos(1) / RATE;
                LockSupport.parkNanos(next - System.nanoTime());
            }
            System.out.printf(
                    "%4d s %6d batches | append claim mark, ms: many %s, few %s | pages: many %s, few %s | batch: %s | counter: %s%n",
                    sample * SAMPLE_SECONDS,
                    number,
                    medians(many),
                    medians(few),
                    Arrays.toString(pages("many")),
                    Arrays.toString(pages("few")),
                    sizes("batch"),
                    sizes("counter"));
        }
    }
}
