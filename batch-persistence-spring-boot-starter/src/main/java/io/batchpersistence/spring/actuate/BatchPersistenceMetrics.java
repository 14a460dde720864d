package io.batchpersistence.spring.actuate;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.engine.LaneStatus;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.TimeGauge;
import io.micrometer.core.instrument.binder.BaseUnits;
import io.micrometer.core.instrument.binder.MeterBinder;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.ToDoubleFunction;
import java.util.function.ToLongFunction;

/**
 * The meters {@code batch.persistence.*}. Thread-safe.
 *
 * <p>Those of a collector type have the tag {@code collector}. Collector types come and go at run time, and each costs a dozen
 * meters, so only the first {@value #MOST_COLLECTORS} get meters of their own; the others are added up under
 * {@code collector="other"}. The counters are those of the store: they survive restarts.
 */
public final class BatchPersistenceMetrics implements MeterBinder, BatchListener {

    /** Collector types with meters of their own. */
    static final int MOST_COLLECTORS = 100;

    private static final String PREFIX = "batch.persistence.";
    private static final String OTHER = "other";

    /** One scrape reads many meters: they share a snapshot for this long. */
    private static final long SNAPSHOT_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final BatchPersistence persistence;
    private final Clock clock;
    private final List<MeterRegistry> registries = new CopyOnWriteArrayList<>();
    private final Set<String> named = ConcurrentHashMap.newKeySet();
    private final Map<String, LongAdder> deadLettered = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> outages = new ConcurrentHashMap<>();
    private volatile Snapshot snapshot =
            new Snapshot(new BatchStats(Map.of(), 0, 0, 0, 0, null), Map.of(), System.nanoTime() - SNAPSHOT_NANOS);

    private record Snapshot(BatchStats stats, Map<String, LaneStatus> lanes, long takenNanos) {}

    /**
     * Measures one.
     *
     * @param persistence what is measured
     * @param clock tells the time
     */
    public BatchPersistenceMetrics(BatchPersistence persistence, Clock clock) {
        this.persistence = persistence;
        this.clock = clock;
    }

    @Override
    public void bindTo(MeterRegistry registry) {
        Gauge.builder(
                        PREFIX + "disk.usage",
                        this,
                        metrics -> metrics.current().stats().diskUsage())
                .description("Bytes of all files of the store")
                .baseUnit(BaseUnits.BYTES)
                .register(registry);
        Gauge.builder(
                        PREFIX + "disk.limit",
                        this,
                        metrics -> metrics.current().stats().maxDiskUsage())
                .description("Most bytes of all files of the store (max_disk_usage)")
                .baseUnit(BaseUnits.BYTES)
                .register(registry);
        Gauge.builder(
                        PREFIX + "batches.limit",
                        this,
                        metrics -> metrics.current().stats().maxBatches())
                .description("Most batches held, dead letters included (max_pending_batches)")
                .register(registry);
        Gauge.builder(
                        PREFIX + "fill.level",
                        this,
                        metrics -> metrics.current().stats().fillLevel())
                .description("How full the store is, by the bound that is nearer, from 0 to 1")
                .register(registry);
        registries.add(registry);
        named.forEach(name -> register(registry, name));
        refresh();
    }

    /** Gives collector types that have turned up since the last time their meters. To be called now and then. */
    public void refresh() {
        Snapshot now = take();
        for (String name : new TreeSet<>(now.stats().collectors().keySet())) {
            String tag = named.contains(name) || named.size() < MOST_COLLECTORS ? name : OTHER;
            if (named.add(tag)) {
                registries.forEach(registry -> register(registry, tag));
            }
        }
    }

    @Override
    public void onDeadLettered(BatchSummary batch) {
        count(deadLettered, batch.collectorType());
    }

    @Override
    public void onOutageOpened(CollectorOutage outage) {
        count(outages, outage.collectorType());
    }

    private void count(Map<String, LongAdder> counts, String collectorType) {
        counts.computeIfAbsent(
                        named.contains(collectorType) || counts.size() < MOST_COLLECTORS ? collectorType : OTHER,
                        type -> new LongAdder())
                .increment();
    }

    private void register(MeterRegistry registry, String name) {
        Tags tags = Tags.of("collector", name);
        gauge(registry, tags.and("state", "pending"), name, CollectorStats::pending);
        gauge(registry, tags.and("state", "in_flight"), name, CollectorStats::inFlight);
        gauge(registry, tags.and("state", "dead"), name, CollectorStats::dead);
        Gauge.builder(PREFIX + "bytes", this, of(name, CollectorStats::bytes))
                .description("Payload bytes on disk of the batches held")
                .baseUnit(BaseUnits.BYTES)
                .tags(tags)
                .register(registry);
        TimeGauge.builder(
                        PREFIX + "oldest.pending.age", this, TimeUnit.MILLISECONDS, metrics -> metrics.ageMillis(name))
                .description("Age of the oldest batch that is not a dead letter")
                .tags(tags)
                .register(registry);
        Gauge.builder(PREFIX + "lane.open", this, metrics -> metrics.isDown(name) ? 1 : 0)
                .description("1 while the collector is taken to be down, else 0")
                .tags(tags)
                .register(registry);
        counter(registry, tags, "accepted", "Batches taken", of(name, CollectorStats::accepted));
        counter(registry, tags, "delivered", "Batches marked delivered", of(name, CollectorStats::delivered));
        counter(registry, tags, "expired", "Batches removed by TTL", of(name, CollectorStats::expired));
        counter(registry, tags, "evicted", "Batches dropped to make room", of(name, CollectorStats::evicted));
        counter(registry, tags, "discarded", "Batches removed on request", of(name, CollectorStats::discarded));
        counter(registry, tags, "corrupt", "Batches lost to damage on disk", of(name, CollectorStats::corrupt));
        counter(
                registry,
                tags,
                "failed.attempts",
                "Attempts to send that failed, since the application started",
                of(name, CollectorStats::failedAttempts));
        counter(
                registry,
                tags,
                "dead.lettered",
                "Batches that became dead letters, since the application started",
                metrics -> metrics.counted(metrics.deadLettered, name));
        counter(
                registry,
                tags,
                "outages",
                "Times that the collector was taken to be down, since the application started",
                metrics -> metrics.counted(metrics.outages, name));
    }

    private void gauge(MeterRegistry registry, Tags tags, String name, ToLongFunction<CollectorStats> value) {
        Gauge.builder(PREFIX + "batches", this, of(name, value))
                .description("Batches held")
                .tags(tags)
                .register(registry);
    }

    private void counter(
            MeterRegistry registry,
            Tags tags,
            String meter,
            String description,
            ToDoubleFunction<BatchPersistenceMetrics> value) {
        FunctionCounter.builder(PREFIX + meter, this, value)
                .description(description)
                .tags(tags)
                .register(registry);
    }

    private ToDoubleFunction<BatchPersistenceMetrics> of(String name, ToLongFunction<CollectorStats> value) {
        return metrics -> value.applyAsLong(metrics.stats(name));
    }

    private CollectorStats stats(String name) {
        Map<String, CollectorStats> all = current().stats().collectors();
        CollectorStats own = all.getOrDefault(name, CollectorStats.NONE);
        if (!name.equals(OTHER)) {
            return own;
        }
        return all.entrySet().stream()
                .filter(entry -> !named.contains(entry.getKey()))
                .map(Map.Entry::getValue)
                .reduce(own, CollectorStats::plus);
    }

    private long counted(Map<String, LongAdder> counts, String name) {
        if (!name.equals(OTHER)) {
            LongAdder own = counts.get(name);
            return own == null ? 0 : own.sum();
        }
        return counts.entrySet().stream()
                .filter(entry -> entry.getKey().equals(OTHER) || !named.contains(entry.getKey()))
                .mapToLong(entry -> entry.getValue().sum())
                .sum();
    }

    private double ageMillis(String name) {
        Instant oldest = stats(name).oldestPending();
        return oldest == null
                ? 0
                : Math.max(0, Duration.between(oldest, clock.instant()).toMillis());
    }

    private boolean isDown(String name) {
        Map<String, LaneStatus> lanes = current().lanes();
        if (name.equals(OTHER)) {
            return lanes.entrySet().stream()
                    .anyMatch(lane -> lane.getValue().state() == LaneStatus.State.OPEN
                            && (lane.getKey().equals(OTHER) || !named.contains(lane.getKey())));
        }
        LaneStatus lane = lanes.get(name);
        return lane != null && lane.state() == LaneStatus.State.OPEN;
    }

    private Snapshot current() {
        Snapshot last = snapshot;
        return System.nanoTime() - last.takenNanos() < SNAPSHOT_NANOS ? last : take();
    }

    /** A store that doesn't answer, closed for instance, leaves the meters as they were: metrics must not fail a scrape. */
    private Snapshot take() {
        Snapshot last = snapshot;
        Snapshot now;
        try {
            now = new Snapshot(
                    persistence.stats(),
                    persistence instanceof BatchPersistenceEngine engine ? engine.lanes() : Map.of(),
                    System.nanoTime());
        } catch (RuntimeException e) {
            now = new Snapshot(last.stats(), last.lanes(), System.nanoTime());
        }
        snapshot = now;
        return now;
    }
}
