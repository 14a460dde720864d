package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Instant;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class LogLinesTest {

    @ParameterizedTest
    @CsvSource({
        "2026-11-24T03:36:00.123456789Z INFO x, 2026-11-24T03:36:00.123456789Z",
        "2026-11-24 03:36:00+02:00 x, 2026-11-24T01:36:00Z",
        "'[2026-11-24T03:36:00,5Z] x', 2026-11-24T03:36:00.5Z"
    })
    void reads_timestamps_with_a_zone(String line, String expected) {
        assertThat(LogLines.timestamp(line)).isEqualTo(Instant.parse(expected));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "2015-07-29 17:41:44,747 - INFO  [QuorumPeer]",
                "[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok",
                "2026-13-45T03:36:00Z no such day",
                "9999-01-01T00:00:00Z too late",
                "at 2026-11-24T03:36:00Z",
                ""
            })
    void guesses_no_other(String line) {
        assertThat(LogLines.timestamp(line)).isNull();
    }

    @ParameterizedTest
    @CsvSource(
            nullValues = "-",
            value = {
                "2015-07-29 17:41:44 - WARN  [x] disk ERROR, WARN",
                "[Sun Dec 04 04:47:44 2005] [error] mod_jk, ERROR",
                "[info] fine, INFO",
                "there was an error somewhere, -",
                "INFORMATION is no level, -",
                "'', -"
            })
    void finds_the_level(String line, String expected) {
        assertThat(LogLines.level(line)).isEqualTo(expected);
    }
}
