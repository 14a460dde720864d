package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.CompressionUnavailableException;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.LogEntry;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.CollectorType;
import io.batchpersistence.spring.HttpFailureClassifier;
import io.batchpersistence.spring.actuate.BatchObservations;
import io.batchpersistence.spring.actuate.BatchPersistenceEndpoint;
import io.batchpersistence.spring.actuate.BatchPersistenceHealthIndicator;
import io.batchpersistence.spring.actuate.BatchPersistenceMetrics;
import io.batchpersistence.spring.actuate.BatchTraceContext;
import io.batchpersistence.spring.operator.BatchOperator;
import io.batchpersistence.test.InMemoryBatchStore;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.micrometer.observation.ObservationRegistry;
import io.micrometer.tracing.Tracer;
import io.micrometer.tracing.propagation.Propagator;
import jakarta.validation.Validator;
import java.io.File;
import java.io.IOException;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.beans.factory.SmartInitializingSingleton;
import org.springframework.beans.factory.support.RootBeanDefinition;
import org.springframework.boot.Banner;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.actuate.endpoint.Show;
import org.springframework.boot.actuate.endpoint.annotation.Endpoint;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.autoconfigure.task.TaskExecutionAutoConfiguration;
import org.springframework.boot.autoconfigure.task.TaskSchedulingAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.diagnostics.FailureAnalysis;
import org.springframework.boot.health.contributor.HealthIndicator;
import org.springframework.boot.jdbc.EmbeddedDatabaseConnection;
import org.springframework.boot.sql.init.dependency.DependsOnDatabaseInitialization;
import org.springframework.boot.test.context.FilteredClassLoader;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.SmartLifecycle;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;
import org.springframework.context.support.GenericApplicationContext;
import org.springframework.core.env.StandardEnvironment;
import org.springframework.core.task.TaskExecutor;
import org.springframework.jdbc.datasource.ConnectionHolder;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.annotation.Async;
import org.springframework.scheduling.annotation.EnableAsync;
import org.springframework.scheduling.annotation.EnableScheduling;
import org.springframework.scheduling.annotation.Scheduled;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.scheduling.config.FixedDelayTask;
import org.springframework.scheduling.config.ScheduledTask;
import org.springframework.stereotype.Component;
import org.springframework.transaction.support.TransactionSynchronization;

class BatchPersistenceAutoConfigurationTest {

    static final List<LogEntry> ENTRIES = List.of(LogEntry.of(Instant.EPOCH, "INFO", "hello"));

    /** All beans of the starter. */
    static final List<String> BEANS = List.of(
            "batchSenders",
            "batchStore",
            "batchPersistence",
            "batchFailureClassifier",
            "batchRecoveryTargets",
            "batchAnnouncements",
            "batchEventPublisher",
            "batchDelivery",
            "batchPersistenceScheduler",
            "batchPersistenceTasks",
            "batchOperator",
            "batchPersistenceLifecycle",
            "batchPersistenceHealthIndicator",
            "batchPersistenceEndpoint",
            "batchPersistenceMetrics",
            "batchPersistenceMetricsRefresh",
            "batchObservations",
            "batchSendObserver",
            "batchTraceContext",
            "batchContextAtPersist");

    @TempDir
    Path directory;

    private ApplicationContextRunner runner() {
        return new ApplicationContextRunner()
                .withConfiguration(AutoConfigurations.of(
                        TaskExecutionAutoConfiguration.class,
                        TaskSchedulingAutoConfiguration.class,
                        BatchPersistenceAutoConfiguration.class,
                        BatchPersistenceEndpointAutoConfiguration.class,
                        BatchPersistenceHealthAutoConfiguration.class,
                        BatchPersistenceJdbcAutoConfiguration.class,
                        BatchPersistenceMetricsAutoConfiguration.class,
                        BatchPersistenceObservationAutoConfiguration.class))
                .withPropertyValues(
                        "batch-persistence.directory=" + directory.resolve("batches"),
                        "management.endpoints.web.exposure.include=*",
                        "spring.main.web-application-type=none");
    }

    @Test
    void one_dependency_is_enough() {
        runner().run(context -> {
            assertThat(context).hasSingleBean(BatchPersistence.class).hasSingleBean(BatchDelivery.class);
            assertThat(directory.resolve("batches")).isDirectory();
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            persistence.persistBatch("1", ENTRIES, "loki");
            assertThat(persistence.find("1")).isPresent();
            assertThat(persistence.markBatchSuccess("1")).isTrue();
        });
    }

    @Test
    void the_imports_file_names_every_auto_configuration() throws IOException {
        try (var imports = getClass()
                .getResourceAsStream(
                        "/META-INF/spring/org.springframework.boot.autoconfigure.AutoConfiguration.imports")) {
            assertThat(imports).isNotNull();
            assertThat(new String(imports.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8).lines())
                    .containsExactlyInAnyOrder(
                            BatchPersistenceAutoConfiguration.class.getName(),
                            BatchPersistenceEndpointAutoConfiguration.class.getName(),
                            BatchPersistenceHealthAutoConfiguration.class.getName(),
                            BatchPersistenceJdbcAutoConfiguration.class.getName(),
                            BatchPersistenceMetricsAutoConfiguration.class.getName(),
                            BatchPersistenceObservationAutoConfiguration.class.getName(),
                            BatchPersistencePageAutoConfiguration.class.getName());
        }
    }

    // ------------------------------------------------------------- disabled

    @ParameterizedTest
    @ValueSource(strings = {"false", "off"})
    void disabled_does_nothing_and_touches_nothing(String no) {
        runner().withUserConfiguration(WithRegistry.class)
                .withPropertyValues("batch-persistence.enabled=" + no, "batch-persistence.batch-timeout=-1s")
                .run(context -> {
                    assertThat(context)
                            .hasNotFailed()
                            .hasSingleBean(BatchPersistence.class)
                            .doesNotHaveBean(BatchStore.class)
                            .doesNotHaveBean(BatchPersistenceAutoConfiguration.SCHEDULER)
                            .doesNotHaveBean(BatchPersistenceTasks.class)
                            .doesNotHaveBean(BatchPersistenceHealthIndicator.class)
                            .doesNotHaveBean(BatchPersistenceEndpoint.class)
                            .doesNotHaveBean(BatchPersistenceMetrics.class);
                    context.getBean(BatchPersistence.class).persistBatch("1", ENTRIES, "loki");
                    assertThat(context.getBean(BatchPersistence.class).find("1"))
                            .isEmpty();
                });
        assertThat(directory.resolve("batches")).doesNotExist();
    }

    // ------------------------------------------------------------- back off

    @ParameterizedTest
    @FieldSource("BEANS")
    void every_bean_backs_off(String name) {
        // By name where several beans of a type are normal, by type elsewhere.
        boolean byName = List.of(
                        "batchEventPublisher",
                        "batchPersistenceScheduler",
                        "batchPersistenceHealthIndicator",
                        "batchPersistenceMetricsRefresh")
                .contains(name);
        String ownName = byName ? name : "own";
        runner().withUserConfiguration(WithRegistry.class)
                .withInitializer(context -> ((GenericApplicationContext) context)
                        .registerBeanDefinition(ownName, Own.definition(name, context)))
                .run(context -> {
                    assertThat(context).hasNotFailed();
                    Object own = context.getBean(ownName);
                    assertThat(context.containsBean(name)).isEqualTo(byName);
                    if (!byName) {
                        assertThat(context.getBean(own.getClass())).isSameAs(own);
                    }
                    assertThat(context.getBeanFactory().getBeanDefinition(ownName))
                            .isInstanceOf(RootBeanDefinition.class);
                });
    }

    @Test
    void every_bean_is_in_the_back_off_test() {
        runner().withUserConfiguration(WithRegistry.class)
                .run(context -> assertThat(java.util.Arrays.stream(context.getBeanDefinitionNames())
                                .filter(name -> name.startsWith("batch") && !name.contains(".")))
                        .containsExactlyInAnyOrderElementsOf(BEANS));
    }

    @Test
    void with_a_batch_persistence_of_the_application_no_store_is_opened() {
        runner().withBean(BatchPersistence.class, BatchPersistenceEngine::disabled)
                .run(context -> {
                    assertThat(context).hasNotFailed().doesNotHaveBean(BatchStore.class);
                    assertThat(directory.resolve("batches")).doesNotExist();
                });
    }

    /** For each bean of the starter, a replacement defined by the application. */
    static class Own {

        static RootBeanDefinition definition(String name, ConfigurableApplicationContext beans) {
            Clock clock = Clock.systemUTC();
            Duration hour = Duration.ofHours(1);
            Supplier<BatchPersistence> persistence = () -> beans.getBean(BatchPersistence.class);
            return switch (name) {
                case "batchSenders" ->
                    new RootBeanDefinition(BeanBatchSenders.class, () -> new BeanBatchSenders(beans));
                case "batchStore" -> new RootBeanDefinition(InMemoryBatchStore.class, () -> new InMemoryBatchStore());
                case "batchPersistence" ->
                    new RootBeanDefinition(
                            BatchPersistenceEngine.class,
                            () -> BatchPersistenceEngine.builder(new InMemoryBatchStore())
                                    .build());
                case "batchFailureClassifier" ->
                    new RootBeanDefinition(HttpFailureClassifier.class, () -> new HttpFailureClassifier(clock));
                case "batchRecoveryTargets" ->
                    new RootBeanDefinition(RecoveryTargets.class, () -> new RecoveryTargets(beans, type -> null));
                case "batchAnnouncements" ->
                    new RootBeanDefinition(
                            ListenerBridge.class,
                            () -> new ListenerBridge(beans.getBeanProvider(BatchListener.class), null));
                case "batchEventPublisher" ->
                    new RootBeanDefinition(BatchEventPublisher.class, () -> new BatchEventPublisher(event -> {}));
                case "batchDelivery" ->
                    new RootBeanDefinition(
                            DefaultBatchDelivery.Direct.class,
                            () -> new DefaultBatchDelivery.Direct(BatchPersistenceEngine.disabled(), type -> null));
                case "batchPersistenceScheduler" ->
                    new RootBeanDefinition(ThreadPoolTaskScheduler.class, () -> new ThreadPoolTaskScheduler());
                case "batchPersistenceTasks" ->
                    new RootBeanDefinition(
                            BatchPersistenceTasks.class,
                            () -> new BatchPersistenceTasks(
                                    persistence.get(),
                                    beans.getBeanProvider(BatchPersistenceTasks.AfterRecovery.class),
                                    (TaskScheduler) beans.getBean("batchPersistenceScheduler"),
                                    hour,
                                    hour));
                case "batchPersistenceLifecycle" ->
                    new RootBeanDefinition(
                            BatchPersistenceLifecycle.class,
                            () -> new BatchPersistenceLifecycle(
                                    persistence.get(),
                                    beans.getBean(BatchPersistenceTasks.class),
                                    beans.getBean(ListenerBridge.class)));
                case "batchOperator" ->
                    new RootBeanDefinition(BatchOperator.class, () -> new BatchOperator(persistence.get(), clock));
                case "batchPersistenceHealthIndicator" ->
                    new RootBeanDefinition(
                            BatchPersistenceHealthIndicator.class,
                            () -> new BatchPersistenceHealthIndicator(persistence.get(), hour, 0.9, hour, clock));
                case "batchPersistenceEndpoint" ->
                    new RootBeanDefinition(
                            BatchPersistenceEndpoint.class,
                            () -> new BatchPersistenceEndpoint(
                                    beans.getBean(BatchOperator.class), Show.NEVER, List.of()));
                case "batchPersistenceMetrics" ->
                    new RootBeanDefinition(
                            BatchPersistenceMetrics.class, () -> new BatchPersistenceMetrics(persistence.get(), clock));
                case "batchPersistenceMetricsRefresh" ->
                    new RootBeanDefinition(BatchPersistenceTasks.AfterRecovery.class, () -> () -> {});
                case "batchObservations" ->
                    new RootBeanDefinition(
                            BatchObservations.class,
                            () -> BatchObservations.withoutMetrics(
                                    ObservationRegistry.NOOP, FailureClassifier.TRANSIENT, clock));
                case "batchSendObserver" -> new RootBeanDefinition(SendObserver.class, () -> SendObserver.NONE);
                case "batchTraceContext" ->
                    new RootBeanDefinition(
                            BatchTraceContext.class, () -> new BatchTraceContext(Tracer.NOOP, Propagator.NOOP));
                case "batchContextAtPersist" ->
                    new RootBeanDefinition(ContextAtPersist.class, () -> ContextAtPersist.NOTHING);
                default -> throw new IllegalArgumentException(name);
            };
        }
    }

    // ------------------------------------------------- nothing optional is required

    @ParameterizedTest
    @ValueSource(
            classes = {
                HealthIndicator.class,
                Endpoint.class,
                MeterRegistry.class,
                ObservationRegistry.class,
                Tracer.class,
                Validator.class,
                ConnectionHolder.class,
                DependsOnDatabaseInitialization.class,
                TransactionSynchronization.class
            })
    void runs_without_an_optional_class(Class<?> missing) {
        runner().withClassLoader(new FilteredClassLoader(missing))
                .run(context -> assertThat(context).hasNotFailed().hasSingleBean(BatchPersistence.class));
    }

    @Test
    void runs_with_nothing_optional_at_all() throws Exception {
        // Not a FilteredClassLoader: that hides classes of jars whose auto-configurations are still there.
        List<URL> bare = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
            Path path = Path.of(entry);
            if (!path.getFileName()
                    .toString()
                    .matches(
                            "(micrometer|opentelemetry|prometheus|context-propagation|tomcat|hibernate-validator|jakarta.validation|h2-|HikariCP|"
                                    + "spring-(web|jdbc|tx)|spring-boot-(actuator|health|http|jdbc|micrometer|opentelemetry|persistence|"
                                    + "servlet|sql|starter|tomcat|transaction|validation|web)).*")) {
                bare.add(path.toUri().toURL());
            }
        }
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        try (URLClassLoader loader =
                new URLClassLoader(bare.toArray(URL[]::new), ClassLoader.getPlatformClassLoader())) {
            for (Class<?> optional : List.of(
                    HealthIndicator.class,
                    Endpoint.class,
                    MeterRegistry.class,
                    ObservationRegistry.class,
                    Tracer.class,
                    Validator.class,
                    ConnectionHolder.class,
                    EmbeddedDatabaseConnection.class,
                    DependsOnDatabaseInitialization.class,
                    TransactionSynchronization.class)) {
                assertThatThrownBy(() -> loader.loadClass(optional.getName()))
                        .isInstanceOf(ClassNotFoundException.class);
            }
            Thread.currentThread().setContextClassLoader(loader);
            Object found = loader.loadClass(BareApplication.class.getName())
                    .getMethod("keepABatch", String.class)
                    .invoke(null, directory.toString());
            assertThat(found).isEqualTo("hello");
        } finally {
            Thread.currentThread().setContextClassLoader(before);
        }
    }

    /** Runs in its own class loader. */
    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    public static class BareApplication {
        public static String keepABatch(String directory) {
            try (var context = new SpringApplicationBuilder(BareApplication.class)
                    .web(WebApplicationType.NONE)
                    .bannerMode(Banner.Mode.OFF)
                    .properties("batch-persistence.directory=" + directory, "spring.main.register-shutdown-hook=false")
                    .run()) {
                BatchPersistence persistence = context.getBean(BatchPersistence.class);
                persistence.persistBatch("1", ENTRIES, "loki");
                return persistence.find("1").orElseThrow().entries().get(0).message();
            }
        }
    }

    @Test
    void integrations_appear_where_their_parts_are() {
        runner().withUserConfiguration(WithRegistry.class)
                .run(context -> assertThat(context)
                        .hasSingleBean(BatchPersistenceHealthIndicator.class)
                        .hasSingleBean(BatchPersistenceEndpoint.class)
                        .hasSingleBean(BatchPersistenceMetrics.class));
        runner().withPropertyValues(
                        "management.health.batchpersistence.enabled=false",
                        "management.endpoint.batchpersistence.access=NONE")
                .run(context -> assertThat(context)
                        .doesNotHaveBean(BatchPersistenceHealthIndicator.class)
                        .doesNotHaveBean(BatchPersistenceEndpoint.class)
                        .doesNotHaveBean(BatchPersistenceMetrics.class));
    }

    @Configuration(proxyBeanMethods = false)
    static class WithRegistry {
        @Bean
        MeterRegistry registry() {
            return new SimpleMeterRegistry();
        }

        @Bean
        Tracer tracer() {
            return Tracer.NOOP;
        }

        @Bean
        Propagator propagator() {
            return Propagator.NOOP;
        }
    }

    // ----------------------------------------------------------- scheduling

    @ParameterizedTest
    @CsvSource({
        "batch-persistence.recovery.interval=7s;batch-persistence.cleanup.interval=9m",
        "batch_persistence.recovery.interval=7000;batch_persistence.cleanup.interval=PT9M"
    })
    void tasks_have_their_intervals_and_names(String settings) {
        runner().withPropertyValues(settings.split(";", -1)).run(context -> {
            assertThat(context.getBean(BatchPersistenceTasks.class).getScheduledTasks().stream()
                            .map(ScheduledTask::getTask))
                    .extracting(Object::toString, task -> ((FixedDelayTask) task).getIntervalDuration())
                    .containsExactlyInAnyOrder(
                            org.assertj.core.groups.Tuple.tuple("io.batchpersistence.recovery", Duration.ofSeconds(7)),
                            org.assertj.core.groups.Tuple.tuple("io.batchpersistence.cleanup", Duration.ofMinutes(9)));
        });
    }

    @Test
    void a_users_scheduled_tasks_keep_their_scheduler_even_while_recovery_is_blocked() {
        CompletableFuture<Void> release = new CompletableFuture<>();
        AtomicReference<String> recoveryThread = new AtomicReference<>();
        runner().withUserConfiguration(UserTasks.class)
                .withPropertyValues("spring.task.scheduling.thread-name-prefix=mine-")
                .withBean(BatchPersistenceTasks.AfterRecovery.class, () -> () -> {
                    recoveryThread.set(Thread.currentThread().getName());
                    release.join();
                })
                .run(context -> {
                    try {
                        await().until(() -> recoveryThread.get() != null);
                        UserTasks tasks = context.getBean(UserTasks.class);
                        int before = tasks.runs.get();
                        await().until(() -> tasks.runs.get() > before + 2);
                        assertThat(tasks.thread.get()).startsWith("mine-");
                        assertThat(recoveryThread.get()).startsWith("batch-persistence-");
                        assertThat(context.getBean(TaskScheduler.class)).isSameAs(context.getBean("taskScheduler"));
                        assertThat(context).hasBean("applicationTaskExecutor");
                    } finally {
                        release.complete(null);
                    }
                });
    }

    @Test
    void a_users_own_scheduler_and_executor_stay_the_only_ones() {
        ThreadPoolTaskScheduler own = new ThreadPoolTaskScheduler();
        own.setThreadNamePrefix("own-");
        runner().withUserConfiguration(UserTasks.class)
                .withBean("ownScheduler", ThreadPoolTaskScheduler.class, () -> own)
                .run(context -> {
                    assertThat(context.getBean(TaskScheduler.class)).isSameAs(own);
                    UserTasks tasks = context.getBean(UserTasks.class);
                    await().until(() -> tasks.runs.get() > 0);
                    assertThat(tasks.thread.get()).startsWith("own-");
                });
    }

    @Test
    void who_asks_for_the_executor_gets_the_users() {
        runner().run(context -> {
            Object users = context.getBean("applicationTaskExecutor");
            assertThat(context.getBean(Executor.class)).isSameAs(users);
            assertThat(context.getBean(TaskExecutor.class)).isSameAs(users);
        });
    }

    @Test
    void scheduled_methods_of_an_application_without_scheduling_stay_asleep() {
        runner().withBean(UserTask.class).run(context -> {
            assertThat(context).doesNotHaveBean("taskScheduler");
            assertThat(context.getBeanNamesForType(org.springframework.scheduling.config.ScheduledTaskHolder.class))
                    .containsExactly("batchPersistenceTasks");
        });
    }

    static class UserTask {
        final AtomicInteger runs = new AtomicInteger();
        final AtomicReference<String> thread = new AtomicReference<>();

        @Scheduled(fixedDelay = 5)
        void run() {
            thread.set(Thread.currentThread().getName());
            runs.incrementAndGet();
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableScheduling
    static class UserTasks extends UserTask {}

    @Test
    void a_round_that_throws_does_not_end_its_schedule() {
        AtomicInteger rounds = new AtomicInteger();
        runner().withPropertyValues("batch-persistence.recovery.interval=1ms")
                .withBean(BatchPersistenceTasks.AfterRecovery.class, () -> () -> {
                    rounds.incrementAndGet();
                    throw new IllegalStateException("on purpose");
                })
                .run(context -> await().until(() -> rounds.get() > 3));
    }

    // -------------------------------------------------------------- senders

    @Test
    void senders_are_found_by_annotation_and_by_bean_name() {
        runner().withUserConfiguration(Senders.class).run(context -> {
            BatchSenders senders = context.getBean(BatchSenders.class);
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            for (String type : List.of("loki", "on-method", "eu", "us", "on-class")) {
                assertThat(senders.find(type)).as(type).isNotNull();
                persistence.persistBatch("b-" + type, ENTRIES, type);
                persistence.releaseBatch("b-" + type);
            }
            assertThat(senders.find("annotatedMethod")).isNull();
            assertThat(senders.find("Loki")).isNull();
            Map<String, String> sent = context.getBean(Senders.class).sent;
            await().untilAsserted(() -> assertThat(sent)
                    .containsEntry("b-loki", "loki")
                    .containsEntry("b-on-method", "annotatedMethod")
                    .containsEntry("b-eu", "both")
                    .containsEntry("b-us", "both")
                    .containsEntry("b-on-class", "class"));
            await().untilAsserted(() ->
                    assertThat(persistence.stats().total().delivered()).isEqualTo(5));
        });
    }

    @Configuration(proxyBeanMethods = false)
    static class Senders {
        final Map<String, String> sent = new java.util.concurrent.ConcurrentHashMap<>();

        @Bean
        BatchSender loki() {
            return batch -> sent.put(batch.id(), "loki");
        }

        @Bean
        @org.springframework.context.annotation.Lazy
        @CollectorType("on-method")
        BatchSender annotatedMethod() {
            return batch -> sent.put(batch.id(), "annotatedMethod");
        }

        @Bean
        @CollectorType({"eu", "us"})
        BatchSender both() {
            return batch -> sent.put(batch.id(), "both");
        }

        @Bean
        OnClass onClass(BatchPersistence persistence) {
            return new OnClass(this, persistence);
        }
    }

    /** Depends on a bean that depends on the senders. */
    @CollectorType("on-class")
    record OnClass(Senders senders, BatchPersistence persistence) implements BatchSender {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {
            senders.sent.put(batch.id(), "class");
        }
    }

    @Test
    void two_senders_of_one_collector_type_are_refused() {
        FailureAnalysis analysis =
                FailedStart.of(runner().withUserConfiguration(Senders.class).withBean("second", OtherLoki.class));
        assertThat(analysis.getDescription())
                .contains("'loki'", "'second'", "both send the batches of the collector type 'loki'");
        assertThat(analysis.getAction()).contains("@CollectorType");
    }

    @Test
    void a_sender_of_a_collector_type_that_no_batch_can_have_is_refused() {
        runner().withBean("nobodys", BlankType.class)
                .run(context -> assertThat(context.getStartupFailure())
                        .rootCause()
                        .hasMessageContaining("collector type must not be blank"));
    }

    @CollectorType(" ")
    static class BlankType implements BatchSender {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    @CollectorType("loki")
    static class OtherLoki implements BatchSender {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    /** It would return before it has sent anything, and returning means that the batch is delivered. */
    @ParameterizedTest
    @ValueSource(
            classes = {
                AsyncSend.class,
                AsyncClass.class,
                AsyncInterface.class,
                AsyncByProxy.class,
                AsyncByOwnAnnotation.class
            })
    void a_sender_that_is_asynchronous_is_refused(Class<?> configuration) {
        FailureAnalysis analysis = FailedStart.of(runner().withUserConfiguration(configuration));
        assertThat(analysis.getDescription()).contains("'loki'", "@Async");
        assertThat(analysis.getAction()).contains("Remove @Async", "RecoveredBatchEvent");
    }

    /** A listener settles the batch itself, on any thread. */
    @Test
    void a_listener_may_be_asynchronous_and_so_may_another_method_of_a_sender() {
        runner().withUserConfiguration(AsyncElsewhere.class)
                .run(context -> assertThat(context).hasNotFailed());
    }

    static class AsyncSend {
        @Bean
        BatchSender loki() {
            return new AsyncSender();
        }
    }

    static class AsyncSender implements BatchSender {
        @Async
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    @Component("loki")
    @Async
    static class AsyncClass implements BatchSender {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    @Async
    interface Asynchronous {}

    @Component("loki")
    static class AsyncInterface implements BatchSender, Asynchronous {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    @EnableAsync
    static class AsyncByProxy {
        @Bean
        AsyncSender loki() {
            return new AsyncSender();
        }
    }

    @Retention(RetentionPolicy.RUNTIME)
    @interface Later {}

    @EnableAsync(annotation = Later.class)
    static class AsyncByOwnAnnotation {
        @Bean
        BatchSender loki() {
            return new LaterSender();
        }
    }

    static class LaterSender implements BatchSender {
        @Later
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}
    }

    @EnableAsync
    static class AsyncElsewhere {
        @Bean
        BatchSender loki() {
            return new SenderWithAsyncMethod();
        }

        @Async
        @EventListener
        void listen(io.batchpersistence.spring.event.RecoveredBatchEvent event) {
            event.acknowledge();
        }
    }

    static class SenderWithAsyncMethod implements BatchSender {
        @Override
        public void send(io.batchpersistence.PersistedBatch batch) {}

        @Async
        public void refreshCredentials() {}
    }

    // ------------------------------------------------------ failures at start

    @Test
    void a_second_application_on_the_directory_is_told_who_holds_it() {
        runner().run(first -> {
            assertThat(first).hasNotFailed();
            FailureAnalysis analysis = FailedStart.of(runner());
            assertThat(analysis.getDescription())
                    .contains(directory.resolve("batches").toString(), "in use by", "in the same JVM")
                    .contains(String.valueOf(ProcessHandle.current().pid()));
            assertThat(analysis.getAction())
                    .contains("batch_persistence.directory", "other application context", "@DirtiesContext")
                    .as("it is this very process")
                    .doesNotContain("Stop ");
            first.getBean(BatchPersistence.class).persistBatch("1", ENTRIES, "loki");
        });
        runner().run(third -> assertThat(third).hasNotFailed());
    }

    @ParameterizedTest
    @ValueSource(strings = {"segment", "json_files"})
    void a_directory_that_is_a_file_is_explained(String store) throws IOException {
        Path file = Files.writeString(directory.resolve("file"), "precious");
        for (Path wrong : List.of(file, file.resolve("below"))) {
            FailureAnalysis analysis = FailedStart.of(runner().withPropertyValues(
                            "batch-persistence.directory=" + wrong, "batch-persistence.store=" + store));
            assertThat(analysis.getDescription()).contains(wrong.toString());
            assertThat(analysis.getAction()).contains(file + " is a file", "batch_persistence.directory");
        }
        assertThat(file).hasContent("precious");
    }

    @Test
    void a_directory_that_cannot_be_written_is_explained() {
        // Not even root can create files in /proc.
        org.junit.jupiter.api.Assumptions.assumeTrue(
                Files.isDirectory(Path.of("/proc/self")), "no /proc on this system");
        FailureAnalysis analysis =
                FailedStart.of(runner().withPropertyValues("batch-persistence.directory=/proc/batches"));
        assertThat(analysis.getDescription()).contains("/proc/batches");
        assertThat(analysis.getAction()).contains("/proc", "batch_persistence.directory");
    }

    @Test
    void an_unknown_word_is_answered_with_the_known_ones() {
        FailureAnalysis analysis =
                FailedStart.of(runner().withPropertyValues("batch_persistence.overflow_policy=explode"));
        assertThat(analysis.getDescription()).contains("overflow_policy", "explode");
        assertThat(analysis.getAction()).contains("BLOCK", "DROP_OLDEST", "REJECT");
    }

    @ParameterizedTest
    @ValueSource(strings = {"max_recovery_retrys", "collectors.loki.batch_timeot", "recovery.intervall"})
    void a_misspelt_key_is_not_ignored(String key) {
        FailureAnalysis analysis =
                FailedStart.of(runner().withPropertyValues("batch-persistence." + key.replace('_', '-') + "=3"));
        assertThat(analysis.getDescription() + analysis.getAction()).contains(key.replace('_', '-'));
    }

    @Test
    void contradictory_settings_are_explained_with_their_origin() {
        FailureAnalysis analysis = FailedStart.of(
                runner().withPropertyValues("batch_persistence.store=json_files", "batch_persistence.format=protobuf"));
        assertThat(analysis.getDescription())
                .contains("batch_persistence.format is protobuf", "json_files")
                .contains("It is set in \"batch_persistence.format\" from property source \"test\"");
        assertThat(analysis.getAction()).contains("Remove batch_persistence.format");
        assertThat(directory.resolve("batches")).doesNotExist();
    }

    @Test
    void a_native_library_that_can_not_be_loaded_is_explained() {
        CompressionUnavailableException unavailable = new CompressionUnavailableException(
                "zstd's native library can't be loaded: no",
                "Start the JVM with -DZstdTempFolder=DIR. Or write without compression.",
                new UnsatisfiedLinkError("no"));
        FailureAnalysis analysis = FailedStart.analysis(
                new StoreNotOpenedException(Path.of("anywhere"), unavailable), new StandardEnvironment());
        assertThat(analysis.getDescription()).isEqualTo("zstd's native library can't be loaded: no");
        assertThat(analysis.getAction())
                .startsWith("Start the JVM with -DZstdTempFolder=DIR. Or write without compression.")
                .contains("set batch_persistence.compression to none", "BATCH_PERSISTENCE_COMPRESSION");
    }

    // ------------------------------------------------------------ lifecycle

    @Test
    void stopping_closes_the_store_once_and_for_good() {
        runner().run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            BatchPersistenceLifecycle lifecycle = context.getBean(BatchPersistenceLifecycle.class);
            assertThat(lifecycle.isRunning()).isTrue();
            lifecycle.stop();
            lifecycle.stop();
            assertThat(lifecycle.isRunning()).isFalse();
            assertThatThrownBy(() -> persistence.persistBatch("1", ENTRIES, "loki"))
                    .isInstanceOf(IllegalStateException.class);
            lifecycle.start();
            assertThat(lifecycle.isRunning()).isFalse();
        });
    }

    @Test
    void a_start_up_that_fails_later_lets_go_of_the_directory() {
        runner().withBean("failing", Object.class, () -> {
                    throw new IllegalStateException("on purpose");
                })
                .run(context -> assertThat(context).hasFailed());
        runner().run(context -> assertThat(context).hasNotFailed());
    }

    /** Each of these persists a batch while the context starts, and then ends the start. */
    static class FailsInItsFactory {
        @Bean
        Object failing(BatchPersistence persistence) {
            persistence.persistBatch("1", ENTRIES, "loki");
            throw new IllegalStateException("on purpose");
        }
    }

    static class FailsWhenAllAreMade {
        @Bean
        SmartInitializingSingleton failing(BatchPersistence persistence) {
            return () -> {
                persistence.persistBatch("1", ENTRIES, "loki");
                throw new IllegalStateException("on purpose");
            };
        }
    }

    static class FailsInItsStart {
        @Bean
        SmartLifecycle failing(BatchPersistence persistence) {
            return new Starting(() -> {
                persistence.persistBatch("1", ENTRIES, "loki");
                throw new IllegalStateException("on purpose");
            });
        }
    }

    static class StopsInItsStart {
        @Bean
        SmartLifecycle stopping(BatchPersistence persistence, BatchPersistenceLifecycle lifecycle) {
            return new Starting(() -> {
                persistence.persistBatch("1", ENTRIES, "loki");
                lifecycle.stop();
            });
        }
    }

    static class ClosesInItsStart {
        @Bean
        SmartLifecycle closing(BatchPersistence persistence, ConfigurableApplicationContext context) {
            return new Starting(() -> {
                persistence.persistBatch("1", ENTRIES, "loki");
                context.close();
            });
        }
    }

    /** Starts after the starter's own lifecycle. */
    private record Starting(Runnable what) implements SmartLifecycle {
        @Override
        public void start() {
            what.run();
        }

        @Override
        public void stop() {}

        @Override
        public boolean isRunning() {
            return false;
        }
    }

    @ParameterizedTest
    @ValueSource(
            classes = {
                FailsInItsFactory.class,
                FailsWhenAllAreMade.class,
                FailsInItsStart.class,
                StopsInItsStart.class,
                ClosesInItsStart.class
            })
    void a_start_that_is_cut_off_loses_nothing(Class<?> configuration) {
        runner().withUserConfiguration(configuration).run(context -> {
            if (configuration.getSimpleName().startsWith("Fails")) {
                assertThat(context).getFailure().hasStackTraceContaining("on purpose");
            }
        });
        assertHeldAndTheDirectoryFree("1");
    }

    @Test
    void stopping_and_closing_twice_loses_nothing() {
        runner().run(context -> {
            context.getBean(BatchPersistence.class).persistBatch("1", ENTRIES, "loki");
            BatchPersistenceLifecycle lifecycle = context.getBean(BatchPersistenceLifecycle.class);
            lifecycle.stop();
            lifecycle.stop();
            ConfigurableApplicationContext closed = context.getSourceApplicationContext();
            closed.close();
            closed.close();
            lifecycle.stop();
            assertHeldAndTheDirectoryFree("1");
        });
        runner().run(context -> {
            ConfigurableApplicationContext closed = context.getSourceApplicationContext();
            closed.close();
            closed.close();
        });
        assertHeldAndTheDirectoryFree("1");
    }

    private void assertHeldAndTheDirectoryFree(String batchId) {
        runner().run(context -> {
            assertThat(context).hasNotFailed();
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            assertThat(persistence.find(batchId))
                    .hasValueSatisfying(batch -> assertThat(batch.entries()).isEqualTo(ENTRIES));
            assertThat(persistence.stats().total().isBalanced()).isTrue();
        });
    }

    @Test
    void a_paused_context_keeps_its_store_open() {
        runner().run(context -> {
            ((org.springframework.context.support.AbstractApplicationContext) context.getSourceApplicationContext())
                    .pause();
            context.getBean(BatchPersistence.class).persistBatch("1", ENTRIES, "loki");
        });
    }

    @Test
    void what_is_being_sent_is_waited_for_and_what_was_not_done_is_there_again() {
        CountDownLatch sending = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        AtomicInteger sent = new AtomicInteger();
        runner().withBean("loki", BatchSender.class, () -> batch -> {
                    sending.countDown();
                    release.await();
                    sent.incrementAndGet();
                })
                .run(context -> {
                    BatchDelivery delivery = context.getBean(BatchDelivery.class);
                    delivery.deliverAsync("1", ENTRIES, "loki");
                    delivery.deliverAsync("2", ENTRIES, "loki");
                    sending.await();
                    Thread closing = new Thread(context::close);
                    closing.start();
                    await().until(() ->
                            !context.getBean(BatchPersistenceLifecycle.class).isRunning());
                    release.countDown();
                    closing.join();
                });
        assertThat(sent).hasValue(1);
        runner().run(context -> assertThat(context.getBean(BatchPersistence.class)
                        .stats()
                        .collector("loki")
                        .pending())
                .isEqualTo(1));
    }
}
