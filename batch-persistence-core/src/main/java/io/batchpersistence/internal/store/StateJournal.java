package io.batchpersistence.internal.store;

import io.batchpersistence.SingleLine;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.disk.UnreadableFileException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * The journal of what became of batches, so that a retry never rewrites a payload.
 *
 * <p>It is a row of <em>generations</em>. Each has a log, to which a frame is appended for each change, and may have a
 * snapshot of everything that was not as it was persisted when the log was begun. To open a store, the newest whole snapshot
 * is read, then its log, then the logs of the generations after it.
 *
 * <p>A generation begins with its log; its snapshot is written afterwards, beside the changes that go into the log meanwhile,
 * and so may already have some of them. That is harmless, since frames say how things are and not how they have changed; but
 * the counters, which do change, are those of the beginning. The snapshot is written aside, forced, and renamed into place.
 * Then everything older than the snapshot before it is deleted: that one and the logs since are kept, should the newer one
 * turn out to be damaged.
 *
 * <pre>
 * state-0000000000000004.journal     8 bytes "BPSTATE\2", u64 generation, u32 CRC32C of the sixteen bytes before; big-endian
 *                                    frames, see {@link JournalFrames}
 *                                    zeros: room reserved for more frames
 * state-0000000000000004.snapshot    the same with "BPSNAPS\2"; the last frame is SNAPSHOT_END
 * </pre>
 *
 * <p>Version 1 had the snapshot at the beginning of the log, up to and including SNAPSHOT_END; it is still read.
 *
 * <p>For the store's writer, one thread at a time; a {@link Snapshot} for one other thread, and {@link #force} for any.
 */
final class StateJournal implements AutoCloseable {

    private static final Logger log = SingleLine.logger(StateJournal.class);

    private static final byte[] LOG_V1 = magic("BPSTATE\1");
    private static final byte[] LOG = magic("BPSTATE\2");
    private static final byte[] SNAPSHOT = magic("BPSNAPS\2");
    private static final int HEADER = 20;
    private static final Pattern NAME = Pattern.compile("state-(\\d{16})\\.(journal|snapshot)");
    private static final Pattern ASIDE = Pattern.compile("state-(\\d{16})\\.tmp");
    private static final Pattern LOOKS_LIKE_OURS =
            Pattern.compile("state-.*\\.(journal|snapshot|tmp)", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    /** Far from the end of the numbers: a file with a higher one was not made here, and the next would have no name. */
    private static final long MAX_NUMBER = 1_000_000_000_000_000L;

    /** Real bytes kept ready, so that batches can be marked, and space given back, on a disk that is full. */
    static final int RESERVE = 64 << 10;

    /** What is left of a reserve in any log but on a disk that was full for long. */
    private static final int MIN_RESERVE = 64;

    /** What must be left of a reserve to go on in it: a few hundred marks. */
    private static final int MIN_RESUMED = 8 << 10;

    /** Bytes of changes after which a new generation pays, whatever the size of the snapshot. */
    private static final long MIN_CHANGES = 4 << 20;

    /** A snapshot is forced in pieces, so that no other force has to wait for much of it. */
    private static final int FORCED_AT_ONCE = 4 << 20;

    private static final int READ_AT_ONCE = 1 << 20;

    private final Disk disk;
    private final Path directory;
    private long generation;
    private long generationBefore;
    /** The highest number given to a log, so that two that are made at the same time are two files. */
    private final AtomicLong lastPrepared = new AtomicLong();

    private volatile @Nullable DiskFile out;
    /** The log before, if its end may not be durable yet. */
    private volatile @Nullable DiskFile ended;

    private boolean endedLost;
    private final ReentrantLock endedLock = new ReentrantLock();
    private long position;
    private volatile long allocated;
    /** Bytes of logs since the last snapshot, without the one being written. */
    private long olderChanges;

    private long snapshotBytes;
    /** Of all files but the log and the snapshot being written. */
    private volatile long otherBytes;

    private volatile long unfinishedBytes;

    /** Generations whose snapshot was found damaged: no fallback for anything. */
    private final Set<Long> broken = new HashSet<>();

    /** The logs that were read, oldest first. */
    private final List<Path> logsRead = new ArrayList<>();

    private StateJournal(Disk disk, Path directory) {
        this.disk = disk;
        this.directory = directory;
    }

    private static byte[] magic(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    // ---- reading ---------------------------------------------------------------------------------

    /** Told of bytes that are not what they should be. */
    interface Damage {
        void found(Path file, long offset, long length, String reason);
    }

    /** The files of one generation. */
    private static final class Files {
        @Nullable
        Path log;

        @Nullable
        Path snapshot;
    }

    /**
     * Reads what there is, from the newest whole snapshot on. The journal returned is not yet written to.
     *
     * @throws UnreadableFileException if what a file says can't be known: nothing may be decided without it
     */
    static StateJournal read(Disk disk, Path directory, JournalState state, Damage damage) throws IOException {
        StateJournal journal = new StateJournal(disk, directory);
        NavigableMap<Long, Files> generations = journal.generations(damage);
        journal.generation = generations.isEmpty() ? 0 : generations.lastKey();
        journal.lastPrepared.set(journal.generation);
        Long base = null;
        for (Map.Entry<Long, Files> entry : generations.descendingMap().entrySet()) {
            if (journal.hasWholeSnapshot(entry.getKey(), entry.getValue(), damage)) {
                base = entry.getKey();
                break;
            }
        }
        Map<Long, Files> read = base == null ? generations : generations.tailMap(base);
        for (Map.Entry<Long, Files> entry : read.entrySet()) {
            long number = entry.getKey();
            if (entry.getValue().snapshot != null && base != null && base == number) {
                journal.readFile(entry.getValue().snapshot, number, state, damage);
            }
            if (entry.getValue().log != null) {
                journal.readFile(entry.getValue().log, number, state, damage);
                journal.logsRead.add(entry.getValue().log);
            } else {
                state.incomplete(); // each generation has one
            }
        }
        state.finish();
        return journal;
    }

    private NavigableMap<Long, Files> generations() throws IOException {
        return generations((file, offset, length, reason) -> {});
    }

    private NavigableMap<Long, Files> generations(Damage damage) throws IOException {
        NavigableMap<Long, Files> generations = new TreeMap<>();
        for (Path path : disk.list(directory)) {
            String fileName = path.getFileName().toString();
            Matcher name = NAME.matcher(fileName);
            if (name.matches() && Long.parseLong(name.group(1)) <= MAX_NUMBER) {
                Files files = generations.computeIfAbsent(Long.parseLong(name.group(1)), number -> new Files());
                if (name.group(2).equals("journal")) {
                    files.log = path;
                } else {
                    files.snapshot = path;
                }
            } else if (LOOKS_LIKE_OURS.matcher(fileName).matches()
                    && !ASIDE.matcher(fileName).matches()) {
                damage.found(
                        path,
                        0,
                        0,
                        "it looks like a state journal, but its name is not one that this store gives (state-, a number of"
                                + " sixteen ASCII digits up to " + MAX_NUMBER
                                + ", and .journal, .snapshot or .tmp), so it is not read; left as it is");
            }
        }
        return generations;
    }

    private boolean hasWholeSnapshot(long number, Files files, Damage damage) throws IOException {
        Path path = files.snapshot != null ? files.snapshot : files.log;
        boolean separate = files.snapshot != null;
        if (path == null) {
            return false;
        }
        try {
            Frames frames = new Frames(path, number, disk.size(path));
            if (!separate && frames.startsWith(header(LOG, number))) {
                return false; // its snapshot was not finished
            }
            if (frames.startsWith(header(separate ? SNAPSHOT : LOG_V1, number))) {
                for (int length; (length = frames.length()) > 0; frames.skip(length)) {
                    if (frames.kind() == JournalFrames.SNAPSHOT_END) {
                        return true;
                    }
                }
            }
            damage.found(path, 0, frames.size, "its snapshot is damaged; the generation before it is used instead");
        } catch (UnreadableFileException e) {
            throw e;
        } catch (IOException e) {
            damage.found(path, 0, 0, "can't be read: " + e);
        }
        broken.add(number);
        return false;
    }

    private void readFile(Path path, long number, JournalState state, Damage damage) throws IOException {
        state.beginFile();
        try {
            Frames frames = new Frames(path, number, usedEnd(path));
            if (path.toString().endsWith(".journal")
                    && !frames.startsWith(header(LOG, number))
                    && !frames.startsWith(header(LOG_V1, number))) {
                state.incomplete(); // overwritten, perhaps with nothing but zeros, which look like a log without frames
            }
            while (!frames.isAtEnd()) {
                long at = frames.at();
                int length = frames.length();
                if (length > 0) {
                    try {
                        state.apply(frames.kind(), frames.body(length));
                    } catch (RuntimeException e) {
                        damage.found(path, at, length, "a frame that makes no sense: " + e);
                        state.incomplete();
                    }
                    frames.skip(length);
                    continue;
                }
                do {
                    frames.skip(1);
                } while (!frames.isAtEnd() && frames.length() == 0);
                state.damaged();
                // At the end it is most likely what was being written when the power went: nobody was promised anything
                // yet.
                if (!frames.isAtEnd()) {
                    state.incomplete();
                }
                damage.found(path, at, frames.at() - at, frames.isAtEnd() ? "torn tail" : "damaged frames");
            }
            if (path.toString().endsWith(".journal") && frames.size - frames.end < MIN_RESERVE) {
                state.incomplete(); // it was cut off, most likely: a log has room behind its last frame
            }
        } catch (UnreadableFileException e) {
            throw e;
        } catch (IOException e) {
            state.incomplete();
            damage.found(path, 0, 0, "can't be read: " + e);
        }
    }

    /** Where the reserved room begins. A frame that ends in zeros knows its length: it is read beyond this. */
    private long usedEnd(Path path) throws IOException {
        long end = disk.size(path);
        while (end > 0) {
            int length = (int) Math.min(READ_AT_ONCE, end);
            byte[] bytes = disk.read(path, end - length, length);
            for (int i = bytes.length; i > 0; i--) {
                if (bytes[i - 1] != 0) {
                    return end - length + i;
                }
            }
            end -= length;
        }
        return 0;
    }

    /** Goes through a file frame by frame, with no more than a window of it in memory. */
    private final class Frames {
        final long size;
        private final Path path;
        private final byte[] seed;
        private final long end;
        private byte[] window = new byte[0];
        private long windowAt;
        private int at;

        Frames(Path path, long number, long end) throws IOException {
            this.path = path;
            this.seed = JournalFrames.seed(number);
            this.size = disk.size(path);
            this.end = end;
            moveTo(0);
            at = (int) Math.min(HEADER, end);
        }

        private void moveTo(long offset) throws IOException {
            window = disk.read(path, offset, READ_AT_ONCE);
            windowAt = offset;
            at = 0;
        }

        boolean startsWith(byte[] header) {
            return window.length >= HEADER && ByteBuffer.wrap(window, 0, HEADER).equals(ByteBuffer.wrap(header));
        }

        long at() {
            return windowAt + at;
        }

        boolean isAtEnd() {
            return at() >= end;
        }

        /** Of the whole, undamaged frame that begins here; 0 if none does. */
        int length() throws IOException {
            int longest = JournalFrames.HEADER + JournalFrames.MAX_BODY;
            if (window.length - at < longest && windowAt + window.length < size) {
                moveTo(at());
            }
            return JournalFrames.validLength(seed, window, at, window.length);
        }

        byte kind() {
            return window[at + 1];
        }

        ByteBuffer body(int length) {
            return ByteBuffer.wrap(window, at + JournalFrames.HEADER, length - JournalFrames.HEADER)
                    .slice();
        }

        void skip(int length) {
            at += length;
        }
    }

    // ---- writing ---------------------------------------------------------------------------------

    /** Of the log that is, or was last, written to; frames for it carry this number. */
    long generation() {
        return generation;
    }

    /** Whether there is a log to write to. */
    boolean isOpen() {
        return out != null;
    }

    /** The log of the next generation, before anything is written to it. */
    record Prepared(long generation, Path path, DiskFile file) {}

    /**
     * Makes the log of the next generation; the one being written goes on until {@link #begin}. Needs no pen.
     *
     * @throws IOException if that failed; nothing has changed then
     */
    Prepared prepare() throws IOException {
        long number = lastPrepared.incrementAndGet();
        Path path = path(number, "journal");
        DiskFile file = disk.create(path);
        boolean done = false;
        try {
            file.write(0, header(LOG, number), 0, HEADER);
            file.write(HEADER, new byte[RESERVE], 0, RESERVE);
            file.force();
            disk.forceDirectory(directory);
            done = true;
            return new Prepared(number, path, file);
        } finally {
            if (!done) {
                abandon(file, path);
            }
        }
    }

    /** Whether a later one has begun since it was made: then it must not, for it would be read before that. */
    boolean isOvertaken(Prepared prepared) {
        return prepared.generation() < generation;
    }

    /** It will not be begun. */
    void discard(Prepared prepared) {
        abandon(prepared.file(), prepared.path());
    }

    /**
     * Goes on with that log, which is not overtaken. The end of the one before becomes durable with the next {@link #force}:
     * nobody waits for it here.
     *
     * @return whether there was one before, and what was written before that is durable
     */
    boolean begin(Prepared prepared) {
        boolean durable = out != null;
        try {
            forceEnded();
        } catch (IOException e) {
            durable = false;
            closeEnded();
            log.warn("The end of a state journal in {} could not be forced: {}", directory, e.toString());
        }
        long others = otherBytes;
        otherBytes = others + (out == null ? 0 : allocated); // with the pen, as is all that changes it
        ended = out;
        olderChanges += Math.max(0, position - HEADER);
        generationBefore = generation;
        generation = prepared.generation();
        position = HEADER;
        allocated = HEADER + (long) RESERVE;
        out = prepared.file();
        return durable;
    }

    private void forceEnded() throws IOException {
        endedLock.lock();
        try {
            DiskFile file = ended;
            if (file == null) {
                return;
            }
            if (endedLost) {
                throw new IOException("the end of the log before could not be forced");
            }
            endedLost = true; // a second force would succeed, and mean nothing
            file.force();
            endedLost = false;
            ended = null;
            file.close();
        } finally {
            endedLock.unlock();
        }
    }

    /**
     * Takes back a log in which nothing has been written, and its snapshot, so that the one before is the newest again.
     *
     * @throws IOException if the snapshot may still be there: what is written to the log before would not be read then
     */
    void takeBack() throws IOException {
        DiskFile file = out;
        if (file != null) {
            out = null;
            abandon(file, path(generation, "journal"));
            Path snapshot = path(generation, "snapshot");
            if (disk.list(directory).contains(snapshot)) { // renamed, but its directory could not be forced
                disk.delete(snapshot);
                disk.forceDirectory(directory);
            }
            generation = generationBefore;
        }
    }

    private void abandon(DiskFile file, Path path) {
        close(file);
        try {
            disk.delete(path);
        } catch (IOException e) {
            log.warn("{} could not be deleted: {}", path, e.toString());
        }
    }

    /**
     * Goes on with the newest generation that was read, in what is left of its reserve. All that was read is durable then, its
     * name too: the process that wrote it may have been killed before it was, and files are deleted relying on it from now on.
     *
     * @throws IOException if it can't be written, is damaged (who knows what would be read behind that), or has no room left
     */
    void resume() throws IOException {
        Path path = path(generation, "journal");
        long size = disk.size(path);
        Frames frames = new Frames(path, generation, size);
        if (!frames.startsWith(header(LOG, generation))) {
            throw new IOException(path + " is not of this version");
        }
        for (int length; (length = frames.length()) > 0; ) {
            frames.skip(length);
        }
        if (usedEnd(path) > frames.at()) {
            throw new IOException(path + " is damaged at " + frames.at());
        }
        if (size - frames.at() < MIN_RESUMED) {
            throw new IOException(path + " has no room left");
        }
        position = frames.at();
        allocated = size;
        countOthers();
        DiskFile file = disk.open(path);
        boolean durable = false;
        try {
            for (Path each : logsRead) {
                if (!each.equals(path)) {
                    makeDurable(each);
                }
            }
            disk.rewrite(file, path, position);
            file.force();
            disk.forceDirectory(directory);
            durable = true;
        } finally {
            if (!durable) {
                close(file);
            }
        }
        out = file;
    }

    private void makeDurable(Path path) throws IOException {
        try (DiskFile file = disk.open(path)) {
            disk.rewrite(file, path, disk.size(path));
            file.force();
        }
    }

    /** Appends frames; they survive the process from now on, a power cut after the next {@link #force}. */
    void write(JournalFrames frames) throws IOException {
        DiskFile file = open();
        file.write(position, frames.array(), 0, frames.length());
        position += frames.length();
        long end = Math.max(allocated, position);
        if (end - position < RESERVE / 2) {
            try {
                file.write(end, new byte[RESERVE], 0, RESERVE);
                end += RESERVE;
            } catch (IOException e) {
                // Full. What is left of the reserve is for exactly this time; the frames themselves are written.
            }
        }
        allocated = end;
    }

    private DiskFile open() throws IOException {
        DiskFile file = out;
        if (file == null) {
            throw new IOException("no journal is open");
        }
        return file;
    }

    /** Makes all that was written up to now durable, in whichever log it is. */
    void force() throws IOException {
        DiskFile file = open();
        forceEnded();
        try {
            file.force();
        } catch (IOException e) {
            if (file == out || file == ended) {
                throw e;
            } // else it was closed meanwhile, and forced before
        }
    }

    /**
     * Whether a new generation with a snapshot is worth its cost: the changes have outgrown the snapshot, or what is kept of
     * earlier ones is much more than a new snapshot would be.
     */
    boolean isDueForSnapshot() {
        long changes = olderChanges + position - HEADER;
        return changes > Math.max(MIN_CHANGES, 2 * snapshotBytes)
                || otherBytes > 16 * (snapshotBytes + changes + RESERVE);
    }

    /** Bytes of all files. */
    long diskUsage() {
        return otherBytes + unfinishedBytes + (out == null ? 0 : allocated);
    }

    @Override
    public void close() {
        closeLog();
        countOthers();
    }

    private void closeLog() {
        DiskFile file = out;
        out = null;
        close(file);
        closeEnded();
    }

    private void closeEnded() {
        endedLock.lock();
        try {
            close(ended);
            ended = null;
            endedLost = false;
        } finally {
            endedLock.unlock();
        }
    }

    private static void close(@Nullable DiskFile file) {
        if (file != null) {
            try {
                file.close();
            } catch (IOException e) {
                log.debug("Closing a state journal failed", e);
            }
        }
    }

    private void countOthers() {
        otherBytes = bytesBeside(isOpen() ? generation : -1);
    }

    /** Of all files but the log of that generation. */
    private long bytesBeside(long excepted) {
        try {
            long bytes = 0;
            for (Map.Entry<Long, Files> entry : generations().entrySet()) {
                Files files = entry.getValue();
                bytes += files.snapshot == null ? 0 : disk.size(files.snapshot);
                bytes += files.log == null || entry.getKey() == excepted ? 0 : disk.size(files.log);
            }
            return bytes;
        } catch (IOException e) {
            log.warn("State journals in {} could not be looked at: {}", directory, e.toString());
            return otherBytes;
        }
    }

    private Path path(long number, String ending) {
        return directory.resolve("state-" + FileNumbers.padded(number, 16) + "." + ending);
    }

    private static byte[] header(byte[] magic, long generation) {
        ByteBuffer header = ByteBuffer.allocate(HEADER).put(magic).putLong(generation);
        CRC32C crc = new CRC32C();
        crc.update(header.array(), 0, HEADER - 4);
        return header.putInt((int) crc.getValue()).array();
    }

    // ---- snapshots -------------------------------------------------------------------------------

    /** A snapshot being written, of what was when its generation began. For one thread. */
    final class Snapshot implements AutoCloseable {
        private final long number;
        private final Path aside;
        private final DiskFile file;
        private long length = HEADER;
        private long forced;
        private boolean inPlace;
        /** Bytes of all files but the log of its generation, counted when it was finished. */
        private long others;

        /**
         * Begins it.
         *
         * @param number the generation it is for
         */
        Snapshot(long number) throws IOException {
            this.number = number;
            this.aside = path(number, "tmp");
            for (Path path : disk.list(directory)) {
                Matcher name = ASIDE.matcher(path.getFileName().toString());
                if (name.matches() && Long.parseLong(name.group(1)) <= number) {
                    disk.delete(path); // left by a process that was killed, or of a snapshot that this one replaces
                }
            }
            file = disk.create(aside);
            file.write(0, header(SNAPSHOT, number), 0, HEADER);
        }

        void write(JournalFrames frames) throws IOException {
            file.write(length, frames.array(), 0, frames.length());
            length += frames.length();
            unfinishedBytes = length;
            if (length - forced > FORCED_AT_ONCE) {
                file.force();
                forced = length;
            }
        }

        /** Puts it in force; the last frame is written. */
        void finish() throws IOException {
            file.force();
            file.close();
            disk.move(aside, path(number, "snapshot"));
            inPlace = true;
            disk.forceDirectory(directory);
            deleteOlder();
            others = bytesBeside(number);
        }

        /** All but this snapshot, the one before it, and the logs since that. What fails is no reason to fail. */
        private void deleteOlder() {
            try {
                NavigableMap<Long, Files> older = generations().headMap(number, false);
                Long kept = null;
                for (Map.Entry<Long, Files> entry : older.descendingMap().entrySet()) {
                    if (kept != null) {
                        delete(entry.getValue().snapshot);
                        delete(entry.getValue().log);
                    } else if (!broken.contains(entry.getKey())
                            && (entry.getValue().snapshot != null || isOfVersion1(entry.getKey(), entry.getValue()))) {
                        kept = entry.getKey();
                    }
                }
            } catch (IOException e) {
                log.warn("Old state journals in {} could not be looked at: {}", directory, e.toString());
            }
        }

        private boolean isOfVersion1(long old, Files files) throws IOException {
            return files.log != null && new Frames(files.log, old, HEADER).startsWith(header(LOG_V1, old));
        }

        private void delete(@Nullable Path path) {
            try {
                if (path != null) {
                    disk.delete(path);
                }
            } catch (IOException e) {
                log.warn("{} could not be deleted: {}; it is tried again with the next snapshot", path, e.toString());
            }
        }

        long length() {
            return length;
        }

        @Override
        public void close() {
            unfinishedBytes = 0;
            if (!inPlace) {
                abandon(file, aside);
            }
        }
    }

    /** To be called once a snapshot is in force. */
    void snapshotTaken(Snapshot snapshot) {
        snapshotBytes = snapshot.length();
        olderChanges = 0;
        if (snapshot.number == generation && isOpen()) {
            otherBytes = snapshot.others; // a directory may be long: it was looked at without the pen
        } else {
            countOthers();
        }
    }
}
