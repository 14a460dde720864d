package io.batchpersistence.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.LogEntry;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.springframework.boot.Banner;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetails;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Tests of a whole application, which ends with its test. */
public abstract class ApplicationTestBase {

    protected static final List<LogEntry> ENTRIES = List.of(LogEntry.of(Instant.EPOCH, "INFO", "hello"));

    @TempDir
    protected Path directory;

    protected final HttpClient client = HttpClient.newHttpClient();
    protected ConfigurableApplicationContext context;

    @AfterEach
    protected void stop() {
        if (context != null) {
            context.close();
        }
    }

    /** An application with a directory and, if it has a web server, a port of its own; not started. */
    protected SpringApplicationBuilder application(Class<?>... sources) {
        return new SpringApplicationBuilder(sources)
                .bannerMode(Banner.Mode.OFF)
                .properties(
                        "server.port=0",
                        "spring.main.register-shutdown-hook=false",
                        "batch-persistence.directory=" + directory);
    }

    /** A user of Spring Security, whose password is "pw". */
    protected static UserDetails user(String name, String role) {
        return User.withUsername(name).password("{noop}pw").roles(role).build();
    }

    protected BatchPersistence persistence() {
        return context.getBean(BatchPersistence.class);
    }

    protected String url() {
        return "http://localhost:" + context.getEnvironment().getProperty("local.server.port");
    }

    protected HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(url() + path));
    }

    protected HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), BodyHandlers.ofString());
    }

    protected HttpResponse<String> get(String path) throws Exception {
        return send(request(path));
    }

    /** The body of an answer that is no refusal. */
    protected static JsonNode json(HttpResponse<String> answer) {
        assertThat(answer.statusCode()).as(answer.body()).isEqualTo(200);
        return JsonMapper.shared().readTree(answer.body());
    }
}
