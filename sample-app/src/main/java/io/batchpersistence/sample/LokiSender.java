package io.batchpersistence.sample;

import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import java.io.IOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.json.JsonMapper;

/**
 * Pushes to Loki: entries with the same labels form a stream; attributes that would create too many streams (source id,
 * trace id, fields, batch id) become structured metadata. Thread-safe.
 *
 * <p>Loki itself drops an entry it already has (same labels, time and line), so that an entry that is sent again is
 * stored once. Two entries of one batch that Loki would consider identical are sent with times one nanosecond apart,
 * the same at each attempt. If they are in two batches, Loki stores only one of them.
 */
final class LokiSender implements BatchSender {

    private final CollectorClient client;
    private final String application;
    private final JsonMapper json = JsonMapper.shared();

    LokiSender(CollectorClient client, String application) {
        this.client = client;
        this.application = application;
    }

    private record Push(List<Stream> streams) {}

    /** The identity of an entry in Loki. */
    private record Known(Map<String, String> labels, long nanos, String line) {}

    /** A value is an array: time in nanoseconds as a text, line, structured metadata. */
    private record Stream(Map<String, String> stream, List<List<Object>> values) {}

    @Override
    public void send(PersistedBatch batch) throws IOException, InterruptedException {
        client.post("/loki/api/v1/push", "application/json", json.writeValueAsBytes(push(batch)));
    }

    private Push push(PersistedBatch batch) {
        Map<Map<String, String>, List<List<Object>>> streams = new LinkedHashMap<>();
        Set<Known> sent = new HashSet<>();
        Map<Known, Long> next = new HashMap<>();
        for (LogEntry entry : batch.entries()) {
            Map<String, String> labels = labels(entry);
            Known known = new Known(labels, nanos(entry.timestamp()), entry.message());
            long nanos = next.getOrDefault(known, known.nanos);
            while (!sent.add(new Known(labels, nanos, known.line))) {
                nanos++;
            }
            next.put(known, nanos + 1);
            streams.computeIfAbsent(labels, each -> new ArrayList<>())
                    .add(List.of(Long.toString(nanos), known.line, metadata(entry, batch.id())));
        }
        List<Stream> list = new ArrayList<>();
        streams.forEach((labels, values) -> list.add(new Stream(labels, values)));
        return new Push(list);
    }

    private Map<String, String> labels(LogEntry entry) {
        Map<String, String> labels = new TreeMap<>();
        labels.put("app", application);
        if (entry.level() != null) {
            labels.put("level", entry.level().toLowerCase(Locale.ROOT));
        }
        entry.labels().forEach((name, value) -> labels.put(name(name), value));
        return labels;
    }

    private Map<String, String> metadata(LogEntry entry, String batchId) {
        Map<String, String> metadata = new TreeMap<>();
        entry.fields()
                .forEach((name, value) ->
                        metadata.put(name(name), value instanceof String text ? text : json.writeValueAsString(value)));
        metadata.put("batch_id", batchId);
        putIfThere(metadata, "source_type", entry.sourceType());
        putIfThere(metadata, "source_id", entry.sourceId());
        putIfThere(metadata, "trace_id", entry.traceId());
        putIfThere(metadata, "span_id", entry.spanId());
        return metadata;
    }

    private static void putIfThere(Map<String, String> metadata, String name, @Nullable String value) {
        if (value != null) {
            metadata.put(name, value);
        }
    }

    /** Loki accepts letters, digits and underscores, and no leading digit. */
    private static String name(String name) {
        String cleaned = name.replaceAll("[^a-zA-Z0-9_]", "_");
        return cleaned.isEmpty() || Character.isDigit(cleaned.charAt(0)) ? "_" + cleaned : cleaned;
    }

    private static long nanos(Instant time) {
        return Math.addExact(Math.multiplyExact(time.getEpochSecond(), 1_000_000_000L), (long) time.getNano());
    }
}
