package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.fixtures.MutedLog;
import io.batchpersistence.internal.disk.FaultyDisk;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.PlantedDictionary;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.Ledger.Expectation;
import io.batchpersistence.store.Ledger.ExpectedState;
import io.batchpersistence.store.Ledger.Left;
import io.batchpersistence.test.ManualClock;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Long random lives of a store: batches are persisted, sent, failed, given up and replayed; the clock is set; the disk
 * fails and fills up; the process is closed and killed; the power fails. After each step the store must match the
 * {@link Ledger}.
 *
 * <p>{@link ModelTest} compares exactly, on a disk that works. This test checks guarantees on a disk that fails.
 */
@Tag("slow")
@ExtendWith(MutedLog.class)
class CrashModelTest {

    private static final int STEPS = 150;
    private static final String[] COLLECTORS = {"loki", "elasticsearch", "otlp"};

    @TempDir
    Path directory;

    @ParameterizedTest
    @EnumSource
    void keeps_its_promises_whatever_happens(StoreKind kind) throws Exception {
        Campaign.run(
                "CrashModelTest#keeps_its_promises_whatever_happens[" + kind + "]",
                kind == StoreKind.SEGMENT ? 0.4 : 0.2,
                kind == StoreKind.SEGMENT ? 60 : 25,
                campaign -> seed -> new Life(campaign, kind, seed).live());
    }

    /** The disk before one of its operations. */
    private record Moment(MemoryDisk disk, int position) {}

    private final class Life {

        private final Campaign campaign;
        private final StoreKind kind;
        private final Random random;
        private final ManualClock clock = new ManualClock();
        private final Deque<String> last = new ArrayDeque<>();
        private final List<String> ids = new ArrayList<>();
        /** Delivered in this life and not reused yet. */
        private final List<String> delivered = new ArrayList<>();

        private final List<Corruption> reports = new ArrayList<>();

        private MemoryDisk disk = new MemoryDisk();
        private FaultyDisk faulty = new FaultyDisk(disk);
        private Ledger ledger = new Ledger();
        private Map<String, CollectorStats> carried = Map.of();
        private StoreCalls calls = new StoreCalls(ledger, clock, 0);
        private BatchStore store;
        private int born;
        /**
         * A moment since the store was opened when the name of a file was not durable, or a similar state; {@code null}
         * if there was none.
         */
        private volatile @Nullable Moment delicate;

        /** Whether the disk has failed since the store was opened. Then a refused batch may still be on disk. */
        private boolean hasFailed;

        Life(Campaign campaign, StoreKind kind, long seed) {
            this.campaign = campaign;
            this.kind = kind;
            this.random = new Random(seed);
            if (kind == StoreKind.SEGMENT && seed % 2 == 0) {
                disk.put(directory.resolve(PlantedDictionary.FILE), PlantedDictionary.segment());
            }
            this.store = open();
            watch(disk, ledger);
        }

        private BatchStore open() {
            return open(faulty);
        }

        private BatchStore open(FaultyDisk on) {
            BatchStore opened = kind.open(
                    DiskStoreOptions.builder(directory)
                            .segmentSize(4 << 10)
                            .maxDiskUsage(8 << 20)
                            .compactionRate(1L << 40)
                            .clock(clock)
                            .build(),
                    on);
            opened.onCorruption(reports::add);
            return opened;
        }

        void live() {
            try {
                for (int step = 0; step < STEPS; step++) {
                    campaign.count("steps", 1);
                    step();
                }
                heal();
                check("at the end", ledger.expectation(ledger.position(), Left.RUNNING, false));
            } catch (RuntimeException | AssertionError e) {
                throw new AssertionError("after " + String.join(", ", last), e);
            } finally {
                faulty.heal();
                disk.capacity(Long.MAX_VALUE);
                store.close();
            }
        }

        private void step() {
            int dice = random.nextInt(100);
            if (dice < 19) {
                persist();
            } else if (dice < 20) {
                leaveFewOfMany();
            } else if (dice < 25) {
                persistAgain();
            } else if (dice < 32) {
                persistTogether();
            } else if (dice < 48) {
                deliver(id());
            } else if (dice < 58) {
                String id = id();
                note("fail " + id);
                calls.fail(store, id, random.nextInt(3) == 0, "HTTP " + random.nextInt(600));
            } else if (dice < 66) {
                note("attempt");
                calls.attempt(store, pick(COLLECTORS), 1 + random.nextInt(4), random);
            } else if (dice < 69) {
                String id = id();
                note("replay " + id);
                calls.replay(store, id);
            } else if (dice < 71) {
                String id = id();
                note("discard " + id);
                calls.discard(store, id);
            } else if (dice < 73) {
                note("expire");
                calls.expire(store, pick(COLLECTORS));
            } else if (dice < 75) {
                note("evict");
                calls.evict(store, 1 + random.nextInt(3));
            } else if (dice < 79) {
                note("reclaim");
                store.reclaim();
            } else if (dice < 80) {
                deliverAll();
            } else if (dice < 81) {
                emptyAfterAFailedWrite();
            } else if (dice < 85) {
                Duration by = Duration.ofSeconds(random.nextInt(20_000) - 4_000);
                note("clock by " + by);
                clock.advance(by);
            } else if (dice < 88) {
                note("close");
                heal();
                store.close();
                reopen(disk, ledger.expectation(ledger.position(), Left.RUNNING, false));
            } else if (dice < 91) {
                leave(false);
            } else if (dice < 94) {
                leave(true);
            } else if (dice < 96) {
                note("disk fails");
                hasFailed = true;
                faulty.failSome(0.05 + random.nextDouble() * 0.5, random, kinds());
            } else if (dice < 98) {
                note("disk is full");
                hasFailed = true;
                disk.capacity(disk.used() + random.nextInt(3_000));
            } else {
                heal();
                check("running", ledger.expectation(ledger.position(), Left.RUNNING, false));
            }
        }

        /** If the disk is unreadable for a moment, a running store refuses calls but loses nothing. */
        private Predicate<Operation> kinds() {
            return switch (random.nextInt(4)) {
                case 0 -> operation -> operation == Operation.FORCE;
                case 1 -> operation -> operation == Operation.READ;
                case 2 -> operation -> true;
                default -> operation -> operation == Operation.WRITE || operation == Operation.FORCE_DIRECTORY;
            };
        }

        private void heal() {
            note("disk is well");
            faulty.heal();
            disk.capacity(Long.MAX_VALUE);
            // Wait until a journal and a segment can be written again.
            if (hasFailed) {
                store.reclaim();
                persist();
                assertThat(store.stats().problem()).isNull();
            }
        }

        private void persist() {
            persist("batch " + born++);
        }

        private void persist(String key) {
            note("persist " + key);
            ids.add(key);
            boolean accepted = calls.persist(store, key, pick(COLLECTORS));
            assertThat(accepted || hasFailed).isTrue();
        }

        /** Persists a new batch with the id of a delivered one. */
        private void persistAgain() {
            if (delivered.isEmpty()) {
                persist();
            } else {
                String before = delivered.remove(random.nextInt(delivered.size()));
                ids.remove(before);
                persist(StoreCalls.id(before) + "#" + born++);
            }
        }

        private void deliver(String key) {
            note("deliver " + key);
            if (calls.deliver(store, key)) {
                delivered.add(key);
            }
        }

        private void deliverAll() {
            List.copyOf(ids).forEach(this::deliver);
            note("reclaim");
            store.reclaim();
        }

        private void persistTogether() {
            List<CompletableFuture<Boolean>> group = new ArrayList<>();
            for (int i = random.nextInt(5); i >= 0; i--) {
                String id = "batch " + born++;
                note("persist with others " + id);
                ids.add(id);
                group.add(calls.persistAsync(store, id, pick(COLLECTORS)));
            }
            group.forEach(each -> assertThat(each.join() || hasFailed).isTrue());
        }

        /** Makes the store compact files. Then some moved batches are delivered and their ids reused. */
        private void leaveFewOfMany() {
            for (int i = 0; i < 8; i++) {
                persistTogether();
            }
            List<String> few = new ArrayList<>();
            for (String key : List.copyOf(ids)) {
                if (random.nextInt(5) > 0) {
                    deliver(key);
                } else {
                    few.add(key);
                }
            }
            note("reclaim");
            store.reclaim();
            for (String key : few.subList(0, few.size() / 2)) {
                deliver(key);
                if (delivered.remove(key)) {
                    ids.remove(key);
                    persist(StoreCalls.id(key) + "#" + born++);
                }
            }
            leave(random.nextInt(3) > 0);
        }

        /** Journal frames of a deleted file must not apply to the files of the next process. */
        private void emptyAfterAFailedWrite() {
            deliverAll();
            leave(false);
            persist();
            note("a write fails");
            hasFailed = true;
            faulty.fail(Operation.WRITE, kind.payload, "No space left on device")
                    .partly(random.nextInt(400))
                    .times(1);
            persist();
            deliverAll();
            leave(false);
        }

        /** Kills the process or cuts the power. Sometimes does so again while the store is being opened. */
        private void leave(boolean powerCut) {
            note(powerCut ? "power cut" : "kill");
            campaign.count(powerCut ? "power cuts" : "kills", 1);
            Moment noted = random.nextInt(3) == 0 ? null : delicate;
            if (noted != null) {
                note("at a delicate moment");
            }
            Moment moment = noted != null ? noted : new Moment(disk.copy(), ledger.position());
            MemoryDisk left = moment.disk();
            Expectation expectation =
                    ledger.expectation(moment.position(), powerCut ? Left.POWER_CUT : Left.KILLED, hasFailed);
            Expectation owedAfterPowerCut = ledger.expectation(moment.position(), Left.POWER_CUT, hasFailed);
            faulty.heal();
            disk.capacity(Long.MAX_VALUE);
            store.close();
            if (powerCut) {
                left = afterPowerCut(left);
            } else if (noted != null) {
                cutWhileOpeningWithoutJournal(left.copy(), owedAfterPowerCut);
            }
            if (!powerCut && !hasFailed && random.nextInt(3) == 0) {
                loseFile(left);
            }
            if (random.nextInt(3) == 0) {
                note("again while opening");
                campaign.count("crashes while opening", 1);
                faulty = new FaultyDisk(left);
                if (random.nextBoolean()) {
                    faulty.failSome(0.3, random, operation -> operation.compareTo(Operation.READ) < 0);
                    hasFailed = true;
                }
                List<MemoryDisk> moments = new ArrayList<>();
                MemoryDisk opening = left;
                left.beforeChange(() -> moments.add(opening.copy()));
                try {
                    open().close();
                } catch (BatchPersistenceException e) {
                    // The disk failed too often to open.
                }
                reports.clear();
                left.beforeChange(() -> {});
                moments.add(left.copy());
                left = moments.get(random.nextInt(moments.size()));
                if (random.nextBoolean()) {
                    left = afterPowerCut(left);
                    expectation = owedAfterPowerCut;
                }
            }
            reopen(left, expectation);
        }

        /** A process that cannot start a journal still deletes files. The power may fail at any moment of that. */
        private void cutWhileOpeningWithoutJournal(MemoryDisk left, Expectation expectation) {
            campaign.count("openings without journal", 1);
            List<MemoryDisk> moments = new ArrayList<>();
            left.beforeChange(() -> moments.add(left.copy()));
            FaultyDisk full = new FaultyDisk(left);
            full.fail(Operation.CREATE, "state-", "No space left on device");
            open(full).close();
            reports.clear();
            for (MemoryDisk moment : moments) {
                if (random.nextInt(moments.size()) < 15) {
                    BatchStore opened = open(new FaultyDisk(afterPowerCut(moment)));
                    try {
                        check(opened, "cut while opening without journal", expectation);
                    } finally {
                        opened.close();
                    }
                }
            }
        }

        /** What a store contains and reports when it is opened. */
        private record Books(Map<String, Long> positions, CollectorStats total, long reported) {}

        private Books accounts(MemoryDisk of) {
            reports.clear();
            try (BatchStore opened = open(new FaultyDisk(of))) {
                Map<String, Long> positions = new HashMap<>();
                opened.list(BatchSelector.all(), clock.instant())
                        .forEach(batch -> positions.put(batch.id(), batch.position()));
                CollectorStats total = opened.stats().total();
                assertThat(total.isBalanced()).isTrue();
                return new Books(
                        positions,
                        total,
                        reports.stream().mapToLong(Corruption::batches).sum());
            } finally {
                reports.clear();
            }
        }

        /**
         * Deletes, empties or truncates a file. Every batch lost with it is counted, and reported if a later one is
         * left. No other batch is affected.
         */
        private void loseFile(MemoryDisk left) {
            List<Path> payloads = left.files(kind.payload);
            if (payloads.isEmpty()) {
                return;
            }
            campaign.count("files lost", 1);
            Path file = pick(payloads.toArray(new Path[0]));
            MemoryDisk harmed = left.copy();
            int harm = random.nextInt(3);
            if (harm == 0) {
                harmed.delete(file);
            } else {
                byte[] bytes = harmed.get(file);
                harmed.put(file, Arrays.copyOf(bytes, harm == 1 ? 0 : random.nextInt(bytes.length + 1)));
            }
            String what = file.getFileName() + (harm == 0 ? " deleted" : harm == 1 ? " emptied" : " cut off");
            note(what);
            Books intact = accounts(left.copy());
            Books now = accounts(harmed);
            // A document has no checksum, so its number proves nothing. An empty document may belong to a batch that
            // was settled and about to be deleted.
            long last = kind == StoreKind.SEGMENT
                    ? now.positions().values().stream()
                            .mapToLong(Long::longValue)
                            .max()
                            .orElse(0)
                    : 0;
            Map<String, Long> lost = new HashMap<>(intact.positions());
            lost.keySet().removeAll(now.positions().keySet());
            long certain =
                    lost.values().stream().filter(position -> position < last).count();
            long counted = now.total().corrupt() - intact.total().corrupt();
            assertThat(counted)
                    .as("%s: lost %s", what, lost)
                    .isBetween(certain, lost.size() + (kind == StoreKind.JSON_FILES ? 1L : 0L));
            assertThat(now.reported() - intact.reported()).as(what).isEqualTo(counted);
            assertThat(now.total().accepted()).as(what).isEqualTo(intact.total().accepted() - lost.size() + counted);
        }

        private MemoryDisk afterPowerCut(MemoryDisk left) {
            List<MemoryDisk> may = new ArrayList<>();
            left.powerCuts(4, random, may::add);
            return pick(may.toArray(new MemoryDisk[0]));
        }

        /** The next life starts with what is found. */
        private void reopen(MemoryDisk found, Expectation expectation) {
            disk = found;
            faulty = new FaultyDisk(disk);
            if (random.nextInt(4) == 0) {
                openUnreadable();
            }
            boolean starved = random.nextInt(3) == 0;
            if (starved) {
                note("no journal can be begun");
                faulty.fail(Operation.CREATE, "state-", "No space left on device");
            }
            store = open();
            Map<String, ExpectedState> held = check("reopened", expectation);
            // The last journal could not go on either, so the recovered state is not durable yet.
            if (starved && store.stats().problem() != null) {
                faulty.heal();
                store.reclaim();
            }
            assertThat(store.stats().problem()).isNull();
            hasFailed = false;
            ledger = new Ledger();
            watch(disk, ledger);
            carried = store.stats().collectors();
            calls = new StoreCalls(ledger, clock, 0);
            held.forEach((id, state) -> {
                Expectation.Batch batch =
                        Objects.requireNonNull(expectation.batches().get(id));
                ledger.carried(id, batch.type(), state, batch.accepted());
                calls.held(id);
            });
            delivered.clear();
            ids.clear();
            ids.addAll(held.keySet());
            ids.sort(null);
        }

        /**
         * An unreadable file is available once it can be read again. An opening that fails or succeeds in the meantime
         * changes nothing.
         */
        private void openUnreadable() {
            note("can't be read while opening");
            campaign.count("openings in which reads failed", 1);
            if (random.nextBoolean()) {
                faulty.failSome(random.nextDouble() * 0.5, random, Operation::looks);
            } else {
                faulty.failLooks(1 + random.nextInt(30), 1 + random.nextInt(8));
            }
            BatchStore opened = null;
            try {
                opened = open();
            } catch (BatchPersistenceException e) {
                campaign.count("openings given up", 1);
            }
            faulty.heal();
            if (opened != null) {
                opened.close();
            }
        }

        /**
         * Records moments that are error-prone and too short to hit by chance. (File names of documents are undecided
         * most of the time.)
         */
        private void watch(MemoryDisk on, Ledger with) {
            delicate = null;
            on.beforeChange(() -> {
                if (kind == StoreKind.SEGMENT && on.hasUndecidedMove(".segment")) {
                    delicate = new Moment(on.copy(), with.position());
                }
            });
        }

        private Map<String, ExpectedState> check(String when, Expectation expectation) {
            return check(store, when, expectation);
        }

        private Map<String, ExpectedState> check(BatchStore of, String when, Expectation expectation) {
            campaign.count("checks", 1);
            long mayBeForgotten = hasFailed ? expectation.mayHaveEnded() : 0;
            long mayBeReported = expectation.undecided() + mayBeForgotten + (hasFailed ? expectation.refused() : 0);
            Map<String, ExpectedState> held =
                    new Promises(of, calls, clock).check(expectation, carried, mayBeReported, mayBeForgotten, when);
            assertThat(reports.stream().mapToLong(Corruption::batches).sum())
                    .as("%s: %s", when, reports)
                    .isLessThanOrEqualTo(mayBeReported);
            reports.clear();
            return held;
        }

        private String id() {
            return ids.isEmpty() ? "no one" : ids.get(random.nextInt(ids.size()));
        }

        private <T> T pick(T[] of) {
            return of[random.nextInt(of.length)];
        }

        private void note(String step) {
            last.add(step);
            if (last.size() > 25) {
                last.remove();
            }
        }
    }
}
