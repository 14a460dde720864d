package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.BatchStore.Verdict;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** How disk stores behave if the clock of the previous process differs. */
class CorrectedTimesTest extends DiskStoreFixture {

    private static final Instant AHEAD = Instant.parse("2036-02-07T06:28:16Z");
    private static final Instant NOW = Instant.parse("2026-11-24T12:00:00Z");
    private static final Duration WAIT = Duration.ofMinutes(7);

    @TempDir
    Path copy;

    private BatchStore store;

    @BeforeEach
    void ahead() {
        clock.set(AHEAD);
    }

    private void reopen(StoreKind kind, Instant time) {
        store.close();
        clock.set(time);
        store = open(kind);
    }

    @AfterEach
    void close() {
        store.close();
    }

    private void fail(String id, boolean dead, Duration wait) {
        fail(store, id, "refused", new Verdict(dead, dead ? null : now().plus(wait), 1));
    }

    private List<String> expire(Instant before) {
        return store.collectorTypes().stream()
                .flatMap(type -> store.expire(type, before, before, 100).stream())
                .map(BatchSummary::id)
                .sorted()
                .toList();
    }

    private Instant due(String id) {
        return store.list(BatchSelector.all().ids(id), clock.instant()).get(0).nextAttemptAt();
    }

    @ParameterizedTest
    @EnumSource
    void ages_from_the_future_begin_now_and_that_lasts(StoreKind kind) {
        store = open(kind);
        append(store, "failed", "dead", "untouched", "in flight");
        fail("failed", false, WAIT);
        fail("dead", true, WAIT);
        reopen(kind, NOW);
        append(store, "later");
        store.correctAges(NOW.plusSeconds(1));
        assertThat(expire(NOW.plusSeconds(1))).as("as old as it is: in flight").isEmpty();
        assertThat(store.stats().total().oldestPending()).isEqualTo(NOW);
        reopen(kind, NOW.plusSeconds(10));
        assertThat(expire(NOW.plusSeconds(1))).containsExactly("later");
        assertThat(expire(NOW.plusSeconds(2))).containsExactly("dead", "failed", "in flight", "untouched");
    }

    @ParameterizedTest
    @EnumSource
    void a_wait_from_the_future_begins_now_and_one_that_is_too_long_ends(StoreKind kind) {
        store = open(kind);
        append(store, "a", "too long");
        fail("a", false, WAIT);
        fail("too long", false, Duration.ofDays(2));
        reopen(kind, NOW);
        append(store, "b", "asked for");
        fail("b", false, WAIT);
        fail("asked for", false, Duration.ofHours(23));
        store.correctWaits(NOW, type -> Duration.ofDays(1));
        for (int i = 0; i < 2; i++) {
            assertThat(due("a")).isEqualTo(NOW.plus(WAIT));
            assertThat(due("too long")).isBeforeOrEqualTo(clock.instant());
            assertThat(due("b")).isEqualTo(NOW.plus(WAIT));
            assertThat(due("asked for")).isEqualTo(NOW.plus(Duration.ofHours(23)));
            reopen(kind, NOW.plusSeconds(1));
        }
    }

    @ParameterizedTest
    @EnumSource
    void it_is_known_when_it_was_last_used(StoreKind kind) {
        clock.set(NOW);
        store = open(kind);
        assertThat(store.lastUsed()).as("a new directory").isNull();
        clock.advance(Duration.ofMinutes(1));
        reopen(kind, NOW.plus(Duration.ofDays(1)));
        assertThat(store.lastUsed()).as("closed").isEqualTo(NOW.plus(Duration.ofMinutes(1)));
        clock.advance(Duration.ofMinutes(1));
        store.reclaim();
        try (BatchStore copied = openCopy(kind)) {
            assertThat(copied.lastUsed()).as("killed after a cleanup").isEqualTo(clock.instant());
        }
    }

    /** Opens what a new process would find if the current owner were killed now. */
    private BatchStore openCopy(StoreKind kind) {
        try {
            Files.copy(
                    directory.resolve("lock"),
                    copy.resolve("lock"),
                    StandardCopyOption.COPY_ATTRIBUTES,
                    StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return kind.open(DiskStoreOptions.builder(copy).clock(clock).build());
    }
}
