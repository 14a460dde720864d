package io.batchpersistence.spring.ui;

import static io.batchpersistence.spring.ui.PageApplication.PATH;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchState;
import java.net.CookieManager;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.junit.jupiter.api.Test;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.http.HttpMethod;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.provisioning.InMemoryUserDetailsManager;
import org.springframework.security.web.SecurityFilterChain;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The page in an application with Spring Security, roles and CSRF protection. */
class OperatorPageSecurityTest extends PageTestBase {

    /** The configuration from docs/operator-page.md. */
    @Configuration(proxyBeanMethods = false)
    static class Secured {

        @Bean
        SecurityFilterChain filters(HttpSecurity http) throws Exception {
            return http.authorizeHttpRequests(requests -> requests.requestMatchers(HttpMethod.POST, PATH + "/**")
                            .hasRole("OPERATOR")
                            .requestMatchers(PATH, PATH + "/**")
                            .hasAnyRole("OPERATOR", "VIEWER")
                            .anyRequest()
                            .permitAll())
                    .formLogin(Customizer.withDefaults())
                    .httpBasic(Customizer.withDefaults())
                    .build();
        }

        @Bean
        UserDetailsService users() {
            return new InMemoryUserDetailsManager(
                    user("olga", "OPERATOR"), user("vera", "VIEWER"), user("nora", "OTHER"));
        }
    }

    private static String basic(String user) {
        return "Basic " + Base64.getEncoder().encodeToString((user + ":pw").getBytes(StandardCharsets.UTF_8));
    }

    private HttpResponse<String> get(HttpClient client, String path, String user) throws Exception {
        HttpRequest request =
                request(PATH + path).header("Authorization", basic(user)).build();
        return client.send(request, BodyHandlers.ofString());
    }

    private HttpResponse<String> replay(HttpClient client, String user, String... headers) throws Exception {
        HttpRequest.Builder request = request(PATH + "/api/replay")
                .header("Authorization", basic(user))
                .header("Content-Type", "application/json")
                .header(OperatorPage.REQUEST_HEADER, "page")
                .POST(BodyPublishers.ofString("{\"collectorType\":\"no one\"}"));
        if (headers.length > 0) {
            request.headers(headers);
        }
        return client.send(request.build(), BodyHandlers.ofString());
    }

    private static HttpClient client() {
        return HttpClient.newBuilder().cookieHandler(new CookieManager()).build();
    }

    @Test
    void the_application_says_who_may_see_and_who_may_do() throws Exception {
        start(Secured.class, UNRESTRICTED);
        deadLetter("dead", "no one", "malformed");
        HttpRequest anonymous = request(PATH + "/api").build();
        assertThat(client().send(anonymous, BodyHandlers.ofString()).statusCode())
                .isIn(302, 401);
        assertThat(get(client(), "/api", "nora").statusCode()).isEqualTo(403);
        for (String user : new String[] {"vera", "olga"}) {
            assertThat(get(client(), "/", user).statusCode()).isEqualTo(200);
            assertThat(get(client(), "/api/batches", user).body()).contains("dead");
        }

        HttpClient vera = client();
        JsonNode session = session(vera, "vera");
        assertThat(replay(vera, "vera", token(session)).statusCode()).isEqualTo(403);
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
        HttpClient olga = client();
        session = session(olga, "olga");
        assertThat(replay(olga, "olga", token(session)).statusCode()).isEqualTo(200);
        assertThat(state("dead")).isEqualTo(BatchState.PENDING);
    }

    @Test
    void without_the_token_nothing_is_changed() throws Exception {
        start(Secured.class, UNRESTRICTED);
        deadLetter("dead", "no one", "malformed");
        assertThat(replay(client(), "olga").statusCode()).isEqualTo(403);
        HttpClient olga = client();
        session(olga, "olga");
        assertThat(replay(olga, "olga", "X-CSRF-TOKEN", "guessed").statusCode()).isEqualTo(403);
        assertThat(state("dead")).isEqualTo(BatchState.DEAD);
    }

    @Test
    void entries_are_for_those_who_are_authorized() throws Exception {
        start(
                Secured.class,
                "batch-persistence.endpoint.show-entries=when_authorized",
                "batch-persistence.endpoint.roles=OPERATOR");
        deadLetter("dead", "no one", "malformed");
        assertThat(get(client(), "/api/batch?id=dead", "vera").body())
                .contains("malformed")
                .doesNotContain("index.html", "tenant-of");
        assertThat(get(client(), "/api/batch?id=dead", "olga").body()).contains("malformed", "index.html", "tenant-of");
    }

    private JsonNode session(HttpClient client, String user) throws Exception {
        return JsonMapper.shared().readTree(get(client, "/api/session", user).body());
    }

    private static String[] token(JsonNode session) {
        return new String[] {
            session.get("csrfHeader").asString(), session.get("csrfToken").asString()
        };
    }

    @Test
    void a_person_signs_in_and_replays() {
        try (Browser browser = Browser.start()) {
            start(Secured.class, UNRESTRICTED);
            deadLetter("dead", "no one", "malformed");
            browser.open(url() + PATH + "/");
            browser.find("#username").sendKeys("olga");
            browser.find("#password").sendKeys("pw");
            browser.find("form").submit();
            browser.awaitText("#live-word", "Live");
            browser.awaitText("#batches", "dead");
            browser.button("#filter-operations", "Replay these dead letters…").click();
            browser.awaitText("#operation-count", "1 batch will be replayed.");
            browser.button("#operation", "Replay dead letters").click();
            browser.awaitText("#message", "1 batch was replayed.");
            assertThat(state("dead")).isEqualTo(BatchState.PENDING);

            // Like the end of the session.
            browser.driver().manage().deleteAllCookies();
            browser.awaitText("#connection", "You are not signed in");
        }
    }
}
