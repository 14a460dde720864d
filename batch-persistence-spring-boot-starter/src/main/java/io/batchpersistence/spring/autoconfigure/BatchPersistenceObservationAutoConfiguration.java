package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.spring.actuate.BatchObservations;
import io.batchpersistence.spring.actuate.BatchPersistenceMetrics;
import io.batchpersistence.spring.actuate.BatchTraceContext;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.observation.ObservationRegistry;
import io.micrometer.tracing.Tracer;
import io.micrometer.tracing.propagation.Propagator;
import java.time.Clock;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;
import org.springframework.context.annotation.Configuration;

/**
 * Observes sends if the application has an observation registry or meters, and keeps the current trace with each batch
 * if the application is traced.
 */
@AutoConfiguration(
        after = {BatchPersistenceAutoConfiguration.class, BatchPersistenceMetricsAutoConfiguration.class},
        afterName = {
            "org.springframework.boot.micrometer.observation.autoconfigure.ObservationAutoConfiguration",
            "org.springframework.boot.micrometer.tracing.autoconfigure.MicrometerTracingAutoConfiguration",
            "org.springframework.boot.micrometer.tracing.brave.autoconfigure.BraveAutoConfiguration",
            "org.springframework.boot.micrometer.tracing.opentelemetry.autoconfigure.OpenTelemetryTracingAutoConfiguration"
        })
@ConditionalOnClass(ObservationRegistry.class)
@Conditional(OnBatchPersistenceEnabled.class)
@ConditionalOnBean(BatchPersistence.class)
public final class BatchPersistenceObservationAutoConfiguration {

    /** For Spring. */
    BatchPersistenceObservationAutoConfiguration() {}

    // Not in a nested class: the beans of the outer class are registered after those of its nested classes.
    @Bean
    @ConditionalOnMissingBean
    @ConditionalOnBean(BatchObservations.class)
    SendObserver batchSendObserver(BatchObservations observations) {
        return new SendObserver() {
            @Override
            public BatchSender sender(BatchSender sender) {
                return observations.sender(sender);
            }

            @Override
            public RecoveryTarget sending(BatchSender sender) {
                return observations.sending(sender);
            }

            @Override
            public RecoveryTarget settling(RecoveryTarget target) {
                return observations.settling(target);
            }
        };
    }

    /** With meters: reports lag and age as well. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass(MeterRegistry.class)
    @ConditionalOnBean(BatchPersistenceMetrics.class)
    static final class WithMetrics {

        @Bean
        @ConditionalOnMissingBean
        BatchObservations batchObservations(
                ObjectProvider<ObservationRegistry> registry,
                BatchPersistenceMetrics metrics,
                ObjectProvider<FailureClassifier> classifier,
                ObjectProvider<Clock> clock) {
            return new BatchObservations(
                    registry.getIfUnique(() -> ObservationRegistry.NOOP),
                    metrics,
                    classifier.getIfUnique(() -> FailureClassifier.DEFAULT),
                    clock.getIfUnique(Clock::systemUTC));
        }
    }

    /** Without meters. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnBean(ObservationRegistry.class)
    @ConditionalOnMissingBean(type = "io.batchpersistence.spring.actuate.BatchPersistenceMetrics")
    static final class WithoutMetrics {

        @Bean
        @ConditionalOnMissingBean
        BatchObservations batchObservations(
                ObservationRegistry registry,
                ObjectProvider<FailureClassifier> classifier,
                ObjectProvider<Clock> clock) {
            return BatchObservations.withoutMetrics(
                    registry,
                    classifier.getIfUnique(() -> FailureClassifier.DEFAULT),
                    clock.getIfUnique(Clock::systemUTC));
        }
    }

    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass({Tracer.class, Propagator.class})
    @ConditionalOnBean({Tracer.class, Propagator.class})
    static final class Traced {

        @Bean
        @ConditionalOnMissingBean
        BatchTraceContext batchTraceContext(Tracer tracer, Propagator propagator) {
            return new BatchTraceContext(tracer, propagator);
        }

        @Bean
        @ConditionalOnMissingBean
        ContextAtPersist batchContextAtPersist(BatchTraceContext traces) {
            return traces::apply;
        }
    }
}
