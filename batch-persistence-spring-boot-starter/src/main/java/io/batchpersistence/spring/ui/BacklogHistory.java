package io.batchpersistence.spring.ui;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CollectorStats;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.ToLongFunction;
import org.jspecify.annotations.Nullable;

/**
 * The backlog over time, for an operator who opens the page in the middle of an outage: every 10 seconds for an hour,
 * every minute for a day, in memory, since the start of this process. Limited: each sample contains the totals and the
 * collector types with the largest backlogs. Thread-safe.
 */
public final class BacklogHistory {

    private static final Duration FINE_STEP = Duration.ofSeconds(10);
    private static final Duration FINE_LENGTH = Duration.ofHours(1);
    private static final Duration COARSE_STEP = Duration.ofMinutes(1);
    private static final Duration COARSE_LENGTH = Duration.ofDays(1);

    /** The limit per sample; collector types without a backlog are left out. */
    private static final int COLLECTORS_KEPT = 10;

    /** The limit per response: as collectors come and go, a series may contain more of them than any single sample. */
    private static final int COLLECTORS_SHOWN = 20;

    private static final Comparator<Held> LARGEST_FIRST =
            Comparator.<Held>comparingLong(held -> held.waiting + held.dead).reversed();

    private final BatchPersistence persistence;
    private final Clock clock;
    private final ReentrantLock lock = new ReentrantLock();
    private final Ring fine = new Ring(FINE_STEP, FINE_LENGTH);
    private final Ring coarse = new Ring(COARSE_STEP, COARSE_LENGTH);

    /**
     * Creates an empty history.
     *
     * @param persistence the batch persistence to observe
     * @param clock the current time
     */
    public BacklogHistory(BatchPersistence persistence, Clock clock) {
        this.persistence = persistence;
        this.clock = clock;
    }

    /** Takes a sample if one is due. To be called often. */
    public void sample() {
        if (!lock.tryLock()) {
            // Another thread is taking the sample.
            return;
        }
        try {
            Instant now = clock.instant();
            if (fine.isDue(now)) {
                Sample sample = Sample.of(now, persistence.stats());
                fine.add(sample);
                if (coarse.isDue(now)) {
                    coarse.add(sample);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /**
     * Returns the samples.
     *
     * @param length how far to go back
     * @return a copy, every 10 seconds for up to an hour, else every minute for up to a day
     */
    Series series(Duration length) {
        lock.lock();
        try {
            Ring ring = length.compareTo(FINE_LENGTH) <= 0 ? fine : coarse;
            long since = clock.instant().minus(length).getEpochSecond();
            List<Sample> samples =
                    ring.samples.stream().filter(sample -> sample.at >= since).toList();
            Map<String, Values> collectors = new LinkedHashMap<>();
            for (String name : largest(samples)) {
                collectors.put(
                        name,
                        new Values(
                                column(samples, sample -> sample.held(name).waiting),
                                column(samples, sample -> sample.held(name).dead)));
            }
            return new Series(
                    column(samples, Sample::at),
                    column(samples, Sample::waiting),
                    column(samples, Sample::dead),
                    collectors);
        } finally {
            lock.unlock();
        }
    }

    private static long[] column(List<Sample> samples, ToLongFunction<Sample> value) {
        return samples.stream().mapToLong(value).toArray();
    }

    private static List<String> largest(List<Sample> samples) {
        Map<String, Long> most = new HashMap<>();
        for (Sample sample : samples) {
            for (Held held : sample.collectors) {
                most.merge(held.collectorType, held.waiting + held.dead, Math::max);
            }
        }
        return most.entrySet().stream()
                .sorted(Map.Entry.<String, Long>comparingByValue().reversed().thenComparing(Map.Entry.comparingByKey()))
                .limit(COLLECTORS_SHOWN)
                .map(Map.Entry::getKey)
                .toList();
    }

    /**
     * The samples as columns: the i-th number of each belongs to the i-th time.
     *
     * @param at times in seconds since 1970, the oldest first
     * @param waiting numbers of batches that waited
     * @param dead numbers of dead letters
     * @param collectors the same by collector type; 0 if a collector type had no backlog or not one of the largest
     */
    // Only created to be serialized as JSON.
    @SuppressWarnings("ArrayRecordComponent")
    record Series(long[] at, long[] waiting, long[] dead, Map<String, Values> collectors) {}

    /**
     * The samples of one collector type.
     *
     * @param waiting numbers of batches that waited
     * @param dead numbers of dead letters
     */
    @SuppressWarnings("ArrayRecordComponent")
    record Values(long[] waiting, long[] dead) {}

    private record Held(String collectorType, long waiting, long dead) {}

    private record Sample(long at, long waiting, long dead, List<Held> collectors) {

        static Sample of(Instant at, BatchStats stats) {
            CollectorStats total = stats.total();
            List<Held> largest = stats.collectors().entrySet().stream()
                    .map(entry -> new Held(
                            entry.getKey(),
                            entry.getValue().pending(),
                            entry.getValue().dead()))
                    .filter(held -> held.waiting + held.dead > 0)
                    .sorted(LARGEST_FIRST)
                    .limit(COLLECTORS_KEPT)
                    .toList();
            return new Sample(at.getEpochSecond(), total.pending(), total.dead(), largest);
        }

        Held held(String collectorType) {
            for (Held held : collectors) {
                if (held.collectorType.equals(collectorType)) {
                    return held;
                }
            }
            return new Held(collectorType, 0, 0);
        }
    }

    /** The latest samples, one per step. */
    private static final class Ring {

        private final Duration step;
        private final long capacity;
        private final Deque<Sample> samples = new ArrayDeque<>();
        private @Nullable Instant last;

        Ring(Duration step, Duration length) {
            this.step = step;
            this.capacity = length.dividedBy(step);
        }

        /** Also true after the clock was set back, so that a wrong clock does not end the history. */
        boolean isDue(Instant now) {
            return last == null || now.isBefore(last) || !now.isBefore(last.plus(step));
        }

        void add(Sample sample) {
            while (!samples.isEmpty() && samples.getLast().at >= sample.at) {
                // Remove samples from before the clock was set back.
                samples.removeLast();
            }
            samples.addLast(sample);
            if (samples.size() > capacity) {
                samples.removeFirst();
            }
            last = Instant.ofEpochSecond(sample.at);
        }
    }
}
