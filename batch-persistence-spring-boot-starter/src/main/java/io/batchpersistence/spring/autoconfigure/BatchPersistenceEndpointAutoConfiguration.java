package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.spring.actuate.BatchPersistenceEndpoint;
import org.springframework.boot.actuate.autoconfigure.endpoint.condition.ConditionalOnAvailableEndpoint;
import org.springframework.boot.actuate.endpoint.annotation.Endpoint;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;

/** The actuator endpoint {@code batchpersistence}, where it is exposed. */
@AutoConfiguration(after = BatchPersistenceAutoConfiguration.class)
@ConditionalOnClass({Endpoint.class, ConditionalOnAvailableEndpoint.class})
@Conditional(OnBatchPersistenceEnabled.class)
@ConditionalOnBean(BatchPersistence.class)
@ConditionalOnAvailableEndpoint(BatchPersistenceEndpoint.class)
public final class BatchPersistenceEndpointAutoConfiguration {

    /** For Spring. */
    BatchPersistenceEndpointAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean
    BatchPersistenceEndpoint batchPersistenceEndpoint(BatchPersistence persistence) {
        return new BatchPersistenceEndpoint(persistence);
    }
}
