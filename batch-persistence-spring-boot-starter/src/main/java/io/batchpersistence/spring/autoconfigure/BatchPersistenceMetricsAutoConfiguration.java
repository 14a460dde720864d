package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.spring.actuate.BatchObservations;
import io.batchpersistence.spring.actuate.BatchPersistenceMetrics;
import io.batchpersistence.spring.autoconfigure.BatchPersistenceProperties.Store;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Clock;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;

/** The meters {@code batch.persistence.*}, where the application has a meter registry. */
@AutoConfiguration(
        after = BatchPersistenceAutoConfiguration.class,
        afterName = "org.springframework.boot.micrometer.metrics.autoconfigure.CompositeMeterRegistryAutoConfiguration")
@ConditionalOnClass(MeterRegistry.class)
@Conditional(OnBatchPersistenceEnabled.class)
@ConditionalOnBean({BatchPersistence.class, MeterRegistry.class})
public final class BatchPersistenceMetricsAutoConfiguration {

    /** For Spring. */
    BatchPersistenceMetricsAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean
    BatchPersistenceMetrics batchPersistenceMetrics(
            BatchPersistence persistence,
            ObjectProvider<Clock> clock,
            ObjectProvider<BatchPersistenceProperties> properties) {
        BatchPersistenceProperties known = properties.getIfUnique();
        return new BatchPersistenceMetrics(
                persistence,
                clock.getIfUnique(Clock::systemUTC),
                known == null || known.store() == Store.JDBC ? null : known.path());
    }

    @Bean
    @ConditionalOnMissingBean(name = "batchPersistenceMetricsRefresh")
    BatchPersistenceTasks.AfterRecovery batchPersistenceMetricsRefresh(
            BatchPersistenceMetrics metrics, ObjectProvider<BatchObservations> observations) {
        return () -> {
            metrics.refresh();
            observations.ifUnique(BatchObservations::sweep);
        };
    }
}
