package io.batchpersistence.test;

import io.batchpersistence.spi.BatchStore;

/** The model must keep the contract, too. Otherwise comparisons with it prove nothing. */
class InMemoryBatchStoreTest extends BatchStoreContract {

    private final InMemoryBatchStore kept = new InMemoryBatchStore();

    @Override
    protected BatchStore open() {
        kept.reopen(now(), maxBatches);
        return kept;
    }
}
