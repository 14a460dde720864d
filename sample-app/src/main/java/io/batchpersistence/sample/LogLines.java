package io.batchpersistence.sample;

import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** Extracts what can be recognized reliably in a line of unknown format. */
final class LogLines {

    /** The number of characters at the start of a line in which the level is searched. */
    private static final int PROLOGUE = 120;

    /** A date and time with a time zone, as Spring Boot writes it. Without a zone, the time would be ambiguous. */
    private static final Pattern TIMESTAMP = Pattern.compile(
            "^\\[?(\\d{4}-\\d\\d-\\d\\d)[T ](\\d\\d:\\d\\d:\\d\\d)(?:[.,](\\d{1,9}))?(Z|[+-]\\d\\d:\\d\\d)\\b");

    /** Upper case, or in brackets: the word "error" in a sentence is not a level. */
    private static final Pattern LEVEL =
            Pattern.compile("\\b(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|FATAL)\\b"
                    + "|\\[(?i:(trace|debug|info|notice|warn|warning|error|severe|crit|critical|alert|emerg|fatal))]");

    private LogLines() {}

    static @Nullable Instant timestamp(String line) {
        Matcher matcher = TIMESTAMP.matcher(line);
        if (!matcher.find()) {
            return null;
        }
        String fraction = matcher.group(3) == null ? "" : "." + matcher.group(3);
        try {
            OffsetDateTime time =
                    OffsetDateTime.parse(matcher.group(1) + "T" + matcher.group(2) + fraction + matcher.group(4));
            // An entry's timestamp is stored in 64-bit nanoseconds, which range from 1677 to 2262.
            return time.getYear() > 1677 && time.getYear() < 2262 ? time.toInstant() : null;
        } catch (DateTimeException e) {
            return null;
        }
    }

    static @Nullable String level(String line) {
        Matcher matcher = LEVEL.matcher(line).region(0, Math.min(PROLOGUE, line.length()));
        if (!matcher.find()) {
            return null;
        }
        return matcher.group(1) != null ? matcher.group(1) : matcher.group(2).toUpperCase(Locale.ROOT);
    }
}
