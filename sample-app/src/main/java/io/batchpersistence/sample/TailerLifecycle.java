package io.batchpersistence.sample;

import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.context.SmartLifecycle;

/**
 * Runs the tailer on its own thread while the application runs. In the highest phase: starts last and stops first,
 * before the store closes.
 */
final class TailerLifecycle implements SmartLifecycle {

    private static final Logger log = LogSanitizer.logger(TailerLifecycle.class);

    private final FileTailer tailer;
    private final ShipperStats stats;
    private final Duration pollInterval;
    private final Duration summaryInterval;

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition stopRequested = lock.newCondition();
    private volatile boolean stopping;
    private volatile @Nullable Thread thread;

    TailerLifecycle(FileTailer tailer, ShipperStats stats, ShipperProperties settings) {
        this.tailer = tailer;
        this.stats = stats;
        this.pollInterval = settings.pollInterval();
        this.summaryInterval = settings.summaryInterval();
    }

    @Override
    public void start() {
        stopping = false;
        // Inherits no thread locals from the starting thread.
        Thread started = new Thread(null, this::run, "shipper-tailer", 0, false);
        started.setDaemon(true);
        thread = started;
        started.start();
    }

    private void run() {
        long summaryAt = System.nanoTime() + summaryInterval.toNanos();
        long entriesThen = 0;
        while (!stopping) {
            boolean more = false;
            try {
                more = tailer.tick();
            } catch (RuntimeException e) {
                log.error("following files failed unexpectedly and is tried again", e);
            }
            if (!summaryInterval.isZero() && System.nanoTime() - summaryAt >= 0) {
                summaryAt = System.nanoTime() + summaryInterval.toNanos();
                long entries = stats.entries.get();
                if (entries > entriesThen) {
                    // This line is itself shipped if the application's own log is followed: so one per interval, not
                    // one per batch.
                    log.info("{} lines in {} batches are durable since the start", entries, stats.batches);
                    entriesThen = entries;
                }
            }
            if (!more) {
                pause();
            }
        }
        tailer.close();
    }

    private void pause() {
        lock.lock();
        try {
            long nanos = pollInterval.toNanos();
            while (!stopping && nanos > 0) {
                nanos = stopRequested.awaitNanos(nanos);
            }
        } catch (InterruptedException e) {
            // No code of the application interrupts this thread. Clear the flag: if it stayed set, it would close the
            // files' channels.
            log.debug("interrupted", e);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Waits for the batch that is being persisted. Never interrupts: that would close the store's files while they are
     * in use.
     */
    @Override
    public void stop() {
        lock.lock();
        try {
            stopping = true;
            stopRequested.signalAll();
        } finally {
            lock.unlock();
        }
        Thread stopped = thread;
        if (stopped != null) {
            try {
                stopped.join(TimeUnit.SECONDS.toMillis(20));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            thread = null;
        }
    }

    @Override
    public boolean isRunning() {
        return thread != null;
    }
}
