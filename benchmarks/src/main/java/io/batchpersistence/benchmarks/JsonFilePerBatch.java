package io.batchpersistence.benchmarks;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.ObjectWriter;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/** The design this project replaces: one indented JSON file per batch, all of them read into memory on opening. */
final class JsonFilePerBatch implements Candidate {

    static final Kind KIND = new Kind(
            "json-per-batch",
            "JSON file per batch",
            false,
            "indented JSON by Jackson, batch_<id>.json, deleted on mark; all files are parsed into memory on opening",
            "sync: the file is forced (force(true)), not the directory, so the name may not survive a power cut; "
                    + "no sync: written to the operating system. A crash leaves half a file.",
            Map.of(
                    Limit.LESS_SAFE_WITH_SYNC,
                    "the name of a file is not forced, so with sync, too, a power failure can take the whole batch"),
            JsonFilePerBatch::new);

    private record Document(
            String id,
            List<Line> entries,
            @JsonProperty("collector_type") String collectorType,
            @JsonProperty("created_at") Instant createdAt,
            @JsonProperty("retry_count") int retryCount) {}

    @JsonInclude(JsonInclude.Include.NON_NULL)
    private record Line(
            Instant timestamp,
            @Nullable String level,
            String message,
            Map<String, String> labels,
            @JsonProperty("source_type") @Nullable String sourceType,
            @JsonProperty("source_id") @Nullable String sourceId) {

        static Line of(LogEntry entry) {
            return new Line(
                    entry.timestamp(),
                    entry.level(),
                    entry.message(),
                    entry.labels(),
                    entry.sourceType(),
                    entry.sourceId());
        }

        LogEntry entry() {
            return new LogEntry(timestamp, level, message, labels, Map.of(), sourceType, sourceId, null, null);
        }
    }

    private static final JsonMapper MAPPER = JsonMapper.builder().build();
    private static final ObjectWriter WRITER = MAPPER.writer().with(SerializationFeature.INDENT_OUTPUT);

    private final Path directory;
    private final boolean sync;
    private final TreeMap<String, Document> loaded = new TreeMap<>();
    private final AtomicLong persisted = new AtomicLong();

    private JsonFilePerBatch(Path directory, boolean sync) throws IOException {
        this.directory = directory;
        this.sync = sync;
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : (Iterable<Path>) files::iterator) {
                Document document = MAPPER.readValue(Files.readAllBytes(file), Document.class);
                loaded.put(document.id(), document);
            }
        }
        persisted.set(loaded.size());
    }

    private Path file(String batchId) {
        return directory.resolve("batch_" + batchId + ".json");
    }

    private static byte[] encode(String batchId, List<LogEntry> entries) {
        return WRITER.writeValueAsBytes(
                new Document(batchId, entries.stream().map(Line::of).toList(), "loki", Instant.now(), 0));
    }

    @Override
    public void persist(String batchId, List<LogEntry> entries) throws IOException {
        ByteBuffer json = ByteBuffer.wrap(encode(batchId, entries));
        try (FileChannel channel =
                FileChannel.open(file(batchId), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            while (json.hasRemaining()) {
                channel.write(json);
            }
            if (sync) {
                channel.force(true);
            }
        }
        persisted.incrementAndGet();
    }

    @Override
    public void mark(String batchId) throws IOException {
        Files.delete(file(batchId));
        persisted.decrementAndGet();
    }

    @Override
    public long pending() {
        return persisted.get();
    }

    @Override
    public @Nullable Stored next() {
        Map.Entry<String, Document> first = loaded.pollFirstEntry();
        return first == null
                ? null
                : new Stored(
                        first.getKey(),
                        first.getValue().entries().stream().map(Line::entry).toList());
    }

    @Override
    public long encodedSize(List<LogEntry> entries) {
        return encode("batch-000000000000", entries).length;
    }

    @Override
    public void close() {}
}
