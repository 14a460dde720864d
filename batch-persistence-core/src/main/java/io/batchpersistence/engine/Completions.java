package io.batchpersistence.engine;

import java.util.concurrent.Executor;
import java.util.concurrent.LinkedTransferQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * Completes the futures of callers. Whatever depends on such a future then runs on this thread, and may block for as long as it
 * likes: so it must be neither a thread of the store, on which every batch waits, nor one that others need. Never refuses a
 * task. Beyond the bound of threads, tasks wait in a queue.
 */
final class Completions implements Executor {

    static final int MOST_THREADS = 256;

    private final ThreadFactory threads;
    private final Handover queue = new Handover();
    private final ThreadPoolExecutor pool;

    Completions(ThreadFactory threads) {
        this.threads = threads;
        pool = new ThreadPoolExecutor(
                0, MOST_THREADS, 30, TimeUnit.SECONDS, queue, threads, (task, full) -> queueOrStart(task));
    }

    /** Takes a task only if a thread waits for one, so that the pool starts another thread before it queues anything. */
    private static final class Handover extends LinkedTransferQueue<Runnable> {
        private static final long serialVersionUID = 1L;

        @Override
        public boolean offer(Runnable task) {
            return tryTransfer(task);
        }
    }

    @Override
    public void execute(Runnable task) {
        try {
            pool.execute(task);
        } catch (RuntimeException | Error e) {
            // No memory for another thread. The future must be completed all the same, by the next thread there is.
            queue.put(task);
        }
    }

    /** Starts a thread if tasks wait and there is none, because there was no memory for one. */
    void prod() {
        if (!queue.isEmpty() && pool.getPoolSize() == 0) {
            execute(() -> {});
        }
    }

    private void queueOrStart(Runnable task) {
        if (pool.isShutdown()) {
            threads.newThread(task).start();
        } else {
            queue.put(task);
        }
    }

    /** What waits is still run. */
    void close() {
        pool.shutdown();
    }
}
