package io.batchpersistence.store.jdbc;

class JdbcPostgresqlContractTest extends JdbcContract {

    JdbcPostgresqlContractTest() {
        super(TestDatabase.Kind.POSTGRESQL);
    }
}
