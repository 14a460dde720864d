package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A process runs out of memory repeatedly, in senders, in persisting callers, and in the store's threads. Acknowledged
 * batches are there, refused ones are not, and all goes on when there is memory again.
 *
 * <p>{@code -Dbatch.oom.batches=N} sets how many batches each caller tries to persist (default 8).
 */
@Timeout(value = 5, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class OutOfMemoryTest {

    private static final int THREADS = 3;

    @TempDir
    Path temp;

    /** Runs only on request: how long a process without memory needs is unpredictable. */
    @ParameterizedTest
    @EnumSource
    @EnabledIfSystemProperty(
            named = "batch.oom.batches",
            matches = "\\d+",
            disabledReason = "a process that really has no memory may take minutes; -Dbatch.oom.batches=8 runs it")
    void nothing_is_lost_and_the_store_goes_on(StoreKind kind) throws Exception {
        String batches = System.getProperty("batch.oom.batches", "8");
        try (ChildJvm child = new ChildJvm(
                Program.class,
                temp.resolve("err"),
                List.of("-Xmx24m"),
                "",
                temp.resolve("store").toString(),
                kind.name(),
                batches)) {
            List<String> lines = child.awaitPassed();
            List<String> said =
                    lines.stream().filter(line -> line.contains("acknowledged")).toList();
            System.out.println("out of memory, " + kind + ": " + said);
            assertThat(lines).as(child::errors).last().asString().startsWith("passed");
        }
    }

    /** Arguments are the directory, the kind of store and the number of batches per thread. */
    static final class Program {

        private enum Fate {
            ACKNOWLEDGED,
            REFUSED
        }

        private static final List<LogEntry> ENTRIES = GeneratedBatch.entries("same for all");

        private final AtomicInteger failedSends = new AtomicInteger();
        private final Path directory;
        private final StoreKind kind;
        private final String[][] ids;
        private final Fate[][] fates;
        private BatchPersistenceEngine engine;
        private volatile boolean done;

        private Program(Path directory, StoreKind kind, int batches) {
            this.directory = directory;
            this.kind = kind;
            this.ids = new String[THREADS][batches];
            this.fates = new Fate[THREADS][batches];
            this.engine = open();
        }

        private BatchPersistenceEngine open() {
            return BatchPersistenceEngine.builder(kind.open(DiskStoreOptions.builder(directory)
                            .segmentSize(64 << 10)
                            .build()))
                    .targets(type -> type.equals("hungry") ? RecoveryTarget.of(this::send) : null)
                    .build();
        }

        /** A sender that needs more memory than there is. */
        private void send(PersistedBatch batch) {
            failedSends.incrementAndGet();
            Object[] chain = null;
            while (true) {
                Object[] next = new Object[64 << 10];
                next[0] = chain;
                chain = next;
            }
        }

        public static void main(String[] args) throws Exception {
            Program program = new Program(Path.of(args[0]), StoreKind.valueOf(args[1]), Integer.parseInt(args[2]));
            program.run();
        }

        private void run() throws InterruptedException {
            engine.persistBatch("hungry", ENTRIES, "hungry");
            Thread hog = new Thread(this::takeAll);
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < THREADS; t++) {
                int thread = t;
                for (int i = 0; i < ids[t].length; i++) {
                    ids[t][i] = "t" + t + "-" + i;
                }
                threads.add(new Thread(() -> persist(thread)));
            }
            hog.start();
            threads.forEach(Thread::start);
            for (Thread thread : threads) {
                thread.join();
            }
            done = true;
            hog.join();
            engine.releaseBatch("hungry");
            while (engine.stats().collector("hungry").failedAttempts() == 0) {
                engine.recover();
                // Does not compete with the sender for memory.
                LockSupport.parkNanos(10_000_000);
            }
            for (int i = 0; i < 20; i++) {
                engine.persistBatch("after-" + i, ENTRIES, "loki");
                if (i % 2 == 0) {
                    engine.markBatchSuccess("after-" + i);
                }
            }
            check("before closing");
            engine.close();
            engine = open();
            check("opened again");
            engine.close();
            System.out.println("passed");
        }

        /** Repeatedly takes all memory and frees it. */
        private void takeAll() {
            while (!done) {
                Object[] chain = null;
                int size = 64 << 10;
                while (size >= 16 && !done) {
                    try {
                        Object[] next = new Object[size];
                        next[0] = chain;
                        chain = next;
                    } catch (OutOfMemoryError e) {
                        // Takes the smallest free pieces, too.
                        size /= 2;
                    }
                }
            }
        }

        private void persist(int thread) {
            for (int i = 0; i < ids[thread].length; i++) {
                try {
                    engine.persistBatch(ids[thread][i], ENTRIES, "loki");
                    fates[thread][i] = Fate.ACKNOWLEDGED;
                } catch (RuntimeException | OutOfMemoryError e) {
                    fates[thread][i] = Fate.REFUSED;
                }
            }
        }

        private void check(String when) {
            Set<String> held = new HashSet<>();
            engine.list(BatchSelector.all().collectorTypes("loki")).forEach(summary -> held.add(summary.id()));
            int acknowledged = 0;
            int refused = 0;
            for (int t = 0; t < THREADS; t++) {
                for (int i = 0; i < ids[t].length; i++) {
                    boolean is = held.remove(ids[t][i]);
                    boolean should = fates[t][i] == Fate.ACKNOWLEDGED;
                    acknowledged += should ? 1 : 0;
                    refused += should ? 0 : 1;
                    if (is != should) {
                        throw new AssertionError(when + ": " + ids[t][i] + " is " + (is ? "there" : "lost")
                                + ", but was " + fates[t][i]);
                    }
                }
            }
            for (int i = 1; i < 20; i += 2) {
                if (!held.remove("after-" + i)) {
                    throw new AssertionError(when + ": after-" + i + " is lost");
                }
            }
            if (!held.isEmpty()) {
                throw new AssertionError(when + ": no one persisted " + held);
            }
            if (!engine.stats().total().isBalanced()
                    || engine.stats().total().corrupt() > 0
                    || engine.stats().problem() != null) {
                throw new AssertionError(when + ": " + engine.stats());
            }
            if (acknowledged == 0 || refused == 0 || failedSends.get() == 0) {
                throw new AssertionError("shows nothing: " + acknowledged + " acknowledged, " + refused + " refused, "
                        + failedSends + " sends");
            }
            if (!engine.find("hungry").map(PersistedBatch::entries).equals(Optional.of(ENTRIES))) {
                throw new AssertionError(when + ": the batch whose sender runs out of memory is lost");
            }
            System.out.println(when + ": " + acknowledged + " acknowledged and there, " + refused
                    + " refused and not there, " + failedSends + " sends ran out of memory");
        }
    }
}
