package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.Corruption;
import io.batchpersistence.internal.log.LogSanitizer;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.beans.factory.ObjectProvider;

/**
 * Passes the engine's notifications on to every {@link BatchListener} bean. Notifications are queued until the
 * application has started: a store reports damage while it opens, when there are no listeners yet.
 */
final class ListenerBridge {

    private static final Logger LOG = LogSanitizer.logger(ListenerBridge.class);

    /**
     * The limit of queued notifications: with more than that, the disk must be replaced; the engine's log has them all.
     */
    private static final int MOST_WAITING = 1_000;

    private final ObjectProvider<BatchListener> listeners;
    private final @Nullable ClassLoader classes;
    private final ReentrantLock lock = new ReentrantLock();
    private final Queue<Consumer<BatchListener>> waiting = new ArrayDeque<>();
    private volatile boolean started;

    ListenerBridge(ObjectProvider<BatchListener> listeners, @Nullable ClassLoader classes) {
        this.listeners = listeners;
        this.classes = classes;
    }

    void start() {
        Consumer<BatchListener> first = next();
        // Not on this thread: a listener that never returns must not keep the application from starting.
        if (first != null) {
            ApplicationThreads.of("batch-persistence-announcements", classes, () -> {
                        for (Consumer<BatchListener> next = first; next != null; next = next()) {
                            tellAll(next);
                        }
                    })
                    .start();
        }
    }

    /** Only when the queue is empty are notifications passed on at once: none must overtake what is queued. */
    private @Nullable Consumer<BatchListener> next() {
        lock.lock();
        try {
            Consumer<BatchListener> next = waiting.poll();
            started = next == null;
            return next;
        } finally {
            lock.unlock();
        }
    }

    /**
     * The listener for the engine. This class doesn't implement {@link BatchListener} itself: it is a bean and would
     * notify itself.
     */
    BatchListener asListener() {
        return new BatchListener() {
            @Override
            public void onDeadLettered(BatchSummary batch) {
                announce(listener -> listener.onDeadLettered(batch));
            }

            @Override
            public void onExpired(BatchSummary batch) {
                announce(listener -> listener.onExpired(batch));
            }

            @Override
            public void onEvicted(BatchSummary batch) {
                announce(listener -> listener.onEvicted(batch));
            }

            @Override
            public void onCorrupted(Corruption damage) {
                announce(listener -> listener.onCorrupted(damage));
            }

            @Override
            public void onOutageOpened(CollectorOutage outage) {
                announce(listener -> listener.onOutageOpened(outage));
            }

            @Override
            public void onOutageClosed(CollectorOutage outage) {
                announce(listener -> listener.onOutageClosed(outage));
            }
        };
    }

    private void announce(Consumer<BatchListener> announcement) {
        if (!started) {
            lock.lock();
            try {
                if (!started) {
                    if (waiting.size() < MOST_WAITING) {
                        waiting.add(announcement);
                    }
                    return;
                }
            } finally {
                lock.unlock();
            }
        }
        tellAll(announcement);
    }

    private void tellAll(Consumer<BatchListener> announcement) {
        try {
            listeners.orderedStream().forEach(listener -> notify(listener, announcement));
        } catch (RuntimeException | Error e) {
            LOG.warn("The listeners could not be notified of a batch that was given up", e);
        }
    }

    private static void notify(BatchListener listener, Consumer<BatchListener> announcement) {
        try {
            announcement.accept(listener);
        } catch (RuntimeException | Error e) {
            // Includes StackOverflowError: the other listeners are notified nevertheless.
            LOG.warn("{} threw when notified of a batch that was given up", listener, e);
        }
    }
}
