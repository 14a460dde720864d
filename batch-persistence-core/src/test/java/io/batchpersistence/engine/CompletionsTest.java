package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class CompletionsTest {

    private volatile boolean memory;

    private final Completions completions = new Completions(task -> {
        if (!memory) {
            throw new OutOfMemoryError("unable to create native thread");
        }
        return new Thread(task);
    });

    @Test
    void what_waits_for_a_thread_is_completed_when_closed() {
        CompletableFuture<Void> before = new CompletableFuture<>();
        CompletableFuture<Void> after = new CompletableFuture<>();
        completions.execute(() -> before.complete(null));
        assertThat(before).isNotDone();
        completions.close();
        assertThat(before).isCompleted();
        completions.execute(() -> after.complete(null));
        assertThat(after).isCompleted();
    }

    @Test
    void a_thread_completes_it_as_soon_as_there_is_memory_for_one() throws Exception {
        CompletableFuture<Void> waiting = new CompletableFuture<>();
        completions.execute(() -> waiting.complete(null));
        memory = true;
        completions.prod();
        waiting.get(10, TimeUnit.SECONDS);
        completions.close();
    }
}
