package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.batchpersistence.BatchState;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class SendersTest {

    private static final JsonMapper JSON = JsonMapper.shared();
    private static final Instant TIME = Instant.parse("2026-01-31T12:00:00.123456789Z");

    private HttpCollectorFake collector;

    @BeforeEach
    void start() throws IOException {
        collector = new HttpCollectorFake();
    }

    @AfterEach
    void stop() {
        collector.close();
    }

    /** The dates that collectors answer with are relative to this time. */
    private static ManualClock clock() {
        return new ManualClock(Instant.parse("2026-03-01T12:00:00Z"));
    }

    private CollectorClient client(Duration timeout) {
        return new CollectorClient(
                "it", collector::url, Map.of("X-Scope-OrgID", "me"), Duration.ofSeconds(5), timeout, clock());
    }

    private LokiSender loki() {
        return new LokiSender(client(Duration.ofSeconds(20)), "shop");
    }

    private ElasticsearchSender elasticsearch() {
        return new ElasticsearchSender(client(Duration.ofSeconds(20)), "logs");
    }

    private static PersistedBatch batch(LogEntry... entries) {
        return new PersistedBatch(
                "b1", List.of(entries), "loki", TIME, null, null, 0, null, Map.of(), BatchState.IN_FLIGHT);
    }

    private static PersistedBatch three() {
        return batch(LogEntry.of(TIME, null, "a"), LogEntry.of(TIME, null, "b"), LogEntry.of(TIME, null, "c"));
    }

    @Test
    void pushes_streams_to_loki() throws Exception {
        loki().send(batch(
                LogEntry.builder(TIME, "sold \u20ac")
                        .level("INFO")
                        .label("file.name", "a.log")
                        .field("items", 3L)
                        .source("file", "a.log:1")
                        .trace("t", "s")
                        .build(),
                LogEntry.builder(TIME, "sold out")
                        .level("INFO")
                        .label("file.name", "a.log")
                        .build(),
                LogEntry.of(TIME, "ERROR", "")));

        assertThat(collector.request().path()).isEqualTo("/loki/api/v1/push");
        assertThat(collector.request().headers().get("X-scope-orgid")).containsExactly("me");
        assertThat(collector.request().headers().get("Content-type")).containsExactly("application/json");
        assertThat(JSON.readTree(collector.request().body())).isEqualTo(JSON.readTree("""
                {"streams":[
                  {"stream":{"app":"shop","file_name":"a.log","level":"info"},"values":[
                    ["1769860800123456789","sold \u20ac",{"batch_id":"b1","items":"3","source_id":"a.log:1",\
                "source_type":"file","span_id":"s","trace_id":"t"}],
                    ["1769860800123456789","sold out",{"batch_id":"b1"}]]},
                  {"stream":{"app":"shop","level":"error"},"values":[["1769860800123456789","",{"batch_id":"b1"}]]}]}
                """));
    }

    /** A proxy in front of a collector that requires a log-in responds with a page. */
    @Test
    void a_login_page_is_no_delivery() {
        collector.answers(200, "<html>Please log in</html>", Map.of("Content-Type", "text/html; charset=utf-8"));
        assertThatThrownBy(() -> loki().send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("200")
                .hasMessageContaining("text/html")
                .hasMessageContaining("Please log in");
        assertThatThrownBy(() -> elasticsearch().send(three())).isInstanceOf(IOException.class);
    }

    @Test
    void redirects_are_not_followed() {
        for (int status : new int[] {301, 302, 303, 307, 308}) {
            collector.requests.clear();
            collector.answers(status, "", Map.of("Location", collector.url() + "/login"));
            assertThatThrownBy(() -> loki().send(three()))
                    .isInstanceOf(IOException.class)
                    .hasMessageContaining(String.valueOf(status));
            assertThat(collector.requests).hasSize(1);
        }
    }

    @Test
    void loki_does_not_take_equal_lines_for_one() throws Exception {
        PersistedBatch batch = batch(
                LogEntry.of(TIME, "INFO", "again"),
                LogEntry.of(TIME.plusNanos(1), "INFO", "again"),
                LogEntry.of(TIME, "INFO", "again"),
                LogEntry.of(TIME, "ERROR", "again"),
                LogEntry.of(TIME, "INFO", "again"));
        loki().send(batch);

        String first = collector.request().body();
        JsonNode streams = JSON.readTree(first).path("streams");
        assertThat(streams.path(0)
                        .path("values")
                        .valueStream()
                        .map(value -> value.path(0).asString()))
                .containsExactly(
                        "1769860800123456789", "1769860800123456790", "1769860800123456791", "1769860800123456792");
        assertThat(streams.path(1)
                        .path("values")
                        .valueStream()
                        .map(value -> value.path(0).asString()))
                .containsExactly("1769860800123456789");
        loki().send(batch);
        assertThat(collector.requests).last().extracting("body").isEqualTo(first);
    }

    @ParameterizedTest
    @ValueSource(ints = {400, 409, 413, 415, 422})
    void some_answers_are_for_good(int status) {
        collector.answers(status, "entry too far behind", Map.of());

        assertThatThrownBy(() -> loki().send(three()))
                .isInstanceOf(PermanentDeliveryException.class)
                .hasMessageContaining("answered " + status + ": entry too far behind");
    }

    @ParameterizedTest
    @ValueSource(ints = {301, 401, 403, 404, 408, 429, 500, 502, 503, 504})
    void most_answers_are_not(int status) {
        collector.answers(status, "", Map.of());

        assertThatThrownBy(() -> loki().send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("answered " + status);
    }

    @ParameterizedTest
    @CsvSource({
        "429, 7, PT7S",
        "503, 0, PT0S",
        "429, 'Sun, 01 Mar 2026 12:00:30 GMT', PT30S",
        "429, 'Sun, 01 Mar 2026 11:00:00 GMT', PT0S",
        "429, 999999999999999999, PT1H"
    })
    void honours_the_collectors_wish(int status, String header, Duration delay) {
        collector.answers(status, "slow down", Map.of("Retry-After", header));

        RetryAfterException e = catchThrowableOfType(RetryAfterException.class, () -> loki().send(three()));
        assertThat(e.delay()).isEqualTo(delay);
        assertThat(e).hasMessageContaining("slow down");
    }

    @Test
    void a_wish_that_cant_be_read_is_none() {
        collector.answers(429, "", Map.of("Retry-After", "later"));

        assertThatThrownBy(() -> loki().send(three())).isInstanceOf(IOException.class);
    }

    @Test
    void an_answer_without_end_is_not_read() {
        collector.says("x".repeat(CollectorClient.MAX_ANSWER + 1));

        assertThatThrownBy(() -> loki().send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("answered with more than 16777216 bytes");
    }

    @Test
    void an_answer_is_quoted_in_one_line() {
        collector.answers(500, "no\nERROR forged \u202E", Map.of());

        assertThatThrownBy(() -> loki().send(three())).hasMessageEndingWith(": no\\u000AERROR forged \\u202E");
    }

    @Test
    void no_password_is_shown() throws IOException {
        URI url = URI.create("http://user:hunter2@127.0.0.1:" + collector.url().getPort() + "/base");
        CollectorClient client = new CollectorClient(
                "it",
                () -> url,
                Map.of("Authorization", CollectorClient.basic("user", "hunter2")),
                Duration.ofSeconds(5),
                Duration.ofSeconds(20),
                clock());
        collector.answers(500, "", Map.of());
        assertThatThrownBy(() -> new LokiSender(client, "shop").send(three()))
                .hasMessageContaining("it at http://127.0.0.1:")
                .satisfies(thrown -> assertThat(thrown.toString()).doesNotContain("hunter2"));

        Duration second = Duration.ofSeconds(1);
        assertThat(new CollectorProperties(
                                new CollectorProperties.Loki(url, "user", "hunter2", "hunter2", "t", second, second),
                                new CollectorProperties.Elasticsearch(
                                        url, "logs", "user", "hunter2", "hunter2", second, second))
                        .toString())
                .contains("http://127.0.0.1", "/base", "index logs")
                .doesNotContain("hunter2");
    }

    @Test
    void waits_no_longer_than_its_timeout() {
        collector.staysSilent();

        assertThatThrownBy(() -> new LokiSender(client(Duration.ofMillis(100)), "shop").send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("can't be reached");
    }

    @Test
    void a_collector_that_is_not_there_is_tried_again() {
        URI gone = collector.url();
        collector.close();
        CollectorClient client = new CollectorClient(
                "loki", () -> gone, Map.of(), Duration.ofSeconds(5), Duration.ofSeconds(5), clock());

        assertThatThrownBy(() -> new LokiSender(client, "shop").send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining(gone.toString());
    }

    @Test
    void creates_documents_in_elasticsearch() throws Exception {
        collector.says("{\"errors\":false,\"items\":[]}");
        elasticsearch()
                .send(batch(LogEntry.builder(TIME, "sold")
                        .level("INFO")
                        .label("app", "shop")
                        .field("items", 3L)
                        .source("file", "a.log:1")
                        .trace("t", "s")
                        .build()));

        assertThat(collector.request().path()).isEqualTo("/_bulk");
        assertThat(collector.request().headers().get("Content-type")).containsExactly("application/x-ndjson");
        assertThat(collector.request().body()).endsWith("\n");
        String[] lines = collector.request().body().split("\n");
        assertThat(lines).hasSize(2);
        JsonNode create = JSON.readTree(lines[0]).path("create");
        assertThat(create.path("_index").asString()).isEqualTo("logs");
        assertThat(create.path("_id").asString()).isEqualTo(ElasticsearchSender.id("b1", 0, "sold"));
        assertThat(JSON.readTree(lines[1])).isEqualTo(JSON.readTree("""
                {"@timestamp":"2026-01-31T12:00:00.123456789Z","message":"sold","log.level":"INFO",\
                "labels":{"app":"shop"},"fields":{"items":3},"trace.id":"t","span.id":"s",\
                "source_type":"file","source_id":"a.log:1","batch_id":"b1"}"""));
    }

    @Test
    void ids_of_documents_differ_by_batch_number_and_message() {
        assertThat(List.of(
                        ElasticsearchSender.id("b1", 0, "x"),
                        ElasticsearchSender.id("b1", 1, "x"),
                        ElasticsearchSender.id("b2", 0, "x"),
                        ElasticsearchSender.id("b1", 0, "y")))
                .doesNotHaveDuplicates()
                .allMatch(id -> id.length() < 512);
        assertThat(ElasticsearchSender.id("b1", 0, "x")).isEqualTo(ElasticsearchSender.id("b1", 0, "x"));
    }

    private void itemsAnswer(int... statuses) {
        StringBuilder items = new StringBuilder();
        for (int status : statuses) {
            items.append(items.isEmpty() ? "" : ",")
                    .append("{\"create\":{\"status\":")
                    .append(status);
            if (status >= 300) {
                items.append(",\"error\":{\"type\":\"type-").append(status).append("\",\"reason\":\"why\"}");
            }
            items.append("}}");
        }
        collector.says("{\"errors\":true,\"items\":[" + items + "]}");
    }

    @Test
    void what_is_there_already_has_arrived() {
        itemsAnswer(409, 201, 409);

        assertThatCode(() -> elasticsearch().send(three())).doesNotThrowAnyException();
    }

    @Test
    void one_item_to_be_retried_retries_the_batch() {
        itemsAnswer(201, 400, 429);

        assertThatThrownBy(() -> elasticsearch().send(three()))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("1 of 3")
                .hasMessageContaining("entry 3: 429 type-429 why");
    }

    @Test
    void items_refused_for_good_make_a_dead_letter() {
        itemsAnswer(201, 400, 400);

        assertThatThrownBy(() -> elasticsearch().send(three()))
                .isInstanceOf(PermanentDeliveryException.class)
                .hasMessageContaining("2 of 3")
                .hasMessageContaining("entry 2: 400 type-400 why");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "<html>a proxy speaks</html>",
                "{}",
                "{\"errors\":true,\"items\":[]}",
                "{\"errors\":true,\"items\":[{\"create\":{}},{},{\"create\":{\"status\":\"x\"}}]}"
            })
    void an_answer_that_cant_be_understood_is_no_success(String answer) {
        collector.says(answer);

        assertThatThrownBy(() -> elasticsearch().send(three())).isInstanceOf(IOException.class);
    }
}
