package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;

/** Counts the forces of a disk and measures how long they take, failures included. */
public final class MeasuredDisk implements Disk {

    private final Disk disk;
    private final LongAdder forces = new LongAdder();
    private final LongAdder nanos = new LongAdder();

    /**
     * Wraps a disk.
     *
     * @param disk does all the work
     */
    public MeasuredDisk(Disk disk) {
        this.disk = disk;
    }

    /**
     * Returns how many forces there were.
     *
     * @return forces of files and of directories that have ended
     */
    public long forces() {
        return forces.sum();
    }

    /**
     * Returns how long they took.
     *
     * @return nanoseconds of all forces together
     */
    public long forceNanos() {
        return nanos.sum();
    }

    private void forced(long began) {
        nanos.add(System.nanoTime() - began);
        forces.increment();
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        return new MeasuredFile(disk.create(file));
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        return new MeasuredFile(disk.open(file));
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
        long began = System.nanoTime();
        try {
            disk.forceDirectory(directory);
        } finally {
            forced(began);
        }
    }

    @Override
    public void pause(Duration pause) {
        disk.pause(pause);
    }

    private final class MeasuredFile implements DiskFile {

        private final DiskFile file;

        MeasuredFile(DiskFile file) {
            this.file = file;
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            file.write(offset, bytes, from, length);
        }

        @Override
        public void force() throws IOException {
            long began = System.nanoTime();
            try {
                file.force();
            } finally {
                forced(began);
            }
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
