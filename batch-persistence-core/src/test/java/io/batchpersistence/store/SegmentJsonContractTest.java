package io.batchpersistence.store;

import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
import io.batchpersistence.internal.segment.SegmentBatchStore;
import io.batchpersistence.spi.BatchStore;

class SegmentJsonContractTest extends DiskStoreContractTest {

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return SegmentBatchStore.open(
                options.format(BatchFormat.JSON).compression(Compression.NONE).build());
    }
}
