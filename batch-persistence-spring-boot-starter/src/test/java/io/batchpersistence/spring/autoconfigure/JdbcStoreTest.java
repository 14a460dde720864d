package io.batchpersistence.spring.autoconfigure;

import static io.batchpersistence.spring.autoconfigure.BatchPersistenceAutoConfigurationTest.ENTRIES;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.jdbc.JdbcBatchStore;
import io.batchpersistence.jdbc.JdbcStoreOptions.InitializeSchema;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.actuate.BatchPersistenceEndpoint;
import io.batchpersistence.spring.actuate.BatchPersistenceHealthIndicator;
import io.batchpersistence.spring.event.RecoveredBatchEvent;
import io.batchpersistence.spring.operator.BatchOperator;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import javax.sql.DataSource;
import org.assertj.core.api.InstanceOfAssertFactories;
import org.h2.jdbcx.JdbcDataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.diagnostics.FailureAnalysis;
import org.springframework.boot.health.contributor.Health;
import org.springframework.boot.health.contributor.Status;
import org.springframework.boot.jdbc.autoconfigure.DataSourceInitializationAutoConfiguration;
import org.springframework.boot.test.context.FilteredClassLoader;
import org.springframework.boot.test.context.assertj.AssertableApplicationContext;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Primary;
import org.springframework.context.event.EventListener;
import org.springframework.jdbc.BadSqlGrammarException;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.AbstractDataSource;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.jdbc.datasource.LazyConnectionDataSourceProxy;
import org.springframework.jdbc.datasource.TransactionAwareDataSourceProxy;
import org.springframework.jdbc.datasource.lookup.AbstractRoutingDataSource;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionTemplate;

/** {@code store: jdbc}, in an in-memory database. */
class JdbcStoreTest {

    @TempDir
    Path directory;

    private final JdbcDataSource database = newDatabase();

    private static JdbcDataSource newDatabase() {
        JdbcDataSource database = new JdbcDataSource();
        database.setURL("jdbc:h2:mem:" + UUID.randomUUID() + ";DB_CLOSE_DELAY=-1");
        database.setUser("sa");
        return database;
    }

    private ApplicationContextRunner bare() {
        return new ApplicationContextRunner()
                .withConfiguration(AutoConfigurations.of(
                        BatchPersistenceAutoConfiguration.class,
                        BatchPersistenceEndpointAutoConfiguration.class,
                        BatchPersistenceHealthAutoConfiguration.class,
                        BatchPersistenceJdbcAutoConfiguration.class))
                .withPropertyValues(
                        "batch-persistence.store=jdbc",
                        "batch-persistence.directory=" + directory.resolve("batches"),
                        "management.endpoints.web.exposure.include=*",
                        "spring.main.web-application-type=none");
    }

    private ApplicationContextRunner runner() {
        return bare().withBean("dataSource", DataSource.class, () -> database);
    }

    private static BatchPersistence persistence(AssertableApplicationContext context) {
        return context.getBean(BatchPersistence.class);
    }

    // ------------------------------------------------------------- it works

    @Test
    void persists_marks_and_recovers_and_needs_no_directory() {
        runner().withBean("loki", Collecting.class).run(context -> {
            assertThat(context).hasNotFailed().hasSingleBean(BatchStore.class);
            assertThat(context.getBean(BatchStore.class)).isInstanceOf(JdbcBatchStore.class);
            BatchPersistence persistence = persistence(context);
            persistence.persistBatch("1", ENTRIES, "loki");
            assertThat(persistence.find("1"))
                    .hasValueSatisfying(batch -> assertThat(batch.entries()).isEqualTo(ENTRIES));
            assertThatThrownBy(() -> persistence.persistBatch("1", ENTRIES, "loki"))
                    .isInstanceOf(DuplicateBatchException.class);
            assertThat(persistence.markBatchSuccess("1")).isTrue();
            assertThat(persistence.find("1")).isEmpty();

            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            assertThat(delivery.deliver("2", ENTRIES, "loki").outcome()).isEqualTo(Outcome.DELIVERED);
            delivery.deliverAsync("3", ENTRIES, "loki");
            await().untilAsserted(() ->
                    assertThat(persistence.stats().total().delivered()).isEqualTo(3));
            assertThat(context.getBean(Collecting.class).sent).containsExactly("2", "3");
            assertThat(directory.resolve("batches")).doesNotExist();

            persistence.persistBatch("4", ENTRIES, "kafka");
            BatchPersistenceEndpoint endpoint = context.getBean(BatchPersistenceEndpoint.class);
            assertThat(endpoint.summary().batches()).isEqualTo(1);
            assertThat(endpoint.summary().problem()).isNull();
            assertThat(health(context).getStatus()).isEqualTo(Status.UP);
        });
    }

    static class Collecting implements BatchSender {
        final List<String> sent = new CopyOnWriteArrayList<>();

        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {
            sent.add(batch.id());
        }
    }

    @Test
    void recovered_batches_are_published_as_events() {
        runner().withBean(Listening.class).run(context -> {
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki", Map.of("tenant", "a"));
            await().until(() -> persistence(context).find("1").isEmpty());
            assertThat(context.getBean(Listening.class).heard).containsExactly("1 a");
        });
    }

    static class Listening {
        final List<String> heard = new CopyOnWriteArrayList<>();

        @EventListener
        void on(RecoveredBatchEvent event) {
            heard.add(event.batch().id() + " " + event.batch().context().get("tenant"));
            event.acknowledge();
        }
    }

    @Test
    void what_one_instance_leaves_in_flight_is_sent_by_another() {
        runner().run(one -> {
            persistence(one).persistBatch("1", ENTRIES, "loki");
            runner().withBean("loki", Collecting.class).run(other -> {
                assertThat(persistence(other).find("1"))
                        .hasValueSatisfying(batch -> assertThat(batch.state()).isEqualTo(BatchState.IN_FLIGHT));
                one.close();
                await().until(() -> other.getBean(Collecting.class).sent.equals(List.of("1")));
                await().untilAsserted(() -> assertThat(
                                persistence(other).stats().total().delivered())
                        .isEqualTo(1));
            });
        });
    }

    @Test
    void a_pause_in_one_instance_is_obeyed_by_the_others() {
        runner().run(one -> runner().withBean("loki", Collecting.class).run(other -> {
            persistence(one).pause("loki");
            // This round looks for due batches.
            persistence(other).recover();
            assertDelivering(other, delivery -> delivery.deliver("1", ENTRIES, "loki"), Outcome.PENDING);
            persistence(other).recover();
            assertThat(other.getBean(Collecting.class).sent).isEmpty();
            assertThat(health(other).getDetails().get("warnings").toString()).contains("loki is paused");
            persistence(one).resume("loki");
            await().until(() -> other.getBean(Collecting.class).sent.equals(List.of("1")));
        }));
    }

    private interface Delivering {
        io.batchpersistence.DeliveryResult with(BatchDelivery delivery);
    }

    private static void assertDelivering(AssertableApplicationContext context, Delivering delivering, Outcome outcome) {
        assertThat(delivering.with(context.getBean(BatchDelivery.class)).outcome())
                .isEqualTo(outcome);
    }

    private static Health health(AssertableApplicationContext context) {
        Health health = context.getBean(BatchPersistenceHealthIndicator.class).health();
        assertThat(health).isNotNull();
        return health;
    }

    @Test
    void with_a_batch_persistence_of_the_application_the_database_is_left_alone() {
        joining()
                .withBean(BatchPersistence.class, BatchPersistenceEngine::disabled)
                .run(context -> {
                    assertThat(context).hasNotFailed().doesNotHaveBean(BatchStore.class);
                    assertThatThrownBy(() -> batches(database, "batch_persistence_"))
                            .isInstanceOf(BadSqlGrammarException.class);
                });
    }

    @Test
    void disabled_leaves_the_database_alone() {
        runner().withPropertyValues("batch-persistence.enabled=false").run(context -> {
            assertThat(context).hasNotFailed().doesNotHaveBean(BatchStore.class);
            assertThatThrownBy(() -> batches(database, "batch_persistence_"))
                    .isInstanceOf(BadSqlGrammarException.class);
        });
    }

    // --------------------------------------------------------- which DataSource

    @Test
    void the_named_of_several_is_used() {
        JdbcDataSource other = newDatabase();
        runner().withBean("logs", DataSource.class, () -> other)
                .withPropertyValues(
                        "batch-persistence.jdbc.data-source=logs", "batch-persistence.jdbc.table-prefix=logs_")
                .run(context -> {
                    persistence(context).persistBatch("1", ENTRIES, "loki");
                    assertThat(batches(other, "logs_")).isEqualTo(1);
                    assertThatThrownBy(() -> batches(database, "logs_")).isInstanceOf(BadSqlGrammarException.class);
                });
    }

    @Test
    void the_primary_of_several_is_used() {
        bare().withUserConfiguration(OnePrimary.class).run(context -> {
            persistence(context).persistBatch("1", ENTRIES, "loki");
            assertThat(batches(context.getBean("second", DataSource.class), "batch_persistence_"))
                    .isEqualTo(1);
        });
    }

    @Configuration(proxyBeanMethods = false)
    static class OnePrimary {
        @Bean
        DataSource first() {
            return newDatabase();
        }

        @Bean
        @Primary
        DataSource second() {
            return newDatabase();
        }
    }

    private static int batches(DataSource database, String prefix) {
        Integer count =
                new JdbcTemplate(database).queryForObject("SELECT COUNT(*) FROM " + prefix + "batch", Integer.class);
        return count == null ? 0 : count;
    }

    @Test
    void no_data_source_is_explained() {
        FailureAnalysis analysis = FailedStart.of(bare());
        assertThat(analysis.getDescription())
                .contains("batch_persistence.store is jdbc, but the application has no DataSource bean");
        assertThat(analysis.getAction()).contains("spring.datasource.url", "batch_persistence.store to segment");
    }

    @Test
    void several_data_sources_without_a_choice_are_explained() {
        FailureAnalysis analysis =
                FailedStart.of(runner().withBean("logs", DataSource.class, JdbcStoreTest::newDatabase));
        assertThat(analysis.getDescription()).contains("several DataSource beans", "'dataSource'", "'logs'");
        assertThat(analysis.getAction()).contains("batch_persistence.jdbc.data_source", "@Primary");
    }

    @Test
    void a_data_source_that_is_not_there_is_explained() {
        FailureAnalysis analysis =
                FailedStart.of(runner().withPropertyValues("batch-persistence.jdbc.data-source=logs"));
        assertThat(analysis.getDescription())
                .contains("batch_persistence.jdbc.data_source is 'logs'", "there is 'dataSource'", "It is set in");
        assertThat(analysis.getAction()).contains("name of one of them");
    }

    @ParameterizedTest
    @ValueSource(strings = {"org.springframework.jdbc", "org.springframework.boot.sql"})
    void missing_classes_are_explained(String packageName) {
        FailureAnalysis analysis = FailedStart.of(runner().withClassLoader(new FilteredClassLoader(packageName)));
        assertThat(analysis.getDescription()).contains("batch_persistence.store is jdbc", "not on the class path");
        assertThat(analysis.getAction()).contains("spring-boot-starter-jdbc");
        assertThat(directory.resolve("batches")).doesNotExist();
    }

    // ------------------------------------------------------------------ tables

    @Test
    void without_tables_the_application_starts_and_says_what_is_missing() {
        runner().withPropertyValues("batch-persistence.jdbc.initialize-schema=never")
                .run(context -> {
                    assertThat(context).hasNotFailed();
                    assertThat(health(context).getStatus()).isEqualTo(Status.DOWN);
                    assertThat(health(context).getDetails().get("problem").toString())
                            .contains("batch_persistence_", "missing", "initialize_schema", "h2-1.sql");
                    assertThatThrownBy(() -> persistence(context).persistBatch("1", ENTRIES, "loki"))
                            .isInstanceOf(BatchPersistenceException.class)
                            .hasMessageContaining("missing");
                    assertThat(context.getBean(BatchPersistenceEndpoint.class)
                                    .summary()
                                    .problem())
                            .contains("missing");
                });
    }

    @Test
    void the_shipped_scripts_make_the_tables_before_the_store_looks() throws IOException {
        Path script = directory.resolve("schema.sql");
        int version = 1;
        while (true) {
            try (InputStream shipped = JdbcBatchStore.class.getResourceAsStream("h2-" + version + ".sql")) {
                if (shipped == null) {
                    break;
                }
                // See docs/jdbc-spring.md.
                Files.writeString(
                        script,
                        new String(shipped.readAllBytes(), StandardCharsets.UTF_8)
                                .replace("{p}", "batch_persistence_")
                                .replace("{i}", "batch_persistence_"),
                        StandardOpenOption.CREATE,
                        StandardOpenOption.APPEND);
                version++;
            }
        }
        assertThat(version).isGreaterThan(1);
        runner().withConfiguration(AutoConfigurations.of(DataSourceInitializationAutoConfiguration.class))
                .withPropertyValues(
                        "batch-persistence.jdbc.initialize-schema=never",
                        "spring.sql.init.mode=always",
                        "spring.sql.init.schema-locations=" + script.toUri())
                .run(context -> {
                    assertThat(health(context).getStatus()).isEqualTo(Status.UP);
                    persistence(context).persistBatch("1", ENTRIES, "loki");
                });
    }

    @ParameterizedTest
    @ValueSource(strings = {"jdbc", "segment"})
    void only_the_store_in_the_database_waits_for_its_initialization(String store) {
        runner().withConfiguration(AutoConfigurations.of(DataSourceInitializationAutoConfiguration.class))
                .withPropertyValues("batch-persistence.store=" + store, "spring.sql.init.mode=always")
                .run(context -> {
                    assertThat(context).hasNotFailed();
                    String[] before = context.getBeanFactory()
                            .getBeanDefinition("batchStore")
                            .getDependsOn();
                    if (store.equals("jdbc")) {
                        assertThat(before).contains("dataSourceScriptDatabaseInitializer");
                    } else {
                        assertThat(before).isNullOrEmpty();
                    }
                });
    }

    // --------------------------------------------------- a database that is down

    /** A DataSource that can be switched off. */
    private static final class Switched extends AbstractDataSource {
        private final DataSource target;
        private final Thread starting = Thread.currentThread();
        final AtomicInteger attemptsOfTheStart = new AtomicInteger();
        volatile boolean down = true;

        Switched(DataSource target) {
            this.target = target;
        }

        @Override
        public Connection getConnection() throws SQLException {
            if (Thread.currentThread() == starting) {
                attemptsOfTheStart.incrementAndGet();
            }
            if (down) {
                throw new SQLException("connection refused", "08001");
            }
            return target.getConnection();
        }

        @Override
        public Connection getConnection(String username, String password) throws SQLException {
            return getConnection();
        }
    }

    @Test
    void with_the_database_down_the_application_starts_and_goes_on_by_itself() {
        Switched switched = new Switched(database);
        bare().withBean("dataSource", DataSource.class, () -> switched)
                .withBean("loki", Collecting.class)
                .withPropertyValues("batch-persistence.jdbc.initialize-schema=always")
                .run(context -> {
                    assertThat(context).hasNotFailed();
                    assertThat(health(context).getStatus()).isEqualTo(Status.DOWN);
                    assertThat(health(context).getDetails().get("problem").toString())
                            .contains("connection refused");
                    assertThatThrownBy(() -> persistence(context).persistBatch("1", ENTRIES, "loki"))
                            .isInstanceOf(BatchPersistenceException.class)
                            .hasMessageContaining("connection refused");

                    switched.down = false;
                    await().until(() -> health(context).getStatus().equals(Status.UP));
                    context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
                    await().until(() -> context.getBean(Collecting.class).sent.equals(List.of("1")));
                });
    }

    /** Each attempt takes as long as the pool waits for a connection. */
    @ParameterizedTest
    @EnumSource
    void with_the_database_down_the_start_waits_for_one_connection_only(InitializeSchema when) {
        Switched switched = new Switched(database);
        bare().withBean("dataSource", DataSource.class, () -> switched)
                .withUserConfiguration(Business.class)
                .withPropertyValues(
                        "batch-persistence.jdbc.initialize-schema=" + when,
                        "batch-persistence.jdbc.join-transaction=true",
                        "batch-persistence.recovery.exclude-failure-reasons=*401*")
                .run(context -> {
                    assertThat(context).hasNotFailed();
                    assertThat(switched.attemptsOfTheStart).hasValue(1);
                    assertThat(health(context).getDetails().get("problem").toString())
                            .contains("connection refused");
                });
    }

    @Test
    void an_embedded_database_that_was_not_there_at_the_start_gets_its_tables_later() {
        Switched switched = new Switched(database);
        bare().withBean("dataSource", DataSource.class, () -> switched).run(context -> {
            switched.down = false;
            await().until(() -> health(context).getStatus().equals(Status.UP));
            persistence(context).persistBatch("1", ENTRIES, "loki");
        });
    }

    // ------------------------------------------------------------------ health

    @Test
    void health_shows_the_instance_and_how_many_are_alive() {
        named("one")
                .run(one -> named("other").run(other -> {
                    await().untilAsserted(() -> assertInstance(one, "one", 2));
                    assertInstance(other, "other", 2);
                    other.close();
                    await().untilAsserted(() -> assertInstance(one, "one", 1));
                }));
    }

    private ApplicationContextRunner named(String instance) {
        return runner().withPropertyValues(
                        "batch-persistence.jdbc.instance-name=" + instance,
                        // One heartbeat per second.
                        "batch-persistence.jdbc.lease=3s",
                        "batch-persistence.jdbc.query-timeout=2s");
    }

    private static void assertInstance(AssertableApplicationContext context, String name, int alive) {
        assertThat(health(context).getDetails().get("instance"))
                .asInstanceOf(InstanceOfAssertFactories.MAP)
                .containsEntry("name", name)
                .containsEntry("alive", alive)
                .hasEntrySatisfying(
                        "number", number -> assertThat((Long) number).isPositive());
    }

    @Test
    void health_says_in_which_table_damaged_batches_are_kept() {
        runner().run(context -> {
            persistence(context).persistBatch("1", ENTRIES, "loki");
            new JdbcTemplate(database).update("UPDATE batch_persistence_batch SET payload_crc = payload_crc + 1");
            assertThat(persistence(context).find("1")).isEmpty();
            await().untilAsserted(() -> assertThat(
                            String.valueOf(health(context).getDetails().get("warnings")))
                    .contains("in batch_persistence_batch", "the damaged bytes are kept in batch_persistence_corrupt")
                    .doesNotContain("quarantine"));
        });
    }

    @Test
    void an_application_that_shares_its_tables_with_another_is_told_so() {
        ListAppender<ILoggingEvent> logged = new ListAppender<>();
        logged.start();
        Logger logger = (Logger) LoggerFactory.getLogger("io.batchpersistence");
        logger.addAppender(logged);
        try {
            runner().withPropertyValues("spring.application.name=shop")
                    .run(shop -> runner().withPropertyValues("spring.application.name=billing")
                            .run(billing -> assertThat(logged.list)
                                    .extracting(ILoggingEvent::getFormattedMessage)
                                    .filteredOn(line -> line.startsWith("Other applications"))
                                    .singleElement(InstanceOfAssertFactories.STRING)
                                    .contains(": shop.", "batch_persistence_")));
        } finally {
            logger.detachAppender(logged);
        }
    }

    /**
     * After a change of the store, the batches of the previous one are found: the log warns, and the fallback moves
     * them.
     */
    @Test
    void batches_of_an_earlier_store_on_disk_are_not_forgotten() {
        ListAppender<ILoggingEvent> logged = new ListAppender<>();
        logged.start();
        Logger logger = (Logger) LoggerFactory.getLogger(BatchPersistence.class);
        logger.addAppender(logged);
        runner().withPropertyValues("batch-persistence.store=segment")
                .run(context -> persistence(context).persistBatch("1", ENTRIES, "loki"));
        runner().run(context -> {
            assertThat(persistence(context).find("1")).isEmpty();
            assertThat(logged.list)
                    .filteredOn(event -> event.getLevel() == Level.WARN)
                    .extracting(ILoggingEvent::getFormattedMessage)
                    .singleElement(InstanceOfAssertFactories.STRING)
                    .contains("The directory " + directory.resolve("batches") + " holds files of a store on disk")
                    .contains("Set batch_persistence.jdbc.fallback to segment");
        });
        logger.detachAppender(logged);
        runner().withPropertyValues("batch-persistence.jdbc.fallback=segment").run(context -> {
            BatchPersistence persistence = persistence(context);
            await().until(() -> persistence.stats().fallback().batches() == 0);
            assertThat(persistence.find("1"))
                    .hasValueSatisfying(batch -> assertThat(batch.entries()).isEqualTo(ENTRIES));
        });
        assertThat(batches(database, "batch_persistence_")).isOne();
    }

    // ------------------------------------------------------------------ fallback

    private ApplicationContextRunner withFallback(DataSource dataSource) {
        return bare().withBean("dataSource", DataSource.class, () -> dataSource)
                .withBean("loki", Collecting.class)
                .withPropertyValues(
                        "batch-persistence.jdbc.initialize-schema=always", "batch-persistence.jdbc.fallback=segment");
    }

    @Test
    void with_a_fallback_batches_are_kept_and_sent_while_the_database_is_down_and_moved_when_it_is_back() {
        Switched switched = new Switched(database);
        withFallback(switched).run(context -> {
            assertThat(context).hasNotFailed();
            BatchPersistence persistence = persistence(context);
            // This collector type has no sender.
            persistence.persistBatch("waits", ENTRIES, "kafka", Map.of("tenant", "a"));
            persistence.releaseBatch("waits");
            context.getBean(BatchDelivery.class).deliverAsync("sent", ENTRIES, "loki");
            await().until(() -> context.getBean(Collecting.class).sent.equals(List.of("sent")));
            await().until(() -> persistence.stats().total().delivered() == 1);
            assertThat(persistence.find("waits")).isPresent();
            assertThatThrownBy(() -> persistence.find("elsewhere"))
                    .isInstanceOf(BatchPersistenceException.class)
                    .hasMessageContaining("the database can't be used");

            Health away = health(context);
            assertThat(away.getStatus()).isEqualTo(BatchPersistenceHealthIndicator.DEGRADED);
            assertThat(away.getDetails()).doesNotContainKey("problem").containsEntry("pending", 1L);
            String kept = directory.resolve("batches").toString();
            assertThat(away.getDetails().get("fallback"))
                    .isEqualTo(Map.of("directory", kept, "waiting", 1L, "inUse", true));
            assertThat(away.getDetails().get("warnings").toString())
                    .contains("The database can't be used", "connection refused", kept, "1 wait");
            BatchOperator.Summary summary =
                    context.getBean(BatchPersistenceEndpoint.class).summary();
            assertThat(summary.problem()).isNull();
            assertThat(summary.fallback().place()).isEqualTo(kept);
            assertThat(summary.fallback().reason()).contains("connection refused");
            assertThat(summary.fallback().batches()).isOne();

            switched.down = false;
            await().until(() -> persistence.stats().fallback().batches() == 0);
            assertThat(persistence.find("waits")).hasValueSatisfying(batch -> {
                assertThat(batch.entries()).isEqualTo(ENTRIES);
                assertThat(batch.context()).containsEntry("tenant", "a");
                assertThat(batch.state()).isEqualTo(BatchState.PENDING);
            });
            assertThat(persistence.stats().total().accepted()).isEqualTo(2);
            assertThat(persistence.stats().total().isBalanced()).isTrue();
            assertThat(health(context).getDetails().get("fallback"))
                    .isEqualTo(Map.of("directory", kept, "waiting", 0L, "inUse", false));
            assertThat(health(context).getDetails().getOrDefault("warnings", "").toString())
                    .doesNotContain("database");
            assertThat(new JdbcTemplate(database)
                            .queryForList("SELECT batch_id FROM batch_persistence_batch", String.class))
                    .containsExactly("waits");

            switched.down = true;
            context.getBean(BatchDelivery.class).deliverAsync("again", ENTRIES, "loki");
            await().until(() -> context.getBean(Collecting.class).sent.equals(List.of("sent", "again")));
        });
    }

    @Test
    void what_an_instance_kept_without_the_database_the_next_one_moves() {
        Switched switched = new Switched(database);
        withFallback(switched).run(context -> persistence(context).persistBatch("1", ENTRIES, "loki"));
        switched.down = false;
        withFallback(switched).run(context -> {
            await().until(() -> context.getBean(Collecting.class).sent.equals(List.of("1")));
            await().until(() -> persistence(context).stats().total().delivered() == 1);
            assertThat(persistence(context).stats().total().accepted()).isEqualTo(1);
        });
    }

    @Test
    void a_directory_that_cannot_be_used_is_explained() throws IOException {
        Path file = Files.createFile(directory.resolve("batches"));
        FailureAnalysis analysis = FailedStart.of(withFallback(database));
        assertThat(analysis.getAction()).contains(file + " is a file", "batch_persistence.directory");
    }

    @Test
    void a_transaction_is_joined_with_a_fallback_too() {
        joining().withPropertyValues("batch-persistence.jdbc.fallback=segment").run(context -> {
            TransactionTemplate transaction = context.getBean(TransactionTemplate.class);
            transaction.executeWithoutResult(status -> {
                context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
                assertThat(context.getBean(Collecting.class).sent).isEmpty();
            });
            await().until(() -> context.getBean(Collecting.class).sent.equals(List.of("1")));
            transaction.executeWithoutResult(status -> {
                context.getBean(BatchDelivery.class).deliverAsync("2", ENTRIES, "loki");
                status.setRollbackOnly();
            });
            assertThat(persistence(context).find("2")).isEmpty();
        });
    }

    // ---------------------------------------------------------- join_transaction

    @Configuration(proxyBeanMethods = false)
    static class Business {
        @Bean
        PlatformTransactionManager transactionManager(DataSource dataSource) {
            return new DataSourceTransactionManager(dataSource);
        }

        @Bean
        TransactionTemplate transaction(PlatformTransactionManager manager) {
            return new TransactionTemplate(manager);
        }

        @Bean
        Collecting loki() {
            return new Collecting();
        }
    }

    private ApplicationContextRunner joining() {
        return runner().withUserConfiguration(Business.class)
                .withPropertyValues("batch-persistence.jdbc.join-transaction=true");
    }

    @Test
    void a_batch_is_held_exactly_if_its_transaction_commits() {
        joining().run(context -> {
            TransactionTemplate transaction = context.getBean(TransactionTemplate.class);
            BatchPersistence persistence = persistence(context);
            transaction.executeWithoutResult(status -> {
                persistence.persistBatch("1", ENTRIES, "loki");
                assertThat(persistence.find("1")).as("seen by others").isEmpty();
                status.setRollbackOnly();
            });
            assertThat(persistence.find("1")).isEmpty();
            transaction.executeWithoutResult(status -> persistence.persistBatch("1", ENTRIES, "loki"));
            assertThat(persistence.find("1"))
                    .hasValueSatisfying(batch -> assertThat(batch.state()).isEqualTo(BatchState.IN_FLIGHT));
            assertThat(persistence.markBatchSuccess("1")).isTrue();
            assertThat(persistence.stats().total().isBalanced()).isTrue();

            // In no transaction.
            persistence.persistBatch("2", ENTRIES, "loki");
            assertThat(persistence.find("2")).isPresent();
        });
    }

    @Test
    void without_it_a_batch_is_held_whatever_becomes_of_the_transaction() {
        runner().withUserConfiguration(Business.class).run(context -> {
            context.getBean(TransactionTemplate.class).executeWithoutResult(status -> {
                persistence(context).persistBatch("1", ENTRIES, "loki");
                assertDelivering(context, delivery -> delivery.deliver("2", ENTRIES, "loki"), Outcome.DELIVERED);
                status.setRollbackOnly();
            });
            assertThat(persistence(context).find("1")).isPresent();
        });
    }

    @Test
    void what_is_delivered_within_a_transaction_is_sent_after_its_commit() {
        joining().run(context -> {
            Collecting sender = context.getBean(Collecting.class);
            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            context.getBean(TransactionTemplate.class).executeWithoutResult(status -> {
                assertDelivering(context, each -> each.deliver("1", ENTRIES, "loki"), Outcome.PENDING);
                delivery.deliverAsync("2", ENTRIES, "loki");
                persistence(context).recover();
                assertThat(sender.sent).isEmpty();
            });
            await().untilAsserted(() -> assertThat(sender.sent).containsExactlyInAnyOrder("1", "2"));
            await().untilAsserted(() ->
                    assertThat(persistence(context).stats().total().delivered()).isEqualTo(2));
        });
    }

    /**
     * However busy the threads that would trigger recovery are: only one task waits for them, and no batch is in
     * flight.
     */
    @Test
    void what_is_delivered_in_many_transactions_is_handed_to_recovery_without_waiting() {
        joining().run(context -> {
            ThreadPoolTaskScheduler scheduler =
                    context.getBean(BatchPersistenceAutoConfiguration.SCHEDULER, ThreadPoolTaskScheduler.class);
            CountDownLatch free = new CountDownLatch(1);
            CountDownLatch busy = new CountDownLatch(2);
            try {
                for (int thread = 0; thread < 2; thread++) {
                    scheduler.execute(() -> {
                        busy.countDown();
                        try {
                            free.await();
                        } catch (InterruptedException e) {
                            Thread.currentThread().interrupt();
                        }
                    });
                }
                busy.await();
                int queued =
                        scheduler.getScheduledThreadPoolExecutor().getQueue().size();
                BatchDelivery delivery = context.getBean(BatchDelivery.class);
                for (int i = 0; i < 50; i++) {
                    String id = String.valueOf(i);
                    context.getBean(TransactionTemplate.class)
                            .executeWithoutResult(status -> delivery.deliverAsync(id, ENTRIES, "loki"));
                }
                assertThat(scheduler.getScheduledThreadPoolExecutor().getQueue())
                        .hasSize(queued + 1);
                assertThat(persistence(context).stats().total().inFlight()).isZero();
                assertThat(persistence(context).stats().total().pending()).isEqualTo(50);
            } finally {
                free.countDown();
            }
            await().untilAsserted(() ->
                    assertThat(persistence(context).stats().total().delivered()).isEqualTo(50));
            assertThat(persistence(context).stats().total().failedAttempts()).isZero();
        });
    }

    /** It would be sent before the commit. */
    @Test
    void the_engines_deliver_refuses_within_a_transaction_and_the_transaction_goes_on() {
        joining().run(context -> {
            Collecting sender = context.getBean(Collecting.class);
            BatchPersistence persistence = persistence(context);
            TransactionTemplate transaction = context.getBean(TransactionTemplate.class);
            transaction.executeWithoutResult(status -> {
                assertThatThrownBy(() -> persistence.deliver("1", ENTRIES, "loki", Map.of(), sender))
                        .isInstanceOf(IllegalStateException.class)
                        .hasMessageContaining("BatchDelivery");
                persistence.persistBatch("2", ENTRIES, "loki");
            });
            assertThat(sender.sent).isEmpty();
            assertThat(persistence.find("1")).isEmpty();
            assertThat(persistence.find("2")).isPresent();
            // Otherwise the next application would send it.
            assertThat(persistence.markBatchSuccess("2")).isTrue();
            persistence.deliver("1", ENTRIES, "loki", Map.of(), sender);
            assertThat(sender.sent).containsExactly("1");
        });
        runner().withUserConfiguration(Business.class)
                .run(
                        // Not joined: deliver sends as usual.
                        context -> {
                            Collecting sender = context.getBean(Collecting.class);
                            context.getBean(TransactionTemplate.class)
                                    .executeWithoutResult(status ->
                                            persistence(context).deliver("3", ENTRIES, "loki", Map.of(), sender));
                            assertThat(sender.sent).containsExactly("3");
                        });
    }

    @Test
    void a_transaction_that_only_reads_is_not_joined() {
        joining().run(context -> {
            TransactionTemplate reading = new TransactionTemplate(context.getBean(PlatformTransactionManager.class));
            reading.setReadOnly(true);
            reading.executeWithoutResult(status -> {
                persistence(context).persistBatch("1", ENTRIES, "loki");
                assertThat(persistence(context).find("1")).isPresent();
                assertDelivering(context, delivery -> delivery.deliver("2", ENTRIES, "loki"), Outcome.DELIVERED);
                status.setRollbackOnly();
            });
            assertThat(persistence(context).find("1")).isPresent();
        });
    }

    @Test
    void a_new_transaction_within_one_that_is_rolled_back_has_its_own_batches() {
        joining().run(context -> {
            TransactionTemplate outer = context.getBean(TransactionTemplate.class);
            TransactionTemplate inner = new TransactionTemplate(context.getBean(PlatformTransactionManager.class));
            inner.setPropagationBehavior(TransactionDefinition.PROPAGATION_REQUIRES_NEW);
            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            outer.executeWithoutResult(status -> {
                delivery.deliverAsync("outer", ENTRIES, "loki");
                inner.executeWithoutResult(other -> delivery.deliverAsync("inner", ENTRIES, "loki"));
                status.setRollbackOnly();
            });
            await().untilAsserted(() ->
                    assertThat(persistence(context).stats().total().delivered()).isEqualTo(1));
            assertThat(context.getBean(Collecting.class).sent).containsExactly("inner");
            assertThat(persistence(context).find("outer")).isEmpty();
        });
    }

    @Test
    void what_is_rolled_back_to_a_savepoint_has_never_been() {
        joining().run(context -> {
            TransactionTemplate outer = context.getBean(TransactionTemplate.class);
            TransactionTemplate nested = new TransactionTemplate(context.getBean(PlatformTransactionManager.class));
            nested.setPropagationBehavior(TransactionDefinition.PROPAGATION_NESTED);
            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            outer.executeWithoutResult(status -> {
                delivery.deliverAsync("outer", ENTRIES, "loki");
                nested.executeWithoutResult(part -> {
                    delivery.deliverAsync("nested", ENTRIES, "loki");
                    part.setRollbackOnly();
                });
            });
            await().untilAsserted(() ->
                    assertThat(persistence(context).stats().total().delivered()).isEqualTo(1));
            assertThat(context.getBean(Collecting.class).sent).containsExactly("outer");
            assertThat(persistence(context).stats().total().accepted()).isEqualTo(1);
            assertThat(persistence(context).stats().total().isBalanced()).isTrue();
        });
    }

    @Test
    void what_is_persisted_after_the_completion_of_a_transaction_is_durable_by_itself() {
        joining().run(context -> {
            // Checked below: Spring only logs what is thrown in the callback.
            List<Boolean> held = new CopyOnWriteArrayList<>();
            context.getBean(TransactionTemplate.class)
                    .executeWithoutResult(status ->
                            TransactionSynchronizationManager.registerSynchronization(new TransactionSynchronization() {
                                @Override
                                // Like @TransactionalEventListener.
                                public void afterCompletion(int outcome) {
                                    persistence(context).persistBatch("1", ENTRIES, "loki");
                                    held.add(persistence(context).find("1").isPresent());
                                }
                            }));
            assertThat(held).containsExactly(true);
        });
    }

    @Test
    void a_transaction_on_another_data_source_is_not_joined() {
        JdbcDataSource other = newDatabase();
        joining().run(context -> {
            new TransactionTemplate(new DataSourceTransactionManager(other)).executeWithoutResult(status -> {
                persistence(context).persistBatch("1", ENTRIES, "loki");
                status.setRollbackOnly();
            });
            assertThat(persistence(context).find("1")).isPresent();
        });
    }

    @Test
    void what_is_delivered_within_a_transaction_that_is_rolled_back_is_never_sent() {
        joining().run(context -> {
            Collecting sender = context.getBean(Collecting.class);
            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            context.getBean(TransactionTemplate.class).executeWithoutResult(status -> {
                delivery.deliver("1", ENTRIES, "loki");
                delivery.deliverAsync("2", ENTRIES, "loki");
                status.setRollbackOnly();
            });
            delivery.deliverAsync("3", ENTRIES, "loki");
            await().untilAsserted(() -> assertThat(sender.sent).isNotEmpty());
            assertThat(sender.sent).containsExactly("3");
            assertThat(persistence(context).stats().batches()).isLessThanOrEqualTo(1);
        });
    }

    // ---------------------------------------------------------- replicas

    private enum Routing {
        BY_TRANSACTION {
            @Override
            DataSource of(DataSource primary, DataSource replica) {
                AbstractRoutingDataSource routing = new AbstractRoutingDataSource() {
                    @Override
                    protected Object determineCurrentLookupKey() {
                        return TransactionSynchronizationManager.isCurrentTransactionReadOnly();
                    }
                };
                routing.setTargetDataSources(Map.of(false, primary, true, replica));
                routing.afterPropertiesSet();
                return routing;
            }
        },
        LAZILY_BY_TRANSACTION {
            @Override
            DataSource of(DataSource primary, DataSource replica) {
                return new LazyConnectionDataSourceProxy(BY_TRANSACTION.of(primary, replica));
            }
        },
        BY_CONNECTION {
            @Override
            DataSource of(DataSource primary, DataSource replica) {
                LazyConnectionDataSourceProxy routing = new LazyConnectionDataSourceProxy(primary);
                routing.setReadOnlyDataSource(replica);
                return routing;
            }
        };

        abstract DataSource of(DataSource primary, DataSource replica);
    }

    /** The replica here has none of the tables. */
    @ParameterizedTest
    @EnumSource
    void what_the_store_does_within_a_transaction_that_only_reads_is_done_on_the_primary(Routing routing) {
        bare().withBean("dataSource", DataSource.class, () -> routing.of(database, newDatabase()))
                .withUserConfiguration(Business.class)
                .withPropertyValues("batch-persistence.jdbc.join-transaction=true")
                .run(context -> {
                    BatchPersistence persistence = persistence(context);
                    TransactionTemplate reading =
                            new TransactionTemplate(context.getBean(PlatformTransactionManager.class));
                    reading.setReadOnly(true);
                    reading.executeWithoutResult(status -> {
                        persistence.persistBatch("1", ENTRIES, "loki");
                        assertThat(persistence.find("1")).isPresent();
                        assertThat(persistence.list(BatchSelector.all())).hasSize(1);
                        assertThat(persistence.markBatchFailed("1", "503")).isTrue();
                        assertThat(persistence.stats().total().pending()).isOne();
                        assertThat(persistence.stats().problem()).isNull();
                        assertThat(TransactionSynchronizationManager.isCurrentTransactionReadOnly())
                                .as("it goes on as before")
                                .isTrue();
                        assertThat(TransactionSynchronizationManager.isActualTransactionActive())
                                .isTrue();
                    });
                    assertThat(persistence.find("1")).isPresent();
                });
    }

    @Test
    void a_data_source_that_joins_transactions_by_itself_is_looked_through() {
        bare().withBean("dataSource", DataSource.class, () -> new TransactionAwareDataSourceProxy(database))
                .withUserConfiguration(Business.class)
                .run(context -> {
                    context.getBean(TransactionTemplate.class).executeWithoutResult(status -> {
                        persistence(context).persistBatch("1", ENTRIES, "loki");
                        assertThat(persistence(context).find("1")).isPresent();
                        status.setRollbackOnly();
                    });
                    assertThat(persistence(context).find("1")).isPresent();
                });
    }
}
