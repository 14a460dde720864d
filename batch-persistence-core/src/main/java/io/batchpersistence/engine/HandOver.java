package io.batchpersistence.engine;

import io.batchpersistence.BatchStore.Claim;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.SingleLine;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/**
 * One claimed batch on its way to the target and back. It ends in two independent ways: it is <em>settled</em> by whoever got
 * the batch, and <em>detached</em> when its claim is over (settled, timed out, marked or removed by somebody else), which
 * frees the lane's slot. Detached but not settled, only an acknowledgement still means something.
 */
final class HandOver implements RecoveredBatch {

    /** What the engine does about it. Each returns whether the store changed. */
    interface Settling {
        boolean acknowledge(HandOver handOver);

        boolean fail(HandOver handOver, Failure failure);
    }

    private enum Settled {
        NO,
        /** Somebody's call is under way; goes back if the store fails. */
        UNDER_WAY,
        YES
    }

    private final Claim claim;
    private final Lane lane;
    private final Lane.Permit permit;
    private final Settling settling;
    private final Duration overdue;
    private final AtomicReference<Settled> settled = new AtomicReference<>(Settled.NO);
    private volatile boolean detached;
    private volatile boolean workerWentOn;

    private final ReentrantLock threadLock = new ReentrantLock();
    private @Nullable Thread thread;
    private boolean interrupted;

    HandOver(Claim claim, Lane lane, Lane.Permit permit, Settling settling, Duration overdue) {
        this.claim = claim;
        this.lane = lane;
        this.permit = permit;
        this.settling = settling;
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
        return settle(() -> settling.acknowledge(this));
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
        return settle(() -> settling.fail(this, failure));
    }

    @Override
    public boolean isSettled() {
        return settled.get() == Settled.YES;
    }

    /** A call that changed nothing, or failed, has not settled it: a later acknowledgement must still get through. */
    private boolean settle(BooleanSupplier action) {
        if (!settled.compareAndSet(Settled.NO, Settled.UNDER_WAY)) {
            return false;
        }
        boolean changed = false;
        try {
            changed = action.getAsBoolean();
            return changed;
        } finally {
            settled.set(changed ? Settled.YES : Settled.NO);
        }
    }

    /** Whether the application sends it itself: then it was never claimed, and has no fence. */
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

    /** After this no interrupt of ours can reach the thread, nor has one been left behind on it. */
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

    /** The worker that handed it over looks for the next batch from now on. */
    void workerWentOn() {
        workerWentOn = true;
        lane.threadFreed(permit);
    }

    boolean hasWorkerGoneOn() {
        return workerWentOn;
    }

    /**
     * Interrupts the target if it still runs.
     *
     * @return whether it did
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

    /** Whether {@link #interrupt} has interrupted the target: an interrupt that shows afterwards was meant for it alone. */
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
        return "RecoveredBatch['" + SingleLine.of(batch().id()) + "' for " + SingleLine.of(batch().collectorType())
                + ", attempt " + batch().attempt() + (isSettled() ? ", settled" : "") + "]";
    }
}
