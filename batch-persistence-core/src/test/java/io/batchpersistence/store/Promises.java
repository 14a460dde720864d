package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.Ledger.End;
import io.batchpersistence.store.Ledger.Expectation;
import io.batchpersistence.store.Ledger.ExpectedState;
import io.batchpersistence.test.ManualClock;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.ToLongFunction;

/**
 * Checks whether a store keeps its promises: every owed batch is complete and in its state, no other is there, and the
 * counters balance.
 */
record Promises(BatchStore store, StoreCalls calls, ManualClock clock) {

    private static final String UNKNOWN = "unknown";

    /** The states of the stored batches, by key. */
    Map<String, ExpectedState> states() {
        return states(held());
    }

    private static Map<String, ExpectedState> states(Map<String, PersistedBatch> held) {
        Map<String, ExpectedState> standings = new HashMap<>();
        held.forEach((key, batch) ->
                standings.put(key, new ExpectedState(null, batch.state() == BatchState.DEAD, batch.retryCount())));
        return standings;
    }

    /** The content of a batch shows which of the batches with that id it is. */
    private Map<String, PersistedBatch> held() {
        Map<String, PersistedBatch> held = new HashMap<>();
        Set<String> ids = new HashSet<>();
        for (BatchSummary summary : store.list(BatchSelector.all(), clock.instant())) {
            String id = summary.id();
            assertThat(ids.add(id)).as(id + " is there once").isTrue();
            Optional<PersistedBatch> batch = store.find(id);
            assertThat(batch).as(id + " can be read").isPresent();
            held.put(GeneratedBatch.key(batch.orElseThrow()), batch.orElseThrow());
        }
        return held;
    }

    /**
     * Fails if a promise is broken.
     *
     * @param carried the counters at the start of the ledger
     * @param mayBeReported how many batches may be reported as lost although they were not
     * @param mayBeForgotten how many settled batches may be missing in all counters
     * @return the states of the batches
     */
    Map<String, ExpectedState> check(
            Expectation expectation,
            Map<String, CollectorStats> carried,
            long mayBeReported,
            long mayBeForgotten,
            String what) {
        Map<String, PersistedBatch> read = held();
        Map<String, ExpectedState> held = states(read);
        for (Expectation.Batch batch : expectation.batches().values()) {
            ExpectedState state = held.get(batch.id());
            if (state == null) {
                assertThat(batch.mustBeHeld()).as("%s: %s is lost", what, batch).isFalse();
            } else {
                assertThat(batch.mayStand(state.dead(), state.retries()))
                        .as("%s: %s stands as %s", what, batch, state)
                        .isTrue();
            }
        }
        assertThat(expectation.batches().keySet()).as(what).containsAll(held.keySet());
        read.forEach((key, batch) -> {
            assertThat(batch.id()).as(what + ": " + key).isEqualTo(StoreCalls.id(key));
            assertThat(batch.entries().equals(calls.entries(key)))
                    .as(what + ": " + key)
                    .isTrue();
            assertThat(batch.context()).as(what + ": " + key).isEqualTo(GeneratedBatch.context(key));
        });
        checkBooks(
                store.stats().collectors(), expectation, held.keySet(), carried, mayBeReported, mayBeForgotten, what);
        return held;
    }

    /**
     * A power cut can lose the frame of the journal that names a collector type and keep a later frame that uses the
     * name. Then the outcome of these batches is known, but not their type. It can also lose marks and keep later
     * counters that include them. Then these batches are sent again, and counted twice.
     */
    private static void checkBooks(
            Map<String, CollectorStats> stats,
            Expectation expectation,
            Set<String> held,
            Map<String, CollectorStats> carried,
            long mayBeReported,
            long mayBeForgotten,
            String what) {
        Set<String> types = new HashSet<>(expectation.types());
        types.addAll(carried.keySet());
        types.add(UNKNOWN);
        assertThat(types).as(what).containsAll(stats.keySet());
        stats.forEach((type, of) -> {
            assertThat(of.isBalanced()).as("%s: %s: %s", what, type, of).isTrue();
        });
        assertThat(sum(stats, CollectorStats::corrupt) - sum(carried, CollectorStats::corrupt))
                .as("%s: lost: %s", what, stats)
                .isLessThanOrEqualTo(mayBeReported);
        Map<End, ToLongFunction<CollectorStats>> ends = Map.of(
                End.DELIVERED, CollectorStats::delivered,
                End.EXPIRED, CollectorStats::expired,
                End.EVICTED, CollectorStats::evicted,
                End.DISCARDED, CollectorStats::discarded);
        CollectorStats unknown = stats.getOrDefault(UNKNOWN, CollectorStats.NONE);
        for (String type : expectation.types()) {
            CollectorStats of = stats.getOrDefault(type, CollectorStats.NONE);
            CollectorStats before = carried.getOrDefault(type, CollectorStats.NONE);
            assertThat(of.accepted() - before.accepted())
                    .as("%s: %s accepted, %s unknown: %s", what, type, unknown.accepted(), of)
                    .isBetween(
                            expectation.accepted(type) - unknown.accepted() - mayBeForgotten,
                            expectation.maybeAccepted(type) + expectation.again(type, held));
            ends.forEach((end, count) -> assertThat(count.applyAsLong(of) - count.applyAsLong(before))
                    .as("%s: %s %s, %s unknown: %s", what, type, end, count.applyAsLong(unknown), of)
                    .isBetween(
                            expectation.ended(type, end) - count.applyAsLong(unknown) - mayBeForgotten,
                            expectation.maybeEnded(type, end)));
        }
        assertThat(sum(stats, CollectorStats::accepted) - sum(carried, CollectorStats::accepted))
                .as("%s: accepted: %s", what, stats)
                .isBetween(
                        expectation.types().stream()
                                        .mapToLong(expectation::accepted)
                                        .sum()
                                - mayBeForgotten,
                        expectation.types().stream()
                                .mapToLong(type -> expectation.maybeAccepted(type) + expectation.again(type, held))
                                .sum());
    }

    private static long sum(Map<String, CollectorStats> stats, ToLongFunction<CollectorStats> count) {
        return stats.values().stream().mapToLong(count).sum();
    }
}
