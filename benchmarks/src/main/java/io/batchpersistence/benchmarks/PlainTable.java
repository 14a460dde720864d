package io.batchpersistence.benchmarks;

import com.github.luben.zstd.Zstd;
import com.zaxxer.hikari.HikariDataSource;
import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import org.jspecify.annotations.Nullable;

/** The simplest solution with a database: a table with two columns, one statement for each batch and for each mark. */
final class PlainTable implements Candidate.Shared {

    static final Kind KIND = new Kind(
            "plain-table",
            "plain table",
            false,
            "OTLP protobuf, zstd; CREATE TABLE (id, payload); one INSERT for a batch, one DELETE for a mark, both in autocommit; "
                    + "several workers take what is pending with SELECT … FOR UPDATE SKIP LOCKED, one batch and one transaction at a "
                    + "time; a pool with 4 connections more than callers",
            "sync: committed, with synchronous_commit on; no sync: with synchronous_commit off. Marks likewise.",
            Map.of(
                    Limit.NEEDS_DATABASE, Limit.NO_DATABASE_GIVEN,
                    Limit.LESS_SAFE_WITHOUT_SYNC, Limit.COMMITTED_LATER),
            PlainTable::new);

    private static final int PAGE = 100;

    private final HikariDataSource pool;
    private final String table;
    private final Queue<Stored> page = new ArrayDeque<>();
    private String last = "";

    private PlainTable(Path directory, boolean sync) throws IOException, SQLException {
        DatabasePlace place = DatabasePlace.of(directory);
        table = place.quotedSchema() + ".batch";
        place.execute("CREATE TABLE IF NOT EXISTS " + table + " (id varchar(100) PRIMARY KEY, payload bytea NOT NULL)");
        pool = place.pool(sync);
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws SQLException {
        byte[] bytes = Zstd.compress(Otlp.encode(entries));
        try (Connection connection = pool.getConnection();
                PreparedStatement insert =
                        connection.prepareStatement("INSERT INTO " + table + " (id, payload) VALUES (?, ?)")) {
            insert.setString(1, batchId);
            insert.setBytes(2, bytes);
            insert.executeUpdate();
        }
    }

    @Override
    public void mark(String batchId) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            delete(connection, batchId);
        }
    }

    private void delete(Connection connection, String batchId) throws SQLException {
        try (PreparedStatement delete = connection.prepareStatement("DELETE FROM " + table + " WHERE id = ?")) {
            delete.setString(1, batchId);
            if (delete.executeUpdate() != 1) {
                throw new IllegalStateException("batch " + batchId + " is not held");
            }
        }
    }

    @Override
    public long pending() throws SQLException {
        return DatabasePlace.count(pool, table);
    }

    @Override
    public @Nullable Stored next() throws SQLException, IOException {
        if (page.isEmpty()) {
            try (Connection connection = pool.getConnection();
                    PreparedStatement select = connection.prepareStatement(
                            "SELECT id, payload FROM " + table + " WHERE id > ? ORDER BY id LIMIT " + PAGE)) {
                select.setString(1, last);
                page.addAll(read(select));
            }
        }
        Stored next = page.poll();
        if (next != null) {
            last = next.id();
        }
        return next;
    }

    private static List<Stored> read(PreparedStatement select) throws SQLException, IOException {
        try (ResultSet rows = select.executeQuery()) {
            List<Stored> read = new ArrayList<>();
            while (rows.next()) {
                byte[] bytes = rows.getBytes(2);
                read.add(new Stored(
                        rows.getString(1), Otlp.decode(Zstd.decompress(bytes, (int) Zstd.getFrameContentSize(bytes)))));
            }
            return read;
        }
    }

    @Override
    public Recovered recover(int workers) throws Exception {
        return Recovered.sum(Scenarios.inParallel(workers, worker -> {
            Recovered recovered = Recovered.NONE;
            try (Connection connection = pool.getConnection()) {
                connection.setAutoCommit(false);
                for (Stored one = takeOne(connection); one != null; one = takeOne(connection)) {
                    delete(connection, one.id());
                    connection.commit();
                    recovered = recovered.and(one);
                }
                connection.commit();
            }
            return recovered;
        }));
    }

    private @Nullable Stored takeOne(Connection connection) throws SQLException, IOException {
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT id, payload FROM " + table + " ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")) {
            List<Stored> taken = read(select);
            return taken.isEmpty() ? null : taken.get(0);
        }
    }

    @Override
    public long encodedSize(List<LogEntry> entries) {
        return Zstd.compress(Otlp.encode(entries)).length;
    }

    @Override
    public void close() {
        pool.close();
    }
}
