package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import java.util.List;
import org.junit.jupiter.api.Test;

class SegmentProtobufContractTest extends DiskStoreContractTest {

    @Override
    BatchStore open(DiskStoreOptions.Builder options) {
        return DiskBatchStores.segment(options.format(BatchFormat.PROTOBUF)
                .compression(Compression.ZSTD)
                .build());
    }

    @Test
    void the_bound_on_bytes_holds_with_large_segments_and_small_batches() {
        reopenWith(1 << 20, 1 << 20);
        List<String> taken = fill("a", 1_000);
        assertThat(taken).hasSizeGreaterThan(100);
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(1 << 20);
        store.close();
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(1 << 20);
        reopen();
        assertThat(bytesOnDisk()).isLessThanOrEqualTo(1 << 20);
    }
}
