package io.batchpersistence.engine;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.engine.LaneStatus.State;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
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
 * <p>A collector that asks to come back later although the lane is closed makes it ramp from half of what it has been given
 * lately. First sends, by the application's own threads, wait for nothing: what the lane can't let through now is left to
 * recovery. They need no slot, for their number is the application's, but a token where there is a rate.
 *
 * <p>While the lane is open failures don't count towards the batches' retries. A batch that failed as a probe is pushed
 * behind the next probe, further each time, so that a batch that can't be sent does not keep the lane open for those that
 * can; probes also take turns between the two ends of the queue. When no other batch is due, or when the lane has closed,
 * the pushed ones are due again at once (see {@link #takeProbed}).
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

    final String collectorType;

    /** Set while a worker for this lane alone is waiting to run, so that no second one is queued. */
    final AtomicBoolean workerQueued = new AtomicBoolean();

    private final RandomGenerator random;
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
    private @Nullable String lastFailure;
    private boolean unhandled;

    private @Nullable Wait pause;

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
    private final Map<String, Integer> probed = new HashMap<>();

    private double rampRate;
    private Instant rampAt = Instant.EPOCH;

    Lane(String collectorType, CollectorSettings settings, RandomGenerator random, Instant now) {
        this.collectorType = collectorType;
        this.settings = settings;
        this.random = random;
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
        private final boolean otherEnd;
        private boolean released;

        private Permit(Kind kind, boolean otherEnd) {
            this.kind = kind;
            this.otherEnd = otherEnd;
        }

        boolean isProbe() {
            return kind == Kind.PROBE;
        }

        boolean isFirstSend() {
            return kind == Kind.FIRST_SEND;
        }

        /** Whether to take the batch from the end of the queue that is not the usual one. */
        boolean otherEnd() {
            return otherEnd;
        }
    }

    /**
     * What a failure means for the batch.
     *
     * @param counts whether it counts towards its retries
     * @param pushedTo when it is due if it was a probe; {@code null} if it was none
     * @param opened whether the lane opened by it
     */
    record Consequence(boolean counts, @Nullable Instant pushedTo, boolean opened) {}

    /**
     * An outage that is over.
     *
     * @param since when it began
     * @param probes how many probes were sent
     */
    record Ended(Instant since, int probes) {}

    CollectorSettings settings() {
        return settings;
    }

    void settings(CollectorSettings settings) {
        this.settings = settings;
    }

    /** A slot and a token, or a probe; {@code null} if there is none now. */
    @Nullable
    Permit tryAcquire(Instant now) {
        lock.lock();
        try {
            if (retired
                    || slots >= settings.concurrency()
                    || executing >= settings.concurrency() + MAX_ABANDONED
                    || (pause != null && pause.isOn(now))) {
                return null;
            }
            ramp(now);
            pause = null;
            Permit permit;
            if (state == State.OPEN) {
                if (probe != null || nextProbe.isOn(now)) {
                    return null;
                }
                permit = new Permit(Permit.Kind.PROBE, probesStarted % 2 == 1);
                probe = permit;
                probesStarted++;
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
            if (retired || state == State.OPEN || (pause != null && pause.isOn(now)) || !takeToken(now)) {
                return null;
            }
            firstSends++;
            return new Permit(Permit.Kind.FIRST_SEND, false);
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
            return new Permit(Permit.Kind.USUAL, false);
        }
        freshCredit -= 1;
        return new Permit(Permit.Kind.FRESH, true);
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
                    probe = null;
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
        if (calm) {
            return null;
        }
        lock.lock();
        try {
            failuresInARow = 0;
            lastFailure = null;
            Ended outage = null;
            if (state == State.OPEN) {
                state = State.RAMPING;
                probe = null;
                rampRate = 1;
                rampAt = now;
                tokens = 0; // the probe was this second's one
                tokensAt = now;
                outage = new Ended(outageSince, probesStarted);
            }
            calm = state == State.CLOSED;
            return outage;
        } finally {
            lock.unlock();
        }
    }

    /** A batch could not be sent. */
    Consequence failed(@Nullable Permit permit, String batchId, Failure failure, Instant now) {
        lock.lock();
        try {
            calm = false;
            failuresInARow++;
            lastFailure = failure.reason();
            if (failure.kind() == FailureClassifier.Kind.RETRY_AFTER) {
                pause = new Wait(now, honoured(failure.delay()));
            }
            if (state == State.OPEN) {
                return new Consequence(
                        false, permit != null && permit == probe ? probeFailed(batchId, now) : null, false);
            }
            if (state == State.RAMPING) {
                slowDown(rampRate / 2, now);
            } else if (failure.kind() == FailureClassifier.Kind.RETRY_AFTER) {
                state = State.RAMPING;
                slowDown(Math.max(inSecond, lastSecond) / 2, now);
                tokensAt = now;
            }
            boolean opens = settings.outageThreshold() > 0 && failuresInARow >= settings.outageThreshold();
            if (opens) {
                state = State.OPEN;
                outageSince = now;
                failedProbes = 0;
                probesStarted = 0;
                nextProbe = new Wait(now, settings.retry().delayAfter(1, random));
            }
            return new Consequence(true, null, opens);
        } finally {
            lock.unlock();
        }
    }

    private void slowDown(double rate, Instant now) {
        rampRate = Math.max(1, rate);
        rampAt = now;
        tokens = Math.min(tokens, capacity(rampRate));
    }

    /** A collector's wish; cut where the batch would not live to see the end of it, so that no reply can stop a lane for good. */
    Duration honoured(Duration wish) {
        Duration longest = settings.batchTtl();
        return wish.compareTo(longest) <= 0 ? wish : longest;
    }

    private Instant probeFailed(String batchId, Instant now) {
        failedProbes++;
        probe = null;
        Duration delay = settings.retry().delayAfter(failedProbes + 1, random);
        nextProbe = new Wait(now, delay);
        int times = 1;
        if (probed.size() < MAX_PROBED || probed.containsKey(batchId)) {
            times = probed.merge(batchId, 1, Integer::sum);
        }
        return Times.after(nextProbe.until, delay.multipliedBy(Math.min(times, MAX_PUSH)));
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

    /** Ids of the batches pushed back by failed probes; they are forgotten. */
    Set<String> takeProbed() {
        lock.lock();
        try {
            Set<String> ids = Set.copyOf(probed.keySet());
            probed.clear();
            return ids;
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
            return state == State.CLOSED ? takeProbed() : Set.of();
        } finally {
            lock.unlock();
        }
    }

    /** An operator's wish: waits end. */
    void hurry(Instant now) {
        lock.lock();
        try {
            pause = null;
            nextProbe = new Wait(now, Duration.ZERO);
        } finally {
            lock.unlock();
        }
    }

    boolean isWaiting(Instant now) {
        lock.lock();
        try {
            return state == State.OPEN || (pause != null && pause.isOn(now));
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
                    && (pause == null || !pause.isOn(now))
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
            Instant next = pause != null && pause.until.isAfter(nextProbe.until) ? pause.until : nextProbe.until;
            return new LaneStatus(
                    state,
                    failuresInARow,
                    open ? outageSince : null,
                    open ? next : null,
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
        boolean waits = pause != null && pause.isOn(now);
        if (pause != null && pause.until.isAfter(rampAt)) {
            rampAt = pause.until; // what was not allowed to be used was not made use of
        }
        Duration elapsed = Duration.between(rampAt, now);
        if (elapsed.isNegative() || waits) {
            rampAt = now;
        } else if (elapsed.compareTo(RAMP_STEP) >= 0) {
            rampRate *= 2;
            rampAt = elapsed.compareTo(RAMP_STEP.multipliedBy(2)) < 0 ? rampAt.plus(RAMP_STEP) : now;
            if (rampRate >= (settings.maxRate() > 0 ? settings.maxRate() : RAMP_END)) {
                state = State.CLOSED;
                calm = failuresInARow == 0;
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
