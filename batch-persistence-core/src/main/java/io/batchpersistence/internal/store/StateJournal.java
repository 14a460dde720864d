package io.batchpersistence.internal.store;

import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32C;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The journal of what became of batches, so that a retry never rewrites a payload.
 *
 * <p>A journal is a row of files, each a <em>generation</em>: a header, a snapshot of everything that is not as it was
 * persisted, and then a frame for each change. A new generation is written aside, forced, renamed into place, and only then
 * are changes written to it. The generation before it is kept, so that if a snapshot turns out to be damaged, that one with
 * all its frames stands in for it.
 *
 * <pre>
 * header   8 bytes "BPSTATE\1", u64 generation, u32 CRC32C of the sixteen bytes before; big-endian
 * frames   see {@link JournalFrames}; up to and including SNAPSHOT_END is the snapshot
 * zeros    room reserved for more frames
 * </pre>
 *
 * Written by the store's writer thread alone.
 */
final class StateJournal implements AutoCloseable {

    private static final Logger log = LoggerFactory.getLogger(StateJournal.class);

    private static final byte[] MAGIC = "BPSTATE\1".getBytes(StandardCharsets.ISO_8859_1);
    private static final int HEADER = 20;
    private static final Pattern NAME = Pattern.compile("state-(\\d{16})\\.journal");

    /** Real bytes kept ready, so that batches can be marked, and space given back, on a disk that is full. */
    static final int RESERVE = 64 << 10;

    /** What must be left of a reserve to go on in it: a few hundred marks. */
    private static final int MIN_RESUMED = 8 << 10;

    /** Bytes of changes after which a new generation pays, whatever the size of the snapshot. */
    private static final long MIN_CHANGES = 4 << 20;

    private final DiskFile out;
    private final long snapshotEnd;
    private final long olderBytes;
    private long position;
    private long allocated;

    private StateJournal(DiskFile out, long snapshotEnd, long allocated, long olderBytes) {
        this.out = out;
        this.olderBytes = olderBytes;
        this.snapshotEnd = snapshotEnd;
        this.position = snapshotEnd;
        this.allocated = allocated;
    }

    // ---- reading ---------------------------------------------------------------------------------

    /** Told of bytes that are not what they should be. */
    interface Damage {
        void found(Path file, long offset, long length, String reason);
    }

    /**
     * Reads the newest generation whose snapshot is whole, and what came after it.
     *
     * @return the newest generation there is; 0 if there is none
     */
    static long read(Disk disk, Path directory, JournalState[] result, Damage damage) throws IOException {
        NavigableMap<Long, Path> generations = generations(disk.list(directory));
        List<byte[]> contents = new ArrayList<>();
        List<Long> numbers = new ArrayList<>(generations.descendingKeySet());
        int base = -1;
        for (int i = 0; i < numbers.size() && base < 0; i++) {
            Path path = file(directory, numbers.get(i));
            byte[] bytes = content(disk, path, damage);
            contents.add(bytes);
            if (hasWholeSnapshot(numbers.get(i), bytes)) {
                base = i;
            } else {
                damage.found(
                        path, 0, bytes.length, "its snapshot is damaged; the generation before it is used instead");
            }
        }
        JournalState state = new JournalState();
        for (int i = base < 0 ? numbers.size() - 1 : base; i >= 0; i--) {
            Path path = file(directory, numbers.get(i));
            readFile(path, numbers.get(i), contents.get(i), state, damage);
        }
        state.finish();
        result[0] = state;
        return numbers.isEmpty() ? 0 : numbers.get(0);
    }

    private static byte[] content(Disk disk, Path path, Damage damage) {
        try {
            return disk.read(path, 0, (int) Math.min(Integer.MAX_VALUE - 64, disk.size(path)));
        } catch (IOException e) {
            damage.found(path, 0, 0, "can't be read: " + e);
            return new byte[0];
        }
    }

    private static boolean hasWholeSnapshot(long generation, byte[] bytes) {
        if (!hasHeader(generation, bytes)) {
            return false;
        }
        for (int at = HEADER; ; ) {
            int length = JournalFrames.validLength(generation, bytes, at);
            if (length == 0) {
                return false;
            }
            if (bytes[at + 1] == JournalFrames.SNAPSHOT_END) {
                return true;
            }
            at += length;
        }
    }

    private static boolean hasHeader(long generation, byte[] bytes) {
        return bytes.length >= HEADER && ByteBuffer.wrap(bytes, 0, HEADER).equals(ByteBuffer.wrap(header(generation)));
    }

    private static void readFile(Path path, long generation, byte[] bytes, JournalState state, Damage damage) {
        state.beginFile();
        int end = bytes.length;
        while (end > 0 && bytes[end - 1] == 0) {
            end--; // reserved room; a frame that ends in zeros is still found by its length
        }
        int at = Math.min(HEADER, bytes.length);
        while (at < end) {
            int length = JournalFrames.validLength(generation, bytes, at);
            if (length > 0) {
                try {
                    state.apply(bytes[at + 1], JournalFrames.body(bytes, at, length));
                } catch (BufferUnderflowException | IllegalArgumentException e) {
                    damage.found(path, at, length, "a frame that makes no sense: " + e);
                }
                at += length;
                continue;
            }
            int next = at + 1;
            while (next < end && JournalFrames.validLength(generation, bytes, next) == 0) {
                next++;
            }
            // At the end it is most likely what was being written when the power went: nobody was promised anything
            // yet.
            damage.found(path, at, (long) next - at, next >= end ? "torn tail" : "damaged frames");
            at = next;
        }
    }

    private static NavigableMap<Long, Path> generations(List<Path> files) {
        NavigableMap<Long, Path> generations = new TreeMap<>();
        for (Path path : files) {
            Matcher name = NAME.matcher(path.getFileName().toString());
            if (name.matches()) {
                generations.put(Long.parseLong(name.group(1)), path);
            }
        }
        return generations;
    }

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * Begins a generation. When this returns, it is in force; the generation before the last one is deleted.
     *
     * @param snapshot whole, written for that generation
     */
    static StateJournal begin(Disk disk, Path directory, long generation, JournalFrames snapshot) throws IOException {
        Path aside = directory.resolve("state-" + String.format("%016d", generation) + ".tmp");
        Path file = file(directory, generation);
        disk.delete(aside);
        DiskFile out = disk.create(aside);
        boolean done = false;
        try {
            out.write(0, header(generation), 0, HEADER);
            out.write(HEADER, snapshot.array(), 0, snapshot.length());
            long end = (long) HEADER + snapshot.length();
            out.write(end, new byte[RESERVE], 0, RESERVE);
            out.force();
            disk.move(aside, file);
            disk.forceDirectory(directory);
            done = true;
            return new StateJournal(out, end, end + RESERVE, tidyUp(disk, directory, generation));
        } finally {
            if (!done) {
                out.close();
                disk.delete(aside);
            }
        }
    }

    /** Deletes what no generation needs any more and returns the bytes that stay. What fails is no reason to fail. */
    private static long tidyUp(Disk disk, Path directory, long generation) {
        long bytes = 0;
        try {
            for (Map.Entry<Long, Path> old :
                    generations(disk.list(directory)).headMap(generation).entrySet()) {
                bytes += old.getKey() < generation - 1 ? delete(disk, old.getValue()) : disk.size(old.getValue());
            }
        } catch (IOException e) {
            log.warn("Old state journals in {} could not be looked at: {}", directory, e.toString());
        }
        return bytes;
    }

    /** Returns how many bytes are still there. */
    private static long delete(Disk disk, Path file) throws IOException {
        try {
            disk.delete(file);
            return 0;
        } catch (IOException e) {
            log.warn("{} could not be deleted: {}; it is tried again with the next snapshot", file, e.toString());
            return disk.size(file);
        }
    }

    /**
     * Goes on with a generation that was read, in what is left of its reserve.
     *
     * @throws IOException if it can't be written, is damaged (who knows what would be read behind that), or has no room left
     */
    static StateJournal resume(Disk disk, Path directory, long generation) throws IOException {
        Path file = file(directory, generation);
        byte[] bytes = disk.read(file, 0, (int) Math.min(Integer.MAX_VALUE - 64, disk.size(file)));
        int end = HEADER;
        for (int length; (length = JournalFrames.validLength(generation, bytes, end)) > 0; ) {
            end += length;
        }
        for (int at = end; at < bytes.length; at++) {
            if (bytes[at] != 0) {
                throw new IOException(file + " is damaged at " + end);
            }
        }
        if (!hasWholeSnapshot(generation, bytes) || bytes.length - end < MIN_RESUMED) {
            throw new IOException(file + " has no room left");
        }
        NavigableMap<Long, Path> generations = generations(disk.list(directory));
        if (generations.lastKey() != generation) {
            throw new IOException(generations.lastEntry().getValue() + " would be read instead");
        }
        long olderBytes = 0;
        for (Path older : generations.headMap(generation).values()) {
            olderBytes += disk.size(older);
        }
        return new StateJournal(disk.open(file), end, bytes.length, olderBytes);
    }

    private static Path file(Path directory, long generation) {
        return directory.resolve(String.format("state-%016d.journal", generation));
    }

    private static byte[] header(long generation) {
        ByteBuffer header = ByteBuffer.allocate(HEADER).put(MAGIC).putLong(generation);
        CRC32C crc = new CRC32C();
        crc.update(header.array(), 0, HEADER - 4);
        return header.putInt((int) crc.getValue()).array();
    }

    /** Appends frames; they survive the process from now on, a power cut after the next {@link #force}. */
    void write(JournalFrames frames) throws IOException {
        out.write(position, frames.array(), 0, frames.length());
        position += frames.length();
        allocated = Math.max(allocated, position);
        if (allocated - position < RESERVE / 2) {
            try {
                out.write(allocated, new byte[RESERVE], 0, RESERVE);
                allocated += RESERVE;
            } catch (IOException e) {
                // Full. What is left of the reserve is for exactly this time; the frames themselves are written.
            }
        }
    }

    void force() throws IOException {
        out.force();
    }

    /** Whether the changes have outgrown the snapshot, so that a new generation is worth its cost. */
    boolean isDueForSnapshot() {
        return position - snapshotEnd > Math.max(MIN_CHANGES, 2 * snapshotEnd);
    }

    /** Bytes of this generation and of the one kept before it. */
    long diskUsage() {
        return olderBytes + allocated;
    }

    @Override
    public void close() throws IOException {
        out.close();
    }
}
