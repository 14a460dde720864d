package io.batchpersistence.store;

import io.batchpersistence.fixtures.InMemoryBatchStore;
import io.batchpersistence.spi.BatchStore;

/** The model must keep the contract, too. Otherwise comparisons with it prove nothing. */
class InMemoryBatchStoreContractTest extends BatchStoreContractTest {

    private final InMemoryBatchStore kept = new InMemoryBatchStore();

    @Override
    protected BatchStore open() {
        kept.reopen(now(), maxBatches);
        return kept;
    }
}
