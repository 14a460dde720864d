package io.batchpersistence.store.jdbc;

class JdbcMariadbContractTest extends JdbcContract {

    JdbcMariadbContractTest() {
        super(TestDatabase.Kind.MARIADB);
    }
}
