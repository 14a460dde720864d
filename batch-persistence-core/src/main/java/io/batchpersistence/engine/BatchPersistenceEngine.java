package io.batchpersistence.engine;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.EngineCounters;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Kind;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.Intake.PersistRequest;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.Threads;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Lease;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spi.SharedOutages;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
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
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.Supplier;
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

    private static final int DEAD_LETTERS_CHUNK_SIZE = 256;

    private static final int TIMED_OUT_CHUNK_SIZE = 1_000;
    private static final int EXPIRED_CHUNK_SIZE = 1_000;

    /**
     * Maximum number of the engine's own threads: enough for as many collectors to hang at the same time, too few to
     * harm the host.
     */
    static final int DEFAULT_THREADS = 256;
    /** Maximum number of collector types that have a reserve thread at a time; chosen like {@link #DEFAULT_THREADS}. */
    private static final int RESERVE_THREADS = 256;

    private static final String MDC_BATCH = "batchId";
    private static final String MDC_COLLECTOR = "collectorType";

    private final BatchStore store;
    private final Function<String, @Nullable RecoveryTarget> targets;
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

    private final @Nullable Completions ownCompletions;
    private final SlewedClock clock;
    private final Instant startedAt;
    private final RandomGenerator random;

    private final OutageSharing outages;
    private final Intake intake;
    private final Lanes lanes;
    /** The claims that are not over yet, by batch id. */
    private final ConcurrentMap<String, InFlightBatch> inFlightById = new ConcurrentHashMap<>();
    /** The hand-overs whose target is running. */
    private final Set<InFlightBatch> executing = ConcurrentHashMap.newKeySet();

    private final PausedCollectors paused;

    private final ThrottledFailureLog failureLog;

    private final AtomicBoolean scanQueued = new AtomicBoolean();
    private final SpaceSignal spaceSignal = new SpaceSignal();
    private final InFlightBatch.SettlementHandler settlement = new ClaimSettlement();

    private final ReentrantLock closeLock = new ReentrantLock();
    private final Workers workers = new Workers();

    // ---- counters, see EngineCounters
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

    private volatile boolean closed;

    BatchPersistenceEngine(EngineBuilder builder) {
        StackSpace.warmUp();
        store = builder.store;
        paused = new PausedCollectors(store);
        targets = builder.targets;
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
        Executor completions =
                builder.completions == null ? Objects.requireNonNull(ownCompletions) : builder.completions;
        Boolean holding = isHolding(store);
        clock = new SlewedClock(
                builder.clock, builder.ticker(), holding == null || holding, holding == null ? null : store.lastUsed());
        late = holding == null;
        failureLog = new ThrottledFailureLog(log, clock);
        startedAt = clock.steady();
        random = builder.random;
        SharedOutages others = store.sharedOutages();
        AtomicLong changes = others == null ? null : new AtomicLong();
        lanes = new Lanes(builder.settings, random, clock, changes);
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
        outages = new OutageSharing(store, others, changes, lanes, clock, dispatcher, failureLog);
        intake = new Intake(builder, lanes, clock, dispatcher, spaceSignal, completions, this::ensureOpen);
    }

    /**
     * Starts building an engine.
     *
     * @param store where batches are kept; owned and closed by the engine once built
     * @return the builder
     */
    public static EngineBuilder builder(BatchStore store) {
        return new EngineBuilder(store);
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
        return workers.isClosing();
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

    void start() {
        store.onCorruption(dispatcher::corrupted);
        store.useSettings(lanes::settingsFor);
        try {
            takeOver();
        } catch (BatchPersistenceException e) {
            failureLog.failed("reading what the store holds", e);
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
        paused.refresh();
        Instant now = clock.steady();
        lanes.with(
                () -> {
                    store.correctWaits(
                            now, type -> lanes.require(type).settings().batchTtl());
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
            if (!lanes.of(type).settings().recovery()) {
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
        intake.persist(request(batchId, entries, collectorType, context, false));
    }

    @Override
    public void persistUnsent(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        ensureOpen();
        // The batch is invisible to others until the commit, and may never be committed.
        if (store.joinsTransaction()) {
            intake.persist(request(batchId, entries, collectorType, context, true));
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
        pump(lanes.of(NewBatch.checkedCollectorType(collectorType)));
    }

    @Override
    public CompletableFuture<@Nullable Void> persistBatchAsync(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context) {
        try {
            return intake.persistAsync(request(batchId, entries, collectorType, context, false));
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private PersistRequest request(
            String batchId, List<LogEntry> entries, String collectorType, Map<String, String> context, boolean unsent) {
        ensureOpen();
        PersistRequest request = intake.request(batchId, entries, collectorType, context, unsent);
        unreleased.remove(batchId);
        return request;
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
        PersistRequest request = request(batchId, entries, collectorType, context, false);
        if (store.joinsTransaction()) {
            // If it were sent now, it would be sent even if the transaction is rolled back, marks would not find the
            // batch, and the transaction would hold its connection while it waits for the collector.
            throw new IllegalStateException("batch '" + batchId
                    + "' can't be delivered within a transaction that batches are part of: it must not be sent before the commit."
                    + " Persist it and send it after the commit, or call deliver outside of the transaction; with Spring,"
                    + " BatchDelivery does that by itself");
        }
        intake.persist(request);
        try {
            return sendFirst(request.batch(), sender);
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
        boolean entered = workers.enter();
        try {
            Lane lane = lanes.of(batch.collectorType());
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
                workers.leave();
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
            settled = lanes.with(
                    () -> store.released(
                            batchId,
                            type -> lanes.require(type).settings().recovery() ? Optional.of(now) : Optional.empty()),
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
        pump(lanes.of(settled.collectorType()));
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
        delivered(settled);
        return true;
    }

    private void delivered(Settled settled) {
        spaceSignal.signal();
        Lane lane = lanes.ifKnown(settled.collectorType());
        if (lane != null) {
            answered(lane);
        }
    }

    private void answered(Lane lane) {
        if (lane.isAnswerExpected()) {
            return;
        }
        Instant now = clock.steady();
        Lane.Ended outage = lane.answered(now);
        if (outage != null) {
            outages.answered(lane, outage, now);
            if (lane.settings().replayAfterOutage()) {
                Runnable replay = () -> failureLog.guard(
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
        if (workers.isClosing()) {
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

    /** @param collectorType the batch's, if it is known */
    private boolean failed(
            String batchId,
            @Nullable String collectorType,
            long fence,
            Failure failure,
            @Nullable InFlightBatch inFlight) {
        Instant now = clock.wall();
        FailedAttempt attempt =
                new FailedAttempt(batchId, failure, inFlight, isExcluded(failure.reason()), clock.steady(), random);
        String known = inFlight != null ? inFlight.batch().collectorType() : collectorType;
        (known != null ? List.of(lanes.of(known)) : lanes.all()).forEach(attempt::prepare);
        Settled settled =
                lanes.with(() -> store.failed(batchId, fence, failure.reason(), now, attempt), attempt::prepare);
        if (settled == null) {
            return false;
        }
        report(attempt.lane(), attempt, failure, batchId);
        if (settled.state() == BatchState.DEAD) {
            announceDead(batchId, now);
            failureLog.guard("dropping dead letters beyond their limit", this::evictDeadLetters);
        }
        return true;
    }

    private void report(Lane lane, FailedAttempt attempt, Failure failure, String batchId) {
        if (failure.kind() == Kind.PERMANENT) {
            answered(lane);
            return;
        }
        boolean opened = attempt.record();
        if (failure.kind() == Kind.RETRY_AFTER && lane.isFirstCut(failure.delay())) {
            log.warn(
                    "collector '{}' asks to send batch '{}' again after {} only, which is taken as {}, the longest wait that"
                            + " is honoured (maxRetryAfter)",
                    lane.collectorType,
                    batchId,
                    failure.delay(),
                    lane.settings().maxRetryAfter());
        }
        if (opened) {
            outages.opened(lane, clock.steady(), failure.reason());
        }
    }

    private void evictDeadLetters() {
        if (maxDeadLetterBytes == Long.MAX_VALUE) {
            return;
        }
        List<BatchSummary> gone;
        do {
            gone = store.evictDeadLetters(maxDeadLetterBytes, DEAD_LETTERS_CHUNK_SIZE);
            gone.forEach(dispatcher::deadLetterEvicted);
            if (!gone.isEmpty()) {
                spaceSignal.signal();
            }
        } while (gone.size() == DEAD_LETTERS_CHUNK_SIZE);
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

    // ---------------------------------------------------------------- recover

    @Override
    public void recover() {
        ensureOpen();
        if (workers.isClosing()) {
            return;
        }
        Instant now = clock.steady();
        long failuresBefore = failureLog.failures();
        if (hasTakenOver()) {
            failureLog.guard("reading the paused collector types", paused::refreshUnlessBusy);
        } else {
            failureLog.guard("reading what the store holds", this::takeOver);
        }
        if (started) {
            failureLog.guard("failing the batches that timed out", () -> failTimedOut(now));
            failureLog.guard("looking for due batches", () -> scan(lanesToServe(now)));
        }
        failureLog.roundEnded(failuresBefore);
        dispatcher.flush();
        if (ownCompletions != null) {
            ownCompletions.prod();
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
                    if (workers.isClosing()) {
                        return;
                    }
                    failureLog.failed("marking a batch that timed out", e);
                } catch (RuntimeException e) {
                    if (workers.isClosing()) {
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
        Duration timeout = lanes.of(lease.collectorType()).settings().batchTimeout();
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
        lanes.retireExcept(types, now).forEach((type, outage) -> outages.forgotten(type, outage, now));
        // Only after lanes have been retired, because an outage that all instances forget at the same time must not be
        // learned as one that is over.
        outages.applyRemote(types);
        List<Lane> serve = new ArrayList<>();
        for (String type : types) {
            failureLog.guard("collector '" + type + "'", () -> {
                Lane lane = lanes.of(type);
                lane.settings(lanes.settingsOf(type));
                outages.makeDue(lane, lane.tick(now), now);
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

    private void noTarget(Lane lane, Instant now) {
        BatchSelector waiting = BatchSelector.all()
                .collectorTypes(lane.collectorType)
                .states(BatchState.PENDING)
                .limit(1);
        if (lane.unhandled(lane.settings().recovery() && store.count(waiting, now) > 0)) {
            log.warn(
                    "batches for collector '{}' wait to be sent again, but nothing sends them: provide a sender for"
                            + " this collector type, or a listener that takes recovered batches",
                    lane.collectorType);
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
        if (lanes.all().stream().anyMatch(Lane::holdsThread)) {
            Queue<Lane> without = new ArrayDeque<>(
                    serve.stream().filter(lane -> !lane.holdsThread()).toList());
            if (!without.isEmpty()) {
                executeOnReserve(() -> work(without, true));
            }
        }
    }

    /** Lets a lane with a free slot continue without waiting for the next round. */
    private void pump(Lane lane) {
        if (!workers.isClosing() && lane.workerQueued.compareAndSet(false, true)) {
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
            if (!workers.isClosing()) {
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
        if (!workers.enter()) {
            return false;
        }
        Queue<InFlightBatch> unrecorded = new ArrayDeque<>();
        try {
            boolean mine = true;
            while (!workers.isClosing()) {
                awaitRecorded(
                        unrecorded,
                        Math.max(1, Lane.MAX_UNRECORDED / lane.settings().concurrency()) - 1);
                InFlightBatch inFlight = claim(lane, onReserve);
                if (inFlight == null) {
                    if (!unrecorded.isEmpty() && lane.isUnrecordedFull()) {
                        // Other workers' batches fill the limit, too: without this worker, nobody might go on.
                        awaitRecorded(unrecorded, 0);
                        continue;
                    }
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
                try {
                    dispatch(inFlight);
                } finally {
                    if (inFlight.recording() != null) {
                        unrecorded.add(inFlight);
                        // It is sent, so another one may be.
                        lane.releaseUnrecorded(inFlight.permit());
                    }
                }
                if (crowded) {
                    others.add(lane);
                    // Too few threads for all lanes: serve them round-robin, one batch at a time.
                    return true;
                }
                if (Thread.currentThread().isInterrupted()) {
                    // The executor wants its thread back.
                    return false;
                }
            }
            return false;
        } finally {
            try {
                awaitAllRecorded(unrecorded);
            } finally {
                workers.leave();
            }
        }
    }

    /** Ends all, whatever is thrown. */
    private void awaitAllRecorded(Queue<InFlightBatch> unrecorded) {
        try {
            awaitRecorded(unrecorded, 0);
        } finally {
            if (!unrecorded.isEmpty()) {
                awaitAllRecorded(unrecorded);
            }
        }
    }

    /** Ends the hand-overs that the store has recorded by now, and waits until no more than so many are left. */
    private void awaitRecorded(Queue<InFlightBatch> unrecorded, int most) {
        for (InFlightBatch next = unrecorded.peek(); next != null; next = unrecorded.peek()) {
            CompletableFuture<@Nullable Settled> recording = next.recording();
            if (recording != null && !recording.isDone() && unrecorded.size() <= most) {
                return;
            }
            unrecorded.remove();
            try {
                if (recording != null) {
                    recorded(next, recording);
                }
            } finally {
                next.lane().recorded();
            }
        }
    }

    /** The lane has been told already that the collector has answered: what it has learned since is newer. */
    private void recorded(InFlightBatch inFlight, CompletableFuture<@Nullable Settled> recording) {
        Settled settled = null;
        RuntimeException failure = null;
        try {
            settled = recording.join();
        } catch (RuntimeException e) {
            failure = e instanceof CompletionException && e.getCause() instanceof RuntimeException cause ? cause : e;
        }
        inFlight.recorded(settled != null);
        if (closed) {
            return;
        }
        boolean ended = inFlight.isDetached();
        // Without another worker for its slot, which it has given back.
        inFlightById.remove(inFlight.batch().id(), inFlight);
        inFlight.detach();
        if (settled != null) {
            spaceSignal.signal();
        } else if (failure != null && !ended) {
            unrecorded(inFlight, failure);
        }
    }

    /**
     * Has a batch sent once more that the collector has accepted, but the store could not record as delivered. The
     * collector is not at fault, so neither the lane nor the batch's retries count that.
     */
    private void unrecorded(InFlightBatch inFlight, RuntimeException failure) {
        String id = inFlight.batch().id();
        log.debug("batch '{}' was sent, but its delivery could not be recorded", id, failure);
        try {
            String reason = Failure.transientFailure(
                            "it was sent, but that could not be recorded: " + failure.getMessage())
                    .reason();
            CollectorSettings settings = inFlight.lane().settings();
            Instant due = settings.recovery() && !isExcluded(reason)
                    ? Times.after(
                            clock.steady(),
                            settings.retry().delayAfter(inFlight.batch().retryCount() + 1, random))
                    : null;
            // By its fence: it may have been delivered all the same, and its id used again.
            store.failed(
                    id, inFlight.fence(), reason, clock.wall(), (type, retries) -> new Verdict(false, due, retries));
        } catch (RuntimeException e) {
            // It stays in flight until its timeout.
            unreleased.add(id);
            if (e instanceof BatchPersistenceException unavailable) {
                failureLog.failed("recording what was delivered", unavailable);
            } else {
                log.error("batch '{}' was sent, but that could not be recorded; it is sent once more", id, e);
            }
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
            if (target(lane.collectorType) == null || !outages.mayProbe(lane, permit)) {
                return null;
            }
            List<Claim> claims = claim(lane, permit, now);
            if (claims.isEmpty() && permit.isProbe()) {
                // Batches pushed back by earlier probes were to let others go first, but there are none.
                outages.makeDue(lane, lane.takeProbed(now), now);
                claims = claim(lane, permit, now);
            }
            if (!claims.isEmpty()) {
                inFlight = new InFlightBatch(claims.get(0), lane, permit, settlement, overdue(claims.get(0), now));
                inFlightById.put(inFlight.batch().id(), inFlight);
            }
            return inFlight;
        } catch (BatchPersistenceException e) {
            if (!workers.isClosing()) {
                failureLog.failed("claiming a batch for collector '" + lane.collectorType + "'", e);
            }
            return null;
        } catch (Throwable e) {
            // Whatever was thrown, the other lanes must be served.
            if (!workers.isClosing()) {
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
                    throw new IllegalStateException("there is no sender for collector type '"
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

        /** Only while there is nothing to decide: what becomes of an outage must be known before the next batch is sent. */
        @Override
        public @Nullable CompletableFuture<@Nullable Settled> acknowledgeLater(InFlightBatch inFlight) {
            if (closed
                    || inFlight.isDetached()
                    || !inFlight.isExecutedHere()
                    || !inFlight.lane().isCalm()) {
                return null;
            }
            StackSpace.require();
            // Now, not when the store has recorded it: the collector may have failed by then.
            answered(inFlight.lane());
            return store.deliveredLater(inFlight.batch().id());
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
        Collection<Lane> waiting = lanes.all().stream()
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
        return paused.pause(collectorType);
    }

    @Override
    public boolean resume(String collectorType) {
        ensureOpen();
        boolean changed = paused.resume(collectorType);
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
        if (workers.isClosing() || !hasTakenOver()) {
            return 0;
        }
        if (clock.isWallBehind()) {
            failureLog.guard("correcting the times of batches from the future", this::correctAges);
        }
        long[] expired = {0};
        failureLog.guard("looking for expired batches", () -> {
            for (String type : store.collectorTypes()) {
                failureLog.guard(
                        "removing expired batches of collector '" + type + "'", () -> expired[0] += expire(type));
            }
        });
        failureLog.guard("dropping dead letters beyond their limit", this::evictDeadLetters);
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
        CollectorSettings settings = lanes.of(type).settings();
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
                intake.refusedFull(), intake.refusedError(), replayed.sum(), timedOut.sum(), executing.size());
    }

    @Override
    public Map<String, LaneStatus> lanes() {
        Map<String, LaneStatus> statuses = new TreeMap<>();
        lanes.all().forEach(lane -> statuses.put(lane.collectorType, lane.status()));
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
            workers.close();
            failureLog.silence();
            workers.await(shutdownTimeout);
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
            failureLog.guard("notifying other instances about collectors", outages::withdraw);
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
}
