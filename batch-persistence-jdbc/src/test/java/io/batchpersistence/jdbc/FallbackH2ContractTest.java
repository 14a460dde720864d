package io.batchpersistence.jdbc;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;

/** With the database available, the fallback has no visible effect. */
@Tag("slow")
class FallbackH2ContractTest extends JdbcContract {

    @TempDir
    Path directory;

    FallbackH2ContractTest() {
        super(TestDatabase.Kind.H2);
    }

    @Override
    protected BatchStore open() {
        return new FallbackBatchStore(
                (JdbcBatchStore) super.open(),
                (LocalBatchStore) DiskBatchStores.segment(
                        DiskStoreOptions.builder(directory).clock(clock).build()),
                directory,
                clock);
    }
}
