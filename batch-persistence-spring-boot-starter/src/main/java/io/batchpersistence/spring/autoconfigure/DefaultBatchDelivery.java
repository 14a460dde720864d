package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSender;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.BatchSenders;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.slf4j.Logger;

/**
 * Finds the sender; {@link BatchPersistence#deliver} does the rest. Nothing is thrown once a batch is persisted:
 * whatever fails then, the batch is at least held in flight, times out and is sent by recovery.
 */
final class DefaultBatchDelivery implements BatchDelivery {

    private static final Logger LOG = LogSanitizer.logger(DefaultBatchDelivery.class);

    private final BatchPersistence persistence;
    private final BatchSenders senders;
    private final Supplier<SendObserver> observer;
    private final BusinessTransactions transactions;

    DefaultBatchDelivery(
            BatchPersistence persistence,
            BatchSenders senders,
            Supplier<SendObserver> observer,
            BusinessTransactions transactions) {
        this.persistence = persistence;
        this.senders = senders;
        this.observer = observer;
        this.transactions = transactions;
    }

    @Override
    public DeliveryResult deliver(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        BatchSender sender = senders.find(collectorType);
        if (sender == null || transactions.isJoined()) {
            deliverAsync(batchId, entries, collectorType, context);
            return new DeliveryResult(Outcome.PENDING, null);
        }
        return persistence.deliver(
                batchId, entries, collectorType, context, observer.get().sender(sender));
    }

    @Override
    public void deliverAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        boolean joined = transactions.isJoined();
        persistence.persistUnsent(batchId, entries, collectorType, context);
        // The batch is not visible before the commit.
        if (joined) {
            transactions.afterCommit(collectorType, () -> lookFor(collectorType));
        }
    }

    private void lookFor(String collectorType) {
        try {
            persistence.recoverSoon(collectorType);
        } catch (IllegalStateException e) {
            LOG.debug("Closed meanwhile; what is pending is sent by another instance, or after a restart", e);
        }
    }

    /**
     * With {@code enabled: false}: nothing is kept, so the batch is only sent, and the caller must handle a failure.
     */
    static final class Direct implements BatchDelivery {

        private final BatchPersistence persistence;
        private final BatchSenders senders;

        Direct(BatchPersistence persistence, BatchSenders senders) {
            this.persistence = persistence;
            this.senders = senders;
        }

        @Override
        public DeliveryResult deliver(
                String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
            BatchSender sender = senders.find(collectorType);
            if (sender == null) {
                throw new BatchPersistenceException(
                        "batch " + batchId
                                + " was neither sent nor kept: there is no BatchSender for the collector type '"
                                + collectorType + "', and batch_persistence.enabled is false",
                        null);
            }
            return persistence.deliver(batchId, entries, collectorType, context, sender);
        }

        @Override
        public void deliverAsync(
                String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
            deliver(batchId, entries, collectorType, context);
        }
    }
}
