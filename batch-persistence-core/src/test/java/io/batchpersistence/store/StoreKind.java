package io.batchpersistence.store;

import io.batchpersistence.BatchStore;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.store.file.JsonFileBatchStore;
import io.batchpersistence.store.file.JsonFileStoreOn;
import io.batchpersistence.store.segment.SegmentBatchStore;
import io.batchpersistence.store.segment.SegmentStoreOn;

/** The stores on disk, to run one test with each. */
enum StoreKind {
    SEGMENT {
        @Override
        BatchStore open(DiskStoreOptions options) {
            return SegmentBatchStore.open(options);
        }

        @Override
        BatchStore open(DiskStoreOptions options, Disk disk) {
            return SegmentStoreOn.open(options, disk);
        }
    },
    JSON_FILES {
        @Override
        BatchStore open(DiskStoreOptions options) {
            return JsonFileBatchStore.open(options);
        }

        @Override
        BatchStore open(DiskStoreOptions options, Disk disk) {
            return JsonFileStoreOn.open(options, disk);
        }
    };

    abstract BatchStore open(DiskStoreOptions options);

    abstract BatchStore open(DiskStoreOptions options, Disk disk);
}
