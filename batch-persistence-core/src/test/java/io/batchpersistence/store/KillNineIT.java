package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Kills processes that persist and mark with eight threads, repeatedly in the same directory. Each time the store must
 * hold what it acknowledged.
 *
 * <p>The name of a process determines what it does ({@link Script}). It prints each finished step before the next one,
 * and the pipe outlives it. So only the next step of each thread is uncertain, plus the marks on their way to the file.
 * Marks are queued for the writer's next round, and each round writes marks before batches. A mark is therefore in the
 * file once its thread has had a later persist acknowledged.
 *
 * <p>{@code -Dbatch.kill.rounds=N} sets the number of rounds (default 15 for segments, 5 for files; 50 in CI),
 * {@code -Dbatch.kill.seed=N} the seed.
 */
@Tag("slow")
class KillNineIT {

    private static final long SEED = Long.getLong("batch.kill.seed", 20_260_101);
    private static final int THREADS = 8;
    private static final int MOST_ACKNOWLEDGEMENTS = 500;
    private static final String REASON = "connection refused";
    private static final Instant LATER = Instant.parse("2100-01-01T00:00:00Z");

    private enum Kind {
        PERSIST,
        RETRY,
        DEAD,
        DELIVER
    }

    private record Step(Kind kind, String id) {}

    /** The steps of a batch. All states are distinct, so that the last step is visible. */
    private enum ExpectedState {
        ABSENT,
        PERSISTED,
        FAILED,
        DEAD,
        DELIVERED;

        ExpectedState after(Kind kind) {
            return switch (kind) {
                case PERSIST -> PERSISTED;
                case RETRY -> FAILED;
                case DEAD -> DEAD;
                case DELIVER -> DELIVERED;
            };
        }
    }

    /** The steps of one thread of one process, always the same. */
    private static final class Script {
        private final String prefix;
        private final Random random;
        private final List<String> fresh = new ArrayList<>();
        private final List<String> failed = new ArrayList<>();
        private int persisted;

        Script(long seed, String process, int thread) {
            this.prefix = process + "-t" + thread + "-";
            this.random = new Random(seed * 31 + prefix.hashCode());
        }

        Step next() {
            if (fresh.isEmpty() || random.nextInt(5) < 3) {
                String id = prefix + persisted++;
                fresh.add(id);
                return new Step(Kind.PERSIST, id);
            }
            if (!failed.isEmpty() && random.nextInt(3) == 0) {
                return new Step(Kind.DELIVER, failed.remove(random.nextInt(failed.size())));
            }
            String id = fresh.remove(random.nextInt(fresh.size()));
            Kind kind = switch (random.nextInt(4)) {
                case 0 -> Kind.RETRY;
                case 1 -> Kind.DEAD;
                default -> Kind.DELIVER;
            };
            if (kind == Kind.RETRY) {
                failed.add(id);
            }
            return new Step(kind, id);
        }
    }

    private static DiskStoreOptions options(Path directory) {
        return DiskStoreOptions.builder(directory).segmentSize(64 << 10).build();
    }

    /** Persists and marks until it is killed. Arguments are the directory, the seed, a name and the kind of store. */
    static final class Child {

        private final FileOutputStream out = new FileOutputStream(FileDescriptor.out);
        private final BatchStore store;

        private Child(StoreKind kind, Path directory) {
            say("opening");
            store = kind.open(options(directory));
        }

        public static void main(String[] args) {
            Child child = new Child(StoreKind.valueOf(args[3]), Path.of(args[0]));
            for (int t = 0; t < THREADS; t++) {
                int thread = t;
                Script script = new Script(Long.parseLong(args[1]), args[2], thread);
                new Thread(() -> child.run(thread, script)).start();
            }
        }

        private void run(int thread, Script script) {
            try {
                while (true) {
                    Step step = script.next();
                    perform(step);
                    say(thread + " " + step.kind() + " " + step.id());
                }
            } catch (RuntimeException | Error e) {
                e.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }

        private void perform(Step step) {
            Instant now = Instant.now();
            Object settled = switch (step.kind()) {
                case PERSIST -> {
                    store.append(GeneratedBatch.of(step.id(), now, LATER)).join();
                    yield step;
                }
                case DELIVER -> store.delivered(step.id());
                case RETRY, DEAD ->
                    store.failed(
                            step.id(),
                            BatchStore.ANY_FENCE,
                            REASON,
                            now,
                            (type, retries) -> new BatchStore.Verdict(step.kind() == Kind.DEAD, LATER, retries + 1));
            };
            if (settled == null) {
                throw new IllegalStateException("nothing to settle for " + step);
            }
        }

        /** Prints a line in a single write, so that it is never partial. */
        private void say(String line) {
            try {
                out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    @TempDir
    Path temp;

    private final Random random = new Random(SEED);
    /** Batches that were seen after a kill. They must not change unless this process changes them. */
    private final Map<String, ExpectedState> settledDown = new HashMap<>();

    private long acknowledged;
    private long persisted;
    private long maybePersisted;
    private long marked;
    private long resurrected;
    private long mostResurrected;

    @ParameterizedTest
    @EnumSource
    @Timeout(value = 4, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
    void what_was_acknowledged_is_there_after_kill_nine(StoreKind kind) throws Exception {
        int rounds = Integer.getInteger("batch.kill.rounds", kind == StoreKind.SEGMENT ? 15 : 5);
        Path directory = temp.resolve("store");
        int children = 0;
        for (int round = 0; round < rounds; round++) {
            // Sometimes kills several in a row: the next one opens what the last one left, and is killed, too.
            int inRow = random.nextInt(4) == 0 ? 2 + random.nextInt(2) : 1;
            List<List<List<Step>>> done = new ArrayList<>();
            List<String> names = new ArrayList<>();
            for (int i = 0; i < inRow; i++) {
                String name = "r" + round + "-c" + i;
                names.add(name);
                done.add(runAndKill(kind, directory, name));
                children++;
            }
            look(kind, directory, names, done);
        }
        System.out.printf(
                "kill -9, %s: %d rounds, %d processes killed, %d acknowledged (%d persisted, %d marked), %d marks taken back "
                        + "(at most %d at a time), 0 lost%n",
                kind, rounds, children, acknowledged, persisted, marked, resurrected, mostResurrected);
        assertThat(acknowledged).isPositive();
    }

    /** Returns the reported steps of each thread. */
    private List<List<Step>> runAndKill(StoreKind kind, Path directory, String name)
            throws IOException, InterruptedException {
        int killAfter = random.nextInt(8) == 0 ? 0 : random.nextInt(MOST_ACKNOWLEDGEMENTS);
        List<List<Step>> done = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            done.add(new ArrayList<>());
        }
        int said = 0;
        try (ChildJvm child = new ChildJvm(
                Child.class, temp.resolve(name + ".err"), directory.toString(), "" + SEED, name, kind.name())) {
            assertThat(child.readLine()).as(child::errors).isEqualTo("opening");
            if (killAfter == 0) {
                child.kill();
            }
            for (String line = child.readLine(); line != null; line = child.readLine()) {
                String[] words = line.split(" ", -1);
                done.get(Integer.parseInt(words[0])).add(new Step(Kind.valueOf(words[1]), words[2]));
                if (++said == killAfter) {
                    child.kill();
                }
            }
            child.awaitKilled();
        }
        acknowledged += said;
        return done;
    }

    private void look(StoreKind kind, Path directory, List<String> names, List<List<List<Step>>> done) {
        try (BatchStore store = kind.open(options(directory))) {
            store.onCorruption(corruption -> fail("damage: " + corruption));
            Map<String, ExpectedState> found = contents(store);
            Map<String, ExpectedState> unexplained = new LinkedHashMap<>(found);
            settledDown.forEach((id, state) -> assertThat(unexplained.remove(id))
                    .as("%s from an earlier round", id)
                    .isEqualTo(state));
            long before = resurrected;
            for (int i = 0; i < names.size(); i++) {
                for (int thread = 0; thread < THREADS; thread++) {
                    compare(
                            kind,
                            new Script(SEED, names.get(i), thread),
                            done.get(i).get(thread),
                            found,
                            unexplained);
                }
            }
            mostResurrected = Math.max(mostResurrected, resurrected - before);
            assertThat(unexplained).as("batches that no one persisted").isEmpty();
            checkAccounts(store, found);
            settledDown.clear();
            settledDown.putAll(found);
            deliverSome(store);
        }
    }

    /** Reads every stored batch and checks its content against its id. */
    private static Map<String, ExpectedState> contents(BatchStore store) {
        Map<String, ExpectedState> found = new LinkedHashMap<>();
        for (BatchSummary summary : store.list(BatchSelector.all(), Instant.now())) {
            PersistedBatch batch = store.find(summary.id()).orElseThrow();
            String id = batch.id();
            assertThat(batch.entries()).as(id).isEqualTo(GeneratedBatch.entries(id));
            assertThat(batch.context()).as(id).isEqualTo(GeneratedBatch.context(id));
            assertThat(batch.collectorType()).as(id).isEqualTo(GeneratedBatch.collectorType(id));
            ExpectedState state = ExpectedState.PERSISTED;
            if (batch.retryCount() > 0) {
                state = batch.state() == BatchState.DEAD ? ExpectedState.DEAD : ExpectedState.FAILED;
                assertThat(batch.failureReason()).as(id).isEqualTo(REASON);
                assertThat(batch.retryCount()).as(id).isEqualTo(1);
                assertThat(batch.nextAttemptAt()).as(id).isEqualTo(state == ExpectedState.DEAD ? null : LATER);
            } else {
                assertThat(batch.state()).as(id).isEqualTo(BatchState.PENDING);
                assertThat(batch.nextAttemptAt()).as("%s is due at once", id).isBeforeOrEqualTo(Instant.now());
            }
            assertThat(found.put(id, state)).as("%s twice", id).isNull();
        }
        return found;
    }

    /** Compares what is found with the steps of one thread. */
    private void compare(
            StoreKind kind,
            Script script,
            List<Step> done,
            Map<String, ExpectedState> found,
            Map<String, ExpectedState> unexplained) {
        // The state of each batch after each of its steps. The last step of the thread is the uncertain one.
        Map<String, List<ExpectedState>> lives = new HashMap<>();
        List<Step> steps = new ArrayList<>();
        List<Integer> ordinals = new ArrayList<>();
        for (int i = 0; i <= done.size(); i++) {
            Step step = script.next();
            if (i < done.size()) {
                assertThat(done.get(i)).isEqualTo(step);
            }
            List<ExpectedState> life =
                    lives.computeIfAbsent(step.id(), id -> new ArrayList<>(List.of(ExpectedState.ABSENT)));
            steps.add(step);
            ordinals.add(life.size());
            life.add(life.get(life.size() - 1).after(step.kind()));
        }
        boolean lostOne = false;
        for (int i = 0; i < steps.size(); i++) {
            Step step = steps.get(i);
            boolean said = i < done.size();
            List<ExpectedState> life = lives.get(step.id());
            ExpectedState state = found.getOrDefault(
                    step.id(), life.contains(ExpectedState.DELIVERED) ? ExpectedState.DELIVERED : ExpectedState.ABSENT);
            boolean happened = life.indexOf(state) >= ordinals.get(i);
            unexplained.remove(step.id());
            if (step.kind() == Kind.PERSIST) {
                assertThat(happened || !said).as("%s, which is %s", step, state).isTrue();
                persisted += said ? 1 : 0;
                maybePersisted += said ? 0 : 1;
            } else {
                int persistsAfter = (int) done.subList(Math.min(i + 1, done.size()), done.size()).stream()
                        .filter(later -> later.kind() == Kind.PERSIST)
                        .count();
                assertThat(happened || persistsAfter < 1)
                        .as("%s with %s persists after it, now %s", step, persistsAfter, state)
                        .isTrue();
                // All marks of a segment store are in one journal, so a kill loses the end of it. Each document stores
                // the state of its batch and is renamed on its own.
                assertThat(happened && lostOne && kind == StoreKind.SEGMENT)
                        .as("%s outlived a mark before it", step)
                        .isFalse();
                lostOne |= !happened;
                marked += said ? 1 : 0;
                resurrected += said && !happened ? 1 : 0;
            }
        }
    }

    private void checkAccounts(BatchStore store, Map<String, ExpectedState> found) {
        for (CollectorStats collector : store.stats().collectors().values()) {
            assertThat(collector.isBalanced()).as("%s", collector).isTrue();
        }
        CollectorStats total = store.stats().total();
        assertThat(total.corrupt()).isZero();
        assertThat(total.inFlight()).isZero();
        assertThat(total.accepted()).isBetween(persisted, persisted + maybePersisted);
        assertThat(total.pending() + total.dead()).isEqualTo(found.size());
    }

    private void deliverSome(BatchStore store) {
        for (String id : List.copyOf(settledDown.keySet())) {
            if (random.nextInt(3) > 0) {
                assertThat(store.delivered(id)).as(id).isNotNull();
                settledDown.remove(id);
            }
        }
    }
}
