package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.entry;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.spring.ApplicationTestBase;
import java.lang.management.ManagementFactory;
import java.net.URLEncoder;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.management.MBeanOperationInfo;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.security.autoconfigure.actuate.web.servlet.EndpointRequest;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.http.HttpMethod;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.provisioning.InMemoryUserDetailsManager;
import org.springframework.security.web.SecurityFilterChain;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The endpoint over HTTP, with and without Spring Security, and over JMX. */
class EndpointTest extends ApplicationTestBase {

    private static final String BASE = "/actuator/batchpersistence";
    private static final List<LogEntry> ENTRIES = List.of(
            LogEntry.of(Instant.EPOCH, "INFO", "secret message"), LogEntry.of(Instant.EPOCH, "WARN", "another secret"));

    private @Nullable String user;

    private BatchPersistence start(Class<?> application, String... properties) {
        context = application(application)
                .properties(
                        "management.endpoints.web.exposure.include=*",
                        "batch-persistence.recovery.interval=1h",
                        application == Application.class ? WithoutSecurity.PROPERTY : "")
                .properties(properties)
                .run();
        return persistence();
    }

    private BatchPersistence startUnrestricted(String... properties) {
        List<String> all = new ArrayList<>(List.of(properties));
        all.add("management.endpoint.batchpersistence.access=unrestricted");
        return start(Application.class, all.toArray(String[]::new));
    }

    @Override
    protected HttpRequest.Builder request(String path) {
        HttpRequest.Builder request = super.request(path);
        if (user != null) {
            String login = Base64.getEncoder().encodeToString((user + ":pw").getBytes(StandardCharsets.UTF_8));
            request.header("Authorization", "Basic " + login);
        }
        return request;
    }

    private HttpResponse<String> post(String operation, String body) throws Exception {
        return send(request(BASE + "/" + operation)
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(body)));
    }

    private long done(String operation, String body) throws Exception {
        JsonNode result = json(post(operation, body));
        assertThat(result.get("operation").asString()).isEqualTo(operation);
        assertThat(result.get("dryRun").asBoolean()).isEqualTo(body.contains("dryRun"));
        return result.get("batches").asLong();
    }

    private static void dead(BatchPersistence persistence, String id, String type, String reason) {
        persistence.persistBatch(id, ENTRIES, type, Map.of("tenant", "secret tenant"));
        persistence.markBatchFailed(id, new PermanentDeliveryException(reason));
    }

    private static void pending(BatchPersistence persistence, String id, String type, String reason) {
        persistence.persistBatch(id, ENTRIES, type);
        persistence.markBatchFailed(id, reason);
    }

    // ---- reading ---------------------------------------------------------------------------------

    @Test
    void the_summary_has_everything_of_every_collector_type() throws Exception {
        BatchPersistence persistence = start(Application.class);
        dead(persistence, "dead", "loki", "malformed");
        pending(persistence, "waiting", "loki", "HTTP 503");
        persistence.persistBatch("flying", ENTRIES, "otlp");
        persistence.pause("otlp");

        JsonNode summary = json(get(BASE));
        assertThat(Instant.parse(summary.get("at").asString())).isBeforeOrEqualTo(Instant.now());
        assertThat(summary.get("batches").asInt()).isEqualTo(3);
        assertThat(summary.get("maxBatches").asInt()).isEqualTo(1_000_000);
        assertThat(summary.get("diskUsage").asLong()).isPositive();
        assertThat(summary.get("fillLevel").asDouble()).isBetween(0.0, 1.0);
        JsonNode loki = summary.at("/collectors/loki");
        assertThat(loki.at("/pending/batches").asInt()).isOne();
        assertThat(loki.at("/pending/entries").asInt()).isEqualTo(2);
        assertThat(loki.at("/pending/bytes").asInt()).isPositive();
        assertThat(loki.at("/pending/oldest").asString()).startsWith("20");
        assertThat(loki.at("/dead/batches").asInt()).isOne();
        assertThat(loki.at("/dead/oldest").asString()).startsWith("20");
        assertThat(Instant.parse(loki.get("nextAttemptAt").asString())).isAfter(Instant.EPOCH);
        assertThat(loki.get("accepted").asInt()).isEqualTo(2);
        assertThat(loki.get("failedAttempts").asInt()).isEqualTo(2);
        assertThat(loki.get("balanced").asBoolean()).isTrue();
        assertThat(loki.at("/lane/state").asString()).isEqualTo("CLOSED");
        assertThat(summary.at("/collectors/otlp/inFlight/batches").asInt()).isOne();
        assertThat(summary.at("/collectors/otlp/lane/paused").asBoolean()).isTrue();
    }

    @Test
    void the_list_has_every_condition_of_a_selector() throws Exception {
        BatchPersistence persistence = start(Application.class);
        dead(persistence, "dead", "loki", "malformed");
        pending(persistence, "waiting", "otlp", "HTTP 503");
        persistence.persistBatch("flying, with a comma", ENTRIES, "otlp");

        String all = get(BASE + "/batches").body();
        assertThat(all).contains("\"dead\"", "\"waiting\"", "malformed").doesNotContain("secret");
        for (String filter : List.of(
                "state=dead",
                "collectorType=loki",
                "failureReason=mal*",
                "state=DEAD&limit=1",
                "state=dead,in-flight&limit=1&order=oldest_first",
                "id=dead",
                "minRetries=0&maxRetries=0&limit=1",
                "olderThan=0s&youngerThan=1h&failureReason=m*")) {
            assertThat(ids(filter)).as(filter).containsExactly("dead");
        }
        assertThat(ids("order=newest_first")).containsExactly("flying, with a comma", "waiting", "dead");
        assertThat(ids("olderThan=1h")).isEmpty();
        assertThat(ids("minRetries=1")).containsExactly("waiting");
        JsonNode batch = json(get(BASE + "/batches?state=pending")).at("/batches/0");
        assertThat(batch.get("state").asString()).isEqualTo(BatchState.PENDING.name());
        assertThat(batch.get("entryCount").asInt()).isEqualTo(2);
        assertThat(batch.get("failureReason").asString()).isEqualTo("HTTP 503");
    }

    private List<String> ids(String filter) throws Exception {
        List<String> ids = new ArrayList<>();
        json(get(BASE + "/batches?" + filter))
                .get("batches")
                .forEach(batch -> ids.add(batch.get("id").asString()));
        return ids;
    }

    @Test
    void pages_have_each_batch_once_whatever_comes_and_goes() throws Exception {
        BatchPersistence persistence = start(Application.class);
        for (int i = 0; i < 25; i++) {
            pending(persistence, "b" + i, "loki", "HTTP 503");
        }
        List<String> seen = new ArrayList<>();
        String next = "";
        do {
            JsonNode page = json(get(BASE + "/batches?limit=10" + next));
            page.get("batches").forEach(batch -> seen.add(batch.get("id").asString()));
            persistence.markBatchSuccess(seen.get(seen.size() - 1));
            JsonNode after = page.get("next");
            next = after == null || after.isNull() ? "" : "&after=" + after.asString();
        } while (!next.isEmpty());
        Set<String> expected = new HashSet<>();
        for (int i = 0; i < 25; i++) {
            expected.add("b" + i);
        }
        assertThat(seen).doesNotHaveDuplicates().containsExactlyInAnyOrderElementsOf(expected);
    }

    @Test
    void reasons_are_grouped() throws Exception {
        BatchPersistence persistence = start(Application.class);
        for (int i = 0; i < 3; i++) {
            pending(persistence, "b" + i, "loki", "HTTP 503");
        }
        dead(persistence, "dead", "otlp", "malformed");
        JsonNode reasons = json(get(BASE + "/reasons")).get("reasons");
        assertThat(reasons).hasSize(2);
        assertThat(reasons.at("/0/reason").asString()).isEqualTo("HTTP 503");
        assertThat(reasons.at("/0/collectorType").asString()).isEqualTo("loki");
        assertThat(reasons.at("/0/batches").asInt()).isEqualTo(3);
        assertThat(Instant.parse(reasons.at("/0/firstFailure").asString()))
                .isBeforeOrEqualTo(Instant.parse(reasons.at("/0/lastFailure").asString()));
        assertThat(json(get(BASE + "/reasons?state=dead"))
                        .at("/reasons/0/reason")
                        .asString())
                .isEqualTo("malformed");
    }

    @Test
    void one_batch_is_shown_with_its_history_and_by_default_without_what_is_in_it() throws Exception {
        BatchPersistence persistence = start(Application.class);
        String id = "a/b,c ?&ü";
        persistence.persistBatch(id, ENTRIES, "loki", Map.of("tenant", "secret tenant"));
        persistence.markBatchFailed(id, "first");
        persistence.recover(BatchSelector.all());
        HttpResponse<String> response = get(BASE + "/batch?id=" + URLEncoder.encode(id, StandardCharsets.UTF_8));
        JsonNode batch = json(response);
        assertThat(batch.get("id").asString()).isEqualTo(id);
        assertThat(batch.get("failureReason").asString()).isEqualTo("first");
        assertThat(batch.get("earlierFailures").isArray()).isTrue();
        assertThat(batch.get("entriesShown").asBoolean()).isFalse();
        assertThat(response.body()).doesNotContain("secret");
        HttpResponse<String> unknown = get(BASE + "/batch?id=unknown");
        assertThat(unknown.statusCode()).isEqualTo(404);
        assertThat(unknown.body()).contains("no batch 'unknown' is held");
        assertThat(get(BASE + "/batch").statusCode()).isEqualTo(400);
    }

    @Test
    void entries_are_shown_where_that_is_configured() throws Exception {
        BatchPersistence persistence = start(Application.class, "batch-persistence.endpoint.show-entries=always");
        dead(persistence, "dead", "loki", "malformed");
        JsonNode batch = json(get(BASE + "/batch?id=dead"));
        assertThat(batch.get("entriesShown").asBoolean()).isTrue();
        assertThat(batch.at("/entries/0/message").asString()).isEqualTo("secret message");
        assertThat(batch.at("/context/tenant").asString()).isEqualTo("secret tenant");
        assertThat(get(BASE + "/batches").body()).as("lists never show them").doesNotContain("secret");
        persistence.persistBatch("large", Collections.nCopies(1_001, ENTRIES.get(0)), "loki");
        JsonNode large = json(get(BASE + "/batch?id=large"));
        assertThat(large.get("entryCount").asInt()).isEqualTo(1_001);
        assertThat(large.get("entries")).as("not more than a person reads").hasSize(1_000);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "batches?limit=0|400|limit must be a number from 1 to 1000, but is '0'",
                "batches?limit=1001|400|limit must be a number from 1 to 1000",
                "batches?limit=x|400|limit must be a number",
                "batches?state=odd|400|state must be one of in_flight, pending, dead, but is 'odd'",
                "batches?order=sideways|400|order must be one of oldest_first, newest_first, but is 'sideways'",
                "batches?olderThan=yesterday|400|olderThan must be a duration such as 90s, 1h or 7d",
                "batches?youngerThan=-1s|400|youngerThan must be a duration",
                "batches?minRetries=3&maxRetries=2|400|minRetries is 3, but must be at most maxRetries, which is 2",
                "batches?after=x|400|after must be what",
                "reasons?state=odd|400|state must be one of",
                "entries|404|there are batches, reasons and batch"
            })
    void what_makes_no_sense_is_refused_and_says_what_to_change(String path, int status, String message)
            throws Exception {
        start(Application.class);
        HttpResponse<String> response = get(BASE + "/" + path);
        assertThat(response.statusCode()).isEqualTo(status);
        assertThat(JsonMapper.shared().readTree(response.body()).get("message").asString())
                .contains(message);
    }

    // ---- writing ---------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"recover", "replay", "discard", "pause", "resume", "cleanup"})
    void nothing_is_changed_unless_access_is_raised(String operation) throws Exception {
        start(Application.class);
        HttpResponse<String> response = post(operation, "{\"collectorType\":\"loki\",\"dryRun\":true}");
        assertThat(response.statusCode()).isEqualTo(405);
    }

    @Test
    void pending_batches_are_made_due() throws Exception {
        BatchPersistence persistence = startUnrestricted();
        pending(persistence, "a", "loki", "HTTP 503");
        pending(persistence, "b", "otlp", "HTTP 503");
        assertThat(done("recover", "{\"collectorType\":\"loki\",\"dryRun\":true}"))
                .isOne();
        assertThat(done("recover", "{\"failureReason\":\"*503\",\"limit\":1}")).isOne();
        assertThat(persistence.find("a").orElseThrow().nextAttemptAt()).isBeforeOrEqualTo(Instant.now());
        assertThat(done("recover", "{}")).isEqualTo(2);
    }

    @Test
    void dead_letters_are_replayed() throws Exception {
        BatchPersistence persistence = startUnrestricted();
        for (int i = 0; i < 5; i++) {
            dead(persistence, "dead" + i, "loki", i == 0 ? "too large" : "HTTP 401");
        }
        pending(persistence, "waiting", "loki", "HTTP 503");
        assertThat(done("replay", "{\"failureReason\":\"*401\",\"dryRun\":true}"))
                .isEqualTo(4);
        assertThat(persistence.stats().total().dead()).as("only counted").isEqualTo(5);
        assertThat(done("replay", "{\"failureReason\":\"*401\",\"limit\":2,\"perSecond\":0.5}"))
                .isEqualTo(2);
        assertThat(persistence.stats().total().dead()).isEqualTo(3);
        Instant first = persistence.find("dead1").orElseThrow().nextAttemptAt();
        assertThat(persistence.find("dead2").orElseThrow().nextAttemptAt()).isEqualTo(first.plusSeconds(2));
        assertThat(done("replay", "{}")).isEqualTo(3);
    }

    @Test
    void batches_are_discarded_if_it_is_said_which() throws Exception {
        BatchPersistence persistence = startUnrestricted();
        dead(persistence, "dead", "loki", "malformed");
        pending(persistence, "waiting", "loki", "HTTP 503");
        persistence.persistBatch("flying", ENTRIES, "loki");
        HttpResponse<String> all = post("discard", "{\"limit\":5}");
        assertThat(all.statusCode()).isEqualTo(400);
        assertThat(all.body()).contains("discard removes batches for good, so it must be said which");
        assertThat(done("discard", "{\"collectorType\":\"loki\",\"dryRun\":true}"))
                .as("not what is in flight")
                .isEqualTo(2);
        assertThat(done("discard", "{\"state\":\"dead\"}")).isOne();
        assertThat(persistence.find("dead")).isEmpty();
        assertThat(done("discard", "{\"state\":\"pending,in_flight\",\"id\":\"flying\"}"))
                .isOne();
        assertThat(persistence.find("waiting")).isPresent();
        assertThat(persistence.stats().total().discarded()).isEqualTo(2);
    }

    @Test
    void a_collector_type_is_paused_and_resumed() throws Exception {
        BatchPersistence persistence = startUnrestricted();
        assertThat(done("pause", "{\"collectorType\":\"loki\",\"dryRun\":true}"))
                .isOne();
        assertThat(persistence.pausedCollectorTypes()).isEmpty();
        assertThat(done("pause", "{\"collectorType\":\"loki\"}")).isOne();
        assertThat(done("pause", "{\"collectorType\":\"loki\"}")).isZero();
        assertThat(persistence.pausedCollectorTypes()).containsExactly("loki");
        assertThat(done("resume", "{\"collectorType\":\"loki\"}")).isOne();
        assertThat(persistence.pausedCollectorTypes()).isEmpty();
    }

    @Test
    void cleanup_is_done_now() throws Exception {
        BatchPersistence persistence = startUnrestricted("batch-persistence.dead-letter-ttl=1ms");
        dead(persistence, "dead", "loki", "malformed");
        long expired = 0;
        // Repeat until the batch is at least a millisecond old.
        while (expired == 0) {
            expired = done("cleanup", "{}");
        }
        assertThat(persistence.find("dead")).isEmpty();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "pause|{}|400|collectorType must be named, exactly one",
                "pause|{\"collectorType\":\"LONG\"}|400|collector type must have at most 255 characters",
                "resume|{\"collectorType\":\"LONG\"}|400|collector type must have at most 255 characters",
                "pause|{\"collectorType\":\" \"}|400|collector type must not be blank",
                "recover|{\"collectorType\":\"LONG\"}|400|collectorType must have at most 1000 characters",
                "replay|{\"id\":\"LONG\"}|400|id must have at most 1000 characters",
                "discard|{\"failureReason\":\"LONG\"}|400|a glob must have at most 8192 characters",
                "discard|{\"state\":\"dead\",\"collectorType\":\" \"}|400|collectorType must not be blank",
                "discard|{\"state\":\"dead\",\"id\":\"\"}|400|id must not be blank",
                "resume|{\"state\":\"dead\"}|400|collectorType must be named, exactly one",
                "replay|{\"state\":\"pending\"}|400|replay is for batches that are dead",
                "recover|{\"state\":\"dead\"}|400|recover is for batches that are pending",
                "replay|{\"perSecond\":-1}|400|perSecond must be a positive number",
                "recover|{\"perSecond\":1}|400|perSecond must be a positive number, and is for replay only",
                "cleanup|{\"dryRun\":true}|400|cleanup has no dry run",
                "replay|{\"id\":\"x,y\"}|404|no batch 'x,y' is held",
                "discard|{\"id\":\"x\"}|404|no batch 'x' is held",
                "explode|{}|404|there are recover, replay, discard, pause, resume and cleanup"
            })
    void operations_that_make_no_sense_are_refused(String operation, String body, int status, String message)
            throws Exception {
        startUnrestricted();
        HttpResponse<String> response = post(operation, body.replace("LONG", "x".repeat(70_000)));
        assertThat(response.statusCode()).as(response.body()).isEqualTo(status);
        assertThat(JsonMapper.shared().readTree(response.body()).get("message").asString())
                .contains(message);
    }

    // ---- Spring Security -------------------------------------------------------------------------

    @Test
    void with_spring_security_each_operation_needs_its_role() throws Exception {
        BatchPersistence persistence = start(
                SecuredApplication.class,
                "management.endpoint.batchpersistence.access=unrestricted",
                "batch-persistence.endpoint.show-entries=when_authorized",
                "batch-persistence.endpoint.roles=AUDITOR");
        dead(persistence, "dead", "loki", "malformed");
        assertThat(get(BASE).statusCode()).isEqualTo(401);
        user = "viewer";
        assertThat(json(get(BASE)).get("batches").asInt()).isOne();
        assertThat(json(get(BASE + "/batch?id=dead")).get("entriesShown").asBoolean())
                .isFalse();
        for (String operation : List.of("recover", "replay", "discard", "pause", "resume", "cleanup")) {
            assertThat(post(operation, "{\"collectorType\":\"loki\"}").statusCode())
                    .as(operation)
                    .isEqualTo(403);
        }
        assertThat(persistence.stats().total().dead()).isOne();
        user = "operator";
        assertThat(json(get(BASE + "/batch?id=dead")).get("entriesShown").asBoolean())
                .as("no auditor")
                .isFalse();
        assertThat(done("replay", "{\"collectorType\":\"loki\"}")).isOne();
        user = "auditor";
        assertThat(json(get(BASE + "/batch?id=dead")).at("/entries/0/message").asString())
                .isEqualTo("secret message");
        assertThat(post("replay", "{}").statusCode()).isEqualTo(403);
    }

    // ---- JMX -------------------------------------------------------------------------------------

    @Test
    @SuppressWarnings("unchecked")
    void everything_works_over_jmx() throws Exception {
        BatchPersistence persistence = startUnrestricted(
                "spring.jmx.enabled=true",
                "spring.jmx.unique-names=true",
                "management.endpoints.jmx.exposure.include=batchpersistence");
        dead(persistence, "dead", "loki", "malformed");
        MBeanServer server = ManagementFactory.getPlatformMBeanServer();
        ObjectName name = server.queryNames(
                        new ObjectName("org.springframework.boot:type=Endpoint,name=Batchpersistence,*"), null)
                .iterator()
                .next();
        assertThat((Map<String, Object>) call(server, name, "summary", Map.of()))
                .contains(entry("batches", 1L));
        assertThat(String.valueOf(call(server, name, "view", Map.of("view", "reasons"))))
                .contains("malformed");
        assertThat(String.valueOf(call(server, name, "view", Map.of("view", "batch", "id", "dead"))))
                .contains("entriesShown=false");
        assertThat(String.valueOf(call(server, name, "view", Map.of("view", "batches", "state", List.of("odd")))))
                .contains("400", "state must be one of");
        assertThat((Map<String, Object>)
                        call(server, name, "operate", Map.of("operation", "replay", "collectorType", "loki")))
                .contains(entry("batches", 1L));
        assertThat(persistence.stats().total().dead()).isZero();
    }

    private static Object call(MBeanServer server, ObjectName name, String operation, Map<String, Object> arguments)
            throws Exception {
        for (MBeanOperationInfo info : server.getMBeanInfo(name).getOperations()) {
            if (info.getName().equals(operation)) {
                var signature = info.getSignature();
                Object[] values = new Object[signature.length];
                String[] types = new String[signature.length];
                for (int i = 0; i < signature.length; i++) {
                    values[i] = arguments.get(signature[i].getName());
                    types[i] = signature[i].getType();
                }
                return server.invoke(name, operation, values, types);
            }
        }
        throw new AssertionError("no operation " + operation);
    }

    // ---- applications ----------------------------------------------------------------------------

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {}

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class SecuredApplication {

        @Bean
        SecurityFilterChain security(HttpSecurity http) throws Exception {
            return http.authorizeHttpRequests(requests -> requests.requestMatchers(
                                    EndpointRequest.to("batchpersistence").withHttpMethod(HttpMethod.POST))
                            .hasRole("OPERATOR")
                            .anyRequest()
                            .authenticated())
                    .httpBasic(Customizer.withDefaults())
                    .csrf(csrf -> csrf.ignoringRequestMatchers(EndpointRequest.toAnyEndpoint()))
                    .build();
        }

        @Bean
        InMemoryUserDetailsManager users() {
            return new InMemoryUserDetailsManager(
                    user("viewer", "VIEWER"), user("operator", "OPERATOR"), user("auditor", "AUDITOR"));
        }
    }
}
