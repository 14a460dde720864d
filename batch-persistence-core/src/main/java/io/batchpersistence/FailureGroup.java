package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Instant;
import java.util.Comparator;

/**
 * Batches of one collector type whose last attempts failed for the same reason. Immutable.
 *
 * @param collectorType the destination's name
 * @param reason why the last attempt of each failed
 * @param batches number of batches
 * @param firstFailure the earliest of their last attempts
 * @param lastFailure the latest of their last attempts
 */
public record FailureGroup(
        String collectorType, String reason, long batches, Instant firstFailure, Instant lastFailure) {

    /** Orders groups by their number of batches, largest first; equal ones by collector type and reason. */
    public static final Comparator<FailureGroup> MOST_BATCHES_FIRST = Comparator.comparingLong(FailureGroup::batches)
            .reversed()
            .thenComparing(FailureGroup::collectorType)
            .thenComparing(FailureGroup::reason);

    /** Describes the group in one line; the reason is the collector's text and may contain line breaks. */
    @Override
    public String toString() {
        return "FailureGroup[" + batches + " batches for " + LogSanitizer.of(collectorType) + ": "
                + LogSanitizer.of(reason) + ", " + firstFailure + " to " + lastFailure + "]";
    }
}
