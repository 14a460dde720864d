package io.batchpersistence.engine;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.spi.SharedOutages.Outage;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Shares with the other instances on the same store which collectors are down. If
 * there are none, or they can't be reached, it relies on its own observations.
 */
final class OutageSharing {

    private static final Logger log = LogSanitizer.logger(BatchPersistenceEngine.class);

    /** Limits how long {@link BatchPersistenceEngine#close()} tries to notify other instances through a store that does not answer. */
    private static final Duration OUTAGE_WITHDRAWAL_TIMEOUT = Duration.ofSeconds(2);

    private final BatchStore store;
    private final Lanes lanes;
    private final SlewedClock clock;
    private final ListenerDispatcher dispatcher;
    private final ThrottledFailureLog failureLog;
    /** {@code null} if no other instance uses the store. */
    private final @Nullable SharedOutages others;
    /** See {@link Lane#applyRemote}. */
    private final @Nullable AtomicLong changes;

    OutageSharing(
            BatchStore store,
            @Nullable SharedOutages others,
            @Nullable AtomicLong changes,
            Lanes lanes,
            SlewedClock clock,
            ListenerDispatcher dispatcher,
            ThrottledFailureLog failureLog) {
        this.store = store;
        this.others = others;
        this.changes = changes;
        this.lanes = lanes;
        this.clock = clock;
        this.dispatcher = dispatcher;
        this.failureLog = failureLog;
    }

    /** Announces that the collector failed so often that its lane has opened. */
    void opened(Lane lane, Instant now, String reason) {
        int failuresInARow = lane.status().failuresInARow();
        boolean first = sendNotices(lane);
        dispatcher.outageOpened(
                new CollectorOutage(lane.collectorType, now, null, false, 0, reason, first), failuresInARow);
    }

    /** Announces that the collector has answered. */
    void answered(Lane lane, Lane.Ended outage, Instant now) {
        boolean first = sendNotices(lane);
        dispatcher.outageClosed(ended(lane.collectorType, outage, now, true, first));
    }

    /** Announces that the outage is forgotten, because no batch is left to probe with. */
    void forgotten(String type, Lane.Ended outage, Instant now) {
        dispatcher.outageClosed(ended(type, outage, now, false, publish(type, others -> others.ended(type))));
    }

    /** Learns which outages other instances know of. */
    void applyRemote(Set<String> types) {
        SharedOutages others = this.others;
        AtomicLong changes = this.changes;
        if (others != null && changes != null) {
            failureLog.guard(
                    "looking for outages that other instances know of", () -> applyRemote(others, changes, types));
        }
    }

    private void applyRemote(SharedOutages others, AtomicLong changes, Set<String> types) {
        types.forEach(lanes::of);
        lanes.all().forEach(this::sendNotices);
        long looked = changes.get();
        Map<String, Outage> known = others.current();
        Instant now = clock.steady();
        lanes.all().forEach(lane -> {
            String type = lane.collectorType;
            Outage outage = known.get(type);
            if (outage == null) {
                Lane.Ended ended = lane.applyRemoteEnd(looked, now);
                if (ended != null) {
                    dispatcher.outageClosed(ended(type, ended, now, true, false));
                }
            } else if (lane.applyRemote(outage, looked, now)) {
                Instant since = Times.before(now, outage.age());
                dispatcher.outageOpened(
                        new CollectorOutage(type, since, null, false, outage.probes(), outage.lastFailure(), false), 0);
            }
        });
        known.forEach((type, outage) -> {
            Duration unprobed = outage.untilProbe().negated();
            if (lanes.ifKnown(type) == null
                    && unprobed.compareTo(lanes.settingsOf(type).retry().max()) >= 0) {
                // No batch is left to probe with, and no instance remembers the outage.
                others.ended(type);
            }
        });
    }

    /**
     * Sends other instances the notice that is due. If that fails, the next round tries again.
     *
     * @return whether it was new to them; also {@code true} if there are no other instances or they can't be reached
     */
    private boolean sendNotices(Lane lane) {
        return publish(lane.collectorType, others -> sendNotices(lane, others));
    }

    private boolean sendNotices(Lane lane, SharedOutages others) {
        boolean begun = DeferredLog.begin();
        lane.noticeLock.lock();
        try {
            Lane.Notice notice = lane.nextNotice();
            if (notice == null) {
                return true;
            }
            String type = lane.collectorType;
            Duration left = Duration.between(clock.steady(), notice.nextProbe());
            Duration untilProbe = left.isNegative() ? Duration.ZERO : left;
            boolean news = true;
            switch (notice.what()) {
                case BEGAN -> news = others.began(type, untilProbe, notice.lastFailure());
                case NEXT_PROBE -> others.nextProbe(type, notice.probe(), untilProbe);
                case ENDED -> news = others.ended(type);
            }
            lane.noticeSent(notice);
            return news;
        } finally {
            lane.noticeLock.unlock();
            DeferredLog.end(begun);
        }
    }

    private boolean publish(String collectorType, Predicate<SharedOutages> call) {
        SharedOutages others = this.others;
        boolean[] news = {true};
        if (others != null) {
            failureLog.guard(
                    "notifying other instances about collector '" + collectorType + "'",
                    () -> news[0] = call.test(others));
        }
        return news[0];
    }

    /** Whether this instance is to find out whether the collector is back. */
    boolean mayProbe(Lane lane, Lane.Permit permit) {
        SharedOutages others = this.others;
        if (others == null || !permit.isProbe() || lane.isAlone()) {
            return true;
        }
        // The answer if other instances can't be asked.
        int[] answer = {SharedOutages.NOT_DOWN};
        failureLog.guard(
                "asking other instances about collector '" + lane.collectorType + "'",
                () -> answer[0] = takeProbe(lane, others));
        if (answer[0] == SharedOutages.NOT_DUE || answer[0] == SharedOutages.NOTHING_TO_SEND) {
            lane.probeRefused(clock.steady());
            return false;
        }
        if (answer[0] != SharedOutages.NOT_DOWN) {
            lane.probeGranted(permit, answer[0]);
        }
        return true;
    }

    private int takeProbe(Lane lane, SharedOutages others) {
        Instant now = clock.steady();
        Duration timeout =
                Duration.between(now, Times.after(now, lane.settings().batchTimeout()));
        int number = others.takeProbe(lane.collectorType, timeout);
        if (number == SharedOutages.NOTHING_TO_SEND) {
            // They were pushed back to let other batches go first, but there are none.
            Set<String> pushed = lane.takeProbed(now);
            if (!pushed.isEmpty()) {
                makeDue(lane, pushed, now);
                number = others.takeProbe(lane.collectorType, timeout);
            }
        }
        return number;
    }

    /** Lets batches go that failed probes have pushed back. */
    void makeDue(Lane lane, Set<String> ids, Instant now) {
        if (ids.isEmpty()) {
            return;
        }
        boolean done = false;
        try {
            store.reschedule(BatchSelector.all().states(BatchState.PENDING).ids(ids.toArray(String[]::new)), now, now);
            done = true;
        } finally {
            if (!done) {
                // Otherwise they would stay pushed back, possibly for an hour.
                lane.restoreProbed(ids, now);
            }
        }
    }

    /**
     * Publishes what other instances don't know yet. What does not reach them in time, they find out when the probe
     * times out.
     */
    void withdraw() {
        SharedOutages others = this.others;
        if (others == null || lanes.all().isEmpty()) {
            return;
        }
        boolean notified = Threads.within(OUTAGE_WITHDRAWAL_TIMEOUT, "batch-persistence-leaving", () -> {
            Instant now = clock.steady();
            for (Lane lane : lanes.all()) {
                lane.withdrawFromOutage(now);
                sendNotices(lane, others);
            }
        });
        if (!notified) {
            log.warn(
                    "Other instances could not be notified within {} ms that this one stops probing; they take over when its probe times out",
                    OUTAGE_WITHDRAWAL_TIMEOUT.toMillis());
        }
    }

    private static CollectorOutage ended(
            String collectorType, Lane.Ended outage, Instant now, boolean answered, boolean foundHere) {
        Instant until = now.isBefore(outage.since()) ? outage.since() : now;
        return new CollectorOutage(collectorType, outage.since(), until, answered, outage.probes(), null, foundHere);
    }
}
