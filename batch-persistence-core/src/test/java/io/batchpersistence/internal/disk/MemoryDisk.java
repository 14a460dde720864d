package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * A disk that is a map, so that a test can open a store thousands of times, and take a copy at any moment: as a killed process
 * leaves it, or a power cut. Thread-safe.
 */
public final class MemoryDisk implements Disk {

    /** What is in a file, whatever its name. */
    private static final class Content {
        private byte[] bytes = {};
        private byte[] forced = {};
    }

    private final Map<Path, Content> files = new TreeMap<>();

    /** The names that a power cut leaves. */
    private Map<Path, Content> forcedFiles = new TreeMap<>();

    private Runnable beforeChange = () -> {};

    /** What a new process would find if this one were killed now. */
    public synchronized MemoryDisk copy() {
        MemoryDisk copy = new MemoryDisk();
        files.forEach((path, content) -> copy.put(path, content.bytes));
        return copy;
    }

    /** What a new process would find after a power cut now, of which nothing survives that was not forced. */
    public synchronized MemoryDisk afterPowerCut() {
        MemoryDisk copy = new MemoryDisk();
        forcedFiles.forEach((path, content) -> copy.put(path, content.forced));
        return copy;
    }

    /** Calls it before every operation that changes something; it may take copies. */
    public synchronized void beforeChange(Runnable action) {
        beforeChange = action;
    }

    public synchronized byte[] get(Path file) {
        Content content = files.get(file);
        if (content == null) {
            throw new AssertionError(file + " is not in " + files.keySet());
        }
        return content.bytes.clone();
    }

    /** As if it had always been there. */
    public synchronized void put(Path file, byte[] bytes) {
        Content content = new Content();
        content.bytes = bytes.clone();
        content.forced = content.bytes.clone();
        files.put(file, content);
        forcedFiles.put(file, content);
    }

    /** All files, in order of their names. */
    public synchronized List<Path> files() {
        return List.copyOf(files.keySet());
    }

    @Override
    public synchronized DiskFile create(Path file) throws IOException {
        if (files.containsKey(file)) {
            throw new FileAlreadyExistsException(file.toString());
        }
        beforeChange.run();
        Content content = new Content();
        files.put(file, content);
        return new OpenFile(content);
    }

    @Override
    public synchronized DiskFile open(Path file) throws IOException {
        return new OpenFile(existing(file));
    }

    private Content existing(Path file) throws IOException {
        Content content = files.get(file);
        if (content == null) {
            throw new NoSuchFileException(file.toString());
        }
        return content;
    }

    @Override
    public synchronized byte[] read(Path file, long offset, int length) throws IOException {
        byte[] bytes = existing(file).bytes;
        int from = (int) Math.min(offset, bytes.length);
        return Arrays.copyOfRange(bytes, from, (int) Math.min(bytes.length, (long) from + length));
    }

    @Override
    public synchronized long size(Path file) throws IOException {
        return existing(file).bytes.length;
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
        beforeChange.run();
        files.put(to, existing(from));
        files.remove(from);
    }

    @Override
    public synchronized void delete(Path file) {
        beforeChange.run();
        files.remove(file);
    }

    @Override
    public synchronized void forceDirectory(Path directory) {
        beforeChange.run();
        Map<Path, Content> forced = new TreeMap<>(files);
        forcedFiles.forEach((path, content) -> {
            if (!directory.equals(path.getParent())) {
                forced.put(path, content);
            }
        });
        forced.keySet().removeIf(path -> !directory.equals(path.getParent()) && !forcedFiles.containsKey(path));
        forcedFiles = forced;
    }

    private final class OpenFile implements DiskFile {

        private final Content content;

        OpenFile(Content content) {
            this.content = content;
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) {
            synchronized (MemoryDisk.this) {
                beforeChange.run();
                if (content.bytes.length < offset + length) {
                    content.bytes = Arrays.copyOf(content.bytes, (int) offset + length);
                }
                System.arraycopy(bytes, from, content.bytes, (int) offset, length);
            }
        }

        @Override
        public void force() {
            synchronized (MemoryDisk.this) {
                beforeChange.run();
                content.forced = content.bytes.clone();
            }
        }

        @Override
        public void truncate(long size) {
            synchronized (MemoryDisk.this) {
                beforeChange.run();
                if (content.bytes.length > size) {
                    content.bytes = Arrays.copyOf(content.bytes, (int) size);
                }
            }
        }

        @Override
        public void close() {
            // nothing to give back
        }
    }
}
