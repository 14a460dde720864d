package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What a store holds and has processed. Immutable; the numbers of one collector type are from the same moment.
 *
 * @param collectors by collector type
 * @param batches batches held, dead letters included
 * @param maxBatches limit of batches
 * @param diskUsage bytes of all files of the store
 * @param maxDiskUsage limit of these bytes
 * @param problem why the store cannot take batches at the moment, in words for humans; {@code null} if it can
 * @param writes what was written since the store was opened
 * @param instance this instance among those that share the store; {@code null} if the store is not shared
 * @param fallback the place where batches are kept while the store proper is unavailable; {@code null} if there is none
 * @param unreadable batches that were due but could not be read; {@code null} if there are none
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
     * Batches that can't be read at the moment, because of a lack of memory or a disk error. They are not known to be
     * damaged: they stay, are counted as pending, and are tried again.
     *
     * @param batches how many
     * @param first which batch was the first, why, and when it is tried again, in words for humans
     */
    public record Unreadable(long batches, String first) {

        /** Makes the text fit for one line. */
        public Unreadable {
            first = LogSanitizer.of(first);
        }
    }

    /**
     * A place where batches are kept temporarily. The statistics include them.
     *
     * @param place its location
     * @param reason why new batches are kept there at the moment, in words for humans; {@code null} if they are not
     * @param problem why it can't accept batches; {@code null} if it can
     * @param batches batches that are still there, dead letters included
     * @param maxBatches limit of batches
     * @param diskUsage bytes of all files there
     * @param maxDiskUsage limit of these bytes
     */
    public record Fallback(
            String place,
            @Nullable String reason,
            @Nullable String problem,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage) {

        /** Makes the texts fit for one line. */
        public Fallback {
            reason = reason == null ? null : LogSanitizer.of(reason);
            problem = problem == null ? null : LogSanitizer.of(problem);
        }

        /**
         * How full it is.
         *
         * @return the larger of the shares of batches and of bytes in use, 0 to 1 (more if a limit was lowered)
         */
        public double fillLevel() {
            return BatchStats.fillLevel(batches, maxBatches, diskUsage, maxDiskUsage);
        }
    }

    /**
     * What a store has written since it was opened. All values are sums that only grow.
     *
     * @param groups groups of batches, each written at once and, if forced, forced together (group commit)
     * @param groupNanos how long writing the groups took, forces included
     * @param batches batches in these groups that were stored
     * @param bytes payload bytes of these batches
     * @param forces how often anything was forced to the device: groups, journals, directories
     * @param forceNanos how long forcing took
     */
    public record Writes(long groups, long groupNanos, long batches, long bytes, long forces, long forceNanos) {

        /** Nothing was written, or it is not known. */
        public static final Writes NONE = new Writes(0, 0, 0, 0, 0, 0);
    }

    /**
     * One of the instances of an application that share a store.
     *
     * @param name its name for operators; need not be unique
     * @param number identifies it in the store; 0 while it has none
     * @param alive how many instances are alive, this one included, as of its last heartbeat
     */
    public record Instance(String name, long number, int alive) {}

    /**
     * Creates the statistics of a store of one instance that does not count what it writes; for the parameters see the
     * record.
     */
    public BatchStats(
            Map<String, CollectorStats> collectors,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage,
            @Nullable String problem) {
        this(collectors, batches, maxBatches, diskUsage, maxDiskUsage, problem, Writes.NONE);
    }

    /** Creates the statistics of a store that keeps batches in one place; for the parameters see the record. */
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

    /** Copies the map, and makes the problem fit for one line. */
    public BatchStats {
        collectors = Map.copyOf(collectors);
        // It may quote a path.
        problem = problem == null ? null : LogSanitizer.of(problem);
    }

    /**
     * Returns one collector type's numbers.
     *
     * @param collectorType its name
     * @return its numbers, all zero if it is not known
     */
    public CollectorStats collector(String collectorType) {
        return collectors.getOrDefault(collectorType, CollectorStats.NONE);
    }

    /**
     * Returns the numbers of all collector types together.
     *
     * @return the sum
     */
    public CollectorStats total() {
        return collectors.values().stream().reduce(CollectorStats.NONE, CollectorStats::plus);
    }

    /**
     * How full the store is.
     *
     * @return the larger of the shares of batches and of bytes in use, 0 to 1 (more if a limit was lowered)
     */
    public double fillLevel() {
        return fillLevel(batches, maxBatches, diskUsage, maxDiskUsage);
    }

    private static double fillLevel(long batches, long maxBatches, long bytes, long maxBytes) {
        return Math.max((double) batches / Math.max(1, maxBatches), (double) bytes / Math.max(1, maxBytes));
    }
}
