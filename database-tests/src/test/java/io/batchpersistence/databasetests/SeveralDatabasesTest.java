package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.databasetests.OwnDatabase.Kind;
import io.batchpersistence.spring.BatchDelivery;
import jakarta.persistence.EntityManagerFactory;
import java.io.IOException;
import java.util.UUID;
import javax.sql.DataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.beans.factory.annotation.Qualifier;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.jdbc.DataSourceBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.core.env.Environment;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.annotation.Transactional;

/** Orders in one database, batches in another: transactions are joined on the store's own DataSource only. */
class SeveralDatabasesTest extends ApplicationTest {

    private ConfigurableApplicationContext start(String dataSource) throws IOException {
        return start(
                Application.class,
                on(Kind.H2),
                "spring.jpa.hibernate.ddl-auto=create-drop",
                "batch-persistence.jdbc.data-source=" + dataSource,
                "batch-persistence.jdbc.initialize-schema=always",
                "batch-persistence.jdbc.join-transaction=true");
    }

    private static void assertSoldOut(Runnable order) {
        assertThatThrownBy(order::run).hasMessage("sold out");
    }

    @Test
    void batches_in_a_database_of_their_own_join_its_transactions_only() throws IOException {
        ConfigurableApplicationContext context = start("logs");
        Shop shop = context.getBean(Shop.class);
        assertSoldOut(() -> shop.orderInTransactionOfOrders("1"));
        assertThat(context.getBean(Orders.class).count()).isZero();
        await().untilAsserted(() -> assertThat(sent(context)).containsExactly("1"));

        assertSoldOut(() -> shop.orderInTransactionOfLogs("2"));
        assertThat(context.getBean(Orders.class).count()).isOne();
        assertThat(persistence(context).find("2")).isEmpty();
        assertItPersistsAndDelivers(context, "3");
        assertThat(sent(context)).containsExactly("1", "3");
        assertThat(new JdbcTemplate(context.getBean("logs", DataSource.class))
                        .queryForObject("SELECT COUNT(*) FROM batch_persistence_batch", Integer.class))
                .isEqualTo(1);
    }

    @Test
    void batches_beside_the_orders_join_the_transactions_of_jpa_only() throws IOException {
        ConfigurableApplicationContext context = start("business");
        Shop shop = context.getBean(Shop.class);
        assertSoldOut(() -> shop.orderInTransactionOfOrders("1"));
        assertThat(context.getBean(Orders.class).count()).isZero();
        assertThat(persistence(context).find("1")).isEmpty();
        assertSoldOut(() -> shop.orderInTransactionOfLogs("2"));
        await().untilAsserted(() -> assertThat(sent(context)).containsExactly("2"));
    }

    @ParameterizedTest
    // The latter is a bean, but not a DataSource.
    @ValueSource(strings = {"log", "logsTransactions"})
    void a_name_that_is_none_is_explained(String name) {
        assertThatThrownBy(() -> start(name))
                .rootCause()
                .hasMessageContaining("batch_persistence.jdbc.data_source is '" + name
                        + "', but there is no DataSource bean of that name")
                .hasMessageContaining("'business'")
                .hasMessageContaining("'logs'");
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @Import(Shop.class)
    static class Application {

        @Bean
        @Primary
        DataSource business(Environment environment) {
            return DataSourceBuilder.create()
                    .url(environment.getRequiredProperty("spring.datasource.url"))
                    .build();
        }

        @Bean
        DataSource logs() {
            return DataSourceBuilder.create()
                    .url("jdbc:h2:mem:" + UUID.randomUUID())
                    .build();
        }

        @Bean
        @Primary
        PlatformTransactionManager transactionManager(EntityManagerFactory entities) {
            return new JpaTransactionManager(entities);
        }

        @Bean
        PlatformTransactionManager logsTransactions(@Qualifier("logs") DataSource logs) {
            return new DataSourceTransactionManager(logs);
        }

        @Bean
        Collecting loki() {
            return new Collecting();
        }
    }

    static class Shop {

        private final Orders orders;
        private final BatchDelivery delivery;

        Shop(Orders orders, BatchDelivery delivery) {
            this.orders = orders;
            this.delivery = delivery;
        }

        @Transactional
        public void orderInTransactionOfOrders(String id) {
            order(id);
        }

        @Transactional("logsTransactions")
        public void orderInTransactionOfLogs(String id) {
            order(id);
        }

        private void order(String id) {
            orders.save(new CustomerOrder(id));
            delivery.deliverAsync(id, ENTRIES, "loki");
            throw new IllegalStateException("sold out");
        }
    }
}
