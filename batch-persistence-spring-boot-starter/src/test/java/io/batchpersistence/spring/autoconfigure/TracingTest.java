package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spring.ApplicationTestBase;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.event.RecoveredBatchEvent;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.observation.Observation;
import io.micrometer.observation.ObservationHandler;
import io.micrometer.observation.ObservationRegistry;
import io.micrometer.tracing.Tracer;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.SpanProcessor;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.data.StatusData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.IOException;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Supplier;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.test.system.CapturedOutput;
import org.springframework.boot.test.system.OutputCaptureExtension;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;

/** A delivery belongs to the trace in which its batch was persisted. With a real tracer and a real store. */
@ExtendWith(OutputCaptureExtension.class)
class TracingTest extends ApplicationTestBase {

    /** The spans exported by all contexts of a test. */
    private static final List<SpanData> SPANS = new CopyOnWriteArrayList<>();

    private static final BlockingQueue<PersistedBatch> SENT = new LinkedBlockingQueue<>();
    private static final List<String> TRACES_WHILE_SENDING = new CopyOnWriteArrayList<>();
    private static final List<RecoveredBatchEvent> EVENTS = new CopyOnWriteArrayList<>();

    @BeforeEach
    void forget() {
        SPANS.clear();
        SENT.clear();
        TRACES_WHILE_SENDING.clear();
        EVENTS.clear();
    }

    private void start(Class<?> application, String... properties) {
        context = application(application)
                .web(WebApplicationType.NONE)
                .properties("management.tracing.sampling.probability=1.0", "batch-persistence.recovery.interval=20ms")
                .properties(properties)
                .run();
    }

    /** Runs the handler like that of a request; returns the request's span. */
    private SpanData request(Runnable handler) {
        SPANS.clear();
        Observation.createNotStarted("request", context.getBean(ObservationRegistry.class))
                .observe(handler);
        return span("request");
    }

    private static SpanData span(String name) {
        return await().until(
                        () -> SPANS.stream()
                                .filter(span -> span.getName().equals(name))
                                .findFirst(),
                        found -> found.isPresent())
                .orElseThrow();
    }

    private static void assertContinues(SpanData send, SpanData request) {
        assertThat(send.getTraceId()).isEqualTo(request.getTraceId());
        assertThat(send.getParentSpanId()).isEqualTo(request.getSpanId());
        assertThat(send.getKind()).isEqualTo(SpanKind.CONSUMER);
    }

    private static String attribute(SpanData span, String key) {
        return span.getAttributes().get(AttributeKey.stringKey(key));
    }

    @Test
    void a_delivery_after_a_restart_belongs_to_the_request_that_persisted_the_batch(CapturedOutput output) {
        start(Traced.class, "batch-persistence.recovery.enabled=false");
        SpanData request =
                request(() -> persistence().persistBatch("b1", ENTRIES, "loki", Map.of("tenant", "secret-tenant")));
        assertThat(persistence().find("b1").orElseThrow().context())
                .containsEntry("tenant", "secret-tenant")
                .hasEntrySatisfying(
                        "traceparent",
                        trace ->
                                assertThat(trace).startsWith("00-" + request.getTraceId() + "-" + request.getSpanId()));
        context.close();
        SPANS.clear();
        start(Traced.class);
        SpanData send = span("send loki");
        assertContinues(send, request);
        assertThat(attribute(send, "collector")).isEqualTo("loki");
        assertThat(attribute(send, "attempt")).isEqualTo("first");
        assertThat(attribute(send, "outcome")).isEqualTo("delivered");
        assertThat(attribute(send, "batch.id")).isEqualTo("b1");
        assertThat(send.getAttributes().toString()).doesNotContain("secret-tenant");
        assertThat(TRACES_WHILE_SENDING)
                .as("a request of the sender's own would be its child")
                .containsExactly(request.getTraceId());
        assertThat(context.getBean(MeterRegistry.class)
                        .get("batch.persistence.delivery")
                        .tag("collector", "loki")
                        .timer()
                        .count())
                .isEqualTo(1);
        context.close();
        assertThat(output).doesNotContain("secret-tenant").doesNotContain("traceparent");
    }

    @Test
    void so_do_first_sends_and_retries() {
        start(Traced.class, "batch-persistence.recovery.backoff-base=1ms");
        BatchDelivery delivery = context.getBean(BatchDelivery.class);
        SpanData request = request(() -> delivery.deliver("fails-once", ENTRIES, "loki"));
        List<SpanData> sends = await().until(
                        () -> SPANS.stream()
                                .filter(span -> span.getName().equals("send loki"))
                                .toList(),
                        found -> found.size() == 2);
        assertThat(sends).allSatisfy(send -> assertContinues(send, request));
        assertThat(sends).extracting(send -> attribute(send, "outcome")).containsExactly("failed", "delivered");
        assertThat(sends).extracting(send -> attribute(send, "attempt")).containsExactly("first", "retry");
        assertThat(sends.get(0).getStatus().getStatusCode())
                .isEqualTo(StatusData.error().getStatusCode());
    }

    @Test
    void a_callers_own_trace_is_left_alone_and_without_one_nothing_is_kept() {
        String own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        start(Traced.class, "batch-persistence.recovery.enabled=false");
        BatchPersistence persistence = persistence();
        persistence.persistBatch("untraced", ENTRIES, "loki", Map.of("tenant", "a"));
        request(() -> persistence.persistBatch("own", ENTRIES, "loki", Map.of("traceparent", own)));
        assertThat(persistence.find("untraced").orElseThrow().context()).isEqualTo(Map.of("tenant", "a"));
        assertThat(persistence.find("own").orElseThrow().context()).isEqualTo(Map.of("traceparent", own));
    }

    @Test
    void an_event_is_observed_until_it_is_settled() {
        start(Listening.class);
        BatchDelivery delivery = context.getBean(BatchDelivery.class);
        SpanData request = request(() -> delivery.deliverAsync("b1", ENTRIES, "loki"));
        await().until(() -> EVENTS.size() == 1);
        assertThat(SPANS).extracting(SpanData::getName).doesNotContain("send loki");
        assertThat(active()).isEqualTo(1);
        assertThat(EVENTS.get(0).acknowledge()).isTrue();
        SpanData send = span("send loki");
        assertContinues(send, request);
        assertThat(attribute(send, "outcome")).isEqualTo("delivered");
        assertThat(active()).isZero();
    }

    @Test
    void an_event_that_is_not_settled_is_not_observed_for_ever() {
        start(
                Listening.class,
                "batch-persistence.batch-timeout=100ms",
                "batch-persistence.recovery.backoff-base=1ms",
                "batch-persistence.recovery.outage-threshold=0");
        context.getBean(BatchDelivery.class).deliverAsync("b1", ENTRIES, "loki");
        await().atMost(Duration.ofSeconds(60)).until(() -> EVENTS.size() >= 3);
        List<SpanData> sends = SPANS.stream()
                .filter(span -> span.getName().equals("send loki"))
                .toList();
        assertThat(sends)
                .hasSizeGreaterThanOrEqualTo(2)
                .allSatisfy(send -> assertThat(attribute(send, "outcome")).isEqualTo("unsettled"));
        assertThat(active()).isLessThanOrEqualTo(1);
    }

    private int active() {
        return context
                .getBean(MeterRegistry.class)
                .get("batch.persistence.send.active")
                .tag("collector", "loki")
                .longTaskTimers()
                .stream()
                .mapToInt(timer -> timer.activeTasks())
                .sum();
    }

    @Test
    void what_fails_in_an_observation_is_no_reason_not_to_send() {
        start(BadlyObserved.class);
        assertThat(context.getBean(BatchDelivery.class)
                        .deliver("b1", ENTRIES, "loki")
                        .isDelivered())
                .isTrue();
        context.getBean(BatchDelivery.class).deliverAsync("b2", ENTRIES, "loki");
        await().until(() -> SENT.size() == 2);
        await().untilAsserted(() ->
                assertThat(persistence().stats().total().delivered()).isEqualTo(2));
    }

    @Test
    void lag_is_the_time_from_being_due_to_being_handed_over() {
        start(Traced.class);
        context.getBean(BatchDelivery.class).deliverAsync("b1", ENTRIES, "loki");
        Supplier<Long> count = () -> context.getBean(MeterRegistry.class)
                .get("batch.persistence.lag")
                .tag("collector", "loki")
                .timer()
                .count();
        await().untilAsserted(() -> assertThat(count.get()).isEqualTo(1));
        assertThat(context.getBean(MeterRegistry.class)
                        .get("batch.persistence.lag")
                        .timer()
                        .max(java.util.concurrent.TimeUnit.SECONDS))
                .isCloseTo(0, within(30.0));
    }

    @Configuration(proxyBeanMethods = false)
    static class Exporting {

        /** Exports at once, not in batches. */
        @Bean
        SpanProcessor spanProcessor() {
            return SimpleSpanProcessor.create(new SpanExporter() {
                @Override
                public CompletableResultCode export(Collection<SpanData> spans) {
                    SPANS.addAll(spans);
                    return CompletableResultCode.ofSuccess();
                }

                @Override
                public CompletableResultCode flush() {
                    return CompletableResultCode.ofSuccess();
                }

                @Override
                public CompletableResultCode shutdown() {
                    return CompletableResultCode.ofSuccess();
                }
            });
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Traced extends Exporting {

        @Bean
        BatchSender loki(Tracer tracer) {
            return batch -> {
                if (batch.id().equals("fails-once") && batch.lastAttempt() == null) {
                    throw new IOException("connection refused");
                }
                TRACES_WHILE_SENDING.add(tracer.currentSpan().context().traceId());
                SENT.add(batch);
            };
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Listening extends Exporting {

        @EventListener
        void take(RecoveredBatchEvent event) {
            EVENTS.add(event);
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class BadlyObserved {

        @Bean
        BatchSender loki() {
            return SENT::add;
        }

        @Bean
        ObservationHandler<Observation.Context> bad() {
            return new ObservationHandler<>() {
                @Override
                public void onStart(Observation.Context context) {
                    throw new IllegalStateException("start");
                }

                @Override
                public void onScopeOpened(Observation.Context context) {
                    throw new IllegalStateException("scope");
                }

                @Override
                public void onStop(Observation.Context context) {
                    throw new IllegalStateException("stop");
                }

                @Override
                public boolean supportsContext(Observation.Context context) {
                    return context.getName().equals("batch.persistence.send");
                }
            };
        }
    }
}
