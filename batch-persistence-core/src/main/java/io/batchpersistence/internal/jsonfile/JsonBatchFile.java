package io.batchpersistence.internal.jsonfile;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.codec.JsonBatchCodec;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.StoreLimits;
import io.batchpersistence.internal.store.PersistedState;
import io.batchpersistence.spi.NewBatch;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.databind.ObjectWriter;
import tools.jackson.databind.json.JsonMapper;

/**
 * One batch as a JSON document. Immutable. This is the only place that knows its properties:
 *
 * <pre>{@code
 * {
 *   "id" : "order-4711",
 *   "collector_type" : "loki",             also read as "sink_type"
 *   "state" : "pending",                   or "dead"
 *   "created_at" : "2026-01-02T03:04:05.678Z",
 *   "last_attempt" : "2026-01-02T03:05:05.678Z",      absent: none has failed
 *   "next_attempt_at" : "2026-01-02T03:06:05.678Z",   absent: due; null: not automatically
 *   "retry_count" : 1,
 *   "failure_reason" : "HTTP 503",         absent: none has failed
 *   "since" : "2026-01-02T03:04:05.678Z",  what the TTL is measured from; absent: created_at
 *   "sequence" : 42,                       the batch's number; leave it out in a file that you put there by hand
 *   "context" : { "tenant" : "a" },
 *   "entries" : [ … ]                      see JsonBatchCodec
 * }
 * }</pre>
 *
 * <p>Only {@code id}, {@code collector_type} and {@code entries} are required. Unknown properties are skipped.
 *
 * @param sequence the batch's number; 0 if it has none yet
 * @param persistedState its state
 * @param entries what is to be delivered; empty in a document read without them
 * @param entryCount how many there are
 */
record JsonBatchFile(
        String id,
        String collectorType,
        Instant createdAt,
        long sequence,
        PersistedState persistedState,
        Map<String, String> context,
        List<LogEntry> entries,
        int entryCount) {

    private static final ObjectWriter PRETTY =
            JsonMapper.builder(JsonBatchCodec.factory()).build().writerWithDefaultPrettyPrinter();

    private static final int MAX_READABLE = 100;

    /**
     * The name of the file for an id: never a path, never too long, and different for different ids also where file
     * names ignore case. An id of lower-case letters, digits, {@code _} and {@code -} is its own name; any other is
     * made readable and gets a part of its SHA-256.
     */
    static String name(String id) {
        StringBuilder readable = new StringBuilder();
        for (int i = 0; i < id.length() && readable.length() < MAX_READABLE; i++) {
            char c = id.charAt(i);
            boolean safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
            readable.append(safe ? c : '_');
        }
        boolean exact = id.length() <= MAX_READABLE
                && id.chars().allMatch(c -> (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_');
        return "batch_" + readable + (exact ? "" : "~" + digest(id)) + ".json";
    }

    private static String digest(String id) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(id.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest, 0, 8);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    @Override
    public String toString() {
        return "JsonBatchFile['" + LogSanitizer.of(id) + "' for " + LogSanitizer.of(collectorType) + ", number "
                + sequence + "]";
    }

    JsonBatchFile with(long newSequence, PersistedState newPersistedState) {
        return new JsonBatchFile(
                id, collectorType, createdAt, newSequence, newPersistedState, context, entries, entryCount);
    }

    byte[] toBytes() {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(256 * entryCount);
        try (JsonGenerator json = PRETTY.createGenerator(bytes)) {
            json.writeStartObject();
            json.writeStringProperty("id", id);
            json.writeStringProperty("collector_type", collectorType);
            json.writeStringProperty("state", persistedState.dead() ? "dead" : "pending");
            json.writeStringProperty("created_at", createdAt.toString());
            if (persistedState.lastAttempt() != Long.MAX_VALUE) {
                json.writeStringProperty("last_attempt", text(persistedState.lastAttempt()));
            }
            if (!persistedState.dead() && persistedState.due() == Long.MAX_VALUE) {
                json.writeNullProperty("next_attempt_at");
            } else if (!persistedState.dead() && persistedState.due() != 0) {
                json.writeStringProperty("next_attempt_at", text(persistedState.due()));
            }
            json.writeNumberProperty("retry_count", persistedState.retries());
            if (persistedState.reason() != null) {
                json.writeStringProperty("failure_reason", persistedState.reason());
            }
            if (!persistedState.earlier().isEmpty()) {
                json.writeArrayPropertyStart("earlier_failures");
                for (FailedAttempt failure : persistedState.earlier()) {
                    json.writeStartObject();
                    json.writeStringProperty("at", failure.at().toString());
                    json.writeStringProperty("reason", failure.reason());
                    json.writeEndObject();
                }
                json.writeEndArray();
            }
            if (persistedState.since() != createdAt.toEpochMilli()) {
                json.writeStringProperty("since", text(persistedState.since()));
            }
            json.writeNumberProperty("sequence", sequence);
            json.writeName("context");
            JsonBatchCodec.writeTexts(json, context);
            json.writeName("entries");
            JsonBatchCodec.writeEntries(json, entries);
            json.writeEndObject();
        }
        bytes.write('\n');
        return bytes.toByteArray();
    }

    private static String text(long millis) {
        return Instant.ofEpochMilli(millis).toString();
    }

    /**
     * Reads a document.
     *
     * @param withEntries whether to keep the entries; without, they are only counted, and not all of them checked
     * @param now stands in for a missing time of creation
     * @throws DamagedPayloadException if it is not such a document; never another exception
     */
    static JsonBatchFile parse(byte[] bytes, boolean withEntries, Instant now) {
        return parse(() -> JsonBatchCodec.factory().createParser(ObjectReadContext.empty(), bytes), withEntries, now);
    }

    /**
     * Reads a document without its entries, and without having all of it in memory.
     *
     * @param in throws unchecked exceptions if it can't be read, since the parser has I/O exceptions of its own, for
     *     bytes that are not characters
     * @param now stands in for a missing time of creation
     * @throws DamagedPayloadException if it is not such a document
     */
    static JsonBatchFile parse(InputStream in, Instant now) {
        return parse(() -> JsonBatchCodec.factory().createParser(ObjectReadContext.empty(), in), false, now);
    }

    /** Creating the parser already reads, and may fail. */
    private static JsonBatchFile parse(Supplier<JsonParser> parser, boolean withEntries, Instant now) {
        try (JsonParser json = parser.get()) {
            if (json.nextToken() != JsonToken.START_OBJECT) {
                throw new DamagedPayloadException("not a JSON object", null);
            }
            Reader reader = new Reader();
            while (json.nextToken() != JsonToken.END_OBJECT) {
                String name = json.currentName();
                json.nextToken();
                reader.property(json, name, withEntries);
            }
            return reader.result(now);
        } catch (JacksonException e) {
            throw JsonBatchCodec.invalid(e);
        } catch (ArithmeticException e) {
            throw new DamagedPayloadException("a number or a time is out of range", e);
        }
    }

    /** Collects properties in whatever order they come. */
    private static final class Reader {
        private String id = "";
        private String collectorType = "";
        private boolean dead;
        private @Nullable Instant createdAt;
        private @Nullable Instant since;
        private long lastAttempt = Long.MAX_VALUE;
        private long due;
        private int retries;
        private @Nullable String reason;
        private final List<FailedAttempt> earlier = new ArrayList<>();
        private long sequence;
        private Map<String, String> context = Map.of();
        private List<LogEntry> entries = List.of();
        private int entryCount;

        void property(JsonParser json, String name, boolean withEntries) {
            switch (name) {
                case "id" -> id = orEmpty(JsonBatchCodec.readText(json, name));
                case "collector_type", "sink_type" -> collectorType = orEmpty(JsonBatchCodec.readText(json, name));
                case "state" -> dead = "dead".equalsIgnoreCase(JsonBatchCodec.readText(json, name));
                case "created_at" -> createdAt = time(json, name);
                case "since" -> since = time(json, name);
                case "last_attempt" -> lastAttempt = millis(time(json, name));
                case "next_attempt_at" -> due = millis(time(json, name));
                case "retry_count" -> retries = (int) Math.max(0, Math.min(Integer.MAX_VALUE, number(json, name)));
                case "failure_reason" -> reason = JsonBatchCodec.readText(json, name);
                case "earlier_failures" -> earlierFailures(json);
                case "sequence" -> sequence = number(json, name);
                case "context" -> context = JsonBatchCodec.readTexts(json);
                case "entries" -> entries(json, withEntries);
                default -> json.skipChildren();
            }
        }

        private void earlierFailures(JsonParser json) {
            if (json.currentToken() != JsonToken.START_ARRAY) {
                throw new DamagedPayloadException("earlier_failures is not an array", null);
            }
            while (json.nextToken() != JsonToken.END_ARRAY) {
                Map<String, String> failure = JsonBatchCodec.readTexts(json);
                long at = JsonBatchCodec.parseTimestamp(failure.getOrDefault("at", ""))
                        .toEpochMilli();
                String why = failure.getOrDefault("reason", "");
                if (earlier.size() < FailedAttempt.MAX_EARLIER) {
                    earlier.add(new FailedAttempt(Instant.ofEpochMilli(at), shortened(why)));
                }
            }
        }

        private void entries(JsonParser json, boolean keep) {
            if (keep) {
                entries = JsonBatchCodec.readEntries(json);
                entryCount = entries.size();
                return;
            }
            if (json.currentToken() != JsonToken.START_ARRAY) {
                throw new DamagedPayloadException("entries is not an array", null);
            }
            entryCount = 0;
            while (json.nextToken() != JsonToken.END_ARRAY) {
                json.skipChildren();
                entryCount++;
            }
        }

        private static String orEmpty(@Nullable String text) {
            return text == null ? "" : text;
        }

        private static @Nullable Instant time(JsonParser json, String name) {
            String text = JsonBatchCodec.readText(json, name);
            return text == null ? null : JsonBatchCodec.parseTimestamp(text);
        }

        private static long millis(@Nullable Instant time) {
            return time == null ? Long.MAX_VALUE : time.toEpochMilli();
        }

        private static long number(JsonParser json, String name) {
            if (!json.currentToken().isNumeric()) {
                throw new DamagedPayloadException(name + " is not a number", null);
            }
            return json.getLongValue();
        }

        /** Shortens a reason to what the journal can hold. */
        private static String shortened(String reason) {
            int most = StoreLimits.MAX_REASON;
            return reason.length() <= most
                    ? reason
                    : reason.substring(0, Character.isHighSurrogate(reason.charAt(most - 1)) ? most - 1 : most);
        }

        JsonBatchFile result(Instant now) {
            if (id.isBlank() || collectorType.isBlank() || entryCount == 0) {
                throw new DamagedPayloadException(
                        "needs an id, a collector_type and entries; one of them is missing or empty", null);
            }
            if (id.length() > NewBatch.MAX_NAME_LENGTH || collectorType.length() > NewBatch.MAX_NAME_LENGTH) {
                throw new DamagedPayloadException(
                        "an id or collector_type of more than " + NewBatch.MAX_NAME_LENGTH + " characters", null);
            }
            Instant created = createdAt == null ? now : createdAt;
            PersistedState persistedState = new PersistedState(
                    dead,
                    (since == null ? created : since).toEpochMilli(),
                    retries,
                    lastAttempt,
                    dead ? Long.MAX_VALUE : due,
                    reason == null ? null : shortened(reason),
                    List.copyOf(earlier));
            return new JsonBatchFile(
                    id, collectorType, created, Math.max(0, sequence), persistedState, context, entries, entryCount);
        }
    }
}
