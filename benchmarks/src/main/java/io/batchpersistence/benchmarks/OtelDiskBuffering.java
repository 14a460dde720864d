package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.AttributesBuilder;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.contrib.disk.buffering.storage.impl.FileLogRecordStorage;
import io.opentelemetry.contrib.disk.buffering.storage.impl.FileStorageConfiguration;
import io.opentelemetry.contrib.disk.buffering.storage.result.WriteResult;
import io.opentelemetry.sdk.common.InstrumentationScopeInfo;
import io.opentelemetry.sdk.logs.data.LogRecordData;
import io.opentelemetry.sdk.resources.Resource;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** What an application with the OpenTelemetry SDK would put between its logs and its exporter. */
final class OtelDiskBuffering implements Candidate {

    static final Kind KIND = new Kind(
            "otel-disk-buffering",
            "OpenTelemetry disk-buffering",
            false,
            "FileLogRecordStorage, files of 1 MB and 30 s to write as by default; the folder bound of 10 MB, above which it "
                    + "deletes its oldest files, raised to 2 GB; the age of 33 s before a file is read lowered for draining",
            "no sync: written to the operating system. No checksum; above the folder bound and after 18 h data is deleted.",
            Map.of(
                    Limit.NEVER_SYNCS, "it never forces its files",
                    Limit.ONE_WRITER, "two writers at once mix up its serializer; a lock keeps callers apart",
                    Limit.NO_MARK,
                            "while writing nothing can be marked, so marking does nothing; an iterator removes what it "
                                    + "read, in order only",
                    Limit.PENDING_UNKNOWN, "there is nothing to ask what is there, but reading all of it",
                    Limit.NO_ID, "records are kept, the batch's id is not"),
            (directory, sync) -> new OtelDiskBuffering(directory));

    private static final int FOLDER_SIZE = 2_000_000_000;
    private static final InstrumentationScopeInfo SCOPE = InstrumentationScopeInfo.create("benchmarks");
    private static final AttributeKey<String> SOURCE_TYPE = AttributeKey.stringKey(Otlp.SOURCE_TYPE);
    private static final AttributeKey<String> SOURCE_ID = AttributeKey.stringKey(Otlp.SOURCE_ID);

    private final Path directory;
    private FileLogRecordStorage storage;
    private @Nullable Iterator<Collection<LogRecordData>> reading;

    private OtelDiskBuffering(Path directory) {
        this.directory = directory;
        this.storage = FileLogRecordStorage.create(
                directory.toFile(),
                FileStorageConfiguration.builder().setMaxFolderSize(FOLDER_SIZE).build());
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws IOException {
        List<LogRecordData> records = new ArrayList<>(entries.size());
        Resource resource = null;
        LogEntry previous = null;
        for (LogEntry entry : entries) {
            if (resource == null || previous == null || !entry.labels().equals(previous.labels())) {
                resource = resource(entry);
            }
            previous = entry;
            records.add(new LogRecord(entry, resource));
        }
        synchronized (this) {
            WriteResult result = storage.write(records).join();
            if (!result.isSuccessful()) {
                throw new IOException("not written", result.getError());
            }
        }
    }

    private static Resource resource(LogEntry entry) {
        AttributesBuilder attributes = Attributes.builder();
        entry.labels().forEach(attributes::put);
        if (entry.sourceType() != null) {
            attributes.put(SOURCE_TYPE, entry.sourceType());
        }
        return Resource.create(attributes.build());
    }

    /** Removes the batch that was read last. */
    @Override
    public void mark(String batchId) {
        if (reading != null) {
            reading.remove();
        }
    }

    @Override
    public long pending() {
        throw new UnsupportedOperationException(KIND.limits().get(Limit.PENDING_UNKNOWN));
    }

    @Override
    public @Nullable Stored next() throws IOException {
        if (reading == null) {
            storage.close();
            storage = FileLogRecordStorage.create(
                    directory.toFile(),
                    FileStorageConfiguration.builder()
                            .setMaxFolderSize(FOLDER_SIZE)
                            .setMaxFileAgeForWriteMillis(0)
                            .setMinFileAgeForReadMillis(1)
                            .build());
            reading = storage.iterator();
        }
        if (!reading.hasNext()) {
            return null;
        }
        List<LogEntry> entries = new ArrayList<>();
        for (LogRecordData record : reading.next()) {
            entries.add(entry(record));
        }
        return new Stored("", entries);
    }

    private static LogEntry entry(LogRecordData record) {
        Map<String, String> labels = new HashMap<>();
        record.getResource().getAttributes().forEach((key, value) -> labels.put(key.getKey(), (String) value));
        String sourceType = labels.remove(Otlp.SOURCE_TYPE);
        Value<?> body = record.getBodyValue();
        return new LogEntry(
                Otlp.instant(record.getTimestampEpochNanos()),
                record.getSeverityText(),
                body == null ? "" : body.asString(),
                labels,
                Map.of(),
                sourceType,
                record.getAttributes().get(SOURCE_ID),
                null,
                null);
    }

    @Override
    public void close() throws IOException {
        storage.close();
    }

    /** An entry as a log record of the SDK. */
    private record LogRecord(LogEntry entry, Resource resource) implements LogRecordData {

        @Override
        public Resource getResource() {
            return resource;
        }

        @Override
        public InstrumentationScopeInfo getInstrumentationScopeInfo() {
            return SCOPE;
        }

        @Override
        public long getTimestampEpochNanos() {
            return Otlp.nanos(entry.timestamp());
        }

        @Override
        public long getObservedTimestampEpochNanos() {
            return 0;
        }

        @Override
        public SpanContext getSpanContext() {
            return SpanContext.getInvalid();
        }

        @Override
        public Severity getSeverity() {
            return Severity.UNDEFINED_SEVERITY_NUMBER;
        }

        @Override
        public @Nullable String getSeverityText() {
            return entry.level();
        }

        @Override
        @Deprecated
        // The interface still requires it.
        @SuppressWarnings("deprecation")
        public io.opentelemetry.sdk.logs.data.Body getBody() {
            return io.opentelemetry.sdk.logs.data.Body.string(entry.message());
        }

        @Override
        public Value<?> getBodyValue() {
            return Value.of(entry.message());
        }

        @Override
        public Attributes getAttributes() {
            return entry.sourceId() == null ? Attributes.empty() : Attributes.of(SOURCE_ID, entry.sourceId());
        }

        @Override
        public int getTotalAttributeCount() {
            return getAttributes().size();
        }
    }
}
