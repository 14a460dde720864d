package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/** Calls from a thread that has run out of stack, such as an appender that logs the StackOverflowError. */
class StackOverflowTest {

    private static final int CALLS = 3_000;

    /** Ends the recursion. */
    private static final class Enough extends Error {
        private static final long serialVersionUID = 1L;

        Enough() {
            super("enough", null, false, false);
        }
    }

    /** Uses some stack between the start and the end of each operation. */
    private static final class DeepStore extends InMemoryBatchStore {
        int begun;
        int ended;

        @Override
        public synchronized CompletableFuture<@Nullable Void> append(NewBatch batch) {
            begun++;
            CompletableFuture<@Nullable Void> done = deeper(60, batch);
            ended++;
            return done;
        }

        private CompletableFuture<@Nullable Void> deeper(int frames, NewBatch batch) {
            return frames == 0 ? super.append(batch) : deeper(frames - 1, batch);
        }
    }

    private int calls;

    /** Calls once in each frame while the stack unwinds: first without any stack left, then with more and more. */
    private void fromTheEndOfTheStack(int depth, Runnable call) {
        try {
            if (depth < Integer.MAX_VALUE) {
                fromTheEndOfTheStack(depth + 1, call);
            }
        } catch (StackOverflowError e) {
            try {
                call.run();
            } catch (StackOverflowError again) {
                // Callers may see this error.
            }
            if (++calls > CALLS) {
                throw new Enough();
            }
            throw e;
        }
    }

    @Test
    void a_call_without_enough_stack_fails_before_it_has_begun() throws InterruptedException {
        DeepStore store = new DeepStore();
        List<String> taken = new ArrayList<>();
        try (BatchPersistenceEngine engine =
                BatchPersistenceEngine.builder(store).build()) {
            Thread thread = new Thread(
                    null,
                    () -> {
                        try {
                            fromTheEndOfTheStack(0, () -> {
                                String id = "batch " + calls;
                                engine.persistBatch(id, Batches.entries(1), "loki");
                                taken.add(id);
                            });
                        } catch (Enough e) {
                            // Every frame has made its call.
                        }
                    },
                    "deep",
                    512 << 10);
            thread.start();
            thread.join();
            assertThat(calls).isGreaterThan(CALLS);
            assertThat(taken).as("with enough stack").isNotEmpty();
            assertThat(store.ended).isEqualTo(store.begun);
            assertThat(engine.stats().total().accepted()).isEqualTo(store.ended).isEqualTo(taken.size());
        }
    }
}
