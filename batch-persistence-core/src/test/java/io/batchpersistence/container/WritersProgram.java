package io.batchpersistence.container;

import static io.batchpersistence.container.Workload.COLLECTOR;
import static io.batchpersistence.container.Workload.entries;
import static io.batchpersistence.container.Workload.say;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.engine.BatchPersistenceEngine;
import java.nio.file.Path;

/**
 * Runs in the container. {@code write DIRECTORY PREFIX} starts threads that persist and mark every third batch until
 * the process is killed. {@code read DIRECTORY} prints the contents.
 */
final class WritersProgram {

    static final int THREADS = 4;
    static final int ENTRIES = 5;

    private WritersProgram() {}

    public static void main(String[] args) {
        BatchPersistenceEngine engine = Workload.open(Path.of(args[1]));
        if (args[0].equals("write")) {
            for (int i = 0; i < THREADS; i++) {
                String prefix = args[2] + "-t" + i;
                new Thread(() -> write(engine, prefix)).start();
            }
        } else {
            read(engine);
            engine.close();
        }
    }

    static String id(String prefix, int number) {
        // Fixed width, so that a truncated line cannot be another valid id.
        return "%s-%06d".formatted(prefix, number);
    }

    private static void write(BatchPersistenceEngine engine, String prefix) {
        for (int number = 0; ; number++) {
            String id = id(prefix, number);
            engine.persistBatch(id, entries(id, ENTRIES), COLLECTOR);
            say("acknowledged " + id);
            if (number % 3 == 0) {
                // From here on the batch may be gone.
                say("marking " + id);
                engine.markBatchSuccess(id);
                say("marked " + id);
            }
        }
    }

    private static void read(BatchPersistenceEngine engine) {
        for (BatchSummary summary : engine.list(BatchSelector.all().limit(1_000_000))) {
            PersistedBatch batch = engine.find(summary.id()).orElseThrow();
            boolean intact = batch.entries().equals(entries(batch.id(), ENTRIES));
            say((intact ? "held " : "different ") + batch.id());
        }
        CollectorStats stats = engine.stats().collector(COLLECTOR);
        say("balanced %s, corrupt %d, in flight %d".formatted(stats.isBalanced(), stats.corrupt(), stats.inFlight()));
    }
}
