package io.batchpersistence.internal.disk;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.batchpersistence.BatchPersistenceException;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

class NioDiskTest {

    @TempDir
    Path root;

    private final NioDisk disk = new NioDisk();
    private Path directory;
    private Path outside;

    @BeforeEach
    void make() throws IOException {
        assumeTrue(
                FileSystems.getDefault().supportedFileAttributeViews().contains("posix"),
                "a file system with POSIX permissions is needed");
        directory = Files.createDirectory(root.resolve("store"));
        outside = Files.writeString(root.resolve("outside"), "untouched");
    }

    static String permissions(Path path) throws IOException {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(path, LinkOption.NOFOLLOW_LINKS));
    }

    @Test
    void what_is_created_is_its_owners_alone() throws IOException {
        Path made = directory.resolve("parent/batches");
        disk.createDirectories(made);
        disk.create(made.resolve("file")).close();

        assertThat(permissions(made)).isEqualTo("rwx------");
        assertThat(permissions(made.resolve("file"))).isEqualTo("rw-------");
        assertThat(permissions(made.getParent()))
                .as("others may have directories of theirs beside ours")
                .isEqualTo(permissions(directory));
    }

    @Test
    void without_posix_permissions_it_works_all_the_same() throws IOException {
        NioDisk other = new NioDisk(false);
        Path made = directory.resolve("parent/batches");
        other.createDirectories(made);
        try (Disk.DiskFile file = other.create(made.resolve("file"))) {
            file.write(0, "text".getBytes(UTF_8), 0, 4);
        }
        assertThat(other.read(made.resolve("file"), 0, 10)).isEqualTo("text".getBytes(UTF_8));
    }

    @Test
    void links_are_not_followed() throws IOException {
        Path link = Files.createSymbolicLink(directory.resolve("link"), outside);
        assertThatThrownBy(() -> disk.open(link))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("not a regular");
        assertThatThrownBy(() -> disk.read(link, 0, 10)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.openForReading(link))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("not a regular");
        assertThatThrownBy(() -> disk.size(link)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.create(link)).isInstanceOf(FileAlreadyExistsException.class);

        disk.move(link, directory.resolve("moved"));
        disk.delete(directory.resolve("moved"));
        assertThat(outside).hasContent("untouched");
        assertThat(directory).isEmptyDirectory();
    }

    @Test
    void nothing_is_created_at_the_other_end_of_a_link() throws IOException {
        Path nowhere = root.resolve("nowhere");
        Path link = Files.createSymbolicLink(directory.resolve("link"), nowhere);
        assertThatThrownBy(() -> disk.create(link)).isInstanceOf(FileAlreadyExistsException.class);
        assertThat(nowhere).doesNotExist();

        Path elsewhere = Files.createDirectory(root.resolve("elsewhere"));
        Path quarantine = Files.createSymbolicLink(directory.resolve("quarantine"), elsewhere);
        assertThatThrownBy(() -> disk.createDirectories(quarantine))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("symbolic link");
    }

    @Test
    void a_move_replaces_a_link_and_not_what_it_points_to() throws IOException {
        Path link = Files.createSymbolicLink(directory.resolve("link"), outside);
        Path file = Files.writeString(directory.resolve("file"), "new");
        disk.move(file, link);
        assertThat(link).isRegularFile().hasContent("new");
        assertThat(Files.isSymbolicLink(link)).isFalse();
        assertThat(outside).hasContent("untouched");
    }

    /** Opening a pipe without a writer would block for ever. */
    @Test
    @Timeout(value = 30, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
    void pipes_and_directories_are_not_opened() throws Exception {
        Path pipe = directory.resolve("pipe");
        Process mkfifo = new ProcessBuilder("mkfifo", pipe.toString()).start();
        assumeTrue(mkfifo.waitFor() == 0, "mkfifo is needed");
        assertThatThrownBy(() -> disk.read(pipe, 0, 1)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.open(pipe)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.read(directory, 0, 1)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.open(directory.resolve("absent"))).isInstanceOf(NoSuchFileException.class);
        assertThatThrownBy(() -> disk.read(directory.resolve("absent"), 0, 1)).isInstanceOf(NoSuchFileException.class);
        assertThatThrownBy(() -> disk.openForReading(pipe)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.openForReading(directory)).isInstanceOf(IOException.class);
        assertThatThrownBy(() -> disk.openForReading(directory.resolve("absent")))
                .isInstanceOf(NoSuchFileException.class);
    }

    @Test
    void an_open_file_is_read_in_any_order_and_by_an_interrupted_thread_too() throws IOException {
        Path file = Files.writeString(directory.resolve("file"), "0123456789");
        byte[] into = new byte[8];
        try (Disk.DiskReader reader = disk.openForReading(file)) {
            assertThat(reader.read(6, into, 0, 8)).isEqualTo(4);
            assertThat(reader.read(2, into, 5, 3)).isEqualTo(3);
            assertThat(new String(into, UTF_8)).isEqualTo("6789\0" + "234");
            assertThat(reader.read(20, into, 0, 3)).isZero();
            Thread.currentThread().interrupt();
            assertThat(reader.read(5, into, 0, 1)).isOne();
            assertThat(reader.read(6, into, 1, 1)).isOne();
            assertThat(Thread.interrupted()).isTrue();
            Files.delete(file);
            assertThat(reader.read(7, into, 2, 1)).isOne();
            assertThat(new String(into, 0, 3, UTF_8)).isEqualTo("567");
        }
    }

    @Test
    void a_lock_file_that_leads_elsewhere_is_refused() throws IOException {
        Files.createSymbolicLink(directory.resolve("lock"), outside);
        assertThatThrownBy(() -> DirectoryLock.acquire(disk, directory, Instant.EPOCH))
                .isInstanceOf(BatchPersistenceException.class)
                .hasMessageContaining("lock")
                .hasMessageContaining("is not a regular file; remove it");
        assertThat(outside).hasContent("untouched");

        Files.delete(directory.resolve("lock"));
        DirectoryLock.acquire(disk, directory, Instant.EPOCH).close();
        assertThat(permissions(directory.resolve("lock"))).isEqualTo("rw-------");
    }

    @Test
    void what_the_lock_file_says_is_printed_in_one_line() throws IOException {
        try (DirectoryLock held = DirectoryLock.acquire(disk, directory, Instant.EPOCH)) {
            assertThat(held).isNotNull();
            assertThat(new io.batchpersistence.DirectoryLockedException(directory, "me\nERROR forged"))
                    .hasMessageContaining("me\\u000AERROR forged");
        }
    }

    @Test
    void the_directory_itself_may_be_a_link() throws IOException {
        Path link = Files.createSymbolicLink(root.resolve("link"), directory);
        DirectoryLock.acquire(disk, link, Instant.EPOCH).close();
        assertThat(directory.resolve("lock")).isRegularFile();
    }
}
