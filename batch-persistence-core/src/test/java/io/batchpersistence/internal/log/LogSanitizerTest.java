package io.batchpersistence.internal.log;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import java.io.IOException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

class LogSanitizerTest {

    private final Logger logger = (Logger) LoggerFactory.getLogger(LogSanitizerTest.class);
    private final ListAppender<ILoggingEvent> logged = new ListAppender<>() {
        @Override
        protected void append(ILoggingEvent event) {
            // Computed from the stack, so it must be requested now.
            event.getCallerData();
            super.append(event);
        }
    };

    @BeforeEach
    void listen() {
        logger.setLevel(Level.TRACE);
        logger.setAdditive(false);
        logged.start();
        logger.addAppender(logged);
    }

    @AfterEach
    void leave() {
        logger.detachAppender(logged);
        logger.setAdditive(true);
        logger.setLevel(null);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "order-4711", "Ünïcödé", "日本語 ログ", "\uD83D\uDE80 up", "C:\\new\\u000A", "it's {}"})
    void what_can_be_printed_stays(String text) {
        assertThat(LogSanitizer.of(text)).isSameAs(text).isEqualTo(text);
    }

    @Test
    void what_would_begin_a_line_or_turn_it_round_is_replaced_by_its_number() {
        assertThat(LogSanitizer.of("a\nb\r\nc")).isEqualTo("a\\u000Ab\\u000D\\u000Ac");
        assertThat(LogSanitizer.of("\u001B[31mred")).isEqualTo("\\u001B[31mred");
        assertThat(LogSanitizer.of("a\0b\tc\u007F\u0085\u009B")).isEqualTo("a\\u0000b\\u0009c\\u007F\\u0085\\u009B");
        assertThat(LogSanitizer.of("\u2028\u2029")).isEqualTo("\\u2028\\u2029");
        assertThat(LogSanitizer.of("\u202Egnp.exe\u2066\u200B\uFEFF")).isEqualTo("\\u202Egnp.exe\\u2066\\u200B\\uFEFF");
        assertThat(LogSanitizer.of("half \uD83D")).isEqualTo("half \\uD83D");
        assertThat(LogSanitizer.of("tag \uDB40\uDC41")).as("an invisible tag").isEqualTo("tag \\uDB40\\uDC41");
        assertThat(LogSanitizer.of(null)).isEqualTo("null");
    }

    @Test
    void no_character_leads_out_of_the_line() {
        for (int character = 0; character <= Character.MAX_CODE_POINT; character++) {
            String line = LogSanitizer.of("a" + Character.toString(character) + "b");
            assertThat(line.lines().count()).as("U+%04X", character).isOne();
            assertThat(line.chars().noneMatch(c -> Character.isISOControl(c) || c == 0x202E || c == 0x2028))
                    .as("U+%04X", character)
                    .isTrue();
        }
    }

    @Test
    void what_is_too_long_is_cut_off() {
        assertThat(LogSanitizer.of("x".repeat(5_000))).hasSize(4_097).endsWith("x…");
        assertThat(LogSanitizer.of("\n".repeat(5_000))).hasSize(6 * 4_096 + 1).endsWith("\\u000A…");
        assertThat(LogSanitizer.of("x".repeat(4_096))).hasSize(4_096);
    }

    @Test
    void loggers_print_arguments_in_one_line() {
        org.slf4j.Logger log = LogSanitizer.logger(LogSanitizerTest.class);
        log.warn("batch '{}' for {} after {}", "a\nb", "lo\u202Eki", 3);
        log.atLevel(org.slf4j.event.Level.ERROR).log("lost {}", "c\rd");
        log.debug("nothing");
        log.info("{} and {}", "one", "two");

        assertThat(logged.list)
                .extracting(event -> event.getLevel() + " " + event.getFormattedMessage())
                .containsExactly(
                        "WARN batch 'a\\u000Ab' for lo\\u202Eki after 3",
                        "ERROR lost c\\u000Dd",
                        "DEBUG nothing",
                        "INFO one and two");
        assertThat(logged.list.get(0).getCallerData()[0].getMethodName())
                .as("where it was logged")
                .isEqualTo("loggers_print_arguments_in_one_line");
    }

    @Test
    void an_exception_that_is_harmless_is_logged_as_it_is() {
        Exception harmless = new IOException("503", new IllegalStateException("no"));
        assertThat(LogSanitizer.printable(harmless)).isSameAs(harmless);
    }

    @Test
    void an_exceptions_messages_are_made_one_line_each() {
        Exception cause = new IllegalArgumentException("cause\nERROR forged");
        cause.addSuppressed(new IOException("suppressed\u001B[2J"));
        Exception thrown = new IOException("harmless", cause);
        // A cyclic cause, as some libraries create it.
        cause.initCause(thrown);

        LogSanitizer.logger(LogSanitizerTest.class).error("sending '{}' failed", "id", thrown);

        String printed = ch.qos.logback.classic.spi.ThrowableProxyUtil.asString(
                logged.list.get(0).getThrowableProxy());
        assertThat(printed)
                .contains("java.io.IOException: harmless")
                .contains("java.lang.IllegalArgumentException: cause\\u000AERROR forged")
                .contains("java.io.IOException: suppressed\\u001B[2J")
                .contains("LogSanitizerTest.an_exceptions_messages_are_made_one_line_each(")
                .doesNotContain("\nERROR")
                .doesNotContain("\u001B");
        assertThat(LogSanitizer.printable(thrown)).hasToString("java.io.IOException: harmless");
    }

    @Test
    void an_exception_that_cant_describe_itself_is_logged_all_the_same() {
        LogSanitizer.logger(LogSanitizerTest.class).error("failed", new RuntimeException("x\ny") {
            private static final long serialVersionUID = 1L;

            @Override
            public String getMessage() {
                throw new IllegalStateException("no");
            }
        });
        assertThat(logged.list).hasSize(1);
    }
}
