package io.batchpersistence.sample;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.file.StandardOpenOption.APPEND;
import static java.nio.file.StandardOpenOption.CREATE;
import static java.nio.file.StandardOpenOption.TRUNCATE_EXISTING;
import static java.nio.file.StandardOpenOption.WRITE;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.sample.ShipperProperties.Source;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.util.unit.DataSize;

class FileTailerTest {

    private static final Duration BATCH_DELAY = Duration.ofSeconds(1);
    private static final Duration PARTIAL_LINE = Duration.ofSeconds(5);

    @TempDir
    Path directory;

    private Path log;
    private Path state;
    private final FakeOutbox outbox = new FakeOutbox();
    private final ShipperStats stats = new ShipperStats();
    private final ManualClock clock = new ManualClock(Instant.parse("2026-03-01T12:00:00Z"));
    private Duration scanInterval = Duration.ofSeconds(1);
    private int batchSize = 3;
    private DataSize maxLineLength = DataSize.ofKilobytes(64);
    private List<Source> sources;

    @BeforeEach
    void paths() throws IOException {
        // Some machines have a temporary directory that is a symbolic link.
        directory = directory.toRealPath();
        log = directory.resolve("app.log");
        state = directory.resolve("state");
        sources = List.of(new Source(log.toString(), null));
    }

    private FileTailer tailer() throws IOException {
        return new FileTailer(settings(), outbox, stats, clock);
    }

    private ShipperProperties settings() {
        return new ShipperProperties(
                true,
                sources,
                "loki",
                batchSize,
                DataSize.ofKilobytes(512),
                BATCH_DELAY,
                maxLineLength,
                state,
                Duration.ofMillis(250),
                scanInterval,
                PARTIAL_LINE,
                Duration.ofSeconds(30),
                Duration.ofSeconds(8),
                DataSize.ofMegabytes(1),
                Duration.ZERO);
    }

    private void append(String text) throws IOException {
        append(log, text);
    }

    private static void append(Path file, String text) throws IOException {
        Files.writeString(file, text, CREATE, APPEND);
    }

    private void truncate(String text) throws IOException {
        Files.writeString(log, text, TRUNCATE_EXISTING, WRITE);
    }

    /** Runs everything that happens within some seconds. */
    private void settle(FileTailer tailer) {
        for (int i = 0; i < 5; i++) {
            while (tailer.tick()) {
                // more to do
            }
            clock.advance(BATCH_DELAY);
        }
    }

    @Test
    void ships_lines_with_their_source_ids() throws IOException {
        append("one\r\ntwo\n\nfour\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one", "two", "four");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + ":4");
        LogEntry first = outbox.taken.get(0).entries().get(0);
        assertThat(first.sourceType()).isEqualTo("file");
        assertThat(first.labels()).containsEntry("filename", log.toString());
        assertThat(stats.emptyLines).hasValue(1);
        assertThat(stats.entries).hasValue(3);
    }

    @Test
    void takes_timestamp_and_level_where_they_are_evident() throws IOException {
        append("2026-02-03T04:05:06.789+01:00  WARN 1 --- [main] c.e.Shop : an error\nplain\n");
        settle(tailer());

        List<LogEntry> entries = outbox.taken.get(0).entries();
        assertThat(entries.get(0).timestamp()).isEqualTo(Instant.parse("2026-02-03T03:05:06.789Z"));
        assertThat(entries.get(0).level()).isEqualTo("WARN");
        assertThat(entries.get(1).timestamp()).isEqualTo(Instant.parse("2026-03-01T12:00:00Z"));
        assertThat(entries.get(1).level()).isNull();
    }

    @Test
    void replaces_what_is_not_utf8() throws IOException {
        Files.write(log, "caf\u00e9\n".getBytes(ISO_8859_1));
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("caf\uFFFD");
    }

    @Test
    void makes_batches_by_size() throws IOException {
        append(lines(1, 7));
        FileTailer tailer = tailer();
        tailer.tick();
        assertThat(outbox.batchSizes()).containsExactly(3, 3);

        clock.advance(BATCH_DELAY.minusMillis(1));
        tailer.tick();
        assertThat(outbox.batchSizes()).containsExactly(3, 3);

        clock.advance(Duration.ofMillis(1));
        tailer.tick();
        assertThat(outbox.batchSizes()).containsExactly(3, 3, 1);
    }

    @Test
    void makes_batches_by_bytes() throws IOException {
        batchSize = 1000;
        String line = "x".repeat(1023) + "\n";
        append(line.repeat(600));
        tailer().tick();

        assertThat(outbox.batchSizes()).containsExactly(512);
    }

    @Test
    void waits_for_the_end_of_a_line() throws IOException {
        FileTailer tailer = tailer();
        append("be");
        settle(tailer);
        append("gun and ended\n");
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("begun and ended");
    }

    @Test
    void takes_a_last_line_without_end_when_nothing_more_comes() throws IOException {
        FileTailer tailer = tailer();
        append("one\nlast\r");
        settle(tailer);
        assertThat(outbox.messages()).containsExactly("one");

        clock.advance(PARTIAL_LINE);
        settle(tailer);
        assertThat(outbox.messages()).containsExactly("one", "last");

        append(" and more\nnext\n");
        settle(tailer);
        assertThat(outbox.messages()).containsExactly("one", "last", " and more", "next");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + ":2.2", log + ":3");
    }

    @Test
    void cuts_long_lines_into_parts_between_characters() throws IOException {
        maxLineLength = DataSize.ofBytes(5);
        append("abcd\u20ac\u20acxyz\nshort\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("abcd", "\u20ac", "\u20acxy", "z", "short");
        assertThat(outbox.sourceIds())
                .containsExactly(log + ":1", log + ":1.2", log + ":1.3", log + ":1.4", log + ":2");
        assertThat(outbox.taken.get(0).entries().get(1).fields()).containsEntry("part", 2L);
    }

    @Test
    void goes_on_after_a_restart() throws IOException {
        append(lines(1, 5));
        settle(tailer());
        append(lines(6, 8));
        settle(tailer());

        assertThat(outbox.messages()).containsExactlyElementsOf(numbered(1, 8));
        assertThat(outbox.sourceIds()).doesNotHaveDuplicates().last().isEqualTo(log + ":8");
        assertThat(outbox.duplicates).isZero();
    }

    @Test
    void saves_the_position_only_after_the_batch_is_durable() throws IOException {
        List<Boolean> hadMoved = new ArrayList<>();
        FileTailer tailer = tailer();
        append("one\n");
        outbox.beforeTaking = () -> hadMoved.add(positions().contains("\"offset\" : 4"));
        settle(tailer);

        assertThat(hadMoved).containsExactly(false);
        assertThat(positions()).contains("\"offset\" : 4");
    }

    private String positions() {
        try {
            return Files.readString(state.resolve("positions.json"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void killed_before_the_position_was_saved_skips_what_is_held_however_it_was_divided() throws IOException {
        append("one\n");
        FileTailer killed = tailer();
        // The file is found, and saved at its start.
        killed.tick();
        String before = positions();
        clock.advance(BATCH_DELAY);
        killed.tick();
        append("two\n");
        settle(killed);
        assertThat(outbox.batchSizes()).containsExactly(1, 1);

        Files.writeString(state.resolve("positions.json"), before);
        append("three\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one", "two", "three");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + ":3");
        assertThat(outbox.duplicates).isEqualTo(2);
    }

    @Test
    void killed_before_the_position_was_saved_sends_again_what_was_delivered() throws IOException {
        append("one\n");
        FileTailer killed = tailer();
        killed.tick();
        String before = positions();
        settle(killed);
        outbox.held.clear();

        Files.writeString(state.resolve("positions.json"), before);
        append("two\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one", "one", "two");
        assertThat(new HashSet<>(outbox.sourceIds())).containsExactlyInAnyOrder(log + ":1", log + ":2");
    }

    @Test
    void no_two_lines_are_from_the_same_time() throws IOException {
        append("same\n".repeat(10));
        FileTailer tailer = tailer();
        settle(tailer);
        append("same\n");
        settle(tailer);

        assertThat(outbox.taken.stream().flatMap(batch -> batch.entries().stream()))
                .extracting(LogEntry::timestamp)
                .hasSize(11)
                .doesNotHaveDuplicates()
                .isSorted();
    }

    @Test
    void keeps_its_place_while_batches_are_refused() throws IOException {
        Path other = directory.resolve("other.log");
        sources = List.of(new Source(log.toString(), null), new Source(other.toString(), "elasticsearch"));
        append(lines(1, 7));
        append(other, "goes on\n");
        outbox.refusesCollector = "loki"::equals;
        FileTailer tailer = tailer();
        settle(tailer);
        assertThat(outbox.messages()).containsExactly("goes on");
        assertThat(outbox.refusals).as("with backoff").isBetween(2, 4);

        outbox.refusesCollector = collector -> false;
        append(lines(8, 9));
        clock.advance(Duration.ofSeconds(8));
        settle(tailer);
        assertThat(outbox.messages()).containsExactlyElementsOf(concat(List.of("goes on"), numbered(1, 9)));
    }

    @Test
    void refused_and_killed_loses_nothing() throws IOException {
        append(lines(1, 4));
        outbox.refusesCollector = collector -> true;
        settle(tailer());
        outbox.refusesCollector = collector -> false;
        settle(tailer());

        assertThat(outbox.messages()).containsExactlyElementsOf(numbered(1, 4));
    }

    @Test
    void finishes_a_renamed_file_before_its_successor() throws IOException {
        FileTailer tailer = tailer();
        append(lines(1, 2));
        settle(tailer);
        append("late\n");
        Files.move(log, directory.resolve("app.log.1"));
        append("new\n");
        settle(tailer);
        // The writer has not noticed yet that its file has another name.
        append(directory.resolve("app.log.1"), "very late\n");
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("line 1", "line 2", "late", "new", "very late");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + ":3", log + "#2:1", log + ":4");
    }

    @Test
    void finishes_a_removed_file() throws IOException {
        FileTailer tailer = tailer();
        append("one\n");
        tailer.tick();
        append("two\nthree");
        Files.delete(log);
        clock.advance(PARTIAL_LINE);
        settle(tailer);
        clock.advance(PARTIAL_LINE);
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("one", "two", "three");
    }

    @Test
    void does_not_take_a_renamed_file_that_also_matches_for_a_new_one() throws IOException {
        sources = List.of(new Source(directory + "/app.log*", null));
        FileTailer tailer = tailer();
        append(lines(1, 2));
        settle(tailer);
        Files.move(log, directory.resolve("app.log.1"));
        append("new\n");
        settle(tailer);
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("line 1", "line 2", "new");
    }

    @Test
    void reads_the_rest_of_a_file_renamed_while_down() throws IOException {
        append("one\n");
        settle(tailer());
        append("two\n");
        Files.move(log, directory.resolve("app.log.2026-03-01"));
        append("three\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one", "two", "three");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + "#2:1");
    }

    @Test
    void reads_a_truncated_file_from_its_start_even_if_it_says_the_same() throws IOException {
        FileTailer tailer = tailer();
        append("starting\nrunning\n");
        settle(tailer);
        truncate("starting\n");
        settle(tailer);

        assertThat(outbox.held).as("the first is not taken for the second").hasSize(2);
        assertThat(outbox.messages()).containsExactly("starting", "running", "starting");
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + ":2", log + "#2:1");
    }

    @Test
    void notices_a_truncation_while_down() throws IOException {
        append("starting\nrunning\n");
        settle(tailer());
        truncate("starting\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("starting", "running", "starting");
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void notices_a_truncated_file_that_has_grown_again(boolean restarted) throws IOException {
        FileTailer tailer = tailer();
        append("starting\nfirst run\n");
        settle(tailer);
        truncate("starting\nsecond run\nwhich is longer\n");
        settle(restarted ? tailer() : tailer);

        assertThat(outbox.messages())
                .containsExactly("starting", "first run", "starting", "second run", "which is longer");
    }

    @Test
    void ships_what_it_had_read_before_a_truncation() throws IOException {
        FileTailer tailer = tailer();
        append("one\ntwo\n");
        // The lines are read, but the batch waits for more.
        tailer.tick();
        truncate("new\n");
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("one", "two", "new");
    }

    @Test
    void keeps_hold_of_what_is_rotated_while_its_predecessor_is_refused() throws IOException {
        FileTailer tailer = tailer();
        outbox.refusesCollector = collector -> true;
        for (int i = 1; i <= 3; i++) {
            append(lines(i, i));
            settle(tailer);
            Files.move(log, directory.resolve("app.log." + i));
        }
        outbox.refusesCollector = collector -> false;
        clock.advance(Duration.ofSeconds(8));
        settle(tailer);

        assertThat(outbox.messages()).containsExactlyElementsOf(numbered(1, 3));
        assertThat(outbox.sourceIds()).containsExactly(log + ":1", log + "#2:1", log + "#3:1");
    }

    @Test
    void finds_files_that_appear_later() throws IOException {
        sources = List.of(new Source(directory + "/logs/*/*.log", "elasticsearch"));
        FileTailer tailer = tailer();
        settle(tailer);
        Path nested = Files.createDirectories(directory.resolve("logs/shop"));
        append(nested.resolve("a.log"), "a\n");
        append(nested.resolve("b.txt"), "not this\n");
        append(nested.resolve("c.log.gz"), "nor this\n");
        append(Files.createDirectories(nested.resolve("deeper")).resolve("d.log"), "nor that\n");
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("a");
        assertThat(outbox.taken).extracting(PersistedBatch::collectorType).containsOnly("elasticsearch");
    }

    @Test
    void follows_a_file_whose_name_looks_like_a_pattern() throws IOException {
        Path odd = directory.resolve("app[1].log");
        sources = List.of(new Source(odd.toString(), null));
        append(odd, "one\n");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one");
    }

    @Test
    void a_damaged_file_of_positions_is_set_aside_and_everything_is_sent_again() throws IOException {
        append("one\n");
        settle(tailer());
        Files.writeString(state.resolve("positions.json"), "{\"version\":1,\"files\":[{\"stream\":\"x");
        settle(tailer());

        assertThat(outbox.messages()).containsExactly("one", "one");
        try (Stream<Path> files = Files.list(state)) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .anyMatch(name -> name.startsWith("positions.json.damaged-"));
        }
    }

    @Test
    void goes_on_without_positions_being_saved() throws IOException {
        FileTailer tailer = tailer();
        append("one\n");
        Files.delete(state);
        Files.writeString(state, "a file where the directory should be");
        settle(tailer);
        append("two\n");
        settle(tailer);

        assertThat(outbox.messages()).containsExactly("one", "two");
    }

    /**
     * After any events in any order: every line arrives at least once, no line that was never written, and no line with
     * two texts.
     */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
    void loses_nothing_whatever_happens(long seed) throws IOException {
        scanInterval = Duration.ofMillis(1);
        Random random = new Random(seed);
        Set<String> written = new HashSet<>();
        FileTailer tailer = tailer();
        int number = 0;
        int rotations = 0;
        for (int step = 0; step < 400; step++) {
            switch (random.nextInt(9)) {
                case 0, 1, 2 -> {
                    StringBuilder text = new StringBuilder();
                    for (int i = random.nextInt(20); i >= 0; i--) {
                        String line = "line " + ++number + " " + "x".repeat(random.nextInt(50));
                        written.add(line);
                        text.append(line).append(random.nextInt(4) == 0 ? "\r\n" : "\n");
                    }
                    int cut = random.nextInt(text.length());
                    append(text.substring(0, cut));
                    if (random.nextBoolean()) {
                        tailer.tick();
                    }
                    append(text.substring(cut));
                }
                // Killed: unsaved state is lost.
                case 3 -> tailer = tailer();
                case 4 -> outbox.refusesCollector = random.nextBoolean() ? collector -> true : collector -> false;
                case 5 -> outbox.held.keySet().removeIf(id -> random.nextBoolean());
                case 6 -> {
                    if (Files.exists(log) && rotations < 20) {
                        Files.move(log, directory.resolve("app.log." + ++rotations));
                    }
                }
                default -> {
                    tailer.tick();
                    clock.advance(Duration.ofMillis(random.nextInt(1500)));
                }
            }
            // Lines that are written and rotated away between two scans would be in a file that no scan could find.
            clock.advance(scanInterval);
            tailer.tick();
        }
        outbox.refusesCollector = collector -> false;
        for (int i = 0; i < 60; i++) {
            settle(tailer);
        }
        assertThat(new HashSet<>(outbox.messages())).isEqualTo(written);
        Set<String> identified = new HashSet<>();
        outbox.taken.forEach(batch -> batch.entries().forEach(e -> identified.add(e.sourceId() + " " + e.message())));
        assertThat(identified).hasSameSizeAs(written);
    }

    @Test
    void reuses_no_position_for_another_file() throws IOException {
        append(lines(1, 4));
        settle(tailer());
        // Even if the file system reuses the inode, the new file is another file.
        Path other = directory.resolve("other");
        append(other, "something else altogether, and longer than what was there\n");
        Files.move(other, log, StandardCopyOption.REPLACE_EXISTING);
        settle(tailer());

        assertThat(outbox.messages()).hasSize(5).last().asString().startsWith("something else");
    }

    private static String lines(int from, int to) {
        return String.join("\n", numbered(from, to)) + "\n";
    }

    private static List<String> numbered(int from, int to) {
        return IntStream.rangeClosed(from, to).mapToObj(i -> "line " + i).toList();
    }

    private static List<String> concat(List<String> a, List<String> b) {
        return Stream.concat(a.stream(), b.stream()).toList();
    }
}
