package io.batchpersistence.internal.store;

import java.util.Arrays;

/** A growing array of numbers. Not thread-safe. */
public final class LongList {

    private long[] values = new long[16];
    private int size;

    /**
     * Adds a number at the end.
     *
     * @param value any
     */
    public void add(long value) {
        if (size == values.length) {
            values = Arrays.copyOf(values, size * 2);
        }
        values[size++] = value;
    }

    /** Sorts them in ascending order, as {@link #contains} needs it. */
    void sort() {
        Arrays.sort(values, 0, size);
    }

    boolean contains(long value) {
        return Arrays.binarySearch(values, 0, size, value) >= 0;
    }

    /**
     * Returns how many there are.
     *
     * @return not negative
     */
    public int size() {
        return size;
    }

    /**
     * Copies the numbers.
     *
     * @return in order
     */
    public long[] toArray() {
        return Arrays.copyOf(values, size);
    }
}
