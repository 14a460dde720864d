package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.BatchDelivery;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.awaitility.Awaitility;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.io.DefaultResourceLoader;

/** Starts applications on their own database. */
abstract class ApplicationTest {

    static final List<LogEntry> ENTRIES = List.of(LogEntry.of(Instant.EPOCH, "INFO", "an order"));

    /** Whole applications start slowly on machines with few processors. */
    @BeforeAll
    static void bePatient() {
        Awaitility.setDefaultTimeout(Duration.ofMinutes(1));
    }

    @TempDir
    Path project;

    private @Nullable OwnDatabase database;
    private final List<ConfigurableApplicationContext> started = new ArrayList<>();
    private @Nullable URLClassLoader resources;

    OwnDatabase on(OwnDatabase.Kind kind) {
        OwnDatabase opened = OwnDatabase.of(kind);
        database = opened;
        return opened;
    }

    @AfterEach
    void end() throws IOException {
        started.forEach(ConfigurableApplicationContext::close);
        if (resources != null) {
            resources.close();
        }
        if (database != null) {
            database.close();
        }
    }

    /** The directory of an application's resources. */
    Path resources() throws IOException {
        return Files.createDirectories(project.resolve("src/main/resources"));
    }

    /** Starts an application with the class path of these tests and the resources of the test. */
    ConfigurableApplicationContext start(Class<?> application, OwnDatabase on, String... properties)
            throws IOException {
        if (resources == null) {
            resources = new URLClassLoader(
                    new URL[] {resources().toUri().toURL()}, getClass().getClassLoader());
        }
        ConfigurableApplicationContext context = new SpringApplicationBuilder(application)
                .resourceLoader(new DefaultResourceLoader(resources))
                .bannerMode(Banner.Mode.OFF)
                .properties(
                        "server.port=0",
                        "spring.main.register-shutdown-hook=false",
                        "spring.main.web-application-type=none",
                        "spring.datasource.url=" + on.url,
                        "spring.jpa.open-in-view=false",
                        "spring.flyway.enabled=false",
                        "spring.liquibase.enabled=false",
                        "batch-persistence.store=jdbc")
                .properties(properties)
                .run();
        started.add(context);
        return context;
    }

    static BatchPersistence persistence(ConfigurableApplicationContext context) {
        return context.getBean(BatchPersistence.class);
    }

    static BatchDelivery delivery(ConfigurableApplicationContext context) {
        return context.getBean(BatchDelivery.class);
    }

    static List<String> sent(ConfigurableApplicationContext context) {
        return context.getBean(Collecting.class).sent;
    }

    static void assertItPersistsAndDelivers(ConfigurableApplicationContext context, String batchId) {
        persistence(context).persistBatch(batchId + "-kept", ENTRIES, "loki");
        assertThat(persistence(context).find(batchId + "-kept"))
                .hasValueSatisfying(batch -> assertThat(batch.entries()).isEqualTo(ENTRIES));
        delivery(context).deliverAsync(batchId, ENTRIES, "loki");
        await().untilAsserted(() -> assertThat(sent(context)).contains(batchId));
        await().untilAsserted(
                        () -> assertThat(persistence(context).find(batchId)).isEmpty());
    }

    /** An application that only sends to a collector. */
    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {
        @Bean
        Collecting loki() {
            return new Collecting();
        }
    }

    /** A collector. */
    static class Collecting implements BatchSender {
        final List<String> sent = new CopyOnWriteArrayList<>();

        @Override
        public void send(PersistedBatch batch) {
            sent.add(batch.id());
        }
    }
}
