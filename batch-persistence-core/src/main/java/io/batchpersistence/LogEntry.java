package io.batchpersistence;

import io.batchpersistence.internal.log.DecodedLabels;
import io.batchpersistence.internal.log.LogEntryNormalizer;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * One log entry. Immutable.
 *
 * <p>Texts are stored as well-formed Unicode: an unpaired surrogate, which no wire format can carry, becomes U+FFFD at
 * construction, so that what a caller sees is what will be delivered. Control characters are kept as they are.
 *
 * @param timestamp when it happened, with nanosecond precision; between 1677-09-21T00:12:43.145224192Z and
 *     2262-04-11T23:47:16.854775807Z (what fits 64-bit nanoseconds since 1970, as in OTLP)
 * @param level the severity as the source wrote it, for instance {@code INFO}; {@code null} if unknown
 * @param message the text; may be empty
 * @param labels low-cardinality tags such as {@code app=shop}; may be empty
 * @param fields structured data, values as in JSON: {@code null}, {@link Boolean}, {@link Number}, {@link String},
 *     {@link java.util.List} and {@link Map} of the same; may be empty. Integral numbers are kept as {@link Long} where
 *     they fit and {@link java.math.BigInteger} where not, {@code float} as {@link Double}; NaN and infinities are
 *     refused, because JSON can't express them, and so are numbers of more than 100,000 digits and nesting deeper than
 *     200
 * @param sourceType what kind of source it came from, for instance {@code file}
 * @param sourceId which source and where in it, for instance {@code /var/log/app.log:1042}
 * @param traceId W3C trace id in hex
 * @param spanId W3C span id in hex
 */
public record LogEntry(
        Instant timestamp,
        @Nullable String level,
        String message,
        Map<String, String> labels,
        Map<String, @Nullable Object> fields,
        @Nullable String sourceType,
        @Nullable String sourceId,
        @Nullable String traceId,
        @Nullable String spanId) {

    private static final Instant EARLIEST = Instant.ofEpochSecond(0, Long.MIN_VALUE);
    private static final Instant LATEST = Instant.ofEpochSecond(0, Long.MAX_VALUE);

    /**
     * Normalizes texts and numbers and copies the maps.
     *
     * @throws IllegalArgumentException if the timestamp is out of range or a field's value is not a JSON value
     * @throws NullPointerException if the timestamp, the message, a map, a label or a key is {@code null}
     */
    public LogEntry {
        Objects.requireNonNull(timestamp, "timestamp must not be null");
        Objects.requireNonNull(message, "message must not be null");
        Objects.requireNonNull(labels, "labels must not be null (use an empty map)");
        Objects.requireNonNull(fields, "fields must not be null (use an empty map)");
        if (timestamp.isBefore(EARLIEST) || timestamp.isAfter(LATEST)) {
            throw new IllegalArgumentException(
                    "timestamp " + timestamp + " is out of range: it must be between " + EARLIEST + " and " + LATEST);
        }
        if (labels instanceof DecodedLabels decoded) {
            labels = decoded.labels();
        } else {
            level = LogEntryNormalizer.wellFormedOrNull(level);
            message = LogEntryNormalizer.wellFormed(message);
            labels = LogEntryNormalizer.texts(labels, "label");
            sourceType = LogEntryNormalizer.wellFormedOrNull(sourceType);
            sourceId = LogEntryNormalizer.wellFormedOrNull(sourceId);
            traceId = LogEntryNormalizer.wellFormedOrNull(traceId);
            spanId = LogEntryNormalizer.wellFormedOrNull(spanId);
        }
        fields = LogEntryNormalizer.jsonObject(fields);
    }

    /**
     * Describes the entry without its content: an entry that is logged by accident must neither reveal a secret nor
     * forge a log line.
     */
    @Override
    public String toString() {
        return "LogEntry[" + timestamp + ", message of " + message.length() + " characters, " + labels.size()
                + " labels, " + fields.size() + " fields]";
    }

    /**
     * Creates an entry with only the essential parts.
     *
     * @param timestamp when it happened
     * @param level the severity, or {@code null}
     * @param message the text
     * @return the entry
     */
    public static LogEntry of(Instant timestamp, @Nullable String level, String message) {
        return new LogEntry(timestamp, level, message, Map.of(), Map.of(), null, null, null, null);
    }

    /**
     * Starts an entry.
     *
     * @param timestamp when it happened
     * @param message the text
     * @return a builder, not thread-safe
     */
    public static Builder builder(Instant timestamp, String message) {
        return new Builder(timestamp, message);
    }

    /** Collects the optional parts of an entry. Not thread-safe. */
    public static final class Builder {

        private final Instant timestamp;
        private final String message;
        private final Map<String, String> labels = new LinkedHashMap<>();
        private final Map<String, @Nullable Object> fields = new LinkedHashMap<>();
        private @Nullable String level;
        private @Nullable String sourceType;
        private @Nullable String sourceId;
        private @Nullable String traceId;
        private @Nullable String spanId;

        private Builder(Instant timestamp, String message) {
            this.timestamp = timestamp;
            this.message = message;
        }

        /**
         * Sets the severity.
         *
         * @param level as the source wrote it
         * @return this
         */
        public Builder level(@Nullable String level) {
            this.level = level;
            return this;
        }

        /**
         * Adds a label.
         *
         * @param name its name
         * @param value its value
         * @return this
         */
        public Builder label(String name, String value) {
            labels.put(name, value);
            return this;
        }

        /**
         * Adds labels.
         *
         * @param more names and values
         * @return this
         */
        public Builder labels(Map<String, String> more) {
            labels.putAll(more);
            return this;
        }

        /**
         * Adds a structured field.
         *
         * @param name its name
         * @param value a JSON value, see {@link LogEntry#fields()}
         * @return this
         */
        public Builder field(String name, @Nullable Object value) {
            fields.put(name, value);
            return this;
        }

        /**
         * Adds structured fields.
         *
         * @param more names and JSON values
         * @return this
         */
        public Builder fields(Map<String, ? extends @Nullable Object> more) {
            fields.putAll(more);
            return this;
        }

        /**
         * Sets the source.
         *
         * @param type what kind of source
         * @param id which one, and where in it
         * @return this
         */
        public Builder source(@Nullable String type, @Nullable String id) {
            this.sourceType = type;
            this.sourceId = id;
            return this;
        }

        /**
         * Sets the trace context.
         *
         * @param traceId trace id in hex
         * @param spanId span id in hex
         * @return this
         */
        public Builder trace(@Nullable String traceId, @Nullable String spanId) {
            this.traceId = traceId;
            this.spanId = spanId;
            return this;
        }

        /**
         * Builds the entry.
         *
         * @return the entry
         * @throws IllegalArgumentException as described at {@link LogEntry}
         */
        public LogEntry build() {
            return new LogEntry(timestamp, level, message, labels, fields, sourceType, sourceId, traceId, spanId);
        }
    }
}
