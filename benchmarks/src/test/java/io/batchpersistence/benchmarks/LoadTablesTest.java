package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.benchmarks.Measurement.Row;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class LoadTablesTest {

    private final List<Measurement> measurements = new ArrayList<>();

    private void persist(String store, int callers, boolean sync, String labels, double... batchesPerSecond) {
        Map<String, String> configuration = new LinkedHashMap<>();
        configuration.put("threads", String.valueOf(callers));
        configuration.put("entries", "100");
        configuration.put("labels", labels);
        configuration.put("sync", sync ? "always" : "never");
        for (double speed : batchesPerSecond) {
            measurements.add(new Measurement(
                    "persist", store, configuration, Map.of("batches_per_s", speed, "cpu_us", 1e6 / speed), null));
        }
    }

    private String markdown() {
        return new LoadTables(Row.of(measurements)).markdown();
    }

    @Test
    void a_store_has_a_row_and_a_load_a_column() {
        persist("segment", 1, true, "many", 900, 1_000, 1_100);
        persist("segment", 8, true, "many", 4_000);
        persist("rocksdb", 1, true, "many", 500, 100, 400);

        assertThat(markdown())
                .contains("**batches/s, labels many**\n\n| store | 1 × 100 | 8 × 100 |\n|---|---:|---:|\n")
                .contains("| segment store (this project) | 1,000 | 4,000 |\n| RocksDB | 400 |  |\n")
                .contains("| **segment store × best other** | 2.50 |  |\n| … which is | RocksDB |  |\n")
                .contains("**CPU µs/batch, labels many**")
                .contains("| RocksDB | 2,500.0 |  |\n")
                .doesNotContain("allocated", "before**", "Worst");
    }

    @Test
    void those_that_are_less_safe_have_a_mark_and_a_ratio_of_their_own() {
        persist("segment", 2, false, "many", 1_000);
        persist("h2-mvstore", 2, false, "many", 2_000);
        persist("plain-append", 2, false, "many", 800);
        persist("segment-spring", 2, false, "many", 5_000);
        persist("segment", 2, true, "many", 600);
        persist("h2-mvstore", 2, true, "many", 300);

        assertThat(markdown())
                .contains("| store | 2 × 100, no fsync | 2 × 100 |")
                .contains("| H2 MVStore | 2,000\\* | 300 |")
                .contains("""
                        | **segment store × best other that is as safe** | 1.25 | 2.00 |
                        | … which is | plain append + fsync | H2 MVStore |
                        """)
                .contains(
                        "| **segment store × best other** | 0.50 | 2.00 |\n| … which is | H2 MVStore | H2 MVStore |\n");
    }

    @Test
    void the_worst_of_the_labels_is_that_of_each_load() {
        persist("segment", 1, true, "few", 1_000);
        persist("segment", 8, true, "few", 3_000);
        persist("rocksdb", 1, true, "few", 500);
        persist("rocksdb", 8, true, "few", 4_000);
        persist("segment", 1, true, "many", 900);
        persist("segment", 8, true, "many", 3_000);
        persist("rocksdb", 1, true, "many", 600);

        assertThat(markdown()).contains("""
                        **Worst of the labels few and many, batches/s**

                        | store | 1 × 100 | 8 × 100 |
                        |---|---:|---:|
                        | segment store × best other that is as safe | 1.50 | 0.75 |
                        """);
    }

    @Test
    void an_older_build_is_compared_repeat_by_repeat() {
        // The machine was busy during the second repeat.
        persist("segment", 1, true, "many", 1_200, 600, 1_100);
        persist("segment-before", 1, true, "many", 1_000, 400, 1_000);

        assertThat(markdown())
                .contains("| segment store (before) | 1,000 |")
                .contains("| **segment store (this project): now × before** | 1.20 (1.10–1.50) |")
                .contains("| **segment store (this project): now × before** | 0.83 (0.67–0.91) |")
                .doesNotContain("best other** |");
    }

    @Test
    void a_repeat_that_failed_keeps_its_place_in_the_pairs() {
        persist("segment", 1, true, "many", 1_200);
        measurements.add(
                new Measurement("persist", "segment", measurements.get(0).configuration(), Map.of(), "failed: x"));
        persist("segment", 1, true, "many", 900);
        persist("segment-before", 1, true, "many", 1_000, 10, 1_000);

        assertThat(markdown()).contains("now × before** | 1.05 (0.90–1.20) |");
    }
}
