package io.batchpersistence;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * An outage: a collector that is, or was, marked down. Immutable.
 *
 * @param collectorType its name
 * @param since when it was marked down
 * @param until when the outage ended; {@code null} while it lasts
 * @param answered whether the outage ended because the collector answered; otherwise because no batch waits for it any
 *     more
 * @param probes batches sent as probes during the outage
 * @param lastFailure the last failure's reason; {@code null} once it has answered
 * @param foundHere whether this instance was the first to find out that the outage began or ended; {@code false} if it
 *     learned so from another instance that shares its store. Of the announcements of all instances, one has {@code
 *     true}: use that one to send an alert. Always {@code true} while the store can't be reached, or if it is not
 *     shared
 */
public record CollectorOutage(
        String collectorType,
        Instant since,
        @Nullable Instant until,
        boolean answered,
        int probes,
        @Nullable String lastFailure,
        boolean foundHere) {

    /** Creates an outage that this instance found out about. */
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
