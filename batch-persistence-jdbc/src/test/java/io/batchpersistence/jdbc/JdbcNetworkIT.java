package io.batchpersistence.jdbc;

import static io.batchpersistence.jdbc.Traffic.soon;
import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;

/**
 * Instances under load whose connection to the database is interrupted: connections are reset, no data arrives, or only
 * responses are lost. Each instance has its own connection. No batch is lost, calls end, and each instance recovers on
 * its own.
 */
@Tag("slow")
class JdbcNetworkIT {

    private static final int STORES = 2;
    private static final int WRITERS = 8;
    private static final int RESETS = 20;

    /**
     * The longest duration of a call. In the worst case a commit gets no response, each check of its outcome waits for
     * a connection and a lock, and the next group, which had to wait for that, is lost, too.
     */
    private static final Duration LONGEST_CALL = RecommendedPool.SOCKET_TIMEOUT
            .plus(RecommendedPool.CONNECTION_TIMEOUT)
            .multipliedBy(2)
            .plus(RecommendedPool.CONNECTION_TIMEOUT
                    .plus(RecommendedPool.QUERY_TIMEOUT)
                    .multipliedBy(6));

    private final Random random = new Random(Long.getLong("faults.seed", 1));
    private final List<CutProxy> ways = new ArrayList<>();
    private final List<HikariDataSource> pools = new ArrayList<>();
    private TestDatabase database;
    private Traffic traffic;

    private void start(Kind kind) throws IOException {
        database = TestDatabase.of(kind);
        List<JdbcBatchStore> stores = new ArrayList<>();
        for (int i = 0; i < STORES; i++) {
            Matcher url = Pattern.compile("(jdbc:\\w+://)([^:/]+):(\\d+)(/.*)")
                    .matcher(database.pool().getJdbcUrl());
            assertThat(url.matches()).as("host and port are in the URL").isTrue();
            CutProxy way = new CutProxy(url.group(2), Integer.parseInt(url.group(3)));
            ways.add(way);
            HikariDataSource pool = RecommendedPool.open(url.group(1) + way.address() + url.group(4));
            pools.add(pool);
            stores.add(JdbcBatchStore.open(pool, options()));
        }
        traffic = new Traffic(stores, WRITERS);
        traffic.awaitMore(500);
        traffic.longestCall();
    }

    private JdbcStoreOptions options() {
        return database.options()
                .lease(RecommendedPool.LEASE)
                .queryTimeout(RecommendedPool.QUERY_TIMEOUT)
                .build();
    }

    @AfterEach
    void close() throws IOException {
        for (CutProxy way : ways) {
            way.close();
        }
        pools.forEach(HikariDataSource::close);
        if (database != null) {
            database.close();
        }
    }

    @OnEachServer
    void connections_are_reset(Kind kind) throws Exception {
        cut(kind, RESETS + " RESETS", () -> {
            for (int i = 0; i < RESETS; i++) {
                traffic.awaitMore(random.nextInt(300));
                ways.get(random.nextInt(STORES)).reset();
            }
        });
    }

    @OnEachServer
    void a_short_hole_is_waited_for(Kind kind) throws Exception {
        cut(kind, "SHORT HOLE", () -> {
            hole(RecommendedPool.QUERY_TIMEOUT.dividedBy(4));
            ways.forEach(CutProxy::closeHole);
        });
        assertThat(traffic.refused()).isZero();
    }

    @OnEachServer
    void what_was_sent_into_a_hole_arrives_when_its_sender_has_given_up(Kind kind) throws Exception {
        cut(kind, "LATE", () -> {
            hole(RecommendedPool.SOCKET_TIMEOUT.multipliedBy(3).dividedBy(2));
            ways.forEach(CutProxy::closeHole);
        });
    }

    @OnEachServer
    void a_hole_longer_than_the_lease_after_which_connections_are_forgotten(Kind kind) throws Exception {
        cut(kind, "LONG HOLE", () -> {
            hole(RecommendedPool.LEASE.multipliedBy(3).dividedBy(2));
            ways.forEach(CutProxy::closeHoleAndForget);
        });
    }

    @OnEachServer
    void answers_are_swallowed(Kind kind) throws Exception {
        cut(kind, "ANSWERS SWALLOWED", () -> {
            ways.forEach(CutProxy::swallowAnswers);
            pass(RecommendedPool.SOCKET_TIMEOUT.dividedBy(2));
            ways.forEach(CutProxy::closeHoleAndForget);
        });
    }

    @OnEachServer
    void one_instance_is_cut_off_and_the_other_takes_over(Kind kind) throws Exception {
        cut(kind, "ONE CUT OFF", () -> {
            long from = System.nanoTime();
            ways.get(0).openHole();
            soon(() -> !database.query("SELECT id FROM {p}instance WHERE gone_at IS NOT NULL")
                    .isEmpty());
            long gone = System.nanoTime();
            soon(() -> database.query("SELECT b.seq FROM {p}batch b JOIN {p}instance i ON b.owner = i.id"
                            + " WHERE b.state = 1 AND i.gone_at IS NOT NULL LIMIT 1")
                    .isEmpty());
            System.out.printf(
                    "%s ONE CUT OFF: found gone after %,d ms, its batches given back after %,d ms%n",
                    kind, millis(gone - from), millis(System.nanoTime() - from));
            ways.get(0).closeHoleAndForget();
        });
    }

    private void cut(Kind kind, String what, Runnable cut) throws Exception {
        start(kind);
        try {
            cut.run();
            allGoOn(kind + " " + what, System.nanoTime());
        } finally {
            traffic.stop();
        }
        System.out.println("IN ALL: " + traffic.told());
        try (JdbcBatchStore last = JdbcBatchStore.open(database.pool(), options())) {
            traffic.check(last);
        }
    }

    private void hole(Duration time) {
        ways.forEach(CutProxy::openHole);
        pass(time);
    }

    private static void pass(Duration time) {
        long from = System.nanoTime();
        soon(() -> System.nanoTime() - from > time.toNanos());
    }

    private void allGoOn(String what, long from) {
        soon(() -> traffic.writersSince(from) > 0);
        long first = System.nanoTime();
        soon(() -> traffic.writersSince(from) == WRITERS);
        long all = System.nanoTime();
        Duration longest = traffic.longestCall();
        System.out.printf(
                "%s: then the first batch acknowledged after %,d ms, one of each of %d writers after %,d ms; longest call %,d"
                        + " ms%n",
                what, millis(first - from), WRITERS, millis(all - from), longest.toMillis());
        assertThat(longest).isLessThan(LONGEST_CALL);
        traffic.awaitMore(500);
    }

    private static long millis(long nanos) {
        return nanos / 1_000_000;
    }
}
