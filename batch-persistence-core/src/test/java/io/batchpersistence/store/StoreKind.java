package io.batchpersistence.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.spi.BatchStore;

/** The disk stores, to run a test with each, on any disk. */
public enum StoreKind {
    SEGMENT {
        @Override
        public BatchStore open(DiskStoreOptions options) {
            return DiskBatchStores.segment(options);
        }

        @Override
        public BatchStore open(DiskStoreOptions options, Disk disk) {
            return DiskBatchStores.segment(options, disk);
        }
    },
    JSON_FILES {
        @Override
        public BatchStore open(DiskStoreOptions options) {
            return DiskBatchStores.jsonFiles(options);
        }

        @Override
        public BatchStore open(DiskStoreOptions options, Disk disk) {
            return DiskBatchStores.jsonFiles(options, disk);
        }
    };

    public abstract BatchStore open(DiskStoreOptions options);

    public abstract BatchStore open(DiskStoreOptions options, Disk disk);
}
