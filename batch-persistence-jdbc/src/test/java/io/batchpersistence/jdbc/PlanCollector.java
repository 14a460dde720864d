package io.batchpersistence.jdbc;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.sql.DataSource;

/**
 * Connections to PostgreSQL that report how each statement ran, as {@code EXPLAIN (ANALYZE, BUFFERS)} does. Uses
 * {@code auto_explain}, which shows the actual run with its values and its plan, cached or not. Only a superuser may
 * load it.
 */
final class PlanCollector implements AutoCloseable {

    private static final String LOAD = "LOAD 'auto_explain'";
    private static final String SETTINGS = "; SET auto_explain.log_level = notice; SET auto_explain.log_analyze = on"
            + "; SET auto_explain.log_buffers = on; SET auto_explain.log_min_duration = 0";

    record Plan(String text) {

        private static final Pattern BUFFERS = Pattern.compile("Buffers: shared(?: hit=(\\d+))?(?: read=(\\d+))?");

        /** Pages of 8 kB that were read, with repetitions. */
        long pages() {
            // The topmost node includes all nodes below it.
            Matcher first = BUFFERS.matcher(text);
            return first.find() ? number(first.group(1)) + number(first.group(2)) : 0;
        }

        private static long number(String digits) {
            return digits == null ? 0 : Long.parseLong(digits);
        }

        boolean readsAllOf(String table) {
            return text.contains("Seq Scan on " + table);
        }

        String statement() {
            int from = text.indexOf("Query Text:");
            return text.substring(from, text.indexOf('\n', from));
        }

        /** Shortens long lists of values and columns. */
        String shortened() {
            return text.replaceAll("\\$\\d+(, \\$\\d+){3,}", "\\$…")
                    .replaceAll("\\{(\\d+)(,\\d+){3,}}", "{$1,…}")
                    .replace(Row.WITH_PAYLOAD, "…")
                    .replace(Row.WITH_HEADER, "…")
                    .replace(Row.COLUMNS, "…");
        }
    }

    private final HikariDataSource pool;
    private final List<Plan> plans = new ArrayList<>();

    PlanCollector(String url) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setMaximumPoolSize(3);
        config.setConnectionInitSql(LOAD + SETTINGS);
        requireAutoExplain(url);
        pool = new HikariDataSource(config);
    }

    private static void requireAutoExplain(String url) {
        try (Connection connection = DriverManager.getConnection(url);
                Statement statement = connection.createStatement()) {
            statement.execute(LOAD);
        } catch (SQLException e) {
            TestServers.skip("no plan to be had from this PostgreSQL: " + e.getMessage());
        }
    }

    /** The plans since the last call, in the order in which the statements ended. */
    synchronized List<Plan> take() {
        List<Plan> taken = List.copyOf(plans);
        plans.clear();
        return taken;
    }

    private synchronized void collect(SQLWarning first) {
        for (SQLWarning warning = first; warning != null; warning = warning.getNextWarning()) {
            if (warning.getMessage().contains("Query Text:")) {
                plans.add(new Plan(warning.getMessage()));
            }
        }
    }

    DataSource source() {
        return FaultyDataSource.proxy(
                DataSource.class,
                (proxy, method, arguments) -> method.getName().equals("getConnection")
                        ? connection(pool.getConnection())
                        : FaultyDataSource.call(pool, method, arguments));
    }

    private Connection connection(Connection real) {
        return FaultyDataSource.proxy(Connection.class, (proxy, method, arguments) -> {
            Object result = FaultyDataSource.call(real, method, arguments);
            // The plan of a select arrives with the next statement.
            if (method.getName().equals("commit")) {
                collect(real.getWarnings());
                real.clearWarnings();
            }
            return result instanceof Statement statement ? statement(statement, method.getReturnType()) : result;
        });
    }

    private Object statement(Statement real, Class<?> type) {
        return FaultyDataSource.proxy(type, (proxy, method, arguments) -> {
            Object result = FaultyDataSource.call(real, method, arguments);
            if (method.getName().startsWith("execute")) {
                collect(real.getWarnings());
            }
            return result;
        });
    }

    @Override
    public void close() {
        pool.close();
    }
}
