package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** Changes of more batches than fit in memory, page by page. */
class JdbcManyRowsTest extends JdbcTestBase {

    private static final int MANY = 1_700;

    /** "page" for each query of the next batches, "change" for each transaction. */
    private final List<String> steps = new ArrayList<>();

    private JdbcBatchStore store;

    /** Adds copies of the first batch with long failure reasons. */
    private void many(Kind kind, BatchState state) {
        store = openFaulty(kind);
        append(store, "b0");
        store.failed(
                "b0",
                BatchStore.ANY_FENCE,
                "x".repeat(2_000),
                clock.instant(),
                (type, retries) -> new Verdict(state == BatchState.DEAD, clock.instant(), 1));
        String columns =
                "collector_type, state, owner, fence, created_at, since, due_at, last_attempt, retry_count, reason,"
                        + " earlier_failures, entry_count, bytes, format, compression, raw_length, payload_crc, header, payload";
        for (int from = 1; from < MANY; from *= 2) {
            database.update("INSERT INTO {p}batch (batch_id, " + columns + ") SELECT CONCAT(batch_id, '-" + from
                    + "'), " + columns + " FROM {p}batch ORDER BY seq LIMIT " + Math.min(from, MANY - from));
        }
        String name = state == BatchState.DEAD ? "dead" : "pending";
        database.update("UPDATE {p}counter SET accepted = " + MANY + ", " + name + " = " + MANY + ", " + name
                + "_entries = " + name + "_entries * " + MANY + ", " + name + "_bytes = " + name + "_bytes * " + MANY
                + " WHERE part = 0");
        source.beforeStatement = sql -> {
            if (sql.startsWith("SELECT") && sql.contains("batch WHERE") && !sql.contains("FOR UPDATE")) {
                steps.add("page");
                assertThat(sql).as("thousands of characters a row").doesNotContain("earlier_failures");
            } else if (sql.contains("FOR UPDATE") && sql.contains("batch WHERE")) {
                steps.add("change");
                assertThat(sql.replace("'' AS earlier_failures", "")).doesNotContain("earlier_failures");
            }
        };
    }

    private void assertOnePageAtATime() {
        source.recover();
        assertThat(steps).startsWith("page", "change", "page", "change").hasSizeGreaterThanOrEqualTo(8);
        for (int i = 1; i < steps.size() - 1; i++) {
            assertThat(steps.get(i)).as("%s", steps).isNotEqualTo(steps.get(i - 1));
        }
    }

    @OnEachDatabase
    void dead_letters_are_replayed_a_page_at_a_time_and_in_order(Kind kind) {
        many(kind, BatchState.DEAD);
        assertThat(store.replay(ALL.order(BatchOrder.NEWEST_FIRST), clock.instant(), Duration.ofMillis(10)))
                .isEqualTo(MANY);
        assertOnePageAtATime();
        long last = clock.millis() + (MANY - 1) * 10L;
        assertThat(database.query(
                        "SELECT COUNT(*) FROM (SELECT due_at - LAG(due_at) OVER (ORDER BY seq) AS d FROM {p}batch) x"
                                + " WHERE d = -10"))
                .containsExactly(String.valueOf(MANY - 1));
        assertThat(database.query("SELECT MAX(due_at) FROM {p}batch")).containsExactly(String.valueOf(last));
        assertThat(balanced(store).pending()).isEqualTo(MANY);
    }

    @OnEachDatabase
    void batches_are_discarded_a_page_at_a_time_up_to_a_limit(Kind kind) {
        many(kind, BatchState.PENDING);
        assertThat(store.discard(ALL.limit(MANY - 3), clock.instant())).isEqualTo(MANY - 3);
        assertOnePageAtATime();
        assertThat(store.discard(ALL, clock.instant())).isEqualTo(3);
        assertThat(balanced(store).discarded()).isEqualTo(MANY);
    }

    @OnEachDatabase
    void batches_are_rescheduled_a_page_at_a_time_also_by_their_reason(Kind kind) {
        many(kind, BatchState.PENDING);
        assertThat(store.reschedule(ALL.failureReason("y*"), clock.instant(), null))
                .isZero();
        steps.clear();
        assertThat(store.reschedule(ALL.failureReason("xx*"), clock.instant(), null))
                .isEqualTo(MANY);
        assertOnePageAtATime();
        assertThat(database.query("SELECT COUNT(*) FROM {p}batch WHERE due_at IS NULL"))
                .containsExactly(String.valueOf(MANY));
    }

    @OnEachDatabase
    void many_ids_are_changed_in_order_up_to_a_limit(Kind kind) {
        many(kind, BatchState.DEAD);
        source.recover();
        List<String> ids = database.query("SELECT batch_id FROM {p}batch ORDER BY batch_id");
        BatchSelector selector = ALL.ids(ids.toArray(String[]::new)).limit(1_201);
        assertThat(store.replay(selector, clock.instant(), Duration.ZERO)).isEqualTo(1_201);
        assertThat(database.query("SELECT batch_id FROM {p}batch WHERE state = 0 ORDER BY seq"))
                .isEqualTo(database.query("SELECT batch_id FROM {p}batch ORDER BY seq LIMIT 1201"));
    }
}
