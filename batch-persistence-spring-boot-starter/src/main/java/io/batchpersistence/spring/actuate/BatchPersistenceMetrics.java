package io.batchpersistence.spring.actuate;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchStats.Writes;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.BatchVolume;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.EngineCounters;
import io.batchpersistence.LaneStatus;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.FunctionTimer;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.TimeGauge;
import io.micrometer.core.instrument.Timer;
import io.micrometer.core.instrument.binder.BaseUnits;
import io.micrometer.core.instrument.binder.MeterBinder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
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
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.ToDoubleFunction;
import java.util.function.ToLongFunction;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * The meters {@code batch.persistence.*}, except those of the observation {@link BatchObservations}. {@code
 * docs/metrics.md} lists them all. Thread-safe.
 *
 * <p>The meters of a collector type have the tag {@code collector}. Collector types come and go at run time, and each
 * costs about thirty meters, so only the first {@value #MOST_COLLECTORS} get meters of their own; the others are added
 * up under {@code collector="other"}. The counters of the accounting identity are the store's counters: they survive
 * restarts.
 */
public final class BatchPersistenceMetrics implements MeterBinder, BatchListener, SendMeters {

    /** The number of collector types with meters of their own. */
    static final int MOST_COLLECTORS = 100;

    private static final String PREFIX = "batch.persistence.";
    private static final String COLLECTOR = "collector";
    private static final String OTHER = "other";

    /** One scrape reads many meters: they share a snapshot for this long. */
    private static final long SNAPSHOT_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final BatchPersistence persistence;
    private final Clock clock;
    private final @Nullable Path directory;
    private final List<MeterRegistry> registries = new CopyOnWriteArrayList<>();
    private final Set<String> named = ConcurrentHashMap.newKeySet();
    private final Map<String, LongAdder> deadLettered = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> outages = new ConcurrentHashMap<>();
    private final LongAdder corruptions = new LongAdder();
    private final ReentrantLock naming = new ReentrantLock();
    private volatile Snapshot snapshot = new Snapshot(
            new BatchStats(Map.of(), 0, 0, 0, 0, null),
            Map.of(),
            new EngineCounters(0, 0, 0, 0, 0),
            false,
            System.nanoTime() - SNAPSHOT_NANOS);

    private record Snapshot(
            BatchStats stats, Map<String, LaneStatus> lanes, EngineCounters engine, boolean answers, long takenNanos) {}

    /**
     * Creates meters without those of the disk.
     *
     * @param persistence the batch persistence to measure
     * @param clock the current time
     */
    public BatchPersistenceMetrics(BatchPersistence persistence, Clock clock) {
        this(persistence, clock, null);
    }

    /**
     * Creates meters, including those of the disk that batches are kept on.
     *
     * @param persistence the batch persistence to measure
     * @param clock the current time
     * @param directory where batches are kept; {@code null} if unknown
     */
    public BatchPersistenceMetrics(BatchPersistence persistence, Clock clock, @Nullable Path directory) {
        this.persistence = persistence;
        this.clock = clock;
        this.directory = directory;
    }

    @Override
    public void bindTo(MeterRegistry registry) {
        Meters meters = new Meters(this, registry, Tags.empty());
        meters.bytes("disk.usage", "Bytes of all files of the store", stats(BatchStats::diskUsage));
        meters.bytes("disk.limit", "Limit of the bytes of all files (max_disk_usage)", stats(BatchStats::maxDiskUsage));
        if (directory != null) {
            meters.bytes(
                    "disk.free", "Free bytes on the file system of the store's directory", metrics -> free(directory));
        }
        meters.gauge(
                "batches.limit",
                "Limit of stored batches, dead letters included (max_pending_batches)",
                stats(BatchStats::maxBatches));
        meters.gauge(
                "fill.level",
                "How full the store is, by the limit that is nearer, from 0 to 1",
                stats(BatchStats::fillLevel));
        meters.gauge(
                "problem", "1 while the store can't take batches, else 0", metrics -> metrics.hasProblem() ? 1 : 0);
        meters.gauge(
                "fallback.batches",
                "Batches on this instance's disk that wait for the database (jdbc.fallback)",
                stats(now -> now.fallback() == null ? 0 : now.fallback().batches()));
        meters.gauge("sending", "Batches being sent", engine(EngineCounters::sending));
        meters.timer(
                "writes",
                "Group commits: groups of batches written and forced together",
                Writes::groups,
                Writes::groupNanos);
        meters.timer("force", "Forces (fsync) of groups, journals and directories", Writes::forces, Writes::forceNanos);
        meters.counter(
                "written.batches",
                "Batches in the groups written",
                metrics -> metrics.writes().batches());
        FunctionCounter.builder(
                        PREFIX + "written", this, metrics -> metrics.writes().bytes())
                .description("Payload bytes of the batches written")
                .baseUnit(BaseUnits.BYTES)
                .register(registry);
        new Meters(this, registry, Tags.of("reason", "full"))
                .counter("refused", "Batches that were not taken", engine(EngineCounters::refusedFull));
        new Meters(this, registry, Tags.of("reason", "error"))
                .counter("refused", "Batches that were not taken", engine(EngineCounters::refusedError));
        meters.counter(
                "timeouts", "Attempts that were not settled within batch_timeout", engine(EngineCounters::timedOut));
        meters.counter("replayed", "Dead letters made pending again", engine(EngineCounters::replayed));
        meters.counter(
                "corruptions", "Damaged places on disk that were set aside", metrics -> metrics.corruptions.sum());
        registries.add(registry);
        named.forEach(name -> register(registry, name));
        refresh();
    }

    /** Registers meters for collector types that are new since the last call. To be called periodically. */
    public void refresh() {
        new TreeSet<>(take().stats().collectors().keySet()).forEach(this::tagOf);
    }

    /**
     * Returns the value of the tag {@code collector}, and registers the meters of a new collector type.
     *
     * @param collectorType a collector type
     * @return the collector type, or {@code other} if there are too many
     */
    @Override
    public String tagOf(String collectorType) {
        if (named.contains(collectorType)) {
            return collectorType;
        }
        naming.lock();
        try {
            String tag = named.size() < MOST_COLLECTORS ? collectorType : OTHER;
            if (named.add(tag)) {
                registries.forEach(registry -> register(registry, tag));
            }
            return tag;
        } finally {
            naming.unlock();
        }
    }

    @Override
    public void handedOver(String collectorType, Duration overdue) {
        String tag = tagOf(collectorType);
        registries.forEach(registry -> lag(registry, tag).record(overdue));
    }

    @Override
    public void delivered(String collectorType, Duration age) {
        String tag = tagOf(collectorType);
        registries.forEach(registry -> delivery(registry, tag).record(age));
    }

    private static Timer lag(MeterRegistry registry, String tag) {
        return timer(registry, "lag", "How long batches were due before they were handed to their sender", tag);
    }

    private static Timer delivery(MeterRegistry registry, String tag) {
        return timer(registry, "delivery", "From persisting a batch until it has been sent", tag);
    }

    private static Timer timer(MeterRegistry registry, String meter, String description, String tag) {
        return Timer.builder(PREFIX + meter)
                .description(description)
                .tag(COLLECTOR, tag)
                .register(registry);
    }

    @Override
    public void onDeadLettered(BatchSummary batch) {
        count(deadLettered, batch.collectorType());
    }

    @Override
    public void onCorrupted(Corruption damage) {
        corruptions.increment();
    }

    @Override
    public void onOutageOpened(CollectorOutage outage) {
        count(outages, outage.collectorType());
    }

    private void count(Map<String, LongAdder> counts, String collectorType) {
        counts.computeIfAbsent(tagOf(collectorType), tag -> new LongAdder()).increment();
    }

    private void register(MeterRegistry registry, String name) {
        Meters meters = new Meters(this, registry, Tags.of(COLLECTOR, name));
        held(meters, name, "pending", CollectorStats::pending, CollectorStats::pendingVolume);
        held(meters, name, "in_flight", CollectorStats::inFlight, CollectorStats::inFlightVolume);
        held(meters, name, "dead", CollectorStats::dead, CollectorStats::deadVolume);
        meters.age(
                "oldest.pending.age",
                "Age of the oldest batch that is not a dead letter",
                metrics -> metrics.ageMillis(metrics.stats(name).oldestPending()));
        meters.age(
                "oldest.dead.age",
                "Age of the oldest dead letter since it was given up",
                metrics -> metrics.ageMillis(metrics.stats(name).oldestDead()));
        meters.age(
                "outage.age",
                "How long the collector has been marked down; 0 if it is up",
                metrics -> metrics.outageMillis(name));
        lane(meters, name, "open", "the collector is marked down", lane -> lane.state() == LaneStatus.State.OPEN);
        lane(
                meters,
                name,
                "ramping",
                "the collector is back and its rate is ramping up",
                lane -> lane.state() == LaneStatus.State.RAMPING);
        lane(meters, name, "paused", "an operator has paused the collector", LaneStatus::paused);
        lane(meters, name, "unhandled", "batches have no sender", LaneStatus::unhandled);
        meters.gauge(
                "lane.rate",
                "Current limit of batches sent per second; 0 for no limit",
                metrics ->
                        metrics.lanes(name).mapToDouble(LaneStatus::rate).max().orElse(0));
        meters.counter("accepted", "Batches taken", of(name, CollectorStats::accepted));
        meters.counter("delivered", "Batches marked delivered", of(name, CollectorStats::delivered));
        meters.counter("expired", "Batches removed by TTL", of(name, CollectorStats::expired));
        meters.counter("evicted", "Batches evicted to make space", of(name, CollectorStats::evicted));
        meters.counter("discarded", "Batches removed on request", of(name, CollectorStats::discarded));
        meters.counter("corrupt", "Batches lost to damage on disk", of(name, CollectorStats::corrupt));
        meters.counter(
                "failed.attempts",
                "Attempts to send that failed, since the application started",
                of(name, CollectorStats::failedAttempts));
        meters.counter(
                "dead.lettered",
                "Batches that became dead letters, since the application started",
                metrics -> counted(metrics.deadLettered, name));
        meters.counter(
                "outages",
                "Times that the collector was marked down, since the application started",
                metrics -> counted(metrics.outages, name));
        // Register both at the start, so that they begin at 0.
        var unused = List.of(lag(registry, name), delivery(registry, name));
    }

    private void held(
            Meters collector,
            String name,
            String state,
            ToLongFunction<CollectorStats> batches,
            Function<CollectorStats, BatchVolume> volume) {
        Meters meters = new Meters(this, collector.registry, collector.tags.and("state", state));
        meters.gauge("batches", "Batches held", of(name, batches));
        meters.gauge(
                "entries",
                "Entries of the batches held",
                of(name, stats -> volume.apply(stats).entries()));
        meters.bytes(
                "bytes",
                "Payload bytes on disk of the batches held",
                of(name, stats -> volume.apply(stats).bytes()));
    }

    private static void lane(
            Meters meters, String name, String meter, String description, Predicate<LaneStatus> condition) {
        meters.gauge(
                "lane." + meter,
                "1 while " + description + ", else 0",
                metrics -> metrics.lanes(name).anyMatch(condition) ? 1 : 0);
    }

    /** Registers meters with the same tags in one registry. */
    private record Meters(BatchPersistenceMetrics metrics, MeterRegistry registry, Tags tags) {

        private Gauge.Builder<BatchPersistenceMetrics> builder(
                String meter, String description, ToDoubleFunction<BatchPersistenceMetrics> value) {
            return Gauge.builder(PREFIX + meter, metrics, value)
                    .description(description)
                    .tags(tags);
        }

        void gauge(String meter, String description, ToDoubleFunction<BatchPersistenceMetrics> value) {
            builder(meter, description, value).register(registry);
        }

        void bytes(String meter, String description, ToDoubleFunction<BatchPersistenceMetrics> value) {
            builder(meter, description, value).baseUnit(BaseUnits.BYTES).register(registry);
        }

        void age(String meter, String description, ToDoubleFunction<BatchPersistenceMetrics> millis) {
            TimeGauge.builder(PREFIX + meter, metrics, TimeUnit.MILLISECONDS, millis)
                    .description(description)
                    .tags(tags)
                    .register(registry);
        }

        void counter(String meter, String description, ToDoubleFunction<BatchPersistenceMetrics> value) {
            FunctionCounter.builder(PREFIX + meter, metrics, value)
                    .description(description)
                    .tags(tags)
                    .register(registry);
        }

        void timer(String meter, String description, ToLongFunction<Writes> count, ToLongFunction<Writes> nanos) {
            FunctionTimer.builder(
                            PREFIX + meter,
                            metrics,
                            now -> count.applyAsLong(now.writes()),
                            now -> nanos.applyAsLong(now.writes()),
                            TimeUnit.NANOSECONDS)
                    .description(description)
                    .tags(tags)
                    .register(registry);
        }
    }

    private static ToDoubleFunction<BatchPersistenceMetrics> engine(ToLongFunction<EngineCounters> value) {
        return metrics -> value.applyAsLong(metrics.current().engine());
    }

    private static ToDoubleFunction<BatchPersistenceMetrics> stats(ToDoubleFunction<BatchStats> value) {
        return metrics -> value.applyAsDouble(metrics.current().stats());
    }

    private Writes writes() {
        return current().stats().writes();
    }

    /** A store that doesn't answer doesn't accept batches either. */
    private boolean hasProblem() {
        Snapshot now = current();
        return !now.answers() || now.stats().problem() != null;
    }

    private static double free(Path directory) {
        try {
            return Files.getFileStore(directory).getUsableSpace();
        } catch (IOException e) {
            // The directory was deleted while the store is open; the store reports that itself.
            return Double.NaN;
        }
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

    private static long counted(Map<String, LongAdder> counts, String tag) {
        LongAdder count = counts.get(tag);
        return count == null ? 0 : count.sum();
    }

    private double ageMillis(@Nullable Instant since) {
        return since == null
                ? 0
                : Math.max(0, Duration.between(since, clock.instant()).toMillis());
    }

    /** The lane of a collector type, or all lanes without meters of their own for {@code other}. */
    private Stream<LaneStatus> lanes(String name) {
        Map<String, LaneStatus> lanes = current().lanes();
        if (name.equals(OTHER)) {
            return lanes.entrySet().stream()
                    .filter(lane -> lane.getKey().equals(OTHER) || !named.contains(lane.getKey()))
                    .map(Map.Entry::getValue);
        }
        return Stream.ofNullable(lanes.get(name));
    }

    private double outageMillis(String name) {
        return lanes(name)
                .mapToDouble(lane -> ageMillis(lane.outageSince()))
                .max()
                .orElse(0);
    }

    private Snapshot current() {
        Snapshot last = snapshot;
        return System.nanoTime() - last.takenNanos() < SNAPSHOT_NANOS ? last : take();
    }

    /**
     * If the store doesn't answer, because it is closed for instance, the meters keep their values: metrics must not
     * fail a scrape.
     */
    private Snapshot take() {
        Snapshot last = snapshot;
        Snapshot now;
        try {
            now = new Snapshot(
                    persistence.stats(), persistence.lanes(), persistence.counters(), true, System.nanoTime());
        } catch (RuntimeException e) {
            now = new Snapshot(last.stats(), last.lanes(), last.engine(), false, System.nanoTime());
        }
        snapshot = now;
        return now;
    }
}
