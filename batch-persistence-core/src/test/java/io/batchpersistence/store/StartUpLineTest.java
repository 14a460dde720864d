package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** One line reports what was found when a store was opened. */
class StartUpLineTest extends DiskStoreFixture {

    @RegisterExtension
    final LogCapture logged = new LogCapture("io.batchpersistence");

    private String line() {
        List<String> lines = logged.lines(Level.INFO).stream()
                .filter(line -> line.startsWith("Batch store opened"))
                .toList();
        assertThat(lines).hasSize(1);
        logged.list.clear();
        return lines.get(0);
    }

    @ParameterizedTest
    @EnumSource
    void says_where_what_and_what_was_damaged(StoreKind kind) throws IOException {
        try (BatchStore store = open(kind)) {
            assertThat(line()).contains("0 pending, 0 dead, nothing damaged; directory " + directory + ", store ");
            append(store, "a", "b");
        }
        open(kind).close();
        assertThat(line()).contains("2 pending, 0 dead, nothing damaged").contains("sync always");
        boolean lost = kind == StoreKind.JSON_FILES;
        // Damage in a sealed segment is found when the record is read.
        flipIn(lost ? ".json" : ".journal");
        open(kind).close();
        assertThat(line())
                .contains((lost ? 1 : 2) + " pending, 0 dead")
                .contains("damaged places set aside: 1, batches lost: " + (lost ? 1 : 0));
    }

    /** Flips a bit in the middle of the last file with that suffix. */
    private void flipIn(String ending) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            Path file = files.filter(path -> path.toString().endsWith(ending))
                    // The newest journal.
                    .max(Comparator.naturalOrder())
                    .orElseThrow();
            byte[] bytes = Files.readAllBytes(file);
            bytes[40] ^= (byte) 0x80;
            Files.write(file, bytes);
        }
    }
}
