package io.batchpersistence.engine;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.SharedOutages;
import io.batchpersistence.SharedOutages.Outage;
import io.batchpersistence.engine.LaneStatus.State;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/**
 * Who may go, and how fast, for one collector type. Knows no batches and no store; is told the time. Thread-safe.
 *
 * <pre>
 *             outageThreshold transient failures in a row
 *   CLOSED ──────────────────────────────────────────────► OPEN: one probe at a time, with backoff
 *      ▲                                                   │   ▲
 *      │ the ramp has reached the limit                    │   │ outageThreshold failures in a row
 *      │                                  any success ──►  ▼   │
 *      └────────────────────────────────────────────────  RAMPING: 1, 2, 4, … a second, halved by each failure
 * </pre>
 *
 * <p>A collector that asks to come back later says so of one batch, and only that batch waits: it may limit a tenant or a
 * stream, and others must not pay for it. Only when it says so of {@code outageThreshold} different batches in a row does the
 * lane open, and then no probe goes out before the collector wants it; the second in a row halves what it has been given lately. A
 * batch that has failed before says nothing new about the collector, so batches that are limited again and again keep nobody
 * waiting. A wish counts as a retry of its batch unless the collector has taken nothing since the batch's last one: then it may
 * be limiting everything.
 *
 * <p>First sends, by the application's own threads, wait for nothing: what the lane can't let through now is left to
 * recovery. They need no slot, for their number is the application's, but a token where there is a rate.
 *
 * <p>A failure counts towards the retries of its batch only if the collector has taken something since the batch failed last: else it
 * may be the collector that is to blame, and a batch that is alone would pay for an outage.
 *
 * <p>While the lane is open failures don't count towards the batches' retries. A batch that failed as a probe is pushed
 * behind the next probe, further each time, so that a batch that can't be sent does not keep the lane open for those that
 * can; probes also take turns between the two ends of the queue. When no other batch is due, or when the lane has closed,
 * the pushed ones are due again at once (see {@link #takeProbed}).
 *
 * <p>Where several instances share a store, a lane also opens when another one has found the collector down, and begins to ramp
 * when another one has found it back ({@link #learn}, {@link #learnEnd}); and it owes the others what it finds out itself
 * ({@link #untold}). It goes by what it sees itself if that is newer: while the collector answers here, the lane stays closed; and
 * if it fails on here although others have found it back again and again, the lane opens for itself alone.
 *
 * <p>No step depends on the clock being right: time that runs backwards counts as none, a jump forward as one step of the
 * ramp and one second's worth of rate, and no wait ever gets longer than it was when it began.
 */
final class Lane {

    /** From here on a ramp no longer limits anything a sender can do, and ends. */
    private static final double RAMP_END = 1_024;

    private static final Duration RAMP_STEP = Duration.ofSeconds(1);

    /** Pushed at most that many probe intervals: bounds the wait after a restart, which forgets what was a probe. */
    private static final int MAX_PUSH = 12;

    /** Ids remembered of an outage's probes; at one probe in five minutes more than a month. */
    private static final int MAX_PROBED = 10_000;

    /**
     * Senders that ignore both time and interrupt may keep that many threads of a lane beyond its concurrency. Enough to go on
     * working when now and then one hangs for good, few enough not to harm the host.
     */
    private static final int MAX_ABANDONED = 32;

    /** After that many outages that were found here, and ended by others, it is this instance that can't reach the collector. */
    private static final int ALONE_AFTER = 3;

    final String collectorType;

    /** Set while a worker for this lane alone is waiting to run, so that no second one is queued. */
    final AtomicBoolean workerQueued = new AtomicBoolean();

    /** Held while the others are told, so that they are told in the order in which it happened. */
    final ReentrantLock telling = new ReentrantLock();

    private final RandomGenerator random;
    /** Counts what changes that the others are to know; {@code null}: there are no others. */
    private final @Nullable AtomicLong changes;

    private final ReentrantLock lock = new ReentrantLock();
    private volatile CollectorSettings settings;

    private State state = State.CLOSED;
    private volatile boolean calm = true; // CLOSED and no failures: what a success need not lock to find out
    private boolean retired;
    private int slots;
    private int executing;
    private int firstSends;
    private double freshCredit;
    private int failuresInARow;
    /** Batches of which the collector has asked to come back later since it took one, and how often. */
    private final Map<String, Integer> wishes = new HashMap<>();
    /** Those of them that had not failed before. */
    private int wishesInARow;
    /** Batches that have failed otherwise since the collector took one; no more than make the lane open. */
    private final Set<String> failedInARow = new HashSet<>();
    /** Whether one of them was cut, and that has been said. */
    private boolean cutTold;

    private @Nullable String lastFailure;
    private boolean unhandled;

    private double tokens;
    private Instant tokensAt;

    private Instant secondBegan;
    private int inSecond;
    private double lastSecond;

    private Instant outageSince = Instant.EPOCH;
    private Wait nextProbe;
    private @Nullable Permit probe;
    private int failedProbes;
    private int probesStarted;
    private final Map<String, Pushed> probed = new HashMap<>();

    private double rampRate;
    private Instant rampAt = Instant.EPOCH;

    // ---- for those who share the store
    private @Nullable Owed owed;
    private int owedProbe;
    private long changedAt;
    private volatile Instant lastAnswer = Instant.EPOCH;
    /** The last probe of the outage that this instance has sent, unless an operator is in a hurry. */
    private int ownProbe;
    /** Whether the next probe is due by what is known here, for the others could not be asked. */
    private boolean ownPace;
    /** Whether it was opened by failures here. */
    private boolean foundHere;
    /** How often others have ended such an outage since this lane's last success. */
    private int endedByOthers;
    /** Whether the lane is open and that is nobody else's business. */
    private boolean alone;

    /**
     * A closed lane.
     *
     * @param changes counts for all lanes what changes that other instances are to know; {@code null} if there are none
     */
    Lane(
            String collectorType,
            CollectorSettings settings,
            RandomGenerator random,
            Instant now,
            @Nullable AtomicLong changes) {
        this.collectorType = collectorType;
        this.settings = settings;
        this.random = random;
        this.changes = changes;
        this.tokens = capacity(settings.maxRate());
        this.tokensAt = now;
        this.secondBegan = now;
        this.nextProbe = new Wait(now, Duration.ZERO);
    }

    /**
     * The right to hand over one batch. Holds one of the lane's slots until released, and counts a thread until that is freed:
     * a batch that timed out has no slot any more, but its sender may still run.
     */
    static final class Permit {
        private enum Kind {
            USUAL,
            FRESH,
            PROBE,
            FIRST_SEND
        }

        private final Kind kind;
        /** Of the probe, in its outage; 0 if it is none. */
        private int number;
        /** Whether the others wait for what becomes of it. */
        private boolean granted;

        private boolean released;

        private Permit(Kind kind, int number) {
            this.kind = kind;
            this.number = number;
        }

        boolean isProbe() {
            return kind == Kind.PROBE;
        }

        boolean isFirstSend() {
            return kind == Kind.FIRST_SEND;
        }

        /** Whether to take the batch from the end of the queue that is not the usual one. */
        boolean otherEnd() {
            return kind == Kind.FRESH || (kind == Kind.PROBE && number % 2 == 0);
        }
    }

    /**
     * What a failure means for the batch.
     *
     * @param counts whether it counts towards its retries
     * @param inARow how many wishes of its collector it has had in a row that did not count, for its own backoff to grow
     * @param pushedTo when it is due if it was a probe; {@code null} if it was none
     * @param opened whether the lane opened by it
     */
    record Consequence(boolean counts, int inARow, @Nullable Instant pushedTo, boolean opened) {}

    /**
     * A batch pushed back by failed probes.
     *
     * @param times how often
     * @param wish until when its collector does not want it
     */
    private record Pushed(int times, Wait wish) {}

    /**
     * An outage that is over.
     *
     * @param since when it began
     * @param probes how many probes were sent
     */
    record Ended(Instant since, int probes) {}

    /** What the others are to be told. */
    enum Owed {
        BEGAN,
        NEXT_PROBE,
        ENDED
    }

    /**
     * What the others have not been told yet.
     *
     * @param what which of the calls of {@link SharedOutages} it takes
     * @param probe the number of the probe after which the next one is due
     * @param nextProbe when it is due
     * @param lastFailure the last failure's reason
     * @param at identifies it
     */
    record Untold(Owed what, int probe, Instant nextProbe, String lastFailure, long at) {}

    CollectorSettings settings() {
        return settings;
    }

    void settings(CollectorSettings settings) {
        this.settings = settings;
    }

    /**
     * A slot and a token, or a probe; {@code null} if there is none now.
     *
     * @param onlyThread whether it is for the lane's only thread: not if it has one
     */
    @Nullable
    Permit tryAcquire(Instant now, boolean onlyThread) {
        lock.lock();
        try {
            if (retired
                    || (onlyThread && executing > 0)
                    || slots >= settings.concurrency()
                    || executing >= settings.concurrency() + MAX_ABANDONED) {
                return null;
            }
            ramp(now);
            Permit permit;
            if (state == State.OPEN) {
                if (probe != null || nextProbe.isOn(now)) {
                    return null;
                }
                permit = new Permit(Permit.Kind.PROBE, ++probesStarted);
                probe = permit;
            } else if (takeToken(now)) {
                permit = usual();
            } else {
                return null;
            }
            slots++;
            executing++;
            return permit;
        } finally {
            lock.unlock();
        }
    }

    /** For the batch that somebody has just persisted and would send at once; {@code null} if it has to wait. */
    @Nullable
    Permit tryAcquireFirstSend(Instant now) {
        lock.lock();
        try {
            ramp(now);
            if (retired || state == State.OPEN || !takeToken(now)) {
                return null;
            }
            firstSends++;
            return new Permit(Permit.Kind.FIRST_SEND, 0);
        } finally {
            lock.unlock();
        }
    }

    private boolean takeToken(Instant now) {
        double rate = rate();
        if (rate > 0) {
            refill(now, rate);
            if (tokens < 1 - 1e-9) { // tenths don't add up to exactly one
                return false;
            }
            tokens -= 1;
        }
        count(now);
        return true;
    }

    private Permit usual() {
        freshCredit += settings.freshShare();
        if (freshCredit < 1 - 1e-9) {
            return new Permit(Permit.Kind.USUAL, 0);
        }
        freshCredit -= 1;
        return new Permit(Permit.Kind.FRESH, 0);
    }

    /** How many are let through a second, for a throttling collector's sake. */
    private void count(Instant now) {
        Duration elapsed = Duration.between(secondBegan, now);
        if (elapsed.isNegative() || elapsed.compareTo(RAMP_STEP) >= 0) {
            lastSecond = elapsed.compareTo(RAMP_STEP.multipliedBy(2)) < 0 ? inSecond : 0;
            secondBegan = now;
            inSecond = 0;
        }
        inSecond++;
    }

    /** Nothing was due: as if the permit had never been given. */
    void giveBack(Permit permit) {
        lock.lock();
        try {
            if (!permit.released) {
                if (permit.isProbe()) {
                    probesStarted--;
                } else {
                    tokens += 1;
                    inSecond--;
                    freshCredit += permit.kind == Permit.Kind.FRESH ? 1 : 0;
                    freshCredit -= settings.freshShare();
                }
            }
            release(permit);
            executing--;
        } finally {
            lock.unlock();
        }
    }

    /** Frees the slot; further calls do nothing. */
    void release(Permit permit) {
        lock.lock();
        try {
            if (!permit.released) {
                permit.released = true;
                slots -= permit.isFirstSend() ? 0 : 1;
                if (probe == permit) {
                    probe = null; // neither answered nor failed: the next one is due when this one was
                    if (permit.granted) {
                        owe(Owed.NEXT_PROBE, permit.number);
                    }
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** The thread that got the permit is done with the batch, settled or not. */
    void threadFreed(Permit permit) {
        lock.lock();
        try {
            if (permit.isFirstSend()) {
                firstSends--;
            } else {
                executing--;
            }
        } finally {
            lock.unlock();
        }
    }

    /** Whether it holds a thread of recovery's. */
    boolean holdsThread() {
        lock.lock();
        try {
            return executing > 0;
        } finally {
            lock.unlock();
        }
    }

    boolean hasFreeSlot() {
        lock.lock();
        try {
            return state != State.OPEN && slots < settings.concurrency();
        } finally {
            lock.unlock();
        }
    }

    /**
     * The collector took a batch, or answered for good that it will not.
     *
     * @return the outage, if this ended one; else {@code null}
     */
    @Nullable
    Ended answered(Instant now) {
        if (changes != null) {
            lastAnswer = now;
        }
        if (calm) {
            return null;
        }
        lock.lock();
        try {
            endRow();
            endedByOthers = 0;
            Ended outage = null;
            if (state == State.OPEN) {
                owe(Owed.ENDED, 0);
                outage = back(now);
            }
            calm = state == State.CLOSED;
            return outage;
        } finally {
            lock.unlock();
        }
    }

    private Ended back(Instant now) {
        state = State.RAMPING;
        endRow();
        probe = null;
        alone = false;
        rampRate = 1;
        rampAt = now;
        tokens = 0; // the probe was this second's one
        tokensAt = now;
        return new Ended(outageSince, probesStarted);
    }

    /** A batch could not be sent, which is its own fault: that says nothing about the collector, and costs it a retry. */
    Consequence failedByItself(String batchId) {
        forgetProbed(batchId);
        return new Consequence(true, 0, null, false);
    }

    private void endRow() {
        failuresInARow = 0;
        failedInARow.clear();
        wishes.clear();
        wishesInARow = 0;
        cutTold = false;
        lastFailure = null;
    }

    /**
     * A batch could not be sent.
     *
     * @param retryCount its failures so far
     */
    Consequence failed(@Nullable Permit permit, String batchId, int retryCount, Failure failure, Instant now) {
        lock.lock();
        try {
            calm = false;
            lastFailure = failure.reason();
            boolean wish = failure.kind() == FailureClassifier.Kind.RETRY_AFTER;
            int before = wish ? wished(batchId, retryCount) : 0;
            if (!wish) {
                failuresInARow++;
            }
            boolean told = wish && before == 0 && retryCount == 0;
            Duration delay = honoured(failure.delay());
            if (state == State.OPEN) {
                Instant pushedTo =
                        permit != null && permit == probe ? probeFailed(permit, batchId, wish, delay, now) : null;
                return new Consequence(false, before, pushedTo, false);
            }
            probed.remove(batchId); // from now on it waits for its own backoff
            if (state == State.RAMPING && !wish) {
                slowDown(rampRate / 2, now);
            } else if (told && failuresInARow > 1) {
                slowDown((state == State.RAMPING ? rampRate : Math.max(inSecond, lastSecond)) / 2, now);
                if (state == State.CLOSED) {
                    state = State.RAMPING;
                    tokensAt = now;
                }
            }
            boolean opens = settings.outageThreshold() > 0 && failuresInARow >= settings.outageThreshold();
            if (opens) {
                opened();
                outageSince = now;
                nextProbe = new Wait(now, untilProbe(settings.retry().delayAfter(1, random), wish, delay));
                foundHere = true;
                alone = endedByOthers >= ALONE_AFTER;
                owe(Owed.BEGAN, 0);
            }
            boolean counts = wish ? before == 0 : failedAnew(batchId);
            return new Consequence(counts, before, null, opens);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Whether the collector has taken something since the batch failed last. If not, the collector may be the one to blame: a batch that
     * is alone pays for its first failure in a row and for no other.
     */
    private boolean failedAnew(String batchId) {
        return settings.outageThreshold() == 0 || failedInARow.add(batchId);
    }

    /** How often it has been before since the collector took a batch. */
    private int wished(String batchId, int retryCount) {
        Integer known = wishes.get(batchId);
        int before = known == null ? 0 : known;
        if (before > 0 || wishes.size() < MAX_PROBED) {
            wishes.put(batchId, before + 1);
        }
        if (before == 0 && retryCount == 0) {
            failuresInARow++;
            wishesInARow++;
        }
        return before;
    }

    /** What the collector wishes for one batch holds for the lane only when it wishes so for many. */
    private Duration untilProbe(Duration backoff, boolean wish, Duration delay) {
        boolean forAll = wish && wishesInARow >= settings.outageThreshold();
        return forAll && delay.compareTo(backoff) > 0 ? delay : backoff;
    }

    private void opened() {
        state = State.OPEN;
        failedProbes = 0;
        probesStarted = 0;
        ownProbe = 0;
        ownPace = false;
    }

    private void slowDown(double rate, Instant now) {
        rampRate = Math.max(1, rate);
        rampAt = now;
        tokens = Math.min(tokens, capacity(rampRate));
    }

    /** A collector's wish; cut so that no reply can stop a lane for good. */
    Duration honoured(Duration wish) {
        Duration longest = settings.maxRetryAfter();
        return wish.compareTo(longest) <= 0 ? wish : longest;
    }

    /**
     * Whether a collector's wish is longer than what is {@link #honoured}, and that is to be said: once until the collector takes a
     * batch.
     */
    boolean tellsCut(Duration wish) {
        lock.lock();
        try {
            boolean tells = !cutTold && wish.compareTo(honoured(wish)) > 0;
            cutTold |= tells;
            return tells;
        } finally {
            lock.unlock();
        }
    }

    private Instant probeFailed(Permit permit, String batchId, boolean wish, Duration wished, Instant now) {
        failedProbes++;
        probe = null;
        Duration delay = settings.retry().delayAfter(failedProbes + 1, random);
        nextProbe = new Wait(now, untilProbe(delay, wish, wished));
        ownPace = !permit.granted;
        if (permit.granted) {
            owe(Owed.NEXT_PROBE, permit.number);
        }
        Pushed earlier = probed.get(batchId);
        int times = earlier == null ? 1 : earlier.times() + 1;
        Wait own = new Wait(now, wished);
        if (earlier != null || probed.size() < MAX_PROBED) {
            probed.put(batchId, new Pushed(times, own));
        }
        Instant pushedTo = Times.after(nextProbe.until, delay.multipliedBy(Math.min(times, MAX_PUSH)));
        return own.until.isAfter(pushedTo) ? own.until : pushedTo;
    }

    /** The batch waits for something else than its turn: {@link #takeProbed} must not bring it back. */
    void forgetProbed(String batchId) {
        lock.lock();
        try {
            probed.remove(batchId);
        } finally {
            lock.unlock();
        }
    }

    /** Ids of the batches pushed back by failed probes that their collector does not want later; they are forgotten. */
    Set<String> takeProbed(Instant now) {
        lock.lock();
        try {
            Set<String> ids = new HashSet<>();
            probed.forEach((id, pushed) -> {
                if (!pushed.wish().isOn(now)) {
                    ids.add(id);
                }
            });
            probed.keySet().removeAll(ids);
            return ids;
        } finally {
            lock.unlock();
        }
    }

    /** Those could not be made due: the next call of {@link #takeProbed} has them again. */
    void giveBackProbed(Set<String> ids, Instant now) {
        lock.lock();
        try {
            Wait over = new Wait(now, Duration.ZERO);
            ids.forEach(id -> probed.putIfAbsent(id, new Pushed(1, over)));
        } finally {
            lock.unlock();
        }
    }

    /**
     * Lets time pass.
     *
     * @return ids of batches that need no longer wait, see {@link #takeProbed}
     */
    Set<String> tick(Instant now) {
        lock.lock();
        try {
            ramp(now);
            return state == State.CLOSED ? takeProbed(now) : Set.of();
        } finally {
            lock.unlock();
        }
    }

    /** An operator's wish: waits end. */
    void hurry(Instant now) {
        lock.lock();
        try {
            nextProbe = new Wait(now, Duration.ZERO);
            ownProbe = 0;
            if (state == State.OPEN) {
                owe(Owed.NEXT_PROBE, SharedOutages.ANY_PROBE);
            }
        } finally {
            lock.unlock();
        }
    }

    // ---- several instances -----------------------------------------------------------------------

    private void owe(Owed what, int probe) {
        if (changes != null && !alone) {
            if (what != Owed.NEXT_PROBE || owed != Owed.BEGAN) { // that brings its next probe with it
                owed = what;
            }
            owedProbe = probe;
            changedAt = changes.incrementAndGet();
        }
    }

    /** What the others are still to be told; {@code null} if there is nothing. For one thread at a time, see {@link #telling}. */
    @Nullable
    Untold untold() {
        lock.lock();
        try {
            return owed == null
                    ? null
                    : new Untold(owed, owedProbe, nextProbe.until, lastFailure == null ? "" : lastFailure, changedAt);
        } finally {
            lock.unlock();
        }
    }

    /** They have been told that. */
    void told(Untold what) {
        lock.lock();
        try {
            if (changedAt == what.at() && changes != null) {
                owed = null;
                changedAt = changes.incrementAndGet(); // who has looked before this may not have seen it
            }
        } finally {
            lock.unlock();
        }
    }

    /** Whether others are not asked before a probe, for the collector answers them. */
    boolean isAlone() {
        lock.lock();
        try {
            return alone;
        } finally {
            lock.unlock();
        }
    }

    /** The probe is this instance's to send, and has that number. */
    void granted(Permit permit, int number) {
        lock.lock();
        try {
            permit.number = number;
            permit.granted = true;
            ownProbe = number;
            probesStarted = number;
            failedProbes = number - 1;
        } finally {
            lock.unlock();
        }
    }

    /** The others know better when the next probe is due: what they know is learned in the next round. */
    void denied(Instant now) {
        lock.lock();
        try {
            nextProbe = new Wait(now, RAMP_STEP);
        } finally {
            lock.unlock();
        }
    }

    /**
     * The others know that the collector is down.
     *
     * @param outage what they know of it
     * @param looked what {@link #changes} was before they were asked: what has changed here since is newer
     * @param now the time
     * @return whether the lane opened by that
     */
    boolean learn(Outage outage, long looked, Instant now) {
        lock.lock();
        try {
            if (changes == null || alone || owed != null || changedAt > looked) {
                return false;
            }
            boolean opens = state != State.OPEN;
            if (opens) {
                Instant since = Times.before(now, outage.age());
                boolean answersHere = failuresInARow == 0 && lastAnswer.isAfter(since);
                if (answersHere || settings.outageThreshold() == 0) {
                    return false;
                }
                opened();
                foundHere = false;
                calm = false;
                outageSince = since;
                lastFailure = outage.lastFailure();
                changedAt = changes.incrementAndGet();
            }
            if (probe == null) {
                probesStarted = Math.max(probesStarted, outage.probes());
                failedProbes = Math.max(failedProbes, outage.probes());
                if (!ownPace || !nextProbe.isOn(now)) {
                    // Whoever was the last to fail lets others go first: it may be himself who is the problem.
                    boolean last = ownProbe > 0 && ownProbe == outage.probes();
                    nextProbe = new Wait(now, last ? outage.untilProbe().plus(RAMP_STEP) : outage.untilProbe());
                }
            }
            return opens;
        } finally {
            lock.unlock();
        }
    }

    /**
     * The others don't take the collector to be down.
     *
     * @param looked see {@link #learn}
     * @param now the time
     * @return the outage, if this ended one; else {@code null}
     */
    @Nullable
    Ended learnEnd(long looked, Instant now) {
        lock.lock();
        try {
            if (changes == null || state != State.OPEN || alone || owed != null || changedAt > looked) {
                return null;
            }
            endedByOthers += foundHere ? 1 : 0;
            changedAt = changes.incrementAndGet();
            return back(now);
        } finally {
            lock.unlock();
        }
    }

    /** This instance sends nothing any more: a probe that is out is for others to repeat. */
    void leave(Instant now) {
        lock.lock();
        try {
            if (probe != null && probe.granted) {
                nextProbe = new Wait(now, Duration.ZERO);
                owe(Owed.NEXT_PROBE, probe.number);
                probe = null;
            }
        } finally {
            lock.unlock();
        }
    }

    boolean isWaiting() {
        lock.lock();
        try {
            return state == State.OPEN;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Whether recovery has batches but nobody to hand them to.
     *
     * @return whether that is new
     */
    boolean unhandled(boolean now) {
        lock.lock();
        try {
            boolean news = now && !unhandled;
            unhandled = now;
            return news;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Gives the lane up if it knows nothing that a new one would not, given that the type holds no batches. A lane that is
     * open has then nothing to probe with, and is given up as well when nobody has reported a failure for long.
     *
     * @param forgotten told of the outage that is given up with it
     */
    boolean retire(Instant now, Consumer<Ended> forgotten) {
        lock.lock();
        try {
            ramp(now);
            double rate = rate();
            if (rate > 0) {
                refill(now, rate);
            }
            boolean idle = slots == 0
                    && executing == 0
                    && firstSends == 0
                    && !workerQueued.get() // a new lane would queue one more, and so on while the executor is stuck
                    && owed == null
                    && (rate <= 0 || tokens >= capacity(rate));
            boolean calmEnough = state == State.CLOSED
                    || (state == State.OPEN
                            && !now.isBefore(Times.after(
                                    nextProbe.until, settings.retry().max())));
            if (!retired && idle && calmEnough) {
                retired = true;
                if (state == State.OPEN) {
                    forgotten.accept(new Ended(outageSince, probesStarted));
                }
            }
            return retired;
        } finally {
            lock.unlock();
        }
    }

    LaneStatus status() {
        lock.lock();
        try {
            boolean open = state == State.OPEN;
            return new LaneStatus(
                    state,
                    failuresInARow,
                    open ? outageSince : null,
                    open ? nextProbe.until : null,
                    open ? probesStarted : 0,
                    rate(),
                    unhandled,
                    false,
                    lastFailure);
        } finally {
            lock.unlock();
        }
    }

    private double rate() {
        double max = settings.maxRate();
        if (state != State.RAMPING) {
            return max;
        }
        return max > 0 ? Math.min(max, rampRate) : rampRate;
    }

    private void refill(Instant now, double rate) {
        double seconds = Math.max(0, Duration.between(tokensAt, now).toMillis() / 1_000.0);
        tokens = Math.min(capacity(rate), tokens + seconds * rate);
        tokensAt = now;
    }

    private static double capacity(double rate) {
        return Math.max(1, rate);
    }

    /** Doubles at most once a look: the rate should not grow further than somebody has made use of it. */
    private void ramp(Instant now) {
        if (state != State.RAMPING) {
            return;
        }
        Duration elapsed = Duration.between(rampAt, now);
        if (elapsed.isNegative()) {
            rampAt = now;
        } else if (elapsed.compareTo(RAMP_STEP) >= 0) {
            rampRate *= 2;
            rampAt = elapsed.compareTo(RAMP_STEP.multipliedBy(2)) < 0 ? rampAt.plus(RAMP_STEP) : now;
            if (rampRate >= (settings.maxRate() > 0 ? settings.maxRate() : RAMP_END)) {
                state = State.CLOSED;
                calm = failuresInARow == 0 && wishes.isEmpty();
            }
        }
    }

    /** A wait that a clock set back does not prolong. */
    private static final class Wait {
        private final Duration length;
        private Instant until;

        Wait(Instant now, Duration length) {
            this.length = length;
            this.until = Times.after(now, length);
        }

        boolean isOn(Instant now) {
            Instant longest = Times.after(now, length);
            if (until.isAfter(longest)) {
                until = longest;
            }
            return now.isBefore(until);
        }
    }
}
