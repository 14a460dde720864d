package io.batchpersistence.internal.store;

import io.batchpersistence.Corruption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** What a store has found damaged: told to whoever listens, and kept for him until there is one. Thread-safe. */
public final class CorruptionReports {

    private final ReentrantLock lock = new ReentrantLock();
    private final List<Corruption> untold = new ArrayList<>();
    private @Nullable Consumer<Corruption> listener;

    /** None so far. */
    public CorruptionReports() {}

    /**
     * Tells of it, on this thread.
     *
     * @param corruption what was found
     */
    public void report(Corruption corruption) {
        Consumer<Corruption> told;
        lock.lock();
        try {
            told = listener;
            if (told == null) {
                untold.add(corruption);
            }
        } finally {
            lock.unlock();
        }
        if (told != null) {
            told.accept(corruption);
        }
    }

    /**
     * Registers who is told from now on; what was found before anybody listened is told at once.
     *
     * @param newListener called on the thread that found it
     */
    public void listen(Consumer<Corruption> newListener) {
        List<Corruption> soFar;
        lock.lock();
        try {
            listener = newListener;
            soFar = List.copyOf(untold);
            untold.clear();
        } finally {
            lock.unlock();
        }
        soFar.forEach(newListener);
    }

    /** What nobody has been told yet. */
    List<Corruption> untold() {
        lock.lock();
        try {
            return List.copyOf(untold);
        } finally {
            lock.unlock();
        }
    }
}
