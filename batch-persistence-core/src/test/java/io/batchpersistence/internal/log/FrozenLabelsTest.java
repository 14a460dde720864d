package io.batchpersistence.internal.log;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.codec.BatchCodec;
import io.batchpersistence.internal.codec.Formats;
import java.time.Instant;
import java.util.AbstractMap;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class FrozenLabelsTest {

    private static Map<String, String> texts(int count) {
        Map<String, String> texts = new LinkedHashMap<>();
        for (int i = count; i > 0; i--) {
            texts.put("name " + i, "value " + i);
        }
        return texts;
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 8, 9, 500})
    void they_are_a_map_in_the_order_of_the_original(int count) {
        Map<String, String> original = texts(count);
        Map<String, String> labels = LogEntryNormalizer.texts(original, "label");

        assertThat(labels).isEqualTo(original).hasSameHashCodeAs(original).hasSize(count);
        assertThat(original).isEqualTo(labels);
        assertThat(labels.entrySet()).containsExactlyElementsOf(original.entrySet());
        assertThat(labels.keySet()).containsExactlyElementsOf(original.keySet());
        assertThat(labels.values()).containsExactlyElementsOf(original.values());
        original.forEach((name, value) -> assertThat(labels.get(name)).isEqualTo(value));
        assertThat(labels.containsKey("name " + count)).isTrue();
        assertThat(labels.containsKey("name 0")).isFalse();
        assertThat(labels.get("name 0")).isNull();
        List<String> seen = new ArrayList<>();
        labels.forEach((name, value) -> seen.add(name + "=" + value));
        assertThat(seen).hasSize(count).first().isEqualTo("name " + count + "=value " + count);
        assertThat(LogEntryNormalizer.texts(labels, "label")).isSameAs(labels);
    }

    @Test
    void they_do_not_follow_the_original_and_can_not_be_changed() {
        Map<String, String> original = texts(3);
        Map<String, String> labels = LogEntryNormalizer.texts(original, "label");
        original.put("name 3", "other");
        original.remove("name 1");

        assertThat(labels).isEqualTo(texts(3));
        assertThatExceptionOfType(UnsupportedOperationException.class).isThrownBy(() -> labels.put("a", "b"));
        assertThatExceptionOfType(UnsupportedOperationException.class).isThrownBy(() -> labels.remove("name 1"));
        assertThatExceptionOfType(UnsupportedOperationException.class).isThrownBy(labels::clear);
        Iterator<Map.Entry<String, String>> entries = labels.entrySet().iterator();
        Map.Entry<String, String> first = entries.next();
        assertThatExceptionOfType(UnsupportedOperationException.class).isThrownBy(() -> first.setValue("x"));
        assertThatExceptionOfType(UnsupportedOperationException.class).isThrownBy(entries::remove);
        entries.next();
        entries.next();
        assertThatExceptionOfType(NoSuchElementException.class).isThrownBy(entries::next);
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 20})
    void names_that_become_the_same_are_one_label_with_the_last_value(int others) {
        Map<String, String> original = new LinkedHashMap<>();
        original.put("broken \uD800", "first");
        original.putAll(texts(others));
        original.put("broken \uDBFF", "last");
        Map<String, String> expected = new LinkedHashMap<>();
        expected.put("broken \uFFFD", "last");
        expected.putAll(texts(others));

        Map<String, String> labels = LogEntryNormalizer.texts(original, "label");
        assertThat(labels.entrySet()).containsExactlyElementsOf(expected.entrySet());
    }

    /** A map of the application may break the rules of maps. */
    @Test
    void equal_names_of_an_odd_map_are_one_label() {
        IdentityHashMap<String, String> odd = new IdentityHashMap<>();
        odd.put(new String("name"), "a");
        odd.put(new String("name"), "b");
        assertThat(LogEntryNormalizer.texts(odd, "label")).hasSize(1).containsKey("name");
    }

    /** Another thread may clear it after it was asked. */
    @Test
    void a_map_that_becomes_empty_while_it_is_copied_is_an_entry_without_labels() {
        Map<String, String> emptied = new AbstractMap<>() {
            @Override
            public boolean isEmpty() {
                return false;
            }

            @Override
            public Set<Map.Entry<String, String>> entrySet() {
                return Set.of();
            }
        };
        LogEntry entry = LogEntry.builder(Instant.EPOCH, "x").build();
        LogEntry odd = new LogEntry(Instant.EPOCH, null, "x", emptied, Map.of(), null, null, null, null);
        assertThat(odd).isEqualTo(entry);
        BatchCodec codec = Formats.codec(BatchFormat.PROTOBUF);
        assertThat(codec.decode(codec.encode(List.of(odd)))).containsExactly(entry);
    }
}
