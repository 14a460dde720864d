package io.batchpersistence.sample;

import com.fasterxml.jackson.annotation.JsonInclude;
import java.io.ByteArrayOutputStream;
import java.io.Closeable;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

/**
 * Receives entries and appends them to a file, one JSON object per line, with one write before it returns: entries that
 * were acknowledged survive a crash of the process. Its counts are rebuilt from that file, so that a restart loses
 * nothing. Thread-safe.
 */
final class BuiltInCollector implements Closeable {

    /** How the collector behaves. */
    enum Mode {
        UP,
        DOWN,
        SLOW,
        THROTTLE,
        REJECT,
        UNAUTHORIZED;

        /**
         * Returns the mode with that name, ignoring case.
         *
         * @throws IllegalArgumentException if there is none; the message lists all modes
         */
        static Mode of(String name) {
            return Stream.of(values())
                    .filter(mode -> mode.text().equals(name.toLowerCase(Locale.ROOT)))
                    .findFirst()
                    .orElseThrow(() -> new IllegalArgumentException("there is no mode '" + name + "'; there are "
                            + Stream.of(values()).map(Mode::text).collect(Collectors.joining(", "))));
        }

        String text() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * One entry as it was received; one line of the file.
     *
     * @param push the number of the request that contained it
     * @param protocol {@code loki} or {@code elasticsearch}
     * @param batchId if the sender sent it
     * @param sourceId if the sender sent it
     * @param documentId the document's id, if it has one
     * @param timestamp as it was sent
     * @param level if the sender sent it
     * @param message the text
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    record Received(
            long push,
            String protocol,
            @Nullable String batchId,
            @Nullable String sourceId,
            @Nullable String documentId,
            @Nullable String timestamp,
            @Nullable String level,
            String message) {}

    /**
     * What the collector has received, according to its file.
     *
     * @param batches requests that contained entries
     * @param entries entries in them
     * @param distinct entries that differ in source id or message (in timestamp or message, if there is no source id)
     * @param duplicates the others
     * @param mode how the collector behaves now
     */
    record Stats(long batches, long entries, long distinct, long duplicates, String mode) {}

    static final JsonMapper JSON = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .build();

    private final ReentrantLock lock = new ReentrantLock();
    /** Not a FileChannel: an interrupt of one thread would close it for all threads. */
    private final RandomAccessFile file;

    private final Set<Long> distinct = new HashSet<>();
    private final Set<Long> documents = new HashSet<>();
    private long pushes;
    private long entries;
    private volatile Mode mode = Mode.UP;

    /**
     * Reads the existing file. A last line without a line end, left by a process that crashed while writing, is cut
     * off: it was never acknowledged.
     *
     * @param path the file; created if absent
     * @throws IOException if it can't be read or written
     */
    BuiltInCollector(Path path) throws IOException {
        Path directory = path.toAbsolutePath().getParent();
        if (directory != null) {
            Files.createDirectories(directory);
        }
        file = new RandomAccessFile(path.toFile(), "rw");
        try {
            long end = readAll(path, this::count);
            file.setLength(end);
            file.seek(end);
        } catch (IOException | RuntimeException e) {
            file.close();
            throw e;
        }
    }

    /**
     * Reads a file of received entries.
     *
     * @param path the file
     * @param each receives every entry
     * @return the offset at which the last complete line ends
     * @throws IOException if the file can't be read, or if a complete line was not written by this class
     */
    static long readAll(Path path, Consumer<Received> each) throws IOException {
        LineReader reader = new LineReader(Integer.MAX_VALUE - 16);
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            reader.open(channel, Position.START);
            for (LineReader.Line line = reader.next(); line != null; line = reader.next()) {
                try {
                    each.accept(JSON.readValue(line.text(), Received.class));
                } catch (RuntimeException e) {
                    throw new IOException(
                            path + ", line " + line.at().line() + ", is not a received entry: " + e.getMessage(), e);
                }
            }
        }
        return reader.position().offset();
    }

    Mode mode() {
        return mode;
    }

    void mode(Mode mode) {
        this.mode = mode;
    }

    /**
     * Stores entries, all or none.
     *
     * @param received the entries of one request
     * @return for each entry whether it was stored; an entry whose document id exists already is not
     * @throws UncheckedIOException if the entries could not be written; then none was stored
     */
    List<Boolean> take(List<Received> received) {
        lock.lock();
        try {
            List<Boolean> taken = new ArrayList<>(received.size());
            List<Received> fresh = new ArrayList<>(received.size());
            Set<Long> here = new HashSet<>();
            for (Received each : received) {
                boolean isNew = each.documentId() == null
                        || (!documents.contains(hash(each.documentId())) && here.add(hash(each.documentId())));
                taken.add(isNew);
                if (isNew) {
                    fresh.add(numbered(each, pushes + 1));
                }
            }
            if (!fresh.isEmpty()) {
                append(fresh);
                fresh.forEach(this::count);
            }
            return taken;
        } catch (IOException e) {
            throw new UncheckedIOException("the built-in collector can't write its file", e);
        } finally {
            lock.unlock();
        }
    }

    private void append(List<Received> fresh) throws IOException {
        ByteArrayOutputStream lines = new ByteArrayOutputStream();
        for (Received each : fresh) {
            lines.writeBytes(JSON.writeValueAsBytes(each));
            lines.write('\n');
        }
        long before = file.getFilePointer();
        try {
            file.write(lines.toByteArray());
        } catch (IOException e) {
            file.setLength(before);
            file.seek(before);
            throw e;
        }
    }

    private static Received numbered(Received each, long push) {
        return new Received(
                push,
                each.protocol(),
                each.batchId(),
                each.sourceId(),
                each.documentId(),
                each.timestamp(),
                each.level(),
                each.message());
    }

    private void count(Received each) {
        pushes = Math.max(pushes, each.push());
        entries++;
        distinct.add(
                hash((each.sourceId() == null ? "@" + each.timestamp() : each.sourceId()) + "\n" + each.message()));
        if (each.documentId() != null) {
            documents.add(hash(each.documentId()));
        }
    }

    Stats stats() {
        lock.lock();
        try {
            return new Stats(pushes, entries, distinct.size(), entries - distinct.size(), mode.text());
        } finally {
            lock.unlock();
        }
    }

    private static long hash(String text) {
        try {
            return ByteBuffer.wrap(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)))
                    .getLong();
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    @Override
    public void close() throws IOException {
        file.close();
    }
}
