package io.batchpersistence.engine;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.Corruption;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Announces what is given up: to the listener one by one, to the log in one line per kind, collector type and round, since a
 * full store or an expired backlog gives up thousands at a time.
 */
final class Announcer {

    private enum Kind {
        DEAD("given up as dead letters, kept until the dead letter TTL or a replay"),
        EXPIRED("removed, older than their TTL"),
        EVICTED("dropped to make room for new ones (overflow policy drop_oldest)");

        private final String words;

        Kind(String words) {
            this.words = words;
        }
    }

    private record Subject(Kind kind, String collectorType) {}

    private record Tally(
            long count, String lastId, @Nullable String lastReason) {}

    private final BatchListener listener;
    private final Logger log;
    private final Map<Subject, Tally> untold = new ConcurrentHashMap<>();

    Announcer(BatchListener listener, Logger log) {
        this.listener = listener;
        this.log = log;
    }

    void deadLettered(BatchSummary batch) {
        tally(Kind.DEAD, batch);
        guarded("onDeadLettered", () -> listener.onDeadLettered(batch));
    }

    void expired(BatchSummary batch) {
        tally(Kind.EXPIRED, batch);
        guarded("onExpired", () -> listener.onExpired(batch));
    }

    void evicted(BatchSummary batch) {
        tally(Kind.EVICTED, batch);
        guarded("onEvicted", () -> listener.onEvicted(batch));
    }

    void outageOpened(CollectorOutage outage, int failuresInARow) {
        log.warn(
                "collector '{}' is taken to be down after {} failures in a row (last: {}): probing it with backoff",
                outage.collectorType(),
                failuresInARow,
                outage.lastFailure());
        guarded("onOutageOpened", () -> listener.onOutageOpened(outage));
    }

    void outageClosed(CollectorOutage outage) {
        Duration length = outage.until() == null ? Duration.ZERO : Duration.between(outage.since(), outage.until());
        if (outage.answered()) {
            log.info(
                    "collector '{}' is back after {} and {} probes: ramping up",
                    outage.collectorType(),
                    length,
                    outage.probes());
        } else {
            log.info(
                    "collector '{}' was down for {} at least; nothing waits for it any more, so it is not probed",
                    outage.collectorType(),
                    length);
        }
        guarded("onOutageClosed", () -> listener.onOutageClosed(outage));
    }

    void corrupted(Corruption damage) {
        log.error(
                "{} damaged bytes at offset {} of {} set aside ({}), {} batches lost; kept for inspection in {}",
                damage.length(),
                damage.offset(),
                damage.file(),
                damage.reason(),
                damage.batches(),
                damage.quarantinedTo());
        guarded("onCorrupted", () -> listener.onCorrupted(damage));
    }

    /** Writes the log lines that are due. */
    void flush() {
        for (Subject subject : Set.copyOf(untold.keySet())) {
            Tally tally = untold.remove(subject);
            if (tally != null) {
                log.warn(
                        "collector '{}': {} batches {} (last: '{}', last failure: {})",
                        subject.collectorType,
                        tally.count,
                        subject.kind.words,
                        tally.lastId,
                        tally.lastReason);
            }
        }
    }

    private void tally(Kind kind, BatchSummary batch) {
        untold.merge(
                new Subject(kind, batch.collectorType()),
                new Tally(1, batch.id(), batch.failureReason()),
                (old, one) -> new Tally(old.count + 1, one.lastId, one.lastReason));
    }

    /** It has happened already, whatever the listener throws: even an error must not spread from here. */
    private void guarded(String method, Runnable call) {
        try {
            call.run();
        } catch (Throwable t) {
            log.error("the batch listener threw from {}; nothing else is affected", method, t);
        }
    }
}
