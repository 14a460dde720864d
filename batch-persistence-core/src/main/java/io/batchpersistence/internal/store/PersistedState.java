package io.batchpersistence.internal.store;

import io.batchpersistence.FailedAttempt;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The state of a batch that is not in flight. Immutable. Times are milliseconds since 1970.
 *
 * @param dead whether it is a dead letter
 * @param since what its TTL is measured from
 * @param retries counted failures
 * @param lastAttempt when the last attempt failed; {@link Long#MAX_VALUE} if none has
 * @param due when it is attempted next; {@link Long#MAX_VALUE} if not automatically, {@link #DUE_NOW} if it was in
 *     flight
 * @param reason why the last attempt failed; {@code null} if none has
 * @param earlier what failed before that, oldest first
 */
public record PersistedState(
        boolean dead,
        long since,
        int retries,
        long lastAttempt,
        long due,
        @Nullable String reason,
        List<FailedAttempt> earlier) {

    static final long DUE_NOW = 0;

    public PersistedState(boolean dead, long since, int retries, long lastAttempt, long due, @Nullable String reason) {
        this(dead, since, retries, lastAttempt, due, reason, List.of());
    }

    PersistedState with(List<FailedAttempt> failures) {
        return failures.equals(earlier)
                ? this
                : new PersistedState(dead, since, retries, lastAttempt, due, reason, failures);
    }
}
