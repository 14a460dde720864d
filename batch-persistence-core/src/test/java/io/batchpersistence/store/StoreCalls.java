package io.batchpersistence.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.Ledger.End;
import io.batchpersistence.store.Ledger.ExpectedState;
import io.batchpersistence.test.ManualClock;
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
 * Calls a store and notes every call in the {@link Ledger} before and after. Calls may fail if the disk does. Then
 * their effect may or may not have happened, unless the ledger says otherwise. Thread-safe.
 */
final class StoreCalls {

    private static final Duration LEASE = Duration.ofDays(1);

    private final Ledger ledger;
    private final ManualClock clock;
    private final String padding;
    /** The key of the batch with an id. */
    private final ConcurrentMap<String, String> keys = new ConcurrentHashMap<>();

    /** @param padding the number of hard-to-compress characters that are added to each batch */
    StoreCalls(Ledger ledger, ManualClock clock, int padding) {
        this.ledger = ledger;
        this.clock = clock;
        StringBuilder text = new StringBuilder(padding);
        new Random(padding).ints(padding, ' ', '~').forEach(c -> text.append((char) c));
        this.padding = text.toString();
    }

    /**
     * A ledger key names one batch for ever. An id can be reused after its batch has ended. The keys are then the id, a
     * # and a suffix.
     */
    static String id(String key) {
        int at = key.indexOf('#');
        return at < 0 ? key : key.substring(0, at);
    }

    void held(String key) {
        keys.put(id(key), key);
    }

    private String key(String id) {
        return keys.getOrDefault(id, id);
    }

    /** The content of the batch with that key. */
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

    /** Notes the result in the ledger when the store completes. */
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

    /** Returns whether the store has the batch. If the batch could not be read, it may be there. */
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
            // The batch could not be read.
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

    /** Claims some due batches, and fails or delivers them. */
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

    /** An operator's change is durable on return, unless the store reports a problem. */
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

    /** The store chooses which batches to remove, so no other call may run meanwhile. */
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
            // Some or none of them were removed.
        }
    }
}
