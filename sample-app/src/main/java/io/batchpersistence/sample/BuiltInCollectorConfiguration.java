package io.batchpersistence.sample;

import java.io.IOException;
import java.util.concurrent.TimeUnit;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** Configures the built-in collector for trying things out. */
@Configuration(proxyBeanMethods = false)
@ConditionalOnProperty(name = "collector.enabled", havingValue = "true", matchIfMissing = true)
@EnableConfigurationProperties(BuiltInCollectorProperties.class)
class BuiltInCollectorConfiguration {

    @Bean
    BuiltInCollector builtInCollector(BuiltInCollectorProperties settings) throws IOException {
        return new BuiltInCollector(settings.file());
    }

    @Bean
    BuiltInCollectorController builtInCollectorController(
            BuiltInCollector collector, BuiltInCollectorProperties settings) {
        return new BuiltInCollectorController(
                collector, settings, duration -> TimeUnit.NANOSECONDS.sleep(duration.toNanos()));
    }
}
