package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.CollectorStats;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ApplicationEvent;
import org.springframework.context.ApplicationListener;
import org.springframework.context.ConfigurableApplicationContext;

/** The whole application, without its built-in collector, with its own configuration except for shorter delays. */
final class RunningShipper implements AutoCloseable {

    private final HttpClient http = HttpClient.newHttpClient();
    private final List<ApplicationEvent> events = new CopyOnWriteArrayList<>();
    private final ConfigurableApplicationContext context;
    private final ShipperStats shipped;

    private RunningShipper(String... arguments) {
        ApplicationListener<ApplicationEvent> listener = events::add;
        context = new SpringApplicationBuilder(SampleApplication.class)
                .listeners(listener)
                .run(arguments);
        shipped = context.getBean(ShipperStats.class);
    }

    /** Starts the application with its state in a directory, and with additional arguments. */
    static RunningShipper start(RealCollector collector, Path home, String... more) {
        List<String> arguments = new ArrayList<>(List.of(
                "--server.port=0",
                "--spring.main.banner-mode=off",
                "--sample.home=" + home,
                "--collector.enabled=false",
                "--collectors." + collector.type() + ".url=" + collector.url(),
                "--shipper.collector=" + collector.type(),
                "--shipper.batch-delay=100ms",
                "--shipper.poll-interval=50ms",
                "--shipper.scan-interval=100ms",
                "--shipper.summary-interval=0s",
                "--batch-persistence.recovery.interval=100ms",
                "--batch-persistence.recovery.backoff-max=1s"));
        arguments.addAll(List.of(more));
        return new RunningShipper(arguments.toArray(String[]::new));
    }

    private URI uri(String path) {
        return URI.create("http://localhost:" + context.getEnvironment().getProperty("local.server.port") + path);
    }

    /** Posts lines; returns the status of the response. */
    int post(String idempotencyKey, String lines) throws IOException, InterruptedException {
        return post("/logs", "text/plain", idempotencyKey, lines);
    }

    /** Posts a body with another content type; returns the status of the response. */
    int post(String path, String contentType, String idempotencyKey, String body)
            throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(uri(path))
                .timeout(Duration.ofSeconds(30))
                .header("Content-Type", contentType)
                .header("Idempotency-Key", idempotencyKey)
                .POST(BodyPublishers.ofString(body))
                .build();
        return http.send(request, BodyHandlers.discarding()).statusCode();
    }

    /** Returns the body of the response. */
    String get(String path) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(uri(path))
                .timeout(Duration.ofSeconds(30))
                .build();
        return http.send(request, BodyHandlers.ofString()).body();
    }

    CollectorStats numbers(String collectorType) {
        return persistence().stats().collector(collectorType);
    }

    BatchPersistence persistence() {
        return context.getBean(BatchPersistence.class);
    }

    /** The number of lines that were persisted since the start, delivered ones included. */
    long taken() {
        return shipped.entries.get();
    }

    <E extends ApplicationEvent> List<E> events(Class<E> type) {
        return events.stream().filter(type::isInstance).map(type::cast).toList();
    }

    /** Like a normal termination. */
    @Override
    public void close() {
        context.close();
    }
}
