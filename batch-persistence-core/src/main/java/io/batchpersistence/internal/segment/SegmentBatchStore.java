package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.store.DiskStoreOptions;

/**
 * The default store: batches in append-only segment files, their states in a journal, and a small index in memory. See
 * the package documentation for the files. Thread-safe.
 */
public final class SegmentBatchStore extends IndexedBatchStore {

    private SegmentBatchStore(DiskStoreOptions options, Disk disk) {
        super(options, disk, SegmentLog::new);
    }

    /**
     * Opens the store in a directory, which is created if absent.
     *
     * @param options where and how
     * @return the store, to be closed
     * @throws io.batchpersistence.DirectoryLockedException if another store has the directory open
     * @throws io.batchpersistence.CompressionUnavailableException if the options' compression needs a native library
     *     that can't be loaded
     * @throws io.batchpersistence.BatchPersistenceException if the directory can't be written or read; damage in it
     *     does not prevent opening
     */
    public static SegmentBatchStore open(DiskStoreOptions options) {
        return open(options, new NioDisk());
    }

    static SegmentBatchStore open(DiskStoreOptions options, Disk disk) {
        options.compression().requireAvailable();
        SegmentBatchStore store = new SegmentBatchStore(options, disk);
        store.logOpened();
        return store;
    }
}
