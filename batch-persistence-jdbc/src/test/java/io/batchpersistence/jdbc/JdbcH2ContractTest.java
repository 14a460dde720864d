package io.batchpersistence.jdbc;

import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.Surroundings;

class JdbcH2ContractTest extends JdbcContract {
    JdbcH2ContractTest() {
        super(TestDatabase.Kind.H2);
    }

    @Override
    protected BatchStore open() {
        return Surroundings.of(super.open());
    }
}
