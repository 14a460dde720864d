package io.batchpersistence.engine;

import ch.qos.logback.classic.Level;
import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.UnaryOperator;

/** An engine whose time, threads and collectors the test controls. Jitter is off by default. */
final class Bench implements AutoCloseable {

    static final RecoveryPolicy NO_JITTER = new RecoveryPolicy(Duration.ofSeconds(1), 2, Duration.ofMinutes(5), 0, 10);

    final ManualClock clock = new ManualClock();
    final StepExecutor executor = new StepExecutor();
    final Map<String, CollectorSettings> settings = new HashMap<>();
    final Map<String, RecoveryTarget> targets = new HashMap<>();
    /** Batch ids in the order in which they reached a target. */
    final List<String> sent = new ArrayList<>();

    final List<BatchSummary> dead = new ArrayList<>();
    final List<BatchSummary> expired = new ArrayList<>();
    final List<BatchSummary> evicted = new ArrayList<>();
    final List<CollectorOutage> outages = new ArrayList<>();
    final LogCapture logged = new LogCapture(BatchPersistenceEngine.class);

    CollectorSettings usual = with().retry(NO_JITTER).get();
    private final BatchListener listener = new BatchListener() {
        @Override
        public void onDeadLettered(BatchSummary batch) {
            dead.add(batch);
        }

        @Override
        public void onExpired(BatchSummary batch) {
            expired.add(batch);
        }

        @Override
        public void onEvicted(BatchSummary batch) {
            evicted.add(batch);
        }

        @Override
        public void onOutageOpened(CollectorOutage outage) {
            outages.add(outage);
        }

        @Override
        public void onOutageClosed(CollectorOutage outage) {
            outages.add(outage);
        }
    };
    InMemoryBatchStore store;
    BatchPersistenceEngine engine;

    Bench() {
        this(new InMemoryBatchStore(), builder -> builder);
    }

    Bench(InMemoryBatchStore store, UnaryOperator<EngineBuilder> more) {
        this.store = store;
        build(more);
    }

    private void build(UnaryOperator<EngineBuilder> more) {
        engine = more.apply(BatchPersistenceEngine.builder(store)
                        .settings(type -> settings.getOrDefault(type, usual))
                        .targets(targets::get)
                        .listener(listener)
                        .executor(executor)
                        .announcements(Runnable::run)
                        .random(new SplittableRandom(7))
                        .clock(clock))
                .build();
    }

    /** Reopens the store as after a crash. */
    void restart(UnaryOperator<EngineBuilder> more) {
        store.reopen(clock.instant());
        build(more);
    }

    static Settings with() {
        return new Settings(CollectorSettings.DEFAULT);
    }

    /** Default settings with individual changes. Build a new one for each use. */
    static final class Settings {
        private Duration timeout;
        private Duration ttl;
        private Duration deadLetterTtl;
        private RecoveryPolicy retry;
        private boolean recovery;
        private int concurrency;
        private double maxRate;
        private BatchOrder order;
        private int outageThreshold;
        private Duration maxRetryAfter;
        private boolean replayAfterOutage;

        private Settings(CollectorSettings from) {
            timeout = from.batchTimeout();
            ttl = from.batchTtl();
            deadLetterTtl = from.deadLetterTtl();
            retry = from.retry();
            recovery = from.recovery();
            concurrency = from.concurrency();
            maxRate = from.maxRate();
            order = from.order();
            outageThreshold = from.outageThreshold();
            maxRetryAfter = from.maxRetryAfter();
            replayAfterOutage = from.replayAfterOutage();
        }

        CollectorSettings get() {
            return new CollectorSettings(
                    timeout,
                    ttl,
                    deadLetterTtl,
                    retry,
                    recovery,
                    concurrency,
                    maxRate,
                    order,
                    outageThreshold,
                    maxRetryAfter,
                    replayAfterOutage);
        }

        Settings timeout(Duration timeout) {
            this.timeout = timeout;
            return this;
        }

        Settings retry(RecoveryPolicy retry) {
            this.retry = retry;
            return this;
        }

        Settings recovery(boolean recovery) {
            this.recovery = recovery;
            return this;
        }

        Settings concurrency(int concurrency) {
            this.concurrency = concurrency;
            return this;
        }

        Settings maxRate(double maxRate) {
            this.maxRate = maxRate;
            return this;
        }

        Settings order(BatchOrder order) {
            this.order = order;
            return this;
        }

        Settings outageThreshold(int outageThreshold) {
            this.outageThreshold = outageThreshold;
            return this;
        }

        Settings maxRetryAfter(Duration maxRetryAfter) {
            this.maxRetryAfter = maxRetryAfter;
            return this;
        }

        Settings replayAfterOutage(boolean replayAfterOutage) {
            this.replayAfterOutage = replayAfterOutage;
            return this;
        }

        Settings ttl(Duration ttl, Duration deadLetterTtl) {
            this.ttl = ttl;
            this.deadLetterTtl = deadLetterTtl;
            return this;
        }

        Settings maxRetries(int retries) {
            return retry(new RecoveryPolicy(retry.base(), retry.multiplier(), retry.max(), retry.jitter(), retries));
        }
    }

    Settings usual() {
        return new Settings(usual);
    }

    void sender(String type, BatchSender sender) {
        target(type, RecoveryTarget.of(sender));
    }

    void target(String type, RecoveryTarget target) {
        targets.put(type, batch -> {
            sent.add(batch.batch().id());
            target.handOver(batch);
        });
    }

    /** Registers a target that keeps its batches until the test settles them. */
    List<RecoveredBatch> holdingTarget(String type) {
        List<RecoveredBatch> held = new ArrayList<>();
        target(type, held::add);
        return held;
    }

    void persist(String id) {
        persist(id, "loki");
    }

    void persist(String id, String type) {
        engine.persistBatch(id, Batches.entries(2), type);
    }

    /** Persists a batch whose first send fails. */
    void persistFailed(String id, String reason) {
        persist(id);
        engine.markBatchFailed(id, reason);
    }

    /** Persists batches that are pending and due, as another process leaves them after a crash. */
    void persistDue(String... ids) {
        for (String id : ids) {
            persist(id);
        }
        store.reopen(clock.instant());
        store.onCorruption(damage -> {});
    }

    void tick() {
        engine.recover();
        executor.runAll();
    }

    void tickAfter(Duration time) {
        clock.advance(time);
        tick();
    }

    void ticks(int times, Duration apart) {
        for (int i = 0; i < times; i++) {
            tickAfter(apart);
        }
    }

    BatchSummary summary(String id) {
        return store.list(BatchSelector.all().ids(id), clock.instant()).get(0);
    }

    boolean isHeld(String id) {
        return store.count(BatchSelector.all().ids(id), clock.instant()) == 1;
    }

    BatchState state(String id) {
        return summary(id).state();
    }

    Instant in(Duration time) {
        return clock.instant().plus(time);
    }

    LaneStatus lane() {
        return engine.lanes().get("loki");
    }

    CollectorStats stats() {
        return engine.stats().collector("loki");
    }

    List<String> warnings() {
        return logged.lines(Level.WARN);
    }

    @Override
    public void close() {
        logged.close();
        engine.close();
    }
}
