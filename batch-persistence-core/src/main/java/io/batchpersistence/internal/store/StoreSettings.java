package io.batchpersistence.internal.store;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.SyncPolicy;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;

/**
 * What {@code DiskStoreOptions} says, for the packages below it.
 *
 * @param directory see there, like all of them
 * @param format how entries are written
 * @param compression how payloads are compressed
 * @param sync when bytes are forced
 * @param syncInterval the longest time a mark stays unforced
 * @param maxBatches limit on the batches held
 * @param maxDiskUsage limit on the bytes of all files
 * @param segmentSize bytes after which a segment is sealed
 * @param compactionRate limit on the bytes copied per second
 * @param clock tells the time
 */
public record StoreSettings(
        Path directory,
        BatchFormat format,
        Compression compression,
        SyncPolicy sync,
        Duration syncInterval,
        long maxBatches,
        long maxDiskUsage,
        long segmentSize,
        long compactionRate,
        Clock clock) {}
