package io.batchpersistence;

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
 * Keeps lines of log back while the calling thread must not run an application's code. A line may end in an appender that
 * persists and waits, or that waits for a lock of somebody who persists: called while its thread writes for all, or holds a lock
 * that persisting needs, it would wait for itself.
 *
 * <ul>
 *   <li>Between {@link #begin} and {@link #end} lines are collected; the outermost end writes them, on the same thread.
 *   <li>Threads of a store never write lines themselves, see {@link #storeThread}; a thread that does nothing else does.
 *   <li>What this library has to say in the course of writing one of its lines is left out: an appender that persists on a full disk
 *       would be told of its own failure for ever.
 * </ul>
 */
public final class DeferredLog {

    /** Lines that wait for the thread that writes those of store threads; more are counted only. */
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

    /** Those of one thread. */
    private static final class Lines {
        Mode mode = Mode.COLLECTING;
        int depth;
        final List<Runnable> waiting = new ArrayList<>();
    }

    private DeferredLog() {}

    // The priority is not to be that of the thread that happens to log first.
    @SuppressWarnings("ThreadPriorityCheck")
    private static ThreadPoolExecutor writer() {
        ThreadPoolExecutor writer = new ThreadPoolExecutor(
                1,
                1,
                10,
                TimeUnit.SECONDS,
                new LinkedBlockingQueue<>(MOST_WAITING),
                task -> {
                    Thread thread = new Thread(null, task, "batch-persistence-log", 0, false);
                    thread.setDaemon(true);
                    thread.setPriority(Thread.NORM_PRIORITY);
                    thread.setContextClassLoader(DeferredLog.class.getClassLoader());
                    return thread;
                },
                (line, full) -> LEFT_OUT.incrementAndGet());
        writer.allowCoreThreadTimeOut(true);
        return writer;
    }

    /**
     * From now on this thread's lines wait. Throws nothing.
     *
     * @return for {@link #end}, which must follow
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
            return false; // the work that follows matters more
        }
    }

    /**
     * Writes what waits, unless an outer call has begun, too. Throws nothing.
     *
     * @param begun what {@link #begin} has returned
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

    /** From now on, and for good, the calling thread leaves its lines to another thread. */
    public static void storeThread() {
        Lines lines = new Lines();
        lines.mode = Mode.STORE_THREAD;
        LINES.set(lines);
    }

    /**
     * Waits for the lines of store threads, but not for long: an appender may hang. An interrupt ends the wait, and is kept.
     *
     * @param patience how long at most
     */
    public static void flush(Duration patience) {
        if (LINES.get() != null || (WRITER.getQueue().isEmpty() && WRITER.getActiveCount() == 0)) {
            return;
        }
        CountDownLatch written = new CountDownLatch(1);
        handOver(written::countDown);
        try {
            boolean unused = written.await(patience.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Writes a line, now or later. What an appender throws is not thrown: who logs has something to finish. */
    static void write(Runnable line) {
        Lines lines = LINES.get();
        if (lines == null) {
            writeSafely(() -> writeNow(line));
        } else if (lines.mode == Mode.COLLECTING) {
            lines.waiting.add(line);
        } else if (lines.mode == Mode.STORE_THREAD) {
            handOver(line);
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

    private static void handOver(Runnable line) {
        try {
            WRITER.execute(() -> {
                long leftOut = LEFT_OUT.getAndSet(0);
                if (leftOut > 0) {
                    writeSafely(() -> SingleLine.logger(DeferredLog.class)
                            .warn("{} lines could not be written, since an appender takes too long", leftOut));
                }
                writeSafely(() -> writeNow(line));
            });
        } catch (RuntimeException | Error e) { // no memory for a thread: the store must go on
            LEFT_OUT.incrementAndGet();
        }
    }

    private static void writeSafely(Runnable line) {
        try {
            line.run();
        } catch (Throwable e) {
            // It was about to be logged that something went wrong; there is nothing left to say this with.
        }
    }
}
