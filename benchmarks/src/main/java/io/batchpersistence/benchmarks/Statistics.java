package io.batchpersistence.benchmarks;

import java.util.Arrays;
import java.util.Collection;

/** Computes the summary values of many measurements. */
final class Statistics {

    private Statistics() {}

    /** The median, or the mean of the two middle values; NaN if there are none. */
    static double median(Collection<Double> values) {
        double[] sorted =
                values.stream().mapToDouble(Double::doubleValue).sorted().toArray();
        if (sorted.length == 0) {
            return Double.NaN;
        }
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    static double min(Collection<Double> values) {
        return values.stream().mapToDouble(Double::doubleValue).min().orElse(Double.NaN);
    }

    static double max(Collection<Double> values) {
        return values.stream().mapToDouble(Double::doubleValue).max().orElse(Double.NaN);
    }

    /**
     * Nearest rank: the smallest value that at least this share of all values does not exceed.
     *
     * @param values in any order; not changed
     * @param percent above 0, at most 100
     * @return the percentile; NaN if there are no values
     */
    static double percentile(long[] values, double percent) {
        long[] sorted = values.clone();
        Arrays.sort(sorted);
        return percentileOfSorted(sorted, percent);
    }

    static double percentileOfSorted(long[] sorted, double percent) {
        if (sorted.length == 0) {
            return Double.NaN;
        }
        // Round first: 99.9 % of 1,000 is not exactly 999 in floating point.
        int rank = (int) Math.ceil(Math.round(percent * sorted.length * 1e6) / 1e6 / 100);
        return sorted[Math.max(1, Math.min(rank, sorted.length)) - 1];
    }

    /** A growing list of durations, for one thread. */
    static final class Durations {
        private long[] nanos = new long[1 << 12];
        private int size;

        void add(long duration) {
            if (size == nanos.length) {
                nanos = Arrays.copyOf(nanos, size * 2);
            }
            nanos[size++] = duration;
        }

        int size() {
            return size;
        }

        long[] toArray() {
            return Arrays.copyOf(nanos, size);
        }
    }

    /** All durations, sorted. */
    static long[] sorted(Collection<Durations> durations) {
        long[] all = new long[durations.stream().mapToInt(Durations::size).sum()];
        int at = 0;
        for (Durations some : durations) {
            System.arraycopy(some.nanos, 0, all, at, some.size);
            at += some.size;
        }
        Arrays.sort(all);
        return all;
    }
}
