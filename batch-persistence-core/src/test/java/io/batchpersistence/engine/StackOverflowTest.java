package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.fixtures.Batches;
import io.batchpersistence.fixtures.InMemoryBatchStore;
import io.batchpersistence.spi.NewBatch;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/** Calls from where an application has run out of stack, as when it persists what it logs of that. */
class StackOverflowTest {

    private static final int CALLS = 3_000;

    /** Ends the recursion. */
    private static final class Enough extends Error {
        private static final long serialVersionUID = 1L;

        Enough() {
            super("enough", null, false, false);
        }
    }

    /** Needs some stack between a beginning and an end. */
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

    /** Calls once from each frame on the way back from the end of the stack: with none left at first, with ever more then. */
    private void fromTheEndOfTheStack(int depth, Runnable call) {
        try {
            if (depth < Integer.MAX_VALUE) {
                fromTheEndOfTheStack(depth + 1, call);
            }
        } catch (StackOverflowError e) {
            try {
                call.run();
            } catch (StackOverflowError again) {
                // That is what callers are told.
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
                            // from everywhere
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
