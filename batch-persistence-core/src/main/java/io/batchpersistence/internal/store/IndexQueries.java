package io.batchpersistence.internal.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.spi.RemovalReason;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.IntConsumer;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * Answers from the index which batches match, how many they are and why they failed. Changes nothing, and reads no
 * files.
 *
 * <p>Acquires the store's lock itself, for a page of the index at a time: a million batches take a moment, during which
 * all other callers would wait. Methods marked <em>under the lock</em> leave that to their caller.
 */
final class IndexQueries {

    /** Batches looked at, or changed, while holding the lock once. */
    static final int CHUNK_SIZE = 1_024;

    private static final long NEVER = BatchIndex.NEVER;

    private final BatchIndex index;
    private final ReentrantLock lock;
    private final Runnable requireOpen;

    /**
     * Starts without an answer.
     *
     * @param index guarded by the lock
     * @param lock the store's
     * @param requireOpen throws if the store is closed; called under the lock
     */
    IndexQueries(BatchIndex index, ReentrantLock lock, Runnable requireOpen) {
        this.index = index;
        this.lock = lock;
        this.requireOpen = requireOpen;
    }

    /** A batch as it was at one moment, to be read from disk without the lock. */
    record Row(
            int slot,
            RecordPointer pointer,
            String collectorType,
            BatchState state,
            long lastAttempt,
            long due,
            int retries,
            @Nullable String reason,
            List<FailedAttempt> earlierFailures) {

        PersistedBatch batch(PayloadLog.Content content) {
            PayloadLog.Header header = content.header();
            return new PersistedBatch(
                    header.id(),
                    content.entries(),
                    collectorType,
                    header.createdAt(),
                    instant(lastAttempt),
                    instant(due),
                    retries,
                    reason,
                    earlierFailures,
                    header.context(),
                    state);
        }

        BatchSummary summary(PayloadLog.Header header) {
            return new BatchSummary(
                    header.id(),
                    collectorType,
                    state,
                    header.createdAt(),
                    instant(lastAttempt),
                    instant(due),
                    retries,
                    reason,
                    earlierFailures,
                    header.context(),
                    header.entryCount(),
                    pointer.length(),
                    pointer.sequence());
        }
    }

    private static @Nullable Instant instant(long millis) {
        return millis == NEVER ? null : Instant.ofEpochMilli(millis);
    }

    /** Under the lock. */
    Row row(int slot) {
        return new Row(
                slot,
                index.location(slot),
                index.typeOf(slot).name,
                index.state(slot),
                index.lastAttempt(slot),
                index.due(slot),
                index.retries(slot),
                index.reason(slot),
                index.earlierFailures(slot));
    }

    /** Under the lock: the batches whose id may have that hash. */
    List<Row> candidates(long idHash) {
        List<Row> rows = new ArrayList<>(1);
        index.candidates(idHash, slot -> rows.add(row(slot)));
        return rows;
    }

    /** Runs an action under the lock. Returns the number of pages, which never shrinks. */
    private int lookAt(Runnable look) {
        lock.lock();
        try {
            requireOpen.run();
            look.run();
            return index.pageCount();
        } finally {
            lock.unlock();
        }
    }

    // ---- selecting -------------------------------------------------------------------------------

    /** The selected batches, as they were when they were looked at, in the selector's order: slots and sequences. */
    static final class Selection {
        final int[] slots;
        final long[] sequences;

        private Selection(int size) {
            slots = new int[size];
            sequences = new long[size];
        }

        int size() {
            return slots.length;
        }
    }

    /** The batches that match; the selector names no ids. */
    Selection select(BatchSelector selector, Instant now) {
        TopN found = new TopN(selector.order(), selector.limit());
        forEachMatch(selector, now, found::add);
        return found.sorted();
    }

    /** Those of some batches that match. */
    Selection select(BatchSelector selector, Instant now, List<Row> among) {
        TopN found = new TopN(selector.order(), selector.limit());
        Matcher matcher = new Matcher(selector, now);
        for (Row row : among) {
            lookAtMatches(
                    matcher,
                    look -> {
                        if (index.holds(row.slot(), row.pointer().sequence())) {
                            look.accept(row.slot());
                        }
                    },
                    found::add);
        }
        return found.sorted();
    }

    /** The batches that are not sent automatically, the oldest first. */
    Selection heldBack() {
        TopN held = new TopN(BatchOrder.OLDEST_FIRST, Integer.MAX_VALUE);
        int pages = lookAt(() -> {});
        for (int i = 0; i < pages; i++) {
            int page = i;
            lookAt(() -> index.forEachInPage(page, slot -> {
                if (index.isHeld(slot)) {
                    held.add(slot);
                }
            }));
        }
        return held.sorted();
    }

    /** The rows of the selected batches that are still held, one chunk at a time. */
    List<Row> rows(Selection selection, int from) {
        List<Row> rows = new ArrayList<>();
        int to = Math.min(from + CHUNK_SIZE, selection.size());
        lookAt(() -> {
            for (int i = from; i < to; i++) {
                if (index.holds(selection.slots[i], selection.sequences[i])) {
                    rows.add(row(selection.slots[i]));
                }
            }
        });
        return rows;
    }

    private void forEachMatch(BatchSelector selector, Instant now, IntConsumer action) {
        Matcher matcher = new Matcher(selector, now);
        int pages = lookAt(() -> {});
        for (int i = 0; i < pages; i++) {
            lookAtMatches(matcher, page(i), action);
        }
    }

    /** All slots of a page of the index. */
    private Consumer<IntConsumer> page(int page) {
        return look -> index.forEachInPage(page, look);
    }

    /**
     * Runs an action, under the lock, for those of some slots that match. Matching reasons may take long, so it is done
     * before, without the lock.
     */
    private void lookAtMatches(Matcher matcher, Consumer<IntConsumer> slots, IntConsumer action) {
        boolean[] done = {false};
        while (!done[0]) {
            lookAt(() -> {
                if (matcher.knowsReasons(slots)) {
                    slots.accept(slot -> {
                        if (matcher.matches(slot)) {
                            action.accept(slot);
                        }
                    });
                    done[0] = true;
                }
            });
            matcher.matchNewReasons();
        }
    }

    /** The first results so far: a page of a list needs no memory for the million batches behind it. */
    private final class TopN {
        private final int limit;
        private final Comparator<Candidate> order;
        /** The results kept; the head is the last of them in order. */
        private final PriorityQueue<Candidate> kept;

        private record Candidate(long sequence, int slot) {}

        TopN(BatchOrder order, int limit) {
            Comparator<Candidate> oldestFirst = Comparator.comparingLong(Candidate::sequence);
            this.limit = limit;
            this.order = order == BatchOrder.OLDEST_FIRST ? oldestFirst : oldestFirst.reversed();
            this.kept = new PriorityQueue<>(this.order.reversed());
        }

        void add(int slot) {
            Candidate candidate = new Candidate(index.sequence(slot), slot);
            if (kept.size() < limit) {
                kept.add(candidate);
            } else if (order.compare(candidate, kept.element()) < 0) {
                kept.remove();
                kept.add(candidate);
            }
        }

        Selection sorted() {
            Candidate[] sorted = kept.toArray(new Candidate[0]);
            Arrays.sort(sorted, order);
            Selection selection = new Selection(sorted.length);
            for (int i = 0; i < sorted.length; i++) {
                selection.slots[i] = sorted[i].slot();
                selection.sequences[i] = sorted[i].sequence();
            }
            return selection;
        }
    }

    /** A selector's conditions other than ids. For {@link #lookAtMatches}. */
    private final class Matcher {
        private final BatchSelector selector;
        private final Instant now;
        private final Set<BatchState> states;
        private final @Nullable Predicate<String> glob;
        private final Map<String, Boolean> reasons = new HashMap<>();
        private final Set<String> newReasons = new HashSet<>();

        Matcher(BatchSelector selector, Instant now) {
            this.selector = selector;
            this.now = now;
            this.states = selector.statesOr(EnumSet.allOf(BatchState.class)).states();
            this.glob = selector.failureReasonMatcher();
        }

        /** Under the lock. */
        boolean knowsReasons(Consumer<IntConsumer> slots) {
            if (glob != null) {
                slots.accept(slot -> {
                    String reason = index.reason(slot);
                    if (reason != null && !reasons.containsKey(reason)) {
                        newReasons.add(reason);
                    }
                });
            }
            return newReasons.isEmpty();
        }

        /** Without the lock. */
        void matchNewReasons() {
            if (glob != null) {
                newReasons.forEach(reason -> reasons.put(reason, glob.test(reason)));
                newReasons.clear();
            }
        }

        /** Under the lock; the reason is known. */
        boolean matches(int slot) {
            int retries = index.retries(slot);
            return states.contains(index.state(slot))
                    && (selector.collectorTypes().isEmpty()
                            || selector.collectorTypes().contains(index.typeOf(slot).name))
                    && retries >= selector.minRetries()
                    && retries <= selector.maxRetries()
                    && selector.matchesPosition(index.sequence(slot))
                    && selector.matchesAge(Instant.ofEpochMilli(index.createdAt(slot)), now)
                    && (glob == null || matchesReason(slot));
        }

        private boolean matchesReason(int slot) {
            String reason = index.reason(slot);
            return reason != null && Boolean.TRUE.equals(reasons.get(reason));
        }
    }

    // ---- counting --------------------------------------------------------------------------------

    /** How many match, up to the selector's limit; it names no ids. */
    long count(BatchSelector selector, Instant now) {
        long[] count = {0};
        if (selector.failureReason() == null
                && selector.olderThan() == null
                && selector.youngerThan() == null
                && selector.minRetries() == 0
                && selector.maxRetries() == Integer.MAX_VALUE
                && selector.after() == null) {
            lookAt(() -> index.types().forEach(type -> count[0] += held(type, selector)));
            return Math.min(count[0], selector.limit());
        }
        Matcher matcher = new Matcher(selector, now);
        int pages = lookAt(() -> {});
        for (int i = 0; i < pages && count[0] < selector.limit(); i++) {
            lookAtMatches(matcher, page(i), slot -> count[0]++);
        }
        return Math.min(count[0], selector.limit());
    }

    /** The number of batches of one collector type, filtered by state only: these are counted already. */
    private static long held(BatchIndex.Type type, BatchSelector selector) {
        if (!selector.collectorTypes().isEmpty() && !selector.collectorTypes().contains(type.name)) {
            return 0;
        }
        Set<BatchState> states =
                selector.statesOr(EnumSet.allOf(BatchState.class)).states();
        long held = states.contains(BatchState.PENDING) ? type.pending.batches : 0;
        held += states.contains(BatchState.IN_FLIGHT) ? type.inFlight.batches : 0;
        held += states.contains(BatchState.DEAD) ? type.buried.batches : 0;
        return held;
    }

    /** The matching batches by their failure reason; the selector names no ids. */
    List<FailureGroup> failures(BatchSelector selector, Instant now) {
        Failures failures = new Failures();
        forEachMatch(selector, now, failures::add);
        return failures.groups(selector.limit());
    }

    /** The selected batches by their failure reason. */
    List<FailureGroup> failures(Selection selection, int limit) {
        Failures failures = new Failures();
        lookAt(() -> {
            for (int i = 0; i < selection.size(); i++) {
                if (index.holds(selection.slots[i], selection.sequences[i])) {
                    failures.add(selection.slots[i]);
                }
            }
        });
        return failures.groups(limit);
    }

    /** Counts batches by collector type and failure reason. */
    private final class Failures {
        private final Map<String, Map<String, FailureStats>> byType = new HashMap<>();

        /** Under the lock. */
        void add(int slot) {
            String reason = index.reason(slot);
            if (reason != null) {
                long last = index.lastAttempt(slot);
                byType.computeIfAbsent(index.typeOf(slot).name, type -> new HashMap<>())
                        .computeIfAbsent(reason, text -> new FailureStats())
                        .add(last == NEVER ? index.createdAt(slot) : last);
            }
        }

        List<FailureGroup> groups(int limit) {
            List<FailureGroup> groups = new ArrayList<>();
            byType.forEach(
                    (type, reasons) -> reasons.forEach((reason, stats) -> groups.add(stats.toGroup(type, reason))));
            groups.sort(FailureGroup.MOST_BATCHES_FIRST);
            return List.copyOf(groups.subList(0, Math.min(limit, groups.size())));
        }
    }

    /** When batches were tried last. */
    private static final class FailureStats {
        private long batches;
        private long first = Long.MAX_VALUE;
        private long last = Long.MIN_VALUE;

        void add(long at) {
            batches++;
            first = Math.min(first, at);
            last = Math.max(last, at);
        }

        FailureGroup toGroup(String collectorType, String reason) {
            return new FailureGroup(
                    collectorType, reason, batches, Instant.ofEpochMilli(first), Instant.ofEpochMilli(last));
        }
    }

    // ---- by age ----------------------------------------------------------------------------------

    /** The pending batches and dead letters of a collector type that are older than that, the oldest first. */
    List<Row> olderThan(String collectorType, long pendingBefore, long deadBefore, int max) {
        List<Row> rows = new ArrayList<>();
        lookAt(() -> {
            BatchIndex.Type type = index.knownType(collectorType);
            if (type != null) {
                collectOlder(type.live, pendingBefore, max, rows);
                collectOlder(type.dead, deadBefore, max - rows.size(), rows);
            }
        });
        return rows;
    }

    /** The oldest batches that are not in flight. */
    List<Row> oldest(int max) {
        List<Row> rows = new ArrayList<>();
        lookAt(() -> {
            for (BatchIndex.Type type : index.types()) {
                collectOlder(type.live, NEVER, max, rows);
                collectOlder(type.dead, NEVER, max, rows);
            }
        });
        rows.sort(Comparator.comparingLong(row -> row.pointer().sequence()));
        return rows.subList(0, Math.min(max, rows.size()));
    }

    private void collectOlder(BatchIndex.SlotList list, long before, int max, Collection<Row> rows) {
        int left = max;
        for (int slot = list.oldest();
                slot != BatchIndex.NONE && left > 0 && index.since(slot) < before;
                slot = list.after(slot)) {
            if (index.state(slot) != BatchState.IN_FLIGHT) {
                rows.add(row(slot));
                left--;
            }
        }
    }

    /** The oldest dead letters, as many as there are above a limit in bytes. */
    List<Row> deadLettersAbove(long maxBytes, int max) {
        List<Row> rows = new ArrayList<>();
        lookAt(() -> {
            long tooMany = index.deadBytes() - maxBytes;
            Queue<Integer> oldest = new PriorityQueue<>(Comparator.comparingLong((Integer slot) -> index.since(slot))
                    .thenComparing(index::sequence));
            index.types().stream()
                    .map(type -> type.dead.oldest())
                    .filter(slot -> slot != BatchIndex.NONE)
                    .forEach(oldest::add);
            for (Integer slot; tooMany > 0 && rows.size() < max && (slot = oldest.poll()) != null; ) {
                rows.add(row(slot));
                tooMany -= index.location(slot).length();
                int next = index.typeOf(slot).dead.after(slot);
                if (next != BatchIndex.NONE) {
                    oldest.add(next);
                }
            }
        });
        return rows;
    }

    // ---- collector types -------------------------------------------------------------------------

    /** The names of the collector types that pass a test. */
    Set<String> collectorTypes(Predicate<BatchIndex.Type> test) {
        Set<String> names = new HashSet<>();
        lookAt(() -> index.types().stream().filter(test).forEach(type -> names.add(type.name)));
        return names;
    }

    /** Under the lock. */
    Map<String, CollectorStats> collectors() {
        Map<String, CollectorStats> collectors = new HashMap<>();
        index.types().forEach(type -> collectors.put(type.name, stats(type)));
        return collectors;
    }

    private CollectorStats stats(BatchIndex.Type type) {
        Counters counters = type.counters;
        return new CollectorStats(
                counters.accepted,
                counters.gone(RemovalReason.DELIVERED),
                type.pending.batches,
                type.inFlight.batches,
                type.buried.batches,
                counters.gone(RemovalReason.EXPIRED),
                counters.gone(RemovalReason.EVICTED),
                counters.gone(RemovalReason.DISCARDED),
                counters.gone(RemovalReason.CORRUPT),
                counters.failedAttempts,
                volume(type.pending),
                volume(type.inFlight),
                volume(type.buried),
                oldest(type.live),
                oldest(type.dead),
                instant(type.nextDue()));
    }

    private static BatchVolume volume(BatchIndex.Tally tally) {
        return new BatchVolume(tally.entries, tally.bytes);
    }

    private @Nullable Instant oldest(BatchIndex.SlotList list) {
        return list.size == 0 ? null : Instant.ofEpochMilli(index.since(list.oldest()));
    }
}
