package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.LogEntry;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

class BenchmarksTest {

    @TempDir
    Path directory;

    private int run(String... more) {
        List<String> args = new ArrayList<>(List.of(
                "--out=" + directory.resolve("out"),
                "--dir=" + directory.resolve("stores"),
                "--warmup=0",
                "--seconds=0.05",
                "--megabytes=0.1",
                "--pending=20",
                "--samples=20",
                "--duration=0.2"));
        args.addAll(List.of(more));
        return new CommandLine(new Benchmarks()).execute(args.toArray(String[]::new));
    }

    @Test
    void a_tiny_run_of_every_scenario_writes_the_report() throws Exception {
        int status = run(
                "--in-process",
                "--stores=segment,segment-spring,plain-append",
                "--scenarios=persist,async,reopen,drain,scale,growth,steady",
                "--repeats=2",
                "--threads=2");

        assertThat(status).isZero();
        String markdown = Files.readString(directory.resolve("out/results.md"));
        assertThat(markdown)
                .contains("## Persist and mark", "## Appends under way", "## Reopen", "## Drain")
                .contains("| segment store in Spring Boot (this project) |", "segment store × best other")
                .contains("## A large backlog in a small heap", "## Latency while the backlog grows", "## Steady load")
                .doesNotContain("failed:");
        assertThat(Files.readString(directory.resolve("out/results.csv"))).contains("steady,segment,");
        assertThat(directory.resolve("out/persist.svg")).isNotEmptyFile();
        assertThat(directory.resolve("out/steady-segment.csv")).content().startsWith("second,batches,p50_us");
        try (Stream<Path> left = Files.list(directory.resolve("stores"))) {
            assertThat(left).as("the stores' files are deleted").isEmpty();
        }
    }

    @Test
    void a_measurement_has_a_process_of_its_own() throws Exception {
        assertThat(run("--scenarios=drain", "--stores=plain-append")).isZero();

        assertThat(Files.readString(directory.resolve("out/results.csv")))
                .contains("drain,plain-append,pending=20 heap=4g,entries_per_s,");
        assertThat(directory.resolve("out/children/0002-drain-plain-append.properties"))
                .isNotEmptyFile();
    }

    @Test
    void a_process_that_fails_is_a_row() throws Exception {
        assertThat(run("--scenarios=persist", "--stores=plain-append", "--corpus=" + directory.resolve("none")))
                .isZero();

        assertThat(Files.readString(directory.resolve("out/results.md")))
                .contains("| plain append + fsync | yes | failed: ");
    }

    @Test
    void without_a_database_its_stores_say_what_they_lack() throws Exception {
        assertThat(run("--scenarios=persist,recover", "--stores=jdbc,plain-table", "--workers=1"))
                .isZero();

        assertThat(Files.readString(directory.resolve("out/results.md")))
                .contains("| JDBC store (this project) | needs a database: measured with --postgresql only |")
                .contains("| plain table | needs a database")
                .doesNotContain("failed:");
    }

    @Test
    void a_tiny_run_in_a_database() throws Exception {
        int status = run(
                "--in-process",
                "--postgresql=" + TestUrl.postgresql(),
                "--stores=segment,jdbc,plain-table,db-scheduler",
                "--scenarios=persist,recover",
                "--threads=2",
                "--workers=2");

        assertThat(status).isZero();
        assertThat(Files.readString(directory.resolve("out/results.md")))
                .contains("- database: PostgreSQL ", "× segment store", "## Persist and mark", "## Recover")
                .contains("| JDBC store (this project) |", "| plain table |", "| db-scheduler |")
                .doesNotContain("failed:");
        try (Stream<Path> left = Files.list(directory.resolve("stores"))) {
            assertThat(left).as("directories, and with them the schemas").isEmpty();
        }
    }

    @Test
    void loads_are_measured_as_they_are_named() throws Exception {
        assertThat(run("--in-process", "--scenarios=persist", "--stores=segment", "--loads=2x3,1x5:never"))
                .isZero();

        assertThat(Files.readString(directory.resolve("out/results.csv")))
                .contains("persist,segment,threads=2 entries=3 labels=many sync=always,batches_per_s,")
                .contains("persist,segment,threads=1 entries=5 labels=many sync=never,batches_per_s,")
                .doesNotContain("failed");
        assertThatThrownBy(() -> Scenarios.Load.of("8")).hasMessageContaining("'8' is no load");
    }

    @Test
    void a_checkout_replaces_the_modules_it_is_compared_by() throws Exception {
        Path core = Files.createDirectories(directory.resolve("older/batch-persistence-core/target/classes"));
        Path jdbc = Files.createDirectories(directory.resolve("older/batch-persistence-jdbc/target/quick/classes"));
        Path starter = Files.createDirectories(
                directory.resolve("older/batch-persistence-spring-boot-starter/target/classes"));
        Path repository = Path.of("repository");
        String own = String.join(
                File.pathSeparator,
                Path.of("benchmarks", "target", "classes").toString(),
                Path.of("batch-persistence-core", "target", "core.jar").toString(),
                repository.resolve("batch-persistence-jdbc/1/jdbc.jar").toString(),
                Path.of("batch-persistence-spring-boot-starter", "target", "classes")
                        .toString(),
                repository.resolve("rocksdb.jar").toString());

        assertThat(ChildJvm.classPath(own, directory.resolve("older")).split(File.pathSeparator, -1))
                .containsExactly(
                        Path.of("benchmarks", "target", "classes").toString(),
                        core.toString(),
                        jdbc.toString(),
                        starter.toString(),
                        repository.resolve("rocksdb.jar").toString());
        assertThatThrownBy(() -> ChildJvm.classPath(own, directory.resolve("none")))
                .hasMessageContaining("there are no classes below");
    }

    @Test
    void generated_lines_vary_and_are_the_same_every_time() throws Exception {
        List<List<LogEntry>> batches = Corpus.of(null, false).batches(100);
        assertThat(Corpus.of(null, false).batches(100)).isEqualTo(batches);
        assertThat(batches).hasSize(60).allSatisfy(batch -> {
            assertThat(batch).hasSize(100);
            assertThat(batch.stream().map(LogEntry::message).distinct().count()).isGreaterThan(95);
            assertThat(batch.stream().map(LogEntry::sourceId).distinct()).hasSize(100);
            assertThat(Corpus.rawBytes(batch)).isBetween(6_000L, 20_000L);
        });
        assertThat(Corpus.of(null, false).batches(1000))
                .hasSize(6)
                .allSatisfy(batch -> assertThat(batch).hasSize(1000));
    }

    @Test
    void neighbouring_lines_have_different_labels_where_that_is_asked_for() throws Exception {
        List<LogEntry> few = Corpus.of(null, false).batches(100).get(0);
        List<LogEntry> many = Corpus.of(null, true).batches(100).get(0);
        assertThat(few.stream().map(LogEntry::labels).distinct()).hasSize(1);
        assertThat(many.stream().map(LogEntry::labels).distinct()).hasSizeGreaterThan(95);
        assertThat(many)
                .extracting(LogEntry::message)
                .containsExactlyElementsOf(few.stream().map(LogEntry::message).toList());
    }

    @Test
    void log_files_of_a_directory_are_the_corpus() throws Exception {
        Files.writeString(directory.resolve("Shop_2k.log"), "12:00 ERROR no stock\n\n12:01 all well\n");
        Files.writeString(directory.resolve("README.md"), "not a log\n");
        List<List<LogEntry>> batches = Corpus.of(directory, false).batches(3);
        assertThat(batches).hasSize(1);
        assertThat(batches.get(0))
                .extracting(LogEntry::message)
                .containsExactly("12:00 ERROR no stock", "12:01 all well", "12:00 ERROR no stock");
        assertThat(batches.get(0).get(0).level()).isEqualTo("ERROR");
        assertThat(batches.get(0).get(0).labels()).containsEntry("app", "shop");
        assertThat(batches.get(0).get(1).sourceId()).isEqualTo("/var/log/shop.log:2");
    }
}
