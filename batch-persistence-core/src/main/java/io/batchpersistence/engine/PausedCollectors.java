package io.batchpersistence.engine;

import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/** The collector types that an operator has paused: a copy of what the store knows, for quick look-ups. Thread-safe. */
final class PausedCollectors {

    private final BatchStore store;
    private final Set<String> paused = ConcurrentHashMap.newKeySet();
    /** Held while the copy is made, so that an older answer does not replace a newer one. */
    private final ReentrantLock pausing = new ReentrantLock();

    PausedCollectors(BatchStore store) {
        this.store = store;
    }

    boolean contains(String collectorType) {
        return paused.contains(collectorType);
    }

    void forEach(Consumer<String> action) {
        paused.forEach(action);
    }

    /** Pauses a collector type; returns whether it was not paused before. */
    boolean pause(String collectorType) {
        // Immediately, because the store may take some time.
        paused.add(NewBatch.checkedCollectorType(collectorType));
        pausing.lock();
        try {
            // A round may have refreshed the set in the meantime.
            paused.add(collectorType);
            try {
                return store.pause(collectorType, true);
            } finally {
                refresh();
            }
        } finally {
            pausing.unlock();
        }
    }

    /** Resumes a collector type; returns whether it was paused. */
    boolean resume(String collectorType) {
        NewBatch.checkedCollectorType(collectorType);
        pausing.lock();
        try {
            boolean changed = store.pause(collectorType, false);
            refresh();
            return changed;
        } finally {
            pausing.unlock();
        }
    }

    /** Copies what the store knows. */
    void refresh() {
        pausing.lock();
        try {
            Set<String> now = store.pausedCollectorTypes();
            paused.addAll(now);
            paused.retainAll(now);
        } finally {
            pausing.unlock();
        }
    }

    /** Picks up what another instance that shares the store has paused or resumed. */
    void refreshUnlessBusy() {
        // If the lock is taken, its holder refreshes the set itself.
        if (pausing.tryLock()) {
            try {
                refresh();
            } finally {
                pausing.unlock();
            }
        }
    }
}
