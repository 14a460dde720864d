package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import io.batchpersistence.fixtures.LogCapture;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Files are found again under the names that the stores give them. Files with similar names are not ignored. */
class FileNamesTest extends DiskStoreFixture {

    private static final String OWN =
            "lock|[0-9]{10}\\.segment|state-[0-9]{16}\\.(journal|snapshot)|batch_[0-9a-z]+\\.json";

    private final Locale before = Locale.getDefault();

    @BeforeEach
    void sureOfTheLocale() {
        Locale.setDefault(Locale.ROOT);
    }

    @AfterEach
    void locale() {
        Locale.setDefault(before);
    }

    static Stream<Object[]> storesAndLocales() {
        return Stream.of("ar-EG", "fa-IR", "ne-NP", "mr-IN", "bn-BD", "my-MM", "th-TH-u-nu-thai", "tr-TR")
                .flatMap(locale -> Stream.of(StoreKind.values()).map(kind -> new Object[] {kind, locale}));
    }

    private List<String> names() throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.map(file -> file.getFileName().toString()).toList();
        }
    }

    @ParameterizedTest
    @MethodSource("storesAndLocales")
    void what_is_written_under_one_locale_is_found_under_it_and_under_any_other(StoreKind kind, String locale)
            throws IOException {
        List<String> all = IntStream.range(0, 10).mapToObj(i -> "id" + i).toList();
        Locale.setDefault(Locale.forLanguageTag(locale));
        try (BatchStore store = open(kind)) {
            append(store, all.toArray(String[]::new));
            store.reclaim();
        }
        assertThat(names()).allMatch(name -> name.matches(OWN));
        try (BatchStore store = open(kind)) {
            assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(all);
            assertThat(store.delivered("id0")).isNotNull();
        }
        Locale.setDefault(Locale.ROOT);
        try (BatchStore store = open(kind)) {
            assertThat(ids(store)).containsExactlyInAnyOrderElementsOf(all.subList(1, 10));
            assertThat(store.stats().total().accepted()).isEqualTo(10);
            assertThat(store.stats().total().delivered()).isEqualTo(1);
            assertThat(store.stats().total().corrupt()).isZero();
        }
        assertThat(names()).allMatch(name -> name.matches(OWN));
        assertThat(reports).isEmpty();
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661.segment",
                "1.segment",
                "00000000001.segment",
                "9999999999.segment",
                "2147483646.segment",
                "0000000001.SEGMENT",
                "0000000001 (1).segment",
                "1.segment.tmp"
            })
    void a_file_that_looks_like_a_segment_and_has_no_valid_name_is_reported_and_left_alone(String name)
            throws IOException {
        Path file = Files.writeString(directory.resolve(name), "kept");
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            append(store, "a");
        }
        assertReportedAndLeftAlone(file);
        assertThat(names()).contains("0000000001.segment");
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            assertThat(ids(store)).containsExactly("a");
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "state-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661.journal",
                "state-1.journal",
                "state-9999999999999999.journal",
                "state-00000000000000001.snapshot",
                "State-0000000000000001.Snapshot",
                "state-.tmp"
            })
    void a_file_that_looks_like_a_journal_and_has_no_valid_name_is_reported_and_left_alone(String name)
            throws IOException {
        Path file = Files.writeString(directory.resolve(name), "kept");
        // A journal contains no batch, so this is a log line and not an event.
        LogCapture logged = new LogCapture(IndexedBatchStore.class);
        try (logged;
                BatchStore store = open(StoreKind.SEGMENT)) {
            append(store, "a");
        }
        assertThat(logged.lines(Level.WARN))
                .singleElement()
                .asString()
                .contains(LogSanitizer.of(file.toString()), "looks like", "left as it is");
        assertThat(file).hasContent("kept");
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            assertThat(store.delivered("a")).isNotNull();
        }
        try (BatchStore store = open(StoreKind.SEGMENT)) {
            assertThat(store.stats().total().delivered()).isEqualTo(1);
        }
        assertThat(file).hasContent("kept");
    }

    @ParameterizedTest
    @EnumSource
    void what_others_leave_there_is_no_ones_business(StoreKind kind) throws IOException {
        for (String name :
                List.of("notes.txt", "state-of-the-art.md", "journal", "segment", "0000000001.segment.bak")) {
            Files.writeString(directory.resolve(name), "x");
        }
        open(kind).close();
        assertThat(reports).isEmpty();
    }

    @Test
    void a_file_that_looks_like_a_batch_and_has_no_valid_name_is_reported_and_left_alone() throws IOException {
        Path file = Files.writeString(directory.resolve("Batch_a.JSON"), "kept");
        open(StoreKind.JSON_FILES).close();
        assertReportedAndLeftAlone(file);
    }

    private void assertReportedAndLeftAlone(Path file) {
        assertThat(reports).hasSize(1).first().satisfies(corruption -> {
            assertThat(corruption.file()).isEqualTo(file);
            assertThat(corruption.reason()).contains("looks like").contains("left as it is");
            assertThat(corruption.batches()).isZero();
        });
        assertThat(file).hasContent("kept");
    }
}
