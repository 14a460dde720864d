package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.spring.actuate.BatchPersistenceEndpoint;
import io.batchpersistence.spring.operator.BatchOperator;
import org.springframework.boot.actuate.autoconfigure.endpoint.condition.ConditionalOnAvailableEndpoint;
import org.springframework.boot.actuate.endpoint.Show;
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
@ConditionalOnBean(BatchOperator.class)
@ConditionalOnAvailableEndpoint(BatchPersistenceEndpoint.class)
public final class BatchPersistenceEndpointAutoConfiguration {

    /** For Spring. */
    BatchPersistenceEndpointAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean
    BatchPersistenceEndpoint batchPersistenceEndpoint(BatchOperator operator, BatchPersistenceProperties properties) {
        return new BatchPersistenceEndpoint(
                operator,
                switch (properties.endpoint().showEntries()) {
                    case NEVER -> Show.NEVER;
                    case WHEN_AUTHORIZED -> Show.WHEN_AUTHORIZED;
                    case ALWAYS -> Show.ALWAYS;
                },
                properties.endpoint().roles());
    }
}
