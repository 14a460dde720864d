package io.batchpersistence.internal.jsonfile;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.store.DiskStoreOptions;

/**
 * A store that a person can read: one JSON document per batch. Slower and larger than the segment store, since plain
 * text is; the options {@code format}, {@code compression} and {@code segmentSize} have no meaning here. Thread-safe.
 */
public final class JsonFileBatchStore extends IndexedBatchStore {

    private JsonFileBatchStore(DiskStoreOptions options, Disk disk) {
        super(options, disk, JsonFileLog::new);
    }

    /**
     * Opens the store in a directory, which is created if absent. Documents put there by hand are adopted.
     *
     * @param options where and how
     * @return the store, to be closed
     * @throws io.batchpersistence.DirectoryLockedException if another store has the directory open
     * @throws io.batchpersistence.BatchPersistenceException if the directory can't be written or read; damage in it
     *     does not prevent opening
     */
    public static JsonFileBatchStore open(DiskStoreOptions options) {
        return open(options, new NioDisk());
    }

    static JsonFileBatchStore open(DiskStoreOptions options, Disk disk) {
        JsonFileBatchStore store = new JsonFileBatchStore(options, disk);
        store.logOpened();
        return store;
    }
}
