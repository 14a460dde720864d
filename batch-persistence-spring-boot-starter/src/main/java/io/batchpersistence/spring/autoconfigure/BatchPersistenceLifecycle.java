package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.internal.log.LogSanitizer;
import org.slf4j.Logger;
import org.springframework.context.SmartLifecycle;

/**
 * Starts the schedules before the web server accepts requests, and stops after its requests have drained: first the
 * schedules, then the engine, which waits for batches being sent ({@code shutdown_timeout}) and closes the store. Can't
 * be started again after it was stopped.
 */
final class BatchPersistenceLifecycle implements SmartLifecycle {

    /** Below the web server (-2048) and its graceful shutdown (-1024): starts before them, stops after them. */
    static final int PHASE = SmartLifecycle.DEFAULT_PHASE - 4096;

    private static final Logger LOG = LogSanitizer.logger(BatchPersistenceLifecycle.class);

    private final BatchPersistence persistence;
    private final BatchPersistenceTasks tasks;
    private final ListenerBridge announcements;
    private volatile boolean running;
    private volatile boolean stopped;

    BatchPersistenceLifecycle(BatchPersistence persistence, BatchPersistenceTasks tasks, ListenerBridge announcements) {
        this.persistence = persistence;
        this.tasks = tasks;
        this.announcements = announcements;
    }

    @Override
    public void start() {
        if (stopped) {
            LOG.warn("Batch persistence was stopped and does not start again in this application context;"
                    + " batches are refused until the application is restarted");
            return;
        }
        running = true;
        announcements.start();
        tasks.start();
    }

    @Override
    public void stop() {
        running = false;
        stopped = true;
        tasks.stop();
        try {
            persistence.close();
        } catch (RuntimeException e) {
            LOG.warn("The batch store did not close properly; it will be repaired when it is opened again", e);
        }
    }

    @Override
    public boolean isRunning() {
        return running;
    }

    @Override
    public int getPhase() {
        return PHASE;
    }

    /** A cached test context that is paused and continued must find its store open. */
    @Override
    public boolean isPauseable() {
        return false;
    }
}
