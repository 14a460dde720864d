package io.batchpersistence.internal.spi;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;

class ThreadsTest {

    @Test
    void without_memory_for_a_thread_a_task_is_not_run_where_nothing_can_end_it() {
        AtomicBoolean ran = new AtomicBoolean();
        boolean done = Threads.within(
                Duration.ofSeconds(1),
                work -> new Thread(work) {
                    @Override
                    public synchronized void start() {
                        throw new OutOfMemoryError("unable to create native thread");
                    }
                },
                () -> ran.set(true));
        assertThat(done).isFalse();
        assertThat(ran).isFalse();
    }
}
