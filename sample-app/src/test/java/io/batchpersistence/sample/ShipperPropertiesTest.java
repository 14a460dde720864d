package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.sample.ShipperProperties.Source;
import io.batchpersistence.sample.ShipperProperties.TextToSource;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.boot.context.properties.ConfigurationPropertiesBinding;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

class ShipperPropertiesTest {

    private final ApplicationContextRunner runner = new ApplicationContextRunner().withUserConfiguration(Binding.class);

    @Configuration(proxyBeanMethods = false)
    @EnableConfigurationProperties({ShipperProperties.class, CollectorProperties.class})
    static class Binding {

        @Bean
        @ConfigurationPropertiesBinding
        static TextToSource textToSource() {
            return new TextToSource();
        }
    }

    @Test
    void has_defaults() {
        runner.run(context -> {
            ShipperProperties settings = context.getBean(ShipperProperties.class);
            assertThat(settings.files()).isEmpty();
            assertThat(settings.batchSize()).isEqualTo(100);
            assertThat(settings.batchDelay()).isEqualTo(Duration.ofSeconds(1));
            assertThat(settings.collector()).isEqualTo("loki");
            CollectorProperties collectors = context.getBean(CollectorProperties.class);
            assertThat(collectors.loki().url()).isNull();
            assertThat(collectors.elasticsearch().index()).isEqualTo("logs");
        });
    }

    @Test
    void files_are_texts_or_paths_with_a_collector() {
        runner.withPropertyValues(
                        "shipper.files[0]=/var/log/*.log",
                        "shipper.files[1].path=/var/log/nginx/access.log",
                        "shipper.files[1].collector=elasticsearch",
                        "shipper.batch_size=7")
                .run(context -> {
                    ShipperProperties settings = context.getBean(ShipperProperties.class);
                    assertThat(settings.files())
                            .containsExactly(
                                    new Source("/var/log/*.log", null),
                                    new Source("/var/log/nginx/access.log", "elasticsearch"));
                    assertThat(settings.batchSize()).isEqualTo(7);
                });
    }

    @Test
    void files_may_be_one_text() {
        runner.withPropertyValues("shipper.files=/a.log,/b.log")
                .run(context -> assertThat(
                                context.getBean(ShipperProperties.class).files())
                        .containsExactly(new Source("/a.log", null), new Source("/b.log", null)));
    }

    @ParameterizedTest
    @CsvSource({
        "shipper.batch-size=0, shipper.batch_size must be at least 1",
        "shipper.batch-bytes=1GB, shipper.batch_bytes must be between",
        "shipper.poll-interval=0s, shipper.poll_interval must be longer than 0",
        "shipper.batch-delay=-1s, shipper.batch_delay must not be negative"
    })
    void says_what_is_wrong(String property, String message) {
        runner.withPropertyValues(property).run(context -> {
            assertThat(context).hasFailed();
            assertThat(context.getStartupFailure()).rootCause().hasMessageContaining(message);
        });
    }
}
