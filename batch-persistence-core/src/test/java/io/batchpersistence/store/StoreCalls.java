package io.batchpersistence.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.LogEntry;
import io.batchpersistence.fixtures.ManualClock;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.Ledger.End;
import io.batchpersistence.store.Ledger.ExpectedState;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * Calls a store and keeps the {@link Ledger}: nothing is done that is not noted before and after. Calls may fail, if the disk
 * does; what they would have done may then have happened or not, unless the ledger says otherwise. Thread-safe.
 */
final class StoreCalls {

    /** Failed batches are due again at once. */
    private static final Duration LEASE = Duration.ofDays(1);

    private final Ledger ledger;
    private final ManualClock clock;
    private final String padding;
    /** Which batch has an id. */
    private final ConcurrentMap<String, String> keys = new ConcurrentHashMap<>();

    /**
     * Makes it.
     *
     * @param padding characters by which every batch is longer, hard to compress
     */
    StoreCalls(Ledger ledger, ManualClock clock, int padding) {
        this.ledger = ledger;
        this.clock = clock;
        StringBuilder text = new StringBuilder(padding);
        new Random(padding).ints(padding, ' ', '~').forEach(c -> text.append((char) c));
        this.padding = text.toString();
    }

    /**
     * A key of the ledger names one batch for ever. An id can be used again when its batch has ended: the keys of those that have it
     * are the id and, behind a #, something to tell them apart.
     */
    static String id(String key) {
        int at = key.indexOf('#');
        return at < 0 ? key : key.substring(0, at);
    }

    /** The batch is there. */
    void held(String key) {
        keys.put(id(key), key);
    }

    private String key(String id) {
        return keys.getOrDefault(id, id);
    }

    /** What the batch of that key consists of. */
    List<LogEntry> entries(String id) {
        List<LogEntry> entries = new ArrayList<>(GeneratedBatch.entries(id));
        if (!padding.isEmpty()) {
            entries.add(LogEntry.of(Instant.EPOCH, null, padding));
        }
        return entries;
    }

    private NewBatch batch(String key, String type) {
        Instant now = clock.instant();
        held(key);
        return new NewBatch(id(key), type, entries(key), GeneratedBatch.context(key), now, now.plus(LEASE));
    }

    /** Returns whether it was accepted. */
    boolean persist(BatchStore store, String id, String type) {
        int before = ledger.position();
        ledger.asked(id, type);
        try {
            store.appendAndWait(batch(id, type)).join();
            ledger.accepted(id);
            if (store.stats().problem() == null) {
                ledger.written(before);
            }
            return true;
        } catch (CompletionException e) {
            ledger.refused(id);
            return false;
        }
    }

    /** The ledger knows when the store does. */
    CompletableFuture<Boolean> persistAsync(BatchStore store, String id, String type) {
        ledger.asked(id, type);
        return store.append(batch(id, type)).handle((nothing, failure) -> {
            if (failure == null) {
                ledger.accepted(id);
            } else {
                ledger.refused(id);
            }
            return failure == null;
        });
    }

    /** Returns whether the store says that it has; what it could not read it may have. */
    private boolean mark(String id, ExpectedState after, Supplier<@Nullable Object> call) {
        return mark(id, ledger.marking(id, after), call);
    }

    private boolean mark(String id, int marking, Supplier<@Nullable Object> call) {
        try {
            if (call.get() != null) {
                ledger.marked(id, marking);
                return true;
            }
            ledger.notMarked(id, marking);
        } catch (BatchPersistenceException e) {
            // could not be read
        }
        return false;
    }

    boolean deliver(BatchStore store, String id) {
        return mark(id, ExpectedState.ended(End.DELIVERED), () -> store.delivered(id(id)));
    }

    boolean fail(BatchStore store, String id, boolean dead, String reason) {
        return fail(store, id, BatchStore.ANY_FENCE, new ExpectedState(null, dead, 1), reason);
    }

    private boolean fail(BatchStore store, String id, long fence, ExpectedState after, String reason) {
        Instant now = clock.instant();
        return mark(
                id,
                after,
                () -> store.failed(
                        id(id),
                        fence,
                        reason,
                        now,
                        (type, retries) -> new Verdict(after.dead(), after.dead() ? null : now, after.retries())));
    }

    /** Claims some that are due, and fails or delivers them. */
    void attempt(BatchStore store, String type, int max, Random random) {
        for (Claim claim : claim(store, type, max)) {
            if (random.nextBoolean()) {
                failAgain(store, claim, random.nextInt(4) == 0, "HTTP " + random.nextInt(600));
            } else {
                deliver(store, key(claim.batch().id()));
            }
        }
    }

    List<Claim> claim(BatchStore store, String type, int max) {
        try {
            Instant now = clock.instant();
            return store.claim(type, BatchOrder.OLDEST_FIRST, now, now.plus(LEASE), max);
        } catch (BatchPersistenceException e) {
            return List.of();
        }
    }

    boolean failAgain(BatchStore store, Claim claim, boolean dead, String reason) {
        return fail(
                store,
                key(claim.batch().id()),
                claim.fence(),
                new ExpectedState(null, dead, claim.batch().retryCount() + 1),
                reason);
    }

    /** What a person asks for is durable when the call returns, if the store does not say that it has a problem. */
    private boolean markAndForce(BatchStore store, String id, ExpectedState after, Supplier<Long> call) {
        int before = ledger.position();
        int marking = ledger.marking(id, after);
        boolean done = mark(id, marking, () -> call.get() == 1 ? id : null);
        if (done && store.stats().problem() == null) {
            ledger.forced(marking, before);
        }
        return done;
    }

    boolean replay(BatchStore store, String id) {
        BatchSelector one = BatchSelector.all().ids(id(id));
        return markAndForce(store, id, ExpectedState.NEW, () -> store.replay(one, clock.instant()));
    }

    boolean discard(BatchStore store, String id) {
        BatchSelector one = BatchSelector.all().ids(id(id));
        return markAndForce(store, id, ExpectedState.ended(End.DISCARDED), () -> store.discard(one, clock.instant()));
    }

    /** All that can expire. */
    void expire(BatchStore store, String type) {
        Instant later = clock.instant().plusSeconds(1);
        removeSome(
                store,
                BatchSelector.all().collectorTypes(type),
                End.EXPIRED,
                () -> store.expire(type, later, later, Integer.MAX_VALUE));
    }

    void evict(BatchStore store, int max) {
        removeSome(store, BatchSelector.all(), End.EVICTED, () -> store.evictOldest(max));
    }

    /** The store chooses which; while it does, nobody else may do anything. */
    private void removeSome(BatchStore store, BatchSelector of, End how, Supplier<List<BatchSummary>> call) {
        try {
            Map<String, Integer> markings = new HashMap<>();
            for (BatchSummary batch : store.list(of.states(BatchState.PENDING, BatchState.DEAD), clock.instant())) {
                String key = key(batch.id());
                markings.put(key, ledger.marking(key, ExpectedState.ended(how)));
            }
            for (BatchSummary removed : call.get()) {
                String key = key(removed.id());
                Integer marking = markings.remove(key);
                if (marking == null) {
                    throw new AssertionError(removed + " was in flight, or not there at all");
                }
                ledger.marked(key, marking);
            }
            markings.forEach(ledger::notMarked);
        } catch (BatchPersistenceException e) {
            // some of them, or none
        }
    }
}
