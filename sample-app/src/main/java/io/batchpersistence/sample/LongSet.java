package io.batchpersistence.sample;

import java.security.SecureRandom;

/** Hashes in 8 to 16 bytes each. Open addressing; not thread-safe. */
final class LongSet {

    /** Secret, so that a sender can't choose values that collide in the table. */
    private final long key = new SecureRandom().nextLong() | 1;

    private long[] table = new long[1024];
    private int size;
    private boolean hasZero;

    /**
     * Adds a value.
     *
     * @return {@code false} if the set contained it already
     */
    boolean add(long value) {
        if (value == 0) {
            boolean added = !hasZero;
            hasZero = true;
            return added;
        }
        if (size >= table.length / 4 * 3) {
            long[] old = table;
            table = new long[old.length * 2];
            for (long each : old) {
                if (each != 0) {
                    insert(each);
                }
            }
        }
        boolean added = insert(value);
        if (added) {
            size++;
        }
        return added;
    }

    private boolean insert(long value) {
        int mask = table.length - 1;
        int i = home(value, mask);
        while (table[i] != 0) {
            if (table[i] == value) {
                return false;
            }
            i = (i + 1) & mask;
        }
        table[i] = value;
        return true;
    }

    boolean contains(long value) {
        if (value == 0) {
            return hasZero;
        }
        int mask = table.length - 1;
        int i = home(value, mask);
        while (table[i] != 0) {
            if (table[i] == value) {
                return true;
            }
            i = (i + 1) & mask;
        }
        return false;
    }

    private int home(long value, int mask) {
        return (int) ((value * key) >>> 32) & mask;
    }

    int size() {
        return hasZero ? size + 1 : size;
    }
}
