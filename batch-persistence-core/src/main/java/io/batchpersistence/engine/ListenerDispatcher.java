package io.batchpersistence.engine;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.Corruption;
import io.batchpersistence.internal.log.DeferredLog;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Announces batches that are given up: to the listener one by one, and to the log in one line per kind, collector type
 * and round, because a full store or an expired backlog gives up thousands at a time.
 *
 * <p>The listener is called in a task of its own, one call at a time and in order, so that a listener that is slow or
 * never returns delays only its own later calls. The queue of waiting calls is limited to {@link #MAX_QUEUED}.
 */
final class ListenerDispatcher {

    private enum Kind {
        DEAD("given up as dead letters, kept until the dead letter TTL or a replay"),
        EXPIRED("removed, older than their TTL"),
        EVICTED("evicted to make space for new ones (overflow policy DROP_OLDEST)"),
        EVICTED_DEAD("dropped, because dead letters take more than their limit (maxDeadLetterBytes)");

        private final String words;

        Kind(String words) {
            this.words = words;
        }
    }

    private record Subject(Kind kind, String collectorType) {}

    private record Tally(
            long count, String lastId, @Nullable String lastReason) {}

    /** Maximum number of announcements queued for the listener; about 1.5 MB. */
    static final int MAX_QUEUED = 10_000;

    private record Call(String method, Runnable action) {}

    private final BatchListener listener;
    private final Logger log;
    /** Runs a task, or returns {@code false} if it can't. */
    private final Predicate<Runnable> executor;

    private final Map<Subject, Tally> pendingTallies = new ConcurrentHashMap<>();

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition idle = lock.newCondition();
    private final Deque<Call> waiting = new ArrayDeque<>();
    private boolean dispatching;
    private volatile @Nullable Thread dispatcherThread;
    private long dropped;

    ListenerDispatcher(BatchListener listener, Logger log, Predicate<Runnable> executor) {
        this.listener = listener;
        this.log = log;
        this.executor = executor;
    }

    void deadLettered(BatchSummary batch) {
        count(Kind.DEAD, batch);
        enqueue("onDeadLettered", () -> listener.onDeadLettered(batch));
    }

    void expired(BatchSummary batch) {
        count(Kind.EXPIRED, batch);
        enqueue("onExpired", () -> listener.onExpired(batch));
    }

    void evicted(BatchSummary batch) {
        evicted(Kind.EVICTED, batch);
    }

    void deadLetterEvicted(BatchSummary batch) {
        evicted(Kind.EVICTED_DEAD, batch);
    }

    private void evicted(Kind kind, BatchSummary batch) {
        count(kind, batch);
        enqueue("onEvicted", () -> listener.onEvicted(batch));
    }

    void outageOpened(CollectorOutage outage, int failuresInARow) {
        if (outage.foundHere() || failuresInARow > 0) {
            log.warn(
                    "collector '{}' is marked down after {} failures in a row (last: {}): probing it with backoff",
                    outage.collectorType(),
                    failuresInARow,
                    outage.lastFailure());
        } else {
            log.info(
                    "collector '{}' is marked down by another instance ({}): one instance probes it, with backoff",
                    outage.collectorType(),
                    outage.lastFailure());
        }
        enqueue("onOutageOpened", () -> listener.onOutageOpened(outage));
    }

    void outageClosed(CollectorOutage outage) {
        Duration length = outage.until() == null ? Duration.ZERO : Duration.between(outage.since(), outage.until());
        if (outage.answered()) {
            log.info(
                    "collector '{}' is back after {} and {} probes: ramping up",
                    outage.collectorType(),
                    length,
                    outage.probes());
        } else {
            log.info(
                    "collector '{}' was down for at least {}; it is no longer probed, since no batch waits for it",
                    outage.collectorType(),
                    length);
        }
        enqueue("onOutageClosed", () -> listener.onOutageClosed(outage));
    }

    /** Not logged here: the store has done that. */
    void corrupted(Corruption damage) {
        enqueue("onCorrupted", () -> listener.onCorrupted(damage));
    }

    /** Writes the log lines that are due. */
    void flush() {
        // Retries if the executor refused the task the last time.
        startDispatching();
        long lost = takeDropped();
        if (lost > 0) {
            log.error("the batch listener is too slow or blocked: {} events were logged but not passed to it", lost);
        }
        for (Subject subject : Set.copyOf(pendingTallies.keySet())) {
            Tally tally = pendingTallies.remove(subject);
            if (tally != null) {
                log.warn(
                        "collector '{}': {} batches {} (last: '{}', last failure: {})",
                        subject.collectorType,
                        tally.count,
                        subject.kind.words,
                        tally.lastId,
                        tally.lastReason);
            }
        }
    }

    private void count(Kind kind, BatchSummary batch) {
        pendingTallies.merge(
                new Subject(kind, batch.collectorType()),
                new Tally(1, batch.id(), batch.failureReason()),
                (old, one) -> new Tally(old.count + 1, one.lastId, one.lastReason));
    }

    private void enqueue(String method, Runnable action) {
        lock.lock();
        try {
            if (waiting.size() >= MAX_QUEUED) {
                dropped++;
                return;
            }
            waiting.add(new Call(method, action));
        } finally {
            lock.unlock();
        }
        startDispatching();
    }

    private void startDispatching() {
        lock.lock();
        try {
            if (dispatching || waiting.isEmpty()) {
                return;
            }
            dispatching = true;
        } finally {
            lock.unlock();
        }
        if (!executor.test(this::dispatchAll)) {
            finishDispatching();
        }
    }

    private void dispatchAll() {
        dispatcherThread = Thread.currentThread();
        for (Call next; (next = next()) != null; ) {
            runGuarded(next);
        }
    }

    private @Nullable Call next() {
        lock.lock();
        try {
            Call next = waiting.poll();
            if (next == null) {
                finishDispatching();
            }
            return next;
        } finally {
            lock.unlock();
        }
    }

    private void finishDispatching() {
        lock.lock();
        try {
            dispatching = false;
            dispatcherThread = null;
            idle.signalAll();
        } finally {
            lock.unlock();
        }
    }

    private long takeDropped() {
        lock.lock();
        try {
            long taken = dropped;
            dropped = 0;
            return taken;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Waits at most {@code patience} until the listener has received everything. An interrupt ends the wait and is
     * kept.
     */
    void close(Duration patience) {
        flush();
        boolean begun = DeferredLog.begin();
        lock.lock();
        try {
            long left = SpaceSignal.nanos(patience);
            // If the listener itself closes the engine, this thread must not wait for itself.
            while (dispatching && left > 0 && dispatcherThread != Thread.currentThread()) {
                left = idle.awaitNanos(left);
            }
            if (!waiting.isEmpty()) {
                log.error("{} events were not passed to the batch listener before the shutdown", waiting.size());
                waiting.clear();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            lock.unlock();
            DeferredLog.end(begun);
        }
    }

    /**
     * The announced event has already happened, so nothing that the listener throws, not even an error, may propagate.
     */
    private void runGuarded(Call call) {
        try {
            call.action.run();
        } catch (Throwable t) {
            log.error("the batch listener threw from {}; nothing else is affected", call.method, t);
        }
    }
}
