package io.batchpersistence.engine;

import io.batchpersistence.BatchSender;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.test.InMemoryBatchStore;
import java.time.Duration;
import java.util.List;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;

/** A test on a bench, which it may replace by another one. */
abstract class BenchTest {

    static final Duration SECOND = Duration.ofSeconds(1);

    Bench bench = new Bench();

    @AfterEach
    void close() {
        bench.close();
    }

    final void rebuild(UnaryOperator<EngineBuilder> more) {
        rebuild(new InMemoryBatchStore(), more);
    }

    final void rebuild(InMemoryBatchStore store, UnaryOperator<EngineBuilder> more) {
        bench.close();
        bench = new Bench(store, more);
    }

    /** Sends batches to a target that keeps them until the test settles them. */
    final List<RecoveredBatch> sendAndHold(String... ids) {
        List<RecoveredBatch> held = bench.holdingTarget("loki");
        bench.persistDue(ids);
        bench.tick();
        return held;
    }

    static String[] ids(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(i -> prefix + i).toArray(String[]::new);
    }

    /** A sender that always fails. */
    static BatchSender throwing(Supplier<Throwable> failure) {
        return batch -> {
            Throwable thrown = failure.get();
            if (thrown instanceof Error error) {
                throw error;
            }
            throw (Exception) thrown;
        };
    }
}
