package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.DeliveryResult;
import io.batchpersistence.spring.DeliveryResult.Outcome;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * From the moment the batch is persisted nothing is thrown any more: whatever goes wrong then, the batch is held in flight at
 * least, and times out into recovery's hands.
 */
final class DefaultBatchDelivery implements BatchDelivery {

    private static final Logger LOG = LoggerFactory.getLogger(DefaultBatchDelivery.class);

    private final BatchPersistence persistence;
    private final BatchSenders senders;
    private final Predicate<String> isUp;
    private final Function<String, Duration> batchTimeout;
    private final Clock clock;

    /**
     * Wires it.
     *
     * @param persistence keeps the batches
     * @param senders send them
     * @param isUp whether a collector type is free to be sent to directly, past recovery's lane
     * @param batchTimeout by collector type
     * @param clock tells the time
     */
    DefaultBatchDelivery(
            BatchPersistence persistence,
            BatchSenders senders,
            Predicate<String> isUp,
            Function<String, Duration> batchTimeout,
            Clock clock) {
        this.persistence = persistence;
        this.senders = senders;
        this.isUp = isUp;
        this.batchTimeout = batchTimeout;
        this.clock = clock;
    }

    @Override
    public DeliveryResult deliver(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        Instant now = clock.instant();
        persistence.persistBatch(batchId, entries, collectorType, context);
        Throwable failure;
        try {
            BatchSender sender = senders.find(collectorType);
            if (sender == null || !isUp.test(collectorType)) {
                persistence.releaseBatch(batchId);
                return new DeliveryResult(Outcome.PENDING, null);
            }
            sender.send(new PersistedBatch(
                    batchId,
                    entries,
                    collectorType,
                    now,
                    null,
                    now.plus(batchTimeout.apply(collectorType)),
                    0,
                    null,
                    context,
                    BatchState.IN_FLIGHT));
            failure = null;
        } catch (Throwable e) { // an Error, too: thrown on, it would say that the caller still owns the batch
            failure = e;
        }
        DeliveryResult result = mark(batchId, failure);
        if (failure instanceof InterruptedException) {
            Thread.currentThread().interrupt(); // after the mark, which must be written undisturbed
        }
        return result;
    }

    private DeliveryResult mark(String batchId, @Nullable Throwable failure) {
        try {
            if (failure == null) {
                persistence.markBatchSuccess(batchId);
                return new DeliveryResult(Outcome.DELIVERED, null);
            }
            persistence.markBatchFailed(batchId, failure);
            boolean dead = persistence.count(BatchSelector.all().ids(batchId).states(BatchState.DEAD)) > 0;
            return new DeliveryResult(dead ? Outcome.DEAD : Outcome.PENDING, failure);
        } catch (RuntimeException e) {
            LOG.warn(
                    "Batch {} could not be marked; it is sent {} after its batch_timeout, or after a restart",
                    batchId,
                    failure == null ? "once more" : "again",
                    e);
            return new DeliveryResult(failure == null ? Outcome.DELIVERED : Outcome.PENDING, failure);
        }
    }

    @Override
    public void deliverAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        persistence.persistBatch(batchId, entries, collectorType, context);
        try {
            persistence.releaseBatch(batchId);
        } catch (RuntimeException e) {
            LOG.warn(
                    "Batch {} could not be handed to recovery; it is sent after its batch_timeout, or after a restart",
                    batchId,
                    e);
        }
    }

    /** With {@code enabled: false}: nothing is kept, so sending is all there is, and a failure is the caller's. */
    static final class Direct implements BatchDelivery {

        private final BatchSenders senders;
        private final Clock clock;

        Direct(BatchSenders senders, Clock clock) {
            this.senders = senders;
            this.clock = clock;
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
            Instant now = clock.instant();
            try {
                sender.send(new PersistedBatch(
                        batchId, entries, collectorType, now, null, null, 0, null, context, BatchState.IN_FLIGHT));
            } catch (Exception e) {
                if (e instanceof InterruptedException) {
                    Thread.currentThread().interrupt();
                }
                throw new BatchPersistenceException(
                        "batch " + batchId
                                + " was neither sent nor kept: sending failed, and batch_persistence.enabled is"
                                + " false",
                        e);
            }
            return new DeliveryResult(Outcome.DELIVERED, null);
        }

        @Override
        public void deliverAsync(
                String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
            deliver(batchId, entries, collectorType, context);
        }
    }
}
