package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.Traffic.soon;
import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.spi.BatchStore.Settled;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * Instances under load on PostgreSQL with a synchronous standby. The primary is killed repeatedly at any moment, and
 * its standby promoted. {@code -Dbatch.failover.rounds=N} sets the number of rounds. With
 * {@code -Dbatch.jdbc.postgresql.bin=/usr/lib/postgresql/15/bin} the servers are processes of this machine, otherwise
 * they run in a container.
 */
@Tag("slow")
class JdbcFailoverIT {

    private static final int ROUNDS = Integer.getInteger("batch.failover.rounds", 3);
    private static final int STORES = 3;
    private static final int WRITERS = 8;

    private final Random random = new Random(Long.getLong("faults.seed", 1));
    private final List<HikariDataSource> pools = new ArrayList<>();

    @AfterEach
    void closePools() {
        pools.forEach(HikariDataSource::close);
    }

    private JdbcBatchStore open(PostgresqlPair servers) {
        HikariDataSource pool = RecommendedPool.open(servers.url());
        pools.add(pool);
        return JdbcBatchStore.open(
                pool,
                JdbcStoreOptions.builder()
                        .instanceName("instance-" + pools.size())
                        .lease(RecommendedPool.LEASE)
                        .queryTimeout(RecommendedPool.QUERY_TIMEOUT)
                        .build());
    }

    private Traffic start(PostgresqlPair servers) {
        List<JdbcBatchStore> stores = new ArrayList<>();
        for (int i = 0; i < STORES; i++) {
            stores.add(open(servers));
        }
        return new Traffic(stores, WRITERS);
    }

    @Test
    void nothing_acknowledged_is_lost_when_the_primary_is_killed_and_its_standby_promoted()
            throws InterruptedException {
        try (PostgresqlPair servers = PostgresqlPair.start()) {
            servers.addStandby();
            Traffic traffic = start(servers);
            try {
                for (int round = 1; round <= ROUNDS; round++) {
                    traffic.awaitMore(500 + random.nextInt(2_000));
                    traffic.longestCall();
                    if (round % 2 == 0) {
                        // Without the standby, acknowledged commits would be lost.
                        servers.cutStandbyOff();
                    }
                    int before = traffic.acknowledged();
                    long killed = System.nanoTime();
                    servers.killPrimary();
                    long dead = System.nanoTime();
                    servers.promoteStandby();
                    long promoted = System.nanoTime();
                    soon(() -> traffic.writersSince(promoted) > 0);
                    long first = System.nanoTime();
                    soon(() -> traffic.writersSince(promoted) == WRITERS);
                    System.out.printf(
                            "FAILOVER %d: killed after %,d acknowledged batches in %d ms; standby promoted %,d ms later; then the"
                                    + " first batch acknowledged after %,d ms, one of each of %d writers after %,d ms;"
                                    + " longest call %,d ms%n",
                            round,
                            before,
                            millis(dead - killed),
                            millis(promoted - dead),
                            millis(first - promoted),
                            WRITERS,
                            millis(System.nanoTime() - promoted),
                            traffic.longestCall().toMillis());
                    servers.addStandby();
                }
                traffic.awaitMore(500);
            } finally {
                traffic.stop();
            }
            check(servers, traffic);
        }
    }

    @Test
    void a_server_that_was_frozen_for_longer_than_the_lease_is_gone_on_with() throws InterruptedException {
        try (PostgresqlPair servers = PostgresqlPair.start()) {
            Traffic traffic = start(servers);
            try {
                traffic.awaitMore(500);
                traffic.longestCall();
                long frozen = System.nanoTime();
                servers.freezePrimary();
                try {
                    soon(() -> System.nanoTime() - frozen
                            > RecommendedPool.LEASE.multipliedBy(3).dividedBy(2).toNanos());
                } finally {
                    servers.thawPrimary();
                }
                long thawed = System.nanoTime();
                soon(() -> traffic.writersSince(thawed) > 0);
                long first = System.nanoTime();
                soon(() -> traffic.writersSince(thawed) == WRITERS);
                Duration longest = traffic.longestCall();
                System.out.printf(
                        "FROZEN for %,d ms, lease %,d ms; then the first batch acknowledged after %,d ms, one of each of %d writers"
                                + " after %,d ms; longest call %,d ms%n",
                        millis(thawed - frozen),
                        RecommendedPool.LEASE.toMillis(),
                        millis(first - thawed),
                        WRITERS,
                        millis(System.nanoTime() - thawed),
                        longest.toMillis());
                traffic.awaitMore(500);
            } finally {
                traffic.stop();
            }
            check(servers, traffic);
        }
    }

    /** A statement that is cancelled while its commit waits succeeds, with a warning, and is not replicated. */
    @Test
    void nothing_is_acknowledged_while_the_standby_does_not_have_it_however_long_that_takes() {
        try (PostgresqlPair servers = PostgresqlPair.start();
                HikariDataSource pool = new HikariDataSource()) {
            servers.addStandby();
            pool.setJdbcUrl(servers.url());
            try (JdbcBatchStore store = JdbcBatchStore.open(
                    pool,
                    JdbcStoreOptions.builder()
                            .queryTimeout(Duration.ofSeconds(1))
                            .build())) {
                Instant now = Instant.now();
                store.append(batch("a", now)).join();
                servers.cutStandbyOff();
                CompletableFuture<Void> appended = store.append(batch("b", now));
                servers.awaitWaitingCommit();
                assertThat(appended).isNotDone();
                servers.waitForStandby(false);
                appended.join();
                servers.waitForStandby(true);
                CompletableFuture<Settled> marked = store.deliveredLater("a");
                servers.awaitWaitingCommit();
                assertThat(marked).isNotDone();
                servers.waitForStandby(false);
                assertThat(marked.join()).isNotNull();
                assertThat(store.count(BatchSelector.all(), now)).isOne();
                assertThat(store.stats().collector("loki").isBalanced()).isTrue();
            }
        }
    }

    private static NewBatch batch(String id, Instant now) {
        return new NewBatch(id, "loki", Batches.entries(3), Map.of(), now, now.plusSeconds(60));
    }

    private void check(PostgresqlPair servers, Traffic traffic) {
        System.out.println("IN ALL: " + traffic.told());
        try (JdbcBatchStore last = open(servers)) {
            assertThat(last.stats().problem()).isNull();
            traffic.check(last);
        }
    }

    private static long millis(long nanos) {
        return nanos / 1_000_000;
    }
}
