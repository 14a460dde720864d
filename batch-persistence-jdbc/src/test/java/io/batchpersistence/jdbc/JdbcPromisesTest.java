package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.internal.spi.LocalBatchStore;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskBatchStores;
import io.batchpersistence.test.Batches;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Instances with different TTLs share a database: two misconfigured applications, or one in a rolling upgrade. */
class JdbcPromisesTest extends JdbcTestBase {

    @TempDir
    Path directory;

    private static final Duration HOUR = Duration.ofHours(1);
    private static final Duration DAY = Duration.ofDays(1);
    private static final Duration WEEK = Duration.ofDays(7);

    private JdbcBatchStore open(Duration batchTtl, Duration deadLetterTtl) {
        JdbcBatchStore store = open();
        store.useSettings(type -> settings(batchTtl, deadLetterTtl));
        return store;
    }

    private static CollectorSettings settings(Duration batchTtl, Duration deadLetterTtl) {
        CollectorSettings defaults = CollectorSettings.DEFAULT;
        return new CollectorSettings(
                defaults.batchTimeout(),
                batchTtl,
                deadLetterTtl,
                RecoveryPolicy.DEFAULT,
                true,
                1,
                0,
                defaults.order(),
                3,
                defaults.maxRetryAfter(),
                false);
    }

    private List<String> expire(JdbcBatchStore store, Duration batchTtl, Duration deadLetterTtl) {
        Instant now = clock.instant();
        return store.expire("loki", now.minus(batchTtl), now.minus(deadLetterTtl), 100).stream()
                .map(BatchSummary::id)
                .toList();
    }

    @OnEachDatabase
    void a_shorter_ttl_elsewhere_removes_nothing_that_was_promised_to_be_kept_longer(Kind kind) {
        on(kind);
        JdbcBatchStore longer = open(DAY, WEEK);
        JdbcBatchStore shorter = open(HOUR, DAY);
        append(longer, "pending", "dead");
        markPending(longer, "pending");
        markDead(longer, "dead");
        append(shorter, "brief");
        markPending(shorter, "brief");

        pass(HOUR.plusSeconds(1), longer);
        shorter.heartbeat();
        assertThat(expire(shorter, HOUR, DAY)).containsExactly("brief");
        pass(DAY.minus(HOUR).minusSeconds(2), longer);
        assertThat(expire(shorter, HOUR, DAY)).isEmpty();
        pass(Duration.ofSeconds(2), longer);
        shorter.heartbeat();
        assertThat(expire(shorter, HOUR, DAY)).containsExactly("pending");
        pass(WEEK.minus(DAY), longer);
        shorter.heartbeat();
        assertThat(expire(shorter, HOUR, DAY)).containsExactly("dead");
        assertThat(balanced(longer).expired()).isEqualTo(3);
    }

    @OnEachDatabase
    void a_longer_ttl_rescues_what_was_promised_a_shorter_one(Kind kind) {
        on(kind);
        JdbcBatchStore before = open(HOUR, DAY);
        append(before, "a");
        markPending(before, "a");
        before.close();
        JdbcBatchStore after = open(DAY, WEEK);
        pass(HOUR.multipliedBy(2), after);
        assertThat(expire(after, DAY, WEEK)).isEmpty();
        pass(DAY.minus(HOUR), after);
        assertThat(expire(after, DAY, WEEK)).containsExactly("a");
    }

    @OnEachDatabase
    void a_shorter_ttl_holds_for_what_is_persisted_from_then_on(Kind kind) {
        on(kind);
        JdbcBatchStore before = open(DAY, WEEK);
        append(before, "old");
        markPending(before, "old");
        before.close();
        JdbcBatchStore after = open(HOUR, DAY);
        append(after, "new");
        markPending(after, "new");
        pass(HOUR.plusSeconds(1), after);
        assertThat(expire(after, HOUR, DAY)).containsExactly("new");
        pass(DAY.minus(HOUR), after);
        assertThat(expire(after, HOUR, DAY)).containsExactly("old");
    }

    /** As in applications: the engine passes its TTL to the store, also with a fallback. */
    @Test
    void engines_with_different_ttls_keep_what_the_longer_one_promised() {
        on(Kind.H2);
        BatchPersistence longer = engine(open(), DAY);
        FallbackBatchStore withFallback = new FallbackBatchStore(
                open(),
                (LocalBatchStore) DiskBatchStores.segment(
                        DiskStoreOptions.builder(directory).clock(clock).build()),
                directory,
                clock);
        BatchPersistence shorter = engine(withFallback, HOUR);
        longer.persistBatch("long", Batches.entries(1), "loki");
        assertThat(longer.markBatchFailed("long", "down")).isTrue();
        shorter.persistBatch("short", Batches.entries(1), "loki");
        assertThat(shorter.markBatchFailed("short", "down")).isTrue();

        // After start-up an engine lets every batch live for at least an hour.
        for (int i = 0; i < 3; i++) {
            pass(HOUR.dividedBy(2).plusSeconds(1));
            opened.forEach(JdbcBatchStore::heartbeat);
            longer.recover(BatchSelector.all().limit(1));
            shorter.cleanup();
        }
        assertThat(longer.find("short")).isEmpty();
        assertThat(longer.find("long")).isPresent();
        longer.close();
        shorter.close();
    }

    private BatchPersistence engine(BatchStore store, Duration batchTtl) {
        return BatchPersistenceEngine.builder(store)
                .settings(type -> settings(batchTtl, WEEK))
                .clock(clock)
                .ticker(ticker::get)
                .build();
    }

    @OnEachDatabase
    void applications_that_share_tables_are_told_so(Kind kind) {
        on(kind);
        assertThat(logged(InstanceMembership.class, () -> {
                    open(database.pool(), options -> options.application("shop"));
                    open(database.pool(), options -> options.application("shop"));
                    open(database.pool(), options -> options.application(""));
                }))
                .isEmpty();
        assertThat(logged(
                        InstanceMembership.class,
                        () -> open(database.pool(), options -> options.application("billing"))))
                .singleElement()
                .asString()
                .startsWith("Other applications keep their batches in the same tables")
                .contains(": shop.", "table prefix");
    }

    @OnEachDatabase
    void a_ttl_without_end_is_kept(Kind kind) {
        on(kind);
        JdbcBatchStore endless = open(Duration.ofSeconds(Long.MAX_VALUE), Duration.ofSeconds(Long.MAX_VALUE));
        JdbcBatchStore shorter = open(HOUR, DAY);
        append(endless, "pending", "dead");
        markPending(endless, "pending");
        markDead(endless, "dead");
        pass(Duration.ofDays(1_000), shorter);
        assertThat(expire(shorter, HOUR, DAY)).isEmpty();
    }
}
