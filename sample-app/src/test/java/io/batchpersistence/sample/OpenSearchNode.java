package io.batchpersistence.sample;

import static org.awaitility.Awaitility.await;

import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * One OpenSearch node in its own process, with the JDK that runs this test. Its jars are not on any class path of this
 * project; Maven resolves them when they are needed, see {@code src/it/opensearch-node}.
 */
final class OpenSearchNode implements RealCollector {

    /** The jars are not available. */
    static final class NotAvailableException extends Exception {

        private static final long serialVersionUID = 1L;

        NotAvailableException(String message) {
            super(message);
        }
    }

    private static final Path POM = Path.of("src/it/opensearch-node/pom.xml");
    private static final Path CLASS_PATH = Path.of("target/opensearch-node.classpath");
    private static final Pattern PORT = Pattern.compile("^HTTP Port: *(\\d+)$", Pattern.MULTILINE);

    private final HttpClient http = HttpClient.newHttpClient();
    private final Path home;
    private final String classPath;
    private int port;
    private int starts;
    private Process process;

    /**
     * Creates a node that is not started yet.
     *
     * @param home the directory of all its files; must exist
     * @throws NotAvailableException if OpenSearch is not available, with the reason
     */
    OpenSearchNode(Path home) throws NotAvailableException, IOException, InterruptedException {
        this.home = home;
        this.classPath = classPath();
    }

    /** Reuses the class path of an earlier build if all its files still exist. */
    private static String classPath() throws NotAvailableException, IOException, InterruptedException {
        if (!Files.exists(CLASS_PATH)
                || Files.getLastModifiedTime(CLASS_PATH).compareTo(Files.getLastModifiedTime(POM)) < 0
                || Stream.of(Files.readString(CLASS_PATH).split(File.pathSeparator, -1))
                        .anyMatch(jar -> !Files.exists(Path.of(jar)))) {
            resolve();
        }
        return Files.readString(CLASS_PATH);
    }

    private static void resolve() throws NotAvailableException, IOException, InterruptedException {
        boolean windows = File.separatorChar == '\\';
        String command = windows ? "mvn.cmd" : "mvn";
        String mavenHome = System.getProperty("opensearch.maven.home");
        Path log = Path.of("target/opensearch-node.log");
        ProcessBuilder maven = new ProcessBuilder(
                mavenHome == null ? command : Path.of(mavenHome, "bin", command).toString(),
                "-B",
                "-f",
                POM.toString(),
                "dependency:build-classpath",
                "-Dmdep.outputFile=" + CLASS_PATH.toAbsolutePath());
        String repository = System.getProperty("opensearch.maven.repository");
        if (repository != null) {
            maven.command().add("-Dmaven.repo.local=" + repository);
        }
        if ("offline true".equals(System.getProperty("opensearch.maven.mode"))) {
            maven.command().add("-o");
        }
        Files.createDirectories(log.toAbsolutePath().getParent());
        Files.deleteIfExists(CLASS_PATH);
        Process process;
        try {
            process =
                    maven.redirectErrorStream(true).redirectOutput(log.toFile()).start();
        } catch (IOException e) {
            throw new NotAvailableException("Maven can't be started to get OpenSearch: " + e.getMessage());
        }
        if (!process.waitFor(5, TimeUnit.MINUTES)) {
            process.destroyForcibly();
            throw new NotAvailableException("Maven did not get OpenSearch within 5 minutes, see " + log);
        }
        if (process.exitValue() != 0 || !Files.exists(CLASS_PATH)) {
            String error = Files.readAllLines(log).stream()
                    .filter(line -> line.contains("ERROR"))
                    .findFirst()
                    .orElse("no reason was given");
            throw new NotAvailableException("Maven can't get OpenSearch, see " + log + ": " + error);
        }
    }

    @Override
    public String type() {
        return "elasticsearch";
    }

    @Override
    public URI url() {
        return URI.create("http://127.0.0.1:" + port);
    }

    @Override
    public void start() throws IOException, InterruptedException {
        Path config = Files.createDirectories(home.resolve("config"));
        // No discovery of other nodes, and no refusal of documents because the disk of this machine is nearly full.
        Files.writeString(config.resolve("opensearch.yml"), """
                discovery.type: single-node
                cluster.routing.allocation.disk.threshold_enabled: false
                """);
        Path log = home.resolve("node-" + ++starts + ".log");
        process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Xmx512m",
                        "-XX:+UseSerialGC",
                        "-XX:TieredStopAtLevel=1",
                        "-Djava.io.tmpdir=" + Files.createDirectories(home.resolve("tmp")),
                        "-cp",
                        classPath,
                        "org.codelibs.opensearch.runner.OpenSearchRunner",
                        "-basePath",
                        home.toString(),
                        "-confPath",
                        config.toString(),
                        "-numOfNode",
                        "1",
                        // The node takes the first free port above this one: any at the first start, the same one
                        // later.
                        "-baseHttpPort",
                        String.valueOf(port == 0 ? 9200 : port - 1))
                .directory(home.toFile())
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        await().atMost(Duration.ofSeconds(90))
                .pollInterval(Duration.ofMillis(100))
                .until(() -> answers(log));
    }

    private boolean answers(Path log) throws IOException, InterruptedException {
        Matcher found = PORT.matcher(Files.readString(log));
        if (!process.isAlive()) {
            throw new AssertionError("OpenSearch ended with " + process.exitValue() + ":\n" + Files.readString(log));
        }
        if (!found.find()) {
            return false;
        }
        int chosen = Integer.parseInt(found.group(1));
        if (starts > 1 && chosen != port) {
            throw new AssertionError("port " + port + " was taken meanwhile by someone else");
        }
        port = chosen;
        try {
            return send("GET", "/").statusCode() == 200;
        } catch (IOException e) {
            return false;
        }
    }

    @Override
    public void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    /** Counts the documents in the index that the application writes to. */
    @Override
    public long count() throws IOException, InterruptedException {
        return count("logs");
    }

    long count(String index) throws IOException, InterruptedException {
        json("POST", "/" + index + "/_refresh");
        return json("GET", "/" + index + "/_count").path("count").asLong();
    }

    /** The messages of the counted documents, up to ten thousand, in no particular order. */
    List<String> messages(String index) throws IOException, InterruptedException {
        JsonNode hits = json("GET", "/" + index + "/_search?size=10000&_source=message")
                .path("hits")
                .path("hits");
        return StreamSupport.stream(hits.spliterator(), false)
                .map(hit -> hit.path("_source").path("message").asString())
                .toList();
    }

    private JsonNode json(String method, String path) throws IOException, InterruptedException {
        HttpResponse<String> answer = send(method, path);
        if (answer.statusCode() != 200) {
            throw new AssertionError(
                    method + " " + path + " was answered " + answer.statusCode() + " " + answer.body());
        }
        return JsonMapper.shared().readTree(answer.body());
    }

    private HttpResponse<String> send(String method, String path) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(url().resolve(path))
                .timeout(Duration.ofSeconds(30))
                .method(method, BodyPublishers.noBody())
                .build();
        return http.send(request, BodyHandlers.ofString(StandardCharsets.UTF_8));
    }

    @Override
    public void close() {
        if (process != null) {
            process.destroyForcibly();
            try {
                // So that its directory can be deleted.
                process.waitFor();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
