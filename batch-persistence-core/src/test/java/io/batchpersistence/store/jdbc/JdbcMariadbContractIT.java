package io.batchpersistence.store.jdbc;

class JdbcMariadbContractIT extends JdbcContract {

    JdbcMariadbContractIT() {
        super(TestDatabase.Kind.MARIADB);
    }
}
