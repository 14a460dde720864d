package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.NewBatch;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Groups that exceed the limit of the server or of something in between. */
class JdbcLargeTest extends JdbcTestBase {

    private static final int LARGE = 400_000;

    private HikariDataSource own;
    private String limit;

    @AfterEach
    void limitAsBefore() {
        if (own != null) {
            own.close();
        }
        if (limit != null) {
            database.update("SET GLOBAL max_allowed_packet = " + limit);
        }
    }

    /** Uses a pool of its own, so that other connections keep their limit. */
    private JdbcBatchStore openWithLimit(long bytes) {
        on(Kind.MARIADB);
        limit = database.query("SELECT @@global.max_allowed_packet").get(0);
        database.update("SET GLOBAL max_allowed_packet = " + bytes);
        own = TestDatabase.pool(TestServers.url(Kind.MARIADB), 4);
        source = new FaultyDataSource(own);
        return open(source, options -> options);
    }

    /** Random content, which does not compress. */
    private NewBatch large(String id, int bytes) {
        Random random = new Random(id.hashCode());
        StringBuilder message = new StringBuilder(bytes);
        for (int i = 0; i < bytes; i++) {
            message.append((char) (' ' + 1 + random.nextInt(94)));
        }
        Instant now = clock.instant();
        return new NewBatch(
                id, "loki", List.of(LogEntry.of(now, "INFO", message.toString())), Map.of(), now, now.plus(TIMEOUT));
    }

    private List<CompletableFuture<Void>> appendAtOnce(
            JdbcBatchStore store, int batches, int bytes, FaultyDataSource.Fault fault) throws InterruptedException {
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        source.beforeConnection = what -> FaultyDataSource.holdWriter(arrived, goOn);
        List<CompletableFuture<Void>> all = new ArrayList<>();
        all.add(store.append(batch("first")));
        arrived.await();
        for (int i = 0; i < batches; i++) {
            all.add(store.append(large("b" + i, bytes)));
        }
        source.beforeStatement = fault;
        goOn.countDown();
        return all;
    }

    @Test
    void many_large_batches_at_once_are_written_in_as_many_groups_as_the_server_wants() throws InterruptedException {
        JdbcBatchStore store = openWithLimit(1 << 20);
        append(store, "before");
        appendAtOnce(store, 40, LARGE, sql -> {}).forEach(CompletableFuture::join);
        source.recover();
        assertThat(balanced(store).accepted()).isEqualTo(42);
    }

    @Test
    void one_that_is_larger_than_a_statement_can_be_is_refused_with_what_to_do() {
        JdbcBatchStore store = openWithLimit(1 << 20);
        append(store, "before");
        assertThat(failure(store.append(large("too large", 2 << 20))))
                .isExactlyInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining("max_allowed_packet");
        assertThat(store.stats().problem()).isNull();
        append(store, "after");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    /** After the limit is raised, only the connections of the pool must be renewed. */
    @Test
    void a_limit_that_was_raised_is_noticed() {
        JdbcBatchStore store = openWithLimit(1 << 20);
        append(store, "before");
        database.update("SET GLOBAL max_allowed_packet = " + (8 << 20));
        own.getHikariPoolMXBean().softEvictConnections();
        store.heartbeat();
        store.append(large("large", 2 << 20)).join();
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    /** For example a proxy with an unknown limit. */
    @OnEachDatabase
    void a_group_whose_connection_is_lost_again_and_again_is_halved(Kind kind) throws InterruptedException {
        JdbcBatchStore store = openFaulty(kind);
        append(store, "before");
        AtomicInteger lost = new AtomicInteger();
        List<CompletableFuture<Void>> all = appendAtOnce(store, 8, 1_000, sql -> {
            if (sql.startsWith("INSERT INTO") && sql.contains("payload_crc") && sql.split("\\), \\(", -1).length > 3) {
                lost.incrementAndGet();
                throw FaultyDataSource.lost();
            }
        });
        all.forEach(CompletableFuture::join);
        assertThat(lost.get()).isPositive();
        source.recover();
        assertThat(balanced(store).accepted()).isEqualTo(10);
    }

    /** Each lost connection may take as long as the statement timeout. */
    @Test
    void connections_that_are_lost_whatever_is_sent_are_not_tried_for_each_batch() throws InterruptedException {
        JdbcBatchStore store = openFaulty(Kind.H2);
        append(store, "before");
        AtomicInteger lost = new AtomicInteger();
        List<CompletableFuture<Void>> all = appendAtOnce(store, 64, 10, sql -> {
            if (sql.startsWith("INSERT INTO") && sql.contains("payload_crc")) {
                lost.incrementAndGet();
                ticker.addAndGet(1_000_000_000L);
                throw FaultyDataSource.lost();
            }
        });
        all.forEach(each -> assertThat(each).failsWithin(Duration.ofSeconds(30)));
        assertThat(lost.get()).isLessThan(40);
        source.recover();
        assertThat(balanced(store).accepted()).isOne();
    }
}
