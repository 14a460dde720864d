package io.batchpersistence.engine;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.spi.BatchStore;
import java.time.Clock;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import java.util.function.LongSupplier;
import java.util.function.UnaryOperator;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/** Builds an engine. Not thread-safe. */
public final class EngineBuilder {

    final BatchStore store;
    Function<String, CollectorSettings> settings = type -> CollectorSettings.DEFAULT;
    OverflowPolicy overflowPolicy = OverflowPolicy.REJECT;
    Duration overflowTimeout = Duration.ofSeconds(5);
    long maxDeadLetterBytes = Long.MAX_VALUE;
    Function<String, @Nullable RecoveryTarget> targets = type -> null;
    UnaryOperator<Map<String, String>> contexts = context -> context;
    List<String> excludedGlobs = List.of();
    FailureClassifier classifier = FailureClassifier.DEFAULT;
    BatchListener listener = new BatchListener() {};
    int threads = BatchPersistenceEngine.DEFAULT_THREADS;
    Duration shutdownTimeout = Duration.ofSeconds(30);

    @Nullable
    ClassLoader classLoader;

    @Nullable
    Executor executor;

    @Nullable
    Executor announcements;

    @Nullable
    Executor completions;

    Clock clock = Clock.systemUTC();
    private @Nullable LongSupplier ticker;
    RandomGenerator random = () -> ThreadLocalRandom.current().nextLong();

    EngineBuilder(BatchStore store) {
        this.store = Objects.requireNonNull(store, "store must not be null");
    }

    /**
     * Sets the function that returns the settings of each collector type.
     *
     * @param byCollectorType quick, thread-safe, never {@code null}; called again in every round of recovery.
     *     Default: {@link CollectorSettings#DEFAULT} for all
     * @return this
     */
    public EngineBuilder settings(Function<String, CollectorSettings> byCollectorType) {
        settings = Objects.requireNonNull(byCollectorType, "settings must not be null");
        return this;
    }

    /**
     * Sets what happens to a new batch when the store is full.
     *
     * @param policy default {@link OverflowPolicy#REJECT}
     * @param timeout how long {@link OverflowPolicy#BLOCK} waits, not negative; default 5 s
     * @return this
     * @throws IllegalArgumentException if the timeout is negative
     */
    public EngineBuilder overflow(OverflowPolicy policy, Duration timeout) {
        overflowPolicy = Objects.requireNonNull(policy, "overflow policy must not be null");
        overflowTimeout = notNegative(timeout, "overflow timeout");
        return this;
    }

    /**
     * Sets a separate limit for dead letters, so that they can't take the space of batches that are still to be
     * sent: the dead letters that were given up first are dropped for newer ones, counted as evicted and announced.
     *
     * @param bytes the limit for all dead letters together, positive; default: no limit but the store's
     * @return this
     * @throws IllegalArgumentException if it is not positive
     */
    public EngineBuilder maxDeadLetterBytes(long bytes) {
        if (bytes <= 0) {
            throw new IllegalArgumentException("the limit of dead letters must be positive, but is " + bytes);
        }
        maxDeadLetterBytes = bytes;
        return this;
    }

    /**
     * Sets the targets that recovery hands batches to.
     *
     * @param byCollectorType quick and thread-safe; if it returns {@code null}, no target handles the collector
     *     type: its batches wait and nothing is attempted. Default: {@code null} for all
     * @return this
     */
    public EngineBuilder targets(Function<String, @Nullable RecoveryTarget> byCollectorType) {
        targets = Objects.requireNonNull(byCollectorType, "targets must not be null");
        return this;
    }

    /**
     * Adds to the context that is kept with a batch, for instance the trace in which it is persisted.
     *
     * @param contexts receives the caller's context, which it must not change, and returns the one to keep. Called
     *     on the thread that persists; what it throws is thrown to that thread, and the batch is not accepted.
     *     Default: keeps the caller's context
     * @return this
     */
    public EngineBuilder contexts(UnaryOperator<Map<String, String>> contexts) {
        this.contexts = Objects.requireNonNull(contexts, "contexts must not be null");
        return this;
    }

    /**
     * Sets which batches recovery leaves alone: those whose last failure reason matches one of these globs. They
     * wait for {@link BatchPersistence#recover(BatchSelector)}, {@code discard} or their TTL.
     *
     * @param globs with {@code *} and {@code ?}, case ignored; default none
     * @return this
     * @throws IllegalArgumentException if one is too long, see {@link BatchSelector#failureReason}
     */
    public EngineBuilder excludeFailureReasons(List<String> globs) {
        globs.forEach(BatchSelector.all()::failureReason);
        excludedGlobs = List.copyOf(globs);
        return this;
    }

    /**
     * Sets how exceptions are classified.
     *
     * @param classifier default {@link FailureClassifier#DEFAULT}
     * @return this
     */
    public EngineBuilder failureClassifier(FailureClassifier classifier) {
        this.classifier = Objects.requireNonNull(classifier, "classifier must not be null");
        return this;
    }

    /**
     * Sets the listener for batches that are given up, and for outages.
     *
     * @param listener default: none
     * @return this
     */
    public EngineBuilder listener(BatchListener listener) {
        this.listener = Objects.requireNonNull(listener, "listener must not be null");
        return this;
    }

    /**
     * Sets how long {@link BatchPersistenceEngine#close()} waits for running targets.
     *
     * @param timeout not negative; default 30 s
     * @return this
     * @throws IllegalArgumentException if the timeout is negative
     */
    public EngineBuilder shutdownTimeout(Duration timeout) {
        shutdownTimeout = notNegative(timeout, "shutdown timeout");
        return this;
    }

    /**
     * Sets the context class loader of the engine's own threads, which call senders and listeners. These threads
     * inherit nothing from the thread that happens to start them, neither its class loader nor its {@link
     * InheritableThreadLocal}s.
     *
     * @param applicationClasses the application's; default: the context class loader of the thread that builds the
     *     engine
     * @return this
     */
    public EngineBuilder classLoader(ClassLoader applicationClasses) {
        classLoader = Objects.requireNonNull(applicationClasses, "class loader must not be null");
        return this;
    }

    /**
     * Sets the executor that runs hand-overs and calls the listener. Dependent stages of {@code persistBatchAsync}
     * futures run on the engine's own daemon threads instead.
     *
     * @param executor must run every task that it does not refuse, each on a thread other than the caller's. When
     *     it has no thread for a round's task, a collector type that holds no thread is served by one of the
     *     engine's own daemon threads, one batch at a time. Not shut down by the engine. Default: daemon threads,
     *     as many as there are batches being sent, but at most {@link #threads}
     * @return this
     */
    public EngineBuilder executor(Executor executor) {
        this.executor = Objects.requireNonNull(executor, "executor must not be null");
        return this;
    }

    /** Sets the executor that calls the listener, for tests. Default: the executor that runs hand-overs. */
    EngineBuilder announcements(Executor executor) {
        announcements = executor;
        return this;
    }

    /** Sets the executor that completes the futures of callers, for tests. */
    EngineBuilder completions(Executor executor) {
        completions = executor;
        return this;
    }

    /**
     * Sets the maximum number of the engine's own threads, not counting one reserve thread for each collector type:
     * when all threads are in use, a collector type that holds none is served by its reserve thread, one batch at a
     * time, so that no collector waits for another.
     *
     * @param most at least 1; default 256
     * @return this
     * @throws IllegalArgumentException if {@code most} is less than 1
     */
    public EngineBuilder threads(int most) {
        if (most < 1) {
            throw new IllegalArgumentException("threads must be at least 1, but are " + most);
        }
        threads = most;
        return this;
    }

    /**
     * Sets the clock.
     *
     * @param clock default: the system clock, which is checked against {@link System#nanoTime()}, so that a jump
     *     makes nothing expire, time out or wait for long; any other clock is trusted unless a {@linkplain #ticker
     *     ticker} is set
     * @return this
     */
    public EngineBuilder clock(Clock clock) {
        this.clock = Objects.requireNonNull(clock, "clock must not be null");
        return this;
    }

    /**
     * Sets the monotonic time source that the clock is checked against.
     *
     * @param nanos nanoseconds since an arbitrary origin, which advance with real time and never jump; default: see
     *     {@link #clock}
     * @return this
     */
    public EngineBuilder ticker(LongSupplier nanos) {
        this.ticker = Objects.requireNonNull(nanos, "ticker must not be null");
        return this;
    }

    @Nullable
    LongSupplier ticker() {
        boolean system = clock.equals(Clock.system(clock.getZone()));
        return ticker == null && system ? System::nanoTime : ticker;
    }

    /**
     * Sets the source of jitter.
     *
     * @param random thread-safe; default: {@link ThreadLocalRandom}
     * @return this
     */
    public EngineBuilder random(RandomGenerator random) {
        this.random = Objects.requireNonNull(random, "random must not be null");
        return this;
    }

    /**
     * Builds the engine and decides anew which batches are left alone. If the store can't be reached, a later round
     * of recovery does that as soon as it can be; until then nothing is sent and nothing expires.
     *
     * @return ready to use
     */
    public BatchPersistenceEngine build() {
        BatchPersistenceEngine engine = new BatchPersistenceEngine(this);
        engine.start();
        return engine;
    }

    private static Duration notNegative(Duration value, String name) {
        if (value.isNegative()) {
            throw new IllegalArgumentException(name + " must not be negative, but is " + value);
        }
        return value;
    }
}
