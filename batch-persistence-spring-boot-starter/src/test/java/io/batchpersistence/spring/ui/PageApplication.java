package io.batchpersistence.spring.ui;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.CollectorType;
import io.batchpersistence.spring.autoconfigure.WithoutSecurity;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** An application with a page, a web server and a collector controlled by the test. */
@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@RestController
class PageApplication {

    static final String PATH = "/batch-persistence";

    /** What the collector received; its failure, if set, applies to all batches. */
    static final class Collector {
        final Set<String> delivered = ConcurrentHashMap.newKeySet();
        volatile @Nullable String failure;
        volatile @Nullable String rejection;

        void send(PersistedBatch batch) throws IOException {
            String reason = rejection;
            if (reason != null) {
                throw new PermanentDeliveryException(reason);
            }
            reason = failure;
            if (reason != null) {
                throw new IOException(reason);
            }
            delivered.add(batch.id());
        }
    }

    static ConfigurableApplicationContext start(Path directory, Class<?> more, String... properties) {
        List<String> all = new ArrayList<>(List.of(
                "server.port=0",
                "spring.application.name=test-application",
                "spring.main.register-shutdown-hook=false",
                "batch-persistence.ui.enabled=true",
                "batch-persistence.recovery.interval=50ms",
                "batch-persistence.recovery.backoff-base=100ms",
                "batch-persistence.recovery.backoff-max=300ms",
                "batch-persistence.directory=" + directory));
        if (more != OperatorPageSecurityTest.Secured.class) {
            all.add(WithoutSecurity.PROPERTY);
        }
        all.addAll(List.of(properties));
        return new SpringApplicationBuilder(PageApplication.class, more)
                .bannerMode(Banner.Mode.OFF)
                .properties(all.toArray(String[]::new))
                .run();
    }

    static String url(ConfigurableApplicationContext context) {
        return "http://localhost:" + context.getEnvironment().getProperty("local.server.port");
    }

    static void persist(ConfigurableApplicationContext context, String id, String collectorType) {
        BatchPersistence persistence = context.getBean(BatchPersistence.class);
        persistence.persistBatch(
                id,
                List.of(
                        LogEntry.of(Instant.parse("2026-01-01T00:00:00Z"), "INFO", "GET /index.html 200 for " + id),
                        LogEntry.of(Instant.parse("2026-01-01T00:00:01Z"), "WARN", "slow: 1.3 s")),
                collectorType,
                Map.of("tenant", "tenant-of-" + id));
        persistence.releaseBatch(id);
    }

    static void deadLetter(ConfigurableApplicationContext context, String id, String collectorType, String reason) {
        BatchPersistence persistence = context.getBean(BatchPersistence.class);
        persistence.persistBatch(
                id,
                List.of(LogEntry.of(Instant.parse("2026-01-01T00:00:00Z"), "INFO", "GET /index.html 200 for " + id)),
                collectorType,
                Map.of("tenant", "tenant-of-" + id));
        persistence.markBatchFailed(id, new PermanentDeliveryException(reason));
    }

    @Bean
    Collector collector() {
        return new Collector();
    }

    @Bean
    @CollectorType("loki")
    BatchSender loki(Collector collector) {
        return collector::send;
    }

    /** A page of the application itself. */
    @GetMapping("/")
    String home() {
        return "the application";
    }
}
