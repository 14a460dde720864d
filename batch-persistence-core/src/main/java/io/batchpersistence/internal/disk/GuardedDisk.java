package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A disk that works only while a directory is in place and ours. Otherwise paths lead elsewhere, so nothing is created,
 * renamed or deleted; open files no longer have names, so a force, which would succeed, fails; and a file that can't be
 * found may only have been moved away.
 */
final class GuardedDisk extends ForwardingDisk {

    private final DirectoryLock directory;

    GuardedDisk(Disk disk, DirectoryLock directory) {
        super(disk);
        this.directory = directory;
    }

    private void check() throws IOException {
        refuse(directory.problem());
    }

    private static void refuse(@Nullable String problem) throws IOException {
        if (problem != null) {
            throw new IOException(problem);
        }
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        check();
        return super.create(file);
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        check();
        return super.open(file);
    }

    @Override
    protected DiskFile wrap(Path path, DiskFile file) {
        return new GuardedFile(file);
    }

    @Override
    public DiskReader openForReading(Path file) throws IOException {
        refuse(directory.takenOver());
        try {
            return super.openForReading(file);
        } catch (NoSuchFileException e) {
            check();
            throw e;
        }
    }

    @Override
    protected DiskReader wrap(Path path, DiskReader reader) {
        return new ForwardingReader(reader) {
            @Override
            public int read(long offset, byte[] into, int at, int length) throws IOException {
                refuse(directory.takenOver());
                return reader.read(offset, into, at, length);
            }
        };
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        // Another process changes these files: apparent damage is none.
        refuse(directory.takenOver());
        try {
            return disk.read(file, offset, length);
        } catch (NoSuchFileException e) {
            check();
            throw e;
        }
    }

    @Override
    public long size(Path file) throws IOException {
        try {
            return disk.size(file);
        } catch (NoSuchFileException e) {
            check();
            throw e;
        }
    }

    @Override
    public List<Path> list(Path path) throws IOException {
        check();
        return disk.list(path);
    }

    @Override
    public void createDirectories(Path path) throws IOException {
        check();
        disk.createDirectories(path);
    }

    @Override
    public void move(Path from, Path to) throws IOException {
        check();
        disk.move(from, to);
    }

    @Override
    public void delete(Path file) throws IOException {
        check();
        disk.delete(file);
    }

    @Override
    public void forceDirectory(Path path) throws IOException {
        check();
        disk.forceDirectory(path);
    }

    private final class GuardedFile extends ForwardingFile {

        GuardedFile(DiskFile file) {
            super(file);
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            // Another process may have taken over the directory, and this file.
            check();
            file.write(offset, bytes, from, length);
        }

        @Override
        public void force() throws IOException {
            file.force();
            // Checked after the force: the directory was in place when the bytes became durable.
            check();
        }

        @Override
        public void truncate(long size) throws IOException {
            check();
            file.truncate(size);
        }
    }
}
