package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

class TextsTest {

    private static final String CHARACTERS = "\\0nr\0\n\r a";

    @Test
    void texts_come_back_and_different_ones_stay_different_without_what_databases_do_not_take() {
        Random random = new Random(1);
        Set<String> texts = new HashSet<>();
        Set<String> kept = new HashSet<>();
        for (int i = 0; i < 10_000; i++) {
            StringBuilder text = new StringBuilder();
            for (int length = random.nextInt(8); length > 0; length--) {
                text.append(CHARACTERS.charAt(random.nextInt(CHARACTERS.length())));
            }
            String escaped = TextEscaping.escape(text.toString());
            assertThat(TextEscaping.unescape(escaped)).isEqualTo(text.toString());
            assertThat(escaped).doesNotContain("\0", "\n", "\r");
            texts.add(text.toString());
            kept.add(escaped);
        }
        assertThat(kept).hasSameSizeAs(texts);
    }

    @Test
    void most_texts_are_kept_as_they_are() {
        assertThat(TextEscaping.escape("HTTP 503: \u65e5\u672c \uD83D\uDE00"))
                .isEqualTo("HTTP 503: \u65e5\u672c \uD83D\uDE00");
    }
}
