package io.batchpersistence.internal.codec;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.codec.BatchLimits.Budget;
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.temporal.TemporalAccessor;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.core.TokenStreamLocation;
import tools.jackson.core.io.NumberInput;
import tools.jackson.core.json.JsonFactory;

/**
 * Reads and writes entries as a JSON array that humans can read and edit. Thread-safe.
 *
 * <pre>{@code
 * [ { "timestamp": "2026-01-02T03:04:05.678901234Z", "level": "WARN", "message": "slow", "labels": { "app": "shop" },
 *     "fields": { "millis": 1200, "ratio": 0.5, "price": { "$numberDecimal": "1.50" } },
 *     "source_type": "file", "source_id": "/var/log/shop.log:17",
 *     "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7" } ]
 * }</pre>
 *
 * <p>Nulls, empty labels and empty fields are omitted. Everything is restored exactly:
 *
 * <ul>
 *   <li>A number without point and exponent is a {@link Long}, or a {@link BigInteger} if it does not fit one. A number
 *       with either is a {@link Double}. This is what someone who edits the file expects, so it is the rare {@link
 *       BigDecimal} that is marked, in the style of MongoDB's Extended JSON: <code>{"$numberDecimal": "1.50"}</code>.
 *   <li>An object of the application that happens to look like that, with a single member <code>$numberDecimal</code>,
 *       is written with one more <code>$</code> in front of the name, which is removed again when read.
 * </ul>
 *
 * <p>Reading is lenient, because files are edited by hand: unknown properties are skipped, {@code null} is the same as
 * absent, and a number or boolean in place of a text is read as its text; see also {@link #parseTimestamp}. An entry
 * without timestamp or message, however, is damaged.
 */
public final class JsonBatchCodec implements BatchCodec {

    static final JsonBatchCodec INSTANCE = new JsonBatchCodec();

    private static final String DECIMAL = "$numberDecimal";
    private static final Pattern DECIMAL_OR_ESCAPED = Pattern.compile("\\$+numberDecimal");

    private static final BigInteger MIN_LONG = BigInteger.valueOf(Long.MIN_VALUE);
    private static final BigInteger MAX_LONG = BigInteger.valueOf(Long.MAX_VALUE);

    private static final JsonFactory FACTORY = JsonFactory.builder()
            // A message may be as long as an array can be. The depth stays limited (to 500); fields are at most 200
            // levels deep.
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxStringLength(Integer.MAX_VALUE)
                    .maxNameLength(Integer.MAX_VALUE)
                    .maxNumberLength(BatchLimits.MAX_NUMBER_LENGTH)
                    .build())
            // The JDK takes minutes for an integer of some million digits.
            .enable(StreamReadFeature.USE_FAST_BIG_NUMBER_PARSER)
            .build();

    private static final DateTimeFormatter LENIENT_TIMESTAMP = new DateTimeFormatterBuilder()
            .parseCaseInsensitive()
            .append(DateTimeFormatter.ISO_LOCAL_DATE_TIME)
            .optionalStart()
            .appendOffset("+HH:MM:ss", "Z")
            .optionalEnd()
            .optionalStart()
            .appendOffset("+HHmm", "Z")
            .optionalEnd()
            .toFormatter(Locale.ROOT);

    private JsonBatchCodec() {}

    /**
     * Returns the factory of generators and parsers for files that contain entries. Its limits permit everything that
     * an entry may contain.
     *
     * @return the factory, thread-safe
     */
    public static JsonFactory factory() {
        return FACTORY;
    }

    @Override
    public <T> T encode(List<LogEntry> entries, Receiver<T> receiver) {
        if (entries.isEmpty()) {
            throw new IllegalArgumentException("entries must not be empty: a batch has at least one entry");
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(256 * entries.size());
        try (JsonGenerator generator = FACTORY.createGenerator(ObjectWriteContext.empty(), bytes)) {
            writeEntries(generator, entries);
        } catch (OutOfMemoryError e) {
            if (bytes.size() < Integer.MAX_VALUE / 2) {
                // The JVM is really out of memory.
                throw e;
            }
            throw new IllegalArgumentException(
                    "the entries are too large: as JSON they take more than 2 GB; send them in smaller batches", e);
        }
        BatchLimits.check(entries, bytes.size());
        return receiver.receive(bytes.toByteArray(), bytes.size());
    }

    @Override
    public List<LogEntry> decode(byte[] bytes) {
        try (JsonParser parser = FACTORY.createParser(ObjectReadContext.empty(), bytes)) {
            parser.nextToken();
            List<LogEntry> entries = readEntries(parser);
            if (entries.isEmpty()) {
                throw new DamagedPayloadException("payload has no entries", null);
            }
            if (parser.nextToken() != null) {
                throw new DamagedPayloadException("payload goes on after its end", null);
            }
            return entries;
        } catch (JacksonException e) {
            throw invalid(e);
        }
    }

    /**
     * Creates the exception for bytes that are not JSON: with the location, but without the parser's message, which
     * quotes the content.
     *
     * @param e what the parser threw
     * @return the exception, with the location
     */
    public static DamagedPayloadException invalid(JacksonException e) {
        TokenStreamLocation at = e.getLocation();
        return new DamagedPayloadException(
                "not valid JSON, or beyond its limits"
                        + (at == null ? "" : ", at line " + at.getLineNr() + ", column " + at.getColumnNr()),
                null);
    }

    /**
     * Writes entries as one JSON array at the generator's current position.
     *
     * @param generator any open generator, not closed here
     * @param entries the entries
     * @throws JacksonException if the generator can't write
     */
    public static void writeEntries(JsonGenerator generator, List<LogEntry> entries) {
        generator.writeStartArray();
        for (LogEntry entry : entries) {
            generator.writeStartObject();
            generator.writeStringProperty("timestamp", entry.timestamp().toString());
            writeOptional(generator, "level", entry.level());
            generator.writeStringProperty("message", entry.message());
            if (!entry.labels().isEmpty()) {
                generator.writeName("labels");
                writeTexts(generator, entry.labels());
            }
            if (!entry.fields().isEmpty()) {
                generator.writeName("fields");
                // The outermost object is never a marked decimal.
                writeMembers(generator, entry.fields());
            }
            writeOptional(generator, "source_type", entry.sourceType());
            writeOptional(generator, "source_id", entry.sourceId());
            writeOptional(generator, "trace_id", entry.traceId());
            writeOptional(generator, "span_id", entry.spanId());
            generator.writeEndObject();
        }
        generator.writeEndArray();
    }

    /**
     * Reads a JSON array of entries. Leaves the parser at the array's end.
     *
     * @param parser at the array's start, not closed here
     * @return the entries; empty if the array is
     * @throws DamagedPayloadException if the elements are not entries
     * @throws JacksonException if it is not JSON, or the parser can't read
     */
    public static List<LogEntry> readEntries(JsonParser parser) {
        expect(parser, JsonToken.START_ARRAY, "an array of entries");
        List<LogEntry> entries = new ArrayList<>();
        Budget budget = new Budget();
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            budget.entry();
            try {
                entries.add(readEntry(parser, budget));
            } catch (DamagedPayloadException e) {
                throw new DamagedPayloadException("entry " + entries.size() + ": " + e.getMessage(), e);
            } catch (IllegalArgumentException | ArithmeticException e) {
                throw new DamagedPayloadException("entry " + entries.size() + " is not valid: " + e.getMessage(), e);
            }
        }
        return List.copyOf(entries);
    }

    /**
     * Writes a map of texts as a JSON object at the generator's current position.
     *
     * @param generator any open generator, not closed here
     * @param texts names and values
     * @throws JacksonException if the generator can't write
     */
    public static void writeTexts(JsonGenerator generator, Map<String, String> texts) {
        generator.writeStartObject();
        texts.forEach(generator::writeStringProperty);
        generator.writeEndObject();
    }

    /**
     * Reads a JSON object as a map of texts. Omits members that are null. Leaves the parser at the object's end.
     *
     * @param parser at the object's start, or at a null, which is an empty map; not closed here
     * @return names and values, in their original order
     * @throws DamagedPayloadException if it is neither, or a member is an object or an array
     * @throws JacksonException if it is not JSON, or the parser can't read
     */
    public static Map<String, String> readTexts(JsonParser parser) {
        return readTexts(parser, new Budget());
    }

    private static Map<String, String> readTexts(JsonParser parser, Budget budget) {
        if (parser.currentToken() == JsonToken.VALUE_NULL) {
            return Map.of();
        }
        expect(parser, JsonToken.START_OBJECT, "an object");
        Map<String, String> texts = new LinkedHashMap<>();
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            String text = readText(parser, name);
            budget.values(1);
            if (text != null) {
                texts.put(name, text);
            }
        }
        return texts;
    }

    /**
     * Reads a text leniently: a number or boolean is read as its text.
     *
     * @param parser at a value, not closed here
     * @param name the name to use in an error message
     * @return the text; {@code null} for a null
     * @throws DamagedPayloadException if it is an object or an array
     * @throws JacksonException if it is not JSON, or the parser can't read
     */
    public static @Nullable String readText(JsonParser parser, String name) {
        JsonToken token = parser.currentToken();
        if (token == JsonToken.VALUE_NULL) {
            return null;
        }
        if (token == null || !token.isScalarValue()) {
            throw new DamagedPayloadException(name + " is not a text", null);
        }
        return parser.getString();
    }

    /**
     * Reads a point in time in ISO-8601 leniently: with or without seconds and fraction; with any offset, or none,
     * which means UTC; with a space instead of the T.
     *
     * @param text for instance {@code 2026-01-02T03:04:05.678Z}
     * @return the point in time
     * @throws DamagedPayloadException if it is not one
     */
    public static Instant parseTimestamp(String text) {
        try {
            boolean spaced = text.length() > 10 && text.charAt(10) == ' ';
            TemporalAccessor parsed = LENIENT_TIMESTAMP.parseBest(
                    spaced ? text.substring(0, 10) + 'T' + text.substring(11) : text,
                    OffsetDateTime::from,
                    LocalDateTime::from);
            return parsed instanceof OffsetDateTime withOffset
                    ? withOffset.toInstant()
                    : ((LocalDateTime) parsed).toInstant(ZoneOffset.UTC);
        } catch (DateTimeException e) {
            // Omits the cause, because it quotes the text.
            throw new DamagedPayloadException(
                    "a text of " + text.length() + " characters is not a timestamp such as 2026-01-02T03:04:05.678Z",
                    null);
        }
    }

    private static void writeOptional(JsonGenerator generator, String name, @Nullable String value) {
        if (value != null) {
            generator.writeStringProperty(name, value);
        }
    }

    private static void writeMembers(JsonGenerator generator, Map<?, ?> members) {
        generator.writeStartObject();
        members.forEach((name, value) -> {
            generator.writeName((String) name);
            writeValue(generator, value);
        });
        generator.writeEndObject();
    }

    private static void writeValue(JsonGenerator generator, @Nullable Object value) {
        if (value == null) {
            generator.writeNull();
        } else if (value instanceof String text) {
            generator.writeString(text);
        } else if (value instanceof Long number) {
            generator.writeNumber(number);
        } else if (value instanceof Double number) {
            // Always written with a decimal point.
            generator.writeNumber(number);
        } else if (value instanceof Boolean flag) {
            generator.writeBoolean(flag);
        } else if (value instanceof BigInteger number) {
            generator.writeNumber(number);
        } else if (value instanceof BigDecimal number) {
            generator.writeStartObject();
            generator.writeStringProperty(DECIMAL, number.toString());
            generator.writeEndObject();
        } else if (value instanceof List<?> elements) {
            generator.writeStartArray();
            for (Object element : elements) {
                writeValue(generator, element);
            }
            generator.writeEndArray();
        } else if (value instanceof Map<?, ?> members) {
            if (members.size() == 1) {
                Map.Entry<?, ?> only = members.entrySet().iterator().next();
                if (DECIMAL_OR_ESCAPED.matcher((String) only.getKey()).matches()) {
                    generator.writeStartObject();
                    generator.writeName("$" + only.getKey());
                    writeValue(generator, only.getValue());
                    generator.writeEndObject();
                    return;
                }
            }
            writeMembers(generator, members);
        } else {
            throw new IllegalArgumentException(
                    "not a JSON value: " + value.getClass().getName());
        }
    }

    private static LogEntry readEntry(JsonParser parser, Budget budget) {
        expect(parser, JsonToken.START_OBJECT, "an entry");
        Instant timestamp = null;
        String level = null;
        String message = null;
        Map<String, String> labels = Map.of();
        Map<String, @Nullable Object> fields = Map.of();
        String sourceType = null;
        String sourceId = null;
        String traceId = null;
        String spanId = null;
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "timestamp" -> {
                    String text = readText(parser, name);
                    timestamp = text == null ? null : parseTimestamp(text);
                }
                case "level" -> level = readText(parser, name);
                case "message" -> message = readText(parser, name);
                case "labels" -> labels = readTexts(parser, budget);
                case "fields" -> fields = readFields(parser, budget);
                case "source_type" -> sourceType = readText(parser, name);
                case "source_id" -> sourceId = readText(parser, name);
                case "trace_id" -> traceId = readText(parser, name);
                case "span_id" -> spanId = readText(parser, name);
                default -> parser.skipChildren();
            }
        }
        if (timestamp == null || message == null) {
            throw new DamagedPayloadException("it has no " + (timestamp == null ? "timestamp" : "message"), null);
        }
        return new LogEntry(timestamp, level, message, labels, fields, sourceType, sourceId, traceId, spanId);
    }

    private static Map<String, @Nullable Object> readFields(JsonParser parser, Budget budget) {
        if (parser.currentToken() == JsonToken.VALUE_NULL) {
            return Map.of();
        }
        expect(parser, JsonToken.START_OBJECT, "an object of fields");
        return readMembers(parser, budget);
    }

    private static Map<String, @Nullable Object> readMembers(JsonParser parser, Budget budget) {
        Map<String, @Nullable Object> members = new LinkedHashMap<>();
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            members.put(name, readValue(parser, budget));
        }
        return members;
    }

    private static @Nullable Object readValue(JsonParser parser, Budget budget) {
        budget.values(1);
        JsonToken token = parser.currentToken();
        if (token == null) {
            throw new DamagedPayloadException("it ends too early", null);
        }
        return switch (token) {
            case VALUE_NULL -> null;
            case VALUE_TRUE -> true;
            case VALUE_FALSE -> false;
            case VALUE_STRING -> parser.getString();
            case VALUE_NUMBER_INT -> integer(parser);
            case VALUE_NUMBER_FLOAT -> decimal(parser);
            case START_ARRAY -> {
                List<@Nullable Object> list = new ArrayList<>();
                while (parser.nextToken() != JsonToken.END_ARRAY) {
                    list.add(readValue(parser, budget));
                }
                yield list;
            }
            case START_OBJECT -> objectOrDecimal(readMembers(parser, budget));
            default -> throw new DamagedPayloadException("unexpected " + token, null);
        };
    }

    private static Object integer(JsonParser parser) {
        if (parser.getNumberType() != JsonParser.NumberType.BIG_INTEGER) {
            return parser.getLongValue();
        }
        BigInteger number = parser.getBigIntegerValue();
        return number.compareTo(MIN_LONG) >= 0 && number.compareTo(MAX_LONG) <= 0
                ? (Object) number.longValue()
                : number;
    }

    /**
     * A number outside the range of a double can only have been edited by hand: keep it as it is rather than refuse it.
     */
    private static Object decimal(JsonParser parser) {
        String text = bounded(parser.getString());
        double number = Double.parseDouble(text);
        return Double.isFinite(number) ? (Object) number : NumberInput.parseBigDecimal(text, true);
    }

    private static String bounded(String number) {
        if (number.length() > BatchLimits.MAX_NUMBER_LENGTH) {
            throw new DamagedPayloadException("a number of " + number.length() + " characters", null);
        }
        return number;
    }

    private static Object objectOrDecimal(Map<String, @Nullable Object> members) {
        if (members.size() == 1) {
            Map.Entry<String, @Nullable Object> only =
                    members.entrySet().iterator().next();
            String name = only.getKey();
            if (DECIMAL_OR_ESCAPED.matcher(name).matches()) {
                if (!name.equals(DECIMAL)) {
                    Map<String, @Nullable Object> unescaped = new LinkedHashMap<>();
                    unescaped.put(name.substring(1), only.getValue());
                    return unescaped;
                }
                if (only.getValue() instanceof String number) {
                    return NumberInput.parseBigDecimal(bounded(number), true);
                }
            }
        }
        return members;
    }

    private static void expect(JsonParser parser, JsonToken token, String what) {
        if (parser.currentToken() != token) {
            throw new DamagedPayloadException("expected " + what + " but found " + parser.currentToken(), null);
        }
    }
}
