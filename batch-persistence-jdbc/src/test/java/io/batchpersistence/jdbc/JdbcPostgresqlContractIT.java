package io.batchpersistence.jdbc;

class JdbcPostgresqlContractIT extends JdbcContract {

    JdbcPostgresqlContractIT() {
        super(TestDatabase.Kind.POSTGRESQL);
    }
}
