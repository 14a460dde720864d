package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The process has run out of file descriptors. No batch is lost, and the store goes on once there are some again. */
@DisabledOnOs(value = OS.WINDOWS, disabledReason = "has no ulimit")
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class FileDescriptorsTest {

    @TempDir
    Path temp;

    @ParameterizedTest
    @EnumSource
    void without_file_descriptors_nothing_is_lost_and_all_goes_on_afterwards(StoreKind kind) throws Exception {
        try (ChildJvm child = new ChildJvm(
                Program.class,
                temp.resolve("err"),
                List.of("-Xmx128m"),
                "ulimit -n 100",
                temp.resolve("store").toString(),
                kind.name())) {
            List<String> lines = child.awaitPassed().stream()
                    .filter(line -> !line.startsWith("WARN")
                            && !line.startsWith("ERROR")
                            && !line.startsWith("java")
                            && !line.startsWith("\t"))
                    .toList();
            lines.forEach(line -> System.out.println("file descriptors, " + kind + ": " + line));
            assertThat(lines).as(child::errors).last().asString().startsWith("passed");
        }
    }

    static final class Program {

        private final Set<String> held = new HashSet<>();
        private final Deque<FileInputStream> opened = new ArrayDeque<>();
        private final Path directory;
        private final StoreKind kind;
        private volatile boolean sending;
        private BatchPersistenceEngine engine;
        private int lastId;

        private Program(Path directory, StoreKind kind) {
            this.directory = directory;
            this.kind = kind;
        }

        public static void main(String[] args) throws IOException {
            new Program(Path.of(args[0]), StoreKind.valueOf(args[1])).run();
        }

        private void run() throws IOException {
            open();
            goOn();
            exhaust();
            String refusal = persistUntilRefused();
            System.out.println("with " + opened.size() + " files open by others: " + refusal);
            System.out.println("problem: " + engine.stats().problem());
            require(engine.stats().problem() != null, "no problem is reported");
            tryAll();
            release();
            goOn();
            check("with file descriptors again");
            require(engine.stats().problem() == null, "still " + engine.stats().problem());
            engine.close();
            open();
            check("opened again");
            engine.close();
            System.out.println("passed");
        }

        private void open() {
            engine = BatchPersistenceEngine.builder(kind.open(DiskStoreOptions.builder(directory)
                            .segmentSize(32 << 10)
                            .build()))
                    .targets(type -> sending ? RecoveryTarget.of(batch -> {}) : null)
                    .build();
        }

        private void exhaust() {
            try {
                while (true) {
                    opened.add(new FileInputStream("/dev/null"));
                }
            } catch (IOException e) {
                require(String.valueOf(e.getMessage()).contains("Too many open files"), e.toString());
            }
        }

        private void release() throws IOException {
            while (!opened.isEmpty()) {
                opened.remove().close();
            }
        }

        private String persistUntilRefused() {
            while (true) {
                String id = "b" + ++lastId;
                try {
                    engine.persistBatch(id, entries(id), "loki");
                    held.add(id);
                } catch (BatchPersistenceException e) {
                    return e.getMessage();
                }
            }
        }

        /** Operations that need a file fail or do nothing. Marking a batch in flight needs none. */
        private void tryAll() {
            String delivered = held.iterator().next();
            if (engine.markBatchSuccess(delivered)) {
                held.remove(delivered);
            }
            try {
                engine.find(held.iterator().next());
            } catch (BatchPersistenceException e) {
                System.out.println("find: " + e.getMessage());
            }
            engine.recover();
            engine.cleanup();
        }

        private void goOn() {
            for (int i = 0; i < 40; i++) {
                String id = "b" + ++lastId;
                engine.persistBatch(id, entries(id), "loki");
                held.add(id);
            }
            engine.cleanup();
        }

        private void check(String when) {
            Set<String> found = new HashSet<>();
            for (BatchSummary summary : engine.list(BatchSelector.all())) {
                found.add(summary.id());
                require(
                        engine.find(summary.id()).orElseThrow().entries().equals(entries(summary.id())),
                        summary.id() + " is different");
            }
            require(found.equals(held), when + ": held are " + found + ", but should be " + held);
            require(engine.stats().total().isBalanced(), engine.stats().toString());
            require(engine.stats().total().corrupt() == 0, engine.stats().toString());
            System.out.println(when + ": all " + held.size() + " acknowledged batches are there, 0 lost");
        }

        private static void require(boolean condition, String otherwise) {
            if (!condition) {
                throw new AssertionError(otherwise);
            }
        }

        private static List<LogEntry> entries(String id) {
            Random random = new Random(id.hashCode());
            StringBuilder text = new StringBuilder();
            random.ints(4_000, '!', '~').forEach(c -> text.append((char) c));
            return List.of(LogEntry.of(Instant.EPOCH, "INFO", text.toString()));
        }
    }
}
