package io.batchpersistence.internal.spi;

import io.batchpersistence.Corruption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** Delivers a store's corruption reports to the listener, and keeps them until there is one. Thread-safe. */
public final class CorruptionReports {

    private final ReentrantLock lock = new ReentrantLock();
    private final List<Corruption> unreported = new ArrayList<>();
    private @Nullable Consumer<Corruption> listener;

    /** Delivers a report, on this thread. */
    public void report(Corruption corruption) {
        Consumer<Corruption> told;
        lock.lock();
        try {
            told = listener;
            if (told == null) {
                unreported.add(corruption);
            }
        } finally {
            lock.unlock();
        }
        if (told != null) {
            told.accept(corruption);
        }
    }

    /**
     * Registers the listener. It immediately gets the reports made before there was one.
     *
     * @param newListener called on the thread that found the corruption
     */
    public void listen(Consumer<Corruption> newListener) {
        List<Corruption> soFar;
        lock.lock();
        try {
            listener = newListener;
            soFar = List.copyOf(unreported);
            unreported.clear();
        } finally {
            lock.unlock();
        }
        soFar.forEach(newListener);
    }

    /** A copy of the reports that are not delivered yet. */
    public List<Corruption> unreported() {
        lock.lock();
        try {
            return List.copyOf(unreported);
        } finally {
            lock.unlock();
        }
    }
}
