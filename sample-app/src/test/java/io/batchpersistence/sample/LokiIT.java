package io.batchpersistence.sample;

import static org.junit.jupiter.api.Assumptions.abort;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.PullImageResultCallback;
import com.github.dockerjava.api.exception.NotFoundException;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.DockerClientFactory;

/** With a real Loki. Skipped if there is no Docker engine or the image is not available. */
@Tag("slow")
class LokiIT {

    private static final int PULL_SECONDS = 60;

    @TempDir
    Path directory;

    @Test
    void has_each_line_once_after_a_kill_and_an_outage() throws Exception {
        needsAnEngineAndTheImage();
        try (LokiContainer loki = new LokiContainer()) {
            loki.start();
            RealCollectorScenario.play(loki, directory);
        }
    }

    private static void needsAnEngineAndTheImage() throws InterruptedException {
        if (!DockerClientFactory.instance().isDockerAvailable()) {
            skip("no Docker engine answers");
        }
        DockerClient docker = DockerClientFactory.instance().client();
        try {
            docker.inspectImageCmd(LokiContainer.IMAGE).exec();
        } catch (NotFoundException e) {
            pull(docker);
        }
    }

    private static void pull(DockerClient docker) throws InterruptedException {
        boolean pulled = false;
        String reason = "not within " + PULL_SECONDS + " s";
        try {
            pulled = docker.pullImageCmd(LokiContainer.IMAGE)
                    .exec(new PullImageResultCallback())
                    .awaitCompletion(PULL_SECONDS, TimeUnit.SECONDS);
        } catch (RuntimeException e) {
            // No network, no registry, no such image.
            reason = String.valueOf(e.getMessage()).strip();
        }
        if (!pulled) {
            skip("the image " + LokiContainer.IMAGE + " can't be pulled: " + reason);
        }
    }

    private static void skip(String reason) {
        // Maven's summary does not contain the reasons.
        System.out.println("SKIPPED: tests with Loki: " + reason);
        abort(reason);
    }
}
