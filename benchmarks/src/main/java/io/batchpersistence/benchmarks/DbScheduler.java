package io.batchpersistence.benchmarks;

import com.github.kagkarlsson.scheduler.Scheduler;
import com.github.kagkarlsson.scheduler.SchedulerClient;
import com.github.kagkarlsson.scheduler.serializer.Serializer;
import com.github.kagkarlsson.scheduler.task.TaskInstance;
import com.github.kagkarlsson.scheduler.task.TaskInstanceId;
import com.github.kagkarlsson.scheduler.task.helper.CustomTask;
import com.github.kagkarlsson.scheduler.task.helper.Tasks;
import com.github.luben.zstd.Zstd;
import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;

/**
 * One execution of a task per batch: scheduled when the batch is persisted, and cancelled by the same client when it is
 * marked.
 */
final class DbScheduler implements Candidate.Shared {

    static final Kind KIND = new Kind(
            "db-scheduler",
            "db-scheduler",
            false,
            "OTLP protobuf, zstd, as the data of a task; table and indexes of its documentation; the batch is an execution that is "
                    + "due at once, made by scheduleIfNotExists and removed by cancel: a scheduler that executes it would first "
                    + "have to pick it, which is a transaction more. Several workers are the threads of its Scheduler, "
                    + "pollUsingLockAndFetch(4.0, 20.0), which is the fastest for few threads in its own benchmark; a pool with 4 "
                    + "connections more than callers",
            "sync: committed, with synchronous_commit on; no sync: with synchronous_commit off. Marks likewise.",
            Map.of(
                    Limit.NEEDS_DATABASE, Limit.NO_DATABASE_GIVEN,
                    Limit.LESS_SAFE_WITHOUT_SYNC, Limit.COMMITTED_LATER),
            DbScheduler::new);

    private static final String TASK = "batch";

    /** From its documentation, for PostgreSQL; without the parts that only users of priorities need. */
    private static final List<String> TABLES = List.of(
            "CREATE TABLE IF NOT EXISTS {t} (task_name varchar(100) NOT NULL, task_instance varchar(100) NOT NULL,"
                    + " task_data bytea, execution_time timestamp with time zone, picked boolean NOT NULL, picked_by varchar(50),"
                    + " last_success timestamp with time zone, last_failure timestamp with time zone,"
                    + " consecutive_failures int, last_heartbeat timestamp with time zone, version bigint NOT NULL,"
                    + " priority smallint, state varchar(50), PRIMARY KEY (task_name, task_instance))",
            "CREATE INDEX IF NOT EXISTS execution_time_idx ON {t} (execution_time)",
            "CREATE INDEX IF NOT EXISTS last_heartbeat_idx ON {t} (last_heartbeat)");

    /** Passes the bytes through. */
    private static final Serializer NO_SERIALIZER = new Serializer() {
        @Override
        public byte[] serialize(Object data) {
            return (byte[]) data;
        }

        @Override
        public <T> T deserialize(Class<T> type, byte[] bytes) {
            return type.cast(bytes);
        }
    };

    private final HikariDataSource pool;
    private final String table;
    private final SchedulerClient client;
    private @Nullable Scheduler scheduler;
    private @Nullable Queue<Stored> reading;

    private DbScheduler(Path directory, boolean sync) throws IOException, SQLException {
        DatabasePlace place = DatabasePlace.of(directory);
        table = place.quotedSchema() + ".scheduled_tasks";
        for (String statement : TABLES) {
            place.execute(statement.replace("{t}", table));
        }
        pool = place.pool(sync);
        client = SchedulerClient.Builder.create(pool)
                .tableName(table)
                .serializer(NO_SERIALIZER)
                .build();
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) {
        TaskInstance<byte[]> task = new TaskInstance<>(TASK, batchId, Zstd.compress(Otlp.encode(entries)));
        if (!client.scheduleIfNotExists(task, Instant.now())) {
            throw new IllegalStateException("batch " + batchId + " is held already");
        }
    }

    @Override
    public void mark(String batchId) {
        client.cancel(TaskInstanceId.of(TASK, batchId));
    }

    @Override
    public long pending() throws SQLException {
        return DatabasePlace.count(pool, table);
    }

    /** Reads all batches at once: the API has no paging. */
    @Override
    public @Nullable Stored next() {
        if (reading == null) {
            Queue<Stored> all = new ArrayDeque<>();
            client.fetchScheduledExecutionsForTask(
                    TASK,
                    byte[].class,
                    execution -> all.add(stored(execution.getTaskInstance().getId(), execution.getData())));
            reading = all;
        }
        return reading.poll();
    }

    private static Stored stored(String id, byte[] bytes) {
        try {
            return new Stored(id, Otlp.decode(Zstd.decompress(bytes, (int) Zstd.getFrameContentSize(bytes))));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public Recovered recover(int workers) throws Exception {
        AtomicLong left = new AtomicLong(pending());
        LongAdder batches = new LongAdder();
        LongAdder entries = new LongAdder();
        CompletableFuture<Void> done = new CompletableFuture<>();
        CustomTask<byte[]> task = Tasks.custom(TASK, byte[].class).execute((instance, context) -> {
            Stored stored = stored(instance.getId(), instance.getData());
            return (complete, operations) -> {
                operations.remove();
                batches.increment();
                entries.add(stored.entries().size());
                if (left.decrementAndGet() == 0) {
                    done.complete(null);
                }
            };
        });
        scheduler = Scheduler.create(pool, task)
                .tableName(table)
                .serializer(NO_SERIALIZER)
                .threads(workers)
                .pollUsingLockAndFetch(4.0, 20.0)
                .build();
        if (left.get() > 0) {
            scheduler.start();
            done.join();
        }
        return new Recovered(batches.sum(), entries.sum());
    }

    @Override
    public long encodedSize(List<LogEntry> entries) {
        return Zstd.compress(Otlp.encode(entries)).length;
    }

    @Override
    public void close() {
        if (scheduler != null) {
            scheduler.stop();
        }
        pool.close();
    }
}
