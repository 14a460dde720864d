package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A stored batch with its entries. Immutable.
 *
 * @param id its id, unique among the batches held
 * @param entries the entries to deliver, in their original order
 * @param collectorType the destination's name
 * @param createdAt when it was persisted
 * @param lastAttempt when the last attempt to send it failed or timed out; {@code null} if none has
 * @param nextAttemptAt when it will be attempted next (pending), or when it times out (in flight); {@code null} for a
 *     dead letter, and for a pending batch that automatic recovery leaves alone
 * @param retryCount failed attempts that count towards the limit
 * @param failureReason why the last attempt failed; {@code null} if none has
 * @param earlierFailures failed attempts before the last one, oldest first: the very first and the latest of the
 *     others, at most {@value FailedAttempt#MAX_EARLIER} in all; attempts before a replay and probes count too. Empty
 *     if more than 65,536 batches in the store have some
 * @param context what the caller passed
 * @param state its state
 */
public record PersistedBatch(
        String id,
        List<LogEntry> entries,
        String collectorType,
        Instant createdAt,
        @Nullable Instant lastAttempt,
        @Nullable Instant nextAttemptAt,
        int retryCount,
        @Nullable String failureReason,
        List<FailedAttempt> earlierFailures,
        Map<String, String> context,
        BatchState state) {

    /** Copies the list of entries. */
    public PersistedBatch {
        entries = List.copyOf(entries);
    }

    /** Creates a batch that has failed at most once; for the parameters see the record. */
    public PersistedBatch(
            String id,
            List<LogEntry> entries,
            String collectorType,
            Instant createdAt,
            @Nullable Instant lastAttempt,
            @Nullable Instant nextAttemptAt,
            int retryCount,
            @Nullable String failureReason,
            Map<String, String> context,
            BatchState state) {
        this(
                id,
                entries,
                collectorType,
                createdAt,
                lastAttempt,
                nextAttemptAt,
                retryCount,
                failureReason,
                List.of(),
                context,
                state);
    }

    /**
     * Returns the number of the attempt this batch is handed out for: 1 for the first.
     *
     * @return the number of counted attempts so far, plus one
     */
    public int attempt() {
        return retryCount + 1;
    }

    /** Describes the batch without its content: neither entries nor context belong in a log. */
    @Override
    public String toString() {
        return "PersistedBatch['" + LogSanitizer.of(id) + "' for " + LogSanitizer.of(collectorType) + ", " + state
                + ", "
                + entries.size() + " entries, " + retryCount + " failed attempts"
                + (failureReason == null ? "" : ", last: " + LogSanitizer.of(failureReason)) + "]";
    }
}
