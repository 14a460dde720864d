package io.batchpersistence.jdbc;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.store.Surroundings;
import io.batchpersistence.test.BatchStoreContract;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.io.TempDir;

/**
 * The database is never reachable, and the fallback keeps the contract alone. Leaves out what needs the database, since
 * a partial answer would be wrong. Those questions go to the files of the fallback directly.
 */
class FallbackAwayContractTest extends BatchStoreContract {

    private static final Set<String> NEED_THE_DATABASE =
            Set.of("find", "list", "count", "failures", "discard", "replay", "pause");
    private static final Set<String> MARKS = Set.of("delivered", "deliveredLater", "failed", "released");

    @TempDir
    Path directory;

    @Override
    protected BatchStore open() {
        FaultyDataSource source = new FaultyDataSource(null);
        source.refuse();
        LocalBatchStore spare = (LocalBatchStore) DiskBatchStores.segment(DiskStoreOptions.builder(directory)
                .maxBatches(maxBatches)
                .clock(clock)
                .build());
        FallbackBatchStore store = new FallbackBatchStore(
                JdbcBatchStore.open(
                        source.dataSource,
                        JdbcStoreOptions.builder()
                                .maxBatches(maxBatches)
                                .clock(clock)
                                .build(),
                        new Database.Seams(null, System::nanoTime, false)),
                spare,
                directory,
                clock);
        return Surroundings.of(FaultyDataSource.proxy(BatchStore.class, (proxy, method, arguments) -> {
            if (NEED_THE_DATABASE.contains(method.getName())) {
                return FaultyDataSource.call(spare, method, arguments);
            }
            try {
                return FaultyDataSource.call(store, method, arguments);
            } catch (BatchPersistenceException e) {
                if (MARKS.contains(method.getName()) && !spare.holds((String) arguments[0])) {
                    // The batch may be in the database, so its absence is unknown.
                    return method.getReturnType() == CompletableFuture.class
                            ? CompletableFuture.completedFuture(null)
                            : null;
                }
                throw e;
            }
        }));
    }
}
