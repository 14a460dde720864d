package io.batchpersistence.store;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import org.junit.jupiter.api.Tag;

@Tag("slow")
class SegmentJsonContractTest extends DiskStoreContractTest {

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return DiskBatchStores.segment(
                options.format(BatchFormat.JSON).compression(Compression.NONE).build());
    }
}
