package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.sample.BuiltInCollector.Received;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.context.SpringBootTest.WebEnvironment;
import org.springframework.core.env.Environment;
import org.springframework.test.annotation.DirtiesContext;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;

/** From a file or a request, through the store, over real HTTP, into the collector's file. */
@SpringBootTest(
        classes = SampleApplication.class,
        webEnvironment = WebEnvironment.RANDOM_PORT,
        properties = {
            "shipper.batch-delay=10ms",
            "shipper.poll-interval=10ms",
            "shipper.scan-interval=10ms",
            "batch-persistence.recovery.interval=50ms",
            "batch-persistence.recovery.backoff-base=50ms",
            "batch-persistence.recovery.backoff-max=200ms"
        })
@DirtiesContext
class WholeApplicationTest {

    @TempDir
    static Path home;

    @DynamicPropertySource
    static void directories(DynamicPropertyRegistry registry) {
        registry.add("sample.home", home::toString);
        registry.add("shipper.files", () -> home.resolve("in/*.log").toString());
    }

    private final HttpClient http = HttpClient.newHttpClient();
    private final Environment environment;
    private final BuiltInCollector collector;

    @Autowired
    WholeApplicationTest(Environment environment, BuiltInCollector collector) {
        this.environment = environment;
        this.collector = collector;
    }

    @BeforeEach
    void collectorIsUp() throws Exception {
        post("/collector/mode/up");
    }

    private HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(
                        URI.create("http://localhost:" + environment.getProperty("local.server.port") + path))
                .timeout(Duration.ofSeconds(30));
    }

    private HttpResponse<String> send(HttpRequest.Builder request) throws IOException, InterruptedException {
        return http.send(request.build(), BodyHandlers.ofString());
    }

    private HttpResponse<String> post(String path, String type, String body) throws IOException, InterruptedException {
        return send(request(path).header("Content-Type", type).POST(BodyPublishers.ofString(body)));
    }

    private HttpResponse<String> post(String path) throws IOException, InterruptedException {
        return post(path, "text/plain", "");
    }

    private String get(String path) throws IOException, InterruptedException {
        return send(request(path)).body();
    }

    private List<String> received() {
        List<String> messages = new ArrayList<>();
        try {
            BuiltInCollector.readAll(
                    home.resolve("collector/received.ndjson"), (Received entry) -> messages.add(entry.message()));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        return messages;
    }

    private void awaitReceived(String... messages) {
        await().atMost(Duration.ofSeconds(30))
                .untilAsserted(() -> assertThat(received()).contains(messages));
    }

    @Test
    void delivers_what_is_posted() throws Exception {
        HttpResponse<String> answer = post("/logs", "text/plain", "posted 1\nposted 2\n");
        assertThat(answer.statusCode()).isEqualTo(202);
        assertThat(answer.body()).contains("\"entries\":2");
        awaitReceived("posted 1", "posted 2");

        assertThat(post("/logs?collector=elasticsearch", "application/x-ndjson", "{\"message\":\"posted 3\"}")
                        .statusCode())
                .isEqualTo(202);
        awaitReceived("posted 3");
    }

    @Test
    void a_page_of_another_site_can_not_post() throws Exception {
        for (String path : List.of(
                "/collector/mode/down",
                "/batches/pause/loki",
                "/batches/replay",
                "/logs",
                "/actuator/batchpersistence/cleanup")) {
            HttpResponse<String> answer = send(request(path)
                    .header("Content-Type", "text/plain")
                    .header("Sec-Fetch-Site", "cross-site")
                    .POST(BodyPublishers.ofString("forged")));
            assertThat(answer.statusCode()).as(path).isEqualTo(403);
        }
        assertThat(collector.mode()).isEqualTo(BuiltInCollector.Mode.UP);
    }

    @Test
    void delivers_what_is_written_to_files() throws Exception {
        Path file = Files.createDirectories(home.resolve("in")).resolve("a.log");
        Files.writeString(file, "written 1\nwritten 2\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        awaitReceived("written 1", "written 2");
    }

    @Test
    void takes_lines_while_the_collector_is_down_and_delivers_them_later() throws Exception {
        assertThat(post("/collector/mode/down").statusCode()).isEqualTo(200);
        assertThat(post("/logs", "text/plain", "during the outage\n").statusCode())
                .isEqualTo(202);
        assertThat(received()).doesNotContain("during the outage");

        assertThat(post("/collector/mode/up").statusCode()).isEqualTo(200);
        awaitReceived("during the outage");
        assertThat(collector.mode()).isEqualTo(BuiltInCollector.Mode.UP);
    }

    private void awaitBatch(String state, String reason) {
        await().atMost(Duration.ofSeconds(30))
                .untilAsserted(() -> assertThat(get("/actuator/batchpersistence/batches?state=" + state))
                        .contains(reason));
    }

    @Test
    void what_was_rejected_is_replayed_once_it_is_mended() throws Exception {
        post("/collector/mode/reject");
        post("/logs", "text/plain", "rejected\n");
        awaitBatch("DEAD", "answered 400: the built-in collector was told to reject");

        post("/collector/mode/up");
        assertThat(post("/batches/replay?collector=loki&reason=*400*&per_second=5")
                        .body())
                .isEqualTo("{\"batches\":1}");
        awaitReceived("rejected");
    }

    @Test
    void what_is_not_wanted_any_more_is_discarded() throws Exception {
        post("/collector/mode/reject");
        post("/logs", "text/plain", "unwanted\n");
        awaitBatch("DEAD", "told to reject");

        assertThat(send(request("/batches/dead").DELETE()).body()).isEqualTo("{\"batches\":1}");
        assertThat(get("/actuator/batchpersistence/batches?state=DEAD")).startsWith("{\"batches\":[]");
    }

    @Test
    void wrong_credentials_are_not_tried_again_until_an_operator_says_so() throws Exception {
        post("/collector/mode/unauthorized");
        post("/logs", "text/plain", "unauthorized\n");
        awaitBatch("PENDING", "answered 401");

        post("/collector/mode/up");
        post("/logs", "text/plain", "authorized\n");
        awaitReceived("authorized");
        assertThat(received()).doesNotContain("unauthorized");
        assertThat(post("/batches/recover?reason=*401*").body()).isEqualTo("{\"batches\":1}");
        awaitReceived("unauthorized");
    }

    @Test
    void nothing_is_sent_to_a_paused_collector() throws Exception {
        assertThat(post("/batches/pause/elasticsearch").body()).contains("\"paused\":true");
        post("/logs?collector=elasticsearch", "text/plain", "paused\n");
        post("/logs", "text/plain", "not paused\n");
        awaitReceived("not paused");
        assertThat(received()).doesNotContain("paused");

        assertThat(post("/batches/resume/elasticsearch").body()).contains("\"paused\":false");
        awaitReceived("paused");
    }

    @Test
    void explains_what_an_operator_got_wrong() throws Exception {
        HttpResponse<String> answer = post("/batches/pause/lokki");
        assertThat(answer.statusCode()).isEqualTo(404);
        assertThat(answer.body()).contains("lokki", "[elasticsearch, loki]");
        assertThat(post("/batches/replay?per_second=-1").statusCode()).isEqualTo(400);
    }

    /** In this module, Spring Security is not on the class path. */
    @Test
    void has_a_page_for_operators() throws Exception {
        HttpResponse<String> page = send(request("/batch-persistence/"));
        assertThat(page.statusCode()).isEqualTo(200);
        assertThat(page.body()).contains("page.js");
        assertThat(get("/batch-persistence/api/session"))
                .contains("\"access\":\"unrestricted\"", "\"application\":\"sample-app\"");
    }

    @Test
    void explains_what_is_wrong_with_a_request() throws Exception {
        HttpResponse<String> answer = post("/logs", "application/x-ndjson", "{\"message\":\"ok\"}\nnonsense");
        assertThat(answer.statusCode()).isEqualTo(400);
        assertThat(answer.headers().firstValue("Content-Type")).hasValue("application/problem+json");
        assertThat(answer.body()).contains("line 2");

        assertThat(post("/logs", "application/xml", "<x/>").statusCode()).isEqualTo(415);
    }
}
