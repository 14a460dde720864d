package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.spi.BatchStore.Claim;
import io.batchpersistence.spi.BatchStore.Verdict;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.atomic.LongAccumulator;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.awaitility.Awaitility;
import org.slf4j.LoggerFactory;

/**
 * Threads that persist, recover and mark in several stores on one database, as fast as possible and despite failures. A
 * ledger records the result of each call. Uses real time.
 */
final class Traffic {

    private static final String TYPE = "loki";
    private static final Duration TIMEOUT = Duration.ofMinutes(10);
    /** Part of the message of an append or mark with an unknown outcome. */
    private static final String UNKNOWN = "may be stored";

    private final List<JdbcBatchStore> stores;
    private final List<Thread> threads = new ArrayList<>();
    private final CountDownLatch stop = new CountDownLatch(1);
    private final ListAppender<ILoggingEvent> logged = new ListAppender<>();
    private final Logger logger = (Logger) LoggerFactory.getLogger(GroupWriter.class);

    private final Set<String> acknowledged = ConcurrentHashMap.newKeySet();
    private final Set<String> refused = ConcurrentHashMap.newKeySet();
    private final Set<String> unknown = ConcurrentHashMap.newKeySet();
    /** When the mark of each batch was acknowledged. */
    private final Map<String, Long> delivered = new ConcurrentHashMap<>();
    /** Batches whose mark has an unknown outcome. */
    private final Set<String> maybeDelivered = ConcurrentHashMap.newKeySet();

    private final Queue<String> violations = new ConcurrentLinkedQueue<>();

    /** By writer: when its last batch was acknowledged. */
    private final AtomicReferenceArray<Long> lastAcknowledged;

    private final LongAccumulator longestCall = new LongAccumulator(Math::max, 0);

    /** Starts the threads: so many writers of all stores together. {@link #stop} closes the stores. */
    Traffic(List<JdbcBatchStore> stores, int writers) {
        this.stores = stores;
        lastAcknowledged = new AtomicReferenceArray<>(writers);
        logged.start();
        logger.addAppender(logged);
        for (int i = 0; i < writers; i++) {
            int writer = i;
            lastAcknowledged.set(writer, 0L);
            threads.add(new Thread(() -> write(writer), "writer-" + writer));
        }
        for (JdbcBatchStore store : stores) {
            threads.add(new Thread(() -> recover(store), "recoverer"));
        }
        threads.forEach(Thread::start);
    }

    private void write(int writer) {
        JdbcBatchStore store = stores.get(writer % stores.size());
        Random random = new Random(writer);
        for (int i = 0; stop.getCount() > 0; i++) {
            String id = "w" + writer + "-" + i;
            try {
                timed(() -> {
                    Instant now = Instant.now();
                    return store.append(new NewBatch(id, TYPE, Batches.entries(3), Map.of(), now, now.plus(TIMEOUT)))
                            .join();
                });
                acknowledged.add(id);
                lastAcknowledged.set(writer, System.nanoTime());
            } catch (CompletionException e) {
                if (!(e.getCause() instanceof BatchPersistenceException)) {
                    violations.add(id + " could not be appended: " + e.getCause());
                }
                (isUnknown(e.getCause()) ? unknown : refused).add(id);
                continue;
            }
            int what = random.nextInt(10);
            if (what < 6) {
                deliver(store, id);
            } else if (what < 9) {
                fail(store, id, 0);
            }
            // Otherwise the batch is never settled, as if the sender hung.
        }
    }

    private void recover(JdbcBatchStore store) {
        Random random = new Random();
        try {
            while (stop.getCount() > 0) {
                List<Claim> claims = List.of();
                long asked = System.nanoTime();
                try {
                    Instant now = Instant.now();
                    claims = timed(() -> store.claim(TYPE, BatchOrder.OLDEST_FIRST, now, now.plus(TIMEOUT), 20));
                } catch (BatchPersistenceException e) {
                    // If the claim succeeded, the batches are returned when they time out.
                }
                for (Claim claim : claims) {
                    String id = claim.batch().id();
                    Long before = delivered.get(id);
                    if (before != null && before - asked < 0) {
                        violations.add(id + " was handed out after its mark had been acknowledged");
                    }
                    if (refused.contains(id)) {
                        violations.add(id + " was handed out, but had been refused");
                    }
                    if (random.nextInt(5) > 0) {
                        deliver(store, id);
                    } else {
                        fail(store, id, claim.fence());
                    }
                }
                if (claims.isEmpty()) {
                    stop.await(5, TimeUnit.MILLISECONDS);
                }
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private void deliver(JdbcBatchStore store, String id) {
        try {
            if (timed(() -> store.delivered(id)) != null && delivered.put(id, System.nanoTime()) != null) {
                violations.add(id + " was delivered twice");
            }
        } catch (BatchPersistenceException e) {
            if (isUnknown(e)) {
                maybeDelivered.add(id);
            }
        }
    }

    private void fail(JdbcBatchStore store, String id, long fence) {
        Instant now = Instant.now();
        try {
            timed(() -> store.failed(id, fence, "503", now, (type, retries) -> new Verdict(false, now, retries + 1)));
        } catch (BatchPersistenceException e) {
            // In flight, or already pending.
        }
    }

    private static boolean isUnknown(Throwable failure) {
        return String.valueOf(failure.getMessage()).contains(UNKNOWN);
    }

    private <T> T timed(Supplier<T> call) {
        long start = System.nanoTime();
        try {
            return call.get();
        } finally {
            longestCall.accumulate(System.nanoTime() - start);
        }
    }

    int acknowledged() {
        return acknowledged.size();
    }

    void awaitMore(int batches) {
        int before = acknowledged();
        soon(() -> acknowledged() >= before + batches);
    }

    static void soon(Callable<Boolean> condition) {
        Awaitility.await()
                .atMost(Duration.ofMinutes(5))
                .pollDelay(Duration.ZERO)
                .pollInterval(Duration.ofMillis(2))
                .until(condition);
    }

    /** The number of writers with a batch acknowledged after that time. */
    long writersSince(long nanoTime) {
        long count = 0;
        for (int i = 0; i < lastAcknowledged.length(); i++) {
            if (lastAcknowledged.get(i) - nanoTime > 0) {
                count++;
            }
        }
        return count;
    }

    int refused() {
        return refused.size();
    }

    /** The longest call since the last time this was asked. */
    Duration longestCall() {
        return Duration.ofNanos(longestCall.getThenReset());
    }

    private long logged(String words) {
        // The lock that the appender itself uses.
        synchronized (logged) {
            return logged.list.stream()
                    .filter(event -> event.getFormattedMessage().contains(words))
                    .count();
        }
    }

    String told() {
        return String.format(
                "%,d acknowledged, %,d of all marked; %,d refused; connections lost during the commit of a group: %,d found"
                        + " committed, %,d written again; %,d appends and %,d marks not found out about",
                acknowledged.size(),
                delivered.size(),
                refused.size(),
                logged("it had been committed"),
                logged("written again"),
                unknown.size(),
                maybeDelivered.size());
    }

    void stop() throws InterruptedException {
        stop.countDown();
        for (Thread thread : threads) {
            thread.join();
        }
        logger.detachAppender(logged);
        stores.forEach(JdbcBatchStore::close);
    }

    /**
     * Compares the results of the calls with the contents of the store, which was opened after the others had been
     * closed.
     */
    void check(JdbcBatchStore last) {
        Instant now = Instant.now();
        Set<String> held = last.list(BatchSelector.all(), now).stream()
                .map(BatchSummary::id)
                .collect(Collectors.toSet());
        assertThat(violations).as("violations").isEmpty();
        assertThat(without(without(without(acknowledged, held), delivered.keySet()), maybeDelivered))
                .as("acknowledged, not delivered, and not there")
                .isEmpty();
        assertThat(both(delivered.keySet(), held))
                .as("there, although its mark was acknowledged")
                .isEmpty();
        assertThat(both(refused, held)).as("there, although it was refused").isEmpty();
        Set<String> foreign = without(without(held, acknowledged), unknown);
        assertThat(foreign).as("there, and no one knows why").isEmpty();

        CollectorStats stats = last.stats().collector(TYPE);
        assertThat(stats.isBalanced()).as("%s", stats).isTrue();
        assertThat(stats.accepted())
                .as("accepted; %s", stats)
                .isBetween((long) acknowledged.size(), (long) acknowledged.size() + unknown.size());
        assertThat(stats.delivered())
                .as("delivered; %s", stats)
                .isBetween((long) delivered.size(), (long) delivered.size() + maybeDelivered.size());
        assertThat(stats.accepted() - stats.delivered()).as("%s", stats).isEqualTo(held.size());
        assertThat(stats.pending()).as("pending; %s", stats).isEqualTo(held.size());
    }

    private static Set<String> without(Set<String> all, Set<String> some) {
        Set<String> rest = new TreeSet<>(all);
        rest.removeAll(some);
        return rest;
    }

    private static Set<String> both(Set<String> one, Set<String> other) {
        Set<String> both = new TreeSet<>(one);
        both.retainAll(other);
        return both;
    }
}
