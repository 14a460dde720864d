package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A batch without its entries. Immutable.
 *
 * @param id its id, unique among the batches held
 * @param collectorType the destination's name
 * @param state its state
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
 * @param entryCount number of entries
 * @param bytes size on disk
 * @param position its place among the batches of its store by the time they were persisted, to continue from with
 *     {@link BatchSelector#after}: larger than those of all earlier batches
 */
public record BatchSummary(
        String id,
        String collectorType,
        BatchState state,
        Instant createdAt,
        @Nullable Instant lastAttempt,
        @Nullable Instant nextAttemptAt,
        int retryCount,
        @Nullable String failureReason,
        List<FailedAttempt> earlierFailures,
        Map<String, String> context,
        int entryCount,
        long bytes,
        long position) {

    /** Describes the batch without its content: the context belongs to the application and may contain secrets. */
    @Override
    public String toString() {
        return "BatchSummary['" + LogSanitizer.of(id) + "' for " + LogSanitizer.of(collectorType) + ", " + state + ", "
                + entryCount + " entries, " + bytes + " bytes, " + retryCount + " failed attempts"
                + (failureReason == null ? "" : ", last: " + LogSanitizer.of(failureReason)) + "]";
    }
}
