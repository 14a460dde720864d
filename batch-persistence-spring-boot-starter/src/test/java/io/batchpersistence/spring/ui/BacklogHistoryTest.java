package io.batchpersistence.spring.ui;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spring.ui.BacklogHistory.Series;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class BacklogHistoryTest {

    private static final List<LogEntry> ENTRIES = List.of(LogEntry.of(Instant.EPOCH, "INFO", "text"));

    private final ManualClock clock = new ManualClock();
    private final BatchPersistence persistence = BatchPersistenceEngine.builder(new InMemoryBatchStore())
            .clock(clock)
            .build();
    private final BacklogHistory history = new BacklogHistory(persistence, clock);
    private int next;

    @AfterEach
    void close() {
        persistence.close();
    }

    private void waiting(String collectorType, int batches) {
        for (int i = 0; i < batches; i++) {
            String id = "b" + next++;
            persistence.persistBatch(id, ENTRIES, collectorType);
            persistence.releaseBatch(id);
        }
    }

    @Test
    void notes_the_backlog_of_all_and_of_each() {
        history.sample();
        clock.advance(Duration.ofSeconds(10));
        waiting("loki", 3);
        waiting("otlp", 1);
        persistence.persistBatch("bad", ENTRIES, "otlp");
        persistence.markBatchFailed("bad", new PermanentDeliveryException("malformed"));
        history.sample();

        Series series = history.series(Duration.ofHours(1));
        assertThat(series.at()).hasSize(2);
        assertThat(series.at()[1] - series.at()[0]).isEqualTo(10);
        assertThat(series.waiting()).containsExactly(0, 4);
        assertThat(series.dead()).containsExactly(0, 1);
        assertThat(series.collectors()).containsOnlyKeys("loki", "otlp");
        assertThat(series.collectors().get("loki").waiting()).containsExactly(0, 3);
        assertThat(series.collectors().get("otlp").dead()).containsExactly(0, 1);
    }

    @Test
    void notes_once_per_step_however_often_it_is_asked() {
        for (int second = 0; second < 60; second++) {
            history.sample();
            clock.advance(Duration.ofSeconds(1));
        }
        assertThat(history.series(Duration.ofHours(1)).at()).hasSize(6);
        assertThat(history.series(Duration.ofDays(1)).at()).hasSize(1);
    }

    @Test
    void is_bounded() {
        for (int i = 0; i < 12; i++) {
            waiting("collector-" + i, 1 + i);
        }
        for (int i = 0; i < 24 * 360 + 100; i++) {
            history.sample();
            clock.advance(Duration.ofSeconds(10));
        }
        assertThat(history.series(Duration.ofHours(1)).at()).hasSize(360);
        Series day = history.series(Duration.ofDays(1));
        assertThat(day.at()).hasSize(24 * 60);
        assertThat(day.collectors()).hasSize(10).containsKey("collector-11").doesNotContainKey("collector-1");
    }

    @Test
    void only_the_period_that_is_asked_for() {
        for (int i = 0; i < 360; i++) {
            history.sample();
            clock.advance(Duration.ofSeconds(10));
        }
        assertThat(history.series(Duration.ofMinutes(10)).at()).hasSize(60);
    }

    @Test
    void goes_on_after_the_clock_was_set_back() {
        for (int i = 0; i < 60; i++) {
            history.sample();
            clock.advance(Duration.ofSeconds(10));
        }
        clock.advance(Duration.ofMinutes(-5));
        history.sample();
        clock.advance(Duration.ofSeconds(10));
        history.sample();
        assertThat(history.series(Duration.ofHours(1)).at()).isSorted().doesNotHaveDuplicates();
    }
}
