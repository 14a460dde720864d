package io.batchpersistence.container;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.WaitContainerResultCallback;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.Volume;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.utility.DockerImageName;
import org.testcontainers.utility.MountableFile;

/**
 * The store in its own JVM in a container. Needs a Docker engine and a local image with a JRE at {@code /opt/jre},
 * which {@code .ci/run} builds. Images are never pulled. Without them the tests are skipped, unless the environment
 * sets {@code BATCH_PERSISTENCE_CONTAINER_TESTS=required}.
 */
class ContainerIT {

    private static final String IMAGE =
            Objects.requireNonNullElse(System.getenv("BATCH_PERSISTENCE_JRE_IMAGE"), "batch-persistence/jre:local");

    private static final String DIRECTORY = "/data/batches";
    private static final long MEMORY = 384L << 20;
    private static final int KILLS = 3;

    @BeforeAll
    static void needsAnEngineAndTheImage() {
        if (!DockerClientFactory.instance().isDockerAvailable()) {
            skip("no Docker engine answers; start one, or run .ci/run as root on Debian");
        }
        try {
            docker().inspectImageCmd(IMAGE).exec();
        } catch (NotFoundException e) {
            skip("the image " + IMAGE + " is not built; .ci/run builds it (BATCH_PERSISTENCE_JRE_IMAGE names another)");
        }
    }

    private static void skip(String reason) {
        if ("required".equals(System.getenv("BATCH_PERSISTENCE_CONTAINER_TESTS"))) {
            fail("container tests are required, but " + reason);
        }
        // The console summary does not show reasons.
        System.out.println("SKIPPED: container tests: " + reason);
        abort(reason);
    }

    @Test
    void a_full_disk_refuses_keeps_and_goes_on() throws InterruptedException {
        try (GenericContainer<?> container =
                container(FullDiskProgram.class, "/data").withTmpFs(Map.of("/data", "rw,size=4m"))) {
            container.start();
            int status = exitStatus(container);
            String output = container.getLogs();
            System.out.print(output);
            assertThat(status).as("exit status; output:%n%s", output).isZero();
            assertThat(output).endsWith("passed\n");
        }
    }

    @Test
    void what_was_acknowledged_survives_the_kill_of_the_container() throws InterruptedException {
        String volume = "batch-persistence-test-" + UUID.randomUUID();
        docker().createVolumeCmd().withName(volume).exec();
        try {
            Set<String> acknowledged = new HashSet<>();
            Set<String> mayBeMarked = new HashSet<>();
            Set<String> marked = new HashSet<>();
            for (int round = 1; round <= KILLS; round++) {
                String output = writeUntilKilled(volume, "r" + round);
                acknowledged.addAll(ids("acknowledged", output));
                mayBeMarked.addAll(ids("marking", output));
                marked.addAll(ids("marked", output));

                String found = read(volume);
                Set<String> held = ids("held", found);
                assertThat(ids("different", found)).as("not as persisted").isEmpty();
                assertThat(held).as("acknowledged and not marked").containsAll(without(acknowledged, mayBeMarked));
                assertThat(held)
                        .as("marked, and not in the last moments")
                        .doesNotContainAnyElementsOf(marked.stream()
                                .filter(id -> isJournaled(id, acknowledged))
                                .toList());
                assertThat(found).contains("balanced true, corrupt 0, in flight 0\n");
                System.out.printf(
                        "kill %d: %,d acknowledged, %,d of them marked; after the restart %,d held, 0 missing%n",
                        round, acknowledged.size(), marked.size(), held.size());
            }
        } finally {
            docker().removeVolumeCmd(volume).exec();
        }
    }

    private static String writeUntilKilled(String volume, String prefix) throws InterruptedException {
        AtomicInteger lines = new AtomicInteger();
        try (GenericContainer<?> container =
                withVolume(volume, container(WritersProgram.class, "write", DIRECTORY, prefix))) {
            container.withLogConsumer(frame -> lines.incrementAndGet()).start();
            Awaitility.await().atMost(Duration.ofMinutes(1)).until(() -> lines.get() > 1_000);
            docker().killContainerCmd(container.getContainerId())
                    .withSignal("KILL")
                    .exec();
            assertThat(exitStatus(container)).isEqualTo(128 + 9);
            return container.getLogs();
        }
    }

    private static String read(String volume) throws InterruptedException {
        try (GenericContainer<?> container = withVolume(volume, container(WritersProgram.class, "read", DIRECTORY))) {
            container.start();
            int status = exitStatus(container);
            String output = container.getLogs();
            assertThat(status).as("exit status; output:%n%s", output).isZero();
            return output;
        }
    }

    /**
     * Whether a mark must be on disk: its thread has persisted two batches since. The mark is queued for the journal no
     * later than the first of them, and written before the round that acknowledges the second.
     */
    private static boolean isJournaled(String marked, Set<String> acknowledged) {
        int dash = marked.lastIndexOf('-');
        int number = Integer.parseInt(marked.substring(dash + 1));
        return acknowledged.contains(WritersProgram.id(marked.substring(0, dash), number + 2));
    }

    private static Set<String> ids(String word, String output) {
        return Pattern.compile("^" + word + " (r\\d-t\\d-\\d{6})$", Pattern.MULTILINE)
                .matcher(output)
                .results()
                .map(result -> result.group(1))
                .collect(Collectors.toSet());
    }

    private static Set<String> without(Set<String> all, Set<String> some) {
        Set<String> rest = new HashSet<>(all);
        rest.removeAll(some);
        return rest;
    }

    private static DockerClient docker() {
        return DockerClientFactory.instance().client();
    }

    /** Copies the test class path instead of mounting it, so that it also works with a remote engine. */
    private static GenericContainer<?> container(Class<?> main, String... args) {
        GenericContainer<?> container = new GenericContainer<>(DockerImageName.parse(IMAGE))
                .withImagePullPolicy(name -> false)
                .withNetworkMode("none");
        List<String> classPath = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
            Path path = Path.of(entry);
            if (Files.exists(path) && !isOnlyForTheOutside(path)) {
                String copy = "/app/" + classPath.size() + "-" + path.getFileName();
                container.withCopyFileToContainer(MountableFile.forHostPath(path), copy);
                classPath.add(copy);
            }
        }
        List<String> command = new ArrayList<>(
                List.of("/opt/jre/bin/java", "-Xmx128m", "-cp", String.join(":", classPath), main.getName()));
        command.addAll(List.of(args));
        return container
                .withCommand(command.toArray(String[]::new))
                .withCreateContainerCmdModifier(
                        create -> Objects.requireNonNull(create.getHostConfig()).withMemory(MEMORY));
    }

    private static boolean isOnlyForTheOutside(Path jar) {
        String name = jar.getFileName().toString();
        return Stream.of("testcontainers", "docker-java", "jna", "commons-", "archunit", "junit-", "duct-tape")
                .anyMatch(name::startsWith);
    }

    private static GenericContainer<?> withVolume(String volume, GenericContainer<?> container) {
        return container.withCreateContainerCmdModifier(create ->
                Objects.requireNonNull(create.getHostConfig()).withBinds(new Bind(volume, new Volume("/data"))));
    }

    private static int exitStatus(GenericContainer<?> container) throws InterruptedException {
        return docker().waitContainerCmd(container.getContainerId())
                .exec(new WaitContainerResultCallback())
                .awaitStatusCode(3, TimeUnit.MINUTES);
    }
}
