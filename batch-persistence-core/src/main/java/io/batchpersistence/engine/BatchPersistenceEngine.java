package io.batchpersistence.engine;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchRejectedException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.EngineCounters;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Kind;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LogEntry;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.internal.log.DeferredLog;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.FailureDecision;
import io.batchpersistence.spi.BatchStore.Lease;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.spi.SharedOutages.Outage;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.LongSupplier;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.MDC;

/**
 * Makes the decisions on top of a {@link BatchStore}: how long a batch may be in flight, when it is tried again, when
 * it is given up, what happens when the store is full, and how fast each collector type is served. Thread-safe.
 *
 * <pre>{@code
 * BatchPersistence persistence = BatchPersistenceEngine.builder(store)
 *         .targets(type -> RecoveryTarget.of(senders.get(type)))
 *         .build();
 * scheduler.scheduleWithFixedDelay(persistence::recover, 1, 1, SECONDS);
 * scheduler.scheduleWithFixedDelay(persistence::cleanup, 1, 1, MINUTES);
 * }</pre>
 *
 * <h2>How recovery works</h2>
 *
 * {@link #recover()} starts one task that looks at every collector type's lane in turn. When the task gets a batch from
 * a lane, it passes the remaining lanes to a new task before it hands the batch over, and stays with its lane until
 * nothing is due or the lane refuses: a sender that hangs blocks only its own slot, and idle lanes cost no thread. A
 * batch is claimed by the thread that hands it over, so an executor that refuses work never leaves a claimed batch
 * unsent.
 *
 * <p>Threads are limited, and senders that hang may occupy all of them. So that no collector type has to wait for
 * another one's senders, each can have one thread beyond the limit: when the executor refuses a round's task, or has
 * not started the previous round's task, while some lane holds a thread, the lanes that hold none are served by reserve
 * threads, one each.
 *
 * <p>Instances that share a store also share their knowledge of outages, if the store supports that ({@link
 * SharedOutages}): each round publishes what could not be published before and reads what other instances have found
 * out, and an instance asks for permission before it sends a probe. If that fails, an instance relies on its own
 * observations.
 *
 * <p>While a target runs, the SLF4J MDC has {@code batchId} and {@code collectorType}.
 *
 * <p>The engine owns its store: {@link #close()} closes it.
 */
public final class BatchPersistenceEngine implements BatchPersistence {

    private static final Logger log = LogSanitizer.logger(BatchPersistenceEngine.class);

    /** Space may become free without a removal by this engine, for instance when a file is released late. */
    private static final long SPACE_RECHECK_NANOS = TimeUnit.MILLISECONDS.toNanos(250);

    /**
     * The number of evictions doubles from 1 up to this, so that making room for a large batch does not take thousands
     * of rounds.
     */
    private static final int MAX_EVICTED_PER_APPEND = 256;

    private static final int TIMED_OUT_CHUNK_SIZE = 1_000;
    private static final int EXPIRED_CHUNK_SIZE = 1_000;
    private static final double RETRY_AFTER_JITTER = 0.1;

    /** Limits how long {@link #close()} tries to notify other instances through a store that does not answer. */
    private static final Duration OUTAGE_WITHDRAWAL_TIMEOUT = Duration.ofSeconds(2);

    /**
     * Maximum number of the engine's own threads: enough for as many collectors to hang at the same time, too few to
     * harm the host.
     */
    private static final int DEFAULT_THREADS = 256;
    /** Maximum number of collector types that have a reserve thread at a time; chosen like {@link #DEFAULT_THREADS}. */
    private static final int RESERVE_THREADS = 256;

    private static final String MDC_BATCH = "batchId";
    private static final String MDC_COLLECTOR = "collectorType";

    private final BatchStore store;
    private final Function<String, CollectorSettings> settings;
    private final Function<String, @Nullable RecoveryTarget> targets;
    private final UnaryOperator<Map<String, String>> contexts;
    private final OverflowPolicy overflowPolicy;
    private final Duration overflowTimeout;
    private final long maxDeadLetterBytes;
    private final List<String> excludedGlobs;
    private final List<Predicate<String>> excluded;
    private final FailureClassifier classifier;
    private final ListenerDispatcher dispatcher;
    private final Duration shutdownTimeout;
    private final Executor executor;
    private final @Nullable ExecutorService ownExecutor;
    /** Serves lanes that hold no thread while other lanes hold all threads. */
    private final ExecutorService reserve;

    private final Executor completions;
    private final @Nullable Completions ownCompletions;
    private final SlewedClock clock;
    private final Instant startedAt;
    private final RandomGenerator random;

    /** {@code null} if no other instance uses the store. */
    private final @Nullable SharedOutages outages;
    /** See {@link Lane#applyRemote}. */
    private final @Nullable AtomicLong outageChanges;

    private final ConcurrentMap<String, Lane> lanes = new ConcurrentHashMap<>();
    /** The claims that are not over yet, by batch id. */
    private final ConcurrentMap<String, InFlightBatch> inFlightById = new ConcurrentHashMap<>();
    /** The hand-overs whose target is running. */
    private final Set<InFlightBatch> executing = ConcurrentHashMap.newKeySet();

    /** The collector types that an operator has paused: a copy of what the store knows, for quick look-ups. */
    private final Set<String> paused = ConcurrentHashMap.newKeySet();
    /**
     * Held while {@link #paused} is synchronized with the store, so that an older answer does not replace a newer one.
     */
    private final ReentrantLock pausing = new ReentrantLock();

    private final ThrottledFailureLog failureLog = new ThrottledFailureLog(log);

    private final AtomicBoolean scanQueued = new AtomicBoolean();
    private final SpaceSignal spaceSignal = new SpaceSignal();
    private final ReentrantLock evicting = new ReentrantLock();
    private final InFlightBatch.SettlementHandler settlement = new ClaimSettlement();

    private final ReentrantLock closeLock = new ReentrantLock();
    private final ReentrantLock workersLock = new ReentrantLock();
    private final Condition workerLeft = workersLock.newCondition();
    /**
     * The threads that are claiming a batch or handing one over; a thread is in here more than once if calls are
     * nested.
     */
    private final List<Thread> workers = new ArrayList<>();

    // ---- counters, see EngineCounters
    private final LongAdder refusedFull = new LongAdder();
    private final LongAdder refusedError = new LongAdder();
    private final LongAdder replayed = new LongAdder();
    private final LongAdder timedOut = new LongAdder();
    /**
     * Ids of batches that are in flight although no thread is sending them, because releasing them to recovery failed.
     */
    private final Set<String> unreleased = ConcurrentHashMap.newKeySet();

    /**
     * Whether what the previous process left has been taken over, see {@link #takeOver}, as far as it could be reached.
     */
    private volatile boolean started;
    /** Whether all of it could be reached. */
    private volatile boolean startedWhole;
    /** Whether the store could not be reached when the engine was built. */
    private volatile boolean late;

    private volatile boolean closing;
    private volatile boolean closed;

    private BatchPersistenceEngine(Builder builder) {
        store = builder.store;
        outages = store.sharedOutages();
        outageChanges = outages == null ? null : new AtomicLong();
        settings = builder.settings;
        targets = builder.targets;
        contexts = builder.contexts;
        overflowPolicy = builder.overflowPolicy;
        overflowTimeout = builder.overflowTimeout;
        maxDeadLetterBytes = builder.maxDeadLetterBytes;
        excludedGlobs = builder.excludedGlobs;
        excluded = excludedGlobs.stream().map(BatchSelector::glob).toList();
        classifier = builder.classifier;
        shutdownTimeout = builder.shutdownTimeout;
        ClassLoader given = builder.classLoader;
        ClassLoader classes = given != null ? given : Thread.currentThread().getContextClassLoader();
        ownExecutor = builder.executor == null ? ownThreads(builder.threads, "", classes) : null;
        executor = builder.executor == null ? Objects.requireNonNull(ownExecutor) : builder.executor;
        reserve = ownThreads(RESERVE_THREADS, "reserve-", classes);
        ownCompletions = builder.completions == null ? new Completions(threads("completion-", classes)) : null;
        completions = builder.completions == null ? Objects.requireNonNull(ownCompletions) : builder.completions;
        Boolean holding = isHolding(store);
        clock = new SlewedClock(
                builder.clock, builder.ticker(), holding == null || holding, holding == null ? null : store.lastUsed());
        late = holding == null;
        startedAt = clock.steady();
        random = builder.random;
        Executor telling = builder.announcements;
        dispatcher = new ListenerDispatcher(
                builder.listener,
                log,
                telling == null
                        ? this::execute
                        : task -> {
                            telling.execute(task);
                            return true;
                        });
    }

    /**
     * Starts building an engine.
     *
     * @param store where batches are kept; owned and closed by the engine once built
     * @return the builder
     */
    public static Builder builder(BatchStore store) {
        return new Builder(store);
    }

    /**
     * An implementation that stores nothing, so that application code need not change where persistence is switched
     * off. Arguments are checked as usual; {@code persistBatch} returns normally, marks return {@code false},
     * everything else is empty or zero, and {@code close} does nothing.
     *
     * @return stateless, thread-safe
     */
    public static BatchPersistence disabled() {
        return new NoOpBatchPersistence();
    }

    /**
     * Tasks are not queued: what is refused is looked at again in the next round, fairly, and nothing is claimed for
     * it.
     */
    private static ExecutorService ownThreads(int most, String name, @Nullable ClassLoader classes) {
        return new ThreadPoolExecutor(0, most, 30, TimeUnit.SECONDS, new SynchronousQueue<>(), threads(name, classes));
    }

    private static ThreadFactory threads(String name, @Nullable ClassLoader classes) {
        AtomicInteger number = new AtomicInteger();
        return task -> Threads.of("batch-persistence-" + name + number.incrementAndGet(), classes, task);
    }

    int callersWaitingForSpace() {
        return spaceSignal.waiting();
    }

    boolean isClosing() {
        return closing;
    }

    /**
     * Whether the store holds anything that may expire; {@code null} if the store, or a part of it, can't be reached.
     */
    private static @Nullable Boolean isHolding(BatchStore store) {
        try {
            return !store.isFullyReachable()
                    ? null
                    : (Boolean) !store.collectorTypes().isEmpty();
        } catch (BatchPersistenceException e) {
            return null;
        }
    }

    private void start() {
        store.onCorruption(dispatcher::corrupted);
        store.useSettings(this::settingsFor);
        try {
            takeOver();
        } catch (BatchPersistenceException e) {
            failureLog.failed("looking for what the store holds", e, clock.steady());
            late = true;
        }
    }

    /**
     * Takes over what the previous process left: decides anew which batches recovery leaves alone, by the current
     * rules. Until that is done nothing is handed out, because it is not known what is paused, and nothing expires.
     * Safe to repeat if it failed half way.
     */
    private void takeOver() {
        boolean whole = store.isFullyReachable();
        if (late) {
            // While the store could not be reached nothing could have been sent, so that time does not count towards
            // any TTL.
            clock.storeOpened(store.lastUsed());
        }
        refreshPaused();
        Instant now = clock.steady();
        withLanes(
                () -> {
                    store.correctWaits(now, type -> knownLane(type).settings().batchTtl());
                    return null;
                },
                lane -> {});
        correctAges();
        store.releaseHeld(now);
        BatchSelector pending = BatchSelector.all().states(BatchState.PENDING);
        for (String glob : excludedGlobs) {
            store.reschedule(pending.failureReason(glob), now, null);
        }
        for (String type : store.collectorTypes()) {
            if (!lane(type).settings().recovery()) {
                store.reschedule(pending.collectorTypes(type), now, null);
            }
        }
        startedWhole = whole && store.isFullyReachable();
        started = true;
    }

    /**
     * Whether everything that can be reached has been taken over: if more has become reachable since, that is taken
     * over first.
     */
    private boolean hasTakenOver() {
        return started && (startedWhole || !store.isFullyReachable());
    }

    // ---------------------------------------------------------------- persist

    @Override
    public void persistBatch(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        ensureOpen();
        persist(new PersistRequest(newBatch(batchId, entries, collectorType, context)));
    }

    private void persist(PersistRequest request) {
        Throwable failure = await(append(request, true));
        if (failure != null) {
            countRefused(failure);
            throw unchecked(failure);
        }
    }

    @Override
    public void persistUnsent(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        ensureOpen();
        // The batch is invisible to others until the commit, and may never be committed.
        if (store.joinsTransaction()) {
            persist(new PersistRequest(newBatch(batchId, entries, collectorType, context), true));
            return;
        }
        persistBatch(batchId, entries, collectorType, context);
        try {
            releaseBatch(batchId);
        } catch (RuntimeException e) {
            // The batch is held: throwing would tell the caller that it still owns the batch.
            log.warn("batch '{}' could not be handed to recovery yet; it is after its batch timeout", batchId, e);
        }
    }

    @Override
    public void recoverSoon(String collectorType) {
        ensureOpen();
        pump(lane(NewBatch.checkedCollectorType(collectorType)));
    }

    /** A batch to be persisted; its last version, with a new lease, if it had to wait for room. */
    private static final class PersistRequest {
        NewBatch batch;
        /** Whether recovery sends the batch, as soon as the transaction that it is part of is committed. */
        final boolean unsent;

        PersistRequest(NewBatch batch) {
            this(batch, false);
        }

        PersistRequest(NewBatch batch, boolean unsent) {
            this.batch = batch;
            this.unsent = unsent;
        }
    }

    @Override
    public CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        try {
            ensureOpen();
            return detached(append(new PersistRequest(newBatch(batchId, entries, collectorType, context)), false));
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private void countRefused(@Nullable Throwable failure) {
        if (failure instanceof BatchRejectedException) {
            refusedFull.increment();
        } else if (failure instanceof BatchPersistenceException && !(failure instanceof DuplicateBatchException)) {
            refusedError.increment();
        }
    }

    private NewBatch newBatch(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        Instant now = clock.wall();
        return leased(new NewBatch(batchId, collectorType, entries, contexts.apply(context), now, now));
    }

    private NewBatch leased(NewBatch batch) {
        Duration timeout = lane(batch.collectorType()).settings().batchTimeout();
        return new NewBatch(
                batch.id(),
                batch.collectorType(),
                batch.entries(),
                batch.context(),
                clock.wall(),
                Times.after(clock.steady(), timeout));
    }

    /**
     * Appends a batch, and applies the overflow policy if the store is full.
     *
     * @param waits whether to wait for the disk, so that the policy also applies if the store finds out late that it is
     *     full
     */
    private CompletableFuture<@Nullable Void> append(PersistRequest request, boolean waits) {
        long removals = spaceSignal.removals();
        CompletableFuture<@Nullable Void> durable = tryAppend(request, waits);
        BatchRejectedException full = rejection(durable, waits);
        if (full == null) {
            return durable;
        }
        return switch (overflowPolicy) {
            case REJECT -> durable;
            case BLOCK -> appendWhenSpace(request, full, removals, waits);
            case DROP_OLDEST -> appendEvicting(request, waits);
        };
    }

    private CompletableFuture<@Nullable Void> appendWhenSpace(
            PersistRequest request, BatchRejectedException first, long removalsBefore, boolean waits) {
        long began = System.nanoTime();
        long timeout = SpaceSignal.nanos(overflowTimeout);
        BatchRejectedException full = first;
        long removals = removalsBefore;
        while (true) {
            long left = timeout - (System.nanoTime() - began);
            if (left <= 0) {
                return CompletableFuture.failedFuture(new BatchRejectedException("no room after waiting "
                        + overflowTimeout + " for it (overflow policy block; raise the overflow timeout, or): "
                        + full.getMessage()));
            }
            try {
                spaceSignal.await(removals, Math.min(left, SPACE_RECHECK_NANOS));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return CompletableFuture.failedFuture(new BatchRejectedException(
                        "interrupted while waiting for room (overflow policy block): " + full.getMessage()));
            }
            ensureOpen();
            removals = spaceSignal.removals();
            request.batch = leased(request.batch);
            CompletableFuture<@Nullable Void> durable = tryAppend(request, waits);
            BatchRejectedException again = rejection(durable, waits);
            if (again == null) {
                return durable;
            }
            full = again;
        }
    }

    private CompletableFuture<@Nullable Void> appendEvicting(PersistRequest request, boolean waits) {
        while (true) {
            List<BatchSummary> evicted = new ArrayList<>();
            CompletableFuture<@Nullable Void> durable;
            try {
                durable = evictAndAppend(request, evicted);
            } finally {
                if (!evicted.isEmpty()) {
                    evicted.forEach(dispatcher::evicted);
                    spaceSignal.signal();
                }
            }
            if (evicted.isEmpty() || rejection(durable, waits) == null) {
                return durable;
            }
        }
    }

    /**
     * Only one thread evicts at a time, because several would otherwise evict for the same batch. Does not wait for the
     * disk.
     */
    private CompletableFuture<@Nullable Void> evictAndAppend(PersistRequest request, List<BatchSummary> evicted) {
        boolean begun = DeferredLog.begin();
        evicting.lock();
        try {
            CompletableFuture<@Nullable Void> durable = tryAppend(request, false);
            for (int count = 1;
                    rejection(durable, false) != null;
                    count = Math.min(2 * count, MAX_EVICTED_PER_APPEND)) {
                List<BatchSummary> gone = store.evictOldest(count);
                if (gone.isEmpty()) {
                    return durable;
                }
                evicted.addAll(gone);
                durable = tryAppend(request, false);
                if (rejection(durable, false) != null) {
                    // Evicted batches may still take space on disk.
                    store.reclaim();
                    durable = tryAppend(request, false);
                }
            }
            return durable;
        } finally {
            evicting.unlock();
            DeferredLog.end(begun);
        }
    }

    private CompletableFuture<@Nullable Void> tryAppend(PersistRequest request, boolean waits) {
        NewBatch batch = request.batch;
        try {
            unreleased.remove(batch.id());
            if (request.unsent) {
                boolean sends = lane(batch.collectorType()).settings().recovery();
                return store.appendUnsent(batch, sends ? clock.steady() : null);
            }
            return waits ? store.appendAndWait(batch) : store.append(batch);
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private static @Nullable BatchRejectedException rejection(CompletableFuture<?> durable, boolean waits) {
        if (!waits && !durable.isDone()) {
            return null;
        }
        return await(durable) instanceof BatchRejectedException full ? full : null;
    }

    /**
     * Waits as long as it takes: giving up would leave it unknown whether the batch is held. An interrupt is restored
     * for the caller.
     */
    private static @Nullable Throwable await(CompletableFuture<?> future) {
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    future.get();
                    return null;
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (ExecutionException e) {
                    return unwrapped(e);
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static Throwable unwrapped(Throwable thrown) {
        Throwable cause = thrown.getCause();
        return (thrown instanceof ExecutionException || thrown instanceof CompletionException) && cause != null
                ? cause
                : thrown;
    }

    private static RuntimeException unchecked(Throwable failure) {
        if (failure instanceof RuntimeException unchecked) {
            return unchecked;
        }
        if (failure instanceof Error error) {
            throw error;
        }
        return new BatchPersistenceException("the batch could not be persisted: " + failure, failure);
    }

    /**
     * Returns a future of the caller's own: cancelling it does not reach into the store, and dependent stages (for
     * instance sending the batch) do not run on the thread that syncs all batches, which they would block. They do not
     * run on the executor either: it may run them on the calling thread, and its threads are for sending.
     */
    private CompletableFuture<@Nullable Void> detached(CompletableFuture<@Nullable Void> durable) {
        CompletableFuture<@Nullable Void> result = new CompletableFuture<>();
        if (durable.isDone()) {
            complete(result, await(durable));
        } else {
            var unused = durable.whenComplete((nothing, thrown) ->
                    completions.execute(() -> complete(result, thrown == null ? null : unwrapped(thrown))));
        }
        return result;
    }

    private void complete(CompletableFuture<@Nullable Void> result, @Nullable Throwable failure) {
        countRefused(failure);
        if (failure == null) {
            result.complete(null);
        } else {
            result.completeExceptionally(failure);
        }
    }

    // ---------------------------------------------------------------- deliver

    @Override
    public DeliveryResult deliver(
            String batchId,
            List<LogEntry> entries,
            String collectorType,
            Map<String, String> context,
            BatchSender sender) {
        Objects.requireNonNull(sender, "sender must not be null");
        ensureOpen();
        NewBatch batch = newBatch(batchId, entries, collectorType, context);
        if (store.joinsTransaction()) {
            // If it were sent now, it would be sent even if the transaction is rolled back, marks would not find the
            // batch, and the transaction would hold its connection while it waits for the collector.
            throw new IllegalStateException("batch '" + batchId
                    + "' can't be delivered within a transaction that batches are part of: it must not be sent before the commit."
                    + " Persist it and send it after the commit, or call deliver outside of the transaction; with Spring,"
                    + " BatchDelivery does that by itself");
        }
        PersistRequest request = new PersistRequest(batch);
        persist(request);
        try {
            return sendFirst(request.batch, sender);
        } catch (Throwable e) {
            // Throwing would tell the caller that it still owns the batch.
            log.warn(
                    "batch '{}' is persisted, but was not sent; recovery does that after its batch timeout",
                    batchId,
                    e);
            return new DeliveryResult(Outcome.PENDING, e);
        }
    }

    /**
     * Sends on the caller's thread if the lane permits it. Takes as long as the sender does; {@link #close()} waits for
     * it as for any other hand-over.
     */
    private DeliveryResult sendFirst(NewBatch batch, BatchSender sender) {
        boolean entered = enter();
        try {
            Lane lane = lane(batch.collectorType());
            Lane.Permit permit =
                    entered && mayReceive(batch.collectorType()) ? lane.tryAcquireFirstSend(clock.steady()) : null;
            if (permit == null) {
                releaseBatch(batch.id());
                return new DeliveryResult(Outcome.PENDING, null);
            }
            PersistedBatch first = new PersistedBatch(
                    batch.id(),
                    batch.entries(),
                    batch.collectorType(),
                    batch.createdAt(),
                    null,
                    batch.leaseUntil(),
                    0,
                    null,
                    batch.context(),
                    BatchState.IN_FLIGHT);
            InFlightBatch inFlight =
                    new InFlightBatch(new Claim(first, BatchStore.ANY_FENCE), lane, permit, settlement, Duration.ZERO);
            inFlightById.put(batch.id(), inFlight);
            return sendFirst(inFlight, sender);
        } finally {
            if (entered) {
                leave();
            }
        }
    }

    private DeliveryResult sendFirst(InFlightBatch inFlight, BatchSender sender) {
        AtomicBoolean sent = new AtomicBoolean();
        Throwable failure = null;
        try {
            run(inFlight, recovered -> {
                sender.send(recovered.batch());
                sent.set(true);
            });
        } catch (Throwable t) {
            // Whatever was thrown, this engine has to settle the batch.
            failure = t;
        }
        boolean interruptedByOthers = isInterruptOfOthers(inFlight, failure);
        try {
            if (failure != null && !closed) {
                settleThrown(inFlight, failure);
            } else if (sent.get()) {
                inFlight.acknowledge();
            }
        } catch (RuntimeException e) {
            log.warn(
                    "batch '{}' was sent, but could not be marked; it is sent once more",
                    inFlight.batch().id(),
                    e);
        } finally {
            inFlight.abandonedByWorker();
            if (interruptedByOthers) {
                Thread.currentThread().interrupt();
            }
        }
        return new DeliveryResult(
                sent.get() ? Outcome.DELIVERED : isDead(inFlight) ? Outcome.DEAD : Outcome.PENDING, failure);
    }

    private boolean isDead(InFlightBatch inFlight) {
        try {
            return store.count(BatchSelector.all().ids(inFlight.batch().id()).states(BatchState.DEAD), clock.wall())
                    > 0;
        } catch (RuntimeException e) {
            // The batch is held in any case.
            return false;
        }
    }

    // ------------------------------------------------------------------- mark

    @Override
    public boolean markBatchSuccess(String batchId) {
        ensureOpen();
        return isPossibleId(batchId) && delivered(batchId);
    }

    @Override
    public boolean markBatchFailed(String batchId, String reason) {
        return markBatchFailed(batchId, Failure.transientFailure(reason));
    }

    @Override
    public boolean markBatchFailed(String batchId, Throwable cause) {
        return markBatchFailed(batchId, Failure.of(cause, classifier));
    }

    private boolean markBatchFailed(String batchId, Failure failure) {
        ensureOpen();
        InFlightBatch inFlight = inFlightById.get(batchId);
        if (!isPossibleId(batchId) || !failed(batchId, null, BatchStore.ANY_FENCE, failure, inFlight)) {
            return false;
        }
        if (inFlight != null) {
            detach(inFlight);
        }
        return true;
    }

    @Override
    public boolean releaseBatch(String batchId) {
        ensureOpen();
        if (!isPossibleId(batchId)) {
            return false;
        }
        InFlightBatch inFlight = inFlightById.get(batchId);
        Instant now = clock.steady();
        Settled settled;
        try {
            settled = withLanes(
                    () -> store.released(
                            batchId,
                            type -> knownLane(type).settings().recovery() ? Optional.of(now) : Optional.empty()),
                    lane -> {});
            unreleased.remove(batchId);
        } catch (BatchPersistenceException e) {
            unreleased.add(batchId);
            throw e;
        }
        if (settled == null) {
            return false;
        }
        if (inFlight != null) {
            detach(inFlight);
        }
        pump(lane(settled.collectorType()));
        return true;
    }

    /**
     * Ids that no batch can have are treated as unknown here, because a store or its database might interpret them
     * differently.
     */
    private static boolean isPossibleId(String batchId) {
        return NewBatch.isPossibleId(Objects.requireNonNull(batchId, "batch id must not be null"));
    }

    private boolean delivered(String batchId) {
        InFlightBatch claimed = inFlightById.get(batchId);
        Settled settled = store.delivered(batchId);
        if (settled == null) {
            return false;
        }
        if (claimed != null) {
            detach(claimed);
        }
        spaceSignal.signal();
        Lane lane = lanes.get(settled.collectorType());
        if (lane != null) {
            answered(lane);
        }
        return true;
    }

    private void answered(Lane lane) {
        Instant now = clock.steady();
        Lane.Ended outage = lane.answered(now);
        if (outage != null) {
            boolean first = sendNotices(lane);
            dispatcher.outageClosed(ended(lane.collectorType, outage, now, true, first));
            if (lane.settings().replayAfterOutage()) {
                Runnable replay = () -> runGuarded(
                        "replaying dead letters for collector '" + lane.collectorType + "'",
                        () -> replayAfterOutage(lane));
                if (!execute(replay)) {
                    // Other lanes may hold all threads, and the replay is not tried again.
                    executeOnReserve(replay);
                }
            }
        }
    }

    /** Replays the dead letters that used up their retries; those that the collector rejected have retries left. */
    private void replayAfterOutage(Lane lane) {
        if (closing) {
            return;
        }
        BatchSelector usedUp = BatchSelector.all()
                .collectorTypes(lane.collectorType)
                .states(BatchState.DEAD)
                .retries(lane.settings().retry().maxRetries(), Integer.MAX_VALUE);
        long count = store.replay(usedUp, clock.steady(), Duration.ZERO);
        if (count > 0) {
            replayed.add(count);
            log.info("collector '{}': {} dead letters are replayed after its outage", lane.collectorType, count);
            pump(lane);
        }
    }

    private static CollectorOutage ended(
            String collectorType, Lane.Ended outage, Instant now, boolean answered, boolean foundHere) {
        Instant until = now.isBefore(outage.since()) ? outage.since() : now;
        return new CollectorOutage(collectorType, outage.since(), until, answered, outage.probes(), null, foundHere);
    }

    /** @param collectorType the batch's, if it is known */
    private boolean failed(
            String batchId,
            @Nullable String collectorType,
            long fence,
            Failure failure,
            @Nullable InFlightBatch inFlight) {
        Instant now = clock.wall();
        Decision decision = new Decision(batchId, failure, inFlight);
        String known = inFlight != null ? inFlight.batch().collectorType() : collectorType;
        (known != null ? List.of(lane(known)) : lanes.values()).forEach(decision::prepare);
        Settled settled =
                withLanes(() -> store.failed(batchId, fence, failure.reason(), now, decision), decision::prepare);
        if (settled == null) {
            return false;
        }
        decision.report();
        if (settled.state() == BatchState.DEAD) {
            announceDead(batchId, now);
            runGuarded("dropping dead letters beyond their bound", this::evictDeadLetters);
        }
        return true;
    }

    private void evictDeadLetters() {
        if (maxDeadLetterBytes == Long.MAX_VALUE) {
            return;
        }
        List<BatchSummary> gone;
        do {
            gone = store.evictDeadLetters(maxDeadLetterBytes, MAX_EVICTED_PER_APPEND);
            gone.forEach(dispatcher::evicted);
            if (!gone.isEmpty()) {
                spaceSignal.signal();
            }
        } while (gone.size() == MAX_EVICTED_PER_APPEND);
    }

    private void announceDead(String batchId, Instant now) {
        try {
            store.list(BatchSelector.all().ids(batchId).states(BatchState.DEAD), now)
                    .forEach(dispatcher::deadLettered);
        } catch (RuntimeException e) {
            log.error("batch '{}' is a dead letter, but could not be read to announce it", batchId, e);
        }
    }

    private boolean isExcluded(String reason) {
        return excluded.stream().anyMatch(glob -> glob.test(reason));
    }

    /**
     * Decides what becomes of a failed batch. The store calls {@link #decide} under its lock or in a transaction, so
     * everything that needs a lock or the application's code has been prepared before, and the lane is told afterwards.
     */
    private final class Decision implements FailureDecision {
        private record Prospect(Lane lane, CollectorSettings settings, Lane.Consequence consequence) {}

        private final String batchId;
        private final Failure failure;
        private final Lane.@Nullable Permit permit;
        private final int knownRetryCount;
        private final Instant now = clock.steady();
        private final boolean held;
        private final RandomGenerator backoffJitter;
        private final double retryAfterFactor;
        private final Map<String, Prospect> prospects = new HashMap<>();
        // Set by the store's call.
        private @Nullable Prospect decided;
        private int retryCount;
        private @Nullable Instant due;

        Decision(String batchId, Failure failure, @Nullable InFlightBatch inFlight) {
            this.batchId = batchId;
            this.failure = failure;
            permit = inFlight == null ? null : inFlight.permit();
            knownRetryCount = inFlight == null ? 0 : inFlight.batch().retryCount();
            held = isExcluded(failure.reason());
            long drawn = random.nextLong();
            backoffJitter = () -> drawn;
            retryAfterFactor = 1 + RETRY_AFTER_JITTER * random.nextDouble();
        }

        void prepare(Lane lane) {
            prospects.put(
                    lane.collectorType,
                    new Prospect(
                            lane, lane.settings(), lane.consequence(permit, batchId, knownRetryCount, failure, now)));
        }

        @Override
        public Verdict decide(String collectorType, int retryCount) {
            Prospect prospect = prospects.get(collectorType);
            if (prospect == null) {
                throw new UnknownLaneException(collectorType);
            }
            decided = prospect;
            this.retryCount = retryCount;
            if (failure.kind() == Kind.PERMANENT) {
                // The retry count does not change, because it was not what made this batch a dead letter, see
                // replayAfterOutage.
                return new Verdict(true, null, retryCount);
            }
            CollectorSettings settings = prospect.settings();
            Lane.Consequence consequence = prospect.consequence();
            int retries = consequence.counts() ? retryCount + 1 : retryCount;
            if (consequence.counts() && retries >= settings.retry().maxRetries()) {
                return new Verdict(true, null, retries);
            }
            due = held || !settings.recovery() ? null : due(settings, consequence);
            return new Verdict(false, due, retries);
        }

        private Instant due(CollectorSettings settings, Lane.Consequence consequence) {
            Lane.FailedProbe probe = consequence.probe();
            Instant own = probe != null
                    ? probe.pushedTo()
                    : Times.after(
                            now, settings.retry().delayAfter(retryCount + 1 + consequence.inARow(), backoffJitter));
            if (failure.kind() != Kind.RETRY_AFTER || failure.delay().isZero()) {
                return own;
            }
            Instant wanted =
                    Times.after(now, scaled(Lane.cappedRetryAfter(failure.delay(), settings), retryAfterFactor));
            return wanted.isAfter(own) ? wanted : own;
        }

        /** Updates the lane of a batch that has failed indeed. */
        void report() {
            Prospect prospect = Objects.requireNonNull(decided, "the store has asked for the decision");
            Lane lane = prospect.lane();
            if (failure.kind() == Kind.PERMANENT) {
                answered(lane);
                return;
            }
            boolean opened = lane.failed(permit, batchId, retryCount, failure, prospect.consequence(), now);
            if (due == null) {
                lane.forgetProbed(batchId);
            }
            if (failure.kind() == Kind.RETRY_AFTER && lane.isFirstCut(failure.delay())) {
                log.warn(
                        "collector '{}' asks to send batch '{}' again after {} only, which is taken as {}, the longest wait that"
                                + " is honoured (recovery.max_retry_after)",
                        lane.collectorType,
                        batchId,
                        failure.delay(),
                        prospect.settings().maxRetryAfter());
            }
            if (opened) {
                int failuresInARow = lane.status().failuresInARow();
                boolean first = sendNotices(lane);
                dispatcher.outageOpened(
                        new CollectorOutage(lane.collectorType, now, null, false, 0, failure.reason(), first),
                        failuresInARow);
            }
        }

        private static Duration scaled(Duration duration, double factor) {
            return duration.plusMillis((long) (duration.toMillis() * (factor - 1)));
        }
    }

    // ---------------------------------------------------------------- recover

    @Override
    public void recover() {
        ensureOpen();
        if (closing) {
            return;
        }
        Instant now = clock.steady();
        long failuresBefore = failureLog.failures();
        if (hasTakenOver()) {
            runGuarded("looking for what is paused", this::refreshPausedUnlessBusy);
        } else {
            runGuarded("looking for what the store holds", this::takeOver);
        }
        if (started) {
            runGuarded("failing the batches that timed out", () -> failTimedOut(now));
            runGuarded("looking for due batches", () -> scan(lanesToServe(now)));
        }
        failureLog.roundEnded(failuresBefore);
        dispatcher.flush();
        if (ownCompletions != null) {
            ownCompletions.prod();
        }
    }

    /** Runs a part of a round. If it fails, the next round repeats it; nothing may propagate to the scheduler. */
    private void runGuarded(String what, Runnable part) {
        try {
            part.run();
        } catch (BatchPersistenceException e) {
            if (!closing) {
                failureLog.failed(what, e, clock.steady());
            }
        } catch (Throwable e) {
            // Throwable, because languages other than Java throw undeclared checked exceptions.
            if (!closing) {
                log.error("recovery: {} failed; it is tried again in the next round", what, e);
            }
        }
    }

    private boolean mayReceive(String collectorType) {
        return hasTakenOver() && !paused.contains(collectorType);
    }

    private void failTimedOut(Instant now) {
        List<Lease> leases;
        int settled;
        do {
            leases = store.timedOut(now, TIMED_OUT_CHUNK_SIZE);
            settled = 0;
            for (Lease lease : leases) {
                try {
                    timedOut(lease);
                    settled++;
                } catch (BatchPersistenceException e) {
                    if (closing) {
                        return;
                    }
                    failureLog.failed("marking a batch that timed out", e, clock.steady());
                } catch (RuntimeException e) {
                    if (closing) {
                        return;
                    }
                    log.error("batch '{}' timed out, but could not be marked failed", lease.batchId(), e);
                }
            }
        } while (leases.size() == TIMED_OUT_CHUNK_SIZE && settled > 0);
        // Detaches claims that the store no longer knows, for whatever reason, so that no slot is lost for good.
        for (InFlightBatch inFlight : inFlightById.values()) {
            Instant leaseEnd = inFlight.batch().nextAttemptAt();
            if (leaseEnd != null && leaseEnd.isBefore(now)) {
                detach(inFlight);
            }
        }
    }

    private void timedOut(Lease lease) {
        InFlightBatch found = inFlightById.get(lease.batchId());
        InFlightBatch inFlight =
                found != null && (found.isFirstSend() || found.fence() == lease.fence()) ? found : null;
        if (inFlight == null && unreleased.contains(lease.batchId())) {
            // No thread was sending it, so no attempt has failed.
            releaseBatch(lease.batchId());
            return;
        }
        Duration timeout = lane(lease.collectorType()).settings().batchTimeout();
        Failure failure = Failure.transientFailure("timed out after " + timeout);
        if (failed(lease.batchId(), lease.collectorType(), lease.fence(), failure, inFlight)) {
            timedOut.increment();
        }
        if (inFlight != null) {
            if (inFlight.interrupt()) {
                log.warn(
                        "collector '{}': sending batch '{}' took longer than the batch timeout of {} and was interrupted; give"
                                + " the sender a shorter timeout of its own",
                        lease.collectorType(),
                        lease.batchId(),
                        timeout);
            }
            detach(inFlight);
        }
    }

    private List<Lane> lanesToServe(Instant now) {
        Set<String> types = store.collectorTypes();
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
        forgotten.forEach((type, outage) ->
                dispatcher.outageClosed(ended(type, outage, now, false, publish(type, others -> others.ended(type)))));
        SharedOutages others = outages;
        AtomicLong changes = outageChanges;
        if (others != null && changes != null) {
            // Only after lanes have been retired, because an outage that all instances forget at the same time must not
            // be learned as one that is over.
            runGuarded(
                    "looking for outages that other instances know of",
                    () -> applyRemoteOutages(others, changes, types));
        }
        List<Lane> serve = new ArrayList<>();
        for (String type : types) {
            runGuarded("collector '" + type + "'", () -> {
                Lane lane = lane(type);
                lane.settings(settingsOf(type));
                makeDue(lane, lane.tick(now), now);
                if (paused.contains(type)) {
                    return;
                }
                if (target(type) != null) {
                    lane.unhandled(false);
                    serve.add(lane);
                } else {
                    noTarget(lane, now);
                }
            });
        }
        return serve;
    }

    // ---- outages that several instances share

    private void applyRemoteOutages(SharedOutages others, AtomicLong changes, Set<String> types) {
        types.forEach(this::lane);
        lanes.values().forEach(this::sendNotices);
        long looked = changes.get();
        Map<String, Outage> known = others.current();
        Instant now = clock.steady();
        lanes.forEach((type, lane) -> {
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
            if (!lanes.containsKey(type)
                    && unprobed.compareTo(settingsOf(type).retry().max()) >= 0) {
                // No batch is left to probe with, and no instance remembers the outage.
                others.ended(type);
            }
        });
    }

    /**
     * Publishes to other instances what they have not been told yet. If that fails, the next round tries again.
     *
     * @return whether it was new to them; also {@code true} if there are no other instances or they can't be told
     */
    private boolean sendNotices(Lane lane) {
        return publish(lane.collectorType, others -> sendNotices(lane, others));
    }

    private boolean sendNotices(Lane lane, SharedOutages others) {
        boolean begun = DeferredLog.begin();
        lane.noticeLock.lock();
        try {
            Lane.Notice untold = lane.nextNotice();
            if (untold == null) {
                return true;
            }
            String type = lane.collectorType;
            Duration left = Duration.between(clock.steady(), untold.nextProbe());
            Duration untilProbe = left.isNegative() ? Duration.ZERO : left;
            boolean news = true;
            switch (untold.what()) {
                case BEGAN -> news = others.began(type, untilProbe, untold.lastFailure());
                case NEXT_PROBE -> others.nextProbe(type, untold.probe(), untilProbe);
                case ENDED -> news = others.ended(type);
            }
            lane.noticeSent(untold);
            return news;
        } finally {
            lane.noticeLock.unlock();
            DeferredLog.end(begun);
        }
    }

    private boolean publish(String collectorType, Predicate<SharedOutages> telling) {
        SharedOutages others = outages;
        boolean[] news = {true};
        if (others != null) {
            runGuarded(
                    "telling other instances about collector '" + collectorType + "'",
                    () -> news[0] = telling.test(others));
        }
        return news[0];
    }

    /** Whether this instance is to find out whether the collector is back. */
    private boolean mayProbe(Lane lane, Lane.Permit permit) {
        SharedOutages others = outages;
        if (others == null || !permit.isProbe() || lane.isAlone()) {
            return true;
        }
        // The answer if other instances can't be asked.
        int[] answer = {SharedOutages.NOT_DOWN};
        runGuarded(
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

    private void noTarget(Lane lane, Instant now) {
        BatchSelector waiting = BatchSelector.all()
                .collectorTypes(lane.collectorType)
                .states(BatchState.PENDING)
                .limit(1);
        if (lane.unhandled(lane.settings().recovery() && store.count(waiting, now) > 0)) {
            log.warn(
                    "batches for collector '{}' wait to be sent again, but there is nobody to send them: provide a sender for"
                            + " this collector type, or a listener that takes recovered batches",
                    lane.collectorType);
        }
    }

    private void makeDue(Lane lane, Set<String> ids, Instant now) {
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

    private void scan(List<Lane> serve) {
        if (serve.isEmpty()) {
            return;
        }
        if (scanQueued.compareAndSet(false, true)) {
            boolean accepted = execute(() -> {
                scanQueued.set(false);
                work(new ArrayDeque<>(serve), false);
            });
            if (accepted) {
                return;
            }
            scanQueued.set(false);
        }
        if (lanes.values().stream().anyMatch(Lane::holdsThread)) {
            Queue<Lane> without = new ArrayDeque<>(
                    serve.stream().filter(lane -> !lane.holdsThread()).toList());
            if (!without.isEmpty()) {
                executeOnReserve(() -> work(without, true));
            }
        }
    }

    /** Lets a lane with a free slot continue without waiting for the next round. */
    private void pump(Lane lane) {
        if (!closing && lane.workerQueued.compareAndSet(false, true)) {
            boolean accepted = execute(() -> {
                lane.workerQueued.set(false);
                work(new ArrayDeque<>(List.of(lane)), false);
            });
            if (!accepted) {
                lane.workerQueued.set(false);
            }
        }
    }

    private boolean execute(Runnable task) {
        try {
            executor.execute(task);
            return true;
        } catch (Throwable e) {
            // Also an OutOfMemoryError, because no more threads can be created.
            if (!closing) {
                log.warn(
                        "the executor refused a recovery task ({}); nothing was claimed, the next round tries again",
                        e.toString());
            }
            return false;
        }
    }

    private boolean executeOnReserve(Runnable task) {
        try {
            reserve.execute(task);
            return true;
        } catch (Throwable e) {
            // The limit of reserve threads is reached, or no more threads can be created.
            return false;
        }
    }

    private void work(Queue<Lane> toServe, boolean onReserve) {
        try {
            for (Lane lane = toServe.poll(); lane != null; lane = toServe.poll()) {
                if (!serve(lane, toServe, onReserve)) {
                    return;
                }
            }
        } catch (Throwable e) {
            log.error("a recovery task failed; the next round goes on", e);
        }
    }

    /**
     * Hands over due batches of one lane.
     *
     * @param others the remaining lanes, which must not wait for this lane's sender
     * @param onReserve whether this is a reserve thread, for lanes that hold no other thread
     * @return whether the caller still has to serve the remaining lanes
     */
    private boolean serve(Lane lane, Queue<Lane> others, boolean onReserve) {
        boolean mine = true;
        while (enter()) {
            try {
                InFlightBatch inFlight = claim(lane, onReserve);
                if (inFlight == null) {
                    return mine;
                }
                boolean crowded = false;
                if (mine && !others.isEmpty()) {
                    // A reserve thread does not use the executor, in whose queue the tasks of every round would
                    // accumulate.
                    mine = onReserve
                            ? !executeOnReserve(() -> work(others, true))
                            : !execute(() -> work(others, false));
                    crowded = mine;
                }
                if (!onReserve && lane.hasFreeSlot()) {
                    pump(lane);
                }
                dispatch(inFlight);
                if (crowded) {
                    others.add(lane);
                    // Too few threads for all lanes: serve them round-robin, one batch at a time.
                    return true;
                }
            } finally {
                leave();
            }
            if (Thread.currentThread().isInterrupted()) {
                // The executor wants its thread back.
                return false;
            }
        }
        return false;
    }

    private boolean enter() {
        workersLock.lock();
        try {
            return !closing && workers.add(Thread.currentThread());
        } finally {
            workersLock.unlock();
        }
    }

    private void leave() {
        workersLock.lock();
        try {
            workers.remove(Thread.currentThread());
            workerLeft.signalAll();
        } finally {
            workersLock.unlock();
        }
    }

    private @Nullable InFlightBatch claim(Lane lane, boolean onReserve) {
        Instant now = clock.steady();
        Lane.Permit permit = mayReceive(lane.collectorType) ? lane.tryAcquire(now, onReserve) : null;
        if (permit == null) {
            return null;
        }
        InFlightBatch inFlight = null;
        try {
            if (target(lane.collectorType) == null || !mayProbe(lane, permit)) {
                return null;
            }
            List<Claim> claims = claim(lane, permit, now);
            if (claims.isEmpty() && permit.isProbe()) {
                // Batches pushed back by earlier probes were to let others go first, but there are none.
                makeDue(lane, lane.takeProbed(now), now);
                claims = claim(lane, permit, now);
            }
            if (!claims.isEmpty()) {
                inFlight = new InFlightBatch(claims.get(0), lane, permit, settlement, overdue(claims.get(0), now));
                inFlightById.put(inFlight.batch().id(), inFlight);
            }
            return inFlight;
        } catch (BatchPersistenceException e) {
            if (!closing) {
                failureLog.failed("claiming a batch for collector '" + lane.collectorType + "'", e, now);
            }
            return null;
        } catch (Throwable e) {
            // Whatever was thrown, the other lanes must be served.
            if (!closing) {
                log.error(
                        "collector '{}': no batch could be claimed; the next round tries again", lane.collectorType, e);
            }
            return null;
        } finally {
            if (inFlight == null) {
                lane.returnUnused(permit);
            }
        }
    }

    /** Time during which the application did not run does not count. */
    private Duration overdue(Claim claim, Instant now) {
        Instant due = claim.due();
        if (due == null || !due.isBefore(now)) {
            return Duration.ZERO;
        }
        return Duration.between(due.isBefore(startedAt) ? startedAt : due, now);
    }

    private List<Claim> claim(Lane lane, Lane.Permit permit, Instant now) {
        CollectorSettings settings = lane.settings();
        boolean oldestFirst = (settings.order() == BatchOrder.OLDEST_FIRST) != permit.otherEnd();
        return store.claim(
                lane.collectorType,
                oldestFirst ? BatchOrder.OLDEST_FIRST : BatchOrder.NEWEST_FIRST,
                now,
                Times.after(now, settings.batchTimeout()),
                1);
    }

    private void dispatch(InFlightBatch inFlight) {
        Throwable thrown = null;
        try {
            run(inFlight, recovered -> {
                RecoveryTarget target = target(inFlight.lane().collectorType);
                if (target == null) {
                    throw new IllegalStateException("there is nobody to send batches for collector type '"
                            + LogSanitizer.of(inFlight.lane().collectorType) + "' any more");
                }
                target.handOver(recovered);
            });
        } catch (Throwable t) {
            // Whatever was thrown, this engine has to settle the batch.
            thrown = t;
        }
        boolean interruptedByOthers = isInterruptOfOthers(inFlight, thrown);
        try {
            if (thrown != null && !closed) {
                settleThrown(inFlight, thrown);
            }
        } finally {
            inFlight.abandonedByWorker();
            if (interruptedByOthers) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private boolean isInterruptOfOthers(InFlightBatch inFlight, @Nullable Throwable thrown) {
        return thrown instanceof InterruptedException && !inFlight.wasInterrupted();
    }

    private void run(InFlightBatch inFlight, RecoveryTarget target) throws Exception {
        String type = inFlight.lane().collectorType;
        String outerBatch = MDC.get(MDC_BATCH);
        String outerType = MDC.get(MDC_COLLECTOR);
        executing.add(inFlight);
        inFlight.executionStarted();
        try {
            MDC.put(MDC_BATCH, LogSanitizer.of(inFlight.batch().id()));
            MDC.put(MDC_COLLECTOR, LogSanitizer.of(type));
            // Not if its batch timeout has ended before the target was called.
            if (!inFlight.isDetached()) {
                target.handOver(inFlight);
            }
        } finally {
            inFlight.executionEnded();
            executing.remove(inFlight);
            restore(MDC_BATCH, outerBatch);
            restore(MDC_COLLECTOR, outerType);
        }
    }

    private static void restore(String key, @Nullable String value) {
        if (value == null) {
            MDC.remove(key);
        } else {
            MDC.put(key, value);
        }
    }

    private void settleThrown(InFlightBatch inFlight, Throwable thrown) {
        String id = inFlight.batch().id();
        if (thrown instanceof Error) {
            log.error("sending batch '{}' ended with an error; it counts as a failed attempt", id, thrown);
        } else {
            log.debug("sending batch '{}' failed", id, thrown);
        }
        boolean settled = inFlight.isSettled();
        if (!settled) {
            try {
                settled = inFlight.fail(Failure.of(thrown, classifier));
            } catch (RuntimeException e) {
                log.error("batch '{}' failed, but could not be marked so; it stays in flight until its timeout", id, e);
                return;
            }
            if (!settled && !closed) {
                log.debug("sending batch '{}' failed after it had been settled elsewhere", id);
            }
        } else {
            log.warn("the target threw after batch '{}' had been settled, which changes nothing", id, thrown);
        }
    }

    private @Nullable RecoveryTarget target(String collectorType) {
        return targets.apply(collectorType);
    }

    /**
     * Ends the claim: frees the slot, and starts another worker for it unless the worker that holds the batch will go
     * on by itself.
     */
    private void detach(InFlightBatch inFlight) {
        inFlightById.remove(inFlight.batch().id(), inFlight);
        inFlight.detach();
        if (inFlight.isAbandonedByWorker()) {
            pump(inFlight.lane());
        }
    }

    /** Settling by the target that was handed the batch. */
    private final class ClaimSettlement implements InFlightBatch.SettlementHandler {

        @Override
        public boolean acknowledge(InFlightBatch inFlight) {
            return unlessClosed(inFlight, () -> {
                boolean known = !inFlight.isDetached() || isStillHeld(inFlight);
                return known && delivered(inFlight.batch().id());
            });
        }

        @Override
        public boolean fail(InFlightBatch inFlight, Failure failure) {
            if (inFlight.isFirstSend() && inFlight.isDetached()) {
                // Without a fence, this would fail the attempt of the current holder of the batch.
                return false;
            }
            return unlessClosed(
                    inFlight, () -> failed(inFlight.batch().id(), null, inFlight.fence(), failure, inFlight));
        }

        /**
         * After the claim ended the id may have been reused for another batch, which must not be mistaken for this one.
         */
        private boolean isStillHeld(InFlightBatch inFlight) {
            PersistedBatch batch = inFlight.batch();
            return store.list(BatchSelector.all().ids(batch.id()), clock.wall()).stream()
                    .anyMatch(held ->
                            held.createdAt().toEpochMilli() == batch.createdAt().toEpochMilli()
                                    && held.collectorType().equals(batch.collectorType()));
        }

        private boolean unlessClosed(InFlightBatch inFlight, Supplier<Boolean> action) {
            StackSpace.require();
            if (closed) {
                return false;
            }
            try {
                boolean changed = action.get();
                detach(inFlight);
                return changed;
            } catch (IllegalStateException e) {
                if (closed) {
                    return false;
                }
                throw e;
            }
        }
    }

    // -------------------------------------------------------------- operators

    @Override
    public long recover(BatchSelector selector) {
        ensureOpen();
        if (!concerns(selector, BatchState.PENDING)) {
            return 0;
        }
        BatchSelector pending = selector.states(BatchState.PENDING);
        // Ages are measured by the wall clock.
        Instant wall = clock.wall();
        Instant now = clock.steady();
        Collection<Lane> waiting = lanes.values().stream()
                .filter(lane -> lane.isWaiting() && selects(pending, lane.collectorType, wall))
                .toList();
        long count = store.reschedule(pending, wall, now);
        waiting.forEach(lane -> lane.expedite(now));
        recover();
        return count;
    }

    private boolean selects(BatchSelector selector, String collectorType, Instant now) {
        return (selector.collectorTypes().isEmpty() || selector.collectorTypes().contains(collectorType))
                && store.count(selector.collectorTypes(collectorType).limit(1), now) > 0;
    }

    private static boolean concerns(BatchSelector selector, BatchState state) {
        return selector.states().isEmpty() || selector.states().contains(state);
    }

    @Override
    public long replay(BatchSelector selector, double perSecond) {
        requireRate(perSecond);
        ensureOpen();
        if (!concerns(selector, BatchState.DEAD)) {
            return 0;
        }
        Duration apart = perSecond == 0 ? Duration.ZERO : Duration.ofNanos((long) Math.min(1e9 / perSecond, 1e15));
        long count = store.replay(selector.states(BatchState.DEAD), clock.steady(), apart);
        if (count > 0) {
            replayed.add(count);
            recover();
        }
        return count;
    }

    static void requireRate(double perSecond) {
        if (!(perSecond >= 0) || Double.isInfinite(perSecond)) {
            throw new IllegalArgumentException("the rate must be 0 (all at once) or positive, but is " + perSecond);
        }
    }

    @Override
    public boolean pause(String collectorType) {
        ensureOpen();
        // Immediately, because the store may take some time.
        paused.add(NewBatch.checkedCollectorType(collectorType));
        pausing.lock();
        try {
            // A round may have refreshed the set in the meantime.
            paused.add(collectorType);
            try {
                return store.pause(collectorType, true);
            } finally {
                refreshPaused();
            }
        } finally {
            pausing.unlock();
        }
    }

    @Override
    public boolean resume(String collectorType) {
        ensureOpen();
        NewBatch.checkedCollectorType(collectorType);
        boolean changed;
        pausing.lock();
        try {
            changed = store.pause(collectorType, false);
            refreshPaused();
        } finally {
            pausing.unlock();
        }
        if (changed) {
            recover();
        }
        return changed;
    }

    @Override
    public Set<String> pausedCollectorTypes() {
        ensureOpen();
        return store.pausedCollectorTypes();
    }

    private void refreshPaused() {
        pausing.lock();
        try {
            Set<String> now = store.pausedCollectorTypes();
            paused.addAll(now);
            paused.retainAll(now);
        } finally {
            pausing.unlock();
        }
    }

    /** Picks up what another instance that shares the store has paused or resumed. */
    private void refreshPausedUnlessBusy() {
        // If the lock is taken, its holder refreshes the set itself.
        if (pausing.tryLock()) {
            try {
                refreshPaused();
            } finally {
                pausing.unlock();
            }
        }
    }

    @Override
    public long discard(BatchSelector selector) {
        ensureOpen();
        BatchSelector named = selector.statesOr(Set.of(BatchState.PENDING, BatchState.DEAD));
        long count = store.discard(named, clock.wall());
        if (count > 0) {
            spaceSignal.signal();
            if (named.states().contains(BatchState.IN_FLIGHT)) {
                detachGone();
            }
        }
        return count;
    }

    /** Detaches hand-overs whose batch was removed while it was in flight. */
    private void detachGone() {
        Instant now = clock.wall();
        for (InFlightBatch inFlight : inFlightById.values()) {
            BatchSelector selector =
                    BatchSelector.all().ids(inFlight.batch().id()).states(BatchState.IN_FLIGHT);
            long createdAt = inFlight.batch().createdAt().toEpochMilli();
            if (store.list(selector, now).stream()
                    .noneMatch(held -> held.createdAt().toEpochMilli() == createdAt)) {
                detach(inFlight);
            }
        }
    }

    @Override
    public long cleanup() {
        ensureOpen();
        if (closing || !hasTakenOver()) {
            return 0;
        }
        if (clock.isWallBehind()) {
            runGuarded("correcting the times of batches from the future", this::correctAges);
        }
        long[] expired = {0};
        runGuarded("looking for what outlived its TTL", () -> {
            for (String type : store.collectorTypes()) {
                runGuarded(
                        "removing what outlived its TTL for collector '" + type + "'",
                        () -> expired[0] += expire(type));
            }
        });
        runGuarded("dropping dead letters beyond their bound", this::evictDeadLetters);
        store.reclaim();
        spaceSignal.signal();
        dispatcher.flush();
        return expired[0];
    }

    /** Limits the age of batches that were persisted while the clock was ahead to what is known for certain. */
    private void correctAges() {
        Instant now = clock.wall();
        if (!now.isBefore(SlewedClock.FIRST_PLAUSIBLE)) {
            store.correctAges(now);
        }
    }

    private long expire(String type) {
        CollectorSettings settings = lane(type).settings();
        Instant pendingBefore = clock.expiryCutoff(settings.batchTtl());
        Instant deadBefore = clock.expiryCutoff(settings.deadLetterTtl());
        long count = 0;
        List<BatchSummary> gone;
        do {
            gone = store.expire(type, pendingBefore, deadBefore, EXPIRED_CHUNK_SIZE);
            gone.forEach(dispatcher::expired);
            count += gone.size();
        } while (gone.size() >= EXPIRED_CHUNK_SIZE);
        return count;
    }

    @Override
    public Optional<PersistedBatch> find(String batchId) {
        ensureOpen();
        return isPossibleId(batchId) ? store.find(batchId) : Optional.empty();
    }

    @Override
    public List<BatchSummary> list(BatchSelector selector) {
        ensureOpen();
        return store.list(selector, clock.wall());
    }

    @Override
    public long count(BatchSelector selector) {
        ensureOpen();
        return store.count(selector, clock.wall());
    }

    @Override
    public List<FailureGroup> failures(BatchSelector selector) {
        ensureOpen();
        return store.failures(selector, clock.wall());
    }

    @Override
    public BatchStats stats() {
        ensureOpen();
        return store.stats();
    }

    @Override
    public EngineCounters counters() {
        return new EngineCounters(
                refusedFull.sum(), refusedError.sum(), replayed.sum(), timedOut.sum(), executing.size());
    }

    @Override
    public Map<String, LaneStatus> lanes() {
        Map<String, LaneStatus> statuses = new TreeMap<>();
        lanes.forEach((type, lane) -> statuses.put(type, lane.status()));
        paused.forEach(type -> statuses.compute(type, (same, status) -> paused(status)));
        return statuses;
    }

    private static LaneStatus paused(@Nullable LaneStatus lane) {
        return lane == null
                ? new LaneStatus(LaneStatus.State.CLOSED, 0, null, null, 0, 0, false, true, null)
                : new LaneStatus(
                        lane.state(),
                        lane.failuresInARow(),
                        lane.outageSince(),
                        lane.nextProbeAt(),
                        lane.probes(),
                        lane.rate(),
                        lane.unhandled(),
                        true,
                        lane.lastFailure());
    }

    private Lane lane(String collectorType) {
        Lane lane = lanes.get(collectorType);
        if (lane != null) {
            return lane;
        }
        // This calls the application's code, which must not run under the map's lock.
        CollectorSettings fresh = settingsOf(collectorType);
        return lanes.computeIfAbsent(
                collectorType, type -> new Lane(type, fresh, random, clock.steady(), outageChanges));
    }

    /** Thrown through the store, which then changes nothing. */
    private static final class UnknownLaneException extends RuntimeException {
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
     * used within {@link #withLanes}.
     */
    private Lane knownLane(String collectorType) {
        Lane lane = lanes.get(collectorType);
        if (lane == null) {
            throw new UnknownLaneException(collectorType);
        }
        return lane;
    }

    /** Calls the store, and repeats the call after preparing each lane that turns out to be missing. */
    private <T extends @Nullable Object> T withLanes(Supplier<T> call, Consumer<Lane> prepare) {
        while (true) {
            try {
                return call.get();
            } catch (UnknownLaneException e) {
                prepare.accept(lane(e.collectorType));
            }
        }
    }

    /** For the store. Makes no lane: the store may only pass a collector type by. */
    private CollectorSettings settingsFor(String collectorType) {
        Lane lane = lanes.get(collectorType);
        return lane == null ? settingsOf(collectorType) : lane.settings();
    }

    private CollectorSettings settingsOf(String collectorType) {
        return settings.apply(collectorType);
    }

    // ------------------------------------------------------------------ close

    private void ensureOpen() {
        StackSpace.require();
        if (closed) {
            throw new IllegalStateException("the batch persistence is closed");
        }
    }

    @Override
    public void close() {
        // A second caller returns when the first one has finished.
        closeLock.lock();
        try {
            if (closed) {
                return;
            }
            stopDispatching();
            awaitWorkers();
            closed = true;
            // Wakes the callers that wait for room.
            spaceSignal.signal();
            long cutOff = executing.stream().filter(InFlightBatch::interrupt).count();
            if (cutOff > 0) {
                log.warn(
                        "{} batches were still being sent after {} and have been cut off; they are due again when the store"
                                + " is opened next",
                        cutOff,
                        shutdownTimeout);
            }
            runGuarded("telling other instances about collectors", this::withdrawFromOutages);
            dispatcher.close(shutdownTimeout);
            if (ownExecutor != null) {
                ownExecutor.shutdown();
            }
            reserve.shutdown();
            store.close();
            if (ownCompletions != null) {
                // Only after the store is closed: closing has written or refused what was appended last.
                ownCompletions.close();
            }
        } finally {
            closeLock.unlock();
        }
    }

    /**
     * Publishes what other instances don't know yet. What does not reach them in time, they find out when the probe
     * times out.
     */
    private void withdrawFromOutages() {
        SharedOutages others = outages;
        if (others == null || lanes.isEmpty()) {
            return;
        }
        boolean told = Threads.within(OUTAGE_WITHDRAWAL_TIMEOUT, "batch-persistence-leaving", () -> {
            Instant now = clock.steady();
            for (Lane lane : lanes.values()) {
                lane.withdrawFromOutage(now);
                sendNotices(lane, others);
            }
        });
        if (!told) {
            log.warn(
                    "Other instances could not be told within {} ms that this one probes nothing any more; they probe by themselves when"
                            + " that is known to have timed out",
                    OUTAGE_WITHDRAWAL_TIMEOUT.toMillis());
        }
    }

    private void stopDispatching() {
        workersLock.lock();
        try {
            closing = true;
        } finally {
            workersLock.unlock();
        }
    }

    /** Does not wait for the calling thread, in case a sender closes the engine that called it. */
    private void awaitWorkers() {
        workersLock.lock();
        try {
            long left = SpaceSignal.nanos(shutdownTimeout);
            while (workers.stream().anyMatch(worker -> worker != Thread.currentThread()) && left > 0) {
                left = workerLeft.awaitNanos(left);
            }
        } catch (InterruptedException e) {
            // An interrupt means to hurry: go on with cutting off.
            Thread.currentThread().interrupt();
        } finally {
            workersLock.unlock();
        }
    }

    /** Builds an engine. Not thread-safe. */
    public static final class Builder {

        private final BatchStore store;
        private Function<String, CollectorSettings> settings = type -> CollectorSettings.DEFAULT;
        private OverflowPolicy overflowPolicy = OverflowPolicy.REJECT;
        private Duration overflowTimeout = Duration.ofSeconds(5);
        private long maxDeadLetterBytes = Long.MAX_VALUE;
        private Function<String, @Nullable RecoveryTarget> targets = type -> null;
        private UnaryOperator<Map<String, String>> contexts = context -> context;
        private List<String> excludedGlobs = List.of();
        private FailureClassifier classifier = FailureClassifier.DEFAULT;
        private BatchListener listener = new BatchListener() {};
        private int threads = DEFAULT_THREADS;
        private Duration shutdownTimeout = Duration.ofSeconds(30);
        private @Nullable ClassLoader classLoader;
        private @Nullable Executor executor;
        private @Nullable Executor announcements;
        private @Nullable Executor completions;
        private Clock clock = Clock.systemUTC();
        private @Nullable LongSupplier ticker;
        private RandomGenerator random = () -> ThreadLocalRandom.current().nextLong();

        private Builder(BatchStore store) {
            this.store = Objects.requireNonNull(store, "store must not be null");
        }

        /**
         * Sets the function that returns the settings of each collector type.
         *
         * @param byCollectorType quick, thread-safe, never {@code null}; called again in every round of recovery.
         *     Default: {@link CollectorSettings#DEFAULT} for all
         * @return this
         */
        public Builder settings(Function<String, CollectorSettings> byCollectorType) {
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
        public Builder overflow(OverflowPolicy policy, Duration timeout) {
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
        public Builder maxDeadLetterBytes(long bytes) {
            if (bytes <= 0) {
                throw new IllegalArgumentException("the bound of dead letters must be positive, but is " + bytes);
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
        public Builder targets(Function<String, @Nullable RecoveryTarget> byCollectorType) {
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
        public Builder contexts(UnaryOperator<Map<String, String>> contexts) {
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
        public Builder excludeFailureReasons(List<String> globs) {
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
        public Builder failureClassifier(FailureClassifier classifier) {
            this.classifier = Objects.requireNonNull(classifier, "classifier must not be null");
            return this;
        }

        /**
         * Sets the listener for batches that are given up, and for outages.
         *
         * @param listener default: none
         * @return this
         */
        public Builder listener(BatchListener listener) {
            this.listener = Objects.requireNonNull(listener, "listener must not be null");
            return this;
        }

        /**
         * Sets how long {@link #close()} waits for running targets.
         *
         * @param timeout not negative; default 30 s
         * @return this
         * @throws IllegalArgumentException if the timeout is negative
         */
        public Builder shutdownTimeout(Duration timeout) {
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
        public Builder classLoader(ClassLoader applicationClasses) {
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
        public Builder executor(Executor executor) {
            this.executor = Objects.requireNonNull(executor, "executor must not be null");
            return this;
        }

        /** Sets the executor that calls the listener, for tests. Default: the executor that runs hand-overs. */
        Builder announcements(Executor executor) {
            announcements = executor;
            return this;
        }

        /** Sets the executor that completes the futures of callers, for tests. */
        Builder completions(Executor executor) {
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
        public Builder threads(int most) {
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
        public Builder clock(Clock clock) {
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
        public Builder ticker(LongSupplier nanos) {
            this.ticker = Objects.requireNonNull(nanos, "ticker must not be null");
            return this;
        }

        private @Nullable LongSupplier ticker() {
            boolean system = clock.equals(Clock.system(clock.getZone()));
            return ticker == null && system ? System::nanoTime : ticker;
        }

        /**
         * Sets the source of jitter.
         *
         * @param random thread-safe; default: {@link ThreadLocalRandom}
         * @return this
         */
        public Builder random(RandomGenerator random) {
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
}
