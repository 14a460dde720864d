package io.batchpersistence;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

class BatchSelectorTest {

    @Test
    void naming_the_same_twice_is_naming_it_once() {
        assertThat(BatchSelector.all().ids("a", "a").collectorTypes("loki", "loki"))
                .isEqualTo(BatchSelector.all().ids("a").collectorTypes("loki"));
    }

    @Test
    void a_glob_is_no_regular_expression() {
        Predicate<String> glob = BatchSelector.glob("*(HTTP 4?9)*[a-z]");
        assertThat(glob).accepts("post (http 429): x[a-z]").rejects("post (http 4299): x[a-z]", "post (http 429): xb");
        assertThat(BatchSelector.glob("several*lines")).accepts("several\nlines", "severallines");
        assertThat(BatchSelector.glob("*")).accepts("", "a");
        assertThat(BatchSelector.glob("")).accepts("").rejects("a");
        assertThat(BatchSelector.glob("?")).accepts("a", "\uD83D\uDE00").rejects("", "ab");
        assertThat(BatchSelector.glob("\\E.?")).accepts("\\E.*");
        assertThat(BatchSelector.glob("\u00C4*\u0130")).accepts("\u00E4 \u0130", "\u00C4i");
    }

    /** Some globs are so long that they need several words. */
    @Test
    void a_glob_matches_what_its_definition_says() {
        Random random = new Random(1);
        int matches = 0;
        for (int i = 0; i < 20_000; i++) {
            int letters = 1 + random.nextInt(3);
            String text = text(random, random.nextInt(3) == 0 ? 200 : 20, "abc".substring(0, letters));
            String glob = random.nextBoolean()
                    ? text(random, random.nextInt(3) == 0 ? 200 : 12, "aAb*?c".substring(0, 2 + random.nextInt(4)))
                    : cut(random, text);
            boolean expected = matches(glob.toLowerCase(Locale.ROOT), text);
            matches += expected ? 1 : 0;
            assertThat(BatchSelector.glob(glob).test(text))
                    .as("%s against %s", glob, text)
                    .isEqualTo(expected);
        }
        assertThat(matches).isBetween(2_000, 18_000);
    }

    /** Uses a table of the prefixes that match. */
    private static boolean matches(String glob, String text) {
        boolean[] row = new boolean[text.length() + 1];
        row[0] = true;
        for (int at = 0; at < glob.length(); at++) {
            char c = glob.charAt(at);
            boolean[] next = new boolean[row.length];
            for (int i = 0; i < row.length; i++) {
                next[i] = c == '*'
                        ? row[i] || (i > 0 && next[i - 1])
                        : i > 0 && row[i - 1] && (c == '?' || c == text.charAt(i - 1));
            }
            row = next;
        }
        return row[text.length()];
    }

    private static String text(Random random, int most, String letters) {
        return random.ints(random.nextInt(most + 1), 0, letters.length())
                .mapToObj(i -> letters.substring(i, i + 1))
                .collect(Collectors.joining());
    }

    /** The text with a run replaced by an asterisk and some characters by question marks. */
    private static String cut(Random random, String text) {
        int from = random.nextInt(text.length() + 1);
        int to = from + random.nextInt(text.length() - from + 1);
        String glob = text.substring(0, from) + "*" + text.substring(to);
        int at = random.nextInt(glob.length());
        return glob.charAt(at) == '*' ? glob : glob.substring(0, at) + "?" + glob.substring(at + 1);
    }

    @Test
    @Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
    void many_asterisks_take_no_longer_than_one() {
        String reason = "a".repeat(4_096);
        for (String glob :
                List.of("*a".repeat(1_000) + "*b", "*" + "a".repeat(2_000) + "b*", "*a?".repeat(1_000) + "b")) {
            for (int i = 0; i < 100; i++) {
                assertThat(BatchSelector.glob(glob).test(reason)).isFalse();
            }
        }
    }

    @Test
    void a_glob_is_bounded() {
        assertThat(BatchSelector.glob("x".repeat(8_192)).test("x".repeat(8_192)))
                .isTrue();
        assertThatThrownBy(() -> BatchSelector.glob("x".repeat(8_193))).hasMessageContaining("at most 8192 characters");
        assertThatThrownBy(() -> BatchSelector.all().failureReason("x".repeat(8_193)))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void conditions_that_can_not_hold_are_refused() {
        BatchSelector all = BatchSelector.all();
        assertThatThrownBy(() -> all.limit(0)).hasMessageContaining("limit must be at least 1");
        assertThatThrownBy(() -> all.retries(2, 1)).hasMessageContaining("range");
        assertThatThrownBy(() -> all.olderThan(Duration.ofSeconds(-1))).hasMessageContaining("must not be negative");
        assertThatThrownBy(() -> all.youngerThan(Duration.ofSeconds(-1))).hasMessageContaining("must not be negative");
    }
}
