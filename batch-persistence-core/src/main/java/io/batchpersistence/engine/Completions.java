package io.batchpersistence.engine;

import java.util.concurrent.Executor;
import java.util.concurrent.LinkedTransferQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * Completes the futures of callers. Dependent stages then run on the completing thread and may block for as long as
 * they like, so it must be neither a thread of the store, which all batches depend on, nor one that other work needs.
 * Never refuses a task. When all threads are in use, tasks wait in a queue.
 */
final class Completions implements Executor {

    static final int MAX_THREADS = 256;

    private final ThreadFactory threads;
    private final HandoffQueue queue = new HandoffQueue();
    private final ThreadPoolExecutor pool;

    Completions(ThreadFactory threads) {
        this.threads = threads;
        pool = new ThreadPoolExecutor(
                0, MAX_THREADS, 30, TimeUnit.SECONDS, queue, threads, (task, full) -> queueOrStart(task));
    }

    /**
     * Accepts a task only if a thread is waiting for one, so that the pool starts another thread before it queues
     * anything.
     */
    private static final class HandoffQueue extends LinkedTransferQueue<Runnable> {
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
            // There is no memory for another thread. The future must still be completed, by the next thread that
            // becomes available.
            queue.put(task);
            if (pool.isShutdown()) {
                runQueued();
            }
        }
    }

    /** Starts a thread if tasks are waiting and no thread is running, because there was no memory for one. */
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

    /** Shuts the pool down. Tasks that are waiting still run, and later ones get a thread of their own. */
    void close() {
        pool.shutdown();
        runQueued();
    }

    /** Runs what waits for a thread of the pool, if the pool has none and will not start any more. */
    private void runQueued() {
        for (Runnable task; pool.getPoolSize() == 0 && (task = queue.poll()) != null; ) {
            try {
                threads.newThread(task).start();
            } catch (Throwable e) {
                // Still no memory for a thread: better on this one than never.
                task.run();
            }
        }
    }
}
