package io.batchpersistence.store;

import io.batchpersistence.BatchStore;
import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
import io.batchpersistence.store.segment.SegmentBatchStore;

class SegmentJsonContractTest extends DiskStoreContractTest {

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return SegmentBatchStore.open(
                options.format(BatchFormat.JSON).compression(Compression.NONE).build());
    }
}
