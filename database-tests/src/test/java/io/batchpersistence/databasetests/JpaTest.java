package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.databasetests.OwnDatabase.Kind;
import io.batchpersistence.spring.BatchDelivery;
import jakarta.persistence.EntityManager;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.dao.DataIntegrityViolationException;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.annotation.Propagation;
import org.springframework.transaction.annotation.Transactional;
import org.springframework.transaction.event.TransactionalEventListener;

/** A business entity and a batch, in one JPA transaction. */
class JpaTest extends ApplicationTest {

    private ConfigurableApplicationContext start(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(
                Application.class,
                on(kind),
                "spring.jpa.hibernate.ddl-auto=update",
                "batch-persistence.jdbc.initialize-schema=always",
                "batch-persistence.jdbc.join-transaction=true",
                "batch-persistence.recovery.interval=200ms");
        assertThat(context.getBean(PlatformTransactionManager.class)).isInstanceOf(JpaTransactionManager.class);
        return context;
    }

    private static List<String> orders(ConfigurableApplicationContext context) {
        return context.getBean(Orders.class).findAll().stream()
                .map(CustomerOrder::getId)
                .toList();
    }

    /** Sends a last batch, so that everything left to recovery before it has been examined, too. */
    private static void assertNothingSentBut(ConfigurableApplicationContext context, String... ids) {
        delivery(context).deliverAsync("last", ENTRIES, "loki");
        await().untilAsserted(() -> assertThat(sent(context)).contains("last"));
        assertThat(sent(context))
                .containsExactlyInAnyOrderElementsOf(
                        Stream.concat(Stream.of(ids), Stream.of("last")).toList());
        await().untilAsserted(() ->
                assertThat(persistence(context).stats().total().delivered()).isEqualTo(ids.length + 1));
        assertThat(persistence(context).stats().total().isBalanced()).isTrue();
    }

    @ParameterizedTest
    @EnumSource
    void the_order_and_its_batch_are_committed_together_and_sent_after_that(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        Shop shop = context.getBean(Shop.class);
        shop.order("1", () -> {
            assertThat(delivery(context).deliver("1-now", ENTRIES, "loki").outcome())
                    .isEqualTo(Outcome.PENDING);
            persistence(context).recover();
            assertThat(persistence(context).find("1")).as("before the commit").isEmpty();
            assertThat(sent(context)).isEmpty();
        });
        assertThat(orders(context)).containsExactly("1");
        await().untilAsserted(() -> assertThat(sent(context)).containsExactlyInAnyOrder("1", "1-now"));
        assertNothingSentBut(context, "1", "1-now");
    }

    @ParameterizedTest
    @EnumSource
    void the_order_and_its_batch_are_rolled_back_together_and_nothing_is_sent(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        Shop shop = context.getBean(Shop.class);
        assertThatThrownBy(() -> shop.order("1", () -> {
                    throw new IllegalStateException("sold out");
                }))
                .hasMessage("sold out");
        assertThat(orders(context)).isEmpty();
        assertThat(persistence(context).find("1")).isEmpty();

        shop.order("2", () -> {});
        // Only the commit detects the duplicate: Hibernate writes entities late.
        assertThatThrownBy(() -> shop.orderAnew("2", "3")).isInstanceOf(DataIntegrityViolationException.class);
        assertThat(orders(context)).containsExactly("2");
        assertThat(persistence(context).find("3")).isEmpty();
        assertNothingSentBut(context, "2");
    }

    @ParameterizedTest
    @EnumSource
    void what_is_refused_leaves_the_transaction_as_it_is(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        Shop shop = context.getBean(Shop.class);
        BatchPersistence persistence = persistence(context);
        persistence.persistBatch("held", ENTRIES, "loki");
        shop.order("1", () -> {
            assertThatThrownBy(() -> delivery(context).deliverAsync("held", ENTRIES, "loki"))
                    .isInstanceOf(DuplicateBatchException.class);
            assertThatThrownBy(() -> persistence.deliver(
                            "at once", ENTRIES, "loki", Map.of(), context.getBean(BatchSender.class)))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("BatchDelivery");
        });
        assertThat(orders(context)).containsExactly("1");
        assertThat(persistence.find("at once")).isEmpty();
        assertThat(persistence.find("held")).isPresent();
        assertNothingSentBut(context, "1");
    }

    @ParameterizedTest
    @EnumSource
    void a_new_transaction_has_its_own_batches(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        Shop shop = context.getBean(Shop.class);
        assertThatThrownBy(() -> shop.order("outer", () -> {
                    shop.orderInANewTransaction("inner");
                    throw new IllegalStateException("sold out");
                }))
                .hasMessage("sold out");
        assertThat(orders(context)).containsExactly("inner");
        assertThat(persistence(context).find("outer")).isEmpty();
        assertNothingSentBut(context, "inner");
    }

    @ParameterizedTest
    @EnumSource
    void in_a_transaction_that_only_reads_a_batch_is_held_at_once(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        Shop shop = context.getBean(Shop.class);
        shop.order("1", () -> {});
        await().untilAsserted(() -> assertThat(sent(context)).containsExactly("1"));
        assertThat(shop.look("1", () -> {
                    delivery(context).deliver("read 1", ENTRIES, "loki");
                    persistence(context).persistBatch("read 1 again", ENTRIES, "loki");
                    assertThat(persistence(context).find("read 1 again")).isPresent();
                }))
                .isPresent();
        assertNothingSentBut(context, "1", "read 1");
    }

    /** Covers the callbacks that run once the transaction is known to be committed. */
    @ParameterizedTest
    @EnumSource
    void what_a_listener_persists_after_the_commit_is_durable_by_itself(Kind kind) throws IOException {
        ConfigurableApplicationContext context = start(kind);
        context.getBean(Shop.class).order("1", () -> context.publishEvent(new Placed("1")));
        assertThat(persistence(context).find("placed 1")).isPresent();
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @Import({Shop.class, Afterwards.class})
    static class Application {
        @Bean
        Collecting loki() {
            return new Collecting();
        }
    }

    @Transactional
    static class Shop {

        private final Orders orders;
        private final EntityManager entities;
        private final BatchDelivery delivery;

        Shop(Orders orders, EntityManager entities, BatchDelivery delivery) {
            this.orders = orders;
            this.entities = entities;
            this.delivery = delivery;
        }

        public void order(String id, Runnable more) {
            orders.save(new CustomerOrder(id));
            delivery.deliverAsync(id, ENTRIES, "loki");
            more.run();
        }

        /** Not with {@code save}, which checks whether the entity exists. */
        public void orderAnew(String id, String batchId) {
            entities.persist(new CustomerOrder(id));
            delivery.deliverAsync(batchId, ENTRIES, "loki");
        }

        @Transactional(propagation = Propagation.REQUIRES_NEW)
        public void orderInANewTransaction(String id) {
            order(id, () -> {});
        }

        @Transactional(readOnly = true)
        public Optional<CustomerOrder> look(String id, Runnable more) {
            Optional<CustomerOrder> found = orders.findById(id);
            more.run();
            return found;
        }
    }

    record Placed(String id) {}

    static class Afterwards {

        private final BatchPersistence persistence;

        Afterwards(BatchPersistence persistence) {
            this.persistence = persistence;
        }

        @TransactionalEventListener
        void placed(Placed order) {
            persistence.persistBatch("placed " + order.id(), ENTRIES, "loki");
        }
    }
}
