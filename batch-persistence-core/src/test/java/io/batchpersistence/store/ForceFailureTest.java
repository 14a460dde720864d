package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A force fails once and drops its pages. The next force succeeds, which proves nothing about those pages. After a
 * power cut, acknowledged batches must be there and refused ones must not.
 */
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@ExtendWith(MutedLog.class)
class ForceFailureTest extends DiskStoreFixture {

    private static final String BROKEN = "Input/output error";
    private final MemoryDisk disk = new MemoryDisk();
    private final FaultyDisk faulty = new FaultyDisk(disk);
    /** States to open after the test, when the directory lock is free. */
    private final List<Left> lefts = new ArrayList<>();

    private record Left(StoreKind kind, MemoryDisk disk, List<String> ids) {}

    @Override
    protected DiskStoreOptions.Builder options() {
        // Only force on request.
        return super.options().segmentSize(4 << 10).compactionRate(1).syncInterval(Duration.ofDays(1));
    }

    private void assertRefused(BatchStore store) {
        assertThat(store.append(batch("refused")))
                .failsWithin(Duration.ofSeconds(30))
                .withThrowableThat()
                .withMessageContaining(BROKEN);
    }

    /** After every possible power cut at this moment, exactly these ids are there. */
    private void assertAfterPowerCut(StoreKind kind, MemoryDisk left, List<String> ids) {
        left.powerCuts(30, new Random(1), cut -> {
            try (BatchStore store = open(kind, cut)) {
                assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(ids);
                for (String id : ids) {
                    PersistedBatch batch = store.find(id).orElseThrow();
                    assertThat(batch.entries()).isEqualTo(GeneratedBatch.entries(id));
                }
                assertThat(store.stats().total().isBalanced()).isTrue();
                assertThat(store.stats().total().corrupt()).isZero();
            }
        });
        assertThat(reports).allSatisfy(report -> assertThat(report.batches()).isZero());
    }

    @ParameterizedTest
    @EnumSource
    void of_payloads_tells_who_waited_and_the_next_batch_is_safe(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "before");
            faulty.fail(Operation.FORCE, kind.payload, BROKEN).times(1);
            assertRefused(store);
            assertThat(store.stats().problem()).contains(BROKEN);
            append(store, "after");
            assertThat(store.stats().problem()).isNull();
            assertThat(store.find("refused")).isEmpty();
            assertAfterPowerCutOf(store, kind, "before", "after");
            // The caller retries.
            append(store, "refused");
            assertAfterPowerCutOf(store, kind, "before", "after", "refused");
        }
    }

    private void assertAfterPowerCutOf(BatchStore store, StoreKind kind, String... ids) {
        assertThat(store.count(ALL, clock.instant())).isEqualTo(ids.length);
        lefts.add(new Left(kind, disk.copy(), List.of(ids)));
    }

    @AfterEach
    void what_was_left_has_it() {
        assertThat(lefts).isNotEmpty();
        for (Left left : lefts) {
            assertAfterPowerCut(left.kind(), left.disk(), left.ids());
        }
    }

    @ParameterizedTest
    @EnumSource
    void of_the_directory_refuses_and_the_next_batch_is_safe(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            faulty.fail(Operation.FORCE_DIRECTORY, "", BROKEN).times(1);
            assertRefused(store);
            append(store, "after");
            assertAfterPowerCutOf(store, kind, "after");
        }
    }

    @ParameterizedTest
    @EnumSource
    void of_the_journal_costs_no_mark(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "delivered", "dead", "discarded", "failed");
            assertThat(store.delivered("delivered")).isNotNull();
            settle(store, "dead", true);
            settle(store, "failed", false);
            faulty.fail(Operation.FORCE, ".journal", BROKEN).times(1);
            // Forces the journal.
            assertThat(store.discard(ALL.ids("discarded"), clock.instant())).isOne();
            assertThat(store.stats().problem()).isNull();
            lefts.add(new Left(kind, disk.copy(), List.of("dead", "failed")));
        }
        try (BatchStore store = open(kind, lefts.get(0).disk().afterPowerCut())) {
            assertThat(store.find("dead").orElseThrow().state()).isEqualTo(BatchState.DEAD);
            assertThat(store.find("failed").orElseThrow().retryCount()).isOne();
            assertThat(store.stats().total().delivered()).isOne();
            assertThat(store.stats().total().discarded()).isOne();
        }
    }

    /** No force fails here: the reference for the other tests. */
    @ParameterizedTest
    @EnumSource
    void that_works_makes_all_marks_up_to_it_durable(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "delivered", "dead", "replayed", "discarded", "failed");
            assertThat(store.delivered("delivered")).isNotNull();
            settle(store, "dead", true);
            settle(store, "replayed", true);
            settle(store, "failed", false);
            // Forces the journal.
            assertThat(store.discard(ALL.ids("discarded"), clock.instant())).isOne();
            lefts.add(new Left(kind, disk.copy(), List.of("dead", "failed", "replayed")));
            // Forces the journal, too.
            assertThat(store.replay(ALL.ids("replayed"), clock.instant())).isOne();
            lefts.add(new Left(kind, disk.copy(), List.of("dead", "failed", "replayed")));
        }
        for (int i = 0; i < 2; i++) {
            try (BatchStore store = open(kind, lefts.get(i).disk().afterPowerCut())) {
                assertThat(store.find("dead").orElseThrow().state()).isEqualTo(BatchState.DEAD);
                assertThat(store.find("failed").orElseThrow().retryCount()).isOne();
                assertThat(store.find("replayed").orElseThrow().state())
                        .isEqualTo(i == 0 ? BatchState.DEAD : BatchState.PENDING);
                assertThat(store.stats().total().delivered()).isOne();
                assertThat(store.stats().total().discarded()).isOne();
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void of_a_snapshot_leaves_the_one_before_in_force(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "dead");
            settle(store, "dead", true);
            append(store, "delivered");
            assertThat(store.delivered("delivered")).isNotNull();
        }
        faulty.fail(Operation.FORCE, ".tmp", BROKEN).times(1);
        try (BatchStore store = open(kind, faulty)) {
            assertThat(store.find("dead").orElseThrow().state()).isEqualTo(BatchState.DEAD);
            lefts.add(new Left(kind, disk.copy(), List.of("dead")));
        }
    }

    @ParameterizedTest
    @EnumSource
    void while_no_force_works_everything_is_refused_and_it_is_told(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "before");
            faulty.fail(Operation.FORCE, "", BROKEN);
            for (int i = 0; i < 5; i++) {
                assertThat(store.append(batch("refused " + i))).failsWithin(Duration.ofSeconds(30));
                assertThat(store.stats().problem()).contains(BROKEN);
            }
            // A mark that cannot be written still counts.
            assertThat(store.delivered("before")).isNotNull();
            assertThat(store.count(ALL, clock.instant())).isZero();
            faulty.heal();
            append(store, "after");
            store.reclaim();
            assertThat(store.stats().problem()).isNull();
            assertAfterPowerCutOf(store, kind, "after");
        }
    }

    @ParameterizedTest
    @EnumSource
    void of_the_journal_is_made_good_by_the_next_cleanup_however_soon(StoreKind kind) {
        try (BatchStore store = open(kind, faulty)) {
            append(store, "replayed");
            settle(store, "replayed", true);
            faulty.failSome(1, new Random(1), operation -> operation == Operation.FORCE);
            // Forces the journal.
            assertThat(store.replay(ALL.ids("replayed"), clock.instant())).isOne();
            assertThat(store.stats().problem()).contains("marks can't be written");
            faulty.heal();
            store.reclaim();
            assertThat(store.stats().problem()).isNull();
            assertAfterPowerCutOf(store, kind, "replayed");
        }
    }

    /** The journal has the marks. The documents, which take precedence, are not durable until the next force. */
    @Test
    void of_the_directory_for_renamed_documents_is_a_problem_until_the_next_one() {
        StoreKind kind = StoreKind.JSON_FILES;
        try (BatchStore store = open(kind, faulty)) {
            append(store, "replayed");
            settle(store, "replayed", true);
            faulty.fail(Operation.FORCE_DIRECTORY, "", BROKEN).times(1);
            // Forces the journal.
            assertThat(store.replay(ALL.ids("replayed"), clock.instant())).isOne();
            assertThat(store.stats().problem()).contains(BROKEN);
            store.reclaim();
            assertThat(store.stats().problem()).isNull();
            lefts.add(new Left(kind, disk.copy(), List.of("replayed")));
        }
        try (BatchStore store = open(kind, lefts.get(0).disk().afterPowerCut())) {
            assertThat(store.find("replayed").orElseThrow().state()).isEqualTo(BatchState.PENDING);
        }
    }

    /**
     * The disk cannot remove a refused batch, and the process is killed. If the next process finds the batch, the batch
     * must be durable.
     */
    @ParameterizedTest
    @EnumSource
    void whose_bytes_outlive_the_process_deceives_no_one(StoreKind kind) {
        MemoryDisk killed;
        try (BatchStore store = open(kind, faulty)) {
            append(store, "before");
            faulty.failSome(1, new Random(1), operation -> operation != Operation.WRITE);
            assertThat(store.append(batch("refused"))).failsWithin(Duration.ofSeconds(30));
            killed = disk.copy();
            faulty.heal();
        }
        try (BatchStore store = open(kind, killed)) {
            lefts.add(new Left(kind, killed.copy(), ids(store)));
        }
    }

    private void settle(BatchStore store, String id, boolean dead) {
        fail(store, id, "503", new BatchStore.Verdict(dead, null, 1));
    }
}
