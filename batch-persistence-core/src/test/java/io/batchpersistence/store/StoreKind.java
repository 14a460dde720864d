package io.batchpersistence.store;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.jsonfile.JsonFileBatchStore;
import io.batchpersistence.internal.jsonfile.JsonFileStoreOn;
import io.batchpersistence.internal.segment.SegmentBatchStore;
import io.batchpersistence.internal.segment.SegmentStoreOn;
import io.batchpersistence.spi.BatchStore;

/** The disk stores, to run a test with each. */
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
