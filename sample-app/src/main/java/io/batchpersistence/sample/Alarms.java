package io.batchpersistence.sample;

import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spring.event.BatchCorruptedEvent;
import io.batchpersistence.spring.event.BatchDeadLetteredEvent;
import io.batchpersistence.spring.event.BatchEvictedEvent;
import io.batchpersistence.spring.event.BatchExpiredEvent;
import io.batchpersistence.spring.event.CollectorOutageClosedEvent;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.springframework.context.event.EventListener;

/**
 * Reports problems that only a person can fix, and what to do: here as a line in the log, where another application
 * would send a message. Alarms about batches come at most once a minute for each collector: one is enough, and the log
 * itself is shipped. Thread-safe.
 */
final class Alarms {

    private static final Logger log = LogSanitizer.logger(Alarms.class);
    private static final Duration QUIET = Duration.ofMinutes(1);

    private final Clock clock;
    private final Map<String, Instant> last = new ConcurrentHashMap<>();

    Alarms(Clock clock) {
        this.clock = clock;
    }

    @EventListener
    void outageOpened(CollectorOutageOpenedEvent event) {
        CollectorOutage outage = event.outage();
        // Of the instances that share a store, only one sends the message.
        if (outage.foundHere()) {
            log.warn(
                    "ALARM: {} is down ({}). Lines are kept; see to it before their batch_ttl is over",
                    outage.collectorType(),
                    outage.lastFailure());
        }
    }

    @EventListener
    void outageClosed(CollectorOutageClosedEvent event) {
        CollectorOutage outage = event.outage();
        if (outage.foundHere() && outage.answered() && outage.until() != null) {
            log.info(
                    "{} is back after {} s",
                    outage.collectorType(),
                    Duration.between(outage.since(), outage.until()).toSeconds());
        }
    }

    @EventListener
    void deadLettered(BatchDeadLetteredEvent event) {
        BatchSummary batch = event.batch();
        if (isTime("dead " + batch.collectorType())) {
            log.warn(
                    "ALARM: {} does not take batch '{}' ({}). Look at /actuator/batchpersistence/batches?state=DEAD, mend"
                            + " what is wrong, and POST /batches/replay?collector={}",
                    batch.collectorType(),
                    batch.id(),
                    batch.failureReason(),
                    batch.collectorType());
        }
    }

    @EventListener
    void expired(BatchExpiredEvent event) {
        lost(event.batch(), "it was not delivered in time");
    }

    @EventListener
    void evicted(BatchEvictedEvent event) {
        lost(event.batch(), "there was no space for it");
    }

    private void lost(BatchSummary batch, String why) {
        if (isTime("lost " + batch.collectorType())) {
            log.error(
                    "ALARM: {} lines for {} are LOST with batch '{}': {}",
                    batch.entryCount(),
                    batch.collectorType(),
                    batch.id(),
                    why);
        }
    }

    @EventListener
    void corrupted(BatchCorruptedEvent event) {
        if (isTime("corrupted")) {
            log.error("ALARM: the disk has damaged {}", event.damage());
        }
    }

    private boolean isTime(String alarm) {
        Instant now = clock.instant();
        Instant before = last.get(alarm);
        if (before == null) {
            return last.putIfAbsent(alarm, now) == null;
        }
        return !before.plus(QUIET).isAfter(now) && last.replace(alarm, before, now);
    }
}
