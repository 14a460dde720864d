package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.jdbc.PlanCollector.Plan;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.api.Timeout;

/**
 * How PostgreSQL executes the store's statements with many batches: along indexes, a few pages of them, and never by a
 * scan of the whole table.
 *
 * <p>Of every four batches one each has the collector type {@code backlog}, almost all of which are due; {@code few},
 * of which a hundred are due; {@code quiet}, of which none is due; and {@code behind}, of which only the five hundred
 * youngest are due. The oldest seventh are dead letters. Of the others one in 19 is in flight, and one in ten of the
 * rest has failed before.
 *
 * <p>{@code -Dbatch.jdbc.plans.rows=1000000} sets the number of batches and prints the plans and the claims per second.
 */
// The last test makes the batches due that it returns.
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@Timeout(value = 1, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class JdbcPlansTest {

    private static final Integer ASKED_ROWS = Integer.getInteger("batch.jdbc.plans.rows");
    private static final int ROWS = ASKED_ROWS == null ? 20_000 : ASKED_ROWS;
    private static final int CLAIMS = ASKED_ROWS == null ? 50 : 2_000;
    private static final Duration TIMEOUT = Duration.ofMinutes(5);
    private static final BatchSelector ALL = BatchSelector.all();

    private static final FailureDecision LATER =
            (type, retries) -> new Verdict(false, Instant.now().plusSeconds(3_600), retries + 1);
    private static final FailureDecision NEVER = (type, retries) -> new Verdict(true, null, retries + 1);

    /** One owner is the store itself. The instances with numbers 2 to 9 do not exist. */
    private static final String FILL = """
            INSERT INTO {p}batch (batch_id, collector_type, state, owner, fence, created_at, since, due_at, last_attempt,
              retry_count, reason, earlier_failures, entry_count, bytes, format, compression, raw_length, payload_crc, header, payload)
            SELECT 'b' || n, type, state, CASE WHEN state = 1 AND n % 9 = 0 THEN {me} WHEN state = 1 THEN 1 + n % 9 END, 1, at, at,
              CASE WHEN state = 2 THEN NULL WHEN state = 1 THEN now + 300000 WHEN n % 101 = 7 THEN NULL
                WHEN type = 'backlog' OR type = 'few' AND age < 400 OR type = 'behind' AND age < 2000 THEN at
                ELSE now + 3600000 + n END,
              CASE WHEN reason IS NOT NULL THEN at END, CASE WHEN reason IS NOT NULL THEN 1 ELSE 0 END, reason, '',
              entry_count, bytes, format, compression, raw_length, payload_crc, header, payload
            FROM (SELECT n, type, state, age, now, now - age * 10 AS at,
                CASE WHEN n BETWEEN 1001 AND 1040 THEN '507 Insufficient Storage' WHEN state = 2 AND n % 2 = 0 THEN '400 Bad Request'
                  WHEN state = 2 OR state = 0 AND n % 10 = 0 THEN '503 Service Unavailable' END AS reason
              FROM (SELECT n, (ARRAY['backlog', 'few', 'quiet', 'behind'])[1 + n % 4] AS type,
                  CASE WHEN n <= {rows} / 7 THEN 2 WHEN n % 19 = 0 THEN 1 ELSE 0 END AS state, {rows} - n AS age,
                  CAST(EXTRACT(EPOCH FROM now()) * 1000 AS bigint) AS now
                FROM generate_series(1, {rows}) n) numbered) rows,
              (SELECT entry_count, bytes, format, compression, raw_length, payload_crc, header, payload
                FROM {p}batch WHERE batch_id = 'template') template
            """;

    private TestDatabase database;
    private PlanCollector collector;
    private JdbcBatchStore store;

    @BeforeAll
    void fill() {
        database = TestDatabase.of(TestDatabase.Kind.POSTGRESQL);
        collector = new PlanCollector(database.pool().getJdbcUrl());
        store = JdbcBatchStore.open(
                collector.source(),
                database.options().maxBatches(2L * ROWS).maxBytes(1L << 40).build(),
                new Database.Seams(null, System::nanoTime, false));
        append("template", "template");
        database.update("INSERT INTO {p}instance (id, name, seen_at, lease_until)"
                + " SELECT n, 'other', 0, 9000000000000 FROM generate_series(2, 9) n");
        database.update(FILL.replace("{rows}", String.valueOf(ROWS))
                .replace("{me}", String.valueOf(store.stats().instance().number())));
        assertThat(store.delivered("template")).isNotNull();
        String each = Stream.of(0, 1, 2)
                .map(state -> ", COUNT(*) FILTER (WHERE state = " + state
                        + "), COALESCE(SUM(entry_count) FILTER (WHERE state = " + state
                        + "), 0), COALESCE(SUM(bytes) FILTER (WHERE state = " + state + "), 0)")
                .reduce("", String::concat);
        database.update("INSERT INTO {p}counter (collector_type, instance, part, token, "
                + String.join(", ", CounterTable.COLUMNS) + ") SELECT collector_type, 0, 0, 0, COUNT(*), 0, 0, 0, 0, 0"
                + each
                + " FROM {p}batch GROUP BY collector_type");
        database.update("VACUUM ANALYZE {p}batch");
    }

    @AfterAll
    void drop() {
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

    private void append(String id, String collectorType) {
        Instant now = Instant.now();
        store.append(new NewBatch(id, collectorType, Batches.entries(3), Map.of("tenant", "a"), now, now.plus(TIMEOUT)))
                .join();
    }

    private List<Claim> claim(String collectorType, BatchOrder order) {
        Instant now = Instant.now();
        return store.claim(collectorType, order, now, now.plus(TIMEOUT), 1);
    }

    private void claimOne(String collectorType, BatchOrder order) {
        assertThat(claim(collectorType, order)).hasSize(1);
    }

    private String claimed() {
        return claim("backlog", BatchOrder.OLDEST_FIRST).get(0).batch().id();
    }

    private void list(BatchSelector selector, int found) {
        assertThat(store.list(selector, Instant.now())).hasSize(found);
    }

    private List<Plan> plans(String what, Runnable action) {
        collector.take();
        long began = System.nanoTime();
        action.run();
        long micros = TimeUnit.NANOSECONDS.toMicros(System.nanoTime() - began);
        List<Plan> plans = collector.take();
        assertThat(plans).as(what).isNotEmpty();
        if (ASKED_ROWS != null) {
            System.out.printf(
                    "%n== %s: %d statements, %d pages, %.1f ms%n",
                    what, plans.size(), plans.stream().mapToLong(Plan::pages).sum(), micros / 1e3);
            Set<String> printed = new HashSet<>();
            for (Plan plan : plans) {
                if (printed.add(plan.statement())) {
                    System.out.println(plan.shortened());
                }
            }
        }
        return plans;
    }

    /** Checks that no statement of the action reads more pages, regardless of the number of batches. */
    private void reads(long mostPages, String what, Runnable action) {
        String table = database.options().build().tablePrefix() + "batch";
        for (Plan plan : plans(what, action)) {
            assertThat(plan.readsAllOf(table)).as("%s: %s", what, plan.text()).isFalse();
            assertThat(plan.pages()).as("%s: %s", what, plan.text()).isLessThanOrEqualTo(mostPages);
        }
    }

    /** Checks that the action uses an index, with any number of pages. */
    private void readsIndex(String what, Runnable action) {
        reads(Long.MAX_VALUE, what, action);
    }

    @Test
    @Order(1)
    void what_is_done_all_the_time_reads_a_few_pages() {
        reads(60, "append", () -> append("new", "backlog"));
        reads(
                60,
                "claim, nothing is due",
                () -> assertThat(claim("quiet", BatchOrder.OLDEST_FIRST)).isEmpty());
        reads(1_100, "claim, about 100 are due", () -> claimOne("few", BatchOrder.OLDEST_FIRST));
        reads(1_100, "claim, about 100 are due, newest first", () -> claimOne("few", BatchOrder.NEWEST_FIRST));
        reads(1_100, "claim, many are due", () -> claimOne("backlog", BatchOrder.OLDEST_FIRST));
        reads(1_100, "claim, many are due, newest first", () -> claimOne("backlog", BatchOrder.NEWEST_FIRST));
        readsIndex("claim, 500 are due behind all others", () -> claimOne("behind", BatchOrder.OLDEST_FIRST));
        String delivered = claimed();
        reads(60, "mark delivered", () -> assertThat(store.delivered(delivered)).isNotNull());
        String failed = claimed();
        reads(
                60,
                "mark failed",
                () -> assertThat(store.failed(failed, 0, "503 Service Unavailable", Instant.now(), LATER))
                        .isNotNull());
        String dead = claimed();
        reads(
                60,
                "mark dead",
                () -> assertThat(store.failed(dead, 0, "400 Bad Request", Instant.now(), NEVER))
                        .isNotNull());
        String released = claimed();
        reads(
                60,
                "release",
                () -> assertThat(store.released(released, type -> Optional.of(Instant.now())))
                        .isNotNull());
        reads(
                20,
                "look for what timed out",
                () -> assertThat(store.timedOut(Instant.now().plus(TIMEOUT.multipliedBy(2)), 10))
                        .isEmpty());
        reads(200, "sign of life", store::heartbeat);
        Instant longAgo = Instant.now().minus(Duration.ofDays(1));
        reads(
                20,
                "expire, nothing is old",
                () -> assertThat(store.expire("backlog", longAgo, longAgo, 1_000))
                        .isEmpty());
        reads(200, "the accounting", () -> assertThat(store.stats().batches()).isPositive());
    }

    @Test
    @Order(4)
    void what_is_done_now_and_then_reads_what_it_changes() {
        database.update("UPDATE {p}instance SET gone_at = seen_at, seen_at = 9000000000000 WHERE id = 5");
        reads(40_000, "give back what an instance that is gone had in flight", store::heartbeat);
        assertThat(database.query("SELECT COUNT(*) FROM {p}batch WHERE owner = 5"))
                .containsExactly("0");
        Instant old = Instant.now().minusMillis(10L * (ROWS - 3));
        reads(
                200,
                "expire some",
                () -> assertThat(store.expire("few", old, old, 10)).isNotEmpty());
        reads(200, "evict the oldest", () -> assertThat(store.evictOldest(4)).hasSize(4));
        reads(
                200,
                "evict dead letters",
                () -> assertThat(store.evictDeadLetters(1_000, 4)).hasSize(4));
        readsIndex(
                "release what is held",
                () -> assertThat(store.releaseHeld(Instant.now().plusSeconds(3_600)))
                        .isPositive());
        readsIndex("correct ages", () -> store.correctAges(Instant.now()));
        readsIndex("correct waits", () -> store.correctWaits(Instant.now(), type -> Duration.ofDays(1)));
        reads(
                40_000,
                "replay 500",
                () -> assertThat(store.replay(ALL.collectorTypes("few").limit(500), Instant.now()))
                        .isEqualTo(500));
        reads(
                40_000,
                "discard 500 dead letters",
                () -> assertThat(store.discard(
                                ALL.states(BatchState.DEAD)
                                        .collectorTypes("quiet")
                                        .limit(500),
                                Instant.now()))
                        .isEqualTo(500));
    }

    @Test
    @Order(2)
    void what_people_look_at_is_read_along_an_index() {
        BatchSelector page = ALL.limit(100);
        reads(60, "find", () -> assertThat(store.find("b" + ROWS / 2)).isPresent());
        reads(150, "list, first page", () -> list(page, 100));
        reads(150, "list, newest first", () -> list(page.order(BatchOrder.NEWEST_FIRST), 100));
        reads(150, "list, page in the middle", () -> list(page.after((long) ROWS / 2), 100));
        reads(600, "list, one collector type", () -> list(page.collectorTypes("quiet"), 100));
        reads(300, "list, dead letters", () -> list(page.states(BatchState.DEAD), 100));
        reads(
                300,
                "list, dead letters, newest first",
                () -> list(page.states(BatchState.DEAD).order(BatchOrder.NEWEST_FIRST), 100));
        reads(2_500, "list, a reason that many have", () -> list(page.failureReason("503*"), 100));
        reads(
                300,
                "list, dead letters of one reason, newest first",
                () -> list(page.states(BatchState.DEAD).failureReason("400*").order(BatchOrder.NEWEST_FIRST), 100));
        readsIndex(
                "list, a reason that few have, newest first",
                () -> list(
                        page.failureReason("507*")
                                .order(BatchOrder.NEWEST_FIRST)
                                .limit(10),
                        10));
        readsIndex(
                "count, dead letters of a collector type",
                () -> assertThat(store.count(ALL.states(BatchState.DEAD).collectorTypes("quiet"), Instant.now()))
                        .isPositive());
        readsIndex(
                "count, pending",
                () -> assertThat(store.count(ALL.states(BatchState.PENDING), Instant.now()))
                        .isPositive());
        readsIndex(
                "count, all", () -> assertThat(store.count(ALL, Instant.now())).isPositive());
        plans(
                "count, one reason",
                () -> assertThat(store.count(ALL.failureReason("507*"), Instant.now()))
                        .isPositive());
        plans(
                "failures by reason",
                () -> assertThat(store.failures(ALL, Instant.now())).hasSizeGreaterThan(4));
    }

    /** Claims one batch at a time, as the engine does. */
    @Test
    @Order(3)
    void claims_one_at_a_time() {
        claims("backlog", Math.min(CLAIMS, ROWS / 8));
        reads(
                1_100,
                "claim, many are due, with the plan that is kept",
                // More than are claimed ahead.
                () -> IntStream.range(0, 33).forEach(any -> claimOne("backlog", BatchOrder.OLDEST_FIRST)));
        claims("few", 40);
        reads(1_100, "claim, few are due, with the plan that is kept", () -> claimOne("few", BatchOrder.OLDEST_FIRST));
        claims("behind", 100);
        claims("quiet", 0);
    }

    private void claims(String collectorType, int most) {
        long[] nanos = new long[Math.max(most, CLAIMS)];
        Set<String> ids = new HashSet<>();
        int calls = 0;
        long began = System.nanoTime();
        while (calls < (most == 0 ? CLAIMS : most)) {
            long before = System.nanoTime();
            for (Claim claim : claim(collectorType, BatchOrder.OLDEST_FIRST)) {
                assertThat(ids.add(claim.batch().id())).isTrue();
            }
            nanos[calls++] = System.nanoTime() - before;
        }
        double seconds = (System.nanoTime() - began) / 1e9;
        assertThat(ids).hasSize(most);
        long[] sorted = Arrays.copyOf(nanos, calls);
        Arrays.sort(sorted);
        System.out.printf(
                "claims of %s, %d batches: %.0f a second; median %.2f ms, 99th percentile %.2f ms%n",
                collectorType, ROWS, calls / seconds, sorted[calls / 2] / 1e6, sorted[calls * 99 / 100] / 1e6);
    }
}
