package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.spring.ApplicationTestBase;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Configuration;
import tools.jackson.databind.JsonNode;

/**
 * Queries endpoint, health and page over HTTP in a store with many batches, while another thread persists: all
 * responses are correct, and the durations are printed. With a million batches, it takes some minutes:
 *
 * <pre>mvn -pl batch-persistence-spring-boot-starter -am test -Dtest=OperatorsAtScaleTest
 *     -Dsurefire.failIfNoSpecifiedTests=false -Doperators.batches=1000000</pre>
 */
@Tag("slow")
class OperatorsAtScaleTest extends ApplicationTestBase {

    private static final int BATCHES = Integer.getInteger("operators.batches", 4_000);
    private static final int DEAD = BATCHES / 4;
    private static final String ENDPOINT = "/actuator/batchpersistence";
    private static final List<String> TYPES = List.of("loki", "elasticsearch", "splunk", "otlp");
    private static final List<String> REASONS =
            List.of("HTTP 429 Too Many Requests", "HTTP 503", "connection refused", "timed out", "HTTP 500");
    private static final List<LogEntry> ENTRIES = IntStream.range(0, 3)
            .mapToObj(i -> LogEntry.of(Instant.EPOCH, "INFO", "entry " + i))
            .toList();

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {}

    private BatchPersistence persistence;
    /** Latencies of the thread that persists concurrently, in nanoseconds. */
    private final List<Long> latencies = Collections.synchronizedList(new ArrayList<>());

    @BeforeEach
    void startAndFill() {
        context = application(Application.class)
                .properties(
                        "management.endpoints.web.exposure.include=*",
                        "management.endpoint.health.show-details=always",
                        "batch-persistence.sync=never",
                        "batch-persistence.max-pending-batches=" + 2 * BATCHES,
                        "batch-persistence.max-disk-usage=100GB",
                        "batch-persistence.recovery.interval=1h",
                        "batch-persistence.recovery.backoff-base=1d",
                        "batch-persistence.recovery.backoff-max=1d",
                        "batch-persistence.ui.enabled=true",
                        WithoutSecurity.PROPERTY)
                .run();
        persistence = persistence();
        List<CompletableFuture<?>> persisted = new ArrayList<>();
        for (int i = 0; i < BATCHES; i++) {
            persisted.add(persistence.persistBatchAsync(id(i), ENTRIES, TYPES.get(i % TYPES.size())));
            if (persisted.size() == 10_000) {
                persisted.forEach(CompletableFuture::join);
                persisted.clear();
            }
        }
        persisted.forEach(CompletableFuture::join);
        for (int i = 0; i < BATCHES; i++) {
            String reason = REASONS.get(i % REASONS.size());
            if (i < DEAD) {
                persistence.markBatchFailed(id(i), new PermanentDeliveryException(reason));
            } else {
                persistence.markBatchFailed(id(i), reason);
            }
        }
    }

    private static String id(int number) {
        return "batch-" + number;
    }

    @Test
    void everything_is_answered_right_and_others_persist_meanwhile() throws Exception {
        AtomicBoolean more = new AtomicBoolean(true);
        Thread persisting = new Thread(() -> {
            for (int i = 0; more.get(); i++) {
                long began = System.nanoTime();
                persistence.persistBatch("beside-" + i, ENTRIES, "beside");
                latencies.add(System.nanoTime() - began);
                persistence.markBatchSuccess("beside-" + i);
            }
        });
        persisting.start();
        try {
            Awaitility.await().until(() -> latencies.size() > 2_000);
            print("persisting before", latenciesFrom(1_000));

            summary();
            reasons();
            pages();
            asked("health", "/actuator/health/batchPersistence");
            asked("the page's summary", "/batch-persistence/api");
            asked("the page's list", "/batch-persistence/api/batches?state=dead&limit=100");
        } finally {
            more.set(false);
            persisting.join();
        }
        assertThat(persistence.stats().total().isBalanced()).isTrue();
    }

    /** A growing list can't be iterated, only copied in one call. */
    private List<Long> latenciesFrom(int first) {
        Long[] all = latencies.toArray(new Long[0]);
        return List.of(all).subList(first, all.length);
    }

    private JsonNode asked(String what, String path) throws Exception {
        int before = latencies.size();
        List<Long> times = new ArrayList<>();
        JsonNode answer = json(get(path));
        for (int i = 0; i < 20; i++) {
            long began = System.nanoTime();
            answer = json(get(path));
            times.add(System.nanoTime() - began);
        }
        print(what, times);
        print("persisting meanwhile", latenciesFrom(before));
        return answer;
    }

    private void summary() throws Exception {
        JsonNode summary = asked("the summary", ENDPOINT);
        long pending = 0;
        long dead = 0;
        for (String type : TYPES) {
            JsonNode collector = summary.at("/collectors/" + type);
            pending += collector.at("/pending/batches").asLong();
            dead += collector.at("/dead/batches").asLong();
            assertThat(collector.get("balanced").asBoolean()).isTrue();
        }
        assertThat(pending).isEqualTo(BATCHES - DEAD);
        assertThat(dead).isEqualTo(DEAD);
    }

    private void reasons() throws Exception {
        JsonNode all = asked("reasons", ENDPOINT + "/reasons?limit=1000");
        long batches = 0;
        for (JsonNode group : all.get("reasons")) {
            batches += group.get("batches").asLong();
        }
        assertThat(batches).isEqualTo(BATCHES);
    }

    private void pages() throws Exception {
        String selection = ENDPOINT + "/batches?collectorType=loki&failureReason=*429*&limit=100";
        Set<String> seen = new HashSet<>();
        String after = "";
        for (int page = 0; page < 5; page++) {
            JsonNode answer =
                    page == 0 ? asked("a page of a list with conditions", selection) : json(get(selection + after));
            for (JsonNode batch : answer.get("batches")) {
                int number = Integer.parseInt(batch.get("id").asString().substring("batch-".length()));
                assertThat(number % TYPES.size()).isZero();
                assertThat(number % REASONS.size()).isZero();
                assertThat(seen.add(batch.get("id").asString())).isTrue();
            }
            if (!answer.hasNonNull("next")) {
                break;
            }
            after = "&after=" + answer.get("next").asString();
        }
        assertThat(seen).hasSize(Math.min(500, BATCHES / (TYPES.size() * REASONS.size())));
        JsonNode one = asked("one batch", ENDPOINT + "/batch?id=" + id(BATCHES / 2));
        assertThat(one.toString()).contains(id(BATCHES / 2));
    }

    private static void print(String what, List<Long> nanos) {
        if (nanos.isEmpty()) {
            return;
        }
        List<Long> sorted = nanos.stream().sorted().toList();
        System.out.printf(
                Locale.ROOT,
                "among %,d batches: %s: median %.2f ms, 99 %% %.2f ms, most %.2f ms (%d times)%n",
                BATCHES,
                what,
                sorted.get(sorted.size() / 2) / 1e6,
                sorted.get((int) (sorted.size() * 0.99)) / 1e6,
                sorted.get(sorted.size() - 1) / 1e6,
                sorted.size());
    }
}
