package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BatchIndexTest {

    /** What the index should know of a batch. */
    private static final class Expected {
        final int slot;
        final RecordPointer pointer;
        final int idHash;
        final int type;
        long since;
        long due;
        BatchState state;
        int retries;

        @Nullable
        String reason;

        Expected(int slot, RecordPointer pointer, int idHash, int type, long since, long due, BatchState state) {
            this.slot = slot;
            this.pointer = pointer;
            this.idHash = idHash;
            this.type = type;
            this.since = since;
            this.due = due;
            this.state = state;
        }

        long sequence() {
            return pointer.sequence();
        }
    }

    private final BatchIndex index = new BatchIndex();
    private final BatchIndex.Type[] types = {index.type("a"), index.type("b"), index.type("c")};
    private final List<Expected> held = new ArrayList<>();
    /** By type: waiting and due, by due time, and by age. A fast model to compare the heaps with. */
    private final List<TreeSet<Expected>> pending = new ArrayList<>();

    private long sequence;
    private long now = 1_000;

    BatchIndexTest() {
        for (int i = 0; i < types.length; i++) {
            pending.add(new TreeSet<>(Comparator.comparingLong(Expected::sequence)));
        }
    }

    /**
     * {@code hashes} is the number of different hashes. Few hashes make long runs in the table, which removal must not
     * break.
     */
    @ParameterizedTest
    @ValueSource(ints = {7, 300, Integer.MAX_VALUE})
    void agrees_with_plain_collections(int hashes) {
        Random random = new Random(hashes);
        for (int step = 0; step < 20_000; step++) {
            now += random.nextInt(3);
            int dice = random.nextInt(100);
            // Grows, shrinks and grows again, to reuse slots and heap space.
            int adding = step / 4_000 % 2 == 0 ? 45 : 15;
            if (dice < adding || held.isEmpty()) {
                add(random, random.nextInt(hashes));
            } else if (dice < 60) {
                remove(random.nextInt(held.size()));
            } else if (dice < 80) {
                change(random, held.get(random.nextInt(held.size())));
            } else {
                claim(random);
            }
            if (step % 500 == 0) {
                compareAll();
            }
        }
        compareAll();
        while (!held.isEmpty()) {
            remove(random.nextInt(held.size()));
        }
        compareAll();
    }

    private void add(Random random, int idHash) {
        RecordPointer pointer =
                new RecordPointer(++sequence, random.nextInt(100), random.nextInt(1 << 20), 1 + random.nextInt(99));
        int type = random.nextInt(types.length);
        int slot = index.add(pointer, idHash, entries(pointer), types[type], now, now + 50);
        held.add(new Expected(slot, pointer, idHash, type, now, now + 50, BatchState.IN_FLIGHT));
    }

    private void remove(int at) {
        Expected gone = held.get(at);
        held.set(at, held.get(held.size() - 1));
        held.remove(held.size() - 1);
        assertThat(index.holds(gone.slot, gone.sequence())).isTrue();
        index.remove(gone.slot);
        pending.get(gone.type).remove(gone);
        assertThat(index.holds(gone.slot, gone.sequence())).isFalse();
    }

    private void change(Random random, Expected of) {
        long due = random.nextInt(5) == 0 ? BatchIndex.NEVER : now + random.nextInt(100);
        switch (of.state) {
            case IN_FLIGHT -> {
                of.reason = random.nextBoolean() ? "reason " + random.nextInt(50) : null;
                of.retries++;
                index.noteFailure(of.slot, now, of.retries, of.reason);
                if (random.nextInt(3) == 0) {
                    index.markDead(of.slot, now);
                    of.state = BatchState.DEAD;
                    of.since = now;
                    of.due = BatchIndex.NEVER;
                } else {
                    markPending(of, due);
                }
            }
            case PENDING -> markPending(of, due);
            case DEAD -> {
                index.replay(of.slot, now, now);
                of.since = now;
                of.retries = 0;
                of.due = now;
                of.state = BatchState.PENDING;
                pending.get(of.type).add(of);
            }
            default -> throw new AssertionError(of.state);
        }
    }

    private void markPending(Expected of, long due) {
        index.markPending(of.slot, due);
        of.state = BatchState.PENDING;
        of.due = due;
        pending.get(of.type).add(of);
    }

    private void claim(Random random) {
        int type = random.nextInt(types.length);
        BatchOrder order = random.nextBoolean() ? BatchOrder.OLDEST_FIRST : BatchOrder.NEWEST_FIRST;
        Stream<Expected> inOrder = order == BatchOrder.OLDEST_FIRST
                ? pending.get(type).stream()
                : pending.get(type).descendingSet().stream();
        Expected expected = inOrder.filter(each -> each.due <= now).findFirst().orElse(null);
        int slot = index.nextDue(types[type], order, now);
        assertThat(slot).isEqualTo(expected == null ? BatchIndex.NONE : expected.slot);
        if (expected != null) {
            index.markInFlight(slot, now + 50);
            expected.state = BatchState.IN_FLIGHT;
            expected.due = now + 50;
            pending.get(type).remove(expected);
        }
    }

    private void compareAll() {
        assertThat(index.size()).isEqualTo(held.size());
        Map<Integer, Set<Integer>> byHash = new HashMap<>();
        for (Expected each : held) {
            assertThat(index.location(each.slot)).isEqualTo(each.pointer);
            assertThat(index.state(each.slot)).isEqualTo(each.state);
            assertThat(index.due(each.slot)).isEqualTo(each.due);
            assertThat(index.since(each.slot)).isEqualTo(each.since);
            assertThat(index.retries(each.slot)).isEqualTo(each.retries);
            assertThat(index.reason(each.slot)).isEqualTo(each.reason);
            assertThat(index.typeOf(each.slot)).isSameAs(types[each.type]);
            assertThat(index.isHeld(each.slot))
                    .isEqualTo(each.state == BatchState.PENDING && each.due == BatchIndex.NEVER);
            byHash.computeIfAbsent(each.idHash, hash -> new HashSet<>()).add(each.slot);
        }
        byHash.forEach((hash, slots) -> {
            List<Integer> found = new ArrayList<>();
            index.candidates(hash, found::add);
            assertThat(found).containsExactlyInAnyOrderElementsOf(slots);
        });
        for (int type = 0; type < types.length; type++) {
            int number = type;
            List<Expected> of =
                    held.stream().filter(each -> each.type == number).toList();
            compareList(of.stream().filter(each -> each.state != BatchState.DEAD), types[type].live);
            compareList(of.stream().filter(each -> each.state == BatchState.DEAD), types[type].dead);
            compareTally(of.stream().filter(e -> e.state == BatchState.PENDING), types[type].pending);
            compareTally(of.stream().filter(e -> e.state == BatchState.IN_FLIGHT), types[type].inFlight);
            compareTally(of.stream().filter(e -> e.state == BatchState.DEAD), types[type].buried);
            assertThat(types[type].held()).isEqualTo(of.size());
        }
        assertThat(index.deadBytes())
                .isEqualTo(Stream.of(types).mapToLong(type -> type.buried.bytes).sum());
    }

    private static void compareTally(Stream<Expected> expected, BatchIndex.Tally tally) {
        List<RecordPointer> of = expected.map(each -> each.pointer).toList();
        assertThat(tally.batches).isEqualTo(of.size());
        assertThat(tally.entries)
                .isEqualTo(of.stream().mapToLong(BatchIndexTest::entries).sum());
        assertThat(tally.bytes)
                .isEqualTo(of.stream().mapToLong(RecordPointer::length).sum());
    }

    private static int entries(RecordPointer pointer) {
        return 1 + pointer.offset() % 50;
    }

    private void compareList(Stream<Expected> expected, BatchIndex.SlotList list) {
        List<Integer> slots = new ArrayList<>();
        list.forEach(slots::add);
        assertThat(slots)
                .containsExactlyInAnyOrderElementsOf(
                        expected.map(each -> each.slot).toList())
                .isSortedAccordingTo(Comparator.comparingLong(index::since));
        assertThat(list.size).isEqualTo(slots.size());
    }

    @Test
    void a_hundred_thousand_come_out_in_order_and_their_slots_are_used_again() {
        BatchIndex.Type type = types[0];
        int count = 100_000;
        int highest = 0;
        for (int round = 0; round < 2; round++) {
            Random random = new Random(round);
            for (int i = 0; i < count; i++) {
                int slot = index.add(new RecordPointer(++sequence, 0, 0, 1), random.nextInt(), 1, type, i, i);
                index.markPending(slot, random.nextInt(1_000));
                highest = Math.max(highest, slot);
            }
            assertThat(highest).isLessThan(count);
            long before = 0;
            for (long time = 0; time < 1_000; time += 100) {
                // The due times differ, but of the due ones the oldest comes first.
                before = 0;
                for (int slot; (slot = index.nextDue(type, BatchOrder.OLDEST_FIRST, time)) != BatchIndex.NONE; ) {
                    assertThat(index.due(slot)).isLessThanOrEqualTo(time);
                    assertThat(index.sequence(slot)).isGreaterThan(before);
                    before = index.sequence(slot);
                    index.remove(slot);
                }
            }
            while (index.size() > 0) {
                index.remove(index.nextDue(type, BatchOrder.NEWEST_FIRST, 1_000));
            }
            assertThat(type.pending.batches).isZero();
        }
    }

    @Test
    void restoring_in_another_order_than_that_of_age_is_put_right() {
        BatchIndex.Type type = types[0];
        long[] ages = {30, 10, 20, 10};
        List<Integer> slots = new ArrayList<>();
        for (long since : ages) {
            int slot = index.restore(new RecordPointer(++sequence, 0, 0, 1), 1, 1, type, 5, since);
            index.markPending(slot, 0);
            slots.add(slot);
        }

        assertThat(type.live.oldest()).isEqualTo(slots.get(1));

        List<Integer> found = new ArrayList<>();
        type.live.forEach(found::add);
        assertThat(found).containsExactly(slots.get(1), slots.get(3), slots.get(2), slots.get(0));
        assertThat(type.live.size).isEqualTo(4);
    }
}
