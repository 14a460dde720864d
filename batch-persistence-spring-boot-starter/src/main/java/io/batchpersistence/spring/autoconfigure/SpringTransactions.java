package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.internal.log.LogSanitizer;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.jdbc.datasource.ConnectionHolder;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/**
 * Spring's transactions on one DataSource, managed by JDBC, JPA, or any other transaction manager that binds its
 * connection.
 */
final class SpringTransactions implements BusinessTransactions {

    private static final Logger LOG = LogSanitizer.logger(SpringTransactions.class);

    private final DataSource dataSource;
    private final boolean joins;
    private final Executor executor;
    /** The keys of tasks that are queued and have not started. */
    private final Set<String> waiting = ConcurrentHashMap.newKeySet();

    /**
     * Creates transactions on one DataSource.
     *
     * @param dataSource where batches are kept
     * @param joins whether batches become part of transactions
     * @param executor runs tasks after a commit
     */
    SpringTransactions(DataSource dataSource, boolean joins, Executor executor) {
        this.dataSource = dataSource;
        this.joins = joins;
        this.executor = executor;
    }

    DataSource dataSource() {
        return dataSource;
    }

    /**
     * Returns the connection of the transaction that a batch persisted now by the calling thread becomes part of.
     *
     * @return {@code null} if the batch joins no transaction: the thread is in none on this DataSource, in a callback
     *     after the completion of one, or in a read-only one, in which databases refuse to write
     * @throws BatchPersistenceException if the connection is broken
     */
    @Nullable
    Connection connection() {
        if (!joins
                || !TransactionSynchronizationManager.isSynchronizationActive()
                || !TransactionSynchronizationManager.isActualTransactionActive()
                || TransactionSynchronizationManager.isCurrentTransactionReadOnly()
                || !(TransactionSynchronizationManager.getResource(dataSource) instanceof ConnectionHolder holder)) {
            return null;
        }
        Connection connection = holder.getConnection();
        try {
            // The connection may be bound to the thread without a transaction of this DataSource: for the transaction
            // of a message broker, for instance.
            return connection.getAutoCommit() ? null : connection;
        } catch (SQLException e) {
            throw new BatchPersistenceException("the transaction's connection does not work: " + e.getMessage(), e);
        }
    }

    @Override
    public boolean isJoined() {
        return connection() != null;
    }

    @Override
    public void afterCommit(String what, Runnable task) {
        TransactionSynchronizationManager.registerSynchronization(new TransactionSynchronization() {
            @Override
            public void afterCompletion(int status) {
                // Also if the outcome is unknown: after a rollback, recovery just finds no batch.
                if (status != STATUS_ROLLED_BACK) {
                    execute(what, task);
                }
            }
        });
    }

    /** The transaction is committed: a failure here must not look to the caller as if it were not. */
    private void execute(String what, Runnable task) {
        if (!waiting.add(what)) {
            return;
        }
        try {
            executor.execute(() -> {
                // Remove the key first: the task may not see what is committed from now on.
                waiting.remove(what);
                task.run();
            });
        } catch (RuntimeException e) {
            waiting.remove(what);
            LOG.warn("Recovery could not be triggered for a batch; it sends it in its next round", e);
        }
    }
}
