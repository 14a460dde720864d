package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.IntUnaryOperator;
import org.jspecify.annotations.Nullable;

/**
 * A disk in memory that gives the guarantees of a file system and no more. It can be copied at any moment, as a killed
 * process leaves it or in any of the states that a power cut may leave. Thread-safe.
 *
 * <p>The model:
 *
 * <ul>
 * <li>Each {@value #SECTOR}-byte sector of a file is on the medium as of its last force or of any later write,
 *     independent of the other sectors. One sector may be torn at any byte. The size is any size since the last force.
 * <li>Each creation, rename and deletion since the last force of the directory may be lost, independent of the others.
 * <li>Forcing a file does not make its name durable. Forcing a directory does not make the content of its files
 *     durable.
 * <li>A failed force drops the dirty pages: readers still see them, but the next force does not write them. The size of
 *     the file is kept. The next force writes it, or it becomes durable by chance.
 * <li>A process may be killed in the middle of a write.
 * <li>A write on a full disk writes a part. The space of a deleted file is free when the file is closed.
 * </ul>
 *
 * <p>{@link FaultyDisk} adds failures.
 */
public final class MemoryDisk implements Disk {

    /** The device writes a sector atomically, except during a power cut. */
    static final int SECTOR = 512;

    private static final byte[] ZEROS = new byte[SECTOR];

    /** The content of a file at one moment. Sectors are shared and immutable. */
    private static final class Image {

        private static final Image EMPTY = new Image(new byte[0][], 0);

        private final byte[][] sectors;
        private final int size;

        Image(byte[][] sectors, int size) {
            this.sectors = sectors;
            this.size = size;
        }

        static Image of(byte[] bytes) {
            return EMPTY.write(0, bytes, 0, bytes.length);
        }

        private static int count(int size) {
            return (size + SECTOR - 1) / SECTOR;
        }

        private byte[] sector(int index) {
            return index < sectors.length ? sectors[index] : ZEROS;
        }

        private byte[][] resized(int newSize) {
            byte[][] result = new byte[count(newSize)][];
            Arrays.fill(result, ZEROS);
            System.arraycopy(sectors, 0, result, 0, Math.min(sectors.length, result.length));
            return result;
        }

        Image write(long offset, byte[] bytes, int from, int length) {
            if (length == 0) {
                return this;
            }
            int newSize = Math.max(size, Math.toIntExact(offset + length));
            byte[][] result = resized(newSize);
            for (int done = 0; done < length; ) {
                int at = (int) offset + done;
                int part = Math.min(length - done, SECTOR - at % SECTOR);
                byte[] sector = result[at / SECTOR].clone();
                System.arraycopy(bytes, from + done, sector, at % SECTOR, part);
                result[at / SECTOR] = sector;
                done += part;
            }
            return new Image(result, newSize);
        }

        Image truncate(int newSize) {
            if (newSize >= size) {
                return this;
            }
            byte[][] result = resized(newSize);
            return new Image(result, newSize).endingInZeros();
        }

        /** Fills the last sector with zeros after the end of the file. */
        private Image endingInZeros() {
            int tail = size % SECTOR;
            if (tail > 0) {
                sectors[size / SECTOR] = mixed(sectors[size / SECTOR], ZEROS, tail);
            }
            return this;
        }

        /** Joins the start of the first sector with the rest of the second. */
        static byte[] mixed(byte[] first, byte[] second, int cut) {
            byte[] result = second.clone();
            System.arraycopy(first, 0, result, 0, cut);
            return result;
        }

        byte[] read(long offset, int length) {
            int from = (int) Math.min(offset, size);
            byte[] result = new byte[(int) Math.min(size - from, (long) length)];
            for (int done = 0; done < result.length; ) {
                int at = from + done;
                int part = Math.min(result.length - done, SECTOR - at % SECTOR);
                System.arraycopy(sectors[at / SECTOR], at % SECTOR, result, done, part);
                done += part;
            }
            return result;
        }
    }

    /** The content of a file, independent of its name. */
    private static final class Content {
        /** What every process sees. */
        Image now = Image.EMPTY;
        /** What is certainly on the medium, unless it was overwritten since. */
        Image forced = Image.EMPTY;
        /** The image after each write or truncation since the last force. */
        List<Image> since = new ArrayList<>();
        /** Sectors changed since the last force. */
        BitSet dirty = new BitSet();

        boolean sizeIsDirty;
        int open;

        Content copy() {
            Content copy = new Content();
            copy.now = now;
            copy.forced = forced;
            copy.since = new ArrayList<>(since);
            copy.dirty = (BitSet) dirty.clone();
            copy.sizeIsDirty = sizeIsDirty;
            return copy;
        }

        void change(Image next) {
            int count = Math.max(next.sectors.length, now.sectors.length);
            for (int i = 0; i < count; i++) {
                if (next.sector(i) != now.sector(i)) {
                    dirty.set(i);
                }
            }
            sizeIsDirty |= next.size != now.size;
            now = next;
            since.add(next);
        }

        /** A failed force has dropped dirty sectors. They are not dirty any more, so they stay as they were. */
        void force() {
            int size = sizeIsDirty ? now.size : forced.size;
            byte[][] sectors = forced.resized(size);
            for (int i = 0; i < sectors.length; i++) {
                if (dirty.get(i)) {
                    sectors[i] = now.sector(i);
                }
            }
            forced = new Image(sectors, size);
            clean();
        }

        private void clean() {
            since.clear();
            dirty.clear();
            sizeIsDirty = false;
        }

        /**
         * A force has failed: its sectors are not dirty any more. The size stays dirty if the medium has a different
         * one.
         */
        void drop() {
            clean();
            sizeIsDirty = now.size != forced.size;
        }

        /** One of the states that a power cut may leave. */
        Image afterPowerCut(Fate fate) {
            List<Integer> sizes = new ArrayList<>(List.of(forced.size));
            for (Image image : since) {
                if (!sizes.contains(image.size)) {
                    sizes.add(image.size);
                }
            }
            if (sizeIsDirty && !sizes.contains(now.size)) {
                sizes.add(now.size);
            }
            int size = sizes.get(fate.choose(sizes.size()));
            byte[][] sectors = forced.resized(size);
            for (int i = dirty.nextSetBit(0); i >= 0; i = dirty.nextSetBit(i + 1)) {
                List<byte[]> versions = new ArrayList<>();
                versions.add(forced.sector(i));
                for (Image image : since) {
                    if (image.sector(i) != versions.get(versions.size() - 1)) {
                        versions.add(image.sector(i));
                    }
                }
                int choice = fate.choose(versions.size());
                byte[] chosen = versions.get(choice);
                int cut = versions.size() < 2 ? 0 : fate.tear();
                if (cut > 0) {
                    chosen = Image.mixed(chosen, versions.get((choice + 1) % versions.size()), cut);
                }
                if (i < sectors.length) {
                    sectors[i] = chosen;
                }
            }
            return new Image(sectors, size).endingInZeros();
        }
    }

    /** A name was removed, added, or both. */
    private record NameChange(@Nullable Path gone, @Nullable Path come, Content content) {

        boolean isIn(Path directory) {
            Path name = come == null ? gone : come;
            return name != null && directory.equals(name.getParent());
        }

        void apply(Map<Path, Content> names) {
            if (gone != null) {
                names.remove(gone);
            }
            if (come != null) {
                names.put(come, content);
            }
        }
    }

    /** Decides everything that a power cut leaves undecided. */
    private abstract static class Fate {

        /** Chooses one of the states. State 0 is the oldest. */
        abstract int choose(int states);

        /** The byte at which a sector is torn, or 0. */
        int tear() {
            return 0;
        }

        static Fate of(IntUnaryOperator choice) {
            return new Fate() {
                @Override
                int choose(int states) {
                    return choice.applyAsInt(states);
                }
            };
        }
    }

    private final Map<Path, Content> files = new TreeMap<>();

    /** The names that are certainly on the medium, unless they changed since. */
    private final Map<Path, Content> forcedFiles = new TreeMap<>();

    private final List<NameChange> nameChanges = new ArrayList<>();
    private final Set<Content> opened = new HashSet<>();
    private Runnable beforeChange = () -> {};
    private long capacity = Long.MAX_VALUE;
    private int operations;

    /** What a new process finds if this one is killed now. Unforced data is there, and still not forced. */
    public synchronized MemoryDisk copy() {
        MemoryDisk copy = new MemoryDisk();
        Map<Content, Content> contents = new HashMap<>();
        files.forEach((path, content) -> copy.files.put(path, contents.computeIfAbsent(content, Content::copy)));
        forcedFiles.forEach(
                (path, content) -> copy.forcedFiles.put(path, contents.computeIfAbsent(content, Content::copy)));
        for (NameChange change : nameChanges) {
            copy.nameChanges.add(
                    new NameChange(change.gone, change.come, contents.computeIfAbsent(change.content, Content::copy)));
        }
        copy.operations = operations;
        return copy;
    }

    /** What a new process finds after a power cut now, if only forced data survives. */
    public synchronized MemoryDisk afterPowerCut() {
        return afterPowerCut(Fate.of(states -> 0));
    }

    /**
     * What a new process may find after a power cut now.
     *
     * @param most the maximum number of states; if there are not more, all are tried
     * @param random chooses if there are more
     * @param found receives each state
     */
    public synchronized void powerCuts(int most, Random random, Consumer<MemoryDisk> found) {
        List<Integer> states = new ArrayList<>();
        double count = 1;
        found.accept(afterPowerCut(Fate.of(of -> {
            states.add(of);
            return 0;
        })));
        for (int each : states) {
            count *= each;
        }
        if (count <= most) {
            int[] choice = new int[states.size()];
            while (next(choice, states)) {
                int[] at = new int[1];
                found.accept(afterPowerCut(Fate.of(of -> choice[at[0]++])));
            }
        } else {
            found.accept(afterPowerCut(Fate.of(of -> of - 1)));
        }
        int more = count <= most ? (count > 1 ? 1 : 0) : most - 2;
        for (int i = 0; i < more; i++) {
            double newest = random.nextDouble();
            boolean torn = random.nextInt(3) == 0;
            found.accept(afterPowerCut(new Fate() {
                @Override
                int choose(int of) {
                    return of == 1 ? 0 : random.nextDouble() < newest ? of - 1 : random.nextInt(of - 1);
                }

                @Override
                int tear() {
                    return torn ? random.nextInt(SECTOR) : 0;
                }
            }));
        }
    }

    /** Advances to the next combination, like an odometer. Returns whether there was one. */
    private static boolean next(int[] choice, List<Integer> states) {
        for (int i = 0; i < choice.length; i++) {
            if (++choice[i] < states.get(i)) {
                return true;
            }
            choice[i] = 0;
        }
        return false;
    }

    private MemoryDisk afterPowerCut(Fate fate) {
        Map<Path, Content> names = new TreeMap<>(forcedFiles);
        for (NameChange change : nameChanges) {
            if (fate.choose(2) == 1) {
                change.apply(names);
            }
        }
        Map<Content, byte[]> bytes = new HashMap<>();
        List<Content> contents = new ArrayList<>(forcedFiles.values());
        nameChanges.forEach(change -> contents.add(change.content));
        // Ask about each content, even if its file does not exist, so that the sequence of choices is always the same.
        for (Content content : contents) {
            if (!bytes.containsKey(content)) {
                Image image = content.afterPowerCut(fate);
                bytes.put(content, image.read(0, image.size));
            }
        }
        MemoryDisk left = new MemoryDisk();
        names.forEach((path, content) -> left.put(path, bytes.getOrDefault(content, new byte[0])));
        left.operations = operations;
        return left;
    }

    /**
     * Calls the action before every changing operation and in the middle of writes. The action may take copies.
     *
     * @param action called with this disk locked
     */
    public synchronized void beforeChange(Runnable action) {
        beforeChange = action;
    }

    /** Limits the disk to this number of bytes. Names do not count. */
    public synchronized void capacity(long bytes) {
        capacity = bytes;
    }

    /** Bytes of all files, including deleted files that are still open. */
    public synchronized long used() {
        Set<Content> contents = new HashSet<>();
        contents.addAll(files.values());
        contents.addAll(opened);
        return contents.stream().mapToLong(content -> content.now.size).sum();
    }

    /** Whether a power cut now may undo a rename and keep later operations. */
    public synchronized boolean hasUndecidedMove() {
        return nameChanges.size() > 1
                && nameChanges.stream().anyMatch(change -> change.gone != null && change.come != null);
    }

    /** Whether a power cut now may undo that a file got a name with this suffix. */
    public synchronized boolean hasUndecidedMove(String ending) {
        return nameChanges.stream()
                .anyMatch(change -> change.gone != null
                        && change.come != null
                        && change.come.toString().endsWith(ending));
    }

    public synchronized byte[] get(Path file) {
        Content content = files.get(file);
        if (content == null) {
            throw new AssertionError(file + " is not in " + files.keySet());
        }
        return content.now.read(0, content.now.size);
    }

    /** Adds a file as if it had always existed. */
    public synchronized void put(Path file, byte[] bytes) {
        Content content = new Content();
        content.now = Image.of(bytes);
        content.forced = content.now;
        files.put(file, content);
        forcedFiles.put(file, content);
        nameChanges.removeIf(change -> file.equals(change.gone) || file.equals(change.come));
    }

    public synchronized List<Path> files() {
        return List.copyOf(files.keySet());
    }

    /** The files with this name suffix. */
    public List<Path> files(String ending) {
        return files().stream().filter(file -> file.toString().endsWith(ending)).toList();
    }

    /** The file with this name suffix that comes last in alphabetical order: of journals, the newest. */
    public Path last(String ending) {
        List<Path> all = files(ending);
        return all.get(all.size() - 1);
    }

    /** Damages a byte of a file. */
    public void flip(Path file, int offset, int bits) {
        byte[] bytes = get(file);
        bytes[offset] ^= (byte) bits;
        put(file, bytes);
    }

    /** The length without the zeros at the end, which are preallocated space. */
    public static int used(byte[] bytes) {
        int used = bytes.length;
        while (used > 0 && bytes[used - 1] == 0) {
            used--;
        }
        return used;
    }

    @Override
    public synchronized DiskFile create(Path file) throws IOException {
        if (files.containsKey(file)) {
            throw new FileAlreadyExistsException(file.toString());
        }
        changing();
        Content content = new Content();
        change(new NameChange(null, file, content));
        return new OpenFile(content);
    }

    private void changing() {
        operations++;
        beforeChange.run();
    }

    private void change(NameChange change) {
        change.apply(files);
        nameChanges.add(change);
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
    public synchronized DiskReader openForReading(Path file) throws IOException {
        OpenFile open = new OpenFile(existing(file));
        return new DiskReader() {
            @Override
            public int read(long offset, byte[] into, int at, int length) {
                synchronized (MemoryDisk.this) {
                    byte[] bytes = open.content.now.read(offset, length);
                    System.arraycopy(bytes, 0, into, at, bytes.length);
                    return bytes.length;
                }
            }

            @Override
            public void close() {
                open.close();
            }
        };
    }

    @Override
    public synchronized byte[] read(Path file, long offset, int length) throws IOException {
        return existing(file).now.read(offset, length);
    }

    @Override
    public synchronized long size(Path file) throws IOException {
        return existing(file).now.size;
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
        // A directory exists once it contains a file.
    }

    @Override
    public synchronized void move(Path from, Path to) throws IOException {
        Content content = existing(from);
        changing();
        change(new NameChange(from, to, content));
    }

    @Override
    public synchronized void delete(Path file) {
        changing();
        Content content = files.get(file);
        if (content != null) {
            change(new NameChange(file, null, content));
        }
    }

    @Override
    public synchronized void forceDirectory(Path directory) {
        changing();
        nameChanges.removeIf(change -> {
            if (change.isIn(directory)) {
                change.apply(forcedFiles);
                return true;
            }
            return false;
        });
    }

    @Override
    public void pause(Duration pause) {
        // Waiting improves nothing here.
    }

    /** An open file. See {@link Disk} for the semantics. */
    final class OpenFile implements DiskFile {

        private final Content content;
        private boolean closed;

        OpenFile(Content content) {
            this.content = content;
            content.open++;
            opened.add(content);
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            synchronized (MemoryDisk.this) {
                changing();
                long room = capacity == Long.MAX_VALUE ? capacity : capacity - used();
                long grows = Math.max(0, offset + length - content.now.size);
                int written = grows <= room ? length : (int) Math.max(0, length - grows + Math.max(0, room));
                int half = written < 2 ? 0 : Math.floorMod(operations * 7919, written - 1) + 1;
                if (half > 0) {
                    content.change(content.now.write(offset, bytes, from, half));
                    changing();
                }
                if (written > half) {
                    content.change(content.now.write(offset + half, bytes, from + half, written - half));
                }
                if (written < length) {
                    throw new IOException("No space left on device");
                }
            }
        }

        @Override
        public void force() {
            synchronized (MemoryDisk.this) {
                changing();
                content.force();
            }
        }

        /** Drops dirty pages, as a failed force does. */
        void drop() {
            synchronized (MemoryDisk.this) {
                changing();
                content.drop();
            }
        }

        @Override
        public void truncate(long size) {
            synchronized (MemoryDisk.this) {
                changing();
                content.change(content.now.truncate((int) size));
            }
        }

        @Override
        public void close() {
            synchronized (MemoryDisk.this) {
                if (!closed) {
                    closed = true;
                    if (--content.open == 0) {
                        opened.remove(content);
                    }
                }
            }
        }
    }
}
