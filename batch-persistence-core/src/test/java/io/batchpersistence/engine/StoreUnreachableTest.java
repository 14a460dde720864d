package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Level;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.Batches;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** A shared store that is unreachable at times, such as a database. */
class StoreUnreachableTest {

    private final ManualClock clock = new ManualClock();
    private final StepExecutor executor = new StepExecutor();
    private final InMemoryBatchStore held = new InMemoryBatchStore();
    private final List<String> sent = new ArrayList<>();

    @RegisterExtension
    final LogCapture logged = new LogCapture(BatchPersistenceEngine.class);

    private boolean down;
    private @Nullable RuntimeException otherProblem;
    private @Nullable Instant lastUsed;

    /** The batches that are reachable during an outage. */
    private @Nullable InMemoryBatchStore part;

    private final BatchStore store = (BatchStore) Proxy.newProxyInstance(
            getClass().getClassLoader(), new Class<?>[] {BatchStore.class}, (proxy, method, arguments) -> {
                boolean answersAnyway = List.of(
                                "close", "onCorruption", "reclaim", "sharedOutages", "stats", "useSettings")
                        .contains(method.getName());
                if (down && !answersAnyway && !method.getName().equals("lastUsed")) {
                    throw new BatchPersistenceException("looking failed in the database: it is down", null);
                }
                if (otherProblem != null && !answersAnyway) {
                    throw otherProblem;
                }
                if (method.getName().equals("lastUsed")) {
                    return down ? null : lastUsed;
                }
                if (method.getName().equals("isFullyReachable")) {
                    return part == null;
                }
                try {
                    return method.invoke(part != null ? part : held, arguments);
                } catch (InvocationTargetException e) {
                    throw e.getCause();
                }
            });

    private BatchPersistenceEngine engine() {
        return BatchPersistenceEngine.builder(store)
                .settings(type -> CollectorSettings.DEFAULT)
                .targets(type -> RecoveryTarget.of(batch -> sent.add(batch.id())))
                .executor(executor)
                .clock(clock)
                .ticker(() -> Duration.between(Instant.EPOCH, clock.instant()).toNanos())
                .build();
    }

    private void round(BatchPersistenceEngine engine) {
        engine.recover();
        executor.runAll();
    }

    private List<String> told() {
        return logged.lines(Level.INFO);
    }

    private static void persistDue(BatchPersistenceEngine engine, String id, String type) {
        engine.persistBatch(id, Batches.entries(1), type);
        engine.releaseBatch(id);
    }

    @Test
    void what_could_not_be_done_at_the_start_is_done_when_the_store_is_there() {
        try (BatchPersistenceEngine before = engine()) {
            persistDue(before, "1", "loki");
            persistDue(before, "2", "paused");
            held.pause("paused", true);

            down = true;
            BatchPersistenceEngine engine = engine();
            round(engine);
            assertThat(engine.cleanup()).isZero();
            assertThatThrownBy(() -> engine.persistBatch("3", Batches.entries(1), "loki"))
                    .isInstanceOf(BatchPersistenceException.class);
            assertThat(sent).isEmpty();

            down = false;
            round(engine);
            assertThat(sent).containsExactly("1");
            assertThat(told()).last().isEqualTo("recovery: the store works again");
        }
    }

    @Test
    void nothing_is_sent_before_it_is_known_what_is_paused() {
        held.pause("loki", true);
        down = true;
        BatchPersistenceEngine engine = engine();
        down = false;
        assertThat(engine.deliver("1", Batches.entries(1), "loki", Map.of(), batch -> sent.add(batch.id()))
                        .outcome())
                .isEqualTo(Outcome.PENDING);
        executor.runAll();
        round(engine);
        assertThat(sent).isEmpty();
        engine.resume("loki");
        executor.runAll();
        assertThat(sent).containsExactly("1");
    }

    @Test
    void what_can_be_reached_is_sent_and_the_rest_is_taken_over_when_it_can() {
        BatchPersistenceEngine before = engine();
        persistDue(before, "1", "loki");
        persistDue(before, "2", "paused");
        lastUsed = clock.instant();
        held.pause("paused", true);

        part = new InMemoryBatchStore();
        BatchPersistenceEngine engine = engine();
        clock.advance(CollectorSettings.DEFAULT.batchTtl().plusDays(1));
        persistDue(engine, "3", "loki");
        executor.runAll();
        round(engine);
        engine.cleanup();
        assertThat(sent).containsExactly("3");

        part = null;
        persistDue(engine, "4", "loki");
        executor.runAll();
        assertThat(engine.cleanup()).as("nothing has had a chance yet").isZero();
        assertThat(sent).as("nothing before it is known what is paused").containsExactly("3");
        round(engine);
        assertThat(engine.cleanup()).isZero();
        assertThat(sent).containsExactly("3", "1", "4");
    }

    @Test
    void what_another_instance_pauses_or_resumes_holds_from_the_next_round_on() {
        BatchPersistenceEngine engine = engine();
        // Simulates another instance.
        held.pause("loki", true);
        round(engine);
        persistDue(engine, "1", "loki");
        executor.runAll();
        round(engine);
        assertThat(sent).isEmpty();
        assertThat(engine.lanes().get("loki").paused()).isTrue();
        held.pause("loki", false);
        round(engine);
        assertThat(sent).containsExactly("1");
    }

    @Test
    void it_is_told_at_once_once_a_minute_and_when_it_is_over_without_stack_traces() {
        BatchPersistenceEngine engine = engine();
        down = true;
        for (int second = 0; second < 60; second++) {
            round(engine);
            clock.advance(Duration.ofSeconds(1));
        }
        assertThat(told())
                .containsExactly(
                        "recovery: reading the paused collector types failed, and is tried again in every round:"
                                + " looking failed in the database: it is down");
        assertThat(logged.list)
                .filteredOn(event -> event.getLevel().isGreaterOrEqual(Level.INFO))
                .allSatisfy(event -> assertThat(event.getThrowableProxy()).isNull());
        round(engine);
        engine.cleanup();
        assertThat(told()).hasSize(2);
        down = false;
        round(engine);
        round(engine);
        assertThat(told()).hasSize(3).last().isEqualTo("recovery: the store works again");
        down = true;
        round(engine);
        assertThat(told()).hasSize(4);
    }

    @Test
    void anything_else_that_goes_wrong_is_told_with_its_stack_trace() {
        BatchPersistenceEngine engine = engine();
        otherProblem = new IllegalArgumentException("a defect");
        round(engine);
        assertThat(logged.list)
                .filteredOn(event -> event.getLevel() == Level.ERROR)
                .isNotEmpty()
                .allSatisfy(event -> assertThat(event.getThrowableProxy()).isNotNull());
    }

    @Test
    void time_in_which_the_store_could_not_be_reached_makes_nothing_expire() {
        BatchPersistenceEngine before = engine();
        persistDue(before, "1", "loki");
        lastUsed = clock.instant();

        down = true;
        BatchPersistenceEngine engine = engine();
        clock.advance(CollectorSettings.DEFAULT.batchTtl().plusDays(1));
        engine.recover();
        down = false;
        // The executor does not run, so nothing is sent.
        engine.recover();
        assertThat(engine.cleanup()).isZero();
        clock.advance(CollectorSettings.DEFAULT.batchTtl().minusMinutes(1));
        assertThat(engine.cleanup()).isZero();
        clock.advance(Duration.ofMinutes(2));
        assertThat(engine.cleanup()).isEqualTo(1);
    }
}
