package io.batchpersistence.jdbc;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A test database with its own tables, which close() drops. H2 is always available; for the others see
 * {@link TestServers}.
 */
final class TestDatabase implements AutoCloseable {

    enum Kind {
        H2,
        POSTGRESQL,
        MARIADB
    }

    private static final String[] TABLES = {
        "batch", "instance", "counter", "lane", "corrupt", "outage", "schema_version"
    };

    private static final Map<String, HikariDataSource> POOLS = new ConcurrentHashMap<>();

    private final HikariDataSource pool;
    private final String prefix =
            "t" + UUID.randomUUID().toString().substring(0, 8).toLowerCase(Locale.ROOT) + "_";

    private TestDatabase(String url) {
        pool = POOLS.computeIfAbsent(url, any -> pool(any, 8));
    }

    /** A pool for a test of its own, which closes it. */
    static HikariDataSource pool(String url, int connections) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setMaximumPoolSize(connections);
        config.setMinimumIdle(1);
        return new HikariDataSource(config);
    }

    static TestDatabase h2() {
        return new TestDatabase("jdbc:h2:mem:tests;DB_CLOSE_DELAY=-1;LOCK_TIMEOUT=5000");
    }

    static TestDatabase of(Kind kind) {
        if (kind == Kind.H2) {
            return h2();
        }
        return new TestDatabase(TestServers.url(kind));
    }

    HikariDataSource pool() {
        return pool;
    }

    String prefix() {
        return prefix;
    }

    JdbcStoreOptions.Builder options() {
        return JdbcStoreOptions.builder().tablePrefix(prefix);
    }

    int update(String sql) {
        try (Connection connection = pool.getConnection();
                Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql.replace("{p}", prefix).replace("{i}", prefix));
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }

    List<String> query(String sql) {
        try (Connection connection = pool.getConnection();
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql.replace("{p}", prefix))) {
            List<String> all = new ArrayList<>();
            while (rows.next()) {
                all.add(rows.getString(1));
            }
            return all;
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void close() {
        try (Connection connection = pool.getConnection();
                Statement statement = connection.createStatement()) {
            for (String table : TABLES) {
                statement.execute("DROP TABLE IF EXISTS " + prefix + table);
            }
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }
}
