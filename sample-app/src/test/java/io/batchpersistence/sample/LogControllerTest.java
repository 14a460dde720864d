package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.springframework.test.web.servlet.request.MockMvcRequestBuilders.post;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.header;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.jsonPath;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.status;

import io.batchpersistence.LogEntry;
import io.batchpersistence.test.ManualClock;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.hamcrest.Matchers;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.boot.context.properties.source.MapConfigurationPropertySource;
import org.springframework.http.HttpStatus;
import org.springframework.test.web.servlet.MockMvc;
import org.springframework.test.web.servlet.ResultActions;
import org.springframework.test.web.servlet.request.MockHttpServletRequestBuilder;
import org.springframework.test.web.servlet.setup.MockMvcBuilders;
import org.springframework.web.bind.annotation.ControllerAdvice;
import org.springframework.web.servlet.mvc.method.annotation.ResponseEntityExceptionHandler;

class LogControllerTest {

    private static final int MAX_BYTES = 2000;

    private final FakeOutbox outbox = new FakeOutbox();
    private final MockMvc http = MockMvcBuilders.standaloneSetup(new LogController(
                    outbox,
                    new EntryParser(new ManualClock(Instant.parse("2026-03-01T12:00:00Z"))),
                    new ShipperStats(),
                    Set.of("loki", "elasticsearch"),
                    settings()))
            .setControllerAdvice(new Problems())
            .build();

    /** Like spring.mvc.problemdetails.enabled. */
    @ControllerAdvice
    static final class Problems extends ResponseEntityExceptionHandler {}

    private static ShipperProperties settings() {
        return new Binder(new MapConfigurationPropertySource(Map.of("shipper.max-request-size", MAX_BYTES + "B")))
                .bindOrCreate("shipper", ShipperProperties.class);
    }

    private ResultActions text(String body) throws Exception {
        return http.perform(post("/logs").contentType("text/plain").content(body));
    }

    private ResultActions ndjson(String body) throws Exception {
        return http.perform(post("/logs").contentType("application/x-ndjson").content(body));
    }

    @Test
    void answers_quote_little_of_what_is_wrong() throws Exception {
        String secret = "hunter2".repeat(200);
        for (String line : List.of(
                "{\"message\":{\"a\":\"" + secret + "\"}}",
                "{\"message\":\"x\",\"labels\":[\"" + secret + "\"]}",
                "{\"message\":\"x\",\"fields\":\"" + secret + "\"}",
                "{\"message\":" + secret + "}")) {
            ndjson(line)
                    .andExpect(status().isBadRequest())
                    .andExpect(jsonPath("$.detail").value(Matchers.not(Matchers.containsString("hunter2"))));
        }
        ndjson("{\"message\":\"x\",\"timestamp\":\"" + secret + "\"}")
                .andExpect(status().isBadRequest())
                .andExpect(jsonPath("$.detail").value(Matchers.hasLength(Matchers.lessThan(200))));
        ndjson("{\"message\":\"x\",\"a\":" + "[".repeat(1_000)).andExpect(status().isBadRequest());
        assertThat(outbox.taken).isEmpty();
    }

    private LogEntry entry(int number) {
        return outbox.taken.get(0).entries().get(number);
    }

    @Test
    void takes_one_entry_a_line() throws Exception {
        text("one\r\n\n[warn] two\u20ac\n")
                .andExpect(status().isAccepted())
                .andExpect(jsonPath("$.entries").value(2));

        assertThat(outbox.messages()).containsExactly("one", "[warn] two\u20ac");
        assertThat(outbox.taken.get(0).collectorType()).isEqualTo("loki");
        assertThat(entry(1).level()).isEqualTo("WARN");
        assertThat(entry(1).sourceId()).isEqualTo(outbox.taken.get(0).id() + ":3");
    }

    @Test
    void answers_with_the_id_of_the_batch() throws Exception {
        String answer = text("x").andReturn().getResponse().getContentAsString();

        assertThat(answer).contains("\"batchId\":\"" + outbox.taken.get(0).id() + "\"");
    }

    @Test
    void takes_one_object_a_line() throws Exception {
        ndjson("""
                {"timestamp":"2026-01-31T12:00:00.123456789+01:00","level":"INFO","message":"sold",\
                "labels":{"app":"shop"},"fields":{"items":3},"source_type":"till","source_id":"till-7",\
                "trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","other":[1,null]}

                {"message":""}
                """)
                .andExpect(status().isAccepted())
                .andExpect(jsonPath("$.entries").value(2));

        LogEntry first = entry(0);
        assertThat(first.timestamp()).isEqualTo(Instant.parse("2026-01-31T11:00:00.123456789Z"));
        assertThat(first.level()).isEqualTo("INFO");
        assertThat(first.message()).isEqualTo("sold");
        assertThat(first.labels()).isEqualTo(Map.of("app", "shop"));
        assertThat(first.fields()).containsEntry("items", 3L).containsKey("other");
        assertThat(first.sourceType()).isEqualTo("till");
        assertThat(first.sourceId()).isEqualTo("till-7");
        assertThat(first.traceId()).isEqualTo("0af7651916cd43dd8448eb211c80319c");
        assertThat(first.spanId()).isEqualTo("b7ad6b7169203331");
        assertThat(entry(1).timestamp()).isEqualTo(Instant.parse("2026-03-01T12:00:00.000000001Z"));
    }

    @ParameterizedTest
    @CsvSource(
            quoteCharacter = '`',
            value = {
                "`[1]`, JSON object",
                "`\"text\"`, JSON object",
                "`null`, is null",
                "`{\"message\":\"x\"} trailing`, not valid JSON",
                "`{\"message\":`, not valid JSON",
                "`{\"level\":\"INFO\"}`, no 'message'",
                "`{\"message\":7}`, 'message' must be a text",
                "`{\"message\":\"x\",\"labels\":{\"a\":1}}`, label 'a' must be a text",
                "`{\"message\":\"x\",\"labels\":[]}`, 'labels' must be an object",
                "`{\"message\":\"x\",\"timestamp\":\"yesterday\"}`, 'timestamp' must be like",
                "`{\"message\":\"x\",\"timestamp\":\"9999-01-01T00:00:00Z\"}`, out of range"
            })
    void says_which_line_is_bad_and_takes_none(String line, String reason) throws Exception {
        ndjson("{\"message\":\"good\"}\n" + line + "\n")
                .andExpect(status().isBadRequest())
                .andExpect(header().string("Content-Type", "application/problem+json"))
                .andExpect(jsonPath("$.detail")
                        .value(Matchers.allOf(Matchers.startsWith("line 2: "), Matchers.containsString(reason))));

        assertThat(outbox.taken).isEmpty();
    }

    @ParameterizedTest
    @CsvSource({"text/plain", "application/x-ndjson"})
    void refuses_a_body_without_entries(String type) throws Exception {
        http.perform(post("/logs").contentType(type).content(" \n\n"))
                .andExpect(status().isBadRequest())
                .andExpect(jsonPath("$.detail").value(Matchers.containsString("no entries")));
    }

    @Test
    void refuses_other_types_and_encodings() throws Exception {
        http.perform(post("/logs").contentType("application/xml").content("<x/>"))
                .andExpect(status().isUnsupportedMediaType());
        http.perform(post("/logs").content("x")).andExpect(status().isUnsupportedMediaType());
        http.perform(post("/logs")
                        .contentType("text/plain")
                        .header("Content-Encoding", "gzip")
                        .content("x"))
                .andExpect(status().isUnsupportedMediaType());
    }

    @Test
    void refuses_what_is_too_large() throws Exception {
        text("x".repeat(MAX_BYTES)).andExpect(status().isAccepted());
        text("x".repeat(MAX_BYTES + 1))
                .andExpect(status().is(HttpStatus.CONTENT_TOO_LARGE.value()))
                .andExpect(jsonPath("$.detail").value(Matchers.containsString("shipper.max_request_size")));
    }

    @Test
    void sends_to_the_collector_asked_for() throws Exception {
        http.perform(post("/logs?collector=elasticsearch")
                        .contentType("text/plain")
                        .content("x"))
                .andExpect(status().isAccepted());
        http.perform(post("/logs?collector=splunk").contentType("text/plain").content("x"))
                .andExpect(status().isBadRequest())
                .andExpect(
                        jsonPath("$.detail").value("there is no collector 'splunk'; there are [elasticsearch, loki]"));

        assertThat(outbox.taken).hasSize(1);
        assertThat(outbox.taken.get(0).collectorType()).isEqualTo("elasticsearch");
    }

    @Test
    void asks_to_come_back_when_the_batch_was_refused() throws Exception {
        outbox.refusesCollector = collector -> true;
        text("x")
                .andExpect(status().isServiceUnavailable())
                .andExpect(header().string("Retry-After", "5"))
                .andExpect(jsonPath("$.detail").value("full"));
    }

    private ResultActions withKey(String key, String body) throws Exception {
        MockHttpServletRequestBuilder request = post("/logs").contentType("text/plain");
        return http.perform(request.header("Idempotency-Key", key).content(body));
    }

    @Test
    void takes_a_repeated_request_once() throws Exception {
        withKey("k", "x\ny")
                .andExpect(status().isAccepted())
                .andExpect(jsonPath("$.batchId").value("k"));
        withKey("k", "x\ny")
                .andExpect(status().isAccepted())
                .andExpect(jsonPath("$.batchId").value("k"));

        assertThat(outbox.taken).hasSize(1);
    }

    @Test
    void refuses_a_key_that_stands_for_other_content() throws Exception {
        withKey("k", "x").andExpect(status().isAccepted());
        withKey("k", "y")
                .andExpect(status().is(HttpStatus.UNPROCESSABLE_CONTENT.value()))
                .andExpect(jsonPath("$.detail").value(Matchers.containsString("other content")));
    }
}
