package io.batchpersistence.store;

import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
import io.batchpersistence.spi.BatchStore;

class SegmentJsonContractTest extends DiskStoreContractTest {

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return DiskBatchStores.segment(
                options.format(BatchFormat.JSON).compression(Compression.NONE).build());
    }
}
