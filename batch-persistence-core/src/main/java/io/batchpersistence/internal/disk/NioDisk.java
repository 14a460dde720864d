package io.batchpersistence.internal.disk;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.channels.AsynchronousFileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/**
 * The real file system.
 *
 * <p>Files are read and written through {@link RandomAccessFile}, not {@link java.nio.channels.FileChannel}:
 * interrupting any thread that is using a channel closes the channel for all its users.
 *
 * <p>Where the file system knows owners, only the owner can access what it creates: log entries are confidential. It
 * opens only regular files: a symbolic link would lead out of the store's directory, and opening a pipe might never
 * return. Checking and opening are two steps, so this is no defence against an attacker who can write the directory at
 * the same time.
 */
public final class NioDisk implements Disk {

    private static final boolean POSIX =
            FileSystems.getDefault().supportedFileAttributeViews().contains("posix");

    /** Windows can't open a directory to force it, and does not need to. */
    private static final boolean DIRECTORIES_CAN_BE_FORCED =
            !System.getProperty("os.name", "").startsWith("Windows");

    private final FileAttribute<?>[] ownersFile;
    private final FileAttribute<?>[] ownersDirectory;

    /** The file system of this machine. */
    public NioDisk() {
        this(POSIX);
    }

    NioDisk(boolean posix) {
        ownersFile = owners(posix, "rw-------");
        ownersDirectory = owners(posix, "rwx------");
    }

    private static FileAttribute<?>[] owners(boolean posix, String permissions) {
        return posix
                ? new FileAttribute<?>[] {
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(permissions))
                }
                : new FileAttribute<?>[0];
    }

    /**
     * Attributes for creating a file that only its owner may read and write; none where the file system has no such
     * permissions.
     */
    static FileAttribute<?>[] ownersFile() {
        return owners(POSIX, "rw-------");
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        // Fails if anything has that name, even a dangling symbolic link.
        Files.createFile(file, ownersFile);
        return new RandomAccessDiskFile(new RandomAccessFile(file.toFile(), "rw"));
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        regular(file);
        return new RandomAccessDiskFile(new RandomAccessFile(file.toFile(), "rw"));
    }

    private static BasicFileAttributes regular(Path file) throws IOException {
        BasicFileAttributes attributes =
                Files.readAttributes(file, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
        if (!attributes.isRegularFile()) {
            throw new NotRegularFileException(file);
        }
        return attributes;
    }

    @Override
    public DiskReader openForReading(Path file) throws IOException {
        return new RandomAccessReader(openRegular(file));
    }

    private static RandomAccessFile openRegular(Path file) throws IOException {
        regular(file);
        try {
            return new RandomAccessFile(file.toFile(), "r");
        } catch (FileNotFoundException e) {
            if (Files.notExists(file)) {
                throw (NoSuchFileException) new NoSuchFileException(file.toString()).initCause(e);
            }
            throw e;
        }
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        try (RandomAccessFile in = openRegular(file)) {
            byte[] bytes = new byte[(int) Math.max(0, Math.min(length, in.length() - offset))];
            in.seek(offset);
            int read = readFully(in, bytes, 0, bytes.length);
            return read == bytes.length ? bytes : Arrays.copyOf(bytes, read);
        }
    }

    private static int readFully(RandomAccessFile in, byte[] into, int at, int length) throws IOException {
        int read = 0;
        while (read < length) {
            int n = in.read(into, at + read, length - read);
            if (n < 0) {
                break;
            }
            read += n;
        }
        return read;
    }

    @Override
    public long size(Path file) throws IOException {
        return regular(file).size();
    }

    @Override
    public List<Path> list(Path directory) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.toList();
        }
    }

    @Override
    public void createDirectories(Path directory) throws IOException {
        Path absolute = directory.toAbsolutePath();
        if (Files.isSymbolicLink(absolute)) {
            throw new FileSystemException(absolute.toString(), null, "is a symbolic link, which is not followed");
        }
        makeDirectories(absolute, ownersDirectory);
    }

    private static void makeDirectories(Path absolute, FileAttribute<?>... attributes) throws IOException {
        if (Files.isDirectory(absolute)) {
            return;
        }
        Path parent = absolute.getParent();
        if (parent != null) {
            // Parents are not ours alone: other users may have their directories there.
            makeDirectories(parent);
        }
        try {
            Files.createDirectory(absolute, attributes);
        } catch (FileAlreadyExistsException e) {
            if (!Files.isDirectory(absolute)) {
                throw e;
            }
        }
        if (parent != null && Files.isReadable(parent)) {
            force(parent);
        }
    }

    @Override
    public void move(Path from, Path to) throws IOException {
        Files.move(from, to, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }

    @Override
    public void delete(Path file) throws IOException {
        Files.deleteIfExists(file);
    }

    @Override
    public void forceDirectory(Path directory) throws IOException {
        force(directory);
    }

    private static void force(Path directory) throws IOException {
        if (!DIRECTORIES_CAN_BE_FORCED) {
            return;
        }
        // Interrupting this thread would close a FileChannel, possibly in the middle of the force, and all callers
        // waiting for the force would see it fail. An AsynchronousFileChannel ignores interrupts, and forces on this
        // thread all the same.
        try (AsynchronousFileChannel channel = AsynchronousFileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    private static final class RandomAccessReader implements DiskReader {

        private final RandomAccessFile file;
        /** Where the next read begins if it is not moved. */
        private long position;

        RandomAccessReader(RandomAccessFile file) {
            this.file = file;
        }

        @Override
        public int read(long offset, byte[] into, int at, int length) throws IOException {
            if (offset != position) {
                file.seek(offset);
                position = offset;
            }
            int read = readFully(file, into, at, length);
            position += read;
            return read;
        }

        @Override
        public void close() throws IOException {
            file.close();
        }
    }

    private record RandomAccessDiskFile(RandomAccessFile file) implements DiskFile {

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            file.seek(offset);
            file.write(bytes, from, length);
        }

        @Override
        public void force() throws IOException {
            file.getFD().sync();
        }

        @Override
        public void truncate(long size) throws IOException {
            file.setLength(size);
        }

        @Override
        public void close() throws IOException {
            file.close();
        }
    }
}
