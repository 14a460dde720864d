package io.batchpersistence.test;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Lease;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.jspecify.annotations.NullUnmarked;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The contract of every {@link BatchStore}, tested through the interface alone. After each test the counters must
 * balance, and closing and reopening the store must change nothing except that batches in flight become pending. A
 * subclass opens the store; JUnit runs the inherited tests.
 */
// Tests pass null on purpose.
@NullUnmarked
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
public abstract class BatchStoreContract {

    /** Selects all batches. */
    protected static final BatchSelector ALL = BatchSelector.all();

    private static final Duration LEASE = Duration.ofMinutes(5);
    private static final Duration MINUTE = Duration.ofMinutes(1);

    /** Ids with equal CRC32C, the checksum that the disk formats use. */
    private static final List<List<String>> COLLIDING = List.of(
            List.of("batch-1371838", "batch-2000402"),
            List.of("m6wvjf8i142r", "18hhd16xlzlkw"),
            List.of("7onblhpbrcua", "gtlgcueq00ck"));

    /** The clock of the store under test. */
    protected final ManualClock clock = new ManualClock();

    /** The limit on batches that the store under test is to be opened with; tests change it before they reopen it. */
    protected long maxBatches = 1_000_000;

    /** The number of batches in tests with many batches. Lower where each costs a file. */
    protected int many = 3_000;

    /** The store under test. */
    protected BatchStore store;

    private final List<Corruption> damage = new ArrayList<>();

    /** For subclasses. */
    protected BatchStoreContract() {}

    /**
     * Opens the store under test. It contains what it contained when it was closed.
     *
     * @return the store, with {@link #clock} and {@link #maxBatches}
     */
    protected abstract BatchStore open();

    @BeforeEach
    void begin() {
        openAgain();
    }

    private void openAgain() {
        store = open();
        store.onCorruption(damage::add);
    }

    /** Closes the store and opens it again. */
    protected final void reopen() {
        store.close();
        openAgain();
    }

    @AfterEach
    void the_books_balance_and_opening_again_changes_nothing() {
        if (store == null) {
            // The test was skipped: there is no database or disk to open.
            return;
        }
        Thread.interrupted();
        store.close();
        openAgain();
        assertBalanced();
        Map<String, PersistedBatch> before = everything();
        Map<String, CollectorStats> counted = counters();
        reopen();
        assertBalanced();
        assertThat(everything()).isEqualTo(before);
        assertThat(counters()).isEqualTo(counted);
        assertThat(damage).isEmpty();
        store.close();
    }

    private void assertBalanced() {
        assertThat(store.stats().collectors()).allSatisfy((type, stats) -> {
            assertThat(stats.isBalanced()).as("%s: %s", type, stats).isTrue();
            assertThat(stats.pending())
                    .isEqualTo(store.count(ALL.collectorTypes(type).states(BatchState.PENDING), now()));
            assertThat(stats.inFlight())
                    .isEqualTo(store.count(ALL.collectorTypes(type).states(BatchState.IN_FLIGHT), now()));
            assertThat(stats.dead())
                    .isEqualTo(store.count(ALL.collectorTypes(type).states(BatchState.DEAD), now()));
        });
        assertThat(store.stats().batches()).isEqualTo(store.count(ALL, now()));
    }

    private Map<String, PersistedBatch> everything() {
        Map<String, PersistedBatch> all = new LinkedHashMap<>();
        for (BatchSummary summary : store.list(ALL, now())) {
            all.put(summary.id(), store.find(summary.id()).orElseThrow());
        }
        return all;
    }

    private Map<String, CollectorStats> counters() {
        Map<String, CollectorStats> counters = new HashMap<>(store.stats().collectors());
        counters.values().removeIf(CollectorStats.NONE::equals);
        return counters;
    }

    // ---- helpers ---------------------------------------------------------------------------------

    /**
     * Returns the time on {@link #clock}.
     *
     * @return now
     */
    protected final Instant now() {
        return clock.instant();
    }

    private Instant in(Duration time) {
        return now().plus(time);
    }

    /**
     * Creates a batch of three entries.
     *
     * @param id its id
     * @param type its collector type
     * @return the batch, not yet in the store
     */
    protected final NewBatch batch(String id, String type) {
        return new NewBatch(id, type, Batches.entries(3), Map.of("tenant", id), now(), in(LEASE));
    }

    /**
     * Appends batches for the collector type {@code loki} and waits for them.
     *
     * @param ids their ids
     */
    protected final void append(String... ids) {
        appendTo("loki", ids);
    }

    /**
     * Appends batches and waits for them.
     *
     * @param type their collector type
     * @param ids their ids
     */
    protected final void appendTo(String type, String... ids) {
        List<CompletableFuture<Void>> futures =
                Arrays.stream(ids).map(id -> store.append(batch(id, type))).toList();
        futures.forEach(CompletableFuture::join);
    }

    private static Throwable failure(CompletableFuture<?> future) {
        return org.assertj.core.api.Assertions.catchThrowableOfType(CompletionException.class, future::join)
                .getCause();
    }

    /** A failure that does not count: pending and due at that time ({@code null}: held). */
    private static FailureDecision until(Instant due) {
        return (type, retries) -> new Verdict(false, due, retries);
    }

    private static FailureDecision counted(Instant due) {
        return (type, retries) -> new Verdict(false, due, retries + 1);
    }

    private static final FailureDecision DEAD = (type, retries) -> new Verdict(true, null, retries + 1);

    private Settled fail(String id, String reason, FailureDecision decision) {
        return store.failed(id, BatchStore.ANY_FENCE, reason, now(), decision);
    }

    private void markPending(String... ids) {
        for (String id : ids) {
            assertThat(fail(id, "down", until(now()))).isNotNull();
        }
    }

    private void markDead(String... ids) {
        for (String id : ids) {
            assertThat(fail(id, "rejected", DEAD)).isNotNull();
        }
    }

    private List<Claim> claims(BatchOrder order, int max) {
        return store.claim("loki", order, now(), in(LEASE), max);
    }

    private List<String> claim(BatchOrder order, int max) {
        return claims(order, max).stream().map(claim -> claim.batch().id()).toList();
    }

    private List<String> claim() {
        return claim(BatchOrder.OLDEST_FIRST, 100);
    }

    private BatchState state(String id) {
        return store.find(id).map(PersistedBatch::state).orElse(null);
    }

    private List<String> listed(BatchSelector selector) {
        List<String> ids =
                store.list(selector, now()).stream().map(BatchSummary::id).toList();
        assertThat(store.count(selector, now())).isEqualTo(ids.size());
        return ids;
    }

    private static List<String> ids(List<BatchSummary> summaries) {
        return summaries.stream().map(BatchSummary::id).toList();
    }

    /** Runs the task of each of so many threads, and returns the results. */
    private static <T> List<T> inThreads(int threads, IntFunction<Callable<T>> task) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try {
            List<T> results = new ArrayList<>();
            for (Future<T> future :
                    pool.invokeAll(IntStream.range(0, threads).mapToObj(task).toList())) {
                results.add(future.get());
            }
            return results;
        } finally {
            pool.shutdownNow();
        }
    }

    private CollectorStats loki() {
        return store.stats().collector("loki");
    }

    // ---- append ----------------------------------------------------------------------------------

    @Test
    void an_appended_batch_is_in_flight_until_its_lease_ends() {
        append("a");

        PersistedBatch found = store.find("a").orElseThrow();
        assertThat(found.state()).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(found.nextAttemptAt()).isEqualTo(in(LEASE));
        assertThat(found.createdAt()).isEqualTo(now());
        assertThat(found.retryCount()).isZero();
        assertThat(found.lastAttempt()).isNull();
        assertThat(found.failureReason()).isNull();
        assertThat(found.context()).containsExactly(Map.entry("tenant", "a"));
        assertThat(found.entries()).isEqualTo(Batches.entries(3));
        assertThat(claim()).isEmpty();
        assertThat(loki().accepted()).isOne();
        assertThat(loki().inFlight()).isOne();
    }

    @Test
    void entries_and_context_come_back_equal_in_every_part_now_and_after_opening_again() {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("null", null);
        fields.put("true", true);
        fields.put("long", Long.MIN_VALUE);
        fields.put("big", new BigInteger("123456789012345678901234567890"));
        fields.put("decimal", new BigDecimal("0.1000"));
        fields.put("double", -0.1);
        fields.put("list", Arrays.asList(1, null, List.of("x", Map.of("deep", "er"))));
        fields.put("\u0000\n\"", "\u0001\uD83D\uDE00");
        List<LogEntry> entries = List.of(
                LogEntry.builder(
                                Instant.parse("2026-02-03T04:05:06.123456789Z"),
                                "all of it \u2028 \r\n\t\u0000 \uD83D\uDE80")
                        .level("WARN")
                        .label("app", "shop")
                        .label("", "")
                        .fields(fields)
                        .source("file", "/var/log/app.log:42")
                        .trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
                        .build(),
                LogEntry.of(Instant.ofEpochSecond(0, Long.MIN_VALUE), null, ""),
                LogEntry.of(Instant.ofEpochSecond(0, Long.MAX_VALUE), "", "x".repeat(100_000)),
                LogEntry.builder(Instant.EPOCH, "empty, not absent")
                        .source("", "")
                        .trace("", "")
                        .build());
        Map<String, String> context = new LinkedHashMap<>();
        context.put("z", "1");
        context.put("a", "");
        context.put("\u00e9\n", "\uD83D\uDE00".repeat(600));
        store.append(new NewBatch("a", "loki", entries, context, now(), in(LEASE)))
                .join();

        for (int opening = 0; opening < 2; opening++) {
            PersistedBatch found = store.find("a").orElseThrow();
            assertThat(found.entries()).isEqualTo(entries);
            assertThat(found.context()).isEqualTo(context);
            BatchSummary summary = store.list(ALL, now()).get(0);
            assertThat(summary.context()).isEqualTo(context);
            assertThat(summary.entryCount()).isEqualTo(4);
            assertThat(summary.bytes()).isPositive();
            reopen();
        }
        assertThat(claims(BatchOrder.OLDEST_FIRST, 1).get(0).batch().entries()).isEqualTo(entries);
    }

    @Test
    void an_id_that_is_held_is_refused_whatever_its_state() {
        append("flying", "pending", "held", "dead");
        markPending("pending");
        fail("held", "no one", until(null));
        markDead("dead");

        for (String id : List.of("flying", "pending", "held", "dead")) {
            assertThat(failure(store.append(batch(id, "elasticsearch"))))
                    .isInstanceOf(DuplicateBatchException.class)
                    .hasMessageContaining(id);
        }
        reopen();
        for (String id : List.of("flying", "pending", "held", "dead")) {
            assertThat(failure(store.append(batch(id, "loki")))).isInstanceOf(DuplicateBatchException.class);
        }
        assertThat(store.stats().total().accepted()).isEqualTo(4);
        assertThat(store.collectorTypes()).containsExactly("loki");
    }

    @Test
    void an_id_may_come_again_once_its_batch_is_gone() {
        append("a");
        store.delivered("a");
        clock.advance(MINUTE);
        append("a");
        markDead("a");
        store.discard(ALL.ids("a"), now());
        append("a");

        assertThat(store.find("a").orElseThrow().createdAt()).isEqualTo(now());
        assertThat(loki().accepted()).isEqualTo(3);
        reopen();
        assertThat(claim()).containsExactly("a");
    }

    @Test
    void of_two_threads_that_append_one_id_at_once_exactly_one_succeeds() throws Exception {
        int threads = 4;
        int rounds = 25;
        CyclicBarrier start = new CyclicBarrier(threads);
        List<Integer> won = inThreads(threads, thread -> () -> {
            int mine = 0;
            for (int round = 0; round < rounds; round++) {
                start.await();
                CompletableFuture<Void> append = store.append(batch("same-" + round, "loki"));
                if (append.handle((ok, failure) -> failure == null).join()) {
                    mine++;
                } else {
                    assertThat(failure(append)).isInstanceOf(DuplicateBatchException.class);
                }
            }
            return mine;
        });
        assertThat(won.stream().mapToInt(Integer::intValue).sum()).isEqualTo(rounds);
        assertThat(loki().accepted()).isEqualTo(rounds);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../../etc/passwd",
                "/",
                ".",
                "..",
                "C:\\windows\\system32",
                "a/b\\c:d*e?f\"g<h>i|j",
                " leading and trailing ",
                "CON",
                "line\nbreak\u0000nul",
                "\u65e5\u672c\u8a9e \uD83D\uDE00",
                "e\u0301",
                "%2e%2e%2f",
                "batch_x.json",
                "lock"
            })
    void any_text_is_an_id(String id) {
        append(id);
        assertThat(store.find(id).orElseThrow().id()).isEqualTo(id);
        reopen();
        assertThat(claim()).containsExactly(id);
        assertThat(fail(id, "down", until(now()))).isNotNull();
        assertThat(listed(ALL.ids(id))).containsExactly(id);
        assertThat(store.delivered(id)).isNotNull();
        assertThat(store.find(id)).isEmpty();
    }

    @Test
    void ids_that_differ_only_a_little_are_different() {
        String[] ids = {
            "a",
            "A",
            "a ",
            " a",
            "\u00e9",
            "e\u0301",
            "a/b",
            "a\\b",
            "a_b",
            "a.b",
            "x".repeat(255),
            "x".repeat(254),
            "\uD83D\uDE00".repeat(127),
            "\u65e5".repeat(255)
        };
        append(ids);
        reopen();
        assertThat(claim()).containsExactly(ids);
        for (String id : ids) {
            assertThat(store.delivered(id)).isNotNull();
            assertThat(store.find(id)).isEmpty();
        }
        assertThat(store.count(ALL, now())).isZero();
    }

    @Test
    void ids_with_the_same_checksum_are_different_batches() {
        for (List<String> pair : COLLIDING) {
            String first = pair.get(0);
            String second = pair.get(1);
            append(first);
            markPending(first);
            assertThat(store.find(second)).isEmpty();
            assertThat(store.delivered(second)).isNull();
            append(second);
            assertThat(failure(store.append(batch(second, "loki")))).isInstanceOf(DuplicateBatchException.class);
        }
        reopen();
        for (List<String> pair : COLLIDING) {
            assertThat(store.find(pair.get(0)).orElseThrow().context()).containsValue(pair.get(0));
            assertThat(store.find(pair.get(1)).orElseThrow().context()).containsValue(pair.get(1));
            assertThat(store.delivered(pair.get(0))).isNotNull();
            assertThat(store.delivered(pair.get(0))).isNull();
            assertThat(state(pair.get(1))).isEqualTo(BatchState.PENDING);
        }
        assertThat(claim())
                .containsExactlyElementsOf(
                        COLLIDING.stream().map(pair -> pair.get(1)).toList());
    }

    @Test
    void a_full_store_refuses_until_there_is_room_again() {
        store.close();
        maxBatches = 3;
        openAgain();
        append("a", "b", "c");
        markDead("b");

        assertThat(failure(store.append(batch("d", "loki"))))
                .isInstanceOf(BatchRejectedException.class)
                .hasMessageContaining("3");
        assertThat(store.find("d")).isEmpty();
        assertThat(store.stats().batches()).isEqualTo(3);
        assertThat(store.stats().maxBatches()).isEqualTo(3);
        assertThat(store.stats().fillLevel()).isGreaterThanOrEqualTo(1);

        store.delivered("a");
        append("d");
        assertThat(failure(store.append(batch("e", "loki")))).isInstanceOf(BatchRejectedException.class);
        assertThat(store.stats().total().accepted()).isEqualTo(4);
    }

    @Test
    void a_store_whose_bound_was_lowered_keeps_what_it_has() {
        append("a", "b", "c");
        store.close();
        maxBatches = 1;
        openAgain();
        assertThat(failure(store.append(batch("d", "loki")))).isInstanceOf(BatchRejectedException.class);
        assertThat(claim()).containsExactly("a", "b", "c");
    }

    // ---- claim -----------------------------------------------------------------------------------

    @Test
    void oldest_first_is_the_order_persisted_whatever_the_order_due() {
        append("a", "b", "c", "d");
        fail("d", "down", until(now()));
        fail("b", "down", until(now().minusSeconds(5)));
        fail("a", "down", until(now().minusSeconds(1)));
        fail("c", "down", until(now().minusSeconds(3)));

        assertThat(claim(BatchOrder.OLDEST_FIRST, 3)).containsExactly("a", "b", "c");
        assertThat(claim(BatchOrder.OLDEST_FIRST, 3)).containsExactly("d");
        assertThat(claim(BatchOrder.OLDEST_FIRST, 3)).isEmpty();
    }

    @Test
    void newest_first_is_the_other_way_round_and_the_order_can_change_at_any_time() {
        append("a", "b", "c", "d", "e");
        markPending("c", "a", "e", "b", "d");

        assertThat(claim(BatchOrder.NEWEST_FIRST, 2)).containsExactly("e", "d");
        assertThat(claim(BatchOrder.OLDEST_FIRST, 1)).containsExactly("a");
        assertThat(claim(BatchOrder.NEWEST_FIRST, 5)).containsExactly("c", "b");
    }

    @Test
    void only_what_is_due_is_claimed_and_due_means_not_after_now() {
        append("now", "later", "held", "dead", "flying");
        fail("now", "down", until(now()));
        fail("later", "down", until(now().plusMillis(1)));
        fail("held", "down", until(null));
        markDead("dead");

        assertThat(claim()).containsExactly("now");
        clock.advance(Duration.ofMillis(1));
        assertThat(claim()).containsExactly("later");
        clock.advance(Duration.ofDays(1000));
        assertThat(claim()).isEmpty();
    }

    @Test
    void a_claim_takes_no_more_than_asked_for_and_only_of_its_collector_type() {
        append("a", "b");
        appendTo("elasticsearch", "c");
        markPending("a", "b", "c");

        assertThat(claim(BatchOrder.OLDEST_FIRST, 0)).isEmpty();
        assertThat(store.claim("no one", BatchOrder.OLDEST_FIRST, now(), in(LEASE), 9))
                .isEmpty();
        assertThat(claim(BatchOrder.OLDEST_FIRST, 1)).containsExactly("a");
        assertThat(store.claim("elasticsearch", BatchOrder.OLDEST_FIRST, now(), in(LEASE), 9))
                .extracting(claim -> claim.batch().id())
                .containsExactly("c");
        assertThat(state("b")).isEqualTo(BatchState.PENDING);
    }

    @Test
    void a_claimed_batch_says_what_became_of_it_so_far() {
        append("a");
        fail("a", "503", counted(now()));
        clock.advance(MINUTE);

        Claim claim = claims(BatchOrder.OLDEST_FIRST, 1).get(0);
        assertThat(claim.fence()).isNotEqualTo(BatchStore.ANY_FENCE);
        assertThat(claim.batch().state()).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(claim.batch().retryCount()).isOne();
        assertThat(claim.batch().attempt()).isEqualTo(2);
        assertThat(claim.batch().failureReason()).isEqualTo("503");
        assertThat(claim.batch().lastAttempt()).isEqualTo(now().minus(MINUTE));
        assertThat(claim.batch().nextAttemptAt()).isEqualTo(in(LEASE));
        assertThat(claim.batch().entries()).isEqualTo(Batches.entries(3));
        assertThat(claim.batch().context()).containsEntry("tenant", "a");
        assertThat(store.find("a")).contains(claim.batch());
    }

    @Test
    void first_in_is_first_out_across_openings() {
        append("a", "b");
        reopen();
        append("c");
        markPending("c");
        reopen();
        append("d");
        markPending("d");
        assertThat(claim(BatchOrder.OLDEST_FIRST, 9)).containsExactly("a", "b", "c", "d");
        reopen();
        assertThat(claim(BatchOrder.NEWEST_FIRST, 9)).containsExactly("d", "c", "b", "a");
    }

    @Test
    void first_in_is_first_out_for_many() {
        List<String> ids = IntStream.range(0, many).mapToObj(i -> "batch " + i).toList();
        append(ids.toArray(String[]::new));
        List<String> shuffled = new ArrayList<>(ids);
        java.util.Collections.shuffle(shuffled, new Random(1));
        for (String id : shuffled) {
            fail(id, "down", until(now().minusMillis(shuffled.indexOf(id))));
        }
        List<String> claimed = new ArrayList<>();
        List<String> some;
        do {
            some = claim(BatchOrder.OLDEST_FIRST, 1 + many / 4);
            claimed.addAll(some);
        } while (!some.isEmpty());
        assertThat(claimed).isEqualTo(ids);
    }

    // ---- leases and fences -----------------------------------------------------------------------

    @Test
    void a_lease_is_timed_out_when_it_ended_before_now_and_until_it_is_settled() {
        append("a");
        clock.advance(LEASE);
        assertThat(store.timedOut(now(), 9)).isEmpty();
        clock.advance(Duration.ofMillis(1));

        List<Lease> leases = store.timedOut(now(), 9);
        assertThat(leases).extracting(Lease::batchId).containsExactly("a");
        assertThat(leases).extracting(Lease::collectorType).containsExactly("loki");
        assertThat(store.timedOut(now(), 9)).isEqualTo(leases);
        assertThat(state("a")).isEqualTo(BatchState.IN_FLIGHT);

        Lease lease = leases.get(0);
        assertThat(store.failed("a", lease.fence(), "timed out", now(), counted(now())))
                .isNotNull();
        assertThat(store.timedOut(now(), 9)).isEmpty();
    }

    @Test
    void timed_out_leases_come_as_many_as_asked_for_claimed_ones_too() {
        append("a", "b", "c");
        clock.advance(MINUTE);
        markPending("c");
        assertThat(claim()).containsExactly("c");
        clock.advance(LEASE);
        assertThat(store.timedOut(now(), 9)).extracting(Lease::batchId).containsExactlyInAnyOrder("a", "b");
        assertThat(store.timedOut(now(), 1)).hasSize(1);
        clock.advance(MINUTE);
        assertThat(store.timedOut(now(), 9)).extracting(Lease::batchId).containsExactlyInAnyOrder("a", "b", "c");
        for (String id : List.of("a", "b", "c")) {
            store.delivered(id);
        }
        assertThat(store.timedOut(now(), 9)).isEmpty();
    }

    @Test
    void a_lease_of_a_batch_that_was_settled_never_times_out() {
        append("a", "b", "c", "d");
        store.delivered("a");
        markPending("b");
        markDead("c");
        store.discard(ALL.states(BatchState.IN_FLIGHT), now());
        clock.advance(LEASE.multipliedBy(2));
        assertThat(store.timedOut(now(), 9)).isEmpty();
    }

    @Test
    void a_fence_settles_its_own_claim_only() {
        append("a");
        markPending("a");
        long first = claims(BatchOrder.OLDEST_FIRST, 1).get(0).fence();
        markPending("a");
        assertThat(store.failed("a", first, "late", now(), counted(now()))).isNull();
        long second = claims(BatchOrder.OLDEST_FIRST, 1).get(0).fence();

        assertThat(second).isNotEqualTo(first);
        assertThat(store.failed("a", first, "late", now(), counted(now()))).isNull();
        assertThat(state("a")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(store.failed("a", second, "mine", now(), counted(now()))).isNotNull();
        assertThat(store.failed("a", second, "again", now(), counted(now()))).isNull();
        PersistedBatch found = store.find("a").orElseThrow();
        assertThat(found.failureReason()).isEqualTo("mine");
        assertThat(found.retryCount()).isOne();
    }

    @Test
    void the_fence_of_the_one_who_appended_ends_with_the_claim_of_another() {
        append("a");
        clock.advance(LEASE.plusMillis(1));
        long fence = store.timedOut(now(), 1).get(0).fence();
        store.failed("a", fence, "timed out", now(), until(now()));
        claim();
        assertThat(store.failed("a", fence, "late", now(), counted(now()))).isNull();
        assertThat(store.failed("a", BatchStore.ANY_FENCE, "late", now(), counted(now())))
                .isNotNull();
    }

    // ---- settling --------------------------------------------------------------------------------

    @Test
    void a_delivery_that_the_caller_goes_on_after_is_recorded_like_any_other() {
        append("flying", "pending", "spared");
        markPending("pending");
        Instant created = now();
        CompletableFuture<Settled> flying = store.deliveredLater("flying");
        CompletableFuture<Settled> pending = store.deliveredLater("pending");
        CompletableFuture<Settled> unknown = store.deliveredLater("unknown");
        assertThat(flying.join()).isEqualTo(new Settled("loki", created, 0, null));
        assertThat(pending.join()).isEqualTo(new Settled("loki", created, 0, null));
        assertThat(unknown.join()).isNull();
        assertThat(store.delivered("flying")).isNull();
        assertThat(listed(ALL)).containsExactly("spared");
        assertThat(loki().delivered()).isEqualTo(2);
        reopen();
        assertThat(listed(ALL)).containsExactly("spared");
        assertThat(loki().delivered()).isEqualTo(2);
    }

    @Test
    void delivered_removes_a_batch_in_every_state() {
        append("flying", "pending", "held", "dead", "claimed");
        fail("pending", "503", counted(in(MINUTE)));
        fail("held", "no one", until(null));
        markDead("dead");
        markPending("claimed");
        claim();
        Instant created = now();
        clock.advance(MINUTE);

        assertThat(store.delivered("flying")).isEqualTo(new Settled("loki", created, 0, null));
        assertThat(store.delivered("pending")).isEqualTo(new Settled("loki", created, 1, null));
        assertThat(store.delivered("held")).isEqualTo(new Settled("loki", created, 0, null));
        assertThat(store.delivered("dead")).isEqualTo(new Settled("loki", created, 1, null));
        assertThat(store.delivered("claimed")).isEqualTo(new Settled("loki", created, 0, null));

        assertThat(store.delivered("flying")).isNull();
        assertThat(store.delivered("never heard of")).isNull();
        assertThat(loki().delivered()).isEqualTo(5);
        assertThat(store.collectorTypes()).isEmpty();
        reopen();
        assertThat(store.count(ALL, now())).isZero();
        assertThat(loki().delivered()).isEqualTo(5);
    }

    @Test
    void what_is_given_back_unsent_is_pending_and_no_attempt_is_noted() {
        append("now", "held", "delivered");
        assertThat(store.released("now", type -> Optional.of(now())).state()).isEqualTo(BatchState.PENDING);
        assertThat(store.released("held", type -> Optional.empty()).collectorType())
                .isEqualTo("loki");
        store.delivered("delivered");
        assertThat(store.released("delivered", type -> Optional.of(now()))).isNull();
        assertThat(store.released("now", type -> Optional.of(now())))
                .as("is not in flight any more")
                .isNull();
        assertThat(store.stats().collector("loki").failedAttempts()).isZero();

        for (int i = 0; i < 2; i++) {
            PersistedBatch released = store.find("now").orElseThrow();
            assertThat(released.retryCount()).isZero();
            assertThat(released.lastAttempt()).isNull();
            assertThat(released.failureReason()).isNull();
            assertThat(released.nextAttemptAt()).isBeforeOrEqualTo(now());
            assertThat(store.find("held").orElseThrow().nextAttemptAt()).isNull();
            reopen();
        }
        assertThat(claim()).containsExactly("now");
    }

    @Test
    void a_failure_asks_once_what_to_do_and_does_it() {
        append("a");
        List<String> asked = new ArrayList<>();
        Instant due = in(MINUTE);
        Settled settled = store.failed("a", BatchStore.ANY_FENCE, "503", now(), (type, retries) -> {
            asked.add(type + retries);
            return new Verdict(false, due, 7);
        });

        assertThat(asked).containsExactly("loki0");
        assertThat(settled).isEqualTo(new Settled("loki", now(), 7, BatchState.PENDING));
        PersistedBatch found = store.find("a").orElseThrow();
        assertThat(found.state()).isEqualTo(BatchState.PENDING);
        assertThat(found.retryCount()).isEqualTo(7);
        assertThat(found.nextAttemptAt()).isEqualTo(due);
        assertThat(found.lastAttempt()).isEqualTo(now());
        assertThat(found.failureReason()).isEqualTo("503");
        assertThat(loki().failedAttempts()).isOne();
        assertThat(loki().pending()).isOne();
    }

    @Test
    void a_failure_can_be_the_last() {
        append("a");
        Settled settled = fail("a", "400", DEAD);

        assertThat(settled).isEqualTo(new Settled("loki", now(), 1, BatchState.DEAD));
        PersistedBatch found = store.find("a").orElseThrow();
        assertThat(found.state()).isEqualTo(BatchState.DEAD);
        assertThat(found.nextAttemptAt()).isNull();
        assertThat(found.failureReason()).isEqualTo("400");
        assertThat(loki().dead()).isOne();
        assertThat(loki().oldestPending()).isNull();
    }

    @Test
    void only_what_is_in_flight_can_fail_and_nothing_else_is_asked_about() {
        append("pending", "held", "dead");
        markPending("pending");
        fail("held", "no one", until(null));
        markDead("dead");
        for (String id : List.of("pending", "held", "dead", "unknown")) {
            assertThat(fail(id, "again", (type, retries) -> {
                        throw new AssertionError("asked about " + id);
                    }))
                    .isNull();
        }
        assertThat(loki().failedAttempts()).isEqualTo(3);
    }

    @Test
    void a_decision_that_throws_changes_nothing() {
        append("a");
        assertThatExceptionOfType(ArithmeticException.class)
                .isThrownBy(() -> fail("a", "503", (type, retries) -> {
                    throw new ArithmeticException("of the decision");
                }));
        assertThat(state("a")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(loki().failedAttempts()).isZero();
        assertThat(fail("a", "503", counted(now()))).isNotNull();
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 65_000, 70_000, 1_000_000})
    void a_reason_may_have_any_length(int length) {
        append("a");
        assertThat(fail("a", "\u65e5".repeat(length), counted(now()))).isNotNull();
        assertThat(state("a")).isEqualTo(BatchState.PENDING);
        append("b");
        fail("b", "after it", counted(now()));
        reopen();
        assertThat(store.find("a").orElseThrow().retryCount()).isOne();
        assertThat(store.find("b").orElseThrow().failureReason()).isEqualTo("after it");
    }

    // ---- held ------------------------------------------------------------------------------------

    @Test
    void a_held_batch_waits_until_it_is_released() {
        append("held", "waiting", "dead");
        fail("held", "excluded", counted(null));
        fail("waiting", "503", until(in(MINUTE)));
        markDead("dead");
        assertThat(store.find("held").orElseThrow().nextAttemptAt()).isNull();
        reopen();
        assertThat(store.find("held").orElseThrow().nextAttemptAt()).isNull();
        assertThat(store.find("held").orElseThrow().retryCount()).isOne();
        clock.advance(Duration.ofDays(1));
        assertThat(claim()).containsExactly("waiting");

        assertThat(store.releaseHeld(in(MINUTE))).isOne();
        assertThat(store.releaseHeld(in(MINUTE))).isZero();
        assertThat(claim()).isEmpty();
        clock.advance(MINUTE);
        assertThat(claim()).containsExactly("held");
    }

    @Test
    void rescheduling_changes_when_pending_batches_are_due_and_nothing_else() {
        append("a", "b", "dead", "flying");
        appendTo("elasticsearch", "other");
        fail("a", "503", counted(in(MINUTE)));
        fail("b", "no one", counted(null));
        markDead("dead");
        fail("other", "503", counted(in(MINUTE)));

        assertThat(store.reschedule(ALL.collectorTypes("loki"), now(), now())).isEqualTo(2);
        assertThat(claim()).containsExactly("a", "b");
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
        PersistedBatch a = store.find("a").orElseThrow();
        assertThat(a.retryCount()).isOne();
        assertThat(a.failureReason()).isEqualTo("503");

        assertThat(store.reschedule(ALL, now(), null)).isOne();
        assertThat(store.find("other").orElseThrow().nextAttemptAt()).isNull();
        assertThat(store.reschedule(ALL.ids("other"), now(), in(MINUTE))).isOne();
        assertThat(store.find("other").orElseThrow().nextAttemptAt()).isEqualTo(in(MINUTE));
        assertThat(store.reschedule(ALL.states(BatchState.DEAD), now(), now())).isLessThanOrEqualTo(1);
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
        assertThat(state("flying")).isEqualTo(BatchState.IN_FLIGHT);
    }

    // ---- replay ----------------------------------------------------------------------------------

    @Test
    void a_replayed_dead_letter_is_due_at_once_with_fresh_age_and_retries() {
        append("a", "b");
        Instant created = now();
        markDead("a", "b");
        clock.advance(Duration.ofDays(2));

        assertThat(store.replay(ALL.ids("a"), now())).isOne();

        PersistedBatch a = store.find("a").orElseThrow();
        assertThat(a.state()).isEqualTo(BatchState.PENDING);
        assertThat(a.retryCount()).isZero();
        assertThat(a.nextAttemptAt()).isEqualTo(now());
        assertThat(a.createdAt()).isEqualTo(created);
        assertThat(a.failureReason()).isEqualTo("rejected");
        assertThat(loki().oldestPending()).isEqualTo(now());
        assertThat(state("b")).isEqualTo(BatchState.DEAD);
        reopen();
        assertThat(loki().oldestPending()).isEqualTo(now());
        assertThat(store.expire("loki", now(), Instant.EPOCH, 9)).isEmpty();
        assertThat(claim()).containsExactly("a");
        reopen();
        assertThat(ids(store.expire("loki", now().plusMillis(1), Instant.EPOCH, 9)))
                .containsExactly("a");
    }

    @Test
    void dead_letters_replayed_at_a_rate_are_due_one_after_the_other() {
        append("a", "b", "c");
        markDead("a", "b", "c");
        assertThat(store.replay(ALL.order(BatchOrder.NEWEST_FIRST), now(), Duration.ofMillis(500)))
                .isEqualTo(3);
        reopen();
        assertThat(due("c")).isEqualTo(now());
        assertThat(due("b")).isEqualTo(now().plusMillis(500));
        assertThat(due("a")).isEqualTo(now().plusMillis(1_000));
    }

    private Instant due(String id) {
        return store.list(ALL.ids(id), now()).get(0).nextAttemptAt();
    }

    @Test
    void what_is_paused_is_remembered_across_openings_until_it_is_resumed() {
        append("a");
        assertThat(store.pausedCollectorTypes()).isEmpty();
        assertThat(store.pause("loki", true)).isTrue();
        assertThat(store.pause("loki", true)).isFalse();
        assertThat(store.pause("never heard of", true)).isTrue();
        assertThat(store.pause("not paused", false)).isFalse();
        for (int i = 0; i < 3; i++) {
            assertThat(store.pausedCollectorTypes()).containsExactlyInAnyOrder("loki", "never heard of");
            reopen();
        }
        assertThat(store.pause("loki", false)).isTrue();
        assertThat(store.pause("loki", false)).isFalse();
        reopen();
        assertThat(store.pausedCollectorTypes()).containsExactly("never heard of");
        assertThat(store.stats().collector("never heard of").accepted()).isZero();
    }

    @Test
    void a_name_that_no_batch_can_have_is_not_paused_and_upkeep_goes_on() {
        append("a");
        for (String name : List.of("x".repeat(256), "x".repeat(70_000), "x".repeat(2_000_000), " ", "half \uD83D")) {
            assertThatIllegalArgumentException().isThrownBy(() -> store.pause(name, true));
            assertThatIllegalArgumentException().isThrownBy(() -> store.pause(name, false));
        }
        assertThat(store.pausedCollectorTypes()).isEmpty();
        store.reclaim();
        String longest = "\uD83D\uDE00\\\0".repeat(63) + "\u20ac\u20ac\u20ac";
        assertThat(store.pause(longest, true)).isTrue();
        store.reclaim();
        reopen();
        assertThat(store.pausedCollectorTypes()).containsExactly(longest);
    }

    @Test
    void the_longest_names_reasons_and_contexts_are_kept_and_survive_upkeep_and_opening_again() {
        String name = "\u20ac".repeat(255);
        String reason = "\\\u20ac".repeat(50_000);
        Map<String, String> context = Map.of("k".repeat(30_000), "\u20ac".repeat(35_536));
        store.append(new NewBatch(name, name, Batches.entries(1), context, now(), in(LEASE)))
                .join();
        for (int i = 0; i < 7; i++) {
            assertThat(fail(name, i + reason, counted(now()))).isNotNull();
            assertThat(store.claim(name, BatchOrder.OLDEST_FIRST, now(), in(LEASE), 1))
                    .hasSize(1);
        }
        assertThat(store.pause(name, true)).isTrue();
        store.reclaim();
        reopen();
        assertThat(store.find(name)).hasValueSatisfying(batch -> {
            assertThat(batch.context()).isEqualTo(context);
            assertThat(batch.earlierFailures()).hasSize(FailedAttempt.MAX_EARLIER);
        });
        assertThat(store.list(ALL.ids(name).collectorTypes(name).failureReason("6*"), now()))
                .hasSize(1);
        store.reclaim();
    }

    @Test
    void only_dead_letters_are_replayed() {
        append("pending", "flying", "dead", "dead too");
        fail("pending", "503", counted(in(MINUTE)));
        markDead("dead", "dead too");
        assertThat(store.replay(ALL.limit(1), now())).isOne();
        assertThat(state("dead")).isEqualTo(BatchState.PENDING);
        assertThat(store.replay(ALL, now())).isOne();
        assertThat(store.replay(ALL, now())).isZero();
        assertThat(store.find("pending").orElseThrow().retryCount()).isOne();
        assertThat(claim()).containsExactly("dead", "dead too");
    }

    // ---- discard, eviction, expiry ---------------------------------------------------------------

    @Test
    void discarding_removes_what_the_selector_names() {
        append("flying", "pending", "dead", "spared");
        markPending("pending", "spared");
        markDead("dead");

        assertThat(store.discard(ALL.states(BatchState.PENDING).ids("pending", "dead", "unknown"), now()))
                .isOne();
        assertThat(state("flying")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(store.discard(ALL.states(BatchState.DEAD), now())).isOne();
        assertThat(store.discard(ALL.states(BatchState.IN_FLIGHT), now())).isOne();
        assertThat(listed(ALL)).containsExactly("spared");
        assertThat(loki().discarded()).isEqualTo(3);
        assertThat(fail("flying", "late", counted(now()))).isNull();
        assertThat(store.delivered("flying")).isNull();
        reopen();
        assertThat(loki().discarded()).isEqualTo(3);
        assertThat(listed(ALL)).containsExactly("spared");
    }

    @Test
    void discarding_respects_limit_and_order() {
        append("a", "b", "c");
        markPending("a", "b", "c");
        BatchSelector pending = ALL.states(BatchState.PENDING);
        assertThat(store.discard(pending.limit(1).order(BatchOrder.NEWEST_FIRST), now()))
                .isOne();
        assertThat(listed(ALL)).containsExactly("a", "b");
        assertThat(store.discard(pending.limit(1), now())).isOne();
        assertThat(listed(ALL)).containsExactly("b");
    }

    @Test
    void what_is_too_old_expires_but_nothing_in_flight() {
        append("flying", "pending", "held");
        appendTo("elasticsearch", "other");
        markPending("pending", "other");
        fail("held", "excluded", until(null));
        clock.advance(MINUTE);
        append("young");
        markPending("young");

        List<BatchSummary> expired = store.expire("loki", now(), Instant.EPOCH, 9);

        assertThat(ids(expired)).containsExactlyInAnyOrder("pending", "held");
        assertThat(expired).allSatisfy(summary -> {
            assertThat(summary.collectorType()).isEqualTo("loki");
            assertThat(summary.state()).isEqualTo(BatchState.PENDING);
            assertThat(summary.entryCount()).isEqualTo(3);
            assertThat(summary.context()).containsEntry("tenant", summary.id());
        });
        assertThat(listed(ALL)).containsExactly("flying", "other", "young");
        assertThat(loki().expired()).isEqualTo(2);
        assertThat(store.expire("loki", now(), Instant.EPOCH, 9)).isEmpty();
        assertThat(store.expire("no one", now(), now(), 9)).isEmpty();
        reopen();
        assertThat(loki().expired()).isEqualTo(2);
    }

    @Test
    void a_batch_exactly_as_old_as_the_limit_does_not_expire_yet() {
        append("a");
        markPending("a");
        assertThat(store.expire("loki", now(), now(), 9)).isEmpty();
        assertThat(ids(store.expire("loki", now().plusMillis(1), Instant.EPOCH, 9)))
                .containsExactly("a");
    }

    @Test
    void dead_letters_expire_by_the_time_of_their_death() {
        append("first", "second");
        clock.advance(MINUTE);
        markDead("second");
        Instant between = in(MINUTE);
        clock.advance(MINUTE.multipliedBy(2));
        markDead("first");
        clock.advance(MINUTE);
        reopen();

        assertThat(store.expire("loki", now(), Instant.EPOCH, 9)).isEmpty();
        assertThat(ids(store.expire("loki", Instant.EPOCH, between, 9))).containsExactly("second");
        assertThat(ids(store.expire("loki", Instant.EPOCH, now(), 9))).containsExactly("first");
    }

    @Test
    void expiring_takes_no_more_than_asked_for() {
        append("a", "b", "c", "d");
        markPending("a", "b");
        markDead("c", "d");
        Instant later = in(MINUTE);
        List<String> gone = new ArrayList<>();
        for (int i = 1; i <= 4; i++) {
            List<BatchSummary> one = store.expire("loki", later, later, 1);
            assertThat(one).hasSize(1);
            gone.addAll(ids(one));
        }
        assertThat(gone).containsExactlyInAnyOrder("a", "b", "c", "d");
        assertThat(store.expire("loki", later, later, 1)).isEmpty();
    }

    @Test
    void an_old_batch_behind_a_young_one_expires_all_the_same() {
        Instant start = now();
        // The clock was wrong for a while.
        clock.advance(Duration.ofDays(1));
        append("from tomorrow");
        clock.set(start);
        append("a", "b");
        markPending("from tomorrow", "a", "b");
        assertThat(loki().oldestPending()).isEqualTo(start);
        clock.advance(MINUTE);
        assertThat(ids(store.expire("loki", now(), Instant.EPOCH, 9))).containsExactlyInAnyOrder("a", "b");
        assertThat(listed(ALL)).containsExactly("from tomorrow");
    }

    @Test
    void a_replayed_batch_expires_before_younger_ones_also_after_opening_again() {
        append("replayed");
        markDead("replayed");
        clock.advance(MINUTE);
        store.replay(ALL, now());
        clock.advance(MINUTE);
        append("young");
        markPending("young");
        for (int opening = 0; opening < 2; opening++) {
            assertThat(loki().oldestPending()).isEqualTo(now().minus(MINUTE));
            reopen();
        }
        assertThat(ids(store.expire("loki", now(), Instant.EPOCH, 9))).containsExactly("replayed");
    }

    @Test
    void never_is_a_time_too() {
        append("a", "b");
        markDead("b");
        fail("a", "503", counted(Instant.MAX));
        assertThat(store.expire("loki", Instant.MIN, Instant.MIN, 9)).isEmpty();
        clock.advance(Duration.ofDays(100_000));
        assertThat(claim()).isEmpty();
        assertThat(store.expire("loki", Instant.MAX, Instant.MAX, 9)).hasSize(2);
    }

    @Test
    void the_oldest_are_evicted_first_of_all_collector_types_and_states_but_in_flight() {
        append("a");
        appendTo("elasticsearch", "b", "c");
        append("d", "e", "f");
        markPending("b", "d", "f");
        markDead("c");
        fail("e", "excluded", until(null));

        assertThat(ids(store.evictOldest(2))).containsExactly("b", "c");
        assertThat(ids(store.evictOldest(2))).containsExactly("d", "e");
        assertThat(ids(store.evictOldest(2))).containsExactly("f");
        assertThat(store.evictOldest(2)).isEmpty();
        assertThat(listed(ALL)).containsExactly("a");
        assertThat(loki().evicted()).isEqualTo(3);
        assertThat(store.stats().collector("elasticsearch").evicted()).isEqualTo(2);
        reopen();
        assertThat(store.stats().total().evicted()).isEqualTo(5);
    }

    // ---- selecting -------------------------------------------------------------------------------

    /**
     * Persists four batches: a is an old dead loki batch, failed 2 × with "HTTP 429 slow"; b is a pending loki batch,
     * failed 1 × with "http 503"; c is in flight for elasticsearch; d is a young held loki batch, failed 3 ×.
     */
    private void four() {
        append("a", "b");
        fail("a", "x", counted(now()));
        claim();
        fail("a", "HTTP 429 slow", DEAD);
        fail("b", "http 503", counted(in(MINUTE)));
        clock.advance(MINUTE);
        appendTo("elasticsearch", "c");
        clock.advance(MINUTE);
        append("d");
        fail("d", "timed\nout 429", (type, retries) -> new Verdict(false, null, 3));
    }

    @Test
    void dead_letters_beyond_their_bound_go_in_the_order_in_which_they_were_given_up() {
        append("a", "b", "c", "d");
        for (String id : List.of("b", "a", "c")) {
            markDead(id);
            clock.advance(MINUTE);
        }
        long bytes = store.list(ALL.states(BatchState.DEAD), now()).stream()
                .mapToLong(BatchSummary::bytes)
                .sum();
        assertThat(store.evictDeadLetters(bytes, 10)).isEmpty();
        assertThat(ids(store.evictDeadLetters(bytes - 1, 10))).containsExactly("b");
        assertThat(ids(store.evictDeadLetters(1, 1))).containsExactly("a");
        assertThat(store.stats().total().evicted()).isEqualTo(2);
        reopen();
        assertThat(ids(store.evictDeadLetters(1, 10))).containsExactly("c");
        assertThat(store.evictDeadLetters(1, 10)).isEmpty();
        // d is not dead.
        assertThat(store.find("d")).isPresent();
        claim();
        markDead("d");
        assertThat(store.replay(ALL.ids("d"), now())).isOne();
        assertThat(store.evictDeadLetters(1, 10)).isEmpty();
    }

    @Test
    void the_first_failure_and_the_last_ones_are_remembered_until_it_is_gone() {
        append("a", "b");
        fail("b", "once", DEAD);
        List<FailedAttempt> failures = new ArrayList<>();
        for (int i = 1; i <= 8; i++) {
            failures.add(new FailedAttempt(now(), "failure " + i));
            fail("a", "failure " + i, counted(now()));
            clock.advance(MINUTE);
            claim();
        }
        fail("a", "the last", DEAD);
        List<FailedAttempt> kept = List.of(failures.get(0), failures.get(5), failures.get(6), failures.get(7));
        assertThat(store.find("a").orElseThrow().earlierFailures()).isEqualTo(kept);
        assertThat(store.find("b").orElseThrow().earlierFailures()).isEmpty();
        reopen();
        assertThat(store.find("a").orElseThrow().earlierFailures()).isEqualTo(kept);
        assertThat(store.find("a").orElseThrow().failureReason()).isEqualTo("the last");
        assertThat(store.find("b").orElseThrow().earlierFailures()).isEmpty();
        assertThat(store.replay(ALL.ids("a"), now())).isOne();
        reopen();
        assertThat(store.list(ALL.ids("a"), now()).get(0).earlierFailures()).isEqualTo(kept);
        store.delivered("a");
        // c may reuse the index slot of the removed batch.
        append("c");
        assertThat(store.find("c").orElseThrow().earlierFailures()).isEmpty();
    }

    @Test
    void each_condition_selects_alone() {
        four();
        assertThat(listed(ALL)).containsExactly("a", "b", "c", "d");
        assertThat(listed(ALL.ids("c", "a", "unknown"))).containsExactly("a", "c");
        assertThat(listed(ALL.ids("unknown"))).isEmpty();
        assertThat(listed(ALL.collectorTypes("loki"))).containsExactly("a", "b", "d");
        assertThat(listed(ALL.collectorTypes("loki", "elasticsearch", "no one")))
                .containsExactly("a", "b", "c", "d");
        assertThat(listed(ALL.collectorTypes("no one"))).isEmpty();
        assertThat(listed(ALL.failureReason("http*"))).containsExactly("a", "b");
        assertThat(listed(ALL.failureReason("*429*"))).containsExactly("a", "d");
        assertThat(listed(ALL.failureReason("HTTP 50?"))).containsExactly("b");
        assertThat(listed(ALL.failureReason("*"))).containsExactly("a", "b", "d");
        assertThat(listed(ALL.failureReason("http"))).isEmpty();
        assertThat(listed(ALL.states(BatchState.DEAD))).containsExactly("a");
        assertThat(listed(ALL.states(BatchState.PENDING))).containsExactly("b", "d");
        assertThat(listed(ALL.states(BatchState.IN_FLIGHT, BatchState.DEAD))).containsExactly("a", "c");
        assertThat(listed(ALL.olderThan(MINUTE))).containsExactly("a", "b", "c");
        assertThat(listed(ALL.olderThan(MINUTE.plusMillis(1)))).containsExactly("a", "b");
        assertThat(listed(ALL.youngerThan(MINUTE))).containsExactly("d");
        assertThat(listed(ALL.youngerThan(MINUTE.plusMillis(1)))).containsExactly("c", "d");
        assertThat(listed(ALL.retries(1, 2))).containsExactly("a", "b");
        assertThat(listed(ALL.retries(0, 0))).containsExactly("c");
        assertThat(listed(ALL.retries(3, Integer.MAX_VALUE))).containsExactly("d");
        assertThat(listed(ALL.limit(3))).containsExactly("a", "b", "c");
        assertThat(listed(ALL.order(BatchOrder.NEWEST_FIRST))).containsExactly("d", "c", "b", "a");
    }

    /** Operators choose the glob, and collectors choose the text that it is matched with. */
    @Test
    void a_glob_of_many_asterisks_takes_no_longer_than_another() {
        four();
        append("e");
        fail("e", "a".repeat(3_000), counted(now()));
        for (String glob : List.of("*a".repeat(50) + "*b", "*a?".repeat(500) + "b", "*" + "a".repeat(1_500) + "b*")) {
            BatchSelector none = ALL.failureReason(glob);
            assertThat(listed(none)).isEmpty();
            assertThat(store.count(none, now())).isZero();
            assertThat(store.failures(none, now())).isEmpty();
            assertThat(store.replay(none, now(), Duration.ZERO)).isZero();
            assertThat(store.reschedule(none, now(), now())).isZero();
            assertThat(store.discard(none, now())).isZero();
        }
        assertThat(listed(ALL.failureReason("*a".repeat(1_000) + "*"))).containsExactly("e");
    }

    @Test
    void conditions_are_combined_with_and() {
        four();
        assertThat(listed(ALL.collectorTypes("loki").states(BatchState.PENDING).retries(2, 5)))
                .containsExactly("d");
        assertThat(listed(ALL.ids("a", "b", "c").collectorTypes("loki").failureReason("*503")))
                .containsExactly("b");
        assertThat(listed(ALL.ids("a", "b").olderThan(MINUTE).limit(1).order(BatchOrder.NEWEST_FIRST)))
                .containsExactly("b");
        assertThat(listed(ALL.olderThan(MINUTE).youngerThan(MINUTE.multipliedBy(2))))
                .containsExactly("c");
        assertThat(listed(ALL.failureReason("*429*").states(BatchState.IN_FLIGHT)))
                .isEmpty();
        assertThat(listed(ALL.collectorTypes("loki").limit(2).order(BatchOrder.NEWEST_FIRST)))
                .containsExactly("d", "b");
        reopen();
        assertThat(listed(ALL.ids("c").states(BatchState.PENDING))).containsExactly("c");
        assertThat(listed(ALL.failureReason("*429*").retries(2, 3).order(BatchOrder.NEWEST_FIRST)))
                .containsExactly("d", "a");
    }

    @Test
    void what_is_changed_is_exactly_what_the_same_conditions_list() {
        Random random = new Random(7);
        for (int round = 0; round < 30; round++) {
            BatchState state = List.of(BatchState.PENDING, BatchState.DEAD, BatchState.IN_FLIGHT)
                    .get(round % 3);
            assorted(round, random);
            BatchSelector selector = conditions(random).states(state);
            List<String> meant = listed(selector);
            List<String> all = listed(ALL);
            String what = state + " " + selector;
            switch (state) {
                case PENDING -> {
                    Instant due = in(Duration.ofDays(9));
                    assertThat(store.reschedule(selector, now(), due)).as(what).isEqualTo(meant.size());
                    assertThat(all.stream().filter(id -> due.equals(due(id))))
                            .as(what)
                            .containsExactlyInAnyOrderElementsOf(meant);
                }
                case DEAD -> {
                    List<String> dead = listed(ALL.states(BatchState.DEAD));
                    assertThat(store.replay(selector, now())).as(what).isEqualTo(meant.size());
                    assertThat(dead.stream().filter(id -> state(id) == BatchState.PENDING))
                            .as(what)
                            .containsExactlyInAnyOrderElementsOf(meant);
                }
                case IN_FLIGHT -> {
                    assertThat(store.discard(selector, now())).as(what).isEqualTo(meant.size());
                    assertThat(all.stream().filter(id -> state(id) == null))
                            .as(what)
                            .containsExactlyInAnyOrderElementsOf(meant);
                }
            }
            assertBalanced();
            store.discard(ALL.states(BatchState.PENDING, BatchState.IN_FLIGHT, BatchState.DEAD), now());
        }
    }

    private void assorted(int round, Random random) {
        for (int i = 0; i < 24; i++) {
            String id = round + "-" + i;
            appendTo(i % 3 == 0 ? "elasticsearch" : "loki", id);
            int retries = random.nextInt(4);
            String reason = List.of("HTTP 429", "HTTP 503", "timed out").get(random.nextInt(3));
            switch (random.nextInt(3)) {
                case 0 -> fail(id, reason, (type, none) -> new Verdict(false, in(MINUTE), retries));
                case 1 -> fail(id, reason, (type, none) -> new Verdict(true, null, retries));
                default -> {
                    // Stays in flight.
                }
            }
            clock.advance(Duration.ofSeconds(1));
        }
    }

    private BatchSelector conditions(Random random) {
        BatchSelector selector = ALL;
        if (random.nextInt(3) == 0) {
            selector = selector.collectorTypes(random.nextBoolean() ? "loki" : "elasticsearch");
        }
        if (random.nextInt(4) == 0) {
            selector = selector.failureReason(random.nextBoolean() ? "http*" : "*ou?");
        }
        if (random.nextInt(3) == 0) {
            selector = selector.olderThan(Duration.ofSeconds(random.nextInt(24)));
        }
        if (random.nextInt(3) == 0) {
            selector = selector.youngerThan(Duration.ofSeconds(random.nextInt(24)));
        }
        if (random.nextInt(3) == 0) {
            selector = selector.retries(random.nextInt(2), 2 + random.nextInt(2));
        }
        if (random.nextInt(3) == 0) {
            selector = selector.limit(1 + random.nextInt(4));
        }
        if (random.nextInt(4) == 0) {
            List<BatchSummary> all = store.list(ALL, now());
            selector = selector.after(all.get(random.nextInt(all.size())).position());
        }
        return random.nextBoolean() ? selector : selector.order(BatchOrder.NEWEST_FIRST);
    }

    @Test
    void pages_of_a_list_skip_and_repeat_nothing_whatever_comes_and_goes() {
        append("a", "b", "c", "d", "e", "f");
        List<BatchSummary> first = store.list(ALL.limit(2), now());
        assertThat(ids(first)).containsExactly("a", "b");
        long position = first.get(1).position();
        store.delivered("a");
        // Also removes the batch whose position the next page starts after.
        store.delivered("b");
        store.delivered("d");
        append("g");
        List<BatchSummary> second = store.list(ALL.limit(2).after(position), now());
        assertThat(ids(second)).containsExactly("c", "e");
        assertThat(listed(ALL.after(second.get(1).position()))).containsExactly("f", "g");
        assertThat(listed(ALL.after(second.get(1).position()).order(BatchOrder.NEWEST_FIRST)))
                .containsExactly("c");
        assertThat(listed(ALL.after(null))).containsExactly("c", "e", "f", "g");
        assertThat(store.count(ALL.after(position).states(BatchState.IN_FLIGHT).limit(3), now()))
                .isEqualTo(3);
        reopen();
        assertThat(listed(ALL.after(second.get(0).position()))).containsExactly("e", "f", "g");
    }

    @Test
    void failures_are_grouped_by_collector_type_and_reason() {
        append("a", "b", "c", "d", "untried");
        appendTo("elasticsearch", "e");
        Instant first = now();
        fail("a", "HTTP 503", counted(in(MINUTE)));
        clock.advance(MINUTE);
        fail("b", "HTTP 503", DEAD);
        Instant last = now();
        fail("c", "HTTP 503", counted(in(MINUTE)));
        fail("d", "too large", DEAD);
        fail("e", "HTTP 503", counted(in(MINUTE)));
        FailureGroup loki = new FailureGroup("loki", "HTTP 503", 3, first, last);
        FailureGroup tooLarge = new FailureGroup("loki", "too large", 1, last, last);
        FailureGroup elasticsearch = new FailureGroup("elasticsearch", "HTTP 503", 1, last, last);
        assertThat(store.failures(ALL, now())).containsExactly(loki, elasticsearch, tooLarge);
        reopen();
        assertThat(store.failures(ALL.limit(2), now())).containsExactly(loki, elasticsearch);
        assertThat(store.failures(ALL.states(BatchState.DEAD), now()))
                .containsExactly(new FailureGroup("loki", "HTTP 503", 1, last, last), tooLarge);
        assertThat(store.failures(ALL.failureReason("*large").collectorTypes("loki"), now()))
                .containsExactly(tooLarge);
        assertThat(store.failures(ALL.ids("a", "untried", "d"), now()))
                .containsExactly(new FailureGroup("loki", "HTTP 503", 1, first, first), tooLarge);
        assertThat(store.failures(ALL.collectorTypes("no one"), now())).isEmpty();
    }

    @Test
    void statistics_say_how_much_there_is_how_old_and_when_it_is_due() {
        append("flying", "pending", "later", "held", "dead", "dead later");
        Instant begin = now();
        fail("later", "503", until(in(MINUTE.multipliedBy(2))));
        fail("pending", "503", until(in(MINUTE)));
        fail("held", "excluded", until(null));
        clock.advance(MINUTE);
        fail("dead", "rejected", DEAD);
        Instant firstDeath = now();
        clock.advance(MINUTE);
        fail("dead later", "rejected", DEAD);
        assertThat(loki().pendingVolume().entries()).isEqualTo(9);
        assertThat(loki().inFlightVolume().entries()).isEqualTo(3);
        assertThat(loki().deadVolume().entries()).isEqualTo(6);
        assertThat(loki().deadVolume().bytes())
                .isEqualTo(store.list(ALL.states(BatchState.DEAD), now()).stream()
                        .mapToLong(BatchSummary::bytes)
                        .sum());
        assertThat(loki().oldestPending()).isEqualTo(begin);
        assertThat(loki().oldestDead()).isEqualTo(firstDeath);
        assertThat(loki().nextAttemptAt()).isEqualTo(begin.plus(MINUTE));
        assertThat(claim(BatchOrder.OLDEST_FIRST, 1)).containsExactly("pending");
        assertThat(loki().nextAttemptAt()).as("due already").isEqualTo(begin.plus(MINUTE.multipliedBy(2)));
        reopen();
        assertThat(loki().pendingVolume().entries()).isEqualTo(12);
        assertThat(loki().inFlightVolume()).isEqualTo(BatchVolume.NONE);
        assertThat(loki().deadVolume().entries()).isEqualTo(6);
        assertThat(loki().oldestDead()).isEqualTo(firstDeath);
        store.discard(ALL.states(BatchState.PENDING, BatchState.DEAD), now());
        assertThat(loki().bytes()).isZero();
        assertThat(loki().pendingVolume()).isEqualTo(BatchVolume.NONE);
        assertThat(loki().nextAttemptAt()).isNull();
        assertThat(loki().oldestDead()).isNull();
    }

    @Test
    void a_list_says_of_each_batch_what_find_says() {
        four();
        for (BatchSummary summary : store.list(ALL, now())) {
            PersistedBatch found = store.find(summary.id()).orElseThrow();
            assertThat(summary)
                    .isEqualTo(new BatchSummary(
                            found.id(),
                            found.collectorType(),
                            found.state(),
                            found.createdAt(),
                            found.lastAttempt(),
                            found.nextAttemptAt(),
                            found.retryCount(),
                            found.failureReason(),
                            found.earlierFailures(),
                            found.context(),
                            found.entries().size(),
                            summary.bytes(),
                            summary.position()));
        }
        assertThat(store.find("unknown")).isEmpty();
        assertThat(store.collectorTypes()).containsExactlyInAnyOrder("loki", "elasticsearch");
        store.delivered("c");
        assertThat(store.collectorTypes()).containsExactly("loki");
    }

    @Test
    void a_list_is_a_copy() {
        append("a");
        List<BatchSummary> list = store.list(ALL, now());
        java.util.Set<String> types = store.collectorTypes();
        var stats = store.stats();
        store.delivered("a");
        assertThat(list).hasSize(1);
        assertThat(types).containsExactly("loki");
        assertThat(stats.collector("loki").inFlight()).isOne();
    }

    // ---- reopening -------------------------------------------------------------------------------

    @Test
    void what_was_in_flight_is_pending_and_due_at_once_when_opened_again() {
        append("appended", "claimed");
        fail("claimed", "503", counted(now()));
        clock.advance(MINUTE);
        claim();
        clock.advance(MINUTE);
        reopen();

        for (String id : List.of("appended", "claimed")) {
            PersistedBatch found = store.find(id).orElseThrow();
            assertThat(found.state()).isEqualTo(BatchState.PENDING);
            assertThat(found.nextAttemptAt()).isBetween(found.createdAt(), now());
        }
        assertThat(store.timedOut(in(LEASE.multipliedBy(9)), 9)).isEmpty();
        assertThat(store.find("claimed").orElseThrow().retryCount()).isOne();
        assertThat(claim()).containsExactly("appended", "claimed");
        reopen();
        reopen();
        assertThat(claim()).containsExactly("appended", "claimed");
    }

    @Test
    void everything_else_is_as_it_was_when_opened_again() {
        four();
        store.delivered("c");
        append("gone", "expired");
        Map<String, PersistedBatch> before = new LinkedHashMap<>();
        store.discard(ALL.ids("gone"), now());
        fail("expired", "down", until(now()));
        store.expire("loki", now().plusMillis(1), Instant.EPOCH, 1);
        before.putAll(everything());
        Map<String, CollectorStats> counters = counters();
        long batches = store.stats().batches();
        for (int opening = 0; opening < 3; opening++) {
            clock.advance(MINUTE);
            reopen();
            assertThat(everything()).isEqualTo(before);
            assertThat(store.stats().batches()).isEqualTo(batches);
            counters.forEach((type, stats) -> assertThat(store.stats().collector(type))
                    .usingRecursiveComparison()
                    .ignoringFields("failedAttempts", "pendingVolume.bytes", "deadVolume.bytes")
                    .isEqualTo(stats));
            assertThat(store.stats().total().failedAttempts()).isZero();
        }
    }

    // ---- threads and close -----------------------------------------------------------------------

    @Test
    void an_interrupted_thread_can_do_everything_and_stays_interrupted() {
        append("other");
        Thread.currentThread().interrupt();
        append("a", "b");
        markDead("a");
        markPending("b");
        assertThat(claim()).containsExactly("b");
        assertThat(store.find("b")).isPresent();
        assertThat(store.list(ALL, now())).hasSize(3);
        assertThat(store.timedOut(now(), 9)).isEmpty();
        assertThat(store.replay(ALL, now())).isOne();
        assertThat(store.reschedule(ALL, now(), null)).isOne();
        assertThat(store.releaseHeld(now())).isOne();
        assertThat(store.delivered("b")).isNotNull();
        assertThat(store.evictOldest(1)).hasSize(1);
        store.reclaim();
        assertThat(store.stats().problem()).isNull();
        store.close();
        openAgain();
        assertThat(claim()).containsExactly("other");
        assertThat(Thread.interrupted()).isTrue();
        // Other callers are not affected.
        append("c");
    }

    @Test
    void a_closed_store_says_so_and_can_be_closed_again() {
        append("a");
        store.close();
        store.close();
        List<Runnable> calls = List.of(
                () -> store.append(batch("b", "loki")).join(),
                () -> claim(),
                () -> store.timedOut(now(), 1),
                () -> store.delivered("a"),
                () -> fail("a", "503", DEAD),
                () -> store.reschedule(ALL, now(), now()),
                () -> store.releaseHeld(now()),
                () -> store.replay(ALL, now()),
                () -> store.discard(ALL.ids("a"), now()),
                () -> store.expire("loki", now(), now(), 1),
                () -> store.evictOldest(1),
                () -> store.find("a"),
                () -> store.list(ALL, now()),
                () -> store.count(ALL, now()),
                () -> store.collectorTypes(),
                () -> store.stats());
        for (int i = 0; i < calls.size(); i++) {
            assertThatIllegalStateException().as("call %d", i).isThrownBy(calls.get(i)::run);
        }
        openAgain();
        assertThat(listed(ALL)).containsExactly("a");
    }

    @ParameterizedTest
    @EnumSource(BatchOrder.class)
    void many_threads_that_do_everything_at_once_leave_the_books_balanced(BatchOrder order) throws Exception {
        int steps = 150;
        Map<String, Integer> done = new HashMap<>();
        for (Map<String, Integer> each : inThreads(8, thread -> () -> actAtRandom(thread, steps, order))) {
            each.forEach((what, times) -> done.merge(what, times, Integer::sum));
        }
        CollectorStats total = store.stats().total();
        assertThat(total.isBalanced()).as("%s", total).isTrue();
        assertThat(total.accepted()).isEqualTo(done.get("accepted").longValue());
        assertThat(total.delivered()).isEqualTo(done.get("delivered").longValue());
        assertThat(total.discarded()).isEqualTo(done.get("discarded").longValue());
        assertThat(total.expired()).isEqualTo(done.get("expired").longValue());
        assertThat(total.evicted()).isEqualTo(done.get("evicted").longValue());
        assertThat(total.corrupt()).isZero();
        assertThat(store.list(ALL, now())).hasSize((int) store.stats().batches());
        reopen();
        assertThat(store.stats().total())
                .usingRecursiveComparison()
                // On close a store may write the state of a batch into its file, which changes the file size.
                .ignoringFields(
                        "failedAttempts",
                        "inFlight",
                        "pending",
                        "inFlightVolume",
                        "pendingVolume",
                        "deadVolume.bytes",
                        "nextAttemptAt")
                .isEqualTo(total);
    }

    private Map<String, Integer> actAtRandom(int thread, int steps, BatchOrder order) {
        Random random = new Random(thread);
        Map<String, Integer> done =
                new HashMap<>(Map.of("accepted", 0, "delivered", 0, "discarded", 0, "expired", 0, "evicted", 0));
        List<String> mine = new ArrayList<>();
        for (int step = 0; step < steps; step++) {
            String type = random.nextBoolean() ? "loki" : "elasticsearch";
            String any = mine.isEmpty() ? "none" : mine.get(random.nextInt(mine.size()));
            switch (random.nextInt(14)) {
                case 0, 1, 2, 3, 4 -> {
                    String id = thread + "/" + step;
                    store.append(batch(id, type)).join();
                    mine.add(id);
                    done.merge("accepted", 1, Integer::sum);
                }
                case 5, 6 -> done.merge("delivered", store.delivered(any) == null ? 0 : 1, Integer::sum);
                case 7 -> fail(any, "503", random.nextBoolean() ? DEAD : counted(now()));
                case 8, 9 -> {
                    for (Claim claim : store.claim(type, order, now(), in(LEASE), 3)) {
                        assertThat(claim.batch().entries()).hasSize(3);
                        String id = claim.batch().id();
                        switch (random.nextInt(3)) {
                            case 0 -> done.merge("delivered", store.delivered(id) == null ? 0 : 1, Integer::sum);
                            case 1 -> store.failed(id, claim.fence(), "429", now(), counted(now()));
                            default -> store.failed(id, claim.fence(), "excluded", now(), until(null));
                        }
                    }
                }
                case 10 -> {
                    store.find(any).ifPresent(found -> assertThat(found.id()).isEqualTo(any));
                    store.list(ALL.collectorTypes(type).limit(5), now());
                }
                case 11 -> {
                    store.replay(ALL.limit(2), now());
                    store.releaseHeld(now());
                }
                case 12 -> {
                    done.merge("discarded", (int) store.discard(ALL.ids(any), now()), Integer::sum);
                    done.merge(
                            "expired",
                            store.expire(type, now().plusMillis(1), now().plusMillis(1), 1)
                                    .size(),
                            Integer::sum);
                }
                default -> done.merge("evicted", store.evictOldest(1).size(), Integer::sum);
            }
        }
        return done;
    }

    @Test
    void closing_while_others_append_keeps_every_batch_that_was_acknowledged() throws Exception {
        int threads = 4;
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        CyclicBarrier start = new CyclicBarrier(threads + 1);
        try {
            List<Future<List<String>>> futures = IntStream.range(0, threads)
                    .mapToObj(thread -> pool.submit(() -> {
                        List<String> acknowledged = new ArrayList<>();
                        start.await();
                        for (int i = 0; i < 10_000; i++) {
                            String id = thread + "/" + i;
                            try {
                                store.append(batch(id, "loki")).join();
                            } catch (IllegalStateException e) {
                                return acknowledged;
                            } catch (CompletionException e) {
                                assertThat(e.getCause())
                                        .isInstanceOfAny(IllegalStateException.class, BatchPersistenceException.class);
                                return acknowledged;
                            }
                            acknowledged.add(id);
                        }
                        return acknowledged;
                    }))
                    .toList();
            start.await();
            while (store.stats().batches() < 20) {
                Thread.onSpinWait();
            }
            BatchStore leaving = store;
            leaving.close();
            List<String> acknowledged = new ArrayList<>();
            for (Future<List<String>> future : futures) {
                acknowledged.addAll(future.get());
            }
            openAgain();
            assertThat(listed(ALL)).containsExactlyInAnyOrderElementsOf(acknowledged);
        } finally {
            pool.shutdownNow();
        }
    }
}
