package io.batchpersistence.engine;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.Corruption;
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
        guarded("onDeadLettered", batch.id(), () -> listener.onDeadLettered(batch));
    }

    void expired(BatchSummary batch) {
        tally(Kind.EXPIRED, batch);
        guarded("onExpired", batch.id(), () -> listener.onExpired(batch));
    }

    void evicted(BatchSummary batch) {
        tally(Kind.EVICTED, batch);
        guarded("onEvicted", batch.id(), () -> listener.onEvicted(batch));
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
        guarded("onCorrupted", String.valueOf(damage.batchId()), () -> listener.onCorrupted(damage));
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

    /** The batch has been given up already, whatever the listener throws: even an error must not spread from here. */
    private void guarded(String method, String batchId, Runnable call) {
        try {
            call.run();
        } catch (Throwable t) {
            log.error("the batch listener threw from {} for batch '{}'; nothing else is affected", method, batchId, t);
        }
    }
}
