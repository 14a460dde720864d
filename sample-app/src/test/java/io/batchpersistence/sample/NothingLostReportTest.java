package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.sample.BuiltInCollector.Received;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NothingLostReportTest {

    @TempDir
    Path directory;

    private Path shipped;
    private Path received;

    @BeforeEach
    void ship() throws IOException {
        shipped = Files.writeString(directory.resolve("a.log"), "same\r\nsame\n\nlast \u20ac");
        received = directory.resolve("received.ndjson");
    }

    private void receive(String... sourceAndMessage) throws IOException {
        try (BuiltInCollector collector = new BuiltInCollector(received)) {
            for (int i = 0; i < sourceAndMessage.length; i += 2) {
                collector.take(List.of(new Received(
                        0,
                        "loki",
                        "b",
                        shipped + ":" + sourceAndMessage[i],
                        null,
                        null,
                        null,
                        sourceAndMessage[i + 1])));
            }
        }
    }

    private int print(ByteArrayOutputStream out) {
        return NothingLostReport.print(received, List.of(shipped), new PrintStream(out, true, StandardCharsets.UTF_8));
    }

    @Test
    void nothing_is_lost() throws IOException {
        receive("1", "same", "2", "same", "4", "last \u20ac", "2", "same");
        NothingLostReport report = NothingLostReport.of(received, List.of(shipped));

        assertThat(report.linesIn()).isEqualTo(4);
        assertThat(report.emptyLines()).isEqualTo(1);
        assertThat(report.delivered()).isEqualTo(3);
        assertThat(report.duplicates()).isEqualTo(1);
        assertThat(report.isNothingLost()).isTrue();
        assertThat(print(new ByteArrayOutputStream())).isZero();
    }

    @Test
    void the_same_text_in_another_place_does_not_hide_a_loss() throws IOException {
        receive("1", "same", "1", "same", "4", "last \u20ac");
        ByteArrayOutputStream out = new ByteArrayOutputStream();

        assertThat(print(out)).isEqualTo(1);
        assertThat(out.toString(StandardCharsets.UTF_8)).contains("  missing: " + shipped + ":2\tsame");
    }

    @Test
    void what_was_never_shipped_fails_too() throws IOException {
        receive("1", "same", "2", "same", "4", "last \u20ac", "5", "from nowhere");
        ByteArrayOutputStream out = new ByteArrayOutputStream();

        assertThat(print(out)).isEqualTo(1);
        assertThat(out.toString(StandardCharsets.UTF_8)).contains("never shipped: " + shipped + ":5\tfrom nowhere");
    }

    @Test
    void says_when_it_cant_compare() {
        assertThat(print(new ByteArrayOutputStream())).isEqualTo(2);
    }
}
