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
 * A disk in memory that promises what a file system does, and no more. It can be copied at any moment: as a killed process
 * leaves it, or a power cut, with any of the states that a power cut may leave. Thread-safe.
 *
 * <p>The model:
 *
 * <ul>
 *   <li>Each {@value #SECTOR} bytes of a file are on the medium as they were at its last force, or as any write since has left
 *       them, each for itself. One of them may be torn, at any byte. The size is any that the file has had since.
 *   <li>Each creation, move and deletion of a name since its directory was forced may have happened or not, each for itself.
 *   <li>Forcing a file says nothing about its name, forcing a directory nothing about what is in its files.
 *   <li>A force that fails has dropped what was dirty: a reader still sees it, the next force does not write it. The size of the
 *       file is not dropped: it is written with the next force, or by chance.
 *   <li>A process may be killed in the middle of a write.
 *   <li>A write that finds the disk full has written a part. What is deleted gives its room back when it is closed.
 * </ul>
 *
 * <p>That calls fail is for {@link FaultyDisk}.
 */
public final class MemoryDisk implements Disk {

    /** What a device writes as a whole, unless the power goes just then. */
    static final int SECTOR = 512;

    private static final byte[] ZEROS = new byte[SECTOR];

    /** A file as it was at one moment. Sectors are shared and never changed. */
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

        /** What is behind the end in its last sector is zeros. */
        private Image endingInZeros() {
            int tail = size % SECTOR;
            if (tail > 0) {
                sectors[size / SECTOR] = mixed(sectors[size / SECTOR], ZEROS, tail);
            }
            return this;
        }

        /** The one up to some byte, the other from there on. */
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

    /** What is in a file, whatever its name. */
    private static final class Content {
        /** As every process sees it. */
        Image now = Image.EMPTY;
        /** What is on the medium for certain, unless it was overwritten since. */
        Image forced = Image.EMPTY;
        /** After each write or cut since it was forced. */
        List<Image> since = new ArrayList<>();
        /** Sectors changed since. */
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

        /** What was dropped by a force that failed is not dirty any more, so it stays as it was. */
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

        /** A force has failed: what it was for is not dirty any more. The size still is, if the medium has another one. */
        void drop() {
            clean();
            sizeIsDirty = now.size != forced.size;
        }

        /** One of those that a power cut may leave. */
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

    /** A name came, went, or both. */
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

    /** What becomes of each thing that a power cut leaves undecided. */
    private abstract static class Fate {

        /** Which of so many states, the oldest of which is 0. */
        abstract int choose(int states);

        /** At which byte a sector is torn; 0 if not. */
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

    /** The names that are on the medium for certain, unless they have changed since. */
    private final Map<Path, Content> forcedFiles = new TreeMap<>();

    private final List<NameChange> nameChanges = new ArrayList<>();
    private final Set<Content> opened = new HashSet<>();
    private Runnable beforeChange = () -> {};
    private long capacity = Long.MAX_VALUE;
    private int operations;

    /** What a new process finds if this one is killed now. What is not forced is there, and still not forced. */
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

    /** What a new process finds after a power cut now, of which nothing survives that was not forced. */
    public synchronized MemoryDisk afterPowerCut() {
        return afterPowerCut(Fate.of(states -> 0));
    }

    /**
     * What a new process may find after a power cut now.
     *
     * @param most how many to try; if there are no more than that, it is all of them
     * @param random chooses if there are more
     * @param found is given each of them
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

    /** The next combination, as an odometer does it; returns whether there was one. */
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
        for (Content content : contents) { // each is asked about, there or not: so the questions are always the same
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
     * Calls it before every operation that changes something, and in the middle of writes. It may take copies.
     *
     * @param action called with this disk locked
     */
    public synchronized void beforeChange(Runnable action) {
        beforeChange = action;
    }

    /** From now on there is room for that many bytes, names not counted. */
    public synchronized void capacity(long bytes) {
        capacity = bytes;
    }

    /** Bytes of all files, including those that are deleted but open. */
    public synchronized long used() {
        Set<Content> contents = new HashSet<>();
        contents.addAll(files.values());
        contents.addAll(opened);
        return contents.stream().mapToLong(content -> content.now.size).sum();
    }

    /** Whether a power cut now may undo a move, and leave what was done after it. */
    public synchronized boolean hasUndecidedMove() {
        return nameChanges.size() > 1
                && nameChanges.stream().anyMatch(change -> change.gone != null && change.come != null);
    }

    /** Whether a power cut now may undo that a file has got a name that ends so. */
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

    /** As if it had always been there. */
    public synchronized void put(Path file, byte[] bytes) {
        Content content = new Content();
        content.now = Image.of(bytes);
        content.forced = content.now;
        files.put(file, content);
        forcedFiles.put(file, content);
        nameChanges.removeIf(change -> file.equals(change.gone) || file.equals(change.come));
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
        // A directory is there once a file is in it.
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
        // Nothing here gets better by waiting.
    }

    /** An open file; what it is about is {@link Disk}'s. */
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

        /** What was dirty is dropped, as by a force that fails. */
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
