package io.batchpersistence.engine;

import io.batchpersistence.CollectorSettings;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Instant;
import java.util.Collection;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/** The lanes, by collector type. Thread-safe. */
final class Lanes {

    private final Function<String, CollectorSettings> settings;
    private final RandomGenerator random;
    private final SlewedClock clock;
    /** See {@link Lane#applyRemote}. */
    private final @Nullable AtomicLong changes;

    private final ConcurrentMap<String, Lane> lanes = new ConcurrentHashMap<>();

    Lanes(
            Function<String, CollectorSettings> settings,
            RandomGenerator random,
            SlewedClock clock,
            @Nullable AtomicLong changes) {
        this.settings = settings;
        this.random = random;
        this.clock = clock;
        this.changes = changes;
    }

    Collection<Lane> all() {
        return lanes.values();
    }

    /** Returns the lane of a collector type if there is one. */
    @Nullable
    Lane ifKnown(String collectorType) {
        return lanes.get(collectorType);
    }

    /** Returns the lane of a collector type, a new one if there is none. */
    Lane of(String collectorType) {
        Lane lane = lanes.get(collectorType);
        if (lane != null) {
            return lane;
        }
        // This calls the application's code, which must not run under the map's lock.
        CollectorSettings fresh = settingsOf(collectorType);
        return lanes.computeIfAbsent(collectorType, type -> new Lane(type, fresh, random, clock.steady(), changes));
    }

    /** Thrown through the store, which then changes nothing. */
    static final class UnknownLaneException extends RuntimeException {
        private static final long serialVersionUID = 1L;
        private final String collectorType;

        UnknownLaneException(String collectorType) {
            super(
                    "nothing is known of collector type '" + LogSanitizer.of(collectorType) + "' yet",
                    null,
                    false,
                    false);
            this.collectorType = collectorType;
        }
    }

    /**
     * Returns a lane that exists already, to read its settings. For callbacks that the store calls under its lock or in
     * a transaction, where the application's settings function must not be called because it may do anything. To be
     * used within {@link #with}.
     */
    Lane require(String collectorType) {
        Lane lane = lanes.get(collectorType);
        if (lane == null) {
            throw new UnknownLaneException(collectorType);
        }
        return lane;
    }

    /** Calls the store, and repeats the call after preparing each lane that turns out to be missing. */
    <T extends @Nullable Object> T with(Supplier<T> call, Consumer<Lane> prepare) {
        while (true) {
            try {
                return call.get();
            } catch (UnknownLaneException e) {
                prepare.accept(of(e.collectorType));
            }
        }
    }

    /** For the store. Makes no lane: the store may only pass a collector type by. */
    CollectorSettings settingsFor(String collectorType) {
        Lane lane = lanes.get(collectorType);
        return lane == null ? settingsOf(collectorType) : lane.settings();
    }

    CollectorSettings settingsOf(String collectorType) {
        return settings.apply(collectorType);
    }

    /**
     * Removes the lanes that hold no batches and know nothing that a new lane would not.
     *
     * @param types the collector types that hold batches
     * @return the outages that are given up with their lanes, by collector type
     */
    Map<String, Lane.Ended> retireExcept(Set<String> types, Instant now) {
        Map<String, Lane.Ended> forgotten = new TreeMap<>();
        lanes.forEach((type, lane) -> {
            if (!types.contains(type)) {
                // Nothing waits for this collector type any more.
                lane.unhandled(false);
                lanes.computeIfPresent(
                        type,
                        (same, current) -> current.retire(now, outage -> forgotten.put(type, outage)) ? null : current);
            }
        });
        return forgotten;
    }
}
