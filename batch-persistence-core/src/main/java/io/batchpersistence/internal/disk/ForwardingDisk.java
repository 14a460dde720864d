package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/** A disk that forwards every call to another one. Subclasses override what they change. */
public abstract class ForwardingDisk implements Disk {

    /** Does all the work. */
    protected final Disk disk;

    protected ForwardingDisk(Disk disk) {
        this.disk = disk;
    }

    /** Wraps a file of the other disk that was created or opened: what it returns is what callers get. */
    protected DiskFile wrap(Path path, DiskFile file) {
        return file;
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        return wrap(file, disk.create(file));
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        return wrap(file, disk.open(file));
    }

    /** Wraps a file of the other disk that was opened for reading: what it returns is what callers get. */
    protected DiskReader wrap(Path path, DiskReader reader) {
        return reader;
    }

    @Override
    public DiskReader openForReading(Path file) throws IOException {
        return wrap(file, disk.openForReading(file));
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        return disk.read(file, offset, length);
    }

    @Override
    public long size(Path file) throws IOException {
        return disk.size(file);
    }

    @Override
    public List<Path> list(Path directory) throws IOException {
        return disk.list(directory);
    }

    @Override
    public void createDirectories(Path directory) throws IOException {
        disk.createDirectories(directory);
    }

    @Override
    public void move(Path from, Path to) throws IOException {
        disk.move(from, to);
    }

    @Override
    public void delete(Path file) throws IOException {
        disk.delete(file);
    }

    @Override
    public void forceDirectory(Path directory) throws IOException {
        disk.forceDirectory(directory);
    }

    @Override
    public void pause(Duration pause) {
        disk.pause(pause);
    }

    /** A reader that forwards every call to another one. */
    public abstract static class ForwardingReader implements DiskReader {

        /** Does all the work. */
        protected final DiskReader reader;

        protected ForwardingReader(DiskReader reader) {
            this.reader = reader;
        }

        @Override
        public int read(long offset, byte[] into, int at, int length) throws IOException {
            return reader.read(offset, into, at, length);
        }

        @Override
        public void close() throws IOException {
            reader.close();
        }
    }

    /** A file that forwards every call to another one. */
    public abstract static class ForwardingFile implements DiskFile {

        /** Does all the work. */
        protected final DiskFile file;

        protected ForwardingFile(DiskFile file) {
            this.file = file;
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            file.write(offset, bytes, from, length);
        }

        @Override
        public void force() throws IOException {
            file.force();
        }

        @Override
        public void truncate(long size) throws IOException {
            file.truncate(size);
        }

        @Override
        public void close() throws IOException {
            file.close();
        }
    }
}
