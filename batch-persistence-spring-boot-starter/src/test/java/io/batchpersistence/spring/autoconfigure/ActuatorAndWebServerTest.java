package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.Corruption;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spring.ApplicationTestBase;
import io.batchpersistence.spring.actuate.BatchPersistenceHealthIndicator;
import io.batchpersistence.test.ManualClock;
import io.micrometer.core.instrument.MeterRegistry;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.health.contributor.Status;
import org.springframework.context.SmartLifecycle;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RestController;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** A whole application, with a web server and all of actuator. */
class ActuatorAndWebServerTest extends ApplicationTestBase {

    private BatchPersistence start(String... properties) {
        context = application(Application.class)
                .properties(
                        WithoutSecurity.PROPERTY,
                        "server.shutdown=graceful",
                        "management.endpoints.web.exposure.include=*",
                        "management.endpoint.health.show-details=always")
                .properties(properties)
                .run();
        return persistence();
    }

    @Test
    void health_says_what_waits_and_what_to_do() throws Exception {
        start();
        JsonNode health = json(get("/actuator/health")).at("/components/batchPersistence");
        assertThat(health.get("status").asString()).isEqualTo("UP");
        assertThat(health.at("/details/pending").asInt()).isZero();

        BatchPersistence persistence = persistence();
        persistence.persistBatch("1", ENTRIES, "no one");
        persistence.releaseBatch("1");
        persistence.recover();
        HttpResponse<String> overall = get("/actuator/health");
        health = JsonMapper.shared().readTree(overall.body()).at("/components/batchPersistence");
        assertThat(health.get("status").asString()).isEqualTo("DEGRADED");
        assertThat(health.at("/details/pending").asInt()).isEqualTo(1);
        assertThat(health.at("/details/unhandledCollectorTypes/0").asString()).isEqualTo("no one");
        assertThat(health.at("/details/collectors/no one/lane").asString()).isEqualTo("CLOSED");
        assertThat(health.at("/details/warnings/0").asString()).contains("no one", "Add a BatchSender bean");
        assertThat(overall.statusCode()).as("restarting would not help").isEqualTo(200);

        persistence.close();
        overall = get("/actuator/health");
        assertThat(overall.statusCode()).isEqualTo(503);
        assertThat(JsonMapper.shared()
                        .readTree(overall.body())
                        .at("/components/batchPersistence/status")
                        .asString())
                .isEqualTo("DOWN");
    }

    @Test
    void health_is_degraded_by_age_and_by_fill_level() throws Exception {
        start(
                "batch-persistence.health.max-pending-age=1ms",
                "batch-persistence.health.max-fill-level=0.5",
                "batch-persistence.max-pending-batches=2");
        persistence().persistBatch("1", ENTRIES, "loki");
        await().untilAsserted(() -> {
            JsonNode health = json(get("/actuator/health/batchPersistence"));
            assertThat(health.get("status").asString()).isEqualTo("DEGRADED");
            assertThat(health.at("/details/fillLevel").asDouble()).isEqualTo(0.5);
            assertThat(health.at("/details/warnings").toString())
                    .contains("The oldest batch has waited for", "1 of 2 batches");
        });
    }

    @Test
    void health_is_degraded_while_a_collector_is_down_or_paused() throws Exception {
        BatchPersistence persistence =
                start("batch-persistence.recovery.outage-threshold=1", "batch-persistence.recovery.interval=1h");
        persistence.persistBatch("1", ENTRIES, "loki");
        persistence.markBatchFailed("1", "connection\nrefused");
        persistence.pause("otlp");
        JsonNode health = json(get("/actuator/health/batchPersistence"));
        assertThat(health.get("status").asString()).isEqualTo("DEGRADED");
        assertThat(health.at("/details/warnings/0").asString())
                .startsWith("Collector loki is down since 20")
                .contains("connection", "refused")
                .doesNotContain("\n");
        assertThat(health.at("/details/warnings/1").asString()).contains("Collector otlp is paused");
        assertThat(get("/actuator/health").statusCode()).isEqualTo(200);
        persistence.resume("otlp");
        persistence.markBatchSuccess("1");
        // The round notices that no batch without a sender is waiting any more.
        persistence.recover();
        health = json(get("/actuator/health/batchPersistence"));
        assertThat(health.get("status").asString()).as("%s", health).isEqualTo("UP");
    }

    @Test
    void health_is_degraded_for_a_while_after_batches_were_lost_to_damage() {
        ManualClock clock = new ManualClock();
        BatchPersistenceHealthIndicator health = new BatchPersistenceHealthIndicator(
                BatchPersistenceEngine.disabled(), Duration.ofHours(1), 0.9, Duration.ofHours(24), clock);
        Path file = Path.of("0000000001.segment");
        health.onCorrupted(new Corruption(file, 7, 10, "torn tail", null, null, 0, null));
        assertThat(status(health)).as("no one was promised what is lost").isEqualTo(Status.UP);
        Path kept = Path.of("quarantine", "0000000001.segment-7.damaged");
        health.onCorrupted(new Corruption(file, 7, 10, "the payload's checksum is wrong", "b", "loki", 1, kept));
        clock.advance(Duration.ofHours(24).minusMillis(1));
        assertThat(status(health)).isEqualTo(BatchPersistenceHealthIndicator.DEGRADED);
        assertThat(String.valueOf(health.health(true)))
                .contains("in 0000000001.segment", "checksum is wrong", "the damaged bytes are kept in " + kept + ".");
        clock.advance(Duration.ofMillis(1));
        assertThat(status(health)).isEqualTo(Status.UP);
    }

    private static Status status(BatchPersistenceHealthIndicator health) {
        return Objects.requireNonNull(health.health(false)).getStatus();
    }

    @Test
    void an_application_that_only_buffers_is_neither_unready_nor_dead() throws Exception {
        BatchPersistence persistence = start(
                "batch-persistence.recovery.outage-threshold=1",
                "batch-persistence.recovery.interval=1h",
                "management.endpoint.health.probes.enabled=true",
                "management.endpoint.health.group.readiness.include=readinessState,batchPersistence");
        persistence.persistBatch("1", ENTRIES, "loki");
        persistence.markBatchFailed("1", "connection refused");
        assertThat(json(get("/actuator/health/batchPersistence")).get("status").asString())
                .isEqualTo("DEGRADED");
        HttpResponse<String> ready = get("/actuator/health/readiness");
        assertThat(ready.statusCode()).isEqualTo(200);
        assertThat(JsonMapper.shared().readTree(ready.body()).get("status").asString())
                .isEqualTo("UP");
        // A closed instance accepts no batches.
        persistence.close();
        assertThat(get("/actuator/health/readiness").statusCode()).isEqualTo(503);
        assertThat(get("/actuator/health/liveness").statusCode()).isEqualTo(200);
    }

    @Test
    void scheduled_tasks_are_shown() throws Exception {
        start("batch-persistence.recovery.interval=1500ms");
        JsonNode tasks = json(get("/actuator/scheduledtasks")).get("fixedDelay");
        assertThat(tasks.toString())
                .contains("io.batchpersistence.recovery", "io.batchpersistence.cleanup")
                .contains("\"interval\":1500", "\"interval\":60000");
    }

    @Test
    void meters_follow_the_collector_types() {
        start("batch-persistence.recovery.interval=10ms");
        MeterRegistry registry = context.getBean(MeterRegistry.class);
        assertThat(registry.get("batch.persistence.batches.limit").gauge().value())
                .isEqualTo(1_000_000);
        assertThat(registry.find("batch.persistence.accepted").meters()).isEmpty();
        BatchPersistence persistence = persistence();
        persistence.persistBatch("1", ENTRIES, "loki");
        persistence.persistBatch("2", ENTRIES, "loki");
        persistence.markBatchSuccess("1");
        persistence.markBatchFailed("2", new PermanentDeliveryException("malformed"));
        await().untilAsserted(() -> {
            assertThat(count(registry, "accepted")).isEqualTo(2);
            assertThat(count(registry, "delivered")).isEqualTo(1);
            assertThat(count(registry, "dead.lettered")).isEqualTo(1);
            assertThat(registry.get("batch.persistence.batches")
                            .tags("collector", "loki", "state", "dead")
                            .gauge()
                            .value())
                    .isEqualTo(1);
            assertThat(registry.get("batch.persistence.lane.open")
                            .tags("collector", "loki")
                            .gauge()
                            .value())
                    .isZero();
        });
    }

    @Test
    void meter_cardinality_is_bounded() {
        BatchPersistence persistence = start("batch-persistence.recovery.interval=10ms");
        for (int i = 0; i < 150; i++) {
            persistence.persistBatch("b" + i, ENTRIES, "collector-" + i);
        }
        MeterRegistry registry = context.getBean(MeterRegistry.class);
        await().untilAsserted(() -> {
            assertThat(registry.find("batch.persistence.accepted").functionCounters())
                    .hasSize(101)
                    .satisfies(counters -> assertThat(counters.stream()
                                    .mapToDouble(counter -> counter.count())
                                    .sum())
                            .isEqualTo(150));
        });
    }

    private static double count(MeterRegistry registry, String name) {
        return registry.get("batch.persistence." + name)
                .tag("collector", "loki")
                .functionCounter()
                .count();
    }

    @Test
    void batches_are_taken_until_web_requests_have_drained() throws Exception {
        start();
        Application application = context.getBean(Application.class);
        CompletableFuture<HttpResponse<String>> response = client.sendAsync(
                request("/logs").POST(HttpRequest.BodyPublishers.noBody()).build(), BodyHandlers.ofString());
        application.requestArrived.await();
        Thread closing = new Thread(context::close);
        closing.start();
        application.webServerIsNext.await();
        assertThat(context.getBean(BatchPersistenceLifecycle.class).isRunning()).isTrue();
        application.goOn.countDown();
        assertThat(response.get().body()).isEqualTo("kept");
        closing.join();
        assertThat(start().find("from-request")).isPresent();
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @RestController
    static class Application {
        final CountDownLatch requestArrived = new CountDownLatch(1);
        final CountDownLatch goOn = new CountDownLatch(1);
        final CountDownLatch webServerIsNext = new CountDownLatch(1);
        private final BatchPersistence persistence;

        Application(BatchPersistence persistence) {
            this.persistence = persistence;
        }

        /** Stopped after everything that stops before the web server's graceful shutdown. */
        @Bean
        static SmartLifecycle beforeGracefulShutdown(ObjectProvider<Application> application) {
            return new SmartLifecycle() {
                private volatile boolean running;

                @Override
                public void start() {
                    running = true;
                }

                @Override
                public void stop() {
                    running = false;
                    application.getObject().webServerIsNext.countDown();
                }

                @Override
                public boolean isRunning() {
                    return running;
                }

                @Override
                public int getPhase() {
                    return SmartLifecycle.DEFAULT_PHASE - 1023;
                }
            };
        }

        @PostMapping("/logs")
        String logs() throws InterruptedException {
            requestArrived.countDown();
            goOn.await();
            persistence.persistBatch("from-request", ENTRIES, "loki");
            return "kept";
        }
    }
}
