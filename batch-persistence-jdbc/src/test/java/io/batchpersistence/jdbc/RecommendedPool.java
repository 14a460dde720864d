package io.batchpersistence.jdbc;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.time.Duration;

/**
 * A pool with the settings that {@code docs/jdbc-store.md} recommends. All times, including those of the store, are
 * divided by five to keep the tests short. {@code -Dbatch.jdbc.divide.times=1} overrides this.
 */
final class RecommendedPool {

    private static final int DIVISOR = Integer.getInteger("batch.jdbc.divide.times", 5);

    static final Duration LEASE = Duration.ofSeconds(30).dividedBy(DIVISOR);
    static final Duration QUERY_TIMEOUT = Duration.ofSeconds(10).dividedBy(DIVISOR);
    static final Duration SOCKET_TIMEOUT = Duration.ofSeconds(15).dividedBy(DIVISOR);
    static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(5).dividedBy(DIVISOR);
    static final Duration CONNECTION_TIMEOUT = Duration.ofSeconds(5).dividedBy(DIVISOR);
    static final Duration IDLE_TRANSACTION_TIMEOUT = Duration.ofSeconds(10).dividedBy(DIVISOR);

    private RecommendedPool() {}

    /** @param url has parameters already */
    static HikariDataSource open(String url) {
        return pool(url + "&" + (url.startsWith("jdbc:postgresql:") ? postgresql() + postgresqlIdle() : mariadb()));
    }

    /** A pool for PostgreSQL behind a pooler, which does not pass on the server's limit for idle transactions. */
    static HikariDataSource openPooled(String url) {
        return pool(url + "&" + postgresql());
    }

    private static HikariDataSource pool(String url) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setConnectionTimeout(CONNECTION_TIMEOUT.toMillis());
        config.setValidationTimeout(CONNECTION_TIMEOUT.toMillis() / 2);
        config.setMaximumPoolSize(8);
        return new HikariDataSource(config);
    }

    private static String postgresql() {
        return "connectTimeout=" + CONNECT_TIMEOUT.toSeconds() + "&socketTimeout=" + SOCKET_TIMEOUT.toSeconds();
    }

    private static String postgresqlIdle() {
        return "&options=-c%20idle_in_transaction_session_timeout=" + IDLE_TRANSACTION_TIMEOUT.toMillis();
    }

    private static String mariadb() {
        return "connectTimeout=" + CONNECT_TIMEOUT.toMillis()
                + "&socketTimeout=" + SOCKET_TIMEOUT.toMillis()
                + "&sessionVariables=idle_transaction_timeout=" + IDLE_TRANSACTION_TIMEOUT.toSeconds();
    }
}
