package io.batchpersistence.jdbc;

class JdbcH2ContractTest extends JdbcContract {

    JdbcH2ContractTest() {
        super(TestDatabase.Kind.H2);
    }
}
