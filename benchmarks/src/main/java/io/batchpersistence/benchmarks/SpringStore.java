package io.batchpersistence.benchmarks;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spring.BatchDelivery;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;

/**
 * The segment store in a Spring Boot application that has the starter and no more: the application calls {@link
 * BatchDelivery#deliver}, its sender returns at once. The schedules of recovery and cleanup run meanwhile.
 */
final class SpringStore implements PersistenceCandidate {

    static final Kind KIND = new Kind(
            "segment-spring",
            "segment store in Spring Boot (this project)",
            true,
            "the starter with its defaults, no web server, no Actuator; BatchDelivery.deliver with a BatchSender bean that returns "
                    + "at once; the latency ends when the sender is called; the bounds raised",
            OwnStore.GUARANTEE,
            Map.of(),
            SpringStore::new);

    /** An application. */
    @SpringBootConfiguration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {

        @Bean(COLLECTOR)
        BatchSender sender() {
            // deliver() sends on the calling thread.
            return batch -> SENT_AT.get()[0] = System.nanoTime();
        }
    }

    private static final ThreadLocal<long[]> SENT_AT = ThreadLocal.withInitial(() -> new long[1]);

    private final ConfigurableApplicationContext context;
    private final BatchDelivery delivery;
    private final BatchPersistence persistence;
    private final BatchStore store;

    private SpringStore(Path directory, boolean sync) {
        Map<String, Object> properties = new HashMap<>();
        properties.put("batch_persistence.directory", directory.toString());
        properties.put("batch_persistence.sync", sync ? "always" : "never");
        properties.put("batch_persistence.max_pending_batches", OwnStore.MOST_BATCHES);
        properties.put("batch_persistence.max_disk_usage", OwnStore.MOST_BYTES + "B");
        this.context = new SpringApplicationBuilder(Application.class)
                .web(WebApplicationType.NONE)
                .bannerMode(Banner.Mode.OFF)
                .logStartupInfo(false)
                .registerShutdownHook(false)
                .properties(properties)
                .run();
        this.delivery = context.getBean(BatchDelivery.class);
        this.persistence = context.getBean(BatchPersistence.class);
        this.store = context.getBean(BatchStore.class);
    }

    @Override
    public long persistAndMark(String batchId, List<LogEntry> entries) {
        long start = System.nanoTime();
        if (!delivery.deliver(batchId, entries, COLLECTOR).isDelivered()) {
            throw new IllegalStateException("batch " + batchId + " was not delivered");
        }
        return SENT_AT.get()[0] - start;
    }

    @Override
    public BatchPersistence persistence() {
        return persistence;
    }

    @Override
    public BatchStore store() {
        return store;
    }

    /** Recovery reads what is pending, and nobody else. */
    @Override
    public @Nullable Stored next() {
        throw new UnsupportedOperationException();
    }

    @Override
    public void close() {
        context.close();
    }
}
