package io.batchpersistence;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * A collector that is, or was, taken to be down. Immutable.
 *
 * @param collectorType its name
 * @param since when it was taken to be down
 * @param until when that ended; {@code null} while it lasts
 * @param answered whether it ended because the collector answered; otherwise because nothing waits for it any more
 * @param probes batches sent meanwhile to see whether it is back
 * @param lastFailure the last failure's reason; {@code null} once it has answered
 * @param foundHere whether this instance was the first to find out that it began, or ended; {@code false} if it learned so from
 *     another one that shares its store. Of what all instances announce, one has {@code true}: the one to send a message for.
 *     While the store can't be reached, or if nobody shares it, always {@code true}
 */
public record CollectorOutage(
        String collectorType,
        Instant since,
        @Nullable Instant until,
        boolean answered,
        int probes,
        @Nullable String lastFailure,
        boolean foundHere) {

    /** Found out by this instance. */
    public CollectorOutage(
            String collectorType,
            Instant since,
            @Nullable Instant until,
            boolean answered,
            int probes,
            @Nullable String lastFailure) {
        this(collectorType, since, until, answered, probes, lastFailure, true);
    }
}
