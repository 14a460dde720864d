package io.batchpersistence;

import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A batch without its entries. Immutable.
 *
 * @param id its id, unique among the batches held
 * @param collectorType the destination's name
 * @param state where it is on its way
 * @param createdAt when it was persisted
 * @param lastAttempt when the last attempt to send it failed or timed out; {@code null} if none has
 * @param nextAttemptAt when it will be attempted next (pending), or when it times out (in flight); {@code null} for a dead
 *     letter, and for a pending batch that automatic recovery leaves alone
 * @param retryCount failed attempts that count towards the limit
 * @param failureReason why the last attempt failed; {@code null} if none has
 * @param earlierFailures what failed before the last attempt, oldest first: the first one ever and the latest of the others, at
 *     most {@value FailedAttempt#MAX_EARLIER} in all; attempts before a replay and probes count too. Empty where more than 65,536
 *     batches have some
 * @param context what the caller gave along
 * @param entryCount number of entries
 * @param bytes size on disk
 * @param position its place among the batches of its store by the time they were persisted, to go on from with
 *     {@link BatchSelector#after}: larger than those of all batches before it
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

    /** What it is about, not what is in it: the context is the application's, and may be a secret of somebody's. */
    @Override
    public String toString() {
        return "BatchSummary['" + SingleLine.of(id) + "' for " + SingleLine.of(collectorType) + ", " + state + ", "
                + entryCount + " entries, " + bytes + " bytes, " + retryCount + " failed attempts"
                + (failureReason == null ? "" : ", last: " + SingleLine.of(failureReason)) + "]";
    }
}
