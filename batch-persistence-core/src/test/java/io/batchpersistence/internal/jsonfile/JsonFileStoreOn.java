package io.batchpersistence.internal.jsonfile;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreOptions;

/** Opens the store on any disk, for tests in other packages. */
public final class JsonFileStoreOn {

    private JsonFileStoreOn() {}

    public static BatchStore open(DiskStoreOptions options, Disk disk) {
        return JsonFileBatchStore.open(options, disk);
    }
}
