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
 */
public record CollectorOutage(
        String collectorType,
        Instant since,
        @Nullable Instant until,
        boolean answered,
        int probes,
        @Nullable String lastFailure) {}
