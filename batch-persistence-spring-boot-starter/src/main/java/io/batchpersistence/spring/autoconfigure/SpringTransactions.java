package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.SingleLine;
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

/** Spring's transactions on one DataSource, whoever manages them: JDBC, JPA, or another one that binds its connection. */
final class SpringTransactions implements BusinessTransactions {

    private static final Logger LOG = SingleLine.logger(SpringTransactions.class);

    private final DataSource dataSource;
    private final boolean joins;
    private final Executor executor;
    /** What is to be done, and has not begun. */
    private final Set<String> waiting = ConcurrentHashMap.newKeySet();

    /**
     * On one DataSource.
     *
     * @param dataSource where batches are kept
     * @param joins whether batches become part of transactions
     * @param executor does what is to be done after a commit
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
     * The connection of the transaction that a batch which the calling thread persists now becomes part of.
     *
     * @return {@code null} if it becomes part of none: the thread is in none on this DataSource, in what comes after the
     *     completion of one, or in one that is only to read, where databases refuse to write
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
            // Bound to the thread, but not for a transaction of this DataSource: to that of a message broker, for
            // instance.
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
                if (status != STATUS_ROLLED_BACK) { // if nobody knows, what was rolled back is not found
                    execute(what, task);
                }
            }
        });
    }

    /** The transaction is committed: what fails here must not look to its caller as if it were not. */
    private void execute(String what, Runnable task) {
        if (!waiting.add(what)) {
            return;
        }
        try {
            executor.execute(() -> {
                waiting.remove(what); // first: what is committed from now on may not be seen
                task.run();
            });
        } catch (RuntimeException e) {
            waiting.remove(what);
            LOG.warn("Recovery could not be told of a batch; it sends it in its next round", e);
        }
    }
}
