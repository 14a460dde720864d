package io.batchpersistence.internal.store;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.segment.SegmentLog;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.BatchStoreContract;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;

/** The contract also holds if all ids have the same hash: the index compares the ids. */
@Tag("slow")
class OneHashForAllContractTest extends BatchStoreContract {

    @TempDir
    Path directory;

    OneHashForAllContractTest() {
        many = 200;
    }

    @Override
    protected BatchStore open() {
        DiskStoreOptions settings = DiskStoreOptions.builder(directory)
                .maxBatches(maxBatches)
                .clock(clock)
                .build();
        return new IndexedBatchStore(settings, new NioDisk(), SegmentLog::new, 0);
    }
}
