package io.batchpersistence.spring.operator;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchStats.Fallback;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.SingleLine;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.engine.LaneStatus;
import java.time.Clock;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * Answers an operator's questions and does what he asks for. What is returned is meant to be written as JSON, and has nothing of
 * what is in a batch, neither entries nor context, but where {@link #batch} is told to show it. Who may ask what is for the caller
 * to know. Thread-safe.
 */
public final class BatchOperator {

    private static final int DEFAULT_LIMIT = 100;
    private static final int MAX_LIMIT = 1_000;

    /** A batch may have a million, which nobody reads; an answer of that size could harm the application. */
    private static final int MAX_ENTRIES = 1_000;

    private static final Set<BatchState> PENDING = Set.of(BatchState.PENDING);
    private static final Set<BatchState> DEAD = Set.of(BatchState.DEAD);
    private static final Set<BatchState> NOT_IN_FLIGHT = Set.of(BatchState.PENDING, BatchState.DEAD);

    private final BatchPersistence persistence;
    private final Clock clock;

    /**
     * Of one.
     *
     * @param persistence what is shown and steered
     * @param clock tells the time
     */
    public BatchOperator(BatchPersistence persistence, Clock clock) {
        this.persistence = persistence;
        this.clock = clock;
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * The numbers.
     *
     * @return at this moment
     */
    public Summary summary() {
        BatchStats stats = persistence.stats();
        Map<String, LaneStatus> lanes =
                persistence instanceof BatchPersistenceEngine engine ? engine.lanes() : Map.of();
        TreeSet<String> names = new TreeSet<>(stats.collectors().keySet());
        names.addAll(lanes.keySet());
        Map<String, Collector> collectors = new TreeMap<>();
        names.forEach(name -> collectors.put(name, Collector.of(stats.collector(name), lanes.get(name))));
        return new Summary(
                clock.instant(),
                stats.batches(),
                stats.maxBatches(),
                stats.diskUsage(),
                stats.maxDiskUsage(),
                stats.fillLevel(),
                stats.problem(),
                stats.fallback(),
                collectors);
    }

    /**
     * A page of a list. Reads one record's header a batch.
     *
     * @param conditions which; at most 100 if no limit is named, and never more than 1,000
     * @return those that come first, in the order meant
     * @throws OperatorRequestException if the conditions make no sense
     */
    public Batches batches(Conditions conditions) {
        BatchSelector selector = conditions.selector(DEFAULT_LIMIT, MAX_LIMIT);
        List<BatchSummary> page = persistence.list(selector);
        // A batch found damaged is left out: a page that is not full may have others behind it.
        BatchSummary last = page.isEmpty() ? null : page.get(page.size() - 1);
        boolean more = last != null
                && persistence.count(selector.after(last.position()).limit(1)) > 0;
        return new Batches(
                page.stream().map(Batch::of).toList(), more && last != null ? String.valueOf(last.position()) : null);
    }

    /**
     * What batches have failed of last. Reads nothing from disk.
     *
     * @param conditions which; the limit, by default 100 and never more than 1,000, is one for the groups
     * @return those with most batches first
     * @throws OperatorRequestException if the conditions make no sense
     */
    public Reasons reasons(Conditions conditions) {
        return new Reasons(persistence.failures(conditions.selector(DEFAULT_LIMIT, MAX_LIMIT)));
    }

    /**
     * One batch, with what has become of it so far.
     *
     * @param id its id
     * @param withContent whether to show what is in it: its entries and its context
     * @return the batch
     * @throws OperatorRequestException if there is none of that id
     */
    public Detail batch(@Nullable String id, boolean withContent) {
        if (id == null || id.isBlank()) {
            throw OperatorRequestException.bad("id must be named");
        }
        BatchSummary summary = persistence.list(Conditions.NONE.with("id", id).selector(1, 1)).stream()
                .findFirst()
                .orElseThrow(() -> notHeld(id));
        PersistedBatch content = withContent ? persistence.find(id).orElseThrow(() -> notHeld(id)) : null;
        return Detail.of(summary, content);
    }

    private static OperatorRequestException notHeld(String ids) {
        return OperatorRequestException.notFound("no batch '" + SingleLine.of(ids) + "' is held");
    }

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * Does something.
     *
     * @param operation {@code recover}, {@code replay}, {@code discard}, {@code pause}, {@code resume} or {@code cleanup}
     * @param conditions with which batches; {@code discard} needs some, {@code pause} and {@code resume} one collector type
     * @param dryRun whether only to say with how many batches it would be done
     * @param perSecond for {@code replay}: how many become due a second; {@code null} for all at once
     * @return what was done
     * @throws OperatorRequestException if it makes no sense, or ids are named of which none is held
     */
    public Result operate(String operation, Conditions conditions, boolean dryRun, @Nullable Double perSecond) {
        if (perSecond != null && (!operation.equals("replay") || !(perSecond > 0) || perSecond.isInfinite())) {
            throw OperatorRequestException.bad("perSecond must be a positive number, and is for replay only");
        }
        long batches = switch (operation) {
            case "recover" -> recover(conditions, dryRun);
            case "replay" -> replay(conditions, dryRun, perSecond == null ? 0 : perSecond);
            case "discard" -> discard(conditions, dryRun);
            case "pause" -> pause(conditions, dryRun);
            case "resume" -> resume(conditions, dryRun);
            case "cleanup" -> cleanup(dryRun);
            default ->
                throw OperatorRequestException.notFound("there is no operation '" + SingleLine.of(operation)
                        + "'; there are recover, replay, discard, pause, resume and cleanup");
        };
        return new Result(operation, dryRun, batches);
    }

    private long recover(Conditions conditions, boolean dryRun) {
        BatchSelector selector = selector("recover", conditions, PENDING);
        return dryRun ? persistence.count(selector) : persistence.recover(selector);
    }

    private long replay(Conditions conditions, boolean dryRun, double perSecond) {
        BatchSelector selector = selector("replay", conditions, DEAD);
        return dryRun ? persistence.count(selector) : persistence.replay(selector, perSecond);
    }

    private long discard(Conditions conditions, boolean dryRun) {
        if (!conditions.narrowsDown()) {
            throw OperatorRequestException.bad("discard removes batches for good, so it must be said which: by id,"
                    + " collectorType, state, failureReason, olderThan, youngerThan, minRetries or maxRetries");
        }
        BatchSelector selector =
                selector("discard", conditions, Set.of(BatchState.values())).statesOr(NOT_IN_FLIGHT);
        return dryRun ? persistence.count(selector) : persistence.discard(selector);
    }

    private BatchSelector selector(String operation, Conditions conditions, Set<BatchState> possible) {
        BatchSelector selector = conditions.selector(Integer.MAX_VALUE, Integer.MAX_VALUE);
        if (!possible.containsAll(selector.states())) {
            throw OperatorRequestException.bad(operation + " is for batches that are "
                    + (possible.equals(DEAD) ? "dead" : "pending") + "; leave state out, or change it");
        }
        if (!conditions.ids().isEmpty()
                && persistence.count(BatchSelector.all().ids(conditions.ids().toArray(String[]::new))) == 0) {
            throw notHeld(String.join("', '", conditions.ids()));
        }
        boolean one = possible.size() == 1 && selector.states().isEmpty();
        return one ? selector.statesOr(possible) : selector;
    }

    private long pause(Conditions conditions, boolean dryRun) {
        String type = conditions.collectorType();
        boolean changes = dryRun ? !persistence.pausedCollectorTypes().contains(type) : persistence.pause(type);
        return changes ? 1 : 0;
    }

    private long resume(Conditions conditions, boolean dryRun) {
        String type = conditions.collectorType();
        boolean changes = dryRun ? persistence.pausedCollectorTypes().contains(type) : persistence.resume(type);
        return changes ? 1 : 0;
    }

    private long cleanup(boolean dryRun) {
        if (dryRun) {
            throw OperatorRequestException.bad("cleanup has no dry run: what expires is what has outlived its TTL");
        }
        return persistence.cleanup();
    }

    // ---- what is returned ------------------------------------------------------------------------

    /**
     * What is held.
     *
     * @param at when that was so
     * @param batches batches held, dead letters included
     * @param maxBatches their bound
     * @param diskUsage bytes of all files
     * @param maxDiskUsage their bound
     * @param fillLevel the larger share of the two, from 0 to 1
     * @param problem why batches can't be taken at the moment; absent if they can
     * @param fallback what is kept on this instance's disk while the database is away, and counted above too; absent if there is no
     *     such place
     * @param collectors by collector type
     */
    public record Summary(
            Instant at,
            long batches,
            long maxBatches,
            long diskUsage,
            long maxDiskUsage,
            double fillLevel,
            @Nullable String problem,
            @Nullable Fallback fallback,
            Map<String, Collector> collectors) {}

    /**
     * One collector type. The counters survive restarts.
     *
     * @param pending what waits to be sent; the oldest of this and of what is in flight
     * @param inFlight what is being sent
     * @param dead what was given up; the oldest by when that was
     * @param nextAttemptAt when the first of the pending ones is due; in the past if some are
     * @param accepted batches taken
     * @param delivered batches delivered
     * @param expired batches removed by TTL
     * @param evicted batches dropped to make room
     * @param discarded batches removed on request
     * @param corrupt batches lost to damage on disk
     * @param failedAttempts attempts that failed since the application started
     * @param balanced whether every accepted batch is accounted for
     * @param lane how its collector is doing; absent if recovery has not met it
     */
    public record Collector(
            Held pending,
            Held inFlight,
            Held dead,
            @Nullable Instant nextAttemptAt,
            long accepted,
            long delivered,
            long expired,
            long evicted,
            long discarded,
            long corrupt,
            long failedAttempts,
            boolean balanced,
            @Nullable LaneStatus lane) {

        private static Collector of(CollectorStats stats, @Nullable LaneStatus lane) {
            return new Collector(
                    Held.of(stats.pending(), stats.pendingVolume(), stats.oldestPending()),
                    Held.of(stats.inFlight(), stats.inFlightVolume(), null),
                    Held.of(stats.dead(), stats.deadVolume(), stats.oldestDead()),
                    stats.nextAttemptAt(),
                    stats.accepted(),
                    stats.delivered(),
                    stats.expired(),
                    stats.evicted(),
                    stats.discarded(),
                    stats.corrupt(),
                    stats.failedAttempts(),
                    stats.isBalanced(),
                    lane);
        }
    }

    /**
     * What is in one state.
     *
     * @param batches how many batches
     * @param entries how many entries in them
     * @param bytes of their payloads on disk
     * @param oldest since when
     */
    public record Held(
            long batches,
            long entries,
            long bytes,
            @Nullable Instant oldest) {

        private static Held of(long batches, BatchVolume volume, @Nullable Instant oldest) {
            return new Held(batches, volume.entries(), volume.bytes(), oldest);
        }
    }

    /**
     * A page of a list.
     *
     * @param batches in the order asked for
     * @param next what to ask for {@code after} to get the next page; absent if there is none
     */
    public record Batches(List<Batch> batches, @Nullable String next) {}

    /**
     * A batch, without anything of what is in it.
     *
     * @param id its id
     * @param collectorType the destination's name
     * @param state where it is on its way
     * @param createdAt when it was persisted
     * @param lastAttempt when the last attempt failed
     * @param nextAttemptAt when it is tried next, or times out
     * @param retryCount failed attempts
     * @param failureReason why the last attempt failed
     * @param entryCount number of entries
     * @param bytes size on disk
     */
    public record Batch(
            String id,
            String collectorType,
            BatchState state,
            Instant createdAt,
            @Nullable Instant lastAttempt,
            @Nullable Instant nextAttemptAt,
            int retryCount,
            @Nullable String failureReason,
            int entryCount,
            long bytes) {

        private static Batch of(BatchSummary batch) {
            return new Batch(
                    batch.id(),
                    batch.collectorType(),
                    batch.state(),
                    batch.createdAt(),
                    batch.lastAttempt(),
                    batch.nextAttemptAt(),
                    batch.retryCount(),
                    batch.failureReason(),
                    batch.entryCount(),
                    batch.bytes());
        }
    }

    /**
     * Batches that have failed, grouped.
     *
     * @param reasons those with most batches first
     */
    public record Reasons(List<FailureGroup> reasons) {}

    /**
     * A batch with what has become of it so far. For the other components see {@link Batch}.
     *
     * @param earlierFailures what failed before the last attempt, oldest first
     * @param entriesShown whether context and entries are there
     * @param context what the caller gave along; absent if not to be shown
     * @param entries what is in it, the first 1,000; absent if not to be shown
     */
    public record Detail(
            String id,
            String collectorType,
            BatchState state,
            Instant createdAt,
            @Nullable Instant lastAttempt,
            @Nullable Instant nextAttemptAt,
            int retryCount,
            @Nullable String failureReason,
            int entryCount,
            long bytes,
            List<FailedAttempt> earlierFailures,
            boolean entriesShown,
            @Nullable Map<String, String> context,
            @Nullable List<LogEntry> entries) {

        private static Detail of(BatchSummary batch, @Nullable PersistedBatch content) {
            return new Detail(
                    batch.id(),
                    batch.collectorType(),
                    batch.state(),
                    batch.createdAt(),
                    batch.lastAttempt(),
                    batch.nextAttemptAt(),
                    batch.retryCount(),
                    batch.failureReason(),
                    batch.entryCount(),
                    batch.bytes(),
                    batch.earlierFailures(),
                    content != null,
                    content == null ? null : content.context(),
                    content == null
                            ? null
                            : content.entries()
                                    .subList(
                                            0,
                                            Math.min(
                                                    MAX_ENTRIES,
                                                    content.entries().size())));
        }
    }

    /**
     * What was done.
     *
     * @param operation what was asked for
     * @param dryRun whether it was only counted
     * @param batches with how many batches; 1 or 0 for {@code pause} and {@code resume}: whether that changed anything
     */
    public record Result(String operation, boolean dryRun, long batches) {}
}
