package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchStats;
import io.batchpersistence.CompressionUnavailableException;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.jdbc.FallbackBatchStore;
import io.batchpersistence.jdbc.JdbcBatchStore;
import io.batchpersistence.jdbc.JdbcStoreOptions;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spring.autoconfigure.BatchPersistenceProperties.Jdbc;
import io.batchpersistence.spring.autoconfigure.BatchPersistenceProperties.Jdbc.Fallback;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Instant;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.aot.hint.RuntimeHints;
import org.springframework.aot.hint.RuntimeHintsRegistrar;
import org.springframework.beans.factory.BeanFactoryUtils;
import org.springframework.beans.factory.ListableBeanFactory;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.boot.sql.init.dependency.DatabaseInitializationDependencyConfigurer;
import org.springframework.boot.sql.init.dependency.DependsOnDatabaseInitialization;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.ImportRuntimeHints;
import org.springframework.core.env.Environment;
import org.springframework.jdbc.datasource.ConnectionHolder;
import org.springframework.jdbc.datasource.TransactionAwareDataSourceProxy;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.transaction.support.TransactionSynchronization;

/**
 * With {@code batch_persistence.store: jdbc}, configures the store in the application's database, after Flyway,
 * Liquibase or {@code schema.sql} have created its tables. Everything else is the same as with any other store.
 */
@AutoConfiguration(before = BatchPersistenceAutoConfiguration.class)
@ConditionalOnClass({ConnectionHolder.class, DependsOnDatabaseInitialization.class, TransactionSynchronization.class})
@Conditional(OnJdbcStore.class)
@EnableConfigurationProperties(BatchPersistenceProperties.class)
@Import(DatabaseInitializationDependencyConfigurer.class)
@ImportRuntimeHints(BatchPersistenceJdbcAutoConfiguration.Scripts.class)
public final class BatchPersistenceJdbcAutoConfiguration {

    private static final String SET_UP =
            "Set spring.datasource.url (and username and password), define a DataSource bean, or set batch_persistence.store to"
                    + " segment.";

    private static final Logger LOG = LogSanitizer.logger(BatchPersistence.class);

    /** For Spring. */
    BatchPersistenceJdbcAutoConfiguration() {}

    // For any other store it is unknown whether its batches become part of transactions, and on which DataSource.
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnMissingBean({BatchStore.class, BatchPersistence.class})
    static final class Store {

        @Bean
        SpringTransactions batchBusinessTransactions(BatchPersistenceProperties properties, ListableBeanFactory beans) {
            Jdbc jdbc = properties.jdbc();
            return new SpringTransactions(dataSource(jdbc, beans), jdbc.joinTransaction(), task -> {
                TaskScheduler scheduler =
                        beans.getBean(BatchPersistenceAutoConfiguration.SCHEDULER, TaskScheduler.class);
                var unused = scheduler.schedule(task, Instant.now());
            });
        }

        // The database need not be available: the store opens nevertheless, reports the problem, and tries again.
        @Bean
        @DependsOnDatabaseInitialization
        BatchStore batchStore(
                BatchPersistenceProperties properties,
                SpringTransactions transactions,
                Environment environment,
                ObjectProvider<Clock> clock) {
            JdbcStoreOptions options = properties.jdbcStoreOptions(
                    environment.getProperty("spring.application.name", ""),
                    clock.getIfUnique(Clock::systemUTC),
                    transactions::connection);
            DiskStoreOptions onDisk = properties.storeOptions(options.clock());
            DataSource own = new OwnConnections(transactions.dataSource());
            BatchStore store = properties.jdbc().fallback() == Fallback.NONE
                    ? withoutFallback(own, options, onDisk)
                    : withFallback(own, options, onDisk);
            BatchStats stats = store.stats();
            LOG.info(
                    "Batch store opened: {}; store jdbc, tables {}{}…, instance {}, joins transactions: {}, fallback: {}",
                    !store.isFullyReachable() || stats.problem() != null
                            ? "the database can't be used yet"
                            : stats.total().pending() + " pending, "
                                    + stats.total().dead() + " dead",
                    options.schema() == null ? "" : options.schema() + ".",
                    options.tablePrefix(),
                    options.instanceName(),
                    properties.jdbc().joinTransaction(),
                    stats.fallback() == null ? "none" : stats.fallback().place());
            return store;
        }

        private static BatchStore withoutFallback(
                DataSource dataSource, JdbcStoreOptions options, DiskStoreOptions unused) {
            warnOfBatchesIn(unused.directory());
            try {
                return JdbcBatchStore.open(dataSource, options);
            } catch (CompressionUnavailableException e) {
                throw new StoreNotOpenedException(unused.directory(), e);
            }
        }

        /**
         * Warns of the batches of an earlier store or fallback: otherwise it would go unnoticed that they are not sent.
         */
        private static void warnOfBatchesIn(Path directory) {
            try (Stream<Path> files = Files.list(directory)) {
                if (files.map(Path::getFileName)
                        .map(Path::toString)
                        .anyMatch(name ->
                                name.endsWith(".segment") || (name.startsWith("batch_") && name.endsWith(".json")))) {
                    LOG.warn(
                            "The directory {} holds files of a store on disk. With batch_persistence.store: jdbc and no fallback they are"
                                    + " not read: batches that wait there are not sent. Set batch_persistence.jdbc.fallback to segment"
                                    + " to have those of segment files moved to the database; delete the directory if nothing waits there",
                            directory);
                }
            } catch (IOException e) {
                LOG.debug("There is no directory {} of an earlier store, or it can't be read", directory, e);
            }
        }

        private static BatchStore withFallback(
                DataSource dataSource, JdbcStoreOptions options, DiskStoreOptions fallback) {
            try {
                return FallbackBatchStore.open(dataSource, options, fallback);
            } catch (BatchPersistenceException e) {
                throw new StoreNotOpenedException(fallback.directory(), e);
            }
        }
    }

    private static DataSource dataSource(Jdbc jdbc, ListableBeanFactory beans) {
        DataSource dataSource = chosen(jdbc, beans);
        // The store's own transactions must not become part of a caller's transaction.
        while (dataSource instanceof TransactionAwareDataSourceProxy proxy) {
            dataSource = Objects.requireNonNull(proxy.getTargetDataSource(), "a proxy without a target");
        }
        return dataSource;
    }

    private static DataSource chosen(Jdbc jdbc, ListableBeanFactory beans) {
        List<String> names = List.of(BeanFactoryUtils.beanNamesForTypeIncludingAncestors(beans, DataSource.class));
        String wanted = jdbc.dataSource();
        if (wanted != null) {
            if (!names.contains(wanted)) {
                throw new InvalidSettingException(
                        "jdbc.data_source",
                        "is '" + wanted + "', but there is no DataSource bean of that name; "
                                + (names.isEmpty() ? "there is none at all" : "there is " + list(names)),
                        names.isEmpty() ? SET_UP : "Set the name of one of them.");
            }
            return beans.getBean(wanted, DataSource.class);
        }
        if (names.isEmpty()) {
            throw new InvalidSettingException("store", "is jdbc, but the application has no DataSource bean", SET_UP);
        }
        DataSource only = beans.getBeanProvider(DataSource.class).getIfUnique();
        if (only == null) {
            throw new InvalidSettingException(
                    "store",
                    "is jdbc, but the application has several DataSource beans, and none of them is primary: "
                            + list(names),
                    "Set batch_persistence.jdbc.data_source to the name of one of them, or make one @Primary.");
        }
        return only;
    }

    /** Resources to include in a native image. */
    static final class Scripts implements RuntimeHintsRegistrar {
        @Override
        public void registerHints(RuntimeHints hints, @Nullable ClassLoader classes) {
            hints.resources().registerPattern("io/batchpersistence/jdbc/*.sql");
        }
    }

    private static String list(List<String> names) {
        return names.stream().map(name -> "'" + name + "'").collect(Collectors.joining(", "));
    }
}
