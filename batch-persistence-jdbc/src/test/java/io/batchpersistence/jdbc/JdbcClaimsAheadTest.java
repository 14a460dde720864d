package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.FaultyDataSource.lost;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.NewBatch;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Batches that are claimed before a caller wants them. */
class JdbcClaimsAheadTest extends JdbcTestBase {

    private static final Duration FAST = Duration.ofMillis(1);
    private static final Duration A_SECOND = Duration.ofMillis(1_001);

    private JdbcBatchStore store;

    @BeforeEach
    void fill() {
        store = openFaulty(Kind.POSTGRESQL);
        append(store, names(0, 400));
        markPending(store, names(0, 400));
    }

    private static String[] names(int from, int to) {
        return IntStream.range(from, to).mapToObj("b%03d"::formatted).toArray(String[]::new);
    }

    private Claim claimOne(JdbcBatchStore by, BatchOrder order) {
        List<Claim> claims =
                by.claim("loki", order, clock.instant(), clock.instant().plus(TIMEOUT), 1);
        assertThat(claims).hasSize(1);
        return claims.get(0);
    }

    /** Claims one after the other, with so much time after each. */
    private List<String> claimed(JdbcBatchStore by, int count, Duration apart) {
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ids.add(claimOne(by, BatchOrder.OLDEST_FIRST).batch().id());
            pass(apart);
        }
        return ids;
    }

    private int inFlight() {
        return Integer.parseInt(
                database.query("SELECT COUNT(*) FROM {p}batch WHERE state = 1").get(0));
    }

    /** Claims so many fast that more of them are ahead. */
    private void goAhead(int count) {
        assertThat(claimed(store, count, FAST)).containsExactly(names(0, count));
        assertThat(inFlight()).isGreaterThan(count);
    }

    @Test
    void a_backlog_is_claimed_in_few_statements_and_handed_out_in_its_order() {
        AtomicInteger statements = new AtomicInteger();
        source.beforeStatement = sql -> statements.incrementAndGet();
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 400; i++) {
            ids.addAll(claimed(store, 1, FAST));
            assertThat(inFlight() - i).isBetween(1, 33);
        }
        assertThat(ids).containsExactly(names(0, 400));
        assertThat(statements.get()).isLessThan(200);
        assertThat(claims(store)).isEmpty();
        assertThat(balanced(store).inFlight()).isEqualTo(400);
        assertThat(store.failed("b399", BatchStore.ANY_FENCE, "down", clock.instant(), again()))
                .isNotNull();
    }

    @Test
    void from_the_other_end_too() {
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            ids.add(claimOne(store, BatchOrder.NEWEST_FIRST).batch().id());
            pass(FAST);
        }
        assertThat(ids).isSortedAccordingTo(Comparator.reverseOrder()).endsWith("b100");
        assertThat(inFlight()).isGreaterThan(300);
    }

    @Test
    void several_callers_at_once_get_each_his_own() throws Exception {
        List<List<String>> all = together(4, number -> claimed(store, 100, FAST));
        assertThat(all.stream().flatMap(List::stream).sorted()).containsExactly(names(0, 400));
        all.forEach(ids -> assertThat(ids).isSorted());
        assertThat(balanced(store).inFlight()).isEqualTo(400);
    }

    @Test
    void for_a_slow_sender_nothing_is_claimed_ahead() {
        claimed(store, 50, Duration.ofMillis(250));
        assertThat(inFlight()).isEqualTo(50);
    }

    @Test
    void when_sending_becomes_slow_less_is_claimed_ahead() {
        goAhead(60);
        List<String> ids = claimed(store, 100, Duration.ofMillis(100));
        assertThat(ids).containsExactly(names(60, 160));
        assertThat(inFlight() - 160).isLessThan(3);
    }

    @Test
    void of_few_due_batches_others_find_some() {
        claimed(store, 320, Duration.ZERO);
        JdbcBatchStore other = open();
        for (int i = 320; i < 400; i += 2) {
            // Each time a quarter of the rest at most.
            assertThat(inFlight() - i).isLessThan(20);
            claimOne(store, BatchOrder.OLDEST_FIRST);
            pass(FAST);
            claimOne(other, BatchOrder.OLDEST_FIRST);
        }
        assertThat(claims(store)).isEmpty();
        assertThat(claims(other)).isEmpty();
    }

    @Test
    void two_instances_share_a_backlog() {
        JdbcBatchStore other = open();
        List<String> mine = new ArrayList<>();
        List<String> others = new ArrayList<>();
        List<Claim> last;
        do {
            last = store.claim(
                    "loki",
                    BatchOrder.OLDEST_FIRST,
                    clock.instant(),
                    clock.instant().plus(TIMEOUT),
                    1);
            mine.addAll(ids(last));
            pass(FAST);
            List<Claim> next = other.claim(
                    "loki",
                    BatchOrder.OLDEST_FIRST,
                    clock.instant(),
                    clock.instant().plus(TIMEOUT),
                    1);
            others.addAll(ids(next));
            last = next.isEmpty() ? last : next;
        } while (!last.isEmpty());
        assertThat(mine.size()).isBetween(150, 250);
        assertThat(Stream.concat(mine.stream(), others.stream()).sorted()).containsExactly(names(0, 400));
        assertThat(mine).isSorted();
        assertThat(others).isSorted();
        balanced(store);
    }

    @Test
    void no_more_bytes_are_claimed_ahead_than_is_harmless() {
        database.update("UPDATE {p}batch SET bytes = 900000");
        for (int i = 0; i < 100; i++) {
            claimed(store, 1, FAST);
            assertThat(inFlight() - i).isLessThan(3);
        }
    }

    // ---- given back ------------------------------------------------------------------------------

    private void assertAllGivenBack(int handedOut) {
        assertThat(inFlight()).isEqualTo(handedOut);
        assertThat(database.query(
                        "SELECT COUNT(*) FROM {p}batch WHERE state = 0 AND (owner IS NOT NULL OR retry_count > 0)"))
                .containsExactly("0");
        JdbcBatchStore other = open();
        assertThat(ids(claims(other))).startsWith(names(handedOut, handedOut + 50));
        assertThat(balanced(store).inFlight()).isEqualTo(handedOut + 100);
    }

    @Test
    void what_nobody_wants_for_a_second_is_given_back_in_a_round_of_recovery() {
        goAhead(60);
        assertThat(store.timedOut(clock.instant(), 10)).isEmpty();
        assertThat(inFlight()).as("too early").isGreaterThan(60);
        pass(A_SECOND);
        assertThat(store.timedOut(clock.instant(), 10)).isEmpty();
        assertAllGivenBack(60);
    }

    @Test
    void or_by_the_upkeep() {
        goAhead(60);
        pass(A_SECOND);
        store.heartbeat();
        assertAllGivenBack(60);
    }

    @Test
    void after_a_second_it_is_not_handed_out_but_claimed_anew() {
        goAhead(60);
        // The ticker stands still while the machine sleeps.
        clock.advance(A_SECOND);
        assertThat(claimOne(store, BatchOrder.OLDEST_FIRST).batch().id()).isEqualTo("b060");
        assertThat(inFlight()).isEqualTo(61);
    }

    @Test
    void when_the_collector_type_is_paused() {
        goAhead(60);
        store.pause("other", true);
        assertThat(inFlight()).isGreaterThan(60);
        store.pause("loki", true);
        assertAllGivenBack(60);
    }

    @Test
    void when_the_collector_is_found_to_be_down() {
        goAhead(60);
        store.sharedOutages().began("other", Duration.ofSeconds(1), "down");
        assertThat(inFlight()).isGreaterThan(60);
        store.sharedOutages().began("loki", Duration.ofSeconds(1), "down");
        assertAllGivenBack(60);
    }

    @Test
    void when_the_instance_closes() {
        goAhead(60);
        JdbcBatchStore other = open();
        store.close();
        assertThat(inFlight()).isZero();
        assertThat(ids(claims(other))).startsWith(names(0, 100));
        assertThat(balanced(other).pending()).isEqualTo(300);
    }

    @Test
    void when_the_instance_is_gone_others_get_it_and_it_hands_out_nothing_of_it() {
        goAhead(60);
        JdbcBatchStore other = open();
        database.update("UPDATE {p}instance SET lease_until = 0 WHERE id = "
                + store.stats().instance().number());
        other.heartbeat();
        assertThat(ids(claims(other))).startsWith(names(0, 100));
        // Finds out that it is gone.
        append(store, "new");
        assertThat(claimed(store, 3, Duration.ZERO)).containsExactly("b100", "b101", "b102");
        assertThat(balanced(store).inFlight()).isEqualTo(104);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void if_giving_back_fails_the_upkeep_does_it(boolean committed) {
        goAhead(60);
        if (committed) {
            source.afterCommit = FaultyDataSource.once(lost());
        } else {
            source.refuse();
        }
        pass(A_SECOND);
        store.timedOut(clock.instant(), 10);
        source.recover();
        store.heartbeat();
        assertAllGivenBack(60);
    }

    /** Claims in another thread before the first of what is given back is written, until that is done or waits. */
    private Future<String> claimWhileGivingBack() {
        FutureTask<String> claim = new FutureTask<>(
                () -> claimOne(store, BatchOrder.OLDEST_FIRST).batch().id());
        Thread claims = new Thread(claim);
        source.beforeStatement = sql -> {
            if (sql.contains("owner = NULL") && claims.getState() == Thread.State.NEW) {
                claims.start();
                while (!claim.isDone() && claims.getState() != Thread.State.WAITING) {
                    Thread.onSpinWait();
                }
            }
        };
        return claim;
    }

    @Test
    void nothing_is_claimed_before_all_is_given_back() throws Exception {
        goAhead(60);
        Future<String> claim = claimWhileGivingBack();
        store.pause("loki", true);
        assertThat(claim.get()).isEqualTo("b060");
    }

    @Test
    void nor_before_it_is_given_back_for_one_of_them() throws Exception {
        goAhead(60);
        Future<String> claim = claimWhileGivingBack();
        assertThat(store.discard(ALL.ids("b061").states(BatchState.PENDING), clock.instant()))
                .isOne();
        assertThat(claim.get()).isEqualTo("b060");
    }

    @Test
    void what_could_not_be_given_back_during_an_outage_has_not_timed_out() {
        goAhead(60);
        source.refuse();
        pass(A_SECOND);
        store.timedOut(clock.instant(), 10);
        pass(TIMEOUT.plus(A_SECOND));
        source.recover();
        assertThat(store.timedOut(clock.instant(), 1_000))
                .extracting(lease -> lease.batchId())
                .containsExactlyInAnyOrder(names(0, 60));
        assertThat(inFlight()).isEqualTo(60);
    }

    // ---- marks and operators ---------------------------------------------------------------------

    @Test
    void a_late_mark_ends_a_batch_that_is_ahead_and_it_is_not_sent() {
        goAhead(60);
        assertThat(store.delivered("b061")).isNotNull();
        assertThat(claimed(store, 3, FAST)).containsExactly("b060", "b062", "b063");
        assertThat(balanced(store).delivered()).isOne();
    }

    @Test
    void a_late_failure_of_a_batch_that_is_ahead_changes_nothing_and_it_is_sent() {
        goAhead(60);
        assertThat(store.failed("b061", BatchStore.ANY_FENCE, "late", clock.instant(), again()))
                .isNull();
        assertThat(state(store, "b061")).isEqualTo(BatchState.PENDING);
        assertThat(claimed(store, 40, FAST)).contains("b060", "b062").doesNotHaveDuplicates();
        pass(A_SECOND);
        store.timedOut(clock.instant(), 10);
        assertThat(ids(claims(store))).doesNotHaveDuplicates();
        assertThat(state(store, "b061")).isEqualTo(BatchState.IN_FLIGHT);
        balanced(store);
    }

    @Test
    void an_operator_discards_what_is_ahead_like_everything_that_is_pending() {
        goAhead(60);
        assertThat(store.discard(ALL.states(BatchState.PENDING), clock.instant()))
                .isEqualTo(340);
        assertThat(claims(store)).isEmpty();
        assertThat(balanced(store).discarded()).isEqualTo(340);
    }

    @Test
    void an_operator_holds_back_what_is_ahead_like_everything_that_is_pending() {
        goAhead(60);
        assertThat(store.reschedule(ALL.states(BatchState.PENDING), clock.instant(), null))
                .isEqualTo(340);
        assertThat(claims(store)).isEmpty();
    }

    @Test
    void what_is_ahead_stays_there_when_an_operator_changes_others() {
        goAhead(60);
        int before = inFlight();
        store.reschedule(ALL.collectorTypes("other"), clock.instant(), null);
        store.discard(ALL.collectorTypes("other"), clock.instant());
        store.reschedule(ALL.ids("b399", "b000"), clock.instant(), clock.instant());
        assertThat(inFlight()).isEqualTo(before);
        store.reschedule(ALL.ids("b399", "b061"), clock.instant(), clock.instant());
        assertThat(inFlight()).isEqualTo(60);
        assertThat(claimed(store, 340, FAST)).containsExactly(names(60, 400));
    }

    @Test
    void the_lease_is_longer_by_the_time_that_a_batch_may_wait_ahead() {
        goAhead(60);
        Claim ahead = claimOne(store, BatchOrder.OLDEST_FIRST);
        assertThat(ahead.batch().nextAttemptAt())
                .isBetween(
                        clock.instant().plus(TIMEOUT),
                        clock.instant().plus(TIMEOUT).plus(Claims.MAX_HOLD));
        pass(TIMEOUT.minusSeconds(1), store);
        assertThat(store.timedOut(clock.instant(), 1_000))
                .extracting(lease -> lease.batchId())
                .doesNotContain("b060");
        pass(Duration.ofSeconds(3));
        assertThat(store.timedOut(clock.instant(), 1_000))
                .extracting(lease -> lease.batchId())
                .contains("b060");
    }

    @Test
    void an_id_is_free_again_after_the_mark_of_a_batch_that_was_ahead() {
        goAhead(60);
        assertThat(store.delivered("b061")).isNotNull();
        NewBatch again = batch("b061");
        store.append(again).join();
        assertThat(store.failed("b061", BatchStore.ANY_FENCE, "no", clock.instant(), again()))
                .isNotNull();
        balanced(store);
    }
}
