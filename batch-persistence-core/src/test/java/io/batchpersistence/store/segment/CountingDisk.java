package io.batchpersistence.store.segment;

import io.batchpersistence.internal.disk.Disk;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/** Counts what is read. */
final class CountingDisk implements Disk {

    private final Disk disk;
    private final AtomicLong bytesRead = new AtomicLong();

    CountingDisk(Disk disk) {
        this.disk = disk;
    }

    long bytesRead() {
        return bytesRead.get();
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        byte[] bytes = disk.read(file, offset, length);
        bytesRead.addAndGet(bytes.length);
        return bytes;
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        return disk.create(file);
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        return disk.open(file);
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
}
