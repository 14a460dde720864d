package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.store.ChildJvm;
import io.batchpersistence.store.GeneratedBatch;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Instances in separate processes share one PostgreSQL. They persist and send while they are killed with SIGKILL and
 * frozen with SIGSTOP for longer than their lease, at random. Killed ones are replaced. In the end the remaining ones
 * deliver everything. Then no acknowledged batch may be missing at the target, the counters must balance, and no batch
 * may have been settled twice. Each duplicate at the target must have been in flight on an instance that was killed or
 * frozen before it marked the batch.
 *
 * <p>Each process writes what it does, line by line, to a file that outlives it.
 * {@code -Dbatch.jdbc.storm.batches=100000} sets the number of batches, {@code …accidents=100} the approximate number
 * of kills and freezes, and {@code …instances=8}, {@code …lease.millis=2000} and {@code …seed=1} the rest.
 */
@Timeout(value = 4, unit = TimeUnit.HOURS, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class JdbcInstancesKilledIT {

    private static final int BATCHES = Integer.getInteger("batch.jdbc.storm.batches", 400);
    private static final int INSTANCES = Integer.getInteger("batch.jdbc.storm.instances", 3);
    private static final long SEED = Long.getLong("batch.jdbc.storm.seed", 1);
    private static final long LEASE_MILLIS = Long.getLong("batch.jdbc.storm.lease.millis", 2_000);
    private static final int ACCIDENTS = Integer.getInteger("batch.jdbc.storm.accidents", 8);

    /** On a busy machine an instance may take this long to notice that it has lost a batch. */
    private static final long SLACK_MILLIS = 10_000;

    /** Persists and sends. The first line of input ends persisting, the second one closes the instance. */
    static final class Child {

        private static final int CALLERS = 2;
        private static final CollectorSettings SETTINGS = new CollectorSettings(
                Duration.ofMinutes(5),
                Duration.ofHours(24),
                Duration.ofHours(24),
                new RecoveryPolicy(Duration.ofMillis(200), 2, Duration.ofSeconds(2), 0.5, 1_000),
                true,
                3,
                0,
                BatchOrder.OLDEST_FIRST,
                0,
                Duration.ofHours(1),
                false);

        private final String name;
        private final FileOutputStream log;
        private final BatchPersistenceEngine engine;
        private final AtomicInteger numbers = new AtomicInteger();
        private final AtomicLong sendings = new AtomicLong();
        private volatile boolean persisting = true;

        private Child(String url, String prefix, long leaseMillis, String name, Path file) throws IOException {
            this.name = name;
            this.log = new FileOutputStream(file.toFile(), true);
            engine = BatchPersistenceEngine.builder(JdbcBatchStore.open(
                            TestDatabase.pool(url, 5),
                            JdbcStoreOptions.builder()
                                    .tablePrefix(prefix)
                                    .instanceName(name)
                                    .lease(Duration.ofMillis(leaseMillis))
                                    .build()))
                    .settings(type -> SETTINGS)
                    .targets(type -> recovered -> {
                        PersistedBatch batch = recovered.batch();
                        if (!batch.entries().equals(GeneratedBatch.entries(batch.id()))) {
                            say("DAMAGED", batch.id(), 0);
                        }
                        long sending = sink(batch.id(), batch.retryCount());
                        settle(batch.id(), sending, recovered::acknowledge);
                    })
                    .build();
        }

        public static void main(String[] args) throws Exception {
            // Standard error is a file. The parent does not read standard output while this runs.
            System.setOut(System.err);
            Child child = new Child(args[0], args[1], Long.parseLong(args[2]), args[3], Path.of(args[4]));
            ScheduledExecutorService schedule = Executors.newSingleThreadScheduledExecutor();
            var unused = schedule.scheduleWithFixedDelay(child.engine::recover, 100, 100, TimeUnit.MILLISECONDS);
            List<Thread> callers = new ArrayList<>();
            for (int i = 0; i < CALLERS; i++) {
                Thread caller = new Thread(child::persistAndSend);
                caller.start();
                callers.add(caller);
            }
            // The first line: stop persisting.
            System.in.read();
            child.persisting = false;
            for (Thread caller : callers) {
                caller.join();
            }
            // The second line: everything is delivered.
            System.in.read();
            schedule.shutdown();
            child.engine.close();
            System.exit(0);
        }

        private void persistAndSend() {
            try {
                while (persisting) {
                    String id = name + "-" + numbers.incrementAndGet();
                    persistAndSend(id);
                }
            } catch (RuntimeException | Error e) {
                e.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }

        private void persistAndSend(String id) {
            try {
                engine.persistBatch(
                        id, GeneratedBatch.entries(id), GeneratedBatch.collectorType(id), GeneratedBatch.context(id));
            } catch (BatchPersistenceException e) {
                say("REFUSED", id, 0);
                System.err.println(e);
                return;
            }
            say("PERSISTED", id, 0);
            long sending;
            try {
                sending = sink(id, 0);
            } catch (IOException e) {
                try {
                    engine.markBatchFailed(id, e);
                } catch (BatchPersistenceException notMarked) {
                    // The batch is sent again when this instance is gone or the batch times out.
                    System.err.println(notMarked);
                }
                return;
            }
            settle(id, sending, () -> engine.markBatchSuccess(id));
        }

        /** The target, which rejects some batches. */
        private long sink(String id, int retries) throws IOException {
            long sending = sendings.incrementAndGet();
            say("SENDING", id, sending);
            // One in 16.
            if ((((id + "/" + retries).hashCode() * 0x9E3779B9) >>> 28) == 0) {
                throw new IOException("503 Service Unavailable");
            }
            say("TAKEN", id, sending);
            return sending;
        }

        private void settle(String id, long sending, BooleanSupplier mark) {
            boolean settled;
            try {
                settled = mark.getAsBoolean();
            } catch (BatchPersistenceException e) {
                say("NOT_MARKED", id, sending);
                System.err.println(e);
                return;
            }
            say(settled ? "SETTLED" : "NOT_MINE", id, sending);
        }

        /** Writes a line in a single write, so that it is never partial. */
        private void say(String what, String id, long sending) {
            String line = System.currentTimeMillis() + " " + what + " " + id + " " + sending + "\n";
            try {
                log.write(line.getBytes(StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    /** A period in which an instance may have lost its batches in flight. */
    private record Incident(long from, long to) {}

    private static final class Running {
        final String name;
        final ChildJvm process;
        final List<Incident> frozen = new ArrayList<>();
        boolean killed;
        /** 0 while it runs. */
        long frozenSince;

        long frozenUntil;

        Running(String name, ChildJvm process) {
            this.name = name;
            this.process = process;
        }
    }

    @TempDir
    Path temp;

    private final Random random = new Random(SEED);
    private final List<Running> all = new ArrayList<>();
    private final List<Running> alive = new ArrayList<>();
    private TestDatabase database;
    private int kills;
    private int killsOfFrozen;
    private int freezes;

    @AfterEach
    void close() {
        all.forEach(each -> each.process.close());
        if (database != null) {
            database.close();
        }
    }

    private Path file(String name) {
        return temp.resolve(name + ".log");
    }

    private void start() throws IOException {
        String name = "i" + all.size();
        Running started = new Running(
                name,
                new ChildJvm(
                        Child.class,
                        temp.resolve(name + ".err"),
                        database.pool().getJdbcUrl(),
                        database.options().build().tablePrefix(),
                        String.valueOf(LEASE_MILLIS),
                        name,
                        file(name).toString()));
        all.add(started);
        alive.add(started);
    }

    private long number(String sql) {
        return Long.parseLong(database.query(sql).get(0));
    }

    private long accepted() {
        return number("SELECT COALESCE(SUM(accepted), 0) FROM {p}counter");
    }

    private long held() {
        return number("SELECT COALESCE(SUM(pending + in_flight + dead), 0) FROM {p}counter");
    }

    private void kill(Running victim) throws Exception {
        victim.process.kill();
        victim.process.awaitKilled();
        victim.killed = true;
        kills++;
        alive.remove(victim);
        start();
    }

    private void freeze(Running victim) throws Exception {
        victim.frozenSince = System.currentTimeMillis();
        // Between little more than the lease and long enough for the others to take over everything.
        victim.frozenUntil = victim.frozenSince + LEASE_MILLIS + random.nextLong(2 * LEASE_MILLIS);
        victim.process.freeze();
        freezes++;
    }

    private void thaw(Running victim) throws Exception {
        victim.process.thaw();
        victim.frozen.add(new Incident(victim.frozenSince, System.currentTimeMillis()));
        victim.frozenSince = 0;
    }

    private void thawThoseWhoseTimeIsOver(long now) throws Exception {
        for (Running each : alive) {
            if (each.frozenSince != 0 && each.frozenUntil <= now) {
                thaw(each);
            }
        }
    }

    /** At least two instances keep running, so that one can take over. */
    private void accident() throws Exception {
        Running victim = alive.get(random.nextInt(alive.size()));
        if (victim.frozenSince != 0) {
            if (random.nextInt(3) == 0) {
                killsOfFrozen++;
                kill(victim);
            }
        } else if (random.nextBoolean()) {
            kill(victim);
        } else if (alive.stream().filter(each -> each.frozenSince == 0).count() > 2) {
            freeze(victim);
        }
    }

    @Test
    void nothing_is_lost_and_what_comes_twice_was_cut_off() throws Exception {
        database = TestDatabase.of(TestDatabase.Kind.POSTGRESQL);
        long began = System.nanoTime();
        try (JdbcBatchStore looking =
                JdbcBatchStore.open(database.pool(), database.options().build())) {
            // The tables exist now.
            assertThat(looking.stats().problem()).isNull();
        }
        for (int i = 0; i < INSTANCES; i++) {
            start();
        }
        int apart = BATCHES / (ACCIDENTS + 1);
        long next = apart;
        Awaitility.setDefaultPollInterval(Duration.ofMillis(100));
        for (long accepted = 0; accepted < BATCHES || kills == 0 || freezes == 0; accepted = accepted()) {
            if (accepted >= next) {
                accident();
                next = accepted + apart / 2 + random.nextInt(apart);
            }
            long before = accepted;
            long until = alive.stream()
                    .filter(each -> each.frozenSince != 0)
                    .mapToLong(each -> each.frozenUntil)
                    .min()
                    .orElse(Long.MAX_VALUE);
            Awaitility.await()
                    .atMost(Duration.ofMinutes(2))
                    .until(() -> accepted() > before || System.currentTimeMillis() >= until);
            thawThoseWhoseTimeIsOver(System.currentTimeMillis());
        }
        double persistSeconds = (System.nanoTime() - began) / 1e9;
        drain();
        double seconds = (System.nanoTime() - began) / 1e9;
        check(persistSeconds, seconds);
    }

    private void drain() throws Exception {
        for (Running each : alive) {
            if (each.frozenSince != 0) {
                thaw(each);
            }
            each.process.writeLine("");
        }
        Awaitility.await().atMost(Duration.ofMinutes(10)).until(() -> held() == 0);
        for (Running each : alive) {
            each.process.writeLine("");
        }
        for (Running each : alive) {
            each.process.awaitPassed();
        }
    }

    private static final class Sending {
        final Running by;
        final long began;
        String end = "";
        long ended;

        Sending(Running by, long began) {
            this.by = by;
            this.began = began;
        }
    }

    private final Map<String, Integer> said = new TreeMap<>();
    private final Set<String> persisted = new HashSet<>();
    private final Map<String, List<Sending>> taken = new HashMap<>();
    private final Map<String, Integer> settled = new HashMap<>();
    private final Map<String, Integer> explanations = new TreeMap<>();

    private void read(Running instance) throws IOException {
        if (!Files.exists(file(instance.name))) {
            // Killed before it started.
            return;
        }
        Map<Long, Sending> open = new HashMap<>();
        Map<String, Long> own = new HashMap<>();
        for (String line : Files.readAllLines(file(instance.name))) {
            String[] words = line.split(" ", -1);
            long at = Long.parseLong(words[0]);
            String id = words[2];
            long number = Long.parseLong(words[3]);
            said.merge(words[1], 1, Integer::sum);
            switch (words[1]) {
                case "PERSISTED" -> {
                    persisted.add(id);
                    own.put(id, at);
                }
                case "SENDING" -> {
                    // An instance owns a batch from the time it persists it.
                    Long since = own.remove(id);
                    open.put(number, new Sending(instance, since == null ? at : since));
                }
                case "TAKEN" ->
                    taken.computeIfAbsent(id, key -> new ArrayList<>()).add(open.get(number));
                case "SETTLED", "NOT_MINE", "NOT_MARKED" -> {
                    Sending sending = open.remove(number);
                    sending.end = words[1];
                    sending.ended = at;
                    if (words[1].equals("SETTLED")) {
                        settled.merge(id, 1, Integer::sum);
                    }
                }
                case "REFUSED", "DAMAGED" -> {}
                default -> throw new AssertionError(line);
            }
        }
    }

    /** Why the target may get a batch again after this send; {@code null} if there is no reason. */
    private static String explanation(Sending sending, Map<String, List<Incident>> leasesLost) {
        if (sending.end.isEmpty()) {
            return sending.by.killed ? "killed before the mark was acknowledged" : null;
        }
        if (sending.end.equals("NOT_MARKED")) {
            return "the mark failed, and said so";
        }
        if (within(sending, sending.by.frozen)) {
            return "frozen, and the batch was not its own any more";
        }
        return within(sending, leasesLost.getOrDefault(sending.by.name, List.of()))
                ? "lost its lease on a busy machine, and the batch was not its own any more"
                : null;
    }

    private static boolean within(Sending sending, List<Incident> incidents) {
        return incidents.stream()
                .anyMatch(each -> each.from() <= sending.ended && each.to() + SLACK_MILLIS >= sending.began);
    }

    private void check(double persistSeconds, double seconds) throws IOException {
        for (Running each : all) {
            read(each);
        }
        Map<String, List<Incident>> leasesLost = new HashMap<>();
        for (String line : database.query("SELECT name || ' ' || lease_until || ' ' || gone_at FROM {p}instance"
                + " WHERE gone_at > lease_until")) {
            String[] words = line.split(" ", -1);
            leasesLost
                    .computeIfAbsent(words[0], name -> new ArrayList<>())
                    .add(new Incident(Long.parseLong(words[1]) - LEASE_MILLIS, Long.parseLong(words[2])));
        }
        String books = database.query(
                        "SELECT concat_ws(' ', SUM(accepted), SUM(delivered), SUM(expired + evicted + discarded"
                                + " + corrupt), SUM(pending + in_flight + dead), SUM(pending_bytes + in_flight_bytes + dead_bytes)) FROM"
                                + " {p}counter")
                .get(0);
        long accepted = accepted();
        int several = 0;
        int tooOften = 0;
        List<String> unexplained = new ArrayList<>();
        for (Map.Entry<String, List<Sending>> each : taken.entrySet()) {
            int times = each.getValue().size();
            several += times > 1 ? 1 : 0;
            tooOften += times - 1;
            for (Sending sending : each.getValue()) {
                if (!sending.end.equals("SETTLED")) {
                    String why = explanation(sending, leasesLost);
                    explanations.merge(why == null ? "without an explanation" : why, 1, Integer::sum);
                    if (why == null) {
                        unexplained.add(each.getKey() + " by " + sending.by.name + ": " + sending.end);
                    }
                }
            }
        }
        Set<String> missing = new HashSet<>(persisted);
        missing.removeAll(taken.keySet());
        System.out.printf(
                "%d instances, seed %d, lease %d ms: %d processes, %d killed (%d of them frozen), %d frozen beyond the lease;"
                        + " %.0f s until %d batches were accepted, %.0f s in all%n",
                INSTANCES,
                SEED,
                LEASE_MILLIS,
                all.size(),
                kills,
                killsOfFrozen,
                freezes,
                persistSeconds,
                accepted,
                seconds);
        System.out.printf(
                "%d persists acknowledged, %d batches at the target, %d lost; %d came more than once, %d times too often%n",
                persisted.size(), taken.size(), missing.size(), several, tooOften);
        System.out.println("taken by the target, and not settled by who sent it:");
        explanations.forEach((why, times) -> System.out.printf("  %d: %s%n", times, why));
        System.out.printf("lines: %s%nbooks: accepted, delivered, given up, held, bytes held: %s%n", said, books);

        assertThat(missing).as("acknowledged, but never at the target").isEmpty();
        assertThat(unexplained)
                .as("may come again, and no one was killed or frozen")
                .isEmpty();
        assertThat(settled.values()).as("settled more than once").allMatch(times -> times == 1);
        assertThat(said).doesNotContainKey("DAMAGED");
        assertThat(books).isEqualTo(accepted + " " + accepted + " 0 0 0");
        assertThat(taken).as("as many batches as were accepted").hasSize((int) accepted);
        assertThat(database.query("SELECT batch_id FROM {p}batch")).isEmpty();
        assertThat(accepted).isGreaterThanOrEqualTo(BATCHES);
        assertThat(kills).isPositive();
        assertThat(freezes).isPositive();
    }
}
