package io.batchpersistence.internal.segment;

import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.disk.UnreadableFileException;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.segment.RecordFormat.EncodedRecord;
import io.batchpersistence.internal.segment.RecordFormat.View;
import io.batchpersistence.internal.store.FileNumbers;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.internal.store.LongList;
import io.batchpersistence.internal.store.PayloadLog;
import io.batchpersistence.internal.store.PersistedState;
import io.batchpersistence.internal.store.RecordPointer;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Payloads in segments: files that are only appended to, sealed with an index when they are full, and deleted as a
 * whole when they hold no batches any more. The layout is in the package documentation, that of a record in
 * {@link RecordFormat}.
 *
 * <p>One segment is being written. A failed write or force ends it where it was last known to be good: the callers get
 * the failure, and the next batch begins a new segment. A segment found unsealed, because the process was killed, is
 * repaired when the store is opened: truncated after its last intact record and sealed. It is never appended to again.
 *
 * <p>Where segments are large, the housekeeper seals full ones. Where less than half of a sealed segment is held, the
 * housekeeper copies that into a new segment, together with what is in other such segments and in small ones. A copied
 * record keeps its number and gets the location of its copy. The copies are written to a temporary file, which is
 * renamed once all of it is durable; the originals are deleted after that. If both are found at opening, the one in the
 * segment with the higher number counts.
 */
public final class SegmentLog implements PayloadLog {

    private static final Logger log = LogSanitizer.logger(SegmentLog.class);

    private static final Pattern NAME = Pattern.compile("(\\d{10})\\.segment");
    private static final Pattern ASIDE = Pattern.compile("\\d{10}\\.segment\\.tmp");
    private static final Pattern LOOKS_LIKE_OURS =
            Pattern.compile(".*\\.segment(\\.tmp)?", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    /** The highest number of a segment, which is reached after 16 petabytes in segments of 16 MiB. */
    private static final int MAX_NUMBER = 1_000_000_000;

    /** Bytes of a first read that covers fixed part, id, collector type and a small context. */
    private static final int HEADER_READ = 1024;

    private static final int WRITE_BUFFER = 1 << 20;

    /**
     * Bytes copied between two forces. Forcing all of it at the end would take long, and others would wait for it, too:
     * a file system has one journal for all files.
     */
    private static final int COPY_CHUNK_BYTES = 256 << 10;

    /**
     * Limit on the bytes written ahead as zeros: with larger pieces more callers wait longer for the force that
     * includes them.
     */
    private static final int MAX_RESERVED_BYTES = 256 << 10;

    /**
     * Segments of at least this size in bytes are sealed by the housekeeper; sealing smaller ones takes less time than
     * handing them over.
     */
    private static final int LARGE_SEGMENT_BYTES = 1 << 20;

    private final Disk disk;
    private final SegmentReader reader;
    private final DiskStoreOptions options;
    /** Bytes written ahead as zeros: a force that does not have to extend the file is about twice as fast on ext4. */
    private final byte[] reserve;

    private final DictionaryTrainer dictionaries;
    /** See {@link SegmentHead#block}. */
    private final int block;

    private final ConcurrentMap<Integer, Segment> segments = new ConcurrentHashMap<>();
    private final Map<Integer, FileEnd> fileEnds = new HashMap<>();
    private final byte[] buffer = new byte[WRITE_BUFFER];
    /** The last one, which is asked for several times. */
    private @Nullable Reencoded reencoded;

    private @Nullable Active active;
    private final Deque<Active> unsealed = new ArrayDeque<>();
    /** No number is assigned twice, whatever files exist: the journal may refer to the earlier segment. */
    private int lastNumber;
    /** Batches found damaged when the store was opened, and not held elsewhere. */
    private long[] lost = {};

    private boolean reclaimable;
    /** Bytes that compaction would give back. */
    private long garbage;

    private long garbageLeft;
    /** Where the active segment ended at the last cleanup. */
    private long seenGood;
    /**
     * Whether the name of a copy may not be durable. Initially true: a process that was killed may have renamed what
     * was found when the store was opened, and not have forced the directory.
     */
    private volatile boolean renamed = true;

    private long inactiveBytes;
    private volatile long compactedBytes;
    private volatile long diskUsage;
    private volatile long availableBytes;

    /** A segment file. Owned by the commit leader, except for the final fields. */
    private static final class Segment {
        final int number;
        final Path path;
        /** What its records are compressed with; some may not be. */
        final @Nullable ZstdDictionary dictionary;
        /** Where its records begin. */
        final int start;
        /** The removed records, so that a snapshot can list them. */
        final LongList gone = new LongList();
        /** Records that are held. */
        int live;

        long liveBytes;
        long size;
        /** Bytes of the index. */
        int indexSize;
        /** Whether it is complete and no longer written to. */
        boolean sealed;
        /** Owned by the thread that deletes it. */
        boolean deleted;

        Segment(int number, Path path, @Nullable ZstdDictionary dictionary, int start) {
            this.number = number;
            this.path = path;
            this.dictionary = dictionary;
            this.start = start;
        }

        void added(int length) {
            live++;
            liveBytes += length;
        }

        void removed(int length) {
            live--;
            liveBytes -= length;
        }

        /** Whether copying what is held costs less than it gains. */
        boolean isSparse() {
            return sealed && live > 0 && liveBytes * 2 < recordBytes();
        }

        /** Bytes that copying reclaims. */
        long garbage() {
            return isSparse() ? recordBytes() - liveBytes : 0;
        }

        /** A copy has a dictionary and an index, too: counting them, one of few records would be sparse again. */
        private long recordBytes() {
            return size - start - indexSize;
        }
    }

    /** A batch that is written otherwise than its caller encoded it. */
    private record Reencoded(EncodedRecord original, EncodedRecord record) {}

    /** The segment being written. */
    private static final class Active {
        final Segment segment;
        final DiskFile file;
        final SegmentIndex index = new SegmentIndex();
        /** End of the records that are known to be written. */
        long good;
        /** End of the file, reserved zeros included. */
        long allocated;
        /** The highest number of a batch that was written, accepted or not. */
        long lastSequence;

        Active(Segment segment, DiskFile file) {
            this.segment = segment;
            this.file = file;
            this.good = segment.start;
            this.allocated = segment.start;
        }

        boolean isEmpty() {
            return good == segment.start;
        }
    }

    /**
     * Creates the payload log.
     *
     * @param disk the file system
     * @param options the store's options
     */
    public SegmentLog(Disk disk, DiskStoreOptions options) {
        this.disk = disk;
        this.reader = new SegmentReader(disk);
        this.options = options;
        this.block = SegmentHead.block(options.segmentSize());
        this.dictionaries = new DictionaryTrainer(
                options.compression() == Compression.ZSTD
                        ? Math.min(options.segmentSize(), options.maxDiskUsage() / 16)
                        : 0);
        this.reserve = options.sync() == SyncPolicy.ALWAYS
                ? new byte[(int) Math.max(4 << 10, Math.min(MAX_RESERVED_BYTES, options.segmentSize() / 8))]
                : new byte[0];
    }

    private Path path(int number) {
        return options.directory().resolve(FileNumbers.padded(number, 10) + ".segment");
    }

    // ---- loading ---------------------------------------------------------------------------------

    @Override
    public void load(Loading loading) throws IOException {
        TreeMap<Integer, Path> files = new TreeMap<>();
        lastNumber = loading.lastFile();
        for (Path path : disk.list(options.directory())) {
            String fileName = path.getFileName().toString();
            if (fileName.startsWith("batch_") && fileName.endsWith(".json")) {
                PayloadLog.refuseOther(disk, path, "json_files");
            }
            Matcher name = NAME.matcher(fileName);
            if (name.matches() && Long.parseLong(name.group(1)) <= MAX_NUMBER) {
                files.put(Integer.parseInt(name.group(1)), path);
            } else if (ASIDE.matcher(fileName).matches()) {
                // Copies that were not finished; the originals still exist.
                delete(path);
            } else if (LOOKS_LIKE_OURS.matcher(fileName).matches()) {
                loading.damaged(
                        path,
                        0,
                        0,
                        "it looks like a segment, but its name is not one that this store gives (a number of ten ASCII digits up"
                                + " to " + MAX_NUMBER + ", and .segment), so it is not read; left as it is",
                        null,
                        null,
                        new long[0]);
            }
        }
        // Done after all files are read: if one can't be, the next opening must find, and count, everything that this
        // one has found.
        List<Runnable> repairs = new ArrayList<>();
        Map<ByteBuffer, ZstdDictionary> known = new HashMap<>();
        ZstdDictionary newest = null;
        long previousSequence = 0;
        for (Map.Entry<Integer, Path> file : files.entrySet()) {
            int number = file.getKey();
            Path path = file.getValue();
            lastNumber = Math.max(lastNumber, number);
            try {
                if (SegmentHead.isOfLaterVersion(disk, path)) {
                    loading.damaged(
                            path,
                            0,
                            0,
                            "written by a later version of this software, which alone can read it; left as it is",
                            null,
                            null,
                            new long[0]);
                    continue;
                }
                Segment segment = open(number, path, known);
                segments.put(number, segment);
                long last = load(segment, previousSequence, loading, repairs);
                if (segment.dictionary != null && (newest == null || last > previousSequence)) {
                    newest = segment.dictionary;
                }
                previousSequence = last;
                segment.sealed = true;
                reclaimable |= segment.live == 0;
            } catch (UnreadableFileException e) {
                throw e;
            } catch (IOException e) {
                // Not a regular file, or gone meanwhile. What was in it is counted as missing.
                segments.remove(number);
                loading.damaged(path, 0, 0, "can't be read: " + e, null, null, new long[0]);
            }
        }
        if (newest != null) {
            dictionaries.adopt(newest);
        }
        repairs.forEach(Runnable::run);
        countUsage();
    }

    private Segment open(int number, Path path, Map<ByteBuffer, ZstdDictionary> known) throws IOException {
        SegmentHead head = SegmentHead.read(disk, path, number);
        if (head.damaged()) {
            log.warn("The first copy of the dictionary in {} is damaged; the second one is used", path);
        }
        ZstdDictionary dictionary = head.dictionary();
        if (dictionary != null) {
            // Most segments have the same.
            ZstdDictionary same = known.putIfAbsent(ByteBuffer.wrap(dictionary.bytes()), dictionary);
            dictionary = same != null ? same : dictionary;
        }
        return new Segment(number, path, dictionary, head.end());
    }

    /** Loads a segment. Returns the highest sequence seen. */
    private long load(Segment segment, long previousSequence, Loading loading, List<Runnable> repairs)
            throws IOException {
        segment.size = disk.size(segment.path);
        List<SegmentIndex.Entry> entries = readIndex(segment);
        if (entries == null) {
            return scan(segment, previousSequence, loading, repairs);
        }
        long last = previousSequence;
        for (SegmentIndex.Entry entry : entries) {
            last = Math.max(last, entry.sequence());
            found(segment, entry, loading);
        }
        return last;
    }

    private @Nullable List<SegmentIndex.Entry> readIndex(Segment segment) throws IOException {
        long trailerAt = segment.size - SegmentIndex.TRAILER;
        if (trailerAt < SegmentHead.SIZE) {
            return null;
        }
        byte[] trailer = disk.read(segment.path, trailerAt, SegmentIndex.TRAILER);
        long offset = SegmentIndex.offset(trailer, segment.size, segment.number);
        if (offset < 0) {
            return null;
        }
        int size = (int) (segment.size - offset);
        List<SegmentIndex.Entry> entries = SegmentIndex.parse(disk.read(segment.path, offset, size), offset);
        segment.indexSize = entries == null ? 0 : size;
        return entries;
    }

    private static void found(Segment segment, SegmentIndex.Entry entry, Loading loading) {
        if (loading.isGone(entry.sequence())) {
            segment.gone.add(entry.sequence());
        } else {
            segment.added(entry.length());
            loading.found(
                    new RecordPointer(entry.sequence(), segment.number, entry.offset(), entry.length()),
                    entry.idHash(),
                    entry.collectorType(),
                    entry.createdAt(),
                    entry.entryCount(),
                    null);
        }
    }

    /** Reads all records of a segment that was not sealed, or whose index is damaged, and seals it. */
    private long scan(Segment segment, long previousSequence, Loading loading, List<Runnable> repairs)
            throws IOException {
        SegmentScan scan = new SegmentScan(disk, segment.path, segment.number, segment.size);
        // Excludes room that was reserved and not used; a record that ends in zeros knows its length.
        FileEnd said = loading.fileEnd(segment.number);
        FileEnd accepted = said != null && isOfThatFile(said, scan, segment) ? said : null;
        int end = scan.usedEnd(accepted == null ? Long.MAX_VALUE : accepted.offset());
        SegmentIndex index = new SegmentIndex();
        // Reported when everything is read: all or nothing.
        List<Runnable> findings = new ArrayList<>();
        long last = previousSequence;
        int good = segment.start;
        for (int at = good; at < end; ) {
            View view = scan.at(at);
            PayloadLog.Header header = scan.header(view, at);
            if (header != null && view.hasValidPayload()) {
                SegmentIndex.Entry entry = new SegmentIndex.Entry(
                        view.sequence(),
                        view.createdAt(),
                        at,
                        view.length(),
                        IndexedBatchStore.idHash(header.id()),
                        header.entryCount(),
                        header.collectorType());
                index.add(entry);
                findings.add(() -> found(segment, entry, loading));
                last = view.sequence();
                at += view.length();
                good = at;
                continue;
            }
            if (scan.isIndex(at)) {
                log.warn("The index of {} is damaged; its records were scanned instead", segment.path);
                break;
            }
            int next = scan.next(at + 1, end);
            if (next < 0) {
                int tornAt = at;
                findings.add(() -> loading.tornTail(segment.path, tornAt, (long) end - tornAt));
                break;
            }
            // The header tells where the next record begins.
            if (header != null) {
                findings.add(damagedPayload(segment, view, header, at, loading));
                last = view.sequence();
                at += view.length();
            } else {
                long firstAfter = scan.at(next).sequence();
                findings.add(damaged(segment, at, next, last, firstAfter, loading));
                last = firstAfter - 1;
                at = next;
            }
        }
        findings.forEach(Runnable::run);
        int recordsEnd = good;
        repairs.add(() -> {
            if (segment.live > 0 && !repair(segment, index, recordsEnd) && accepted != null) {
                fileEnds.put(segment.number, accepted);
            }
        });
        return last;
    }

    /**
     * Whether the end belongs to this file, not to an earlier one of that number: later batches have higher numbers.
     */
    private static boolean isOfThatFile(FileEnd said, SegmentScan scan, Segment segment) throws IOException {
        int first = scan.next(segment.start, (int) segment.size);
        return first < 0 || scan.at(first).sequence() <= said.lastSequence();
    }

    private static Runnable damagedPayload(
            Segment segment, View view, PayloadLog.Header header, int at, Loading loading) {
        int length = view.length();
        long sequence = view.sequence();
        return () -> loading.damaged(
                segment.path,
                at,
                length,
                "the payload's checksum is wrong",
                header.id(),
                header.collectorType(),
                new long[] {sequence});
    }

    private static Runnable damaged(
            Segment segment, int at, int next, long lastBefore, long firstAfter, Loading loading) {
        // A segment that was not compacted has no gaps, so the sequences missing between two good records are what was
        // here. There can't be more than fit in: others were in segments that are deleted. If it was compacted, some of
        // them may be held elsewhere; the receiver has to find out.
        long atMost = Math.max(1, (next - at) / RecordFormat.MIN_RECORD);
        long[] lost = LongStream.range(Math.max(lastBefore + 1, firstAfter - atMost), firstAfter)
                .toArray();
        return () -> loading.damaged(segment.path, at, (long) next - at, "no valid record", null, null, lost);
    }

    /**
     * Truncates a segment after its last intact record and seals it. Every step can be repeated by the next opening.
     */
    private boolean repair(Segment segment, SegmentIndex index, int end) {
        try (DiskFile file = disk.open(segment.path)) {
            disk.rewrite(file, segment.path, end);
            // An index must not outlive its records.
            file.force();
            byte[] bytes = index.toBytes(segment.number, end);
            file.truncate(end);
            file.write(end, bytes, 0, bytes.length);
            file.force();
            segment.size = end + (long) bytes.length;
            segment.indexSize = bytes.length;
            return true;
        } catch (IOException e) {
            log.warn("{} could not be sealed: {}; it will be scanned again", segment.path, e.toString());
            return false;
        }
    }

    // ---- writing ---------------------------------------------------------------------------------

    @Override
    public EncodedRecord encode(NewBatch batch, long idHash) {
        return RecordFormat.encode(batch, options.format(), options.compression(), dictionaries, idHash);
    }

    @Override
    public void write(List<Append> group) {
        for (int done = 0; done < group.size(); ) {
            done = writeChunk(group, done);
        }
        reencoded = null;
    }

    /**
     * What to write for a batch. One that was encoded before a new dictionary was trained is encoded again, without one:
     * otherwise each of them would begin a segment.
     */
    // It is the same object, or another batch.
    @SuppressWarnings("ReferenceEquality")
    private EncodedRecord record(Append append) {
        EncodedRecord encoded = (EncodedRecord) append.encoded();
        if (encoded.dictionary() == null || encoded.dictionary() == dictionaries.current()) {
            return encoded;
        }
        Reencoded last = reencoded;
        if (last == null || last.original != encoded) {
            last = new Reencoded(encoded, RecordFormat.withoutDictionary(encoded));
            reencoded = last;
        }
        return last.record;
    }

    /** Writes and forces as many batches as fit into one segment; returns the first that did not. */
    private int writeChunk(List<Append> group, int from) {
        int to = from;
        Active into = null;
        try {
            into = activeFor(group.get(from));
            long position = into.good;
            List<RecordPointer> locations = new ArrayList<>();
            int buffered = 0;
            while (to < group.size() && (to == from || fits(into, position, group.get(to)))) {
                EncodedRecord record = record(group.get(to));
                into.lastSequence = group.get(to).sequence();
                byte[] target = buffer;
                if (record.size() > buffer.length - buffered) {
                    into.file.write(position - buffered, buffer, 0, buffered);
                    buffered = 0;
                    target = record.size() > buffer.length ? new byte[record.size()] : buffer;
                }
                RecordFormat.write(
                        record, group.get(to).sequence(), into.segment.number, (int) position, target, buffered);
                locations.add(new RecordPointer(
                        group.get(to).sequence(), into.segment.number, (int) position, record.size()));
                if (target == buffer) {
                    buffered += record.size();
                } else {
                    into.file.write(position, target, 0, record.size());
                }
                position += record.size();
                to++;
            }
            if (buffered > 0) {
                into.file.write(position - buffered, buffer, 0, buffered);
            }
            reserve(into, position);
            if (options.sync() == SyncPolicy.ALWAYS) {
                into.file.force();
            }
            for (int i = from; i < to; i++) {
                index(into, group.get(i), locations.get(i - from));
            }
            // Nothing can fail from here on, and the records are written.
            into.good = position;
            for (int i = from; i < to; i++) {
                into.segment.added(locations.get(i - from).length());
                group.get(i).stored(locations.get(i - from));
            }
        } catch (IOException | RuntimeException | Error e) {
            // Also after failures other than the disk's: bytes of these batches may be in the file, and must not turn
            // up later.
            to = Math.max(to, from + 1);
            for (int i = from; i < to; i++) {
                group.get(i).failed(e);
            }
            if (into != null) {
                abandon(into);
            }
        }
        countAvailableBytes();
        return to;
    }

    private static void index(Active into, Append append, RecordPointer pointer) {
        EncodedRecord record = (EncodedRecord) append.encoded();
        into.index.add(new SegmentIndex.Entry(
                pointer.sequence(),
                record.createdAt(),
                pointer.offset(),
                pointer.length(),
                record.idHash(),
                record.entryCount(),
                record.collectorType()));
    }

    private boolean fits(Active into, long position, Append append) {
        return position + record(append).size() <= options.segmentSize() && hasDictionary(into, append);
    }

    private boolean hasDictionary(Active into, Append append) {
        ZstdDictionary dictionary = record(append).dictionary();
        return dictionary == null || dictionary == into.segment.dictionary;
    }

    private Active activeFor(Append append) throws IOException {
        Active current = active;
        if (current != null
                && (current.isEmpty() ? !hasDictionary(current, append) : !fits(current, current.good, append))) {
            seal();
            current = null;
        }
        return current != null ? current : begin();
    }

    private Active begin() throws IOException {
        Active begun = create(++lastNumber, dictionaries.current());
        segments.put(begun.segment.number, begun.segment);
        active = begun;
        return begun;
    }

    private Active create(int number, @Nullable ZstdDictionary dictionary) throws IOException {
        if (number > MAX_NUMBER) {
            throw new IOException("there are no segment numbers left");
        }
        Path path = path(number);
        byte[] head = SegmentHead.toBytes(number, dictionary, block);
        Segment segment = new Segment(number, path, dictionary, head.length);
        segment.size = head.length;
        DiskFile file = disk.create(path);
        try {
            file.write(0, head, 0, head.length);
            if (options.sync() != SyncPolicy.NEVER) {
                if (dictionary != null) {
                    // Durable before the first record: otherwise a power cut could leave records without it.
                    file.force();
                }
                disk.forceDirectory(options.directory());
            }
            return new Active(segment, file);
        } catch (IOException | RuntimeException | Error e) {
            close(file);
            delete(path);
            throw e;
        }
    }

    /**
     * Reserves room after the records are written, so that a disk without room for the reserve still takes the records.
     */
    private void reserve(Active into, long position) throws IOException {
        if (position <= into.allocated) {
            return;
        }
        into.allocated = position;
        long wanted = Math.min(reserve.length, options.segmentSize() - position);
        if (inactiveBytes + position + wanted > options.maxDiskUsage() / 4 * 3) {
            // The limit counts real bytes: near it, room that may never be used costs too much.
            return;
        }
        if (wanted > 0) {
            try {
                into.file.write(position, reserve, 0, (int) wanted);
                into.allocated = position + wanted;
            } catch (IOException e) {
                // The disk is nearly full. A partly written reserve does not look like a torn record: it is all zeros.
                log.debug("No space to reserve in {}", into.segment.path, e);
            }
        }
    }

    private void seal() {
        Active full = active;
        active = null;
        if (full == null) {
            return;
        }
        full.segment.size = full.allocated;
        // The housekeeper does not keep the sync interval.
        if (isLarge() && options.sync() != SyncPolicy.INTERVAL) {
            unsealed.add(full);
        } else {
            writeIndex(full);
            sealed(full);
        }
        countUsage();
    }

    private boolean isLarge() {
        return options.segmentSize() >= LARGE_SEGMENT_BYTES;
    }

    /** Writes the index of a segment that is no longer written to. */
    private void writeIndex(Active full) {
        byte[] bytes = full.index.toBytes(full.segment.number, full.good);
        try {
            full.file.truncate(full.good);
            full.allocated = full.good;
            full.file.write(full.good, bytes, 0, bytes.length);
            full.allocated += bytes.length;
            full.segment.indexSize = bytes.length;
            if (options.sync() != SyncPolicy.NEVER) {
                full.file.force();
            }
        } catch (IOException e) {
            // The records are safe already; without its index the segment is scanned at the next opening.
            log.warn("{} could not be sealed: {}", full.segment.path, e.toString());
        }
        close(full.file);
    }

    private void sealed(Active full) {
        Segment segment = full.segment;
        segment.size = full.allocated;
        segment.sealed = true;
        reclaimable |= segment.live == 0;
    }

    /**
     * Ends a segment after a failure. Nothing behind {@code good} may ever be considered accepted: its callers got a
     * failure.
     */
    private void abandon(Active failed) {
        // First: whatever is thrown from here on, nothing more is written to it.
        active = null;
        log.warn(
                "Writing {} failed at {}; it is ended there, and a new segment will be begun",
                failed.segment.path,
                failed.good);
        fileEnds.put(failed.segment.number, new FileEnd(failed.good, failed.lastSequence));
        failed.segment.sealed = true;
        failed.segment.size = failed.allocated;
        try {
            failed.file.truncate(failed.good);
            failed.file.force();
            failed.segment.size = failed.good;
        } catch (IOException e) {
            log.warn("{} could not be cut off: {}", failed.segment.path, e.toString());
        }
        close(failed.file);
        reclaimable |= failed.segment.live == 0;
        countUsage();
    }

    private static void close(DiskFile file) {
        try {
            file.close();
        } catch (IOException e) {
            log.debug("Closing a segment failed", e);
        }
    }

    @Override
    public void force() throws IOException {
        Active current = active;
        if (current != null) {
            try {
                current.file.force();
            } catch (IOException e) {
                // Nothing more may be written to a file whose force has failed.
                seal();
                throw e;
            }
        }
    }

    // ---- reading ---------------------------------------------------------------------------------

    @Override
    public Header header(RecordPointer pointer) throws IOException {
        byte[] bytes = read(pointer, Math.min(HEADER_READ, pointer.length()));
        View view = new View(bytes, 0);
        if (view.isPlausible(pointer.file(), pointer.offset())
                && view.headerEnd() > bytes.length
                && view.headerEnd() <= pointer.length()) {
            view = new View(read(pointer, view.headerEnd()), 0);
        }
        check(view, pointer);
        return view.header();
    }

    @Override
    public Content content(RecordPointer pointer) throws IOException {
        Segment segment = segments.get(pointer.file());
        if (segment == null) {
            // Deleted meanwhile.
            throw new NoSuchFileException(file(pointer).toString());
        }
        return new View(record(pointer), 0).content(segment.dictionary);
    }

    /** Reads and checks a whole record. */
    private byte[] record(RecordPointer pointer) throws IOException {
        byte[] bytes = reader.readAhead(pointer.file(), file(pointer), pointer.offset(), pointer.length());
        View view = new View(bytes, 0);
        if (!isValid(view, pointer) || !view.hasValidPayload()) {
            // Perhaps it was read ahead before it was written.
            bytes = read(pointer, pointer.length());
            view = new View(bytes, 0);
            check(view, pointer);
            if (!view.hasValidPayload()) {
                throw new DamagedPayloadException("the payload's checksum is wrong", null);
            }
        }
        return bytes;
    }

    private byte[] read(RecordPointer pointer, int length) throws IOException {
        return reader.read(pointer.file(), file(pointer), pointer.offset(), length);
    }

    private static boolean isValid(View view, RecordPointer pointer) {
        return view.hasValidHeader(pointer.file(), pointer.offset()) && view.sequence() == pointer.sequence();
    }

    private static void check(View view, RecordPointer pointer) {
        if (!isValid(view, pointer)) {
            throw new DamagedPayloadException("no valid record", null);
        }
    }

    @Override
    public Path file(RecordPointer pointer) {
        Segment segment = segments.get(pointer.file());
        return segment != null ? segment.path : path(pointer.file());
    }

    // ---- giving up -------------------------------------------------------------------------------

    @Override
    public void changed(RecordPointer pointer, PersistedState persistedState) {
        // The journal has it; payloads are never rewritten.
    }

    @Override
    public void removed(RecordPointer pointer) {
        Segment segment = segments.get(pointer.file());
        if (segment != null) {
            segment.gone.add(pointer.sequence());
            addGarbage(segment, pointer);
        }
    }

    /** The batch is held elsewhere, so the journal must not list its number as gone. */
    @Override
    public void superseded(RecordPointer pointer) {
        Segment segment = segments.get(pointer.file());
        if (segment != null) {
            addGarbage(segment, pointer);
        }
    }

    private void addGarbage(Segment segment, RecordPointer pointer) {
        garbage -= segment.garbage();
        segment.removed(pointer.length());
        garbage += segment.garbage();
        reclaimable |= segment.sealed && segment.live == 0;
    }

    @Override
    public void reclaim() {
        retire();
        List<Segment> dead = dead();
        delete(dead);
        forget(dead);
    }

    /** Ends the segment being written if it holds no batches. */
    private void retire() {
        Active current = active;
        if (current != null && current.segment.live == 0 && !current.isEmpty()) {
            active = null;
            close(current.file);
            current.segment.size = current.allocated;
            current.segment.sealed = true;
        }
    }

    /** The segments that hold no batches any more. */
    private List<Segment> dead() {
        reclaimable = false;
        return segments.values().stream()
                .filter(segment -> segment.sealed && segment.live == 0)
                .toList();
    }

    /**
     * Deletes segments. What can't be deleted stays known: until it is, the journal must say that what is in it is
     * gone.
     */
    private void delete(List<Segment> dead) {
        if (renamed && options.sync() != SyncPolicy.NEVER) {
            try {
                // The copies must be durable before the originals are deleted.
                disk.forceDirectory(options.directory());
                renamed = false;
            } catch (IOException e) {
                log.warn("{} could not be forced: {}; nothing is deleted yet", options.directory(), e.toString());
                return;
            }
        }
        boolean any = false;
        reader.closeFiles();
        for (Segment segment : dead) {
            segment.deleted = delete(segment.path);
            any |= segment.deleted;
        }
        reader.closeFiles();
        if (any && options.sync() != SyncPolicy.NEVER) {
            try {
                disk.forceDirectory(options.directory());
            } catch (IOException e) {
                // They may reappear after a power cut; then what is in them is sent again.
                log.warn("{} could not be forced: {}", options.directory(), e.toString());
            }
        }
    }

    private void forget(List<Segment> dead) {
        for (Segment segment : dead) {
            if (segment.deleted) {
                segments.remove(segment.number);
                fileEnds.remove(segment.number);
            }
        }
        countUsage();
    }

    @Override
    public @Nullable MaintenanceTask nextDeletion(boolean all) {
        if (all) {
            retire();
        }
        List<Segment> dead = dead();
        if (dead.isEmpty()) {
            if (all) {
                // Another process may have deleted one that is open.
                reader.closeFiles();
            }
            countUsage();
            return null;
        }
        return new MaintenanceTask() {
            @Override
            public void run() {
                delete(dead);
            }

            @Override
            public void finish() {
                forget(dead);
            }
        };
    }

    private boolean delete(Path path) {
        try {
            disk.delete(path);
            return true;
        } catch (IOException e) {
            log.warn("{} could not be deleted: {}; it is tried again with the next cleanup", path, e.toString());
            return false;
        }
    }

    @Override
    public void lost(long[] sequences) {
        lost = sequences;
    }

    @Override
    public long[] gone() {
        return LongStream.concat(
                        Arrays.stream(lost),
                        segments.values().stream().flatMapToLong(segment -> Arrays.stream(segment.gone.toArray())))
                .toArray();
    }

    @Override
    public Map<Integer, FileEnd> fileEnds() {
        return fileEnds;
    }

    @Override
    public int lastFile() {
        return lastNumber;
    }

    /** Updates the usage after the set of segments, or the size of one that is not being written, has changed. */
    private void countUsage() {
        long sum = 0;
        long unused = 0;
        for (Segment segment : segments.values()) {
            if (active == null || active.segment != segment) {
                sum += segment.size;
            }
            unused += segment.garbage();
        }
        inactiveBytes = sum;
        garbage = unused;
        countAvailableBytes();
    }

    private void countAvailableBytes() {
        long used = inactiveBytes;
        long free = 0;
        Active current = active;
        if (current != null) {
            used += current.allocated;
            free = current.allocated - current.good - current.index.size();
        }
        diskUsage = used;
        // The next segment begins with a dictionary.
        ZstdDictionary dictionary = dictionaries.current();
        availableBytes = dictionary == null ? free : free - SegmentHead.size(dictionary, block);
    }

    @Override
    public long diskUsage() {
        return diskUsage + compactedBytes;
    }

    @Override
    public long availableBytes() {
        return availableBytes;
    }

    // ---- housekeeping ----------------------------------------------------------------------------

    @Override
    public boolean hasMaintenance() {
        return reclaimable || !unsealed.isEmpty() || dictionaries.isTrainingDue() || isCompactionDue();
    }

    @Override
    public @Nullable MaintenanceTask nextMaintenanceTask() {
        Active full = unsealed.poll();
        if (full == null) {
            return dictionaries.nextTraining();
        }
        return new MaintenanceTask() {
            @Override
            public void run() {
                writeIndex(full);
            }

            @Override
            public void finish() {
                sealed(full);
                countUsage();
            }
        };
    }

    /**
     * Whether compaction pays off. The gain has to be worth a segment, so that small stores with small segments are not
     * copied all the time; and after a compaction that failed, or found no room, there has to be more garbage.
     */
    private boolean isCompactionDue() {
        return garbage >= options.segmentSize() && garbage > garbageLeft;
    }

    @Override
    public long compactionBytesAvailable() {
        return maxCopiedBytes() + SegmentHead.size(dictionaries.current(), block);
    }

    /** Limit on the records and the index of a copy, which has a dictionary, too. */
    private long maxCopiedBytes() {
        return Math.min(options.segmentSize(), options.maxDiskUsage() / 32);
    }

    @Override
    public @Nullable Compaction nextCompaction(boolean all) {
        Active current = active;
        if (all && current != null) {
            long good = current.segment.number * (1L << 32) + current.good;
            if (good == seenGood
                    && current.segment.live > 0
                    && current.segment.liveBytes * 2 < current.good - current.segment.start) {
                // No batch has been persisted since the last cleanup.
                seal();
            }
            seenGood = good;
        }
        if (!all && !isCompactionDue()) {
            return null;
        }
        List<Segment> candidates = segments.values().stream()
                .filter(segment -> segment.sealed && segment.live > 0)
                .filter(segment -> segment.garbage() > 0 || segment.size - segment.start < maxCopiedBytes() / 2)
                .sorted(Comparator.comparingInt((Segment segment) -> segment.number))
                .toList();
        // Until this compaction is done.
        garbageLeft = garbage;
        if (lastNumber == MAX_NUMBER) {
            return null;
        }
        // A segment has one dictionary, and copies are not compressed again.
        List<Optional<ZstdDictionary>> each = candidates.stream()
                .map(segment -> Optional.ofNullable(segment.dictionary))
                .distinct()
                .toList();
        for (Optional<ZstdDictionary> dictionary : each) {
            Compaction compaction = compaction(candidates, dictionary.orElse(null));
            if (compaction != null) {
                return compaction;
            }
        }
        return null;
    }

    /** The compaction of those that have this dictionary; {@code null} if it does not pay off. */
    private @Nullable Compaction compaction(List<Segment> candidates, @Nullable ZstdDictionary dictionary) {
        Map<Integer, Segment> replaced = new HashMap<>();
        int start = SegmentHead.size(dictionary, block);
        long bytes = 0;
        boolean pays = false;
        for (Segment segment : candidates) {
            long copied = segment.liveBytes + (long) segment.live * SegmentIndex.USUAL_ENTRY;
            if (segment.dictionary == dictionary && bytes + copied <= maxCopiedBytes()) {
                bytes += copied;
                pays |= segment.isSparse() || !replaced.isEmpty();
                replaced.put(segment.number, segment);
            }
        }
        if (!pays) {
            return null;
        }
        lastNumber++;
        return new Copying(replaced, new Segment(lastNumber, path(lastNumber), dictionary, start));
    }

    /** Copies what is held in some segments into a new one. */
    private final class Copying implements Compaction {

        private final Map<Integer, Segment> replaced;
        private final Segment copy;
        private final Path aside;
        private final SegmentIndex index = new SegmentIndex();
        private @Nullable DiskFile file;
        private long end;
        private long forced;
        private boolean installed;

        Copying(Map<Integer, Segment> replaced, Segment copy) {
            this.replaced = replaced;
            this.copy = copy;
            this.end = copy.start;
            this.aside = options.directory().resolve(copy.path.getFileName() + ".tmp");
        }

        @Override
        public boolean replaces(int number) {
            return replaced.containsKey(number);
        }

        private DiskFile file() throws IOException {
            DiskFile open = file;
            if (open == null) {
                open = disk.create(aside);
                file = open;
                byte[] head = SegmentHead.toBytes(copy.number, copy.dictionary, block);
                open.write(0, head, 0, head.length);
            }
            return open;
        }

        @Override
        public byte[] read(RecordPointer from) throws IOException {
            return record(from);
        }

        @Override
        public RecordPointer copy(RecordPointer from, byte[] bytes) throws IOException {
            View view = new View(bytes, 0);
            RecordFormat.move(bytes, copy.number, (int) end);
            file().write(end, bytes, 0, bytes.length);
            RecordPointer to = new RecordPointer(from.sequence(), copy.number, (int) end, from.length());
            Header header = view.header();
            index.add(new SegmentIndex.Entry(
                    to.sequence(),
                    view.createdAt(),
                    to.offset(),
                    to.length(),
                    IndexedBatchStore.idHash(header.id()),
                    header.entryCount(),
                    header.collectorType()));
            end += bytes.length;
            compactedBytes = end;
            if (end - forced >= COPY_CHUNK_BYTES && options.sync() != SyncPolicy.NEVER) {
                file().force();
                forced = end;
            }
            return to;
        }

        @Override
        public void finish() throws IOException {
            byte[] bytes = index.toBytes(copy.number, end);
            DiskFile whole = file();
            whole.write(end, bytes, 0, bytes.length);
            copy.size = end + bytes.length;
            copy.indexSize = bytes.length;
            compactedBytes = copy.size;
            if (options.sync() != SyncPolicy.NEVER) {
                whole.force();
            }
            whole.close();
        }

        @Override
        public void install() throws IOException {
            disk.move(aside, copy.path);
            installed = true;
            renamed = true;
            copy.sealed = true;
            garbageLeft = 0;
            segments.put(copy.number, copy);
            // The replaced segments are; and so is the new one, if all of its batches were removed before it was
            // installed.
            reclaimable = true;
            countUsage();
        }

        @Override
        public void moved(RecordPointer from, RecordPointer to, boolean held) {
            if (held) {
                garbage -= copy.garbage();
                copy.added(to.length());
                garbage += copy.garbage();
                superseded(from);
            } else {
                copy.gone.add(to.sequence());
            }
        }

        @Override
        public void close() {
            compactedBytes = 0;
            if (file != null && !installed) {
                SegmentLog.close(file);
                delete(aside);
            }
        }
    }

    @Override
    public void close() {
        reader.close();
        seal();
        for (Active full; (full = unsealed.poll()) != null; ) {
            writeIndex(full);
            sealed(full);
        }
    }
}
