package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.spring.ApplicationTestBase;
import io.batchpersistence.spring.actuate.BatchPersistenceHealthIndicator;
import io.batchpersistence.spring.operator.BatchOperator;
import io.micrometer.core.instrument.MeterRegistry;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.config.BeanPostProcessor;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** An application may wrap the bean, for instance to count calls: operators still see everything. */
class WrappedBatchPersistenceTest extends ApplicationTestBase {

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {

        @Bean
        static BeanPostProcessor wrapper() {
            return new BeanPostProcessor() {
                @Override
                public Object postProcessAfterInitialization(Object bean, String name) {
                    return bean instanceof BatchPersistence persistence ? wrapped(persistence) : bean;
                }
            };
        }

        private static Object wrapped(BatchPersistence persistence) {
            return Proxy.newProxyInstance(
                    BatchPersistence.class.getClassLoader(),
                    new Class<?>[] {BatchPersistence.class},
                    (proxy, method, arguments) -> {
                        try {
                            return method.invoke(persistence, arguments);
                        } catch (InvocationTargetException e) {
                            throw e.getCause();
                        }
                    });
        }
    }

    @Test
    void lanes_warnings_and_meters_are_still_there() {
        context = application(Application.class)
                .web(WebApplicationType.NONE)
                .properties("batch-persistence.recovery.outage-threshold=1", "batch-persistence.recovery.interval=20ms")
                .run();
        BatchPersistence persistence = persistence();
        assertThat(Proxy.isProxyClass(persistence.getClass())).isTrue();
        persistence.persistBatch("1", ENTRIES, "loki");
        persistence.markBatchFailed("1", "connection refused");
        persistence.pause("otlp");

        var collectors = context.getBean(BatchOperator.class).summary().collectors();
        assertThat(collectors.get("loki").lane().state()).isEqualTo(LaneStatus.State.OPEN);
        assertThat(collectors.get("otlp").lane().paused()).isTrue();
        var health = context.getBean(BatchPersistenceHealthIndicator.class).health(true);
        assertThat(String.valueOf(health)).contains("Collector loki is down since", "Collector otlp is paused");
        MeterRegistry meters = context.getBean(MeterRegistry.class);
        await().untilAsserted(() -> assertThat(meters.get("batch.persistence.lane.open")
                        .tag("collector", "loki")
                        .gauge()
                        .value())
                .isEqualTo(1));
    }
}
