package io.batchpersistence.internal.store;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchState;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.internal.spi.StoreLimits;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;

/**
 * The state of every batch held, without its id, its context or its entries, which stay on disk. A batch that has never
 * failed takes 69 bytes, one that has failed 85, and finding it another 10 to 20, all in primitive arrays, so that a
 * million batches neither fill the heap nor slow the garbage collector.
 *
 * <p>A batch has a <em>slot</em>, a number. Slots are in pages, so growing never copies them. A batch is found
 *
 * <ul>
 *   <li>by a keyed hash of its id, in an open-addressing table of slots; the id itself has to be compared on disk,
 *   <li>by its turn: per collector type a heap of the waiting batches, by due time, and one of the due ones, by age; if
 *       the newest are requested first, a second heap of the due ones, for another 8 bytes a batch,
 *   <li>by its age: per collector type a list of the live batches and one of the dead letters, in the order in which
 *       they became so.
 * </ul>
 *
 * <p>Not thread-safe: the store's lock guards it.
 */
final class BatchIndex {

    static final int NONE = -1;

    /** Collects the counters of types that had no batches for long, see {@link #forgetIdle}. */
    static final String OTHER = StoreLimits.OTHER_TYPES;

    static final long NEVER = Long.MAX_VALUE;

    /** Limit on the batches whose failures before the last one are remembered; some 200 bytes each. */
    static final int MAX_HISTORIES = 1 << 16;

    private static final int PAGE_BITS = 12;
    private static final int PAGE_SIZE = 1 << PAGE_BITS;
    private static final int PAGE_MASK = PAGE_SIZE - 1;

    private static final byte FREE = 0;
    private static final byte IN_FLIGHT = 1;
    private static final byte WAITING = 2;
    private static final byte READY = 3;
    private static final byte HELD = 4;
    private static final byte DEAD = 5;

    /** The fields of {@value #PAGE_SIZE} batches. */
    private static final class Page {
        final long[] sequence = new long[PAGE_SIZE];
        final long[] createdAt = new long[PAGE_SIZE];
        /** Next attempt; the end of the lease while in flight. */
        final long[] due = new long[PAGE_SIZE];

        /** Start of the TTL. Allocated when the first batch of a page is replayed or becomes a dead letter. */
        private long @Nullable [] since;
        /** Allocated when the first batch of a page fails: most of a backlog has never been tried. */
        private long @Nullable [] lastAttempt;

        final int[] file = new int[PAGE_SIZE];
        final int[] offset = new int[PAGE_SIZE];
        final int[] length = new int[PAGE_SIZE];
        /** Number of log entries. */
        final int[] entries = new int[PAGE_SIZE];

        final int[] idHash = new int[PAGE_SIZE];
        final int[] type = new int[PAGE_SIZE];
        final int[] reason = new int[PAGE_SIZE];
        final int[] retries = new int[PAGE_SIZE];
        /** Position in the batch's heap. */
        final int[] heapPosition = new int[PAGE_SIZE];
        /** Position in the newest-first heap, if there is one. */
        private int @Nullable [] newestPosition;

        /** Neighbours in the list by age; {@code next} also chains free slots. */
        final int[] previous = new int[PAGE_SIZE];

        final int[] next = new int[PAGE_SIZE];
        final byte[] state = new byte[PAGE_SIZE];

        int[] positions(int kind) {
            if (kind != Heap.NEWEST) {
                return heapPosition;
            }
            if (newestPosition == null) {
                newestPosition = new int[PAGE_SIZE];
            }
            return newestPosition;
        }

        long since(int i) {
            return since == null ? createdAt[i] : since[i];
        }

        void setSince(int i, long time) {
            if (since == null) {
                if (time == createdAt[i]) {
                    return;
                }
                since = createdAt.clone();
            }
            since[i] = time;
        }

        long lastAttempt(int i) {
            return lastAttempt == null ? NEVER : lastAttempt[i];
        }

        void setLastAttempt(int i, long time) {
            if (lastAttempt == null) {
                if (time == NEVER) {
                    return;
                }
                lastAttempt = new long[PAGE_SIZE];
                Arrays.fill(lastAttempt, NEVER);
            }
            lastAttempt[i] = time;
        }
    }

    /** The state of one collector type. */
    final class Type {
        final int id;
        final String name;
        final Counters counters;
        final SlotList live = new SlotList();
        final SlotList dead = new SlotList();
        private final Heap waiting = new Heap(Heap.BY_DUE);
        private final Heap ready = new Heap(Heap.OLDEST);
        /** The same batches, newest first. Created on demand, and kept until no batch is ready. */
        private @Nullable Heap newest;

        final Tally pending = new Tally();
        final Tally inFlight = new Tally();
        final Tally buried = new Tally();

        /** Paused by an operator; see {@link #pause}. */
        boolean paused;

        /** Neighbours in the list of idle types. */
        private @Nullable Type idleBefore;

        private @Nullable Type idleAfter;
        private boolean idle;

        private Type(int id, String name, Counters counters) {
            this.id = id;
            this.name = name;
            this.counters = counters;
        }

        int held() {
            return live.size + dead.size;
        }

        /** Approximate size in each journal. */
        private long bytes() {
            return 64 + 3L * name.length();
        }

        /** Due time of the next batch; {@link #NEVER} if none becomes due by itself. */
        long nextDue() {
            return ready.size > 0 ? due(ready.head()) : waiting.size > 0 ? due(waiting.head()) : NEVER;
        }

        private Tally of(byte state) {
            return switch (state) {
                case IN_FLIGHT -> inFlight;
                case DEAD -> buried;
                default -> pending;
            };
        }
    }

    /** Totals of the batches in one state. */
    static final class Tally {
        int batches;
        long entries;
        long bytes;

        private void add(Page page, int i, int sign) {
            batches += sign;
            entries += sign * (long) page.entries[i];
            bytes += sign * (long) page.length[i];
        }
    }

    /** Key of the hash that reduces eight bytes to four; see {@link #keyed}. */
    private final long key;

    private Page[] pages = new Page[0];
    private int freeHead = NONE;
    private int untouched;
    private int size;

    /** Slots by id hash; linear probing, {@code NONE} for empty. Deletion shifts back, so there are no tombstones. */
    private int[] table = filled(1 << 10);

    /** Types by number; {@code null} for a free number. */
    private final List<@Nullable Type> types = new ArrayList<>();

    private final List<Integer> freeTypes = new ArrayList<>();
    private final Map<String, Type> typesByName = new LinkedHashMap<>();
    /** Types without batches that are not paused, as a list: the first has been idle for longest. */
    private @Nullable Type idleHead;

    private @Nullable Type idleTail;
    private int idleTypes;
    private long idleBytes;
    /** Bytes of the dead letters of all types. */
    private long deadBytes;

    private final ReasonTable reasons = new ReasonTable();
    private final Map<Integer, List<FailedAttempt>> earlierFailures = new HashMap<>();

    BatchIndex() {
        this(newKey());
    }

    /** With a given key, for tests; with key 0 all ids share one hash. */
    BatchIndex(long key) {
        this.key = key;
    }

    /** Random and secret: an attacker can't choose ids that collide here, although the hash has only four bytes. */
    static long newKey() {
        return new SecureRandom().nextLong() | 1;
    }

    // ---- types -----------------------------------------------------------------------------------

    Type type(String name) {
        Type type = typesByName.get(name);
        return type != null ? type : type(name, new Counters());
    }

    /** Adds a type with counters from an earlier process. */
    Type type(String name, Counters counters) {
        boolean reused = !freeTypes.isEmpty();
        Type type = new Type(reused ? freeTypes.get(freeTypes.size() - 1) : types.size(), name, counters);
        typesByName.put(name, type);
        if (reused) {
            freeTypes.remove(freeTypes.size() - 1);
            types.set(type.id, type);
        } else {
            types.add(type);
        }
        noteIfIdle(type);
        return type;
    }

    void pause(Type type, boolean paused) {
        type.paused = paused;
        unmarkIdle(type);
        noteIfIdle(type);
    }

    private void noteIfIdle(Type type) {
        boolean idle = type.held() == 0
                && !type.paused
                && !type.name.equals(OTHER)
                && !type.name.equals(IndexedBatchStore.UNKNOWN_COLLECTOR);
        if (idle && !type.idle) {
            type.idle = true;
            type.idleBefore = idleTail;
            if (idleTail == null) {
                idleHead = type;
            } else {
                idleTail.idleAfter = type;
            }
            idleTail = type;
            idleTypes++;
            idleBytes += type.bytes();
        }
    }

    private void unmarkIdle(Type type) {
        if (type.idle) {
            Type before = type.idleBefore;
            Type after = type.idleAfter;
            if (before == null) {
                idleHead = after;
            } else {
                before.idleAfter = after;
            }
            if (after == null) {
                idleTail = before;
            } else {
                after.idleBefore = before;
            }
            type.idleBefore = null;
            type.idleAfter = null;
            type.idle = false;
            idleTypes--;
            idleBytes -= type.bytes();
        }
    }

    /**
     * Forgets the type that has been without batches for longest, if there are too many such types: from now on its
     * counters are part of those of {@link #OTHER}.
     *
     * @param maxTypes how many are kept
     * @param maxBytes of their names and counters in the journal
     * @return the type that is forgotten; {@code null} if there are not too many
     */
    @Nullable
    Type forgetIdle(int maxTypes, long maxBytes) {
        Type type = idleHead;
        if (type == null || (idleTypes <= maxTypes && idleBytes <= maxBytes)) {
            return null;
        }
        Type other = type(OTHER);
        freeTypes.add(type.id);
        other.counters.add(type.counters);
        unmarkIdle(type);
        typesByName.remove(type.name);
        types.set(type.id, null);
        return type;
    }

    @Nullable
    Type knownType(String name) {
        return typesByName.get(name);
    }

    Collection<Type> types() {
        return typesByName.values();
    }

    Type typeOf(int slot) {
        return Objects.requireNonNull(types.get(page(slot).type[slot & PAGE_MASK]));
    }

    // ---- slots -----------------------------------------------------------------------------------

    int size() {
        return size;
    }

    /** Adds a batch in flight. */
    int add(RecordPointer pointer, long idHash, int entries, Type type, long createdAt, long leaseUntil) {
        int slot = insert(pointer, idHash, entries, type, createdAt, createdAt);
        page(slot).due[slot & PAGE_MASK] = leaseUntil;
        enterState(slot, IN_FLIGHT);
        type.live.append(slot);
        return slot;
    }

    /** Adds a batch as an earlier process left it; its state must be set next, with {@code pend} or {@code bury}. */
    int restore(RecordPointer pointer, long idHash, int entries, Type type, long createdAt, long since) {
        int slot = insert(pointer, idHash, entries, type, createdAt, since);
        type.live.append(slot);
        enterState(slot, IN_FLIGHT);
        return slot;
    }

    private int insert(RecordPointer pointer, long idHash, int entries, Type type, long createdAt, long since) {
        // Allocations, which may fail, come before the first change.
        growTable();
        unmarkIdle(type);
        int slot = freeHead;
        if (slot != NONE) {
            freeHead = page(slot).next[slot & PAGE_MASK];
        } else {
            if (untouched >> PAGE_BITS >= pages.length) {
                Page[] more = Arrays.copyOf(pages, pages.length + 1);
                more[pages.length] = new Page();
                pages = more;
            }
            slot = untouched++;
        }
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        page.sequence[i] = pointer.sequence();
        page.createdAt[i] = createdAt;
        page.setSince(i, since);
        page.due[i] = 0;
        page.setLastAttempt(i, NEVER);
        page.file[i] = pointer.file();
        page.offset[i] = pointer.offset();
        page.length[i] = pointer.length();
        page.entries[i] = entries;
        page.idHash[i] = keyed(idHash);
        page.type[i] = type.id;
        page.reason[i] = NONE;
        page.retries[i] = 0;
        size++;
        put(slot, page.idHash[i]);
        return slot;
    }

    void remove(int slot) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        Type type = typeOf(slot);
        leaveState(slot);
        (page.state[i] == DEAD ? type.dead : type.live).unlink(slot);
        reasons.release(page.reason[i]);
        earlierFailures.remove(slot);
        removeFromTable(slot, page.idHash[i]);
        page.state[i] = FREE;
        page.sequence[i] = NONE;
        page.next[i] = freeHead;
        freeHead = slot;
        size--;
        noteIfIdle(type);
    }

    /** Whether the slot still holds the batch it held when its location was taken. */
    boolean holds(int slot, long sequence) {
        return page(slot).sequence[slot & PAGE_MASK] == sequence;
    }

    /** Whether the slot still holds the batch whose bytes are there. */
    boolean holdsAt(int slot, RecordPointer pointer) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        return page.sequence[i] == pointer.sequence()
                && page.file[i] == pointer.file()
                && page.offset[i] == pointer.offset();
    }

    /** The batch's bytes have moved; their length is the same. */
    void relocate(int slot, RecordPointer pointer) {
        Page page = page(slot);
        page.file[slot & PAGE_MASK] = pointer.file();
        page.offset[slot & PAGE_MASK] = pointer.offset();
    }

    /** The state of a batch as it is written to disk: one in flight is due at once. */
    PersistedState persistedState(int slot) {
        BatchState state = state(slot);
        return new PersistedState(
                state == BatchState.DEAD,
                since(slot),
                retries(slot),
                lastAttempt(slot),
                state == BatchState.IN_FLIGHT ? PersistedState.DUE_NOW : due(slot),
                reason(slot),
                earlierFailures(slot));
    }

    RecordPointer location(int slot) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        return new RecordPointer(page.sequence[i], page.file[i], page.offset[i], page.length[i]);
    }

    BatchState state(int slot) {
        return switch (page(slot).state[slot & PAGE_MASK]) {
            case IN_FLIGHT -> BatchState.IN_FLIGHT;
            case DEAD -> BatchState.DEAD;
            default -> BatchState.PENDING;
        };
    }

    long sequence(int slot) {
        return page(slot).sequence[slot & PAGE_MASK];
    }

    long createdAt(int slot) {
        return page(slot).createdAt[slot & PAGE_MASK];
    }

    long since(int slot) {
        return page(slot).since(slot & PAGE_MASK);
    }

    /** Time of the next attempt, or end of the lease; {@link #NEVER} if held back. */
    long due(int slot) {
        return page(slot).due[slot & PAGE_MASK];
    }

    /** Time of the last failed attempt; {@link #NEVER} if none has failed. */
    long lastAttempt(int slot) {
        return page(slot).lastAttempt(slot & PAGE_MASK);
    }

    int retries(int slot) {
        return page(slot).retries[slot & PAGE_MASK];
    }

    int length(int slot) {
        return page(slot).length[slot & PAGE_MASK];
    }

    @Nullable
    String reason(int slot) {
        return reasons.text(page(slot).reason[slot & PAGE_MASK]);
    }

    // ---- state changes ---------------------------------------------------------------------------

    void markInFlight(int slot, long leaseUntil) {
        Page page = page(slot);
        leaveState(slot);
        page.due[slot & PAGE_MASK] = leaseUntil;
        enterState(slot, IN_FLIGHT);
    }

    /** The failures before the last failed attempt, oldest first. */
    List<FailedAttempt> earlierFailures(int slot) {
        return earlierFailures.getOrDefault(slot, List.of());
    }

    /**
     * Remembers the earlier failures. Few batches fail more than once, since an outage does not count as their failure,
     * so batches without earlier failures cost nothing.
     */
    void earlierFailures(int slot, List<FailedAttempt> failures) {
        if (!failures.isEmpty() && (earlierFailures.size() < MAX_HISTORIES || earlierFailures.containsKey(slot))) {
            earlierFailures.put(slot, failures);
        }
    }

    /** Records another failed attempt. */
    void failedAgain(int slot, long at, int retries, String reason) {
        String lastReason = reason(slot);
        long last = lastAttempt(slot);
        if (lastReason != null && last != NEVER) {
            List<FailedAttempt> earlier = new ArrayList<>(earlierFailures(slot));
            earlier.add(new FailedAttempt(Instant.ofEpochMilli(last), lastReason));
            if (earlier.size() > FailedAttempt.MAX_EARLIER) {
                // Keep the first failure.
                earlier.remove(1);
            }
            earlierFailures(slot, List.copyOf(earlier));
        }
        noteFailure(slot, at, retries, reason);
    }

    void noteFailure(int slot, long at, int retries, @Nullable String reason) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        page.setLastAttempt(i, at);
        page.retries[i] = retries;
        int before = page.reason[i];
        page.reason[i] = reason == null ? NONE : reasons.acquire(reason);
        reasons.release(before);
    }

    /** Makes it pending; a due time of {@link #NEVER} holds it back from automatic recovery. */
    void markPending(int slot, long due) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        Type type = typeOf(slot);
        leaveState(slot);
        if (page.state[i] == DEAD) {
            type.dead.unlink(slot);
            type.live.append(slot);
        }
        page.due[i] = due;
        enterState(slot, due == NEVER ? HELD : WAITING);
        if (due != NEVER) {
            type.waiting.add(slot);
        }
    }

    long deadBytes() {
        return deadBytes;
    }

    void markDead(int slot, long since) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        Type type = typeOf(slot);
        leaveState(slot);
        type.live.unlink(slot);
        page.due[i] = NEVER;
        page.setSince(i, since);
        enterState(slot, DEAD);
        type.dead.append(slot);
    }

    /** Makes a dead letter pending again. */
    void replay(int slot, long now, long due) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        page.retries[i] = 0;
        page.setSince(i, now);
        markPending(slot, due);
    }

    /** Makes an age that begins in the future begin now. Returns whether it changed anything. */
    boolean correctAge(int slot, long now) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        if (page.since(i) <= now) {
            return false;
        }
        page.setSince(i, now);
        (page.state[i] == DEAD ? typeOf(slot).dead : typeOf(slot).live).sorted = false;
        return true;
    }

    /**
     * Corrects a wait after a clock change: one that began in the future begins now, and one longer than the longest
     * possible was computed from another clock and ends. Returns whether it changed anything.
     */
    boolean correctWait(int slot, long now, long longest) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        long due = page.due[i];
        if (page.state[i] != WAITING || due <= now) {
            return false;
        }
        long began = page.lastAttempt(i);
        boolean never = began == NEVER;
        if (!never && began <= now && due - began <= longest) {
            return false;
        }
        boolean inFuture = !never && began > now && due >= began && due - began <= longest;
        if (inFuture) {
            page.setLastAttempt(i, now);
        }
        markPending(slot, inFuture ? now + (due - began) : now);
        return true;
    }

    private void enterState(int slot, byte state) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        page.state[i] = state;
        typeOf(slot).of(state).add(page, i, 1);
        deadBytes += state == DEAD ? page.length[i] : 0;
    }

    private void leaveState(int slot) {
        Page page = page(slot);
        int i = slot & PAGE_MASK;
        Type type = typeOf(slot);
        type.of(page.state[i]).add(page, i, -1);
        switch (page.state[i]) {
            case WAITING -> type.waiting.remove(slot);
            case READY -> {
                type.ready.remove(slot);
                if (type.newest != null) {
                    type.newest.remove(slot);
                    type.newest = type.newest.size == 0 ? null : type.newest;
                }
            }
            case DEAD -> deadBytes -= page.length[i];
            default -> {
                // in no heap
            }
        }
    }

    // ---- searching -------------------------------------------------------------------------------

    /**
     * Finds the next due batch of a type, the head of its heap, without claiming it; {@code NONE} if none is due. Moves
     * batches that have become due to the heap of the ready ones.
     */
    int nextDue(Type type, BatchOrder order, long now) {
        while (type.waiting.size > 0 && due(type.waiting.head()) <= now) {
            int slot = type.waiting.head();
            type.waiting.remove(slot);
            page(slot).state[slot & PAGE_MASK] = READY;
            type.ready.add(slot);
            if (type.newest != null) {
                type.newest.add(slot);
            }
        }
        if (type.ready.size == 0) {
            return NONE;
        }
        if (order == BatchOrder.OLDEST_FIRST) {
            return type.ready.head();
        }
        if (type.newest == null) {
            type.newest = type.ready.reordered(Heap.NEWEST);
        }
        return type.newest.head();
    }

    boolean isHeld(int slot) {
        return page(slot).state[slot & PAGE_MASK] == HELD;
    }

    boolean hasCandidates(long idHash) {
        boolean[] any = new boolean[1];
        candidates(idHash, slot -> any[0] = true);
        return any[0];
    }

    /** Slots whose id has that hash, most likely. */
    void candidates(long hashOfId, IntConsumer found) {
        int idHash = keyed(hashOfId);
        int mask = table.length - 1;
        for (int i = home(idHash, mask); table[i] != NONE; i = (i + 1) & mask) {
            int slot = table[i];
            if (page(slot).idHash[slot & PAGE_MASK] == idHash) {
                found.accept(slot);
            }
        }
    }

    int pageCount() {
        return pages.length;
    }

    /** Visits the slots in use of one page, so that all can be visited without holding the lock throughout. */
    void forEachInPage(int page, IntConsumer action) {
        byte[] state = pages[page].state;
        for (int i = 0; i < PAGE_SIZE; i++) {
            if (state[i] != FREE) {
                action.accept(page << PAGE_BITS | i);
            }
        }
    }

    int file(int slot) {
        return page(slot).file[slot & PAGE_MASK];
    }

    /** Visits all slots in use, in no order; cheaper than by type. */
    void forEachSlot(IntConsumer action) {
        for (int page = 0; page < pages.length; page++) {
            forEachInPage(page, action);
        }
    }

    void forEach(IntConsumer action) {
        for (Type type : typesByName.values()) {
            forEach(type, action);
        }
    }

    void forEach(Type type, IntConsumer action) {
        type.live.forEach(action);
        type.dead.forEach(action);
    }

    // ---- hash table ------------------------------------------------------------------------------

    /** Makes room for one more. */
    private void growTable() {
        if ((size + 1) * 3L > table.length * 2L) {
            int[] old = table;
            table = filled(old.length * 2);
            for (int other : old) {
                if (other != NONE) {
                    put(other, page(other).idHash[other & PAGE_MASK]);
                }
            }
        }
    }

    private void put(int slot, int idHash) {
        int mask = table.length - 1;
        int i = home(idHash, mask);
        while (table[i] != NONE) {
            i = (i + 1) & mask;
        }
        table[i] = slot;
    }

    private void removeFromTable(int slot, int idHash) {
        int mask = table.length - 1;
        int hole = home(idHash, mask);
        while (table[hole] != slot) {
            hole = (hole + 1) & mask;
        }
        // Knuth, TAOCP 6.4, algorithm R: move back what would no longer be reached across the hole.
        for (int i = (hole + 1) & mask; table[i] != NONE; i = (i + 1) & mask) {
            int other = table[i];
            int home = home(page(other).idHash[other & PAGE_MASK], mask);
            boolean reachable = hole <= i ? hole < home && home <= i : hole < home || home <= i;
            if (!reachable) {
                table[hole] = other;
                hole = i;
            }
        }
        table[hole] = NONE;
    }

    /**
     * Multiply-shift: two different hashes, chosen without knowing the key, collide with a probability of 2 in 2^32.
     */
    private int keyed(long idHash) {
        return (int) ((key * idHash) >>> 32);
    }

    private static int home(int hash, int mask) {
        int mixed = hash * 0x9E3779B9;
        return (mixed ^ mixed >>> 15) & mask;
    }

    private static int[] filled(int length) {
        int[] array = new int[length];
        Arrays.fill(array, NONE);
        return array;
    }

    private Page page(int slot) {
        return pages[slot >> PAGE_BITS];
    }

    // ---- lists and heaps over slots --------------------------------------------------------------

    /** A doubly linked list through the pages. A slot is in one list at a time. */
    final class SlotList {
        int head = NONE;
        private int tail = NONE;
        private boolean sorted = true;
        int size;

        void append(int slot) {
            Page page = page(slot);
            page.previous[slot & PAGE_MASK] = tail;
            page.next[slot & PAGE_MASK] = NONE;
            if (tail == NONE) {
                head = slot;
            } else {
                sorted &= !before(slot, tail);
                page(tail).next[tail & PAGE_MASK] = slot;
            }
            tail = slot;
            size++;
        }

        /**
         * Returns the oldest. Sorts the list first if it is out of order, because a clock was set back or files were
         * read out of order.
         */
        int oldest() {
            if (!sorted) {
                sort();
            }
            return head;
        }

        /**
         * Natural merge sort of the links: needs no other memory, and is fast if there are few runs. Batches of one age
         * are ordered by sequence.
         */
        private void sort() {
            // runs[i], if any, was merged from 2^i runs
            int[] runs = new int[64];
            Arrays.fill(runs, NONE);
            for (int slot = head; slot != NONE; ) {
                int run = slot;
                while (after(slot) != NONE && !before(after(slot), slot)) {
                    slot = after(slot);
                }
                int rest = after(slot);
                link(slot, NONE);
                int i = 0;
                for (; runs[i] != NONE; i++) {
                    run = merge(runs[i], run);
                    runs[i] = NONE;
                }
                runs[i] = run;
                slot = rest;
            }
            int all = NONE;
            for (int run : runs) {
                all = run == NONE ? all : merge(run, all);
            }
            head = all;
            tail = NONE;
            for (int slot = head; slot != NONE; slot = after(slot)) {
                page(slot).previous[slot & PAGE_MASK] = tail;
                tail = slot;
            }
            sorted = true;
        }

        /** Merges two runs, the first of which comes earlier in the list. */
        private int merge(int first, int second) {
            int a = first;
            int b = second;
            int merged = NONE;
            int last = NONE;
            while (a != NONE || b != NONE) {
                int next;
                if (b == NONE || (a != NONE && !before(b, a))) {
                    next = a;
                    a = after(a);
                } else {
                    next = b;
                    b = after(b);
                }
                if (last == NONE) {
                    merged = next;
                } else {
                    link(last, next);
                }
                last = next;
            }
            return merged;
        }

        private boolean before(int a, int b) {
            int byAge = Long.compare(since(a), since(b));
            return byAge != 0 ? byAge < 0 : sequence(a) < sequence(b);
        }

        private void link(int slot, int next) {
            page(slot).next[slot & PAGE_MASK] = next;
        }

        void unlink(int slot) {
            Page page = page(slot);
            int before = page.previous[slot & PAGE_MASK];
            int after = page.next[slot & PAGE_MASK];
            if (before == NONE) {
                head = after;
            } else {
                page(before).next[before & PAGE_MASK] = after;
            }
            if (after == NONE) {
                tail = before;
            } else {
                page(after).previous[after & PAGE_MASK] = before;
            }
            size--;
        }

        int after(int slot) {
            return page(slot).next[slot & PAGE_MASK];
        }

        void forEach(IntConsumer action) {
            for (int slot = head; slot != NONE; ) {
                // Read first: the action may unlink the slot.
                int next = after(slot);
                action.accept(slot);
                slot = next;
            }
        }
    }

    /** A binary heap that knows the position of each slot, so that any slot can be removed. */
    private final class Heap {
        static final int BY_DUE = 0;
        static final int OLDEST = 1;
        static final int NEWEST = 2;

        final int kind;
        private int[] slots = new int[4];
        int size;

        Heap(int kind) {
            this.kind = kind;
        }

        int head() {
            return slots[0];
        }

        void add(int slot) {
            if (size == slots.length) {
                slots = Arrays.copyOf(slots, size * 2);
            }
            size++;
            up(size - 1, slot);
        }

        void remove(int slot) {
            int hole = page(slot).positions(kind)[slot & PAGE_MASK];
            int last = slots[--size];
            if (hole < size) {
                if (hole > 0 && before(last, slots[(hole - 1) / 2])) {
                    up(hole, last);
                } else {
                    down(hole, last);
                }
            }
            if (slots.length > 1024 && size < slots.length / 4) {
                // Release the memory of a past backlog.
                slots = Arrays.copyOf(slots, slots.length / 2);
            }
        }

        Heap reordered(int otherKind) {
            Heap other = new Heap(otherKind);
            for (int i = 0; i < size; i++) {
                other.add(slots[i]);
            }
            return other;
        }

        private void up(int start, int slot) {
            int position = start;
            while (position > 0) {
                int parent = (position - 1) / 2;
                if (!before(slot, slots[parent])) {
                    break;
                }
                place(position, slots[parent]);
                position = parent;
            }
            place(position, slot);
        }

        private void down(int start, int slot) {
            int position = start;
            while (2 * position + 1 < size) {
                int child = 2 * position + 1;
                if (child + 1 < size && before(slots[child + 1], slots[child])) {
                    child++;
                }
                if (!before(slots[child], slot)) {
                    break;
                }
                place(position, slots[child]);
                position = child;
            }
            place(position, slot);
        }

        private void place(int position, int slot) {
            slots[position] = slot;
            page(slot).positions(kind)[slot & PAGE_MASK] = position;
        }

        private boolean before(int a, int b) {
            if (kind == BY_DUE) {
                int byDue = Long.compare(due(a), due(b));
                return byDue != 0 ? byDue < 0 : sequence(a) < sequence(b);
            }
            return kind == OLDEST ? sequence(a) < sequence(b) : sequence(a) > sequence(b);
        }
    }
}
