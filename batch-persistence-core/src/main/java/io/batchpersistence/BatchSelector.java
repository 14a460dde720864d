package io.batchpersistence;

import io.batchpersistence.internal.log.LogEntryNormalizer;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.Objects;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * Selects batches: all conditions must hold, and an empty or absent condition always holds. An immutable value, so that
 * every store can evaluate it itself.
 *
 * <pre>{@code
 * BatchSelector.all().collectorTypes("loki").failureReason("*429*").limit(1_000)
 * }</pre>
 *
 * @param ids valid batch ids; empty for any
 * @param collectorTypes valid collector types; empty for any
 * @param failureReason a glob over the last failure reason, {@code *} for any run of characters and {@code ?} for one,
 *     case ignored, at most 8,192 characters; {@code null} for any, a batch that never failed included
 * @param states states; empty for the operation's own default
 * @param olderThan only batches persisted at least this long ago; {@code null} for any
 * @param youngerThan only batches persisted less than this long ago; {@code null} for any
 * @param minRetries only batches with at least that many counted failures
 * @param maxRetries only batches with at most that many counted failures
 * @param limit at most that many; {@link Integer#MAX_VALUE} for no limit
 * @param order which batches come first if there are more than the limit
 * @param after only batches after the one with this {@linkplain BatchSummary#position position}, in the selector's
 *     order; {@code null} for any
 */
public record BatchSelector(
        Set<String> ids,
        Set<String> collectorTypes,
        @Nullable String failureReason,
        Set<BatchState> states,
        @Nullable Duration olderThan,
        @Nullable Duration youngerThan,
        int minRetries,
        int maxRetries,
        int limit,
        BatchOrder order,
        @Nullable Long after) {

    private static final BatchSelector ALL = new BatchSelector(
            Set.of(),
            Set.of(),
            null,
            Set.of(),
            null,
            null,
            0,
            Integer.MAX_VALUE,
            Integer.MAX_VALUE,
            BatchOrder.OLDEST_FIRST,
            null);

    /**
     * Checks the values and copies the sets.
     *
     * @throws IllegalArgumentException if the limit is not positive, a duration is negative, the retry range is empty,
     *     no batch can have one of the ids or collector types, or the glob has more than 8,192 characters
     */
    public BatchSelector {
        ids = Set.copyOf(ids);
        collectorTypes = Set.copyOf(collectorTypes);
        states = Set.copyOf(states);
        ids.forEach(id -> LogEntryNormalizer.name(id, "batch id"));
        collectorTypes.forEach(type -> LogEntryNormalizer.name(type, "collector type"));
        Objects.requireNonNull(order, "order must not be null");
        if (failureReason != null) {
            Glob.checkLength(failureReason);
        }
        if (limit < 1) {
            throw new IllegalArgumentException("limit must be at least 1, but is " + limit);
        }
        if (olderThan != null && olderThan.isNegative()) {
            throw new IllegalArgumentException("olderThan must not be negative, but is " + olderThan);
        }
        if (youngerThan != null && youngerThan.isNegative()) {
            throw new IllegalArgumentException("youngerThan must not be negative, but is " + youngerThan);
        }
        if (minRetries < 0 || maxRetries < minRetries) {
            throw new IllegalArgumentException(
                    "retries must be a range from 0 up, but are " + minRetries + " to " + maxRetries);
        }
    }

    /**
     * Selects everything, oldest first.
     *
     * @return the selector to narrow down from
     */
    public static BatchSelector all() {
        return ALL;
    }

    /**
     * Narrows down to some batches.
     *
     * @param ids their ids
     * @return a new selector
     */
    public BatchSelector ids(String... ids) {
        return with(draft -> draft.ids = new HashSet<>(Arrays.asList(ids)));
    }

    /**
     * Narrows down to some collectors.
     *
     * @param types their names
     * @return a new selector
     */
    public BatchSelector collectorTypes(String... types) {
        return with(draft -> draft.collectorTypes = new HashSet<>(Arrays.asList(types)));
    }

    /**
     * Narrows down by the last failure's reason.
     *
     * @param glob with {@code *} and {@code ?}, case ignored; {@code null} for any
     * @return a new selector
     */
    public BatchSelector failureReason(@Nullable String glob) {
        return with(draft -> draft.failureReason = glob);
    }

    /**
     * Narrows down to some states.
     *
     * @param first a state
     * @param more further ones
     * @return a new selector
     */
    public BatchSelector states(BatchState first, BatchState... more) {
        return with(draft -> draft.states = EnumSet.of(first, more));
    }

    /**
     * Narrows down to batches of a minimum age.
     *
     * @param age persisted at least this long ago; {@code null} for any
     * @return a new selector
     */
    public BatchSelector olderThan(@Nullable Duration age) {
        return with(draft -> draft.olderThan = age);
    }

    /**
     * Narrows down to batches below an age.
     *
     * @param age persisted less than this long ago; {@code null} for any
     * @return a new selector
     */
    public BatchSelector youngerThan(@Nullable Duration age) {
        return with(draft -> draft.youngerThan = age);
    }

    /**
     * Narrows down by counted failures.
     *
     * @param min at least that many
     * @param max at most that many
     * @return a new selector
     */
    public BatchSelector retries(int min, int max) {
        return with(draft -> {
            draft.minRetries = min;
            draft.maxRetries = max;
        });
    }

    /**
     * Limits the number.
     *
     * @param limit at most that many, at least 1
     * @return a new selector
     */
    public BatchSelector limit(int limit) {
        return with(draft -> draft.limit = limit);
    }

    /**
     * Sets which batches come first.
     *
     * @param order by the time they were persisted
     * @return a new selector
     */
    public BatchSelector order(BatchOrder order) {
        return with(draft -> draft.order = order);
    }

    /**
     * Continues after a batch, for instance with the next page of a list. Batches added or removed in the meantime
     * cause no other batch to be skipped or returned twice.
     *
     * @param position the last batch's {@link BatchSummary#position}; {@code null} to begin
     * @return a new selector
     */
    public BatchSelector after(@Nullable Long position) {
        return with(draft -> draft.after = position);
    }

    /**
     * Whether a batch comes after the one to continue from.
     *
     * @param position the batch's {@link BatchSummary#position}
     * @return whether it is, in this selector's order
     */
    public boolean matchesPosition(long position) {
        return after == null || (order == BatchOrder.OLDEST_FIRST ? position > after : position < after);
    }

    /**
     * Fills in the states that an operation uses when none are named.
     *
     * @param whenNone the operation's own default
     * @return this selector if it names states, otherwise one that names the default
     */
    public BatchSelector statesOr(Set<BatchState> whenNone) {
        return states.isEmpty() ? with(draft -> draft.states = whenNone) : this;
    }

    /**
     * Whether the selector's age conditions hold for a batch.
     *
     * @param createdAt when it was persisted
     * @param now the time to measure from
     * @return whether they hold
     */
    public boolean matchesAge(Instant createdAt, Instant now) {
        return (olderThan == null || !createdAt.isAfter(now.minus(olderThan)))
                && (youngerThan == null || createdAt.isAfter(now.minus(youngerThan)));
    }

    /**
     * Returns the failure-reason glob as a predicate on reasons. It takes one pass over the reason, however long both
     * are.
     *
     * @return the predicate, or {@code null} if any reason matches
     */
    public @Nullable Predicate<String> failureReasonMatcher() {
        return failureReason == null ? null : glob(failureReason);
    }

    /**
     * Compiles a glob.
     *
     * @param glob {@code *} stands for any run of characters, {@code ?} for one; everything else for itself, case
     *     ignored
     * @return a predicate that tests whether a whole text matches; thread-safe
     * @throws IllegalArgumentException if it has more than 8,192 characters
     */
    public static Predicate<String> glob(String glob) {
        return new Glob(glob);
    }

    private BatchSelector with(Consumer<Draft> change) {
        Draft draft = new Draft();
        change.accept(draft);
        return new BatchSelector(
                draft.ids,
                draft.collectorTypes,
                draft.failureReason,
                draft.states,
                draft.olderThan,
                draft.youngerThan,
                draft.minRetries,
                draft.maxRetries,
                draft.limit,
                draft.order,
                draft.after);
    }

    /** The conditions of a selector to be. */
    private final class Draft {
        private Set<String> ids = BatchSelector.this.ids;
        private Set<String> collectorTypes = BatchSelector.this.collectorTypes;
        private @Nullable String failureReason = BatchSelector.this.failureReason;
        private Set<BatchState> states = BatchSelector.this.states;
        private @Nullable Duration olderThan = BatchSelector.this.olderThan;
        private @Nullable Duration youngerThan = BatchSelector.this.youngerThan;
        private int minRetries = BatchSelector.this.minRetries;
        private int maxRetries = BatchSelector.this.maxRetries;
        private int limit = BatchSelector.this.limit;
        private BatchOrder order = BatchSelector.this.order;
        private @Nullable Long after = BatchSelector.this.after;
    }
}
