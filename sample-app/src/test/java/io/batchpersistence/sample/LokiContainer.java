package io.batchpersistence.sample;

import static org.awaitility.Awaitility.await;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.WaitContainerResultCallback;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.PortBinding;
import com.github.dockerjava.api.model.Ports;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.utility.DockerImageName;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Grafana Loki in a container, with the default configuration of its image. */
final class LokiContainer implements RealCollector {

    static final String IMAGE = "grafana/loki:3.5.0";

    private static final int PORT = 3100;

    private final HttpClient http = HttpClient.newHttpClient();
    private final DockerClient docker = DockerClientFactory.instance().client();
    private final GenericContainer<?> container;
    private final int port;

    LokiContainer() throws IOException {
        // A fixed port: the container engine would choose another one at each start.
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = free.getLocalPort();
        }
        PortBinding binding = new PortBinding(Ports.Binding.bindPort(port), ExposedPort.tcp(PORT));
        container = new GenericContainer<>(DockerImageName.parse(IMAGE))
                .withCreateContainerCmdModifier(create -> create.withExposedPorts(ExposedPort.tcp(PORT))
                        .withHostConfig(HostConfig.newHostConfig().withPortBindings(binding)));
    }

    @Override
    public String type() {
        return "loki";
    }

    @Override
    public URI url() {
        return URI.create("http://" + container.getHost() + ":" + port);
    }

    @Override
    public void start() {
        if (container.getContainerId() == null) {
            container.start();
        } else {
            docker.startContainerCmd(container.getContainerId()).exec();
        }
        await().atMost(Duration.ofMinutes(2))
                .pollInterval(Duration.ofMillis(200))
                .ignoreExceptionsMatching(IOException.class::isInstance)
                .until(() -> get("/ready").statusCode() == 200);
    }

    @Override
    public void kill() {
        docker.killContainerCmd(container.getContainerId()).withSignal("KILL").exec();
        docker.waitContainerCmd(container.getContainerId())
                .exec(new WaitContainerResultCallback())
                .awaitStatusCode();
    }

    @Override
    public long count() throws IOException, InterruptedException {
        String query = "sum(count_over_time({app=\"sample-app\"}[6h]))";
        HttpResponse<String> answer =
                get("/loki/api/v1/query?query=" + URLEncoder.encode(query, StandardCharsets.UTF_8));
        if (answer.statusCode() != 200) {
            throw new AssertionError(query + " was answered " + answer.statusCode() + " " + answer.body());
        }
        JsonNode result =
                JsonMapper.shared().readTree(answer.body()).path("data").path("result");
        return result.isEmpty()
                ? 0
                : Long.parseLong(result.path(0).path("value").path(1).asString());
    }

    private HttpResponse<String> get(String path) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(url().resolve(path))
                .timeout(Duration.ofSeconds(30))
                .build();
        return http.send(request, BodyHandlers.ofString());
    }

    @Override
    public void close() {
        container.stop();
    }
}
