package io.batchpersistence;

import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What a store holds and has seen. Immutable; the numbers of one collector type belong to one moment.
 *
 * @param collectors by collector type
 * @param batches batches held, dead letters included
 * @param maxBatches their bound
 * @param diskUsage bytes of all files of the store
 * @param maxDiskUsage their bound
 * @param problem why the store cannot take batches at the moment, in words for a person; {@code null} if it can
 * @param writes what was written since the store was opened
 * @param instance this instance among those that share the store; {@code null} if it is nobody else's
 * @param fallback where batches are kept while they can't be kept where they should be; {@code null} without such a place
 * @param unreadable batches that were to be sent and could not be read; {@code null} if there are none
 */
public record BatchStats(
        Map<String, CollectorStats> collectors,
        long batches,
        long maxBatches,
        long diskUsage,
        long maxDiskUsage,
        @Nullable String problem,
        Writes writes,
        @Nullable Instance instance,
        @Nullable Fallback fallback,
        @Nullable Unreadable unreadable) {

    /**
     * Batches that can't be read at the moment, for want of memory or because of an error of the disk. They are not known to be
     * damaged: they stay, are counted as pending, and are tried again.
     *
     * @param batches how many
     * @param first which was the first, why, and when it is tried again, in words for a person
     */
    public record Unreadable(long batches, String first) {

        /** What it says is fit for one line. */
        public Unreadable {
            first = SingleLine.of(first);
        }
    }

    /**
     * A place where batches are kept for a time. They are among those of the statistics.
     *
     * @param place where that is
     * @param reason why new batches are kept there at the moment, in words for a person; {@code null} if they are not
     * @param problem why it can't take any; {@code null} if it can
     * @param batches batches that are still there, dead letters included
     * @param maxBatches their bound
     * @param diskUsage bytes of all files there
     * @param maxDiskUsage their bound
     */
    public record Fallback(
            String place,
            @Nullable String reason,
            @Nullable String problem,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage) {

        /** What it says is fit for one line. */
        public Fallback {
            reason = reason == null ? null : SingleLine.of(reason);
            problem = problem == null ? null : SingleLine.of(problem);
        }

        /**
         * How full it is.
         *
         * @return as {@link BatchStats#fillLevel}
         */
        public double fillLevel() {
            return BatchStats.fillLevel(batches, maxBatches, diskUsage, maxDiskUsage);
        }
    }

    /**
     * How a store has written since it was opened. All are sums that only grow.
     *
     * @param groups groups of batches, each written in one go, and where batches are forced, forced together (group commit)
     * @param groupNanos how long writing them took, forces included
     * @param batches batches in them that were stored
     * @param bytes of these batches' payloads
     * @param forces how often anything was forced to the device: groups, journals, directories
     * @param forceNanos how long that took
     */
    public record Writes(long groups, long groupNanos, long batches, long bytes, long forces, long forceNanos) {

        /** Nothing, or not known. */
        public static final Writes NONE = new Writes(0, 0, 0, 0, 0, 0);
    }

    /**
     * One of the instances of an application that share a store.
     *
     * @param name what operators know it by; need not be unique
     * @param number by which the store tells it from the others; 0 while it has none
     * @param alive how many give signs of life, this one included, as of its last one
     */
    public record Instance(String name, long number, int alive) {}

    /** Of a store of one instance that does not count what it writes; for the parameters see the record. */
    public BatchStats(
            Map<String, CollectorStats> collectors,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage,
            @Nullable String problem) {
        this(collectors, batches, maxBatches, diskUsage, maxDiskUsage, problem, Writes.NONE);
    }

    /** Of a store that keeps batches in one place; for the parameters see the record. */
    public BatchStats(
            Map<String, CollectorStats> collectors,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage,
            @Nullable String problem,
            Writes writes) {
        this(collectors, batches, maxBatches, diskUsage, maxDiskUsage, problem, writes, null, null, null);
    }

    /** Copies the map. */
    public BatchStats {
        collectors = Map.copyOf(collectors);
        problem = problem == null ? null : SingleLine.of(problem); // it may quote a path
    }

    /**
     * One collector type's numbers.
     *
     * @param collectorType its name
     * @return its numbers, all zero if it is not known
     */
    public CollectorStats collector(String collectorType) {
        return collectors.getOrDefault(collectorType, CollectorStats.NONE);
    }

    /**
     * All collector types together.
     *
     * @return the sum
     */
    public CollectorStats total() {
        return collectors.values().stream().reduce(CollectorStats.NONE, CollectorStats::plus);
    }

    /**
     * How full the store is.
     *
     * @return the larger of the shares of batches and of bytes in use, 0 to 1 (more if a bound was lowered)
     */
    public double fillLevel() {
        return fillLevel(batches, maxBatches, diskUsage, maxDiskUsage);
    }

    private static double fillLevel(long batches, long maxBatches, long bytes, long maxBytes) {
        return Math.max((double) batches / Math.max(1, maxBatches), (double) bytes / Math.max(1, maxBytes));
    }
}
