package io.batchpersistence.engine;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.FailureClassifier.Kind;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/**
 * Decides what becomes of a failed batch. The store calls {@link #decide} under its lock or in a transaction, so
 * everything that needs a lock or the application's code has been prepared before, and the lane is told afterwards.
 */
final class FailedAttempt implements FailureDecision {
    private static final double RETRY_AFTER_JITTER = 0.1;

    private record Prospect(Lane lane, CollectorSettings settings, Lane.Consequence consequence) {}

    private final String batchId;
    private final Failure failure;
    private final Lane.@Nullable Permit permit;
    private final int knownRetryCount;
    private final Instant now;
    /** Whether recovery leaves the batch alone. */
    private final boolean held;

    private final RandomGenerator backoffJitter;
    private final double retryAfterFactor;
    private final Map<String, Prospect> prospects = new HashMap<>();
    // Set by the store's call.
    private @Nullable Prospect decided;
    private int retryCount;
    private @Nullable Instant due;

    FailedAttempt(
            String batchId,
            Failure failure,
            @Nullable InFlightBatch inFlight,
            boolean held,
            Instant now,
            RandomGenerator random) {
        this.batchId = batchId;
        this.failure = failure;
        permit = inFlight == null ? null : inFlight.permit();
        knownRetryCount = inFlight == null ? 0 : inFlight.batch().retryCount();
        this.held = held;
        this.now = now;
        long drawn = random.nextLong();
        backoffJitter = () -> drawn;
        retryAfterFactor = 1 + RETRY_AFTER_JITTER * random.nextDouble();
    }

    void prepare(Lane lane) {
        prospects.put(
                lane.collectorType,
                new Prospect(lane, lane.settings(), lane.consequence(permit, batchId, knownRetryCount, failure, now)));
    }

    @Override
    public Verdict decide(String collectorType, int retryCount) {
        Prospect prospect = prospects.get(collectorType);
        if (prospect == null) {
            throw new Lanes.UnknownLaneException(collectorType);
        }
        decided = prospect;
        this.retryCount = retryCount;
        if (failure.kind() == Kind.PERMANENT) {
            // The retry count does not change, because it was not what made this batch a dead letter, see
            // replayAfterOutage.
            return new Verdict(true, null, retryCount);
        }
        CollectorSettings settings = prospect.settings();
        Lane.Consequence consequence = prospect.consequence();
        int retries = consequence.counts() ? retryCount + 1 : retryCount;
        if (consequence.counts() && retries >= settings.retry().maxRetries()) {
            return new Verdict(true, null, retries);
        }
        due = held || !settings.recovery() ? null : due(settings, consequence);
        return new Verdict(false, due, retries);
    }

    private Instant due(CollectorSettings settings, Lane.Consequence consequence) {
        Lane.FailedProbe probe = consequence.probe();
        Instant own = probe != null
                ? probe.pushedTo()
                : Times.after(now, settings.retry().delayAfter(retryCount + 1 + consequence.inARow(), backoffJitter));
        if (failure.kind() != Kind.RETRY_AFTER || failure.delay().isZero()) {
            return own;
        }
        Instant wanted = Times.after(now, scaled(Lane.cappedRetryAfter(failure.delay(), settings), retryAfterFactor));
        return wanted.isAfter(own) ? wanted : own;
    }

    /** The batch's lane; only after the store has decided. */
    Lane lane() {
        return prospect().lane();
    }

    private Prospect prospect() {
        return Objects.requireNonNull(decided, "the store has asked for the decision");
    }

    /**
     * Tells the lane about the failure, once the store has changed the batch.
     *
     * @return whether this opened the lane
     */
    boolean record() {
        boolean opened =
                lane().failed(permit, batchId, retryCount, failure, prospect().consequence(), now);
        if (due == null) {
            lane().forgetProbed(batchId);
        }
        return opened;
    }

    private static Duration scaled(Duration duration, double factor) {
        return duration.plusMillis((long) (duration.toMillis() * (factor - 1)));
    }
}
