package io.batchpersistence.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.jsonfile.JsonFileLog;
import io.batchpersistence.internal.segment.SegmentLog;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.spi.BatchStore;

/** Opens the stores on a local disk. They are thread-safe. */
public final class DiskBatchStores {

    private DiskBatchStores() {}

    /**
     * Opens the default store in a directory, which is created if absent: batches in append-only segment files, their
     * states in a journal, and a small index in memory.
     *
     * @param options where and how
     * @return the store, to be closed
     * @throws io.batchpersistence.DirectoryLockedException if another store has the directory open
     * @throws io.batchpersistence.CompressionUnavailableException if the options' compression needs a native library
     *     that can't be loaded
     * @throws io.batchpersistence.BatchPersistenceException if the directory can't be written or read; damage in it
     *     does not prevent opening
     */
    public static BatchStore segment(DiskStoreOptions options) {
        return segment(options, new NioDisk());
    }

    static BatchStore segment(DiskStoreOptions options, Disk disk) {
        Compressions.requireAvailable(options.compression());
        return IndexedBatchStore.open("segment", options, disk, SegmentLog::new);
    }

    /**
     * Opens a store that a person can read in a directory, which is created if absent: one JSON document per batch.
     * Slower and larger than the segment store, since plain text is; the options {@code format}, {@code compression}
     * and {@code segmentSize} have no meaning here. Documents put there by hand are adopted.
     *
     * @param options where and how
     * @return the store, to be closed
     * @throws io.batchpersistence.DirectoryLockedException if another store has the directory open
     * @throws io.batchpersistence.BatchPersistenceException if the directory can't be written or read; damage in it
     *     does not prevent opening
     */
    public static BatchStore jsonFiles(DiskStoreOptions options) {
        return jsonFiles(options, new NioDisk());
    }

    static BatchStore jsonFiles(DiskStoreOptions options, Disk disk) {
        return IndexedBatchStore.open("json_files", options, disk, JsonFileLog::new);
    }
}
