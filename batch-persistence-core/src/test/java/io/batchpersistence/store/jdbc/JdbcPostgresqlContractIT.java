package io.batchpersistence.store.jdbc;

class JdbcPostgresqlContractIT extends JdbcContract {

    JdbcPostgresqlContractIT() {
        super(TestDatabase.Kind.POSTGRESQL);
    }
}
