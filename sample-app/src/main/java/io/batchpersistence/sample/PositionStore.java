package io.batchpersistence.sample;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.List;
import org.slf4j.Logger;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/**
 * Stores how far each file has been read, in one file {@code positions.json}, which is replaced atomically: temporary
 * file, fsync, rename, fsync of the directory. After a crash, either the old or the new file exists, complete. Not
 * thread-safe.
 */
final class PositionStore {

    private static final Logger log = LogSanitizer.logger(PositionStore.class);

    /**
     * How far one file has been read.
     *
     * @param stream random id of the content: a new one for every file, and after every truncation
     * @param name the path where the file was first found; part of the source ids of its lines
     * @param generation the number of streams that this name has had, including this one
     * @param identity device and inode, or the path where these are not available
     * @param position everything before it is durable in a batch
     * @param fingerprint the fingerprint of the content before the position
     * @param lastSeen when the file was last followed
     */
    record SavedFile(
            String stream,
            String name,
            int generation,
            String identity,
            Position position,
            Fingerprint fingerprint,
            Instant lastSeen) {}

    private record Content(int version, List<SavedFile> files) {}

    private static final int VERSION = 1;

    private final Path directory;
    private final Path file;
    private final JsonMapper json = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    PositionStore(Path directory) {
        this.directory = directory;
        this.file = directory.resolve("positions.json");
    }

    /**
     * Reads the positions. If the positions file can't be parsed, it is set aside with an error in the log, and
     * everything is read from the start: lines delivered twice are better than lines lost.
     *
     * @throws IOException if the directory or the file can't be read
     */
    List<SavedFile> load() throws IOException {
        Files.createDirectories(directory);
        byte[] bytes;
        try {
            bytes = Files.readAllBytes(file);
        } catch (NoSuchFileException e) {
            return List.of();
        }
        String problem;
        try {
            Content content = json.readValue(bytes, Content.class);
            if (content.version() == VERSION && isWhole(content)) {
                return content.files();
            }
            problem = "it is of version " + content.version() + " or lacks something";
        } catch (JacksonException e) {
            problem = e.getOriginalMessage();
        }
        Path aside = directory.resolve("positions.json.damaged-" + System.currentTimeMillis());
        Files.move(file, aside, StandardCopyOption.REPLACE_EXISTING);
        log.error(
                "{} can't be understood ({}) and is now {}; all files are read from the start, so lines will be delivered"
                        + " twice",
                file,
                problem,
                aside.getFileName());
        return List.of();
    }

    // Jackson sets absent properties to null, whatever the annotations say.
    @SuppressWarnings("NullAway")
    private static boolean isWhole(Content content) {
        return content.files() != null
                && content.files().stream()
                        .allMatch(saved -> saved != null
                                && saved.stream() != null
                                && saved.name() != null
                                && saved.identity() != null
                                && saved.position() != null
                                && saved.fingerprint() != null
                                && saved.lastSeen() != null);
    }

    /**
     * Replaces the saved positions; durable when this method returns.
     *
     * @throws IOException if the positions could not be written; the previous ones are still there
     */
    void save(List<SavedFile> files) throws IOException {
        byte[] bytes = json.writeValueAsBytes(new Content(VERSION, files));
        Path temporary = directory.resolve("positions.json.new");
        try (FileChannel channel = FileChannel.open(
                temporary, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING)) {
            ByteBuffer buffer = ByteBuffer.wrap(bytes);
            while (buffer.hasRemaining()) {
                channel.write(buffer);
            }
            channel.force(true);
        }
        Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        } catch (IOException e) {
            if (Files.getFileStore(directory).supportsFileAttributeView("posix")) {
                throw e;
            }
            // Windows can't open a directory; there, the rename itself is all that is available.
        }
    }
}
