package io.batchpersistence.spring.ui;

import static io.batchpersistence.spring.ui.PageApplication.PATH;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.BatchState;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.context.annotation.Configuration;
import org.springframework.util.StringUtils;
import org.springframework.web.servlet.config.annotation.CorsRegistry;
import org.springframework.web.servlet.config.annotation.WebMvcConfigurer;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The page's routes in an application without Spring Security. */
class OperatorPageTest extends PageTestBase {

    private static final String OWN_HEADER = OperatorPage.REQUEST_HEADER;

    private HttpResponse<String> get(String path, String... headers) throws Exception {
        return send(request(path).headers(headers));
    }

    private JsonNode json(String path) throws Exception {
        return json(get(PATH + "/api" + path));
    }

    private HttpResponse<String> post(String operation, String body) throws Exception {
        return post(operation, body, "Content-Type", "application/json", OWN_HEADER, "page");
    }

    private HttpResponse<String> post(String operation, String body, String... headers) throws Exception {
        return send(request(PATH + "/api/" + operation).headers(headers).POST(BodyPublishers.ofString(body)));
    }

    @Test
    void is_not_there_unless_it_is_switched_on() throws Exception {
        start(Nothing.class, "batch-persistence.ui.enabled=false");
        for (String path : List.of(
                PATH,
                PATH + "/",
                PATH + "/page.js",
                PATH + "/api",
                "/page.html",
                "/page.js",
                "/io/batchpersistence" + "/spring/ui/page.html")) {
            assertThat(get(path).statusCode()).as(path).isEqualTo(404);
        }
        assertThat(context.getBeansOfType(BacklogHistory.class)).isEmpty();
    }

    @Test
    void is_four_files_from_nowhere_else() throws Exception {
        start(Nothing.class);
        HttpResponse<String> redirect = get(PATH);
        assertThat(redirect.statusCode()).isEqualTo(302);
        assertThat(redirect.headers().firstValue("Location")).hasValue("batch-persistence/");

        HttpResponse<String> page = get(PATH + "/");
        assertThat(page.statusCode()).isEqualTo(200);
        assertThat(page.headers().firstValue("Content-Type")).hasValue("text/html;charset=utf-8");
        assertThat(page.body())
                .contains("page.css", "page.js")
                .doesNotContain("http:", "https:", "style=")
                .doesNotContainPattern("\\son\\w+=");
        for (Map.Entry<String, String> file : Map.of(
                        "/page.css", "text/css;charset=utf-8",
                        "/page.js", "text/javascript;charset=utf-8",
                        "/icon.svg", "image/svg+xml")
                .entrySet()) {
            HttpResponse<String> answer = get(PATH + file.getKey());
            assertThat(answer.statusCode()).as(file.getKey()).isEqualTo(200);
            assertThat(answer.headers().firstValue("Content-Type")).hasValue(file.getValue());
            String tag = answer.headers().firstValue("ETag").orElseThrow();
            assertThat(get(PATH + file.getKey(), "If-None-Match", tag).statusCode())
                    .isEqualTo(304);
        }
        assertThat(get(PATH + "/OperatorPage.class").statusCode()).isEqualTo(404);
        assertThat(get("/").body()).as("the application's own").isEqualTo("the application");
    }

    @Test
    void every_answer_keeps_the_page_to_itself() throws Exception {
        start(Nothing.class);
        for (HttpResponse<String> answer : List.of(
                get(PATH + "/"),
                get(PATH + "/api"),
                get(PATH + "/api/batches?limit=0"),
                get(PATH + "/api/batch?id=x"),
                post("replay", "{}"))) {
            String policy =
                    answer.headers().firstValue("Content-Security-Policy").orElse("");
            assertThat(policy)
                    .contains("default-src 'none'", "script-src 'self';", "frame-ancestors 'none'")
                    .doesNotContain("unsafe", "*");
            assertThat(answer.headers().firstValue("X-Content-Type-Options")).hasValue("nosniff");
            assertThat(answer.headers().firstValue("Referrer-Policy")).hasValue("no-referrer");
            assertThat(answer.headers().firstValue("Cache-Control").orElse(""))
                    .isEqualTo(answer.uri().getPath().endsWith("/") ? "no-cache" : "no-store");
        }
    }

    @Test
    void shows_what_is_held_but_no_entries() throws Exception {
        start(Nothing.class);
        deadLetter("dead", "loki", "HTTP 400: malformed");
        persist("waiting", "no one");

        assertThat(json("").at("/collectors/loki/dead/batches").asInt()).isEqualTo(1);
        assertThat(json("/batches").get("batches")).hasSize(2);
        assertThat(json("/batches?state=dead&collectorType=loki")
                        .at("/batches/0/id")
                        .asString())
                .isEqualTo("dead");
        JsonNode reasons = json("/reasons");
        assertThat(reasons.at("/reasons/0/reason").asString()).isEqualTo("HTTP 400: malformed");
        assertThat(reasons.at("/reasons/0/batches").asInt()).isEqualTo(1);
        JsonNode batch = json("/batch?id=dead");
        assertThat(batch.get("failureReason").asString()).isEqualTo("HTTP 400: malformed");
        assertThat(batch.toString()).doesNotContain("index.html", "tenant-of");
        assertThat(json("/history?minutes=10").get("at")).isNotEmpty();

        JsonNode session = json("/session");
        assertThat(session.get("access").asString()).isEqualTo("read_only");
        assertThat(session.get("application").asString()).isEqualTo("test-application");

        HttpResponse<String> unknown = get(PATH + "/api/batch?id=unknown");
        assertThat(unknown.statusCode()).isEqualTo(404);
        assertThat(unknown.body()).contains("\"message\"", "unknown");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "/batches?state=odd",
                "/batches?limit=0",
                "/batches?olderThan=soon",
                "/batches?sate=dead",
                "/batches?collectorType=256+LETTERS",
                "/batches?after=1001+LETTERS",
                "/reasons?id=256+LETTERS",
                "/batch?id=256+LETTERS",
                "/history?minutes=0",
                "/history?minutes=1441",
                "/history?minutes=many"
            })
    void says_what_is_wrong_with_a_request(String path) throws Exception {
        start(Nothing.class);
        HttpResponse<String> answer = get(PATH + "/api"
                + path.replace("1001+LETTERS", "x".repeat(1_001)).replace("256+LETTERS", "x".repeat(256)));
        assertThat(answer.statusCode()).as(answer.body()).isEqualTo(400);
        assertThat(answer.body()).hasSizeLessThan(1_000);
        assertThat(JsonMapper.shared().readTree(answer.body()).get("message").asString())
                .isNotBlank();
    }

    @Test
    void changes_nothing_where_it_is_read_only() throws Exception {
        start(Nothing.class);
        deadLetter("dead", "loki", "malformed");
        for (String operation : List.of("recover", "replay", "discard", "pause", "resume", "cleanup")) {
            HttpResponse<String> answer = post(operation, "{\"collectorType\":\"loki\"}");
            assertThat(answer.statusCode()).as(operation).isEqualTo(405);
            assertThat(answer.body()).contains("batch_persistence.ui.access");
        }
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
    }

    @Test
    void does_what_it_is_told_where_it_may() throws Exception {
        start(Nothing.class, UNRESTRICTED);
        for (int i = 0; i < 5; i++) {
            deadLetter("d" + i, "no one", i < 3 ? "HTTP 413" : "HTTP 400");
        }
        String filter = "{\"collectorType\":\"no one\",\"failureReason\":\"*413*\"";
        assertThat(JsonMapper.shared()
                        .readTree(post("replay", filter + ",\"dryRun\":true}").body()))
                .isEqualTo(JsonMapper.shared().readTree("{\"operation\":\"replay\",\"dryRun\":true,\"batches\":3}"));
        assertThat(json("/batches?state=dead").get("batches")).hasSize(5);
        assertThat(post("replay", filter + "}").body()).contains("\"batches\":3");
        assertThat(json("/batches?state=dead").get("batches")).hasSize(2);

        assertThat(post("pause", "{\"collectorType\":\"no one\"}").body()).contains("\"batches\":1");
        assertThat(persistence().pausedCollectorTypes()).containsExactly("no one");
        assertThat(post("discard", "{\"id\":[\"d3\",\"d4\"]}").body()).contains("\"batches\":2");
    }

    @Test
    void an_answer_to_what_is_not_understood_keeps_the_page_to_itself_too() throws Exception {
        start(Nothing.class, UNRESTRICTED);
        for (String body : List.of("null", "", "[]", "[".repeat(100_000), "{\"collectorType\":null}")) {
            for (String operation : List.of("recover", "replay", "discard", "pause", "resume", "cleanup")) {
                HttpResponse<String> answer = post(operation, body);
                assertThat(answer.statusCode()).as(answer.body()).isEqualTo(400);
                assertThat(answer.headers().firstValue("Content-Security-Policy"))
                        .isPresent();
            }
        }
        persistence().close();
        for (HttpResponse<String> answer : List.of(
                get(PATH + "/api"), get(PATH + "/api/reasons"), get(PATH + "/api/batches"), post("cleanup", "{}"))) {
            assertThat(answer.statusCode()).isEqualTo(500);
            assertThat(answer.headers().firstValue("Content-Security-Policy")).isPresent();
            assertThat(answer.body()).contains("\"message\"", "log");
        }
    }

    @Test
    void names_that_no_batch_can_have_are_refused() throws Exception {
        start(Nothing.class, UNRESTRICTED);
        String name = "\"collectorType\":\"" + "x".repeat(70_000) + "\"";
        for (String operation : List.of("recover", "replay", "discard", "pause", "resume")) {
            for (String more : List.of("", ",\"dryRun\":true")) {
                HttpResponse<String> answer = post(operation, "{" + name + more + "}");
                assertThat(answer.statusCode()).as(answer.body()).isEqualTo(400);
                assertThat(answer.body()).hasSizeLessThan(1_000).contains("at most");
            }
        }
        assertThat(persistence().pausedCollectorTypes()).isEmpty();
        assertThat(post("cleanup", "{}").statusCode()).isEqualTo(200);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "null",
                "[]",
                "nonsense",
                "{\"state\":\"dead\",\"colectorType\":\"otlp\"}",
                "{\"collectorType\":{\"a\":1}}",
                "{\"state\":\"dead\",\"collectorType\":null}",
                "{\"state\":\"dead\",\"collectorType\":\"\"}",
                "{\"state\":\"dead\",\"dryRun\":\"maybe\"}",
                "{\"state\":\"dead\",\"perSecond\":\"fast\"}"
            })
    void a_request_that_is_not_understood_changes_nothing(String body) throws Exception {
        start(Nothing.class, UNRESTRICTED);
        deadLetter("dead", "loki", "malformed");
        for (String operation : List.of("replay", "discard")) {
            assertThat(post(operation, body).statusCode()).as(operation).isEqualTo(400);
        }
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
    }

    /** A CORS configuration that allows everything to scripts of all origins. */
    @Configuration(proxyBeanMethods = false)
    static class Careless implements WebMvcConfigurer {
        @Override
        public void addCorsMappings(CorsRegistry registry) {
            registry.addMapping("/**")
                    .allowedOriginPatterns("*")
                    .allowedMethods("*")
                    .allowedHeaders("*")
                    .allowCredentials(true);
        }
    }

    @Test
    void no_other_origins_page_can_change_or_read_anything() throws Exception {
        start(Careless.class, UNRESTRICTED);
        deadLetter("dead", "loki", "malformed");
        String body = "{\"state\":\"dead\"}";
        List<HttpResponse<String>> forged = List.of(
                // Requests that a form can send.
                post("discard", body, "Content-Type", "text/plain"),
                post("discard", body, "Content-Type", "application/x-www-form-urlencoded"),
                post("discard", body, "Content-Type", "text/plain", OWN_HEADER, "page"),
                post("discard", body, "Content-Type", "application/json"),
                // Requests that a script can send.
                discardByScript("Origin", "http://evil.example"),
                discardByScript("Origin", "null"),
                discardByScript("Origin", url() + "0"),
                discardByScript("Sec-Fetch-Site", "cross-site"),
                discardByScript("Sec-Fetch-Site", "same-site"),
                discardByScript("Sec-Fetch-Site", "none"),
                get(PATH + "/api", "Sec-Fetch-Site", "cross-site"),
                get(PATH + "/api/batches", "Origin", "http://evil.example"));
        for (int i = 0; i < forged.size(); i++) {
            assertThat(forged.get(i).statusCode()).as("forged request " + i).isEqualTo(403);
        }
        assertThat(persistence().find("dead")).isPresent();
        assertThat(discardByScript("Origin", url(), "Sec-Fetch-Site", "same-origin")
                        .statusCode())
                .isEqualTo(200);
        assertThat(get(PATH + "/api", "Sec-Fetch-Site", "none").statusCode()).isEqualTo(200);
    }

    /** With what the page sends, too. */
    private HttpResponse<String> discardByScript(String... headers) throws Exception {
        String[] own = {"Content-Type", "application/json", OWN_HEADER, "page"};
        return post("discard", "{\"state\":\"dead\"}", StringUtils.concatenateStringArrays(own, headers));
    }

    @Test
    void a_large_request_is_refused() throws Exception {
        start(Nothing.class, UNRESTRICTED);
        assertThat(post("discard", "{\"id\":\"" + "x".repeat(1 << 20) + "\"}").statusCode())
                .isEqualTo(413);
    }

    @Test
    void the_json_does_not_depend_on_the_applications_own() throws Exception {
        start(
                Nothing.class,
                "spring.jackson.property-naming-strategy=SNAKE_CASE",
                "spring.jackson.datatype.datetime.write-dates-as-timestamps=true");
        deadLetter("dead", "loki", "malformed");
        JsonNode batch = json("/batch?id=dead");
        assertThat(batch.get("createdAt").isString()).isTrue();
    }

    @Test
    void is_where_it_is_told_to_be() throws Exception {
        start(
                Nothing.class,
                "batch-persistence.ui.path=/internal/batches",
                "server.servlet.context-path=/shop",
                "spring.mvc.servlet.path=/app");
        HttpResponse<String> redirect = get("/shop/app/internal/batches");
        assertThat(redirect.headers().firstValue("Location")).hasValue("batches/");
        assertThat(get("/shop/app/internal/batches/").statusCode()).isEqualTo(200);
        assertThat(get("/shop/app/internal/batches/api").statusCode()).isEqualTo(200);
        assertThat(get("/shop/app" + PATH + "/").statusCode()).isEqualTo(404);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "/", "batches", "/batches/", "/{x}", "/**", "/a b", "//"})
    void a_path_that_cant_be_meant_stops_the_start(String path) {
        assertThatThrownBy(() -> start(Nothing.class, "batch-persistence.ui.path=" + path))
                .rootCause()
                .hasMessageContaining("ui.path");
    }

    @Test
    void is_not_there_where_no_batches_are_kept() throws Exception {
        start(Nothing.class, "batch-persistence.enabled=false");
        assertThat(get(PATH + "/").statusCode()).isEqualTo(404);
    }
}
