package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.api.Assumptions.abort;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorStats;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** With a real OpenSearch. Skipped if Maven can't get it. */
@Tag("slow")
class OpenSearchIT {

    @TempDir
    static Path home;

    private static OpenSearchNode node;

    @TempDir
    Path directory;

    @BeforeAll
    static void start() throws IOException, InterruptedException {
        try {
            node = new OpenSearchNode(home);
        } catch (OpenSearchNode.NotAvailableException e) {
            // Maven's summary does not contain the reasons.
            System.out.println("SKIPPED: tests with OpenSearch: " + e.getMessage());
            abort(e.getMessage());
        }
        node.start();
    }

    @AfterAll
    static void stop() {
        if (node != null) {
            node.close();
        }
    }

    @Test
    void has_each_line_once_after_a_kill_and_an_outage() throws Exception {
        List<String> sent = RealCollectorScenario.play(node, directory);

        List<String> has = node.messages("logs");
        assertThat(without(sent, has)).as("missing").isEmpty();
        assertThat(without(has, sent)).as("never sent, or once too often").isEmpty();
    }

    private static List<String> without(List<String> some, List<String> others) {
        List<String> rest = new ArrayList<>(some);
        others.forEach(rest::remove);
        return rest;
    }

    /** A field that is a number in one document can't be text in the next. */
    @Test
    void what_it_refuses_is_a_dead_letter_and_the_rest_arrives() throws Exception {
        try (RunningShipper shipper = RunningShipper.start(
                node,
                directory,
                "--shipper.files=" + directory.resolve("no/files"),
                "--collectors.elasticsearch.index=refusing")) {
            post(shipper, "first", "{\"message\":\"sold\",\"items\":3}");
            awaits(shipper, numbers -> numbers.delivered() == 1);

            post(shipper, "second", """
                    {"message":"the same"}
                    {"message":"sold","items":"many"}
                    {"message":"the same"}
                    """);
            post(shipper, "third", "{\"message\":\"sold\",\"items\":4}");
            awaits(shipper, numbers -> numbers.pending() + numbers.inFlight() == 0);

            CollectorStats numbers = shipper.numbers("elasticsearch");
            assertThat(numbers.delivered()).as("%s", numbers).isEqualTo(2);
            assertThat(numbers.isBalanced()).as("%s", numbers).isTrue();
            List<BatchSummary> dead =
                    shipper.persistence().list(BatchSelector.all().states(BatchState.DEAD));
            assertThat(dead).extracting(BatchSummary::id).containsExactly("second");
            assertThat(dead.get(0).failureReason())
                    .contains("1 of 3 documents", "entry 2: 400", "mapper_parsing_exception");
            assertThat(node.count("refusing")).isEqualTo(4);
            assertThat(node.messages("refusing")).containsExactlyInAnyOrder("sold", "the same", "the same", "sold");
        }
    }

    private static void post(RunningShipper shipper, String id, String body) throws Exception {
        assertThat(shipper.post("/logs", "application/x-ndjson", id, body)).isEqualTo(202);
    }

    private static void awaits(RunningShipper shipper, Predicate<CollectorStats> condition) {
        await().atMost(Duration.ofMinutes(1)).until(() -> condition.test(shipper.numbers("elasticsearch")));
    }
}
