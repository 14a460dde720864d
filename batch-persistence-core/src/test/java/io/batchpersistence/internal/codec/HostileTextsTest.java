package io.batchpersistence.internal.codec;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.LogEntry;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * An attacker may choose log texts. Texts and labels with equal hashes must not cost more than others: quadratic work
 * takes minutes in these tests, linear work less than a second.
 */
@Timeout(value = 45, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HostileTextsTest {

    private static final Instant NOW = Instant.parse("2026-01-01T00:00:00Z");
    private static final int PLACES = 17;

    /** Combinations of "Aa" and "BB", which have the same {@link String#hashCode}. */
    private static List<String> texts() {
        return IntStream.range(0, 1 << PLACES)
                .mapToObj(number -> {
                    StringBuilder text = new StringBuilder();
                    for (int place = 0; place < PLACES; place++) {
                        text.append((number >> place & 1) == 0 ? "Aa" : "BB");
                    }
                    return text.toString();
                })
                .toList();
    }

    private static void assertKept(List<LogEntry> entries) {
        BatchCodec codec = Formats.codec(BatchFormat.PROTOBUF);
        assertThat(codec.decode(codec.encode(entries)).equals(entries)).isTrue();
    }

    @Test
    void many_texts_of_one_hash_are_numbered_in_no_time() {
        assertThat(texts().stream().map(String::hashCode).distinct()).hasSize(1);
        assertKept(texts().stream()
                .map(text -> LogEntry.builder(NOW, "x").trace(text, null).build())
                .toList());
    }

    @Test
    void many_label_sets_and_fields_of_one_hash_are_numbered_in_no_time() {
        assertKept(texts().stream()
                .map(text -> LogEntry.builder(NOW, "x")
                        .labels(Map.of("a", text))
                        .field("b", text)
                        .build())
                .toList());
    }

    @Test
    void texts_keep_their_numbers_when_there_are_too_many_of_one_hash() {
        StringTable table = new StringTable();
        List<String> texts = texts().subList(0, 2_000);
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < texts.size(); i++) {
                assertThat(table.reference(texts.get(i))).isEqualTo(i + 1);
            }
            assertThat(table.size()).isEqualTo(texts.size());
        }
        table.clear();
        assertThat(table.reference("other")).isOne();
        assertThat(table.text(1)).isEqualTo("other");
    }
}
