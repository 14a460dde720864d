package io.batchpersistence.store;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;

class JsonFileContractTest extends DiskStoreContractTest {

    JsonFileContractTest() {
        many = 100;
    }

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return DiskBatchStores.jsonFiles(
                options.format(BatchFormat.JSON).compression(Compression.NONE).build());
    }
}
