package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ReportTest {

    @TempDir
    Path out;

    private String markdown;
    private String csv;

    @BeforeEach
    void write() throws Exception {
        List<Measurement> measurements = new ArrayList<>();
        for (String store : List.of("segment", "plain-append", "rocksdb", "chronicle-queue")) {
            measurements.add(
                    new Measurement("size", store, Map.of("entries", "100"), Map.of("disk_per_raw", 0.25), null));
        }
        persist(measurements, "segment", 900_000, 1_000_000, 1_100_000);
        persist(measurements, "plain-append", 240_000, 250_000, 700_000);
        persist(measurements, "rocksdb", 390_000, 400_000, 410_000);
        persist(measurements, "chronicle-queue", 500_000);
        measurements.add(
                new Measurement("persist", "artemis-journal", configuration(), Map.of(), "failed: \"no\" disk, left"));
        measurements.add(
                new Measurement("persist", "otel-disk-buffering", configuration(), Map.of(), "it never forces"));
        new Report(measurements, Map.of("CPU", "abacus, 2 cores"), "a test").write(out);
        markdown = Files.readString(out.resolve("results.md"));
        csv = Files.readString(out.resolve("results.csv"));
    }

    private static Map<String, String> configuration() {
        Map<String, String> configuration = new LinkedHashMap<>();
        configuration.put("threads", "8");
        configuration.put("entries", "100");
        configuration.put("sync", "always");
        return configuration;
    }

    private static void persist(List<Measurement> to, String store, double... entriesPerSecond) {
        for (double speed : entriesPerSecond) {
            to.add(new Measurement(
                    "persist",
                    store,
                    configuration(),
                    Map.of("entries_per_s", speed, "batches_per_s", speed / 100, "p50_us", 1_234.0),
                    null));
        }
    }

    @Test
    void a_row_has_medians_and_ratios() {
        assertThat(markdown)
                .contains("**threads 8, entries 100, sync always**")
                .contains("| store | as safe | entries/s | batches/s | p50 ms |")
                .contains(
                        "| segment store (this project) |  | 1,000,000 | 10,000 (9,000–11,000) | 1.23 |  |  |  |  | 0.25 |  | 4.00 | 2.00 | 2.50 |")
                .contains(
                        "| plain append + fsync | yes | 250,000 | 2,500 (2,400–7,000) | 1.23 |  |  |  |  | 0.25 |  | 1.00 | 0.50 | 0.63 |")
                .contains("Best peer: Chronicle Queue; best that marks: RocksDB.");
    }

    @Test
    void what_is_in_a_database_is_compared_to_the_segment_store_too() throws Exception {
        List<Measurement> measurements = new ArrayList<>();
        persist(measurements, "segment", 200_000);
        persist(measurements, "jdbc", 30_000);
        persist(measurements, "plain-table", 40_000);
        new Report(measurements, Map.of(), "a test").write(out);

        assertThat(Files.readString(out.resolve("results.md")))
                .contains("× best peer that marks | × segment store |")
                .contains(
                        "| JDBC store (this project) |  | 30,000 | 300 | 1.23 |  |  |  |  |  |  |  | 0.75 | 0.75 | 0.15 |");
        assertThat(markdown).doesNotContain("× segment store");
    }

    @Test
    void what_failed_or_cannot_stays_in() {
        assertThat(markdown)
                .contains("| Artemis journal | yes | failed: \"no\" disk, left |")
                .contains("| OpenTelemetry disk-buffering | yes | it never forces |");
        assertThat(csv)
                .contains(
                        ",artemis-journal,threads=8 entries=100 sync=always,,,,,0,\"failed: \"\"no\"\" disk, left\"\n");
    }

    @Test
    void the_reader_learns_on_what_and_how() {
        assertThat(markdown)
                .contains("a test")
                .contains("- CPU: abacus, 2 cores")
                .contains("**RocksDB** (`rocksdb`)")
                .contains("- guarantee: " + RocksDbStore.KIND.guarantee())
                .contains("- limit: " + ChronicleQueueStore.KIND.limits().get(Candidate.Limit.NO_MARK));
    }

    @Test
    void the_csv_has_the_spread() {
        assertThat(csv)
                .startsWith("scenario,store,configuration,metric,median,min,max,repeats,failure\n")
                .contains(
                        "persist,plain-append,threads=8 entries=100 sync=always,entries_per_s,250000,240000,700000,3,\n");
    }

    @Test
    void the_chart_is_drawn() throws Exception {
        String svg = Files.readString(out.resolve("persist.svg"));
        // The texts of the chart are outlines, to look the same everywhere.
        assertThat(svg).contains("<svg").contains("width=\"1100px\"");
        assertThat(markdown).contains("![persist.svg](persist.svg)");
    }
}
