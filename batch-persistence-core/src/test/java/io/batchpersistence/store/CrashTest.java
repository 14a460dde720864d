package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.Compression;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.PlantedDictionary;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.store.Ledger.Expectation;
import io.batchpersistence.store.Ledger.ExpectedState;
import io.batchpersistence.store.Ledger.Left;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Interrupts a store before every disk operation and in the middle of writes, as a kill or a power cut does. Opens each
 * result, which must match what callers were promised up to that moment, see {@link Ledger}. Interrupts the opening at
 * every operation as well.
 *
 * <p>Thread scheduling differs between runs. A seed therefore fixes the calls and the result of a power cut, but not
 * every moment.
 */
@ExtendWith(MutedLog.class)
@Tag("slow")
class CrashTest extends DiskStoreFixture {

    enum Scenario {
        /** Small segments that are created, sealed, deleted and compacted all the time. */
        SEGMENT(StoreKind.SEGMENT, 4 << 10, 0, 80, 100, 0.15),
        /** The same, compressed with a dictionary. */
        SEGMENT_WITH_DICTIONARY(StoreKind.SEGMENT, 4 << 10, 0, 80, 100, 0.15),
        /** Large segments that the maintenance thread prepares and seals. */
        LARGE_SEGMENT(StoreKind.SEGMENT, 1 << 20, 60_000, 60, 50, 0.1),
        JSON_FILES(StoreKind.JSON_FILES, 4 << 10, 0, 50, 70, 0.2);

        final StoreKind kind;
        final int segmentSize;
        final int padding;
        final int batches;
        /** The default number of operations to interrupt. */
        final int crashes;

        final double share;

        Scenario(StoreKind kind, int segmentSize, int padding, int batches, int crashes, double share) {
            this.kind = kind;
            this.segmentSize = segmentSize;
            this.padding = padding;
            this.batches = batches;
            this.crashes = crashes;
            this.share = share;
        }
    }

    /** The default number of failing operations, one per run. */
    private static final int CRASHES_OF_FAULTS = 30;

    private Scenario scenario;
    private Campaign campaign;

    /** Runs a campaign with that scenario. */
    private void run(String test, Scenario of, double share, int seeds, Campaign.Round round) throws Exception {
        scenario = of;
        Campaign.run("CrashTest#" + test + "[" + of + "]", share, seeds, begun -> {
            campaign = begun;
            return round;
        });
    }

    @ParameterizedTest
    @EnumSource
    void left_at_any_operation_it_has_what_was_promised(Scenario scenario) throws Exception {
        run("left_at_any_operation_it_has_what_was_promised", scenario, scenario.share, 1, this::crashEverywhere);
    }

    /** The disk before one of its operations. */
    private record Moment(MemoryDisk disk, int position) {}

    private MemoryDisk emptyDisk() {
        MemoryDisk disk = new MemoryDisk();
        if (scenario == Scenario.SEGMENT_WITH_DICTIONARY) {
            disk.put(directory.resolve(PlantedDictionary.FILE), PlantedDictionary.segment());
        }
        return disk;
    }

    private void crashEverywhere(long seed) {
        MemoryDisk disk = emptyDisk();
        Ledger ledger = new Ledger();
        List<Moment> moments = new ArrayList<>();
        disk.beforeChange(() -> moments.add(new Moment(disk.copy(), ledger.position())));
        StoreCalls calls = new StoreCalls(ledger, clock, scenario.padding);
        BatchStore store = open(scenario.kind, disk);
        new Workload(calls, store, scenario.batches, seed).run();
        store.close();
        disk.beforeChange(() -> {});
        moments.add(new Moment(disk.copy(), ledger.position()));
        campaign.count("crash points", moments.size());
        Random random = new Random(seed);
        int most = Campaign.isLong() ? 12 : 4;
        double share = Campaign.isLong() ? 1 : Math.min(1, scenario.crashes / (double) moments.size());
        for (int i = 0; i < moments.size(); i++) {
            Moment moment = moments.get(i);
            if (random.nextDouble() >= share * (isDelicate(moment) ? 3 : 1)) {
                continue;
            }
            String what = scenario + ", seed " + seed + ", operation " + i + " of " + moments.size();
            boolean deep = random.nextInt(Campaign.isLong() ? 30 : 50) == 0;
            Expectation killed = ledger.expectation(moment.position(), Left.KILLED, false);
            Expectation cut = ledger.expectation(moment.position(), Left.POWER_CUT, false);
            check(moment.disk().copy(), killed, cut, deep, what + ", killed");
            cutPower(moment.disk(), most, random, cut, deep, what + ", power cut ");
        }
    }

    /**
     * A single disk operation fails: a write after a part of it, or a force that drops its pages. Every acknowledged
     * change must be there: at once, after a kill, and after a power cut.
     */
    @ParameterizedTest
    @EnumSource
    void any_operation_may_fail_and_nothing_promised_is_lost(Scenario scenario) throws Exception {
        run(
                "any_operation_may_fail_and_nothing_promised_is_lost",
                scenario,
                scenario.share / 2,
                CRASHES_OF_FAULTS,
                this::failOnce);
    }

    private void failOnce(long seed) {
        Random random = new Random(seed);
        int number = 1 + random.nextInt(scenario == Scenario.LARGE_SEGMENT ? 250 : 350);
        MemoryDisk disk = emptyDisk();
        FaultyDisk faulty = new FaultyDisk(disk);
        Ledger ledger = new Ledger();
        String what = scenario + ", seed " + seed + ", operation " + number + " fails";
        faulty.failChange(number);
        reports.clear();
        BatchStore store = open(scenario.kind, faulty);
        MemoryDisk killed;
        try {
            StoreCalls calls = new StoreCalls(ledger, clock, scenario.padding);
            new Workload(calls, store, 16, seed).faulty().run();
            // The last batch may have been refused. Then the store reports a problem until it stores another.
            assertThat(calls.persist(store, "afterwards", "loki") || calls.persist(store, "after that", "loki"))
                    .as(what)
                    .isTrue();
            campaign.count("operations that failed", faulty.changes() >= number ? 1 : 0);
            new Promises(store, calls(), clock)
                    .check(ledger.expectation(ledger.position(), Left.RUNNING, false), Map.of(), 0, 0, what);
            assertThat(store.stats().problem()).as(what).isNull();
            assertThat(reports).as(what).isEmpty();
            killed = disk.copy();
        } finally {
            store.close();
        }
        Expectation owedKilled = ledger.expectation(ledger.position(), Left.KILLED, false);
        Expectation owedCut = ledger.expectation(ledger.position(), Left.POWER_CUT, false);
        check(killed.copy(), owedKilled, owedCut, false, what + ", then killed");
        cutPower(killed, 3, random, owedCut, false, what + ", then power cut ");
    }

    @Override
    protected DiskStoreOptions.Builder options() {
        return super.options()
                .segmentSize(scenario.segmentSize)
                .compression(scenario.padding > 0 ? Compression.NONE : Compression.ZSTD)
                .compactionRate(1L << 40);
    }

    /** Undecided file names are the most error-prone moments. For documents they are always undecided. */
    private boolean isDelicate(Moment moment) {
        return scenario.kind == StoreKind.SEGMENT && moment.disk().hasUndecidedMove();
    }

    /** Opens what power cuts may leave. */
    private void cutPower(MemoryDisk disk, int most, Random random, Expectation owed, boolean deep, String what) {
        int[] variant = new int[1];
        disk.powerCuts(most, random, left -> check(left, owed, owed, deep, what + variant[0]++));
    }

    /** Opens the disk and interrupts the opening at some operations. */
    private void check(
            MemoryDisk left, Expectation expectation, Expectation owedAfterPowerCut, boolean deep, String what) {
        campaign.count("states opened", 1);
        Random random = new Random(what.hashCode());
        if (random.nextInt(6) == 0) {
            openUnreadable(left, random);
        }
        List<MemoryDisk> again = new ArrayList<>();
        if (deep) {
            left.beforeChange(() -> again.add(left.copy()));
        }
        Map<String, ExpectedState> seen;
        reports.clear();
        BatchStore store = open(scenario.kind, left);
        try {
            seen = new Promises(store, calls(), clock).check(expectation, Map.of(), expectation.undecided(), 0, what);
            assertThat(reports.stream().mapToLong(Corruption::batches).sum())
                    .as("%s: %s", what, reports)
                    .isLessThanOrEqualTo(expectation.undecided());
            left.beforeChange(() -> {});
            if (deep) {
                goOn(store, left, seen, what);
            }
        } finally {
            left.beforeChange(() -> {});
            store.close();
        }
        for (int i = 0; i < again.size(); i++) {
            if (!Campaign.isLong() && random.nextInt(4) > 0) {
                continue;
            }
            campaign.count("crash points while opening", 1);
            String second = what + ", left again at operation " + i + " of the opening";
            check(again.get(i).copy(), expectation, owedAfterPowerCut, false, second + ", killed");
            cutPower(again.get(i), 3, random, owedAfterPowerCut, false, second + ", power cut ");
        }
    }

    /**
     * An unreadable file is available once it can be read again. An opening that fails or succeeds in the meantime
     * changes nothing.
     */
    private void openUnreadable(MemoryDisk left, Random random) {
        campaign.count("openings in which reads failed", 1);
        FaultyDisk faulty = new FaultyDisk(left);
        faulty.failLooks(1 + random.nextInt(40), 1 + random.nextInt(8));
        BatchStore opened = null;
        try {
            opened = open(scenario.kind, faulty);
        } catch (BatchPersistenceException e) {
            campaign.count("openings given up", 1);
        }
        faulty.heal();
        if (opened != null) {
            opened.close();
        }
    }

    /** What was found once must stay. New batches are safe: no number is used twice. */
    private void goOn(BatchStore store, MemoryDisk disk, Map<String, ExpectedState> seen, String what) {
        Ledger ledger = new Ledger();
        StoreCalls calls = new StoreCalls(ledger, clock, scenario.padding);
        check(calls.persist(store, "after the crash", "loki"));
        check(calls.persist(store, "delivered after the crash", "loki"));
        check(calls.deliver(store, "delivered after the crash"));
        check(calls.persist(store, "dead after the crash", "loki"));
        check(calls.fail(store, "dead after the crash", true, "400"));
        check(calls.replay(store, "dead after the crash"));
        MemoryDisk cut = disk.afterPowerCut();
        store.close();
        campaign.count("states opened", 1);
        reports.clear();
        try (BatchStore next = open(scenario.kind, cut)) {
            Map<String, ExpectedState> now = new Promises(next, calls(), clock).states();
            assertThat(now).as(what + ", next").containsAllEntriesOf(seen);
            assertThat(now)
                    .as(what + ", next")
                    .containsOnlyKeys(union(seen.keySet(), "after the crash", "dead after the crash"));
            assertThat(now.get("dead after the crash")).isEqualTo(ExpectedState.NEW);
            assertThat(reports)
                    .as(what + ", next")
                    .allSatisfy(report -> assertThat(report.batches()).isZero());
        }
    }

    private StoreCalls calls() {
        return new StoreCalls(new Ledger(), clock, scenario.padding);
    }

    private static void check(boolean done) {
        assertThat(done).isTrue();
    }

    private static Set<String> union(Set<String> ids, String... more) {
        Set<String> all = new HashSet<>(ids);
        all.addAll(List.of(more));
        return all;
    }

    /** All operations of a store, from several threads. */
    private static final class Workload {

        private final StoreCalls calls;
        private final BatchStore store;
        private final int batches;
        private final long seed;
        /** Whether disk operations may fail. */
        private boolean faulty;

        Workload(StoreCalls calls, BatchStore store, int batches, long seed) {
            this.calls = calls;
            this.store = store;
            this.batches = batches;
            this.seed = seed;
        }

        Workload faulty() {
            faulty = true;
            return this;
        }

        private void check(boolean done) {
            assertThat(done || faulty).isTrue();
        }

        void run() {
            CompletableFuture.allOf(
                            CompletableFuture.runAsync(this::waited),
                            CompletableFuture.runAsync(() -> groups("elasticsearch")),
                            CompletableFuture.runAsync(() -> groups("otlp")))
                    .join();
            operate();
        }

        /** Waits for each batch, and runs the calls of the store's recovery. */
        private void waited() {
            Random random = new Random(seed);
            List<String> left = new ArrayList<>();
            for (int i = 0; i < batches; i++) {
                String id = "waited " + i;
                check(calls.persist(store, id, "loki"));
                switch (random.nextInt(8)) {
                    case 0, 1, 2, 3 -> check(calls.deliver(store, id));
                    case 4 -> check(calls.fail(store, id, false, "503"));
                    case 5 -> check(calls.fail(store, id, true, "400"));
                    default -> left.add(id);
                }
                if (i % 10 == 9) {
                    calls.attempt(store, "loki", 2, random);
                }
                if (i % 20 == 19) {
                    if (!left.isEmpty()) {
                        check(calls.discard(store, left.remove(0)));
                    }
                    store.reclaim();
                }
            }
        }

        /** Persists four batches at a time and waits for them together. */
        private void groups(String type) {
            for (int i = 0; i < batches / 2; i += 4) {
                List<CompletableFuture<Boolean>> group = new ArrayList<>();
                List<String> ids = new ArrayList<>();
                for (int j = i; j < i + 4; j++) {
                    ids.add(type + " " + j);
                    group.add(calls.persistAsync(store, type + " " + j, type));
                }
                group.forEach(each -> check(each.join()));
                ids.subList(1, 4).forEach(id -> check(calls.deliver(store, id)));
                if (i % 16 == 0) {
                    check(calls.fail(store, ids.get(0), true, "400"));
                }
            }
        }

        /** Runs the operator's calls and expiry, with enough failure reasons to rotate the journal. */
        private void operate() {
            check(calls.persist(store, "troubled", "syslog"));
            check(calls.fail(store, "troubled", false, "x"));
            for (int i = 0; i < 80; i++) {
                for (Claim claim : calls.claim(store, "syslog", 1)) {
                    check(calls.failAgain(store, claim, false, i + " " + "x".repeat(4_000)));
                }
            }
            check(calls.persist(store, "old", "kafka"));
            check(calls.fail(store, "old", false, "503"));
            store.reclaim();
            check(calls.persist(store, "replayed", "kafka"));
            check(calls.fail(store, "replayed", true, "400"));
            check(calls.replay(store, "replayed"));
            check(calls.persist(store, "discarded", "kafka"));
            check(calls.discard(store, "discarded"));
            calls.expire(store, "kafka");
            check(calls.persist(store, "in the way", "kafka"));
            check(calls.fail(store, "in the way", true, "400"));
            calls.evict(store, 3);
            store.reclaim();
            for (int i = 0; i < 8; i++) {
                check(calls.persist(store, "last " + i, "kafka"));
            }
        }
    }
}
