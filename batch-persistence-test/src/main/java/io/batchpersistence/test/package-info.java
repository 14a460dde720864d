/**
 * For tests of stores, senders and applications.
 *
 * <p>A store of your own passes {@link io.batchpersistence.test.BatchStoreContract}, the suite that all stores of this
 * library pass:
 *
 * <pre>{@code
 * class MyStoreTest extends BatchStoreContract {
 *
 *     @TempDir
 *     Path directory;
 *
 *     @Override
 *     protected BatchStore open() {
 *         return new MyStore(directory, maxBatches, clock);
 *     }
 * }
 * }</pre>
 *
 * <p>A sender, or an application's handling of batches, is tested with an engine on a store in memory, whose clock stands
 * still and whose tasks run when the test says so. No test waits:
 *
 * <pre>{@code
 * ManualClock clock = new ManualClock();
 * StepExecutor executor = new StepExecutor();
 * try (BatchPersistence persistence = BatchPersistenceEngine.builder(new InMemoryBatchStore())
 *         .clock(clock)
 *         .executor(executor)
 *         .targets(type -> RecoveryTarget.of(mySender))
 *         .build()) {
 *     persistence.persistBatch("1", Batches.entries(3), "loki");
 *     persistence.markBatchFailed("1", "503 Service Unavailable");
 *     clock.advance(Duration.ofMinutes(5));
 *     persistence.recover();
 *     executor.runAll();
 *     assertThat(persistence.stats().collector("loki").delivered()).isEqualTo(1);
 * }
 * }</pre>
 *
 * <p>In a Spring Boot test, declare {@link io.batchpersistence.test.InMemoryBatchStore} as a bean: it replaces the store
 * on disk.
 */
@NullMarked
package io.batchpersistence.test;

import org.jspecify.annotations.NullMarked;
