package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.spring.actuate.BatchPersistenceHealthIndicator;
import java.time.Clock;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.health.autoconfigure.contributor.ConditionalOnEnabledHealthIndicator;
import org.springframework.boot.health.contributor.HealthIndicator;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;

/** The health indicator {@code batchPersistence}. */
@AutoConfiguration(after = BatchPersistenceAutoConfiguration.class)
@ConditionalOnClass({HealthIndicator.class, ConditionalOnEnabledHealthIndicator.class})
@Conditional(OnBatchPersistenceEnabled.class)
@ConditionalOnBean(BatchPersistence.class)
@ConditionalOnEnabledHealthIndicator("batchpersistence")
public final class BatchPersistenceHealthAutoConfiguration {

    /** For Spring. */
    BatchPersistenceHealthAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean(name = {"batchPersistenceHealthIndicator", "batchPersistenceHealthContributor"})
    BatchPersistenceHealthIndicator batchPersistenceHealthIndicator(
            BatchPersistence persistence, BatchPersistenceProperties properties, ObjectProvider<Clock> clock) {
        return new BatchPersistenceHealthIndicator(
                persistence,
                properties.health().maxPendingAge(),
                properties.health().maxFillLevel(),
                properties.health().corruptionWindow(),
                clock.getIfUnique(Clock::systemUTC));
    }
}
