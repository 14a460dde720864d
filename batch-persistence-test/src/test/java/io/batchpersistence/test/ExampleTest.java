package io.batchpersistence.test;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;

/** What users of this module write. */
class ExampleTest {

    /** A store that a user has written, here on top of another one. */
    private static final class OwnStore extends InMemoryBatchStore {
        private long written;

        @Override
        public synchronized CompletableFuture<@Nullable Void> append(NewBatch batch) {
            written++;
            return super.append(batch);
        }
    }

    @Nested
    class OwnStoreTest extends BatchStoreContract {

        private final OwnStore kept = new OwnStore();

        @Override
        protected BatchStore open() {
            kept.reopen(now(), maxBatches);
            return kept;
        }

        @Test
        void what_is_special_about_it() {
            append("a", "b");
            assertThat(kept.written).isEqualTo(2);
        }
    }

    @Test
    void a_sender_is_tested_without_a_collector_and_without_waiting() {
        List<String> sent = new ArrayList<>();
        ManualClock clock = new ManualClock();
        StepExecutor executor = new StepExecutor();
        try (BatchPersistence persistence = BatchPersistenceEngine.builder(new InMemoryBatchStore())
                .clock(clock)
                .executor(executor)
                .targets(type -> RecoveryTarget.of(batch -> {
                    sent.add(batch.id());
                    if (sent.size() == 1) {
                        throw new IOException("503 Service Unavailable");
                    }
                }))
                .build()) {
            persistence.persistBatch("1", Batches.entries(3), "loki");
            persistence.markBatchFailed("1", "connection refused");
            for (int attempt = 1; attempt <= 2; attempt++) {
                assertThat(persistence.stats().collector("loki").pending()).isEqualTo(1);
                clock.advance(Duration.ofMinutes(5));
                persistence.recover();
                executor.runAll();
                assertThat(sent).hasSize(attempt).containsOnly("1");
            }
            assertThat(persistence.stats().collector("loki").delivered()).isEqualTo(1);
        }
    }
}
