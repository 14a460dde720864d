package io.batchpersistence.sample;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Clock;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.TokenStreamLocation;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

/**
 * Parses the body of a request into entries. Empty lines are left out. Entries without a time get times one nanosecond
 * apart, so that they keep their order, and entries with the same text are not mistaken for one. Thread-safe.
 */
final class EntryParser {

    /** A body that can't be parsed; the message says where and why. */
    static final class BadInputException extends RuntimeException {

        private static final long serialVersionUID = 1L;

        BadInputException(String message) {
            super(message);
        }
    }

    private static final TypeReference<Map<String, @Nullable Object>> OBJECT = new TypeReference<>() {};

    private final Clock clock;
    private final JsonMapper json = JsonMapper.builder()
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    EntryParser(Clock clock) {
        this.clock = clock;
    }

    /** Parses one entry per line. */
    List<LogEntry> parseText(String body, String batchId) {
        Instant now = clock.instant();
        List<LogEntry> entries = new ArrayList<>();
        int number = 0;
        for (String line : lines(body)) {
            number++;
            if (!line.isBlank()) {
                Instant timestamp = LogLines.timestamp(line);
                entries.add(LogEntry.builder(timestamp == null ? now.plusNanos(entries.size()) : timestamp, line)
                        .level(LogLines.level(line))
                        .source("http", batchId + ":" + number)
                        .build());
            }
        }
        return entries;
    }

    /** Parses one JSON object per line; unknown properties are kept as fields. */
    List<LogEntry> parseNdjson(String body, String batchId) {
        Instant now = clock.instant();
        List<LogEntry> entries = new ArrayList<>();
        int number = 0;
        for (String line : lines(body)) {
            number++;
            if (!line.isBlank()) {
                try {
                    entries.add(entry(object(line), now.plusNanos(entries.size()), batchId + ":" + number));
                } catch (BadInputException | IllegalArgumentException e) {
                    throw new BadInputException("line " + number + ": " + e.getMessage());
                }
            }
        }
        return entries;
    }

    /** Splits at LF or CR LF only: a line may contain other separators. */
    private static String[] lines(String body) {
        return body.split("\r?\n", -1);
    }

    private Map<String, @Nullable Object> object(String line) {
        try {
            Map<String, @Nullable Object> object = json.readValue(line, OBJECT);
            if (object == null) {
                throw new BadInputException("is null, but must be a JSON object");
            }
            return object;
        } catch (JacksonException e) {
            throw new BadInputException(
                    line.stripLeading().startsWith("{")
                            ? "is not valid JSON" + place(e)
                            : "must be a JSON object such as {\"message\":\"…\"}");
        }
    }

    /** Where the text stopped being valid JSON, if that is known. */
    static String place(JacksonException e) {
        TokenStreamLocation at = e.getLocation();
        return at == null ? "" : ", at line " + at.getLineNr() + ", column " + at.getColumnNr();
    }

    private static String shortened(String text) {
        return LogSanitizer.of(text.length() > 60 ? text.substring(0, 60) + "…" : text);
    }

    private static LogEntry entry(Map<String, @Nullable Object> object, Instant now, String sourceId) {
        String message = text(object, "message");
        if (message == null) {
            throw new BadInputException("has no 'message', which is required");
        }
        String timestamp = text(object, "timestamp");
        String sourceType = text(object, "source_type");
        String givenSource = text(object, "source_id");
        LogEntry.Builder entry = LogEntry.builder(timestamp == null ? now : time(timestamp), message)
                .level(text(object, "level"))
                .source(sourceType == null ? "http" : sourceType, givenSource == null ? sourceId : givenSource)
                .trace(text(object, "trace_id"), text(object, "span_id"));
        nested(object, "labels").forEach((name, value) -> {
            if (!(value instanceof String label)) {
                throw new BadInputException("label '" + shortened(name) + "' must be a text");
            }
            entry.label(name, label);
        });
        entry.fields(nested(object, "fields"));
        // The remaining properties.
        entry.fields(object);
        return entry.build();
    }

    private static Instant time(String text) {
        try {
            return OffsetDateTime.parse(text.toUpperCase(Locale.ROOT)).toInstant();
        } catch (DateTimeException e) {
            throw new BadInputException(
                    "'timestamp' must be like 2026-01-31T12:00:00.123456789Z, but is '" + shortened(text) + "'");
        }
    }

    private static @Nullable String text(Map<String, @Nullable Object> object, String name) {
        Object value = object.remove(name);
        if (value == null || value instanceof String) {
            return (String) value;
        }
        throw new BadInputException("'" + name + "' must be a text");
    }

    private static Map<String, @Nullable Object> nested(Map<String, @Nullable Object> object, String name) {
        Object value = object.remove(name);
        if (value == null) {
            return Map.of();
        }
        if (!(value instanceof Map<?, ?> map)) {
            throw new BadInputException("'" + name + "' must be an object");
        }
        Map<String, @Nullable Object> copy = new LinkedHashMap<>();
        map.forEach((key, each) -> copy.put(String.valueOf(key), each));
        return copy;
    }
}
