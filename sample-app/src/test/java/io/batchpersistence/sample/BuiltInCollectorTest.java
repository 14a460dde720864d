package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.springframework.test.web.servlet.request.MockMvcRequestBuilders.get;
import static org.springframework.test.web.servlet.request.MockMvcRequestBuilders.post;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.header;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.jsonPath;
import static org.springframework.test.web.servlet.result.MockMvcResultMatchers.status;

import io.batchpersistence.sample.BuiltInCollector.Received;
import io.batchpersistence.sample.BuiltInCollector.Stats;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.hamcrest.Matchers;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.test.web.servlet.MockMvc;
import org.springframework.test.web.servlet.ResultActions;
import org.springframework.test.web.servlet.setup.MockMvcBuilders;

class BuiltInCollectorTest {

    @TempDir
    Path directory;

    private final List<Duration> delays = new ArrayList<>();
    private BuiltInCollector collector;
    private MockMvc http;

    @BeforeEach
    void open() throws IOException {
        BuiltInCollectorProperties settings = new BuiltInCollectorProperties(
                true, directory.resolve("sub/received.ndjson"), Duration.ofSeconds(9), Duration.ofSeconds(3));
        collector = new BuiltInCollector(settings.file());
        http = MockMvcBuilders.standaloneSetup(new BuiltInCollectorController(collector, settings, delays::add))
                .setControllerAdvice(new LogControllerTest.Problems())
                .build();
    }

    @AfterEach
    void close() throws IOException {
        collector.close();
    }

    private void reopen() throws IOException {
        collector.close();
        open();
    }

    private ResultActions push(String... lines) throws Exception {
        StringBuilder values = new StringBuilder();
        for (String line : lines) {
            values.append(values.isEmpty() ? "" : ",")
                    .append("[\"1\",\"")
                    .append(line)
                    .append("\",{\"source_id\":\"f:")
                    .append(line)
                    .append("\",\"batch_id\":\"b\"}]");
        }
        return http.perform(post("/loki/api/v1/push")
                .contentType("application/json")
                .content("{\"streams\":[{\"stream\":{\"level\":\"info\"},\"values\":[" + values + "]}]}"));
    }

    private ResultActions bulk(String id, String message) throws Exception {
        return http.perform(post("/_bulk")
                .contentType("application/x-ndjson")
                .content("{\"create\":{\"_index\":\"logs\",\"_id\":\"" + id + "\"}}\n{\"message\":\"" + message
                        + "\",\"source_id\":\"s\",\"batch_id\":\"b\"}\n"));
    }

    @Test
    void counts_batches_entries_and_duplicates() throws Exception {
        push("a", "b").andExpect(status().isNoContent());
        push("b", "c").andExpect(status().isNoContent());

        http.perform(get("/collector/stats"))
                .andExpect(jsonPath("$.batches").value(2))
                .andExpect(jsonPath("$.entries").value(4))
                .andExpect(jsonPath("$.distinct").value(3))
                .andExpect(jsonPath("$.duplicates").value(1))
                .andExpect(jsonPath("$.mode").value("up"));
        reopen();
        assertThat(collector.stats()).isEqualTo(new Stats(2, 4, 3, 1, "up"));
    }

    @Test
    void writes_what_it_receives() throws Exception {
        push("a");
        bulk("1", "m");

        List<Received> received = new ArrayList<>();
        BuiltInCollector.readAll(directory.resolve("sub/received.ndjson"), received::add);
        assertThat(received)
                .containsExactly(
                        new Received(1, "loki", "b", "f:a", null, "1", "info", "a"),
                        new Received(2, "elasticsearch", "b", "s", "1", null, null, "m"));
    }

    @Test
    void goes_on_after_a_thread_was_interrupted() throws Exception {
        Thread.currentThread().interrupt();
        push("a").andExpect(status().isNoContent());
        assertThat(Thread.interrupted()).isTrue();

        push("b").andExpect(status().isNoContent());
        reopen();
        assertThat(collector.stats()).isEqualTo(new Stats(2, 2, 2, 0, "up"));
    }

    @Test
    void creates_a_document_once() throws Exception {
        bulk("1", "a").andExpect(status().isOk()).andExpect(jsonPath("$.errors").value(false));
        reopen();
        bulk("1", "a")
                .andExpect(status().isOk())
                .andExpect(jsonPath("$.errors").value(true))
                .andExpect(jsonPath("$.items[0].create.status").value(409));

        assertThat(collector.stats().entries()).isEqualTo(1);
    }

    @Test
    void cuts_off_what_a_dying_process_half_wrote() throws Exception {
        push("a");
        Files.writeString(directory.resolve("sub/received.ndjson"), "{\"push\":2,\"pro", StandardOpenOption.APPEND);
        reopen();
        push("b");
        reopen();

        assertThat(collector.stats()).isEqualTo(new Stats(2, 2, 2, 0, "up"));
    }

    @Test
    void does_not_touch_a_file_of_something_else() throws Exception {
        Path file = Files.writeString(directory.resolve("other"), "precious\nthings");

        assertThatThrownBy(() -> new BuiltInCollector(file).close())
                .isInstanceOf(IOException.class)
                .hasMessageContaining("line 1");
        assertThat(file).hasContent("precious\nthings");
    }

    @ParameterizedTest
    @CsvSource({"down, 503", "throttle, 429", "reject, 400", "unauthorized, 401"})
    void misbehaves_as_told(String mode, int answer) throws Exception {
        http.perform(post("/collector/mode/" + mode)).andExpect(status().isOk());
        http.perform(get("/collector/mode")).andExpect(jsonPath("$.mode").value(mode));
        push("a").andExpect(status().is(answer));
        bulk("1", "a").andExpect(status().is(answer));
        assertThat(collector.stats().entries()).isZero();

        http.perform(post("/collector/mode/up")).andExpect(status().isOk());
        push("a").andExpect(status().isNoContent());
    }

    @Test
    void asks_to_come_back_only_when_throttling() throws Exception {
        http.perform(post("/collector/mode/throttle"));
        push("a").andExpect(header().string("Retry-After", "3"));
        http.perform(post("/collector/mode/down"));
        push("a").andExpect(header().doesNotExist("Retry-After"));
    }

    @Test
    void is_slow_as_told() throws Exception {
        http.perform(post("/collector/mode/slow"));
        push("a").andExpect(status().isNoContent());

        assertThat(delays).containsExactly(Duration.ofSeconds(9));
    }

    @Test
    void names_the_modes_there_are() throws Exception {
        http.perform(post("/collector/mode/sleepy"))
                .andExpect(status().isBadRequest())
                .andExpect(jsonPath("$.detail")
                        .value(Matchers.endsWith("there are up, down, slow, throttle, reject, unauthorized")));
    }

    @ParameterizedTest
    @CsvSource(
            quoteCharacter = '`',
            value = {
                "/loki/api/v1/push, application/json, `{}`",
                "/loki/api/v1/push, application/json, `[`",
                "/loki/api/v1/push, application/json, `{\"streams\":[{\"stream\":{},\"values\":[[1,2]]}]}`",
                "/_bulk, application/x-ndjson, `{\"delete\":{}}`",
                "/_bulk, application/x-ndjson, `{\"create\":{}}`",
                "/_bulk, application/x-ndjson, `{\"create\":{}} {\"m\":1}`",
                "/_bulk, application/x-ndjson, `{`"
            })
    void refuses_what_is_no_push_and_no_bulk(String path, String type, String body) throws Exception {
        http.perform(post(path).contentType(type).content(body)).andExpect(status().isBadRequest());
    }
}
