package io.batchpersistence.internal.store;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.disk.NioDisk;
import io.batchpersistence.internal.segment.SegmentLog;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.BatchStoreContract;
import java.nio.file.Path;
import java.time.Duration;
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
        DiskStoreOptions settings = new DiskStoreOptions(
                directory,
                BatchFormat.PROTOBUF,
                Compression.ZSTD,
                SyncPolicy.ALWAYS,
                Duration.ofMillis(200),
                maxBatches,
                1L << 30,
                16 << 20,
                32 << 20,
                clock);
        return new IndexedBatchStore(settings, new NioDisk(), SegmentLog::new, 0);
    }
}
