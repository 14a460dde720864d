package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.engine.EngineBuilder;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.HttpFailureClassifier;
import io.batchpersistence.spring.operator.BatchOperator;
import io.batchpersistence.store.DiskBatchStores;
import java.time.Clock;
import java.util.function.Supplier;
import org.springframework.beans.factory.BeanFactory;
import org.springframework.beans.factory.ListableBeanFactory;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.boot.thread.Threading;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.env.Environment;
import org.springframework.core.io.ResourceLoader;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.util.function.SingletonSupplier;

/**
 * Configures {@link BatchPersistence} on disk, or in the store that {@link BatchPersistenceJdbcAutoConfiguration}
 * creates, with its own schedules for recovery and cleanup; or, with {@code batch_persistence.enabled: false}, one that
 * does nothing.
 */
@AutoConfiguration
public final class BatchPersistenceAutoConfiguration {

    /** The scheduler of recovery and cleanup. */
    static final String SCHEDULER = "batchPersistenceScheduler";

    /** For Spring. */
    BatchPersistenceAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean
    BatchSenders batchSenders(ListableBeanFactory beans) {
        return new BeanBatchSenders(beans);
    }

    @Configuration(proxyBeanMethods = false)
    @Conditional(OnBatchPersistenceEnabled.class)
    @EnableConfigurationProperties(BatchPersistenceProperties.class)
    static final class Enabled {

        // Only with our own BatchPersistence: one that the application provides has its own place for batches.
        @Bean
        @ConditionalOnMissingBean({BatchStore.class, BatchPersistence.class})
        BatchStore batchStore(BatchPersistenceProperties properties, ObjectProvider<Clock> clock) {
            DiskStoreOptions options = properties.storeOptions(clock.getIfUnique(Clock::systemUTC));
            try {
                return switch (properties.store()) {
                    case SEGMENT -> DiskBatchStores.segment(options);
                    case JSON_FILES -> DiskBatchStores.jsonFiles(options);
                    // Created by BatchPersistenceJdbcAutoConfiguration, if its classes are on the class path.
                    case JDBC ->
                        throw new InvalidSettingException(
                                "store",
                                "is jdbc, but spring-jdbc and spring-boot-sql are not on the class path",
                                "Add spring-boot-starter-jdbc (or another starter that brings it, such as"
                                        + " spring-boot-starter-data-jpa) and the driver of the database to the application's"
                                        + " dependencies, or set batch_persistence.store to segment.");
                };
            } catch (BatchPersistenceException e) {
                throw new StoreNotOpenedException(options.directory(), e);
            }
        }

        @Bean
        @ConditionalOnMissingBean
        // targets() takes a function that may return null; javac before 17.0.19 hides that from NullAway in a class
        // file.
        @SuppressWarnings("NullAway")
        BatchPersistence batchPersistence(
                BatchStore store,
                BatchPersistenceProperties properties,
                RecoveryTargets targets,
                ListenerBridge announcements,
                FailureClassifier classifier,
                ObjectProvider<ContextAtPersist> contextAtPersist,
                Environment environment,
                ResourceLoader application,
                ObjectProvider<Clock> clock) {
            Supplier<ContextAtPersist> contexts = once(contextAtPersist, ContextAtPersist.NOTHING);
            EngineBuilder builder = BatchPersistenceEngine.builder(store)
                    .settings(properties::collectorSettings)
                    .overflow(properties.overflowPolicy(), properties.overflowTimeout())
                    .maxDeadLetterBytes(
                            properties.maxDeadLetterUsage() == null
                                    ? Long.MAX_VALUE
                                    : properties.maxDeadLetterUsage().toBytes())
                    .targets(targets::find)
                    .contexts(given -> contexts.get().apply(given))
                    .excludeFailureReasons(properties.recovery().excludeFailureReasons())
                    .listener(announcements.asListener())
                    .failureClassifier(classifier)
                    .shutdownTimeout(properties.shutdownTimeout())
                    .threads(properties.recovery().maxThreads())
                    .clock(clock.getIfUnique(Clock::systemUTC));
            ClassLoader classes = application.getClassLoader();
            if (classes != null) {
                // With devtools, this is the class loader that is replaced at a restart.
                builder.classLoader(classes);
            }
            if (Threading.VIRTUAL.isActive(environment)) {
                builder.executor(ApplicationThreads.virtual("batch-persistence-", classes));
            }
            return builder.build();
        }

        @Bean
        @ConditionalOnMissingBean
        FailureClassifier batchFailureClassifier(ObjectProvider<Clock> clock) {
            return new HttpFailureClassifier(clock.getIfUnique(Clock::systemUTC));
        }

        @Bean
        @ConditionalOnMissingBean
        RecoveryTargets batchRecoveryTargets(
                ApplicationContext context, BatchSenders senders, ObjectProvider<SendObserver> observer) {
            return new RecoveryTargets(context, senders, once(observer, SendObserver.NONE));
        }

        @Bean
        @ConditionalOnMissingBean
        ListenerBridge batchAnnouncements(ObjectProvider<BatchListener> listeners, ResourceLoader application) {
            return new ListenerBridge(listeners, application.getClassLoader());
        }

        @Bean
        @ConditionalOnMissingBean(name = "batchEventPublisher")
        BatchListener batchEventPublisher(ApplicationContext context) {
            return new BatchEventPublisher(context);
        }

        @Bean
        @ConditionalOnMissingBean
        BatchDelivery batchDelivery(
                BatchPersistence persistence,
                BatchSenders senders,
                ObjectProvider<SendObserver> observer,
                ObjectProvider<BusinessTransactions> transactions) {
            return new DefaultBatchDelivery(
                    persistence,
                    senders,
                    once(observer, SendObserver.NONE),
                    transactions.getIfUnique(() -> BusinessTransactions.NONE));
        }

        /**
         * Looks the bean up when it is first used, because the observed beans are created before the bean that observes
         * them.
         */
        private static <T> Supplier<T> once(ObjectProvider<T> bean, T otherwise) {
            return SingletonSupplier.of(() -> bean.getIfUnique(() -> otherwise));
        }

        /**
         * Found by its name only: Boot still creates the application's own scheduler and executor, and code that looks
         * for "the" scheduler or executor, {@code @Async} for instance, doesn't find two.
         */
        @Bean(name = SCHEDULER, defaultCandidate = false, autowireCandidate = false)
        @ConditionalOnMissingBean(name = SCHEDULER)
        ThreadPoolTaskScheduler batchPersistenceScheduler(ResourceLoader application) {
            ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
            // Two threads: a long cleanup must not delay recovery.
            scheduler.setPoolSize(2);
            scheduler.setThreadFactory(ApplicationThreads.factory("batch-persistence-", application.getClassLoader()));
            // Never interrupt: a round may be writing.
            scheduler.setWaitForTasksToCompleteOnShutdown(true);
            scheduler.setPhase(BatchPersistenceLifecycle.PHASE);
            return scheduler;
        }

        @Bean
        @ConditionalOnMissingBean
        BatchPersistenceTasks batchPersistenceTasks(
                BatchPersistence persistence,
                BatchPersistenceProperties properties,
                BeanFactory beans,
                ObjectProvider<BatchPersistenceTasks.AfterRecovery> afterRecovery) {
            return new BatchPersistenceTasks(
                    persistence,
                    afterRecovery,
                    beans.getBean(SCHEDULER, TaskScheduler.class),
                    properties.recovery().interval(),
                    properties.cleanup().interval());
        }

        @Bean
        @ConditionalOnMissingBean
        BatchOperator batchOperator(BatchPersistence persistence, ObjectProvider<Clock> clock) {
            return new BatchOperator(persistence, clock.getIfUnique(Clock::systemUTC));
        }

        @Bean
        @ConditionalOnMissingBean
        BatchPersistenceLifecycle batchPersistenceLifecycle(
                BatchPersistence persistence, BatchPersistenceTasks tasks, ListenerBridge announcements) {
            return new BatchPersistenceLifecycle(persistence, tasks, announcements);
        }
    }

    @Configuration(proxyBeanMethods = false)
    @Conditional(OnBatchPersistenceEnabled.Not.class)
    static final class Disabled {

        @Bean
        @ConditionalOnMissingBean
        BatchPersistence batchPersistence() {
            return BatchPersistenceEngine.disabled();
        }

        @Bean
        @ConditionalOnMissingBean
        BatchDelivery batchDelivery(BatchPersistence persistence, BatchSenders senders) {
            return new DefaultBatchDelivery.Direct(persistence, senders);
        }
    }
}
