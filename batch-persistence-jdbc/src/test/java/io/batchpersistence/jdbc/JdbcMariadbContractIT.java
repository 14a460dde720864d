package io.batchpersistence.jdbc;

class JdbcMariadbContractIT extends JdbcContract {

    JdbcMariadbContractIT() {
        super(TestDatabase.Kind.MARIADB);
    }
}
