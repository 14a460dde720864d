package io.batchpersistence;

import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.util.Objects;

/**
 * Options of the stores on disk. Immutable.
 *
 * @param directory where batches are kept; created if absent; for one store at a time
 * @param format how entries are written; every format is always read
 * @param compression how payloads are compressed; every one is always read
 * @param sync when bytes are forced to the device
 * @param syncInterval the longest time a mark stays unforced, and with {@link SyncPolicy#INTERVAL} a batch
 * @param maxBatches limit on the batches held, dead letters included
 * @param maxDiskUsage limit on the bytes of all files together
 * @param segmentSize bytes after which a segment is sealed and a new one begun
 * @param compactionRate limit on the bytes per second that are copied to reclaim the space between batches that are
 *     held
 * @param clock tells the time
 */
public record DiskStoreOptions(
        Path directory,
        BatchFormat format,
        Compression compression,
        SyncPolicy sync,
        Duration syncInterval,
        long maxBatches,
        long maxDiskUsage,
        long segmentSize,
        long compactionRate,
        Clock clock) {

    /**
     * Minimum of {@code maxDiskUsage}, in bytes: a store needs room for a segment, its journal and the reserve for
     * marks.
     */
    public static final long MIN_DISK_USAGE = 1 << 20;

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is out of its range
     */
    public DiskStoreOptions {
        Objects.requireNonNull(directory, "directory must not be null");
        Objects.requireNonNull(format, "format must not be null");
        Objects.requireNonNull(compression, "compression must not be null");
        Objects.requireNonNull(sync, "sync must not be null");
        Objects.requireNonNull(clock, "clock must not be null");
        if (syncInterval.isNegative() || syncInterval.isZero()) {
            throw new IllegalArgumentException("sync interval must be positive, but is " + syncInterval);
        }
        if (maxBatches < 1 || maxBatches > 500_000_000) {
            throw new IllegalArgumentException(
                    "max pending batches must be between 1 and 500,000,000, but is " + maxBatches);
        }
        if (maxDiskUsage < MIN_DISK_USAGE) {
            throw new IllegalArgumentException(
                    "max disk usage must be at least " + MIN_DISK_USAGE + " bytes, but is " + maxDiskUsage);
        }
        if (segmentSize < 1 << 12 || segmentSize > 1 << 30) {
            throw new IllegalArgumentException("segment size must be between 4 KiB and 1 GiB, but is " + segmentSize);
        }
        if (compactionRate < 1) {
            throw new IllegalArgumentException(
                    "compaction rate must be at least 1 byte a second, but is " + compactionRate);
        }
    }

    /**
     * Starts options with the defaults: protobuf, zstd, sync always, 200 ms, 1,000,000 batches, 1 GB, segments of 16
     * MiB (or less where the disk limit is small), compaction at 32 MiB per second.
     *
     * @param directory where batches are kept
     * @return a builder, for one thread
     */
    public static Builder builder(Path directory) {
        return new Builder(directory);
    }

    /** Collects options. Not thread-safe. */
    public static final class Builder {

        private static final long DEFAULT_SEGMENT_SIZE = 16 << 20;
        private static final long DEFAULT_COMPACTION_RATE = 32 << 20;

        private final Path directory;
        private BatchFormat format = BatchFormat.PROTOBUF;
        private Compression compression = Compression.ZSTD;
        private SyncPolicy sync = SyncPolicy.ALWAYS;
        private Duration syncInterval = Duration.ofMillis(200);
        private long maxBatches = 1_000_000;
        private long maxDiskUsage = 1L << 30;
        private long segmentSize;
        private long compactionRate = DEFAULT_COMPACTION_RATE;
        private Clock clock = Clock.systemUTC();

        private Builder(Path directory) {
            this.directory = directory;
        }

        /**
         * Sets how entries are written.
         *
         * @param format the format
         * @return this
         */
        public Builder format(BatchFormat format) {
            this.format = format;
            return this;
        }

        /**
         * Sets how payloads are compressed.
         *
         * @param compression the compression
         * @return this
         */
        public Builder compression(Compression compression) {
            this.compression = compression;
            return this;
        }

        /**
         * Sets when bytes are forced.
         *
         * @param sync the policy
         * @return this
         */
        public Builder sync(SyncPolicy sync) {
            this.sync = sync;
            return this;
        }

        /**
         * Sets the interval of lazy forces.
         *
         * @param syncInterval positive
         * @return this
         */
        public Builder syncInterval(Duration syncInterval) {
            this.syncInterval = syncInterval;
            return this;
        }

        /**
         * Limits the number of batches.
         *
         * @param maxBatches dead letters included
         * @return this
         */
        public Builder maxBatches(long maxBatches) {
            this.maxBatches = maxBatches;
            return this;
        }

        /**
         * Limits the bytes.
         *
         * @param maxDiskUsage of all files together
         * @return this
         */
        public Builder maxDiskUsage(long maxDiskUsage) {
            this.maxDiskUsage = maxDiskUsage;
            return this;
        }

        /**
         * Sets the size of a segment.
         *
         * @param segmentSize bytes; 0 to derive it from the disk limit
         * @return this
         */
        public Builder segmentSize(long segmentSize) {
            this.segmentSize = segmentSize;
            return this;
        }

        /**
         * Limits how much of the disk's bandwidth compaction takes.
         *
         * @param compactionRate bytes per second, positive
         * @return this
         */
        public Builder compactionRate(long compactionRate) {
            this.compactionRate = compactionRate;
            return this;
        }

        /**
         * Sets the clock.
         *
         * @param clock tells the time
         * @return this
         */
        public Builder clock(Clock clock) {
            this.clock = clock;
            return this;
        }

        /**
         * Creates the options.
         *
         * @return the options
         * @throws IllegalArgumentException if a value is out of its range
         */
        public DiskStoreOptions build() {
            // A segment is reclaimed as a whole: with fewer than about 32 of them a full store would free space in
            // leaps.
            long size = segmentSize != 0
                    ? segmentSize
                    : Math.max(1 << 14, Math.min(DEFAULT_SEGMENT_SIZE, maxDiskUsage / 32));
            return new DiskStoreOptions(
                    directory,
                    format,
                    compression,
                    sync,
                    syncInterval,
                    maxBatches,
                    maxDiskUsage,
                    size,
                    compactionRate,
                    clock);
        }
    }
}
