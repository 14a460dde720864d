package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreOptions;

/** Opens the store on any disk, for tests in other packages. */
public final class SegmentStoreOn {

    private SegmentStoreOn() {}

    public static BatchStore open(DiskStoreOptions options, Disk disk) {
        return SegmentBatchStore.open(options, disk);
    }
}
