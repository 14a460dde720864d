package io.batchpersistence.sample;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.sample.LineReader.Line;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LineReaderTest {

    @TempDir
    Path directory;

    @Test
    void reads_the_same_from_every_position() throws IOException {
        Random random = new Random(42);
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 3000; i++) {
            text.append("\u00e4\u20ac\uD83D\uDE00x".repeat(random.nextInt(40))).append(i % 5 == 0 ? "\r\n" : "\n");
        }
        Path file = Files.writeString(directory.resolve("f"), text);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            LineReader reader = new LineReader(100);
            reader.open(channel, Position.START);
            List<Line> all = rest(reader);
            StringBuilder joined = new StringBuilder();
            all.forEach(line -> joined.append(line.text()).append(line.next().part() == 0 ? "\n" : ""));
            assertThat(joined.toString()).isEqualTo(text.toString().replace("\r\n", "\n"));
            assertThat(all).allMatch(line -> line.text().getBytes(UTF_8).length <= 100);

            for (int i = 0; i < all.size(); i += 97) {
                reader.open(channel, all.get(i).at());
                assertThat(rest(reader)).isEqualTo(all.subList(i, all.size()));
            }
        }
    }

    @Test
    void grows_its_buffer_up_to_the_longest_line() throws IOException {
        String line = "0123456789".repeat(30_000);
        Path file = Files.writeString(directory.resolve("f"), "a\n" + line + "\nb");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            LineReader reader = new LineReader(line.length());
            reader.open(channel, Position.START);
            assertThat(rest(reader)).extracting(Line::text).containsExactly("a", line);
            assertThat(reader.restLength()).isEqualTo(1);
        }
    }

    private static List<Line> rest(LineReader reader) throws IOException {
        List<Line> lines = new ArrayList<>();
        for (Line line = reader.next(); line != null; line = reader.next()) {
            lines.add(line);
        }
        return lines;
    }
}
