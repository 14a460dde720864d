package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Duration;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.config.FixedDelayTask;
import org.springframework.scheduling.config.ScheduledTask;
import org.springframework.scheduling.config.ScheduledTaskHolder;
import org.springframework.scheduling.config.ScheduledTaskRegistrar;

/**
 * The schedules of recovery and cleanup, on their own scheduler, shown by {@code /actuator/scheduledtasks}.
 *
 * <p>Registered programmatically, because {@code @Scheduled} methods need {@code @EnableScheduling}: from a library,
 * that would also activate the {@code @Scheduled} methods of an application that leaves scheduling switched off on
 * purpose, in its tests or on all but one of its instances.
 */
final class BatchPersistenceTasks implements ScheduledTaskHolder {

    private static final Logger LOG = LogSanitizer.logger(BatchPersistenceTasks.class);

    /** Runs after every round of recovery. */
    @FunctionalInterface
    interface AfterRecovery extends Runnable {}

    private final ScheduledTaskRegistrar registrar = new ScheduledTaskRegistrar();
    private volatile boolean stopped;

    BatchPersistenceTasks(
            BatchPersistence persistence,
            ObjectProvider<AfterRecovery> afterRecovery,
            TaskScheduler scheduler,
            Duration recoveryInterval,
            Duration cleanupInterval) {
        registrar.setTaskScheduler(scheduler);
        registrar.addFixedDelayTask(new FixedDelayTask(
                new Task("recovery", () -> {
                    persistence.recover();
                    afterRecovery.forEach(Runnable::run);
                }),
                recoveryInterval,
                Duration.ZERO));
        registrar.addFixedDelayTask(
                new FixedDelayTask(new Task("cleanup", persistence::cleanup), cleanupInterval, cleanupInterval));
    }

    void start() {
        registrar.afterPropertiesSet();
    }

    /** Starts no further round. A running round is not interrupted: it may be writing. */
    void stop() {
        stopped = true;
        registrar.getScheduledTasks().forEach(task -> task.cancel(false));
    }

    @Override
    public Set<ScheduledTask> getScheduledTasks() {
        return registrar.getScheduledTasks();
    }

    /** A round whose failure neither ends its schedule nor floods the log while the same problem lasts. */
    private final class Task implements Runnable {

        private final String name;
        private final Runnable round;
        private @Nullable String lastProblem;

        Task(String name, Runnable round) {
            this.name = name;
            this.round = round;
        }

        @Override
        public void run() {
            if (stopped) {
                return;
            }
            try {
                round.run();
                if (lastProblem != null) {
                    LOG.info("Batch {} works again", name);
                    lastProblem = null;
                }
            } catch (RuntimeException | Error e) {
                if (!stopped && !Objects.equals(lastProblem, e.toString())) {
                    LOG.warn("Batch {} failed and is tried again in its next round; batches are safe", name, e);
                    lastProblem = e.toString();
                }
            }
        }

        @Override
        public String toString() {
            return "io.batchpersistence." + name;
        }
    }
}
