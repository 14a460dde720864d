package io.batchpersistence.store;

import io.batchpersistence.fixtures.InMemoryBatchStore;
import io.batchpersistence.spi.BatchStore;

/** The model keeps the contract too, else what is compared with it proves nothing. */
class InMemoryBatchStoreContractTest extends BatchStoreContractTest {

    private final InMemoryBatchStore kept = new InMemoryBatchStore();

    @Override
    protected BatchStore open() {
        kept.reopen(now(), maxBatches);
        return kept;
    }
}
