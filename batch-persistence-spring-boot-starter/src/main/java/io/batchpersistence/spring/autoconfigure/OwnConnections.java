package io.batchpersistence.spring.autoconfigure;

import java.sql.Connection;
import java.sql.SQLException;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.springframework.jdbc.datasource.DelegatingDataSource;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/**
 * Connections for the store's own transactions, whatever transaction the calling thread is in: a DataSource that routes
 * by Spring's transaction, read-only ones to a replica for instance, must not route the store's transactions by it.
 */
final class OwnConnections extends DelegatingDataSource {

    OwnConnections(DataSource dataSource) {
        super(dataSource);
    }

    @Override
    public Connection getConnection() throws SQLException {
        boolean active = TransactionSynchronizationManager.isActualTransactionActive();
        boolean readOnly = TransactionSynchronizationManager.isCurrentTransactionReadOnly();
        String name = TransactionSynchronizationManager.getCurrentTransactionName();
        Integer isolation = TransactionSynchronizationManager.getCurrentTransactionIsolationLevel();
        describe(false, false, null, null);
        try {
            return chosen(super.getConnection());
        } finally {
            describe(active, readOnly, name, isolation);
        }
    }

    private static void describe(boolean active, boolean readOnly, @Nullable String name, @Nullable Integer isolation) {
        TransactionSynchronizationManager.setActualTransactionActive(active);
        TransactionSynchronizationManager.setCurrentTransactionReadOnly(readOnly);
        TransactionSynchronizationManager.setCurrentTransactionName(name);
        TransactionSynchronizationManager.setCurrentTransactionIsolationLevel(isolation);
    }

    /**
     * A lazy proxy chooses its target at first use, which must be now. Drivers answer this call without asking the
     * server.
     */
    private static Connection chosen(Connection connection) throws SQLException {
        try {
            var unused = connection.getMetaData();
            return connection;
        } catch (SQLException | RuntimeException e) {
            try (connection) {
                throw e;
            }
        }
    }
}
