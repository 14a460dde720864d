package io.batchpersistence.internal.spi;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchStats;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Batches that were to be sent and can't be read at the moment: the heap is too small for them, no file descriptor is
 * left, a library is missing. As far as is known they are intact, so they stay, and are tried again with growing
 * delays. Limited. Thread-safe.
 */
public final class UnreadableBatches {

    /** Limit; batches beyond it are tried again as if for the first time, and are not counted. */
    private static final int MAX = 10_000;

    private static final long FIRST_RETRY_MILLIS = 10_000;
    private static final long LONGEST_RETRY_MILLIS = 600_000;

    private final ReentrantLock lock = new ReentrantLock();
    /** By number, in the order of their first failure. */
    private final Map<Long, Failure> failures = new LinkedHashMap<>();

    private record Failure(int slot, int attempts, long atMillis, String message) {}

    /** Tells whether a batch is still held. */
    public interface Held {
        /** Whether the batch with that number, and the slot reported when it could not be read, is still held. */
        boolean test(int slot, long sequence);
    }

    /** How long to wait after this failure before a batch is tried again. Needs next to no memory. */
    public Duration retryAfter(long sequence) {
        lock.lock();
        try {
            Failure before = failures.get(sequence);
            int doublings = before == null ? 0 : Math.min(before.attempts(), 10);
            return Duration.ofMillis(Math.min(LONGEST_RETRY_MILLIS, FIRST_RETRY_MILLIS << doublings));
        } finally {
            lock.unlock();
        }
    }

    /**
     * Records that a batch could not be read.
     *
     * @param slot for {@link Held}
     * @param name describes it to a person
     * @return the exception to throw, if no other batch can be handed out
     */
    public BatchPersistenceException failed(
            int slot, long sequence, String name, Throwable why, Duration retryAfter, long nowMillis) {
        String cause = why instanceof BatchPersistenceException && why.getMessage() != null
                ? why.getMessage()
                : why.toString();
        lock.lock();
        try {
            Failure before = failures.get(sequence);
            int attempts = before == null ? 1 : before.attempts() + 1;
            String message = LogSanitizer.of(name + " can't be read: " + cause + ". It stays, and is tried again after "
                    + retryAfter.toSeconds() + " s; attempts so far: " + attempts
                    + (why instanceof OutOfMemoryError ? ". If that goes on, give the process more memory" : ""));
            if (before != null || failures.size() < MAX) {
                failures.put(sequence, new Failure(slot, attempts, nowMillis, message));
            }
            return new BatchPersistenceException(message, why);
        } finally {
            lock.unlock();
        }
    }

    /** Records that a batch has been read. */
    public void read(long sequence) {
        lock.lock();
        try {
            failures.remove(sequence);
        } finally {
            lock.unlock();
        }
    }

    /** Forgets batches whose last failure was before that time: they were read by another thread, or are gone. */
    public void forgetBefore(long millis) {
        lock.lock();
        try {
            failures.values().removeIf(failure -> failure.atMillis() < millis);
        } finally {
            lock.unlock();
        }
    }

    /** How many there are; {@code null} if there are none. Those that are not held any more are forgotten. */
    public BatchStats.@Nullable Unreadable stats(Held held) {
        lock.lock();
        try {
            failures.entrySet()
                    .removeIf(failure -> !held.test(failure.getValue().slot(), failure.getKey()));
            return failures.isEmpty()
                    ? null
                    : new BatchStats.Unreadable(
                            failures.size(), failures.values().iterator().next().message());
        } finally {
            lock.unlock();
        }
    }
}
