package io.batchpersistence.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.spi.BatchStore;

/** The disk stores, to run a test with each, on any disk. */
public enum StoreKind {
    SEGMENT(".segment"),
    JSON_FILES(".json");

    /** The suffix of the files that hold batches. */
    public final String payload;

    StoreKind(String payload) {
        this.payload = payload;
    }

    public BatchStore open(DiskStoreOptions options) {
        return open(options, new NioDisk());
    }

    public BatchStore open(DiskStoreOptions options, Disk disk) {
        return this == SEGMENT ? DiskBatchStores.segment(options, disk) : DiskBatchStores.jsonFiles(options, disk);
    }
}
