package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.BatchStoreContractTest;
import io.batchpersistence.store.DiskStoreOptions;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;

/** The contract also holds if all ids have the same hash: the index compares the ids. */
@Tag("slow")
class OneHashForAllContractTest extends BatchStoreContractTest {

    @TempDir
    Path directory;

    OneHashForAllContractTest() {
        many = 200;
    }

    @Override
    protected BatchStore open() {
        return new OneHashStore(DiskStoreOptions.builder(directory)
                .maxBatches(maxBatches)
                .clock(clock)
                .build());
    }

    private static final class OneHashStore extends IndexedBatchStore {
        OneHashStore(DiskStoreOptions options) {
            super(options, new NioDisk(), SegmentLog::new, 0);
        }
    }
}
