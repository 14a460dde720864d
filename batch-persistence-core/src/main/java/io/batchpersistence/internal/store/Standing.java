package io.batchpersistence.internal.store;

import org.jspecify.annotations.Nullable;

/**
 * How a batch stands that is not in flight. Immutable. Times are milliseconds since 1970.
 *
 * @param dead whether it is a dead letter
 * @param since what its TTL is measured from
 * @param retries counted failures
 * @param lastAttempt when the last attempt failed; {@link Long#MAX_VALUE} if none has
 * @param due when it is attempted next; {@link Long#MAX_VALUE} if not by itself, {@link #AT_ONCE} if it was in flight
 * @param reason why the last attempt failed; {@code null} if none has
 */
public record Standing(
        boolean dead,
        long since,
        int retries,
        long lastAttempt,
        long due,
        @Nullable String reason) {

    static final long AT_ONCE = 0;
}
