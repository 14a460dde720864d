package io.batchpersistence.engine;

import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Settled;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/**
 * One claimed batch on its way to the target and back. It ends in two independent ways: it is <em>settled</em> by the
 * target that was handed the batch, and <em>detached</em> when its claim is over (settled, timed out, or marked or
 * removed by another caller), which frees the lane's slot. If it is detached but not settled, only an acknowledgement
 * still has an effect.
 */
final class InFlightBatch implements RecoveredBatch {

    /** Applies a settling call to the engine. Each method returns whether the store changed. */
    interface SettlementHandler {
        boolean acknowledge(InFlightBatch inFlight);

        /** Begins to acknowledge; {@code null} if that has to be waited for, by {@link #acknowledge}. */
        default @Nullable CompletableFuture<@Nullable Settled> acknowledgeLater(InFlightBatch inFlight) {
            return null;
        }

        boolean fail(InFlightBatch inFlight, Failure failure);
    }

    private enum Settlement {
        NO,
        /** A settling call is in progress; reset to {@link #NO} if it fails or changes nothing. */
        UNDER_WAY,
        YES
    }

    private final Claim claim;
    private final Lane lane;
    private final Lane.Permit permit;
    private final SettlementHandler settlement;
    private final Duration overdue;
    private final AtomicReference<Settlement> settled = new AtomicReference<>(Settlement.NO);
    /** What the store has yet to record, after {@link #acknowledgeLater}. */
    private volatile @Nullable CompletableFuture<@Nullable Settled> recording;

    private volatile boolean detached;
    private volatile boolean abandonedByWorker;

    private final ReentrantLock threadLock = new ReentrantLock();
    private @Nullable Thread thread;
    private boolean interrupted;

    InFlightBatch(Claim claim, Lane lane, Lane.Permit permit, SettlementHandler settlement, Duration overdue) {
        this.claim = claim;
        this.lane = lane;
        this.permit = permit;
        this.settlement = settlement;
        this.overdue = overdue;
    }

    @Override
    public PersistedBatch batch() {
        return claim.batch();
    }

    @Override
    public Duration overdue() {
        return overdue;
    }

    long fence() {
        return claim.fence();
    }

    Lane lane() {
        return lane;
    }

    Lane.Permit permit() {
        return permit;
    }

    @Override
    public boolean acknowledge() {
        return settle(() -> settlement.acknowledge(this));
    }

    @Override
    public void acknowledgeLater() {
        if (!settled.compareAndSet(Settlement.NO, Settlement.UNDER_WAY)) {
            return;
        }
        boolean begun = false;
        try {
            CompletableFuture<@Nullable Settled> began = settlement.acknowledgeLater(this);
            recording = began;
            begun = began != null;
        } finally {
            if (!begun) {
                settled.set(Settlement.NO);
            }
        }
        if (!begun) {
            acknowledge();
        }
    }

    /** What the store is recording, since the batch was acknowledged without waiting for that; {@code null} if nothing. */
    @Nullable
    CompletableFuture<@Nullable Settled> recording() {
        return recording;
    }

    /** Reports whether what the store was recording has changed anything. */
    void recorded(boolean changed) {
        recording = null;
        settled.set(changed ? Settlement.YES : Settlement.NO);
    }

    @Override
    public boolean fail(String reason) {
        return fail(Failure.transientFailure(reason));
    }

    @Override
    public boolean retryAfter(Duration delay, String reason) {
        return fail(Failure.retryAfter(delay, reason));
    }

    @Override
    public boolean reject(String reason) {
        return fail(Failure.permanent(reason));
    }

    boolean fail(Failure failure) {
        return settle(() -> settlement.fail(this, failure));
    }

    @Override
    public boolean isSettled() {
        return settled.get() == Settlement.YES;
    }

    /**
     * A call that changed nothing, or failed, does not settle the batch: a later acknowledgement must still be
     * possible.
     */
    private boolean settle(BooleanSupplier action) {
        if (!settled.compareAndSet(Settlement.NO, Settlement.UNDER_WAY)) {
            return false;
        }
        boolean changed = false;
        try {
            changed = action.getAsBoolean();
            return changed;
        } finally {
            settled.set(changed ? Settlement.YES : Settlement.NO);
        }
    }

    /** Whether the application sends the batch itself: then it was never claimed and has no fence. */
    boolean isFirstSend() {
        return permit.isFirstSend();
    }

    boolean isDetached() {
        return detached;
    }

    void detach() {
        detached = true;
        lane.release(permit);
    }

    void executionStarted() {
        threadLock.lock();
        try {
            thread = Thread.currentThread();
        } finally {
            threadLock.unlock();
        }
    }

    /** Whether the calling thread is the one that handed the batch over, and the target has not returned. */
    boolean isExecutedHere() {
        threadLock.lock();
        try {
            return thread == Thread.currentThread();
        } finally {
            threadLock.unlock();
        }
    }

    /** From here on no interrupt of {@link #interrupt} can reach the thread, and none is left pending on it. */
    void executionEnded() {
        threadLock.lock();
        try {
            thread = null;
            if (interrupted) {
                Thread.interrupted();
            }
        } finally {
            threadLock.unlock();
        }
    }

    /** The worker that handed the batch over is free to look for the next one. */
    void abandonedByWorker() {
        abandonedByWorker = true;
        lane.threadFreed(permit);
    }

    boolean isAbandonedByWorker() {
        return abandonedByWorker;
    }

    /**
     * Interrupts the target if it is still running.
     *
     * @return whether it was running
     */
    boolean interrupt() {
        threadLock.lock();
        try {
            if (thread == null || thread == Thread.currentThread()) {
                return false;
            }
            interrupted = true;
            thread.interrupt();
            return true;
        } finally {
            threadLock.unlock();
        }
    }

    /**
     * Whether {@link #interrupt} has interrupted the target: an interrupt seen afterwards was meant only for the
     * target.
     */
    boolean wasInterrupted() {
        threadLock.lock();
        try {
            return interrupted;
        } finally {
            threadLock.unlock();
        }
    }

    @Override
    public String toString() {
        return "RecoveredBatch['" + LogSanitizer.of(batch().id()) + "' for " + LogSanitizer.of(batch().collectorType())
                + ", attempt " + batch().attempt() + (isSettled() ? ", settled" : "") + "]";
    }
}
