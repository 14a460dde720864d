package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.databasetests.OwnDatabase.Kind;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.springframework.context.ConfigurableApplicationContext;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Two instances with one database, over HTTP: an operator's actions at one are visible at the other. */
class TwoInstancesTest extends ApplicationTest {

    private static final String BASE = "/actuator/batchpersistence";

    private final HttpClient client = HttpClient.newHttpClient();

    private ConfigurableApplicationContext start(OwnDatabase database, String name) throws Exception {
        return start(
                Application.class,
                database,
                "spring.main.web-application-type=servlet",
                "management.endpoints.web.exposure.include=*",
                "management.endpoint.health.show-details=always",
                "management.endpoint.batchpersistence.access=unrestricted",
                "batch-persistence.jdbc.initialize-schema=always",
                "batch-persistence.jdbc.instance-name=" + name,
                // One heartbeat per second.
                "batch-persistence.jdbc.lease=3s",
                "batch-persistence.jdbc.query-timeout=2s",
                "batch-persistence.recovery.interval=100ms");
    }

    private static URI uri(ConfigurableApplicationContext context, String path) {
        return URI.create("http://localhost:" + context.getEnvironment().getProperty("local.server.port") + path);
    }

    private JsonNode get(ConfigurableApplicationContext context, String path) throws Exception {
        HttpResponse<String> response =
                client.send(HttpRequest.newBuilder(uri(context, path)).build(), BodyHandlers.ofString());
        assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
        return JsonMapper.shared().readTree(response.body());
    }

    private long done(ConfigurableApplicationContext context, String operation, String body) throws Exception {
        HttpResponse<String> response = client.send(
                HttpRequest.newBuilder(uri(context, BASE + "/" + operation))
                        .header("Content-Type", "application/json")
                        .POST(BodyPublishers.ofString(body))
                        .build(),
                BodyHandlers.ofString());
        assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
        return JsonMapper.shared().readTree(response.body()).get("batches").asLong();
    }

    private JsonNode health(ConfigurableApplicationContext context) throws Exception {
        return get(context, "/actuator/health").at("/components/batchPersistence");
    }

    private double meter(ConfigurableApplicationContext context, String query) throws Exception {
        return get(context, "/actuator/metrics/" + query)
                .at("/measurements/0/value")
                .asDouble();
    }

    private static void dead(ConfigurableApplicationContext context, String id) {
        persistence(context).persistBatch(id, ENTRIES, "loki");
        persistence(context).markBatchFailed(id, new PermanentDeliveryException("malformed"));
    }

    @ParameterizedTest
    @EnumSource
    void what_an_operator_does_at_one_instance_is_seen_at_the_other(Kind kind) throws Exception {
        OwnDatabase database = on(kind);
        ConfigurableApplicationContext a = start(database, "a");
        ConfigurableApplicationContext b = start(database, "b");

        // Both are healthy, and see each other.
        for (ConfigurableApplicationContext each : new ConfigurableApplicationContext[] {a, b}) {
            await().untilAsserted(() -> {
                JsonNode health = health(each);
                assertThat(health.get("status").asString()).as("%s", health).isEqualTo("UP");
                assertThat(health.at("/details/instance/name").asString()).isEqualTo(each == a ? "a" : "b");
                assertThat(health.at("/details/instance/alive").asInt()).isEqualTo(2);
            });
        }

        // Dead letters of one instance are listed, replayed and discarded at the other.
        dead(a, "1");
        dead(a, "2");
        await().untilAsserted(() -> assertThat(
                        get(b, BASE).at("/collectors/loki/dead/batches").asInt())
                .isEqualTo(2));
        JsonNode listed = get(b, BASE + "/batches?state=dead");
        assertThat(listed.at("/batches/0/id").asString()).isEqualTo("1");
        assertThat(listed.at("/batches/1/id").asString()).isEqualTo("2");
        assertThat(get(b, BASE + "/reasons?state=dead").at("/reasons/0/reason").asString())
                .contains("malformed");
        assertThat(done(b, "replay", "{\"id\":\"1\",\"dryRun\":true}")).isOne();
        assertThat(done(b, "replay", "{\"id\":\"1\"}")).isOne();
        assertThat(done(b, "discard", "{\"state\":\"dead\"}")).isOne();
        await().untilAsserted(() -> {
            JsonNode loki = get(a, BASE).at("/collectors/loki");
            assertThat(loki.get("delivered").asInt()).isOne();
            assertThat(loki.get("balanced").asBoolean()).isTrue();
            assertThat(loki.at("/dead/batches").asInt()).isZero();
        });
        assertThat(sent(a).size() + sent(b).size()).isOne();

        // A pause at one instance also applies to the other, until it is resumed there.
        assertThat(done(a, "pause", "{\"collectorType\":\"loki\"}")).isOne();
        await().untilAsserted(() -> assertThat(
                        get(b, BASE).at("/collectors/loki/lane/paused").asBoolean())
                .isTrue());
        assertThat(health(b).at("/details/warnings").toString()).contains("loki is paused");
        delivery(b).deliver("3", ENTRIES, "loki");
        delivery(a).deliverAsync("4", ENTRIES, "loki");
        await().untilAsserted(() -> {
            assertThat(meter(a, "batch.persistence.batches?tag=collector:loki&tag=state:pending"))
                    .isEqualTo(2);
            assertThat(meter(b, "batch.persistence.batches?tag=collector:loki&tag=state:pending"))
                    .isEqualTo(2);
        });
        assertThat(sent(a).size() + sent(b).size()).isOne();
        assertThat(done(b, "resume", "{\"collectorType\":\"loki\"}")).isOne();
        await().untilAsserted(() -> assertThat(
                        get(a, BASE).at("/collectors/loki/delivered").asInt())
                .isEqualTo(3));
        assertThat(health(a).at("/details/warnings").isMissingNode()).isTrue();
    }
}
