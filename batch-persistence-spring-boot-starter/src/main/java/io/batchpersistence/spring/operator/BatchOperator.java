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
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Clock;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * Answers an operator's queries and runs an operator's commands. Results are meant to be serialized as JSON and contain
 * no content of a batch, neither entries nor context, unless {@link #batch} is called with its {@code withContent}
 * flag. The caller is responsible for access control. Thread-safe.
 */
public final class BatchOperator {

    private static final int DEFAULT_LIMIT = 100;
    private static final int MAX_LIMIT = 1_000;

    /**
     * A batch may have a million entries; a response of that size would be unreadable and could harm the application.
     */
    private static final int MAX_ENTRIES = 1_000;

    private static final Set<BatchState> PENDING = Set.of(BatchState.PENDING);
    private static final Set<BatchState> DEAD = Set.of(BatchState.DEAD);
    private static final Set<BatchState> NOT_IN_FLIGHT = Set.of(BatchState.PENDING, BatchState.DEAD);

    private final BatchPersistence persistence;
    private final Clock clock;

    /**
     * Creates an operator.
     *
     * @param persistence the batch persistence to query and control
     * @param clock the current time
     */
    public BatchOperator(BatchPersistence persistence, Clock clock) {
        this.persistence = persistence;
        this.clock = clock;
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * Returns the current numbers.
     *
     * @return the numbers at this moment
     */
    public Summary summary() {
        BatchStats stats = persistence.stats();
        Map<String, LaneStatus> lanes = persistence.lanes();
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
     * Returns a page of the list of batches. Reads one record header per batch.
     *
     * @param conditions which batches; at most 100 if no limit is given, and never more than 1,000
     * @return the first of the matching batches, in the requested order
     * @throws OperatorRequestException if the conditions are invalid
     */
    public Batches batches(Conditions conditions) {
        BatchSelector selector = conditions.selector(DEFAULT_LIMIT, MAX_LIMIT);
        List<BatchSummary> page = persistence.list(selector);
        // Damaged batches are left out, so more batches may follow a page that is not full.
        BatchSummary last = page.isEmpty() ? null : page.get(page.size() - 1);
        boolean more = last != null
                && persistence.count(selector.after(last.position()).limit(1)) > 0;
        return new Batches(
                page.stream().map(Batch::of).toList(), more && last != null ? String.valueOf(last.position()) : null);
    }

    /**
     * Returns the reasons of the batches' last failures, grouped. Reads nothing from disk.
     *
     * @param conditions which batches; the limit, by default 100 and never more than 1,000, applies to the groups
     * @return the groups, the largest first
     * @throws OperatorRequestException if the conditions are invalid
     */
    public Reasons reasons(Conditions conditions) {
        return new Reasons(persistence.failures(conditions.selector(DEFAULT_LIMIT, MAX_LIMIT)));
    }

    /**
     * Returns one batch with its history.
     *
     * @param id the batch's id
     * @param withContent whether to include the content: the entries and the context
     * @return the batch
     * @throws OperatorRequestException if no batch with that id is held
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
        return OperatorRequestException.notFound("no batch '" + LogSanitizer.of(ids) + "' is held");
    }

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * Runs an operation.
     *
     * @param operation {@code recover}, {@code replay}, {@code discard}, {@code pause}, {@code resume} or {@code
     *     cleanup}
     * @param conditions which batches; {@code discard} requires conditions, {@code pause} and {@code resume} one
     *     collector type
     * @param dryRun whether to only count the batches that the operation would affect
     * @param perSecond for {@code replay}: how many batches become due per second; {@code null} for all at once
     * @return what was done
     * @throws OperatorRequestException if the request is invalid, or if none of the given ids is held
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
                throw OperatorRequestException.notFound("there is no operation '" + LogSanitizer.of(operation)
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
     * The batches that are held.
     *
     * @param at the time of this snapshot
     * @param batches number of batches held, dead letters included
     * @param maxBatches the limit of {@code batches}
     * @param diskUsage size of all files in bytes
     * @param maxDiskUsage the limit of {@code diskUsage}
     * @param fillLevel the larger share of the two limits in use, from 0 to 1
     * @param problem why batches are not accepted at the moment; absent if they are
     * @param fallback what is kept on this instance's disk while the database is unavailable, also included in the
     *     numbers above; absent if no fallback is configured
     * @param collectors the numbers by collector type
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
     * @param pending batches that wait to be sent; its {@code oldest} also covers batches in flight
     * @param inFlight batches being sent
     * @param dead dead letters; its {@code oldest} is the time at which the first of them became one
     * @param nextAttemptAt when the first of the pending batches is due; in the past if some are due now
     * @param accepted batches accepted
     * @param delivered batches delivered
     * @param expired batches removed by TTL
     * @param evicted batches dropped to make room
     * @param discarded batches removed on request
     * @param corrupt batches lost to damage on disk
     * @param failedAttempts attempts that failed since the application started
     * @param balanced whether every accepted batch is accounted for
     * @param lane the state of the collector; absent if recovery has not served it yet
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
     * The batches in one state.
     *
     * @param batches number of batches
     * @param entries number of entries in them
     * @param bytes size of their payloads on disk
     * @param oldest the time since which the oldest of them has been in this state; absent if there is none
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
     * A page of the list of batches.
     *
     * @param batches in the requested order
     * @param next the value of {@code after} for the next page; absent if there is none
     */
    public record Batches(List<Batch> batches, @Nullable String next) {}

    /**
     * A batch, without its content.
     *
     * @param id the batch's id
     * @param collectorType the destination's name
     * @param state its state
     * @param createdAt when it was persisted
     * @param lastAttempt when the last attempt failed
     * @param nextAttemptAt when the batch is tried next, or times out
     * @param retryCount number of failed attempts
     * @param failureReason why the last attempt failed
     * @param entryCount number of entries
     * @param bytes size on disk in bytes
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
     * Failed batches, grouped by reason.
     *
     * @param reasons the groups, the largest first
     */
    public record Reasons(List<FailureGroup> reasons) {}

    /**
     * A batch with its history. For the other components see {@link Batch}.
     *
     * @param earlierFailures the failures before the last attempt, oldest first
     * @param entriesShown whether context and entries are included
     * @param context the context given by the caller; absent if it must not be shown
     * @param entries the first 1,000 entries; absent if they must not be shown
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
                            : content.entries().stream().limit(MAX_ENTRIES).toList());
        }
    }

    /**
     * The result of an operation.
     *
     * @param operation the requested operation
     * @param dryRun whether batches were only counted
     * @param batches the number of affected batches; 1 or 0 for {@code pause} and {@code resume}: whether they changed
     *     anything
     */
    public record Result(String operation, boolean dryRun, long batches) {}
}
