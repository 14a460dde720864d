package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

/** A disk that is a map, so that a test can open a store thousands of times, and take a copy at any moment. Thread-safe. */
public final class MemoryDisk implements Disk {

    private final Map<Path, byte[]> files = new TreeMap<>();

    /** A file that is open stays the same file when it is moved. */
    private final Map<Path, Path> moved = new TreeMap<>();

    /** What a new process would find if this one were killed now. */
    public synchronized MemoryDisk copy() {
        MemoryDisk copy = new MemoryDisk();
        files.forEach((path, bytes) -> copy.files.put(path, bytes.clone()));
        return copy;
    }

    public synchronized byte[] get(Path file) {
        return Objects.requireNonNull(files.get(file), () -> file + " in " + files.keySet())
                .clone();
    }

    public synchronized void put(Path file, byte[] bytes) {
        files.put(file, bytes.clone());
    }

    /** All files, in order of their names. */
    public synchronized List<Path> files() {
        return List.copyOf(files.keySet());
    }

    private synchronized void write(Path file, long offset, byte[] bytes, int from, int length) {
        byte[] old = Objects.requireNonNullElse(files.get(file), new byte[0]); // open, but deleted
        byte[] grown = old.length < offset + length ? Arrays.copyOf(old, (int) offset + length) : old;
        System.arraycopy(bytes, from, grown, (int) offset, length);
        files.computeIfPresent(file, (path, before) -> grown);
    }

    @Override
    public synchronized DiskFile create(Path file) throws IOException {
        if (files.putIfAbsent(file, new byte[0]) != null) {
            throw new FileAlreadyExistsException(file.toString());
        }
        return new OpenFile(file);
    }

    @Override
    public synchronized DiskFile open(Path file) throws IOException {
        existing(file);
        return new OpenFile(file);
    }

    private byte[] existing(Path file) throws IOException {
        byte[] bytes = files.get(file);
        if (bytes == null) {
            throw new NoSuchFileException(file.toString());
        }
        return bytes;
    }

    @Override
    public synchronized byte[] read(Path file, long offset, int length) throws IOException {
        byte[] bytes = existing(file);
        int from = (int) Math.min(offset, bytes.length);
        return Arrays.copyOfRange(bytes, from, Math.min(bytes.length, from + length));
    }

    @Override
    public synchronized long size(Path file) throws IOException {
        return existing(file).length;
    }

    @Override
    public synchronized List<Path> list(Path directory) {
        return files.keySet().stream()
                .filter(file -> file.startsWith(directory))
                .map(file -> directory.resolve(directory.relativize(file).getName(0)))
                .distinct()
                .toList();
    }

    @Override
    public void createDirectories(Path directory) {
        // A directory is there once a file is in it.
    }

    @Override
    public synchronized void move(Path from, Path to) throws IOException {
        files.put(to, existing(from));
        files.remove(from);
        moved.put(from, to);
    }

    @Override
    public synchronized void delete(Path file) {
        files.remove(file);
    }

    @Override
    public void forceDirectory(Path directory) {
        // Nothing here survives a power cut anyway.
    }

    private final class OpenFile implements DiskFile {

        private final Path opened;

        OpenFile(Path opened) {
            this.opened = opened;
            moved.remove(opened);
        }

        private Path now() {
            synchronized (MemoryDisk.this) {
                return moved.getOrDefault(opened, opened);
            }
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) {
            MemoryDisk.this.write(now(), offset, bytes, from, length);
        }

        @Override
        public void force() {
            // as above
        }

        @Override
        public void truncate(long size) {
            synchronized (MemoryDisk.this) {
                files.computeIfPresent(
                        now(), (path, bytes) -> bytes.length > size ? Arrays.copyOf(bytes, (int) size) : bytes);
            }
        }

        @Override
        public void close() {
            // nothing to give back
        }
    }
}
