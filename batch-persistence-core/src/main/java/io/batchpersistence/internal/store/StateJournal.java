package io.batchpersistence.internal.store;

import io.batchpersistence.internal.codec.Crc32c;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.disk.UnreadableFileException;
import io.batchpersistence.internal.log.LogSanitizer;
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
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * The journal of what became of batches, so that a retry never rewrites a payload.
 *
 * <p>It is a sequence of <em>generations</em>. Each has a log, to which a frame is appended for each change, and may
 * have a snapshot of everything that differed from how it was persisted when the log was begun. To open a store, the
 * newest intact snapshot is read, then its log, then the logs of the generations after it.
 *
 * <p>A generation begins with its log; its snapshot is written afterwards, while changes go into the log, and so may
 * already contain some of them. That is harmless, since frames contain states and not changes; but the counters, which
 * are not idempotent, are those of the beginning. The snapshot is written to a temporary file, forced, and renamed into
 * place. Then everything older than the snapshot before it is deleted: that one and the logs since are kept, in case
 * the newer one turns out to be damaged.
 *
 * <pre>
 * state-0000000000000004.journal     8 bytes "BPSTATE\1", u64 generation, u32 CRC32C of the sixteen bytes before; big-endian
 *                                    frames, see {@link JournalFrames}
 *                                    zeros: room reserved for more frames
 * state-0000000000000004.snapshot    the same with "BPSNAPS\1"; the last frame is SNAPSHOT_END
 * </pre>
 *
 * <p>For the commit leader, one thread at a time; a {@link Snapshot} for one other thread, and {@link #force} for any.
 */
final class StateJournal implements AutoCloseable {

    private static final Logger log = LogSanitizer.logger(StateJournal.class);

    private static final byte[] LOG = magic("BPSTATE\1");
    private static final byte[] SNAPSHOT = magic("BPSNAPS\1");
    private static final int HEADER = 20;
    private static final Pattern NAME = Pattern.compile("state-(\\d{16})\\.(journal|snapshot)");
    private static final Pattern ASIDE = Pattern.compile("state-(\\d{16})\\.(tmp|new)");
    private static final Pattern LOOKS_LIKE_OURS =
            Pattern.compile("state-.*\\.(journal|snapshot|tmp|new)", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    /**
     * Far below the largest possible number: a file with a higher one was not created here, and the next would have no
     * name.
     */
    private static final long MAX_NUMBER = 1_000_000_000_000_000L;

    /** Bytes written ahead, so that batches can be marked, and space reclaimed, on a full disk. */
    static final int RESERVE = 64 << 10;

    private static final byte[] ZEROS = new byte[RESERVE];

    /** Bytes of reserve left in any log, except after a disk was full for long. */
    private static final int MIN_RESERVE = 64;

    /** Bytes of reserve needed to continue in a log: a few hundred marks. */
    private static final int MIN_RESUMED = 8 << 10;

    /** Bytes of changes after which a new generation pays off, whatever the size of the snapshot. */
    private static final long MIN_CHANGES = 4 << 20;

    /** A snapshot is forced in pieces of that many bytes, so that no other force has to wait for much of it. */
    private static final int FORCE_CHUNK_BYTES = 4 << 20;

    private static final int READ_CHUNK_BYTES = 1 << 20;

    private final Disk disk;
    private final Path directory;
    private long generation;
    private long generationBefore;
    /** The highest number assigned to a log, so that two created at the same time are two files. */
    private final AtomicLong lastPrepared = new AtomicLong();

    private volatile @Nullable DiskFile out;
    /** The previous log, if its end may not be durable yet. */
    private volatile @Nullable DiskFile ended;

    private boolean endedLost;
    private final ReentrantLock endedLock = new ReentrantLock();
    private long position;
    private volatile long allocated;
    /** Bytes of logs since the last snapshot, excluding the one being written. */
    private long olderChanges;

    private long snapshotBytes;
    /** Bytes of all files except the log and the snapshot being written. */
    private volatile long otherBytes;

    private volatile long unfinishedBytes;

    /** Generations whose snapshot was found damaged: they are no fallback. */
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

    /** Notified of damaged bytes. */
    interface Damage {
        void found(Path file, long offset, long length, String reason);

        /** What was being written when the process or the machine stopped: marks that were not durable yet. */
        default void tornTail(Path file, long offset, long length) {
            found(file, offset, length, "torn tail");
        }
    }

    /** The files of one generation. */
    private static final class Files {
        @Nullable
        Path log;

        @Nullable
        Path snapshot;
    }

    /**
     * Reads the existing files, from the newest intact snapshot on. The journal returned is not yet open for writing.
     *
     * @throws UnreadableFileException if the content of a file can't be determined: nothing may be decided without it
     */
    static StateJournal read(Disk disk, Path directory, JournalState state, Damage damage) throws IOException {
        StateJournal journal = new StateJournal(disk, directory);
        NavigableMap<Long, Files> generations = journal.generations(damage);
        journal.generation = generations.isEmpty() ? 0 : generations.lastKey();
        journal.lastPrepared.accumulateAndGet(journal.generation, Math::max);
        Long base = null;
        for (Map.Entry<Long, Files> entry : generations.descendingMap().entrySet()) {
            Path snapshot = entry.getValue().snapshot;
            if (snapshot != null && journal.isWholeSnapshot(entry.getKey(), snapshot, damage)) {
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
                // Each generation has a log.
                state.incomplete();
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
                continue;
            }
            Matcher aside = ASIDE.matcher(fileName);
            if (aside.matches()) {
                // Left by a killed process; its name is taken until the next snapshot.
                long number = Long.parseLong(aside.group(1));
                if (number <= MAX_NUMBER) {
                    lastPrepared.accumulateAndGet(number, Math::max);
                }
            } else if (LOOKS_LIKE_OURS.matcher(fileName).matches()) {
                damage.found(
                        path,
                        0,
                        0,
                        "it looks like a state journal, but its name is not one that this store gives (state-, a number of"
                                + " sixteen ASCII digits up to " + MAX_NUMBER
                                + ", and .journal, .snapshot, .tmp or .new), so it is not read; left as it is");
            }
        }
        return generations;
    }

    private boolean isWholeSnapshot(long number, Path path, Damage damage) throws IOException {
        try {
            Frames frames = new Frames(path, number, disk.size(path));
            if (frames.startsWith(header(SNAPSHOT, number))) {
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
            if (path.toString().endsWith(".journal") && !frames.startsWith(header(LOG, number))) {
                // Overwritten, perhaps only with zeros, which look like a log without frames.
                state.incomplete();
                damage.found(path, 0, Math.min(HEADER, frames.size), "damaged header");
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
                // At the end it is most likely what was being written when the power failed: it was not acknowledged
                // yet.
                if (!frames.isAtEnd()) {
                    state.incomplete();
                }
                if (frames.isAtEnd()) {
                    damage.tornTail(path, at, frames.at() - at);
                } else {
                    damage.found(path, at, frames.at() - at, "damaged frames");
                }
            }
            if (path.toString().endsWith(".journal") && frames.size - frames.end < MIN_RESERVE) {
                // It was most likely truncated: a log has room behind its last frame.
                state.incomplete();
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
            int length = (int) Math.min(READ_CHUNK_BYTES, end);
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

    /** Reads a file frame by frame, with only a window of it in memory. */
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
            window = disk.read(path, offset, READ_CHUNK_BYTES);
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

        /** Length of the intact frame that begins here; 0 if none does. */
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

    /** The generation of the log that is, or was last, written to; frames for it carry this number. */
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
     * Creates the log of the next generation; the current one stays in use until {@link #begin}. Does not need the
     * commit leader. It gets its name when it has a header and a reserve: wherever the process is killed, the newest log
     * can be resumed on a full disk.
     *
     * @throws IOException if that failed; nothing has changed then
     */
    Prepared prepare() throws IOException {
        long number = lastPrepared.incrementAndGet();
        Path path = path(number, "journal");
        Path created = path(number, "new");
        Path left = null;
        try {
            try (DiskFile file = disk.create(created)) {
                left = created;
                file.write(0, header(LOG, number), 0, HEADER);
                writeZeros(file, HEADER, HEADER + (long) RESERVE);
                file.force();
            }
            disk.move(created, path);
            left = path;
            disk.forceDirectory(directory);
            Prepared prepared = new Prepared(number, path, disk.open(path));
            left = null;
            return prepared;
        } finally {
            if (left != null) {
                abandon(null, left);
            }
        }
    }

    /**
     * Whether a later log has begun since this one was created: then this one must not begin, since it would be read
     * before the later one.
     */
    boolean isOvertaken(Prepared prepared) {
        return prepared.generation() < generation;
    }

    /** Discards a log that will not be begun. */
    void discard(Prepared prepared) {
        abandon(prepared.file(), prepared.path());
    }

    /**
     * Switches to that log, which must not be overtaken. The end of the previous log becomes durable with the next
     * {@link #force}: no caller waits for it here.
     *
     * @return whether there was a previous log, and what was written before that log is durable
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
        // Only the commit leader changes it, so this need not be atomic.
        otherBytes = others + (out == null ? 0 : allocated);
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
            // A second force would succeed, but prove nothing.
            endedLost = true;
            file.force();
            endedLost = false;
            ended = null;
            file.close();
        } finally {
            endedLock.unlock();
        }
    }

    /**
     * Takes back a log in which nothing has been written, and its snapshot, so that the previous log is the newest
     * again.
     *
     * @throws IOException if the snapshot may still be there: then what is written to the previous log would not be
     *     read
     */
    void takeBack() throws IOException {
        DiskFile file = out;
        if (file != null) {
            out = null;
            abandon(file, path(generation, "journal"));
            Path snapshot = path(generation, "snapshot");
            // It exists if it was renamed, and only forcing its directory failed.
            if (disk.list(directory).contains(snapshot)) {
                disk.delete(snapshot);
                disk.forceDirectory(directory);
            }
            generation = generationBefore;
        }
    }

    private void abandon(@Nullable DiskFile file, Path path) {
        close(file);
        try {
            disk.delete(path);
        } catch (IOException e) {
            log.warn("{} could not be deleted: {}", path, e.toString());
        }
    }

    /**
     * Resumes the newest generation that was read, in what is left of its reserve. On return all that was read is
     * durable, including its name: the process that wrote it may have been killed before that, and from now on files
     * are deleted relying on it.
     *
     * @throws IOException if it can't be written, is damaged (not merely torn at its end), or has no space left
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
        position = frames.at();
        allocated = size;
        if (size - position < MIN_RESUMED) {
            throw new IOException(path + " has no space left");
        }
        long tornEnd = usedEnd(path);
        for (; frames.at() < tornEnd; frames.skip(1)) {
            if (frames.length() > 0) {
                throw new IOException(path + " is damaged at " + position);
            }
        }
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
            // What was being written when the process was killed: none of it may be left behind the next frames.
            writeZeros(file, position, tornEnd);
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

    /**
     * Appends frames. From now on they survive a killed process; they survive a power cut after the next
     * {@link #force}.
     */
    void write(JournalFrames frames) throws IOException {
        DiskFile file = open();
        long end = position + frames.length();
        long size = allocated;
        if (size - end < RESERVE / 2) {
            // Before the frames: a process that is killed in between leaves a log with a reserve.
            long wanted = Math.max(size, end) + RESERVE;
            try {
                writeZeros(file, size, wanted);
                size = wanted;
            } catch (IOException e) {
                // The disk is full. The rest of the reserve is for exactly this case.
            }
        }
        file.write(position, frames.array(), 0, frames.length());
        position = end;
        allocated = Math.max(size, end);
    }

    private static void writeZeros(DiskFile file, long from, long to) throws IOException {
        for (long at = from; at < to; at += RESERVE) {
            file.write(at, ZEROS, 0, (int) Math.min(RESERVE, to - at));
        }
    }

    private DiskFile open() throws IOException {
        DiskFile file = out;
        if (file == null) {
            throw new IOException("no journal is open");
        }
        return file;
    }

    /** Makes everything written up to now durable, in whichever log it is. */
    void force() throws IOException {
        DiskFile file = open();
        forceEnded();
        try {
            file.force();
        } catch (IOException e) {
            // If it is neither, it was closed meanwhile, and forced before that.
            if (file == out || file == ended) {
                throw e;
            }
        }
    }

    /**
     * Whether a new generation with a snapshot is worth its cost: the changes have outgrown the snapshot, or the files
     * kept of earlier generations are much larger than a new snapshot would be.
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

    /** Bytes of all files except the log of that generation. */
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
        return header.putInt(Crc32c.of(header.array(), 0, HEADER - 4)).array();
    }

    // ---- snapshots -------------------------------------------------------------------------------

    /** A snapshot being written, of the state when its generation began. For one thread. */
    final class Snapshot implements AutoCloseable {
        private final long number;
        private final Path aside;
        private final DiskFile file;
        private long length = HEADER;
        private long forced;
        private boolean inPlace;
        /** Bytes of all files except the log of its generation, counted when it was finished. */
        private long others;

        /**
         * Begins the snapshot.
         *
         * @param number the generation it is for
         */
        Snapshot(long number) throws IOException {
            this.number = number;
            this.aside = path(number, "tmp");
            for (Path path : disk.list(directory)) {
                Matcher name = ASIDE.matcher(path.getFileName().toString());
                if (name.matches() && Long.parseLong(name.group(1)) <= number) {
                    // Left by a killed process, or by a snapshot or log that this one replaces.
                    delete(path);
                }
            }
            file = disk.create(aside);
            file.write(0, header(SNAPSHOT, number), 0, HEADER);
        }

        void write(JournalFrames frames) throws IOException {
            file.write(length, frames.array(), 0, frames.length());
            length += frames.length();
            unfinishedBytes = length;
            if (length - forced > FORCE_CHUNK_BYTES) {
                file.force();
                forced = length;
            }
        }

        /** Puts the snapshot into effect; its last frame has been written. */
        void finish() throws IOException {
            file.force();
            file.close();
            disk.move(aside, path(number, "snapshot"));
            inPlace = true;
            disk.forceDirectory(directory);
            deleteOlder();
            others = bytesBeside(number);
        }

        /**
         * Deletes everything older than this snapshot, except the snapshot before it and the logs since that. Failures
         * are not fatal.
         */
        private void deleteOlder() {
            try {
                NavigableMap<Long, Files> older = generations().headMap(number, false);
                Long kept = null;
                for (Map.Entry<Long, Files> entry : older.descendingMap().entrySet()) {
                    if (kept != null) {
                        delete(entry.getValue().snapshot);
                        delete(entry.getValue().log);
                    } else if (!broken.contains(entry.getKey()) && entry.getValue().snapshot != null) {
                        kept = entry.getKey();
                    }
                }
            } catch (IOException e) {
                log.warn("Old state journals in {} could not be looked at: {}", directory, e.toString());
            }
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

    /** Called once a snapshot is in effect. */
    void snapshotTaken(Snapshot snapshot) {
        snapshotBytes = snapshot.length();
        olderChanges = 0;
        if (snapshot.number == generation && isOpen()) {
            // A directory may be long: it was listed before, not as commit leader.
            otherBytes = snapshot.others;
        } else {
            countOthers();
        }
    }
}
