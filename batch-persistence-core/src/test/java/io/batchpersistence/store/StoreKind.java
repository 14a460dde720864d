package io.batchpersistence.store;

import io.batchpersistence.BatchStore;
import io.batchpersistence.store.file.JsonFileBatchStore;
import io.batchpersistence.store.segment.SegmentBatchStore;

/** The stores on disk, to run one test with each. */
enum StoreKind {
    SEGMENT {
        @Override
        BatchStore open(DiskStoreOptions options) {
            return SegmentBatchStore.open(options);
        }
    },
    JSON_FILES {
        @Override
        BatchStore open(DiskStoreOptions options) {
            return JsonFileBatchStore.open(options);
        }
    };

    abstract BatchStore open(DiskStoreOptions options);
}
