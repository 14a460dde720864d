package io.batchpersistence.jdbc;

import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.test.BatchStoreContract;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterAll;

/** The store contract with a database. Each test has its own tables. */
abstract class JdbcContract extends BatchStoreContract {

    private static final Queue<TestDatabase> USED = new ConcurrentLinkedQueue<>();

    private final TestDatabase.Kind kind;
    private final AtomicLong ticks = new AtomicLong();
    private TestDatabase database;

    JdbcContract(TestDatabase.Kind kind) {
        this.kind = kind;
    }

    @Override
    protected BatchStore open() {
        if (database == null) {
            database = TestDatabase.of(kind);
            USED.add(database);
        }
        return JdbcBatchStore.open(
                database.pool(),
                database.options().maxBatches(maxBatches).clock(clock).build(),
                new Database.Seams(() -> String.valueOf(clock.millis()), this::tick, false));
    }

    /** The ticker follows the clock of the suite, as the database clock does, so the clock is not stepped. */
    private long tick() {
        return ticks.accumulateAndGet(TimeUnit.MILLISECONDS.toNanos(clock.millis()), Math::max);
    }

    /** Not after each test: the suite still reads what a test has left. */
    @AfterAll
    static void dropTables() {
        for (TestDatabase used = USED.poll(); used != null; used = USED.poll()) {
            used.close();
        }
    }
}
