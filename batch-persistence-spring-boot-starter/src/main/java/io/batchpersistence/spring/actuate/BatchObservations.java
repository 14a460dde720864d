package io.batchpersistence.spring.actuate;

import io.batchpersistence.BatchSender;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.internal.log.LogSanitizer;
import io.micrometer.observation.Observation;
import io.micrometer.observation.ObservationRegistry;
import io.micrometer.observation.transport.Kind;
import io.micrometer.observation.transport.ReceiverContext;
import java.lang.reflect.UndeclaredThrowableException;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * The observation {@value #SEND} around every attempt to send a batch, both first sends and those of recovery. In a
 * traced application, its span continues the trace that is kept in the batch's context, see {@link BatchTraceContext}:
 * a delivery belongs to the request that persisted the batch. Also reports lag and age to {@link
 * BatchPersistenceMetrics}.
 *
 * <p>If a sender sends, the observation ends when the sender returns or throws. A {@link RecoveredBatch} that is
 * published as an event is observed until it is settled or until its batch timeout has expired; the outcome is then
 * {@code unsettled}.
 *
 * <p>A failure in this class never prevents a send. Thread-safe.
 */
public final class BatchObservations {

    /** The name of the observation. */
    public static final String SEND = "batch.persistence.send";

    private static final int MAX_WRAPPERS = 100;

    private static final Logger LOG = LogSanitizer.logger(BatchObservations.class);

    private final ObservationRegistry registry;
    private final SendMeters meters;
    private final FailureClassifier classifier;
    private final Clock clock;
    /** Attempts published as events that are neither settled nor timed out yet. */
    private final Set<Attempt> open = ConcurrentHashMap.newKeySet();

    /**
     * Creates observations that also report lag and age.
     *
     * @param registry the registry of the observations
     * @param metrics receives lag and age; {@code null} for none
     * @param classifier classifies exceptions, as for the sends themselves
     * @param clock the current time
     */
    public BatchObservations(
            ObservationRegistry registry,
            @Nullable BatchPersistenceMetrics metrics,
            FailureClassifier classifier,
            Clock clock) {
        this(registry, classifier, clock, metrics == null ? SendMeters.NONE : metrics);
    }

    private BatchObservations(
            ObservationRegistry registry, FailureClassifier classifier, Clock clock, SendMeters meters) {
        this.registry = registry;
        this.meters = meters;
        this.classifier = classifier;
        this.clock = clock;
    }

    /**
     * Creates observations without lag and age; needs no class of Micrometer's meters, which may be absent.
     *
     * @param registry the registry of the observations
     * @param classifier classifies exceptions, as for the sends themselves
     * @param clock the current time
     * @return the observations
     */
    public static BatchObservations withoutMetrics(
            ObservationRegistry registry, FailureClassifier classifier, Clock clock) {
        return new BatchObservations(registry, classifier, clock, SendMeters.NONE);
    }

    /**
     * Wraps the sender of a first send.
     *
     * @param sender the sender
     * @return the same sender, observed
     */
    public BatchSender sender(BatchSender sender) {
        return batch -> send(batch, Duration.ZERO, sender);
    }

    /**
     * Wraps a sender for recovery.
     *
     * @param sender the sender
     * @return a target that sends, observed, and then acknowledges
     */
    public RecoveryTarget sending(BatchSender sender) {
        return recovered -> {
            send(recovered.batch(), recovered.overdue(), sender);
            recovered.acknowledgeLater();
        };
    }

    /**
     * Wraps a target that settles batches itself; they are observed until they are settled.
     *
     * @param target a target that settles batches, now or later
     * @return the same target, observed
     */
    public RecoveryTarget settling(RecoveryTarget target) {
        return recovered -> {
            Attempt attempt = begin(recovered.batch(), recovered.overdue());
            open.add(attempt);
            try {
                attempt.inScope(() -> target.handOver(new Observed(recovered, attempt)));
            } catch (Throwable t) {
                attempt.end(outcome(t), t);
                throw t;
            }
        };
    }

    private void send(PersistedBatch batch, Duration overdue, BatchSender sender) throws Exception {
        Attempt attempt = begin(batch, overdue);
        try {
            attempt.inScope(() -> sender.send(batch));
        } catch (Throwable t) {
            attempt.end(outcome(t), t);
            throw t;
        }
        attempt.end(Outcome.DELIVERED, null);
    }

    private interface Action {
        void run() throws Exception;
    }

    /** The outcome of an attempt. */
    private enum Outcome {
        DELIVERED("delivered"),
        FAILED("failed"),
        RETRY_AFTER("retry_after"),
        REJECTED("rejected"),
        UNSETTLED("unsettled");

        private final String tag;

        Outcome(String tag) {
            this.tag = tag;
        }
    }

    private Outcome outcome(Throwable thrown) {
        Throwable cause = thrown;
        // The chain of causes may be a cycle, because causes can be set freely.
        for (int wrappers = 0; wrappers < MAX_WRAPPERS; wrappers++) {
            boolean wrapper = cause instanceof CompletionException
                    || cause instanceof ExecutionException
                    || cause instanceof UndeclaredThrowableException;
            Throwable inner = wrapper ? cause.getCause() : null;
            if (inner == null) {
                break;
            }
            cause = inner;
        }
        if (cause instanceof PermanentDeliveryException) {
            return Outcome.REJECTED;
        }
        if (cause instanceof RetryAfterException) {
            return Outcome.RETRY_AFTER;
        }
        try {
            return switch (classifier.classify(cause).kind()) {
                case TRANSIENT, BATCH -> Outcome.FAILED;
                case RETRY_AFTER -> Outcome.RETRY_AFTER;
                case PERMANENT -> Outcome.REJECTED;
            };
        } catch (RuntimeException | Error e) {
            // The code that settles the batch logs this failure.
            return Outcome.FAILED;
        }
    }

    /** Ends the observations of published batches whose timeout has expired. To be called periodically. */
    public void sweep() {
        Instant now = clock.instant();
        for (Attempt attempt : open) {
            Instant leaseEnd = attempt.batch.nextAttemptAt();
            if (leaseEnd == null || leaseEnd.isBefore(now)) {
                attempt.end(Outcome.UNSETTLED, null);
            }
        }
    }

    private Attempt begin(PersistedBatch batch, Duration overdue) {
        sweep();
        Observation observation = Observation.NOOP;
        try {
            meters.handedOver(batch.collectorType(), overdue);
            if (!registry.isNoop()) {
                observation = start(batch);
            }
        } catch (RuntimeException e) {
            LOG.debug("An attempt to send could not be observed", e);
        }
        return new Attempt(batch, observation);
    }

    private Observation start(PersistedBatch batch) {
        ReceiverContext<Map<String, String>> context =
                new ReceiverContext<>((carrier, key) -> carrier.get(key), Kind.CONSUMER);
        context.setCarrier(batch.context());
        String collector = LogSanitizer.of(meters.tagOf(batch.collectorType()));
        return Observation.createNotStarted(SEND, () -> context, registry)
                .contextualName("send " + collector)
                .lowCardinalityKeyValue("collector", collector)
                .lowCardinalityKeyValue("attempt", batch.lastAttempt() == null ? "first" : "retry")
                .highCardinalityKeyValue("batch.id", LogSanitizer.of(batch.id()))
                .start();
    }

    /** One attempt to send one batch, from its start to its end; ends only once. */
    private final class Attempt {

        private final PersistedBatch batch;
        private final Observation observation;
        private final AtomicBoolean ended = new AtomicBoolean();

        Attempt(PersistedBatch batch, Observation observation) {
            this.batch = batch;
            this.observation = observation;
        }

        /**
         * Runs the action within the observation, so that what it does on this thread, a request for instance, belongs
         * to the attempt.
         */
        void inScope(Action action) throws Exception {
            Observation.Scope scope = Observation.Scope.NOOP;
            try {
                scope = observation.openScope();
            } catch (RuntimeException e) {
                LOG.debug("An attempt to send could not be observed", e);
            }
            try {
                action.run();
            } finally {
                close(scope);
            }
        }

        private void close(Observation.Scope scope) {
            try {
                scope.close();
            } catch (RuntimeException e) {
                LOG.debug("An attempt to send could not be observed any more", e);
            }
        }

        void end(Outcome outcome, @Nullable Throwable failure) {
            open.remove(this);
            if (!ended.compareAndSet(false, true)) {
                return;
            }
            try {
                if (outcome == Outcome.DELIVERED) {
                    Duration age = Duration.between(batch.createdAt(), clock.instant());
                    meters.delivered(batch.collectorType(), age.isNegative() ? Duration.ZERO : age);
                }
                observation.lowCardinalityKeyValue("outcome", outcome.tag);
                if (failure != null) {
                    observation.error(failure);
                }
                observation.stop();
            } catch (RuntimeException e) {
                LOG.debug("The end of an attempt to send could not be observed", e);
            }
        }
    }

    /** Ends the observation when the batch is settled. */
    private static final class Observed implements RecoveredBatch {

        private final RecoveredBatch recovered;
        private final Attempt attempt;

        Observed(RecoveredBatch recovered, Attempt attempt) {
            this.recovered = recovered;
            this.attempt = attempt;
        }

        private boolean settle(BooleanSupplier settling, Outcome outcome) {
            boolean settled = settling.getAsBoolean();
            if (settled) {
                attempt.end(outcome, null);
            }
            return settled;
        }

        @Override
        public PersistedBatch batch() {
            return recovered.batch();
        }

        @Override
        public Duration overdue() {
            return recovered.overdue();
        }

        @Override
        public boolean acknowledge() {
            return settle(recovered::acknowledge, Outcome.DELIVERED);
        }

        @Override
        public boolean fail(String reason) {
            return settle(() -> recovered.fail(reason), Outcome.FAILED);
        }

        @Override
        public boolean retryAfter(Duration delay, String reason) {
            return settle(() -> recovered.retryAfter(delay, reason), Outcome.RETRY_AFTER);
        }

        @Override
        public boolean reject(String reason) {
            return settle(() -> recovered.reject(reason), Outcome.REJECTED);
        }

        @Override
        public boolean isSettled() {
            return recovered.isSettled();
        }

        @Override
        public String toString() {
            return recovered.toString();
        }
    }
}
