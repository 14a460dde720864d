package io.batchpersistence.engine;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LaneStatus.State;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.spi.SharedOutages.Outage;
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
 * Decides whether, and how fast, batches of one collector type may be handed over: a circuit breaker (closed, open,
 * with probes while it is open), a ramp and a token bucket. Knows neither batches nor a store; the current time is
 * passed in. Thread-safe.
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
 * <p>A collector that asks to come back later (retry-after) says so about one batch, and only that batch waits: the
 * collector may limit a tenant or a stream, and others must not be delayed by it. The lane opens only when the
 * collector asks this for {@code outageThreshold} different batches in a row, and then no probe is sent before the time
 * the collector asked for; the second in a row halves the recent rate. A batch that has failed before says nothing new
 * about the collector, so batches that are limited again and again don't delay others. A retry-after counts as a retry
 * of its batch unless the collector has accepted nothing since the batch's last one: then it may be limiting
 * everything.
 *
 * <p>First sends, on the application's own threads, never wait: what the lane can't let through now is left to
 * recovery. They need no slot, because the application controls how many there are, but they need a token if there is a
 * rate.
 *
 * <p>A failure counts towards the retries of its batch only if the collector has accepted something since the batch
 * failed last: otherwise the collector may be the cause, and the retries of a batch that is alone would be used up by
 * an outage.
 *
 * <p>While the lane is open, failures don't count towards the batches' retries. A batch that failed as a probe is
 * pushed back behind the next probe, further each time, so that a batch that can't be sent does not keep the lane open
 * for those that can; probes also alternate between the two ends of the queue. When no other batch is due, or when the
 * lane has closed, the pushed batches become due again at once (see {@link #takeProbed}).
 *
 * <p>Where several instances share a store, a lane also opens when another instance has found the collector down, and
 * begins to ramp when another one has found it back ({@link #applyRemote}, {@link #applyRemoteEnd}); and it keeps a notice of its
 * own findings for the others ({@link #nextNotice}). Its own observations take precedence if they are newer: while the
 * collector answers here, the lane stays closed; and if the collector keeps failing here although others have
 * repeatedly found it back, the lane opens for this instance alone.
 *
 * <p>Nothing depends on a correct clock: time that runs backwards counts as no time, a jump forward counts as one step
 * of the ramp and one second's worth of tokens, and no wait ever becomes longer than it was when it began.
 */
final class Lane {

    /**
     * Maximum number of probe intervals by which a batch is pushed back: limits the wait after a restart, which forgets
     * which batches were probes.
     */
    private static final int MAX_PUSH_BACKS = 12;

    /**
     * Maximum number of batch ids remembered from an outage's probes; at one probe every five minutes this is enough
     * for more than a month.
     */
    private static final int MAX_PROBED = 10_000;

    /**
     * Maximum number of threads that senders which ignore both timeout and interrupt may hold beyond the lane's
     * concurrency. Enough to continue when one occasionally hangs for good, few enough not to harm the host.
     */
    private static final int MAX_ABANDONED = 32;

    /**
     * Maximum number of batches that have been sent, and that the store has not recorded as delivered yet, unless the
     * lane's concurrency is higher: enough to fill the time of a commit. If the process is killed, or the store fails,
     * they are sent once more.
     */
    static final int MAX_UNRECORDED = 16;

    /**
     * After this many outages that were found here and ended by other instances, this instance is the one that can't
     * reach the collector.
     */
    private static final int ALONE_AFTER = 3;

    final String collectorType;

    /** Set while a worker for this lane alone is queued, so that no second one is queued. */
    final AtomicBoolean workerQueued = new AtomicBoolean();

    /** Held while other instances are notified, so that they are notified in the order in which things happened. */
    final ReentrantLock noticeLock = new ReentrantLock();

    private final RandomGenerator random;
    /** Counts the changes that other instances must learn about; {@code null} if there are no other instances. */
    private final @Nullable AtomicLong changes;

    private final ReentrantLock lock = new ReentrantLock();
    private volatile CollectorSettings settings;

    private State state = State.CLOSED;
    // CLOSED and no failures: lets a success find out without the lock that there is nothing to do.
    private volatile boolean calm = true;
    private boolean retired;
    private int slots;
    private int executing;
    private int unrecorded;
    private int firstSends;
    private int failuresInARow;
    /** Batches for which the collector has asked to come back later since it last accepted one, and how often. */
    private final Map<String, Integer> retryAfterCounts = new HashMap<>();
    /** The number of batches in {@link #retryAfterCounts} that had not failed before. */
    private int retryAftersInARow;
    /**
     * Batches that have failed otherwise since the collector last accepted one; no more than it takes to open the lane.
     */
    private final Set<String> failedInARow = new HashSet<>();
    /** Whether a retry-after was shortened to the limit and that has been logged. */
    private boolean cutReported;

    private @Nullable String lastFailure;
    private boolean unhandled;

    private final RampedRate rate;

    private Instant outageSince = Instant.EPOCH;
    private Wait nextProbe;
    private @Nullable Permit probe;
    private int failedProbes;
    private int probesStarted;
    private final Map<String, PushedBack> probed = new HashMap<>();

    // ---- state shared with other instances
    private @Nullable NoticeKind pendingNotice;
    private int pendingNoticeProbe;
    private long changedAt;
    private volatile Instant lastAnswer = Instant.EPOCH;
    /**
     * Number of the last probe of this outage that this instance sent; 0 after an operator asked for an immediate
     * probe.
     */
    private int ownProbe;
    /**
     * Whether the next probe is scheduled by this instance's own backoff, because other instances could not be asked.
     */
    private boolean ownPace;
    /** Whether failures observed by this instance opened the lane. */
    private boolean foundHere;
    /** How often other instances have ended such an outage since this lane's last success. */
    private int endedByOthers;
    /** Whether the lane is open for this instance only, without involving other instances. */
    private boolean alone;

    /**
     * Creates a closed lane.
     *
     * @param changes counter, shared by all lanes, of changes that other instances must learn about; {@code null} if
     *     there are no other instances
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
        this.rate = new RampedRate(settings.maxRate(), now);
        this.nextProbe = new Wait(now, Duration.ZERO);
    }

    /**
     * The right to hand over one batch. It holds one of the lane's slots until released, and counts as a thread until
     * that is freed: a batch that timed out no longer has a slot, but its sender may still be running.
     */
    static final class Permit {
        private enum Kind {
            USUAL,
            PROBE,
            FIRST_SEND
        }

        private final Kind kind;
        /** The number of the probe in its outage; 0 if it is not a probe. */
        private int number;
        /** Whether other instances wait for the result of this probe. */
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

        /** Whether to take the batch from the opposite end of the queue. */
        boolean otherEnd() {
            return kind == Kind.PROBE && number % 2 == 0;
        }
    }

    /**
     * What a failure means for its batch.
     *
     * @param counts whether it counts towards the batch's retries
     * @param inARow how many retry-after responses in a row the batch had before this one, so that its backoff grows
     *     although they did not count
     * @param probe what it means for the lane if the batch was a probe; {@code null} if it was not
     */
    record Consequence(boolean counts, int inARow, @Nullable FailedProbe probe) {}

    /**
     * What a failed probe means.
     *
     * @param nextProbe until the next probe
     * @param times how often the batch has been pushed back, with this time
     * @param pushedTo when the batch is due
     */
    record FailedProbe(Duration nextProbe, int times, Instant pushedTo) {}

    /**
     * A batch pushed back by failed probes.
     *
     * @param times how often
     * @param retryAfter until when the collector asked not to get it
     */
    private record PushedBack(int times, Wait retryAfter) {}

    /**
     * An outage that is over.
     *
     * @param since when it began
     * @param probes how many probes were sent
     */
    record Ended(Instant since, int probes) {}

    /** The kind of notice that other instances are to be sent. */
    enum NoticeKind {
        BEGAN,
        NEXT_PROBE,
        ENDED
    }

    /**
     * A notice that other instances have not been sent yet.
     *
     * @param what which method of {@link SharedOutages} to call
     * @param probe the number of the probe after which the next one is due
     * @param nextProbe when it is due
     * @param lastFailure the last failure's reason
     * @param at identifies the change that the notice is about
     */
    record Notice(NoticeKind what, int probe, Instant nextProbe, String lastFailure, long at) {}

    CollectorSettings settings() {
        return settings;
    }

    void settings(CollectorSettings settings) {
        this.settings = settings;
    }

    /**
     * Acquires a slot and a token, or the right to a probe; returns {@code null} if that is not possible now.
     *
     * @param onlyThread whether the thread would be the lane's only one: refused if the lane already has a thread
     */
    @Nullable
    Permit tryAcquire(Instant now, boolean onlyThread) {
        lock.lock();
        try {
            if (retired
                    || (onlyThread && holdsAnyThread())
                    || unrecorded >= mostUnrecorded()
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
            } else if (rate.take(settings.maxRate(), now)) {
                permit = new Permit(Permit.Kind.USUAL, 0);
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

    /**
     * Acquires the right to send a batch that a caller has just persisted; returns {@code null} if the batch has to
     * wait.
     */
    @Nullable
    Permit tryAcquireFirstSend(Instant now) {
        lock.lock();
        try {
            ramp(now);
            if (retired || state == State.OPEN || !rate.take(settings.maxRate(), now)) {
                return null;
            }
            firstSends++;
            return new Permit(Permit.Kind.FIRST_SEND, 0);
        } finally {
            lock.unlock();
        }
    }

    /** Returns a permit for which nothing was due, as if it had never been acquired. */
    void returnUnused(Permit permit) {
        lock.lock();
        try {
            if (!permit.released) {
                if (permit.isProbe()) {
                    probesStarted--;
                } else {
                    rate.giveBack();
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
                    // The probe neither succeeded nor failed: the next one is due when this one was.
                    probe = null;
                    if (permit.granted) {
                        requireNotice(NoticeKind.NEXT_PROBE, permit.number);
                    }
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** Frees the slot of a batch that has been sent, and that a thread waits for the store to record as delivered. */
    void releaseUnrecorded(Permit permit) {
        lock.lock();
        try {
            unrecorded++;
            release(permit);
        } finally {
            lock.unlock();
        }
    }

    /** Reports that the thread no longer waits for such a batch. */
    void recorded() {
        lock.lock();
        try {
            unrecorded--;
        } finally {
            lock.unlock();
        }
    }

    /** Whether no batch may be sent before one is recorded. */
    boolean isUnrecordedFull() {
        lock.lock();
        try {
            return unrecorded >= mostUnrecorded();
        } finally {
            lock.unlock();
        }
    }

    private int mostUnrecorded() {
        return Math.max(MAX_UNRECORDED, settings.concurrency());
    }

    /** Under the lock. */
    private boolean holdsAnyThread() {
        return executing > 0 || unrecorded > 0;
    }

    /** Reports that the thread that got the permit has finished with the batch, settled or not. */
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

    /** Whether the lane holds a thread of recovery. */
    boolean holdsThread() {
        lock.lock();
        try {
            return holdsAnyThread();
        } finally {
            lock.unlock();
        }
    }

    /** Whether the lane is closed and the collector has answered last. */
    boolean isCalm() {
        return calm;
    }

    boolean hasFreeSlot() {
        lock.lock();
        try {
            return state != State.OPEN && slots < settings.concurrency() && unrecorded < mostUnrecorded();
        } finally {
            lock.unlock();
        }
    }

    /** Whether {@link #answered} would change nothing: then the time, which takes longer to read, is not needed. */
    boolean isAnswerExpected() {
        return calm && changes == null;
    }

    /**
     * Records that the collector accepted a batch, or rejected one permanently: either way it is up.
     *
     * @return the outage that this ended; {@code null} if there was none
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
            resetFailureRow();
            endedByOthers = 0;
            Ended outage = null;
            if (state == State.OPEN) {
                requireNotice(NoticeKind.ENDED, 0);
                outage = close(now);
            }
            calm = state == State.CLOSED;
            return outage;
        } finally {
            lock.unlock();
        }
    }

    private Ended close(Instant now) {
        state = State.RAMPING;
        resetFailureRow();
        probe = null;
        alone = false;
        rate.beginRamp(now);
        return new Ended(outageSince, probesStarted);
    }

    private void resetFailureRow() {
        failuresInARow = 0;
        failedInARow.clear();
        retryAfterCounts.clear();
        retryAftersInARow = 0;
        cutReported = false;
        lastFailure = null;
    }

    /**
     * Says what a failure would mean, and records nothing yet: whether the batch is still in flight is known only to
     * the store, which must not wait for a lane. To be followed by {@link #failed} if it is.
     *
     * @param permit the permit with which it was sent, if that is known
     * @param retryCount counted failures of the batch so far; any number if there is no permit
     */
    Consequence consequence(@Nullable Permit permit, String batchId, int retryCount, Failure failure, Instant now) {
        lock.lock();
        try {
            if (failure.kind() == FailureClassifier.Kind.BATCH) {
                // Says nothing about the collector, and costs the batch a retry.
                return new Consequence(true, 0, null);
            }
            boolean hasRetryAfter = failure.kind() == FailureClassifier.Kind.RETRY_AFTER;
            int before = hasRetryAfter ? retryAfterCounts.getOrDefault(batchId, 0) : 0;
            if (state != State.OPEN) {
                return new Consequence(hasRetryAfter ? before == 0 : failsAnew(batchId), before, null);
            }
            boolean probed = permit != null && permit == probe;
            int inARow = retryAftersInARow + (hasRetryAfter && before == 0 && retryCount == 0 ? 1 : 0);
            return new Consequence(
                    false, before, probed ? failedProbe(batchId, hasRetryAfter, inARow, failure, now) : null);
        } finally {
            lock.unlock();
        }
    }

    private FailedProbe failedProbe(
            String batchId, boolean hasRetryAfter, int retryAftersInARow, Failure failure, Instant now) {
        Duration retryAfter = cappedRetryAfter(failure.delay());
        Duration delay = settings.retry().delayAfter(failedProbes + 2, random);
        Duration untilNext = untilProbe(delay, hasRetryAfter, retryAfter, retryAftersInARow);
        PushedBack earlier = probed.get(batchId);
        int times = earlier == null ? 1 : earlier.times() + 1;
        Instant pushedTo =
                Times.after(Times.after(now, untilNext), delay.multipliedBy(Math.min(times, MAX_PUSH_BACKS)));
        Instant retryAfterEnd = Times.after(now, retryAfter);
        return new FailedProbe(untilNext, times, retryAfterEnd.isAfter(pushedTo) ? retryAfterEnd : pushedTo);
    }

    /**
     * Records that a batch could not be sent.
     *
     * @param retryCount counted failures of the batch before this one
     * @param consequence what has become of the batch
     * @return whether this opened the lane
     */
    boolean failed(
            @Nullable Permit permit,
            String batchId,
            int retryCount,
            Failure failure,
            Consequence consequence,
            Instant now) {
        lock.lock();
        try {
            if (failure.kind() == FailureClassifier.Kind.BATCH) {
                probed.remove(batchId);
                return false;
            }
            calm = false;
            lastFailure = failure.reason();
            boolean hasRetryAfter = failure.kind() == FailureClassifier.Kind.RETRY_AFTER;
            int before = hasRetryAfter ? countRetryAfter(batchId, retryCount) : 0;
            if (!hasRetryAfter) {
                failuresInARow++;
            }
            boolean told = hasRetryAfter && before == 0 && retryCount == 0;
            Duration delay = cappedRetryAfter(failure.delay());
            FailedProbe failedProbe = consequence.probe();
            if (permit != null && failedProbe != null) {
                probeFailed(permit, batchId, failedProbe, new Wait(now, delay), now);
                return false;
            }
            if (state == State.OPEN) {
                return false;
            }
            // From now on the batch waits for its own backoff.
            probed.remove(batchId);
            if ((state == State.RAMPING && !hasRetryAfter) || (told && failuresInARow > 1)) {
                rate.slowDown(now);
                state = State.RAMPING;
            }
            boolean opens = settings.outageThreshold() > 0 && failuresInARow >= settings.outageThreshold();
            if (opens) {
                openedNow();
                outageSince = now;
                nextProbe = new Wait(
                        now,
                        untilProbe(settings.retry().delayAfter(1, random), hasRetryAfter, delay, retryAftersInARow));
                foundHere = true;
                alone = endedByOthers >= ALONE_AFTER;
                requireNotice(NoticeKind.BEGAN, 0);
            }
            if (!hasRetryAfter && settings.outageThreshold() > 0) {
                failedInARow.add(batchId);
            }
            return opens;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Whether the collector has accepted something since the batch failed last. If not, the collector may be the cause:
     * a batch that is alone pays only for the first failure in a row.
     */
    private boolean failsAnew(String batchId) {
        return settings.outageThreshold() == 0 || !failedInARow.contains(batchId);
    }

    /**
     * Records a retry-after for a batch, and returns how many it has had before since the collector last accepted a
     * batch.
     */
    private int countRetryAfter(String batchId, int retryCount) {
        Integer known = retryAfterCounts.get(batchId);
        int before = known == null ? 0 : known;
        if (before > 0 || retryAfterCounts.size() < MAX_PROBED) {
            retryAfterCounts.put(batchId, before + 1);
        }
        if (before == 0 && retryCount == 0) {
            failuresInARow++;
            retryAftersInARow++;
        }
        return before;
    }

    /** A retry-after for one batch delays the whole lane only when the collector has sent one for many batches. */
    private Duration untilProbe(Duration backoff, boolean hasRetryAfter, Duration delay, int retryAftersInARow) {
        boolean forAll = hasRetryAfter && retryAftersInARow >= settings.outageThreshold();
        return forAll && delay.compareTo(backoff) > 0 ? delay : backoff;
    }

    private void openedNow() {
        state = State.OPEN;
        rate.endRamp();
        failedProbes = 0;
        probesStarted = 0;
        ownProbe = 0;
        ownPace = false;
    }

    private Duration cappedRetryAfter(Duration retryAfter) {
        return cappedRetryAfter(retryAfter, settings);
    }

    /** The retry-after to honour: limited, so that no response can stop a lane for good. */
    static Duration cappedRetryAfter(Duration retryAfter, CollectorSettings settings) {
        Duration longest = settings.maxRetryAfter();
        return retryAfter.compareTo(longest) <= 0 ? retryAfter : longest;
    }

    /**
     * Whether to log that a retry-after is longer than what is {@link #cappedRetryAfter}: once until the collector accepts a
     * batch.
     */
    boolean isFirstCut(Duration retryAfter) {
        lock.lock();
        try {
            boolean tells = !cutReported && retryAfter.compareTo(cappedRetryAfter(retryAfter)) > 0;
            cutReported |= tells;
            return tells;
        } finally {
            lock.unlock();
        }
    }

    private void probeFailed(Permit permit, String batchId, FailedProbe failed, Wait retryAfter, Instant now) {
        // The lane may have closed, or begun another probe, since the batch was pushed back.
        if (state == State.OPEN && (probe == permit || probe == null)) {
            failedProbes++;
            probe = null;
            nextProbe = new Wait(now, failed.nextProbe());
            ownPace = !permit.granted;
            if (permit.granted) {
                requireNotice(NoticeKind.NEXT_PROBE, permit.number);
            }
        }
        if (probed.containsKey(batchId) || probed.size() < MAX_PROBED) {
            probed.put(batchId, new PushedBack(failed.times(), retryAfter));
        }
    }

    /**
     * Forgets that the batch was a probe: it now waits for something other than its turn, so {@link #takeProbed} must
     * not make it due.
     */
    void forgetProbed(String batchId) {
        lock.lock();
        try {
            probed.remove(batchId);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Takes the ids of batches pushed back by failed probes, except those whose retry-after has not elapsed. The lane
     * forgets the ids that it returns.
     */
    Set<String> takeProbed(Instant now) {
        lock.lock();
        try {
            Set<String> ids = new HashSet<>();
            probed.forEach((id, pushed) -> {
                if (!pushed.retryAfter().isOn(now)) {
                    ids.add(id);
                }
            });
            probed.keySet().removeAll(ids);
            return ids;
        } finally {
            lock.unlock();
        }
    }

    /** Restores ids that could not be made due: the next call of {@link #takeProbed} returns them again. */
    void restoreProbed(Set<String> ids, Instant now) {
        lock.lock();
        try {
            Wait over = new Wait(now, Duration.ZERO);
            ids.forEach(id -> probed.putIfAbsent(id, new PushedBack(1, over)));
        } finally {
            lock.unlock();
        }
    }

    /**
     * Updates the ramp to the current time.
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

    /** Ends all waits, on an operator's request. */
    void expedite(Instant now) {
        lock.lock();
        try {
            nextProbe = new Wait(now, Duration.ZERO);
            ownProbe = 0;
            if (state == State.OPEN) {
                requireNotice(NoticeKind.NEXT_PROBE, SharedOutages.ANY_PROBE);
            }
        } finally {
            lock.unlock();
        }
    }

    // ---- notices between instances ----------------------------------------------------------------

    private void requireNotice(NoticeKind what, int probe) {
        if (changes != null && !alone) {
            // BEGAN already includes the time of the next probe.
            if (what != NoticeKind.NEXT_PROBE || pendingNotice != NoticeKind.BEGAN) {
                pendingNotice = what;
            }
            pendingNoticeProbe = probe;
            changedAt = changes.incrementAndGet();
        }
    }

    /**
     * The notice to send to other instances; {@code null} if there is none. Only for the thread that holds {@link
     * #noticeLock}.
     */
    @Nullable
    Notice nextNotice() {
        lock.lock();
        try {
            return pendingNotice == null
                    ? null
                    : new Notice(
                            pendingNotice,
                            pendingNoticeProbe,
                            nextProbe.until,
                            lastFailure == null ? "" : lastFailure,
                            changedAt);
        } finally {
            lock.unlock();
        }
    }

    /** Records that the notice has been sent. */
    void noticeSent(Notice what) {
        lock.lock();
        try {
            if (changedAt == what.at() && changes != null) {
                pendingNotice = null;
                // A round that read the shared state before this may have missed it.
                changedAt = changes.incrementAndGet();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Whether probes need no permission from other instances, because the collector answers those. */
    boolean isAlone() {
        lock.lock();
        try {
            return alone;
        } finally {
            lock.unlock();
        }
    }

    /** Records that this instance may send the probe, and its number. */
    void probeGranted(Permit permit, int number) {
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

    /**
     * Records that the probe was refused: other instances know when the next one is due, and the next round learns it
     * from them.
     */
    void probeRefused(Instant now) {
        lock.lock();
        try {
            nextProbe = new Wait(now, RampedRate.STEP);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Records that other instances know the collector to be down.
     *
     * @param outage what they know of it
     * @param looked the value of {@link #changes} before they were asked: changes made here since then are newer
     * @param now the time
     * @return whether this opened the lane
     */
    boolean applyRemote(Outage outage, long looked, Instant now) {
        lock.lock();
        try {
            if (changes == null || alone || pendingNotice != null || changedAt > looked) {
                return false;
            }
            boolean opens = state != State.OPEN;
            if (opens) {
                Instant since = Times.before(now, outage.age());
                boolean answersHere = failuresInARow == 0 && lastAnswer.isAfter(since);
                if (answersHere || settings.outageThreshold() == 0) {
                    return false;
                }
                openedNow();
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
                    // The instance whose probe failed last lets others go first: the problem may be its own.
                    boolean last = ownProbe > 0 && ownProbe == outage.probes();
                    nextProbe = new Wait(now, last ? outage.untilProbe().plus(RampedRate.STEP) : outage.untilProbe());
                }
            }
            return opens;
        } finally {
            lock.unlock();
        }
    }

    /**
     * Records that other instances do not consider the collector to be down.
     *
     * @param looked see {@link #applyRemote}
     * @param now the time
     * @return the outage that this ended; {@code null} if there was none
     */
    @Nullable
    Ended applyRemoteEnd(long looked, Instant now) {
        lock.lock();
        try {
            if (changes == null || state != State.OPEN || alone || pendingNotice != null || changedAt > looked) {
                return null;
            }
            endedByOthers += foundHere ? 1 : 0;
            changedAt = changes.incrementAndGet();
            return close(now);
        } finally {
            lock.unlock();
        }
    }

    /**
     * Records that this instance sends nothing any more: if it has a probe under way, another instance is to repeat it.
     */
    void withdrawFromOutage(Instant now) {
        lock.lock();
        try {
            if (probe != null && probe.granted) {
                nextProbe = new Wait(now, Duration.ZERO);
                requireNotice(NoticeKind.NEXT_PROBE, probe.number);
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
     * Records whether recovery has batches but no target to hand them to.
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
     * Retires the lane if it knows nothing that a new one would not, given that the collector type holds no batches. An
     * open lane then has nothing to probe with, and is retired as well once no failure has been reported for long.
     *
     * @param forgotten receives the outage that is given up with the lane
     */
    boolean retire(Instant now, Consumer<Ended> forgotten) {
        lock.lock();
        try {
            ramp(now);
            boolean idle = slots == 0
                    && !holdsAnyThread()
                    && firstSends == 0
                    // Otherwise a new lane would queue one more worker, and so on while the executor is stuck.
                    && !workerQueued.get()
                    && pendingNotice == null
                    && rate.isFull(settings.maxRate(), now);
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
                    rate.limit(settings.maxRate()),
                    unhandled,
                    false,
                    lastFailure);
        } finally {
            lock.unlock();
        }
    }

    private void ramp(Instant now) {
        if (state == State.RAMPING && rate.ramp(settings.maxRate(), now)) {
            state = State.CLOSED;
            calm = failuresInARow == 0 && retryAfterCounts.isEmpty();
        }
    }

    /** A wait that a clock set back does not extend. */
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
