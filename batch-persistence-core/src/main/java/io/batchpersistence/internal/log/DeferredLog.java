package io.batchpersistence.internal.log;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/**
 * Defers log lines while the calling thread must not run the application's code. A log line may reach an appender that
 * persists and waits, or that waits for a lock of another thread that persists: if it were called while its thread
 * writes for all threads, or holds a lock that persisting needs, it would wait for itself.
 *
 * <ul>
 *   <li>Between {@link #begin} and {@link #end} lines are collected; the outermost end writes them, on the same thread.
 *   <li>Threads of a store never write lines themselves, see {@link #storeThread}; a dedicated thread writes them.
 *   <li>What this library logs while it writes one of its own lines is dropped: an appender that persists on a full
 *       disk would otherwise log its own failure for ever.
 * </ul>
 */
public final class DeferredLog {

    /** Maximum number of lines of store threads that wait for the writing thread; further ones are only counted. */
    private static final int MOST_WAITING = 10_000;

    private static final ThreadLocal<@Nullable Lines> LINES = new ThreadLocal<>();
    private static final AtomicLong LEFT_OUT = new AtomicLong();
    private static final ThreadPoolExecutor WRITER = writer();

    private enum Mode {
        COLLECTING,
        /** A line is being written on this thread. */
        WRITING,
        STORE_THREAD
    }

    /** The deferred lines of one thread. */
    private static final class Lines {
        Mode mode = Mode.COLLECTING;
        int depth;
        final List<Runnable> waiting = new ArrayList<>();
    }

    private DeferredLog() {}

    // Sets the priority explicitly, because it must not depend on the thread that happens to log first.
    @SuppressWarnings("ThreadPriorityCheck")
    private static ThreadPoolExecutor writer() {
        ThreadPoolExecutor writer =
                new ThreadPoolExecutor(1, 1, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(MOST_WAITING), task -> {
                    Thread thread = new Thread(null, task, "batch-persistence-log", 0, false);
                    thread.setDaemon(true);
                    thread.setPriority(Thread.NORM_PRIORITY);
                    thread.setContextClassLoader(DeferredLog.class.getClassLoader());
                    return thread;
                });
        writer.allowCoreThreadTimeOut(true);
        return writer;
    }

    /**
     * Defers this thread's lines from now on. Throws nothing.
     *
     * @return to be passed to {@link #end}, which must follow
     */
    public static boolean begin() {
        try {
            Lines lines = LINES.get();
            if (lines == null) {
                lines = new Lines();
                LINES.set(lines);
            }
            lines.depth++;
            return true;
        } catch (OutOfMemoryError e) {
            // Not enough memory: the work that follows is more important than its log lines.
            return false;
        }
    }

    /**
     * Writes the deferred lines, unless an outer {@link #begin} is still open. Throws nothing.
     *
     * @param begun what {@link #begin} returned
     */
    public static void end(boolean begun) {
        Lines lines = begun ? LINES.get() : null;
        if (lines == null || --lines.depth > 0 || lines.mode != Mode.COLLECTING) {
            return;
        }
        if (lines.waiting.isEmpty()) {
            LINES.remove();
            return;
        }
        lines.mode = Mode.WRITING;
        try {
            for (Runnable line : lines.waiting) {
                writeSafely(line);
            }
        } finally {
            LINES.remove();
        }
    }

    /** Makes the calling thread leave its lines to another thread, permanently. */
    public static void storeThread() {
        Lines lines = new Lines();
        lines.mode = Mode.STORE_THREAD;
        LINES.set(lines);
    }

    /**
     * Waits a limited time for the lines of store threads, because an appender may hang. An interrupt ends the wait and
     * is kept.
     *
     * @param patience maximum time to wait
     */
    public static void flush(Duration patience) {
        if (LINES.get() != null || (WRITER.getQueue().isEmpty() && WRITER.getActiveCount() == 0)) {
            return;
        }
        long deadline = System.nanoTime() + patience.toNanos();
        CountDownLatch written = new CountDownLatch(1);
        Runnable marker = writing(written::countDown);
        try {
            if (!handOver(marker)
                    && !WRITER.getQueue().offer(marker, deadline - System.nanoTime(), TimeUnit.NANOSECONDS)) {
                return;
            }
            boolean unused = written.await(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /**
     * Writes a line, now or later. What an appender throws is not propagated: the code that logs has work to finish.
     */
    static void write(Runnable line) {
        Lines lines = LINES.get();
        if (lines == null) {
            writeSafely(() -> writeNow(line));
        } else if (lines.mode == Mode.COLLECTING) {
            lines.waiting.add(line);
        } else if (lines.mode == Mode.STORE_THREAD) {
            if (!handOver(writing(line))) {
                LEFT_OUT.incrementAndGet();
            }
        }
    }

    private static void writeNow(Runnable line) {
        Lines lines = new Lines();
        lines.mode = Mode.WRITING;
        LINES.set(lines);
        try {
            line.run();
        } finally {
            LINES.remove();
        }
    }

    private static Runnable writing(Runnable line) {
        return () -> {
            long leftOut = LEFT_OUT.getAndSet(0);
            if (leftOut > 0) {
                writeSafely(() -> LogSanitizer.logger(DeferredLog.class)
                        .warn("{} lines could not be written, since an appender takes too long", leftOut));
            }
            writeSafely(() -> writeNow(line));
        };
    }

    /** Returns whether the line will be written: not if too many wait, or there is no memory for a thread. */
    private static boolean handOver(Runnable line) {
        try {
            WRITER.execute(line);
            return true;
        } catch (RuntimeException | Error e) {
            // The store must go on.
            return false;
        }
    }

    private static void writeSafely(Runnable line) {
        try {
            line.run();
        } catch (Throwable e) {
            // The failed line was to report a problem; there is no other way left to report it.
        }
    }
}
