package io.batchpersistence;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

class BatchSelectorTest {

    @Test
    void namingTheSameTwiceIsNamingItOnce() {
        assertThat(BatchSelector.all().ids("a", "a").collectorTypes("loki", "loki"))
                .isEqualTo(BatchSelector.all().ids("a").collectorTypes("loki"));
    }

    @Test
    void aGlobIsNoRegularExpression() {
        Pattern glob = BatchSelector.glob("*(HTTP 4?9)*[a-z]");
        assertThat("post (http 429): x[a-z]").matches(glob);
        assertThat("post (http 4299): x[a-z]").doesNotMatch(glob);
        assertThat("post (http 429): xb").doesNotMatch(glob);
        assertThat("several\nlines").matches(BatchSelector.glob("several*lines"));
        assertThat("").matches(BatchSelector.glob("*")).doesNotMatch(BatchSelector.glob("?"));
        assertThat("\\E.*").matches(BatchSelector.glob("\\E.?"));
    }

    @Test
    void conditionsThatCanNotHoldAreRefused() {
        BatchSelector all = BatchSelector.all();
        assertThatThrownBy(() -> all.limit(0)).hasMessageContaining("limit must be at least 1");
        assertThatThrownBy(() -> all.retries(2, 1)).hasMessageContaining("range");
        assertThatThrownBy(() -> all.olderThan(Duration.ofSeconds(-1))).hasMessageContaining("must not be negative");
        assertThatThrownBy(() -> all.youngerThan(Duration.ofSeconds(-1))).hasMessageContaining("must not be negative");
    }
}
