package io.batchpersistence.internal.store;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * States of batches by sequence, for opening a store: there may be a million of them, and the heap must hold them
 * beside the index that is being built. About 60 bytes each, in primitive arrays. Not thread-safe.
 */
final class PersistedStateTable {

    private static final int PAGE_BITS = 12;
    private static final int PAGE_SIZE = 1 << PAGE_BITS;
    private static final int REMOVED = -1;
    /** Longs of one row: sequence, since, last attempt, due. */
    private static final int LONGS = 4;
    /** Ints of one row: retries, reason (-1: none), dead (0 or 1; {@value #REMOVED}: the row is removed). */
    private static final int INTS = 3;

    private final List<long[]> longs = new ArrayList<>();
    private final List<int[]> ints = new ArrayList<>();
    private final List<String> reasons = new ArrayList<>();
    private final Map<String, Integer> reasonNumbers = new HashMap<>();
    private int rows;
    /** Row plus one by hash of the sequence; linear probing. Removed rows stay where they are. */
    private int[] table = new int[1 << 10];

    void put(long sequence, PersistedState persistedState) {
        int row = row(sequence);
        if (row < 0) {
            row = rows++;
            if (row >> PAGE_BITS == longs.size()) {
                longs.add(new long[PAGE_SIZE * LONGS]);
                ints.add(new int[PAGE_SIZE * INTS]);
            }
            long[] page = longs.get(row >> PAGE_BITS);
            page[(row & PAGE_SIZE - 1) * LONGS] = sequence;
            if (rows * 2L > table.length) {
                table = new int[table.length * 2];
                for (int other = 0; other < row; other++) {
                    link(other);
                }
            }
            link(row);
        }
        long[] page = longs.get(row >> PAGE_BITS);
        int at = (row & PAGE_SIZE - 1) * LONGS;
        page[at + 1] = persistedState.since();
        page[at + 2] = persistedState.lastAttempt();
        page[at + 3] = persistedState.due();
        int[] small = ints.get(row >> PAGE_BITS);
        int smallAt = (row & PAGE_SIZE - 1) * INTS;
        small[smallAt] = persistedState.retries();
        small[smallAt + 1] = number(persistedState.reason());
        small[smallAt + 2] = persistedState.dead() ? 1 : 0;
    }

    private int number(@Nullable String reason) {
        if (reason == null) {
            return -1;
        }
        Integer number = reasonNumbers.get(reason);
        if (number == null) {
            number = reasons.size();
            reasons.add(reason);
            reasonNumbers.put(reason, number);
        }
        return number;
    }

    void remove(long sequence) {
        int row = row(sequence);
        if (row >= 0) {
            ints.get(row >> PAGE_BITS)[(row & PAGE_SIZE - 1) * INTS + 2] = REMOVED;
        }
    }

    @Nullable
    PersistedState get(long sequence) {
        int row = row(sequence);
        if (row < 0) {
            return null;
        }
        int[] small = ints.get(row >> PAGE_BITS);
        int smallAt = (row & PAGE_SIZE - 1) * INTS;
        if (small[smallAt + 2] == REMOVED) {
            return null;
        }
        long[] page = longs.get(row >> PAGE_BITS);
        int at = (row & PAGE_SIZE - 1) * LONGS;
        int reason = small[smallAt + 1];
        return new PersistedState(
                small[smallAt + 2] == 1,
                page[at + 1],
                small[smallAt],
                page[at + 2],
                page[at + 3],
                reason < 0 ? null : reasons.get(reason));
    }

    private long sequence(int row) {
        return longs.get(row >> PAGE_BITS)[(row & PAGE_SIZE - 1) * LONGS];
    }

    private int row(long sequence) {
        int mask = table.length - 1;
        for (int i = home(sequence, mask); table[i] != 0; i = (i + 1) & mask) {
            if (sequence(table[i] - 1) == sequence) {
                return table[i] - 1;
            }
        }
        return -1;
    }

    private void link(int row) {
        int mask = table.length - 1;
        int i = home(sequence(row), mask);
        while (table[i] != 0) {
            i = (i + 1) & mask;
        }
        table[i] = row + 1;
    }

    private static int home(long sequence, int mask) {
        long mixed = sequence * 0x9E3779B97F4A7C15L;
        return (int) (mixed >>> 32) & mask;
    }
}
