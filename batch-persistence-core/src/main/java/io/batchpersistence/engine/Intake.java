package io.batchpersistence.engine;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/** Takes batches in: appends them to the store, and applies the overflow policy when it is full. Thread-safe. */
final class Intake {

    /** Space may become free without a removal by this engine, for instance when a file is released late. */
    private static final long SPACE_RECHECK_NANOS = TimeUnit.MILLISECONDS.toNanos(250);

    /**
     * The number of evictions doubles from 1 up to this, so that making room for a large batch does not take thousands
     * of rounds.
     */
    private static final int MAX_EVICTED_PER_APPEND = 256;

    private final BatchStore store;
    private final Lanes lanes;
    private final SlewedClock clock;
    private final UnaryOperator<Map<String, String>> contexts;
    private final OverflowPolicy overflowPolicy;
    private final Duration overflowTimeout;
    private final ListenerDispatcher dispatcher;
    private final SpaceSignal spaceSignal;
    private final Executor completions;
    /** Throws if batches are not taken in any more. */
    private final Runnable requireOpen;

    private final ReentrantLock evicting = new ReentrantLock();
    private final LongAdder refusedFull = new LongAdder();
    private final LongAdder refusedError = new LongAdder();

    Intake(
            EngineBuilder options,
            Lanes lanes,
            SlewedClock clock,
            ListenerDispatcher dispatcher,
            SpaceSignal spaceSignal,
            Executor completions,
            Runnable requireOpen) {
        store = options.store;
        contexts = options.contexts;
        overflowPolicy = options.overflowPolicy;
        overflowTimeout = options.overflowTimeout;
        this.lanes = lanes;
        this.clock = clock;
        this.dispatcher = dispatcher;
        this.spaceSignal = spaceSignal;
        this.completions = completions;
        this.requireOpen = requireOpen;
    }

    /** A batch to be persisted; its last version, with a new lease, if it had to wait for room. */
    static final class PersistRequest {
        private NewBatch batch;
        private final boolean unsent;

        private PersistRequest(NewBatch batch, boolean unsent) {
            this.batch = batch;
            this.unsent = unsent;
        }

        NewBatch batch() {
            return batch;
        }
    }

    /**
     * Checks a batch.
     *
     * @param unsent whether recovery sends the batch, as soon as the transaction that it is part of is committed
     */
    PersistRequest request(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context, boolean unsent) {
        Map<String, String> checkedContext = contexts.apply(context);
        SlewedClock.Reading now = clock.read();
        Lane lane = collectorType == null ? null : lanes.ifKnown(collectorType);
        Instant leaseUntil = lane == null ? now.steady() : leaseUntil(lane, now);
        NewBatch batch = new NewBatch(batchId, collectorType, entries, checkedContext, now.wall(), leaseUntil);
        // There is no lane for what is refused, so a new one comes after the checks.
        return new PersistRequest(lane == null ? leased(batch) : batch, unsent);
    }

    private NewBatch leased(NewBatch batch) {
        Lane lane = lanes.of(batch.collectorType());
        SlewedClock.Reading now = clock.read();
        return new NewBatch(
                batch.id(), batch.collectorType(), batch.entries(), batch.context(), now.wall(), leaseUntil(lane, now));
    }

    private static Instant leaseUntil(Lane lane, SlewedClock.Reading now) {
        return Times.after(now.steady(), lane.settings().batchTimeout());
    }

    /** Persists a batch, and waits until it is durable. */
    void persist(PersistRequest request) {
        Throwable failure = await(append(request, true));
        if (failure != null) {
            countRefused(failure);
            throw unchecked(failure);
        }
    }

    /** Persists a batch without waiting for the disk. */
    CompletableFuture<@Nullable Void> persistAsync(PersistRequest request) {
        return detached(append(request, false));
    }

    /**
     * Appends a batch, and applies the overflow policy if the store is full.
     *
     * @param waits whether to wait for the disk, so that the policy also applies if the store finds out late that it is
     *     full
     */
    private CompletableFuture<@Nullable Void> append(PersistRequest request, boolean waits) {
        long removals = spaceSignal.removals();
        CompletableFuture<@Nullable Void> durable = tryAppend(request, waits);
        BatchRejectedException full = rejection(durable, waits);
        if (full == null) {
            return durable;
        }
        return switch (overflowPolicy) {
            case REJECT -> durable;
            case BLOCK -> appendWhenSpace(request, full, removals, waits);
            case DROP_OLDEST -> appendEvicting(request, waits);
        };
    }

    private CompletableFuture<@Nullable Void> appendWhenSpace(
            PersistRequest request, BatchRejectedException first, long removalsBefore, boolean waits) {
        long began = System.nanoTime();
        long timeout = SpaceSignal.nanos(overflowTimeout);
        BatchRejectedException full = first;
        long removals = removalsBefore;
        while (true) {
            long left = timeout - (System.nanoTime() - began);
            if (left <= 0) {
                return CompletableFuture.failedFuture(new BatchRejectedException("no space after waiting "
                        + overflowTimeout + " for it (overflow policy block; raise the overflow timeout, or): "
                        + full.getMessage()));
            }
            try {
                spaceSignal.await(removals, Math.min(left, SPACE_RECHECK_NANOS));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return CompletableFuture.failedFuture(new BatchRejectedException(
                        "interrupted while waiting for space (overflow policy block): " + full.getMessage()));
            }
            requireOpen.run();
            removals = spaceSignal.removals();
            request.batch = leased(request.batch);
            CompletableFuture<@Nullable Void> durable = tryAppend(request, waits);
            BatchRejectedException again = rejection(durable, waits);
            if (again == null) {
                return durable;
            }
            full = again;
        }
    }

    private CompletableFuture<@Nullable Void> appendEvicting(PersistRequest request, boolean waits) {
        while (true) {
            List<BatchSummary> evicted = new ArrayList<>();
            CompletableFuture<@Nullable Void> durable;
            try {
                durable = evictAndAppend(request, evicted);
            } finally {
                if (!evicted.isEmpty()) {
                    evicted.forEach(dispatcher::evicted);
                    spaceSignal.signal();
                }
            }
            if (evicted.isEmpty() || rejection(durable, waits) == null) {
                return durable;
            }
        }
    }

    /**
     * Only one thread evicts at a time, because several would otherwise evict for the same batch. Does not wait for the
     * disk.
     */
    private CompletableFuture<@Nullable Void> evictAndAppend(PersistRequest request, List<BatchSummary> evicted) {
        boolean begun = DeferredLog.begin();
        evicting.lock();
        try {
            CompletableFuture<@Nullable Void> durable = tryAppend(request, false);
            for (int count = 1;
                    rejection(durable, false) != null;
                    count = Math.min(2 * count, MAX_EVICTED_PER_APPEND)) {
                List<BatchSummary> gone = store.evictOldest(count);
                if (gone.isEmpty()) {
                    return durable;
                }
                evicted.addAll(gone);
                durable = tryAppend(request, false);
                if (rejection(durable, false) != null) {
                    // Evicted batches may still take space on disk.
                    store.reclaim();
                    durable = tryAppend(request, false);
                }
            }
            return durable;
        } finally {
            evicting.unlock();
            DeferredLog.end(begun);
        }
    }

    private CompletableFuture<@Nullable Void> tryAppend(PersistRequest request, boolean waits) {
        NewBatch batch = request.batch;
        try {
            if (request.unsent) {
                boolean sends = lanes.of(batch.collectorType()).settings().recovery();
                return store.appendUnsent(batch, sends ? clock.steady() : null);
            }
            return waits ? store.appendAndWait(batch) : store.append(batch);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private static @Nullable BatchRejectedException rejection(CompletableFuture<?> durable, boolean waits) {
        if (!waits && !durable.isDone()) {
            return null;
        }
        return await(durable) instanceof BatchRejectedException full ? full : null;
    }

    /**
     * Waits as long as it takes: giving up would leave it unknown whether the batch is held. An interrupt is restored
     * for the caller.
     */
    private static @Nullable Throwable await(CompletableFuture<?> future) {
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    future.get();
                    return null;
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (ExecutionException e) {
                    return unwrapped(e);
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static Throwable unwrapped(Throwable thrown) {
        Throwable cause = thrown.getCause();
        return (thrown instanceof ExecutionException || thrown instanceof CompletionException) && cause != null
                ? cause
                : thrown;
    }

    private static RuntimeException unchecked(Throwable failure) {
        if (failure instanceof RuntimeException unchecked) {
            return unchecked;
        }
        if (failure instanceof Error error) {
            throw error;
        }
        return new BatchPersistenceException("the batch could not be persisted: " + failure, failure);
    }

    /**
     * Returns a future of the caller's own: cancelling it does not reach into the store, and dependent stages (for
     * instance sending the batch) do not run on the thread that syncs all batches, which they would block. They do not
     * run on the executor either: it may run them on the calling thread, and its threads are for sending.
     */
    private CompletableFuture<@Nullable Void> detached(CompletableFuture<@Nullable Void> durable) {
        CompletableFuture<@Nullable Void> result = new CompletableFuture<>();
        if (durable.isDone()) {
            complete(result, await(durable));
        } else {
            var unused = durable.whenComplete((nothing, thrown) ->
                    completions.execute(() -> complete(result, thrown == null ? null : unwrapped(thrown))));
        }
        return result;
    }

    private void complete(CompletableFuture<@Nullable Void> result, @Nullable Throwable failure) {
        countRefused(failure);
        if (failure == null) {
            result.complete(null);
        } else {
            result.completeExceptionally(failure);
        }
    }

    private void countRefused(@Nullable Throwable failure) {
        if (failure instanceof BatchRejectedException) {
            refusedFull.increment();
        } else if (failure instanceof BatchPersistenceException && !(failure instanceof DuplicateBatchException)) {
            refusedError.increment();
        }
    }

    /** Batches that were refused because the store was full. */
    long refusedFull() {
        return refusedFull.sum();
    }

    /** Batches that were refused because they could not be written. */
    long refusedError() {
        return refusedError.sum();
    }
}
