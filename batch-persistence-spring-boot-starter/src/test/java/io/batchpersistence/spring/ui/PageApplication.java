package io.batchpersistence.spring.ui;

import io.batchpersistence.BatchSender;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.CollectorType;
import java.io.IOException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
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
