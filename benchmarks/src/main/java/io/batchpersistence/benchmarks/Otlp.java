package io.batchpersistence.benchmarks;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import io.batchpersistence.LogEntry;
import io.opentelemetry.proto.common.v1.AnyValue;
import io.opentelemetry.proto.common.v1.KeyValue;
import io.opentelemetry.proto.logs.v1.LogRecord;
import io.opentelemetry.proto.logs.v1.LogsData;
import io.opentelemetry.proto.logs.v1.ResourceLogs;
import io.opentelemetry.proto.logs.v1.ScopeLogs;
import io.opentelemetry.proto.resource.v1.Resource;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Batches as OpenTelemetry protobuf ({@code LogsData}), the format for peers that store bytes.
 *
 * <p>Neighbouring entries with the same labels share a resource, which is the smallest form of OTLP. The source is
 * stored in attributes: its type in the resource's, its id, which differs from line to line, in the record's.
 */
final class Otlp {

    static final String SOURCE_TYPE = "source.type";
    static final String SOURCE_ID = "source.id";

    private Otlp() {}

    static byte[] encode(List<LogEntry> entries) {
        return message(entries).toByteArray();
    }

    /** For peers that keep only bytes: the id of the batch, then the batch. */
    static byte[] encode(String batchId, List<LogEntry> entries) {
        LogsData message = message(entries);
        ByteString id = ByteString.copyFromUtf8(batchId);
        byte[] bytes = new byte[CodedOutputStream.computeBytesSizeNoTag(id) + message.getSerializedSize()];
        CodedOutputStream out = CodedOutputStream.newInstance(bytes);
        try {
            out.writeBytesNoTag(id);
            message.writeTo(out);
            out.checkNoSpaceLeft();
        } catch (IOException e) {
            // The array has exactly the computed size.
            throw new UncheckedIOException(e);
        }
        return bytes;
    }

    private static LogsData message(List<LogEntry> entries) {
        LogsData.Builder data = LogsData.newBuilder();
        int from = 0;
        while (from < entries.size()) {
            LogEntry first = entries.get(from);
            ScopeLogs.Builder scope = ScopeLogs.newBuilder();
            int to = from;
            while (to < entries.size() && sameResource(first, entries.get(to))) {
                scope.addLogRecords(record(entries.get(to)));
                to++;
            }
            data.addResourceLogs(
                    ResourceLogs.newBuilder().setResource(resource(first)).addScopeLogs(scope));
            from = to;
        }
        return data.build();
    }

    private static boolean sameResource(LogEntry a, LogEntry b) {
        return a.labels().equals(b.labels()) && String.valueOf(a.sourceType()).equals(String.valueOf(b.sourceType()));
    }

    private static Resource resource(LogEntry entry) {
        Resource.Builder resource = Resource.newBuilder();
        entry.labels().forEach((name, value) -> resource.addAttributes(attribute(name, value)));
        if (entry.sourceType() != null) {
            resource.addAttributes(attribute(SOURCE_TYPE, entry.sourceType()));
        }
        return resource.build();
    }

    private static LogRecord record(LogEntry entry) {
        LogRecord.Builder record =
                LogRecord.newBuilder().setTimeUnixNano(nanos(entry.timestamp())).setBody(text(entry.message()));
        if (entry.level() != null) {
            record.setSeverityText(entry.level());
        }
        if (entry.sourceId() != null) {
            record.addAttributes(attribute(SOURCE_ID, entry.sourceId()));
        }
        return record.build();
    }

    private static KeyValue attribute(String name, String value) {
        return KeyValue.newBuilder().setKey(name).setValue(text(value)).build();
    }

    private static AnyValue text(String value) {
        return AnyValue.newBuilder().setStringValue(value).build();
    }

    static long nanos(Instant time) {
        return time.getEpochSecond() * 1_000_000_000L + time.getNano();
    }

    static Instant instant(long nanos) {
        return Instant.ofEpochSecond(0, nanos);
    }

    /** Reads what {@link #encode(List)} wrote. */
    static List<LogEntry> decode(byte[] bytes) throws IOException {
        return entries(LogsData.parseFrom(bytes));
    }

    /** Reads what {@link #encode(String, List)} wrote. */
    static Candidate.Stored decodeWithId(byte[] bytes) throws IOException {
        CodedInputStream in = CodedInputStream.newInstance(bytes);
        String id = in.readStringRequireUtf8();
        return new Candidate.Stored(id, entries(LogsData.parseFrom(in)));
    }

    private static List<LogEntry> entries(LogsData data) {
        List<LogEntry> entries = new ArrayList<>();
        for (ResourceLogs resourceLogs : data.getResourceLogsList()) {
            Map<String, String> labels = new LinkedHashMap<>();
            for (KeyValue attribute : resourceLogs.getResource().getAttributesList()) {
                labels.put(attribute.getKey(), attribute.getValue().getStringValue());
            }
            String sourceType = labels.remove(SOURCE_TYPE);
            for (ScopeLogs scope : resourceLogs.getScopeLogsList()) {
                for (LogRecord record : scope.getLogRecordsList()) {
                    String sourceId = null;
                    for (KeyValue attribute : record.getAttributesList()) {
                        if (attribute.getKey().equals(SOURCE_ID)) {
                            sourceId = attribute.getValue().getStringValue();
                        }
                    }
                    entries.add(new LogEntry(
                            instant(record.getTimeUnixNano()),
                            record.getSeverityText().isEmpty() ? null : record.getSeverityText(),
                            record.getBody().getStringValue(),
                            labels,
                            Map.of(),
                            sourceType,
                            sourceId,
                            null,
                            null));
                }
            }
        }
        return entries;
    }
}
