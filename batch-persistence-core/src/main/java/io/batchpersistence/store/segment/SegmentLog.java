package io.batchpersistence.store.segment;

import io.batchpersistence.NewBatch;
import io.batchpersistence.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.internal.store.Location;
import io.batchpersistence.internal.store.PayloadLog;
import io.batchpersistence.internal.store.Standing;
import io.batchpersistence.store.DiskStoreOptions;
import io.batchpersistence.store.SyncPolicy;
import io.batchpersistence.store.segment.RecordFormat.EncodedRecord;
import io.batchpersistence.store.segment.RecordFormat.View;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Payloads in segments: files that are only appended to, sealed with an index when they are full, and deleted whole when
 * nothing in them is held any more. The layout is in the package documentation, that of a record in {@link RecordFormat}.
 *
 * <p>One segment is being written. A write or a force that fails ends it where it was last known to be good: the callers are
 * told, and the next batch begins a new segment. A segment found unsealed, because the process was killed, is repaired when
 * the store is opened: cut off behind its last whole record and sealed. It is never appended to again.
 */
final class SegmentLog implements PayloadLog {

    private static final Logger log = LoggerFactory.getLogger(SegmentLog.class);

    private static final byte[] FILE_MAGIC = "BPSEGMT\1".getBytes(StandardCharsets.ISO_8859_1);
    private static final int FILE_HEADER = 16;
    private static final Pattern NAME = Pattern.compile("(\\d{10})\\.segment");

    /** Enough for fixed part, id, collector type and a small context in one read. */
    private static final int HEADER_READ = 1024;

    private static final int WRITE_BUFFER = 1 << 20;

    private final Disk disk;
    private final DiskStoreOptions options;
    /** Bytes written ahead as zeros: a force that does not have to make the file longer is about twice as fast on ext4. */
    private final int reserve;

    private final ConcurrentMap<Integer, Segment> segments = new ConcurrentHashMap<>();
    private final Map<Integer, Long> fileEnds = new HashMap<>();
    private final byte[] buffer = new byte[WRITE_BUFFER];
    private @Nullable Active active;
    private int lastNumber;
    private boolean reclaimable;
    private long inactiveBytes;
    private volatile long diskUsage;
    private volatile long room;

    /** A segment file. Of the writer thread, but for the final fields. */
    private static final class Segment {
        final int number;
        final Path path;
        /** The records that are gone, by distance from {@link #firstSequence}. */
        final BitSet gone = new BitSet();

        long firstSequence = -1;
        int live;
        long size;

        Segment(int number, Path path) {
            this.number = number;
            this.path = path;
        }

        void added(long sequence) {
            if (firstSequence < 0) {
                firstSequence = sequence;
            }
            live++;
        }

        void lost(long sequence) {
            if (firstSequence < 0) {
                firstSequence = sequence;
            }
            gone.set((int) (sequence - firstSequence));
        }
    }

    /** The segment being written. */
    private static final class Active {
        final Segment segment;
        final DiskFile file;
        final SegmentIndex index = new SegmentIndex();
        /** End of the records that are known to be there. */
        long good = FILE_HEADER;
        /** End of the file, reserved zeros included. */
        long allocated = FILE_HEADER;

        Active(Segment segment, DiskFile file) {
            this.segment = segment;
            this.file = file;
        }
    }

    SegmentLog(Disk disk, DiskStoreOptions options) {
        this.disk = disk;
        this.options = options;
        this.reserve = options.sync() == SyncPolicy.ALWAYS
                ? (int) Math.max(4 << 10, Math.min(1 << 20, options.segmentSize() / 8))
                : 0;
    }

    private Path path(int number) {
        return options.directory().resolve(String.format("%010d.segment", number));
    }

    // ---- loading ---------------------------------------------------------------------------------

    @Override
    public void load(Loading loading) throws IOException {
        TreeMap<Integer, Path> files = new TreeMap<>();
        for (Path path : disk.list(options.directory())) {
            Matcher name = NAME.matcher(path.getFileName().toString());
            if (name.matches() && Long.parseLong(name.group(1)) < Integer.MAX_VALUE) {
                files.put(Integer.parseInt(name.group(1)), path);
            }
        }
        long previousSequence = 0;
        for (Map.Entry<Integer, Path> file : files.entrySet()) {
            Segment segment = new Segment(file.getKey(), file.getValue());
            lastNumber = segment.number;
            try {
                if (isOfLaterVersion(segment)) {
                    loading.damaged(
                            segment.path,
                            0,
                            0,
                            "written by a later version of this software, which alone can read it; left as it is",
                            null,
                            null,
                            new long[0]);
                    continue;
                }
                previousSequence = load(segment, previousSequence, loading);
                segments.put(segment.number, segment);
                reclaimable |= segment.live == 0;
            } catch (IOException e) {
                // Left where it is: the next opening may be able to. What was in it is counted as missing.
                loading.damaged(segment.path, 0, 0, "can't be read: " + e, null, null, new long[0]);
            }
        }
        countUsage();
    }

    /** Everything else is found and checked without the file's header, but its version must be believed. */
    private boolean isOfLaterVersion(Segment segment) throws IOException {
        byte[] header = disk.read(segment.path, 0, FILE_HEADER);
        int version = FILE_MAGIC.length - 1;
        return header.length == FILE_HEADER
                && Arrays.equals(header, 0, version, FILE_MAGIC, 0, version)
                && header[version] != FILE_MAGIC[version]
                && ByteBuffer.wrap(header).getInt(FILE_HEADER - 4) == headerCrc(header);
    }

    /** Returns the highest sequence seen. */
    private long load(Segment segment, long previousSequence, Loading loading) throws IOException {
        segment.size = disk.size(segment.path);
        List<SegmentIndex.Entry> entries = readIndex(segment);
        if (entries == null) {
            return scan(segment, previousSequence, loading);
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
        if (trailerAt < FILE_HEADER) {
            return null;
        }
        byte[] trailer = disk.read(segment.path, trailerAt, SegmentIndex.TRAILER);
        long offset = SegmentIndex.offset(trailer, segment.size, segment.number);
        return offset < 0
                ? null
                : SegmentIndex.parse(disk.read(segment.path, offset, (int) (segment.size - offset)), offset);
    }

    private static void found(Segment segment, SegmentIndex.Entry entry, Loading loading) {
        segment.added(entry.sequence());
        if (loading.isGone(entry.sequence())) {
            segment.live--;
            segment.gone.set((int) (entry.sequence() - segment.firstSequence));
        } else {
            loading.found(
                    new Location(entry.sequence(), segment.number, entry.offset(), entry.length()),
                    entry.idHash(),
                    entry.collectorType(),
                    entry.createdAt(),
                    null);
        }
    }

    /** Reads all records of a segment that was not sealed, or whose index is damaged, and seals it. */
    private long scan(Segment segment, long previousSequence, Loading loading) throws IOException {
        byte[] bytes = disk.read(segment.path, 0, (int) Math.min(Integer.MAX_VALUE - 64, segment.size));
        int end = (int) Math.min(bytes.length, loading.fileEnd(segment.number));
        while (end > 0 && bytes[end - 1] == 0) {
            end--; // room that was reserved and not used; a record that ends in zeros knows its length
        }
        SegmentIndex index = new SegmentIndex();
        long last = previousSequence;
        int good = FILE_HEADER;
        for (int at = FILE_HEADER; at < end; ) {
            View view = new View(bytes, at);
            if (view.hasValidHeader(segment.number, at) && view.hasValidPayload()) {
                PayloadLog.Header header = view.header();
                SegmentIndex.Entry entry = new SegmentIndex.Entry(
                        view.sequence(),
                        view.createdAt(),
                        at,
                        view.length(),
                        IndexedBatchStore.idHash(header.id()),
                        header.collectorType());
                index.add(entry);
                found(segment, entry, loading);
                last = view.sequence();
                at += view.length();
                good = at;
                continue;
            }
            if (isIndex(bytes, at)) {
                log.warn("The index of {} is damaged; its records were scanned instead", segment.path);
                break;
            }
            int next = nextRecord(segment.number, bytes, at + 1, end);
            if (next < 0) {
                tornTail(segment, at, end, loading);
                break;
            }
            if (view.hasValidHeader(segment.number, at)) {
                damagedPayload(segment, view, at, loading); // the header knows where the next record begins
                last = view.sequence();
                at += view.length();
            } else {
                damaged(segment, at, next, last, new View(bytes, next).sequence(), loading);
                last = new View(bytes, next).sequence() - 1;
                at = next;
            }
        }
        if (segment.live > 0 && !repair(segment, index, good) && loading.fileEnd(segment.number) < Long.MAX_VALUE) {
            fileEnds.put(segment.number, loading.fileEnd(segment.number));
        }
        return last;
    }

    private static boolean isIndex(byte[] bytes, int at) {
        return bytes.length - at >= 4 && ByteBuffer.wrap(bytes).getInt(at) == SegmentIndex.MAGIC;
    }

    private static int nextRecord(int segment, byte[] bytes, int from, int end) {
        for (int at = from; at <= end - RecordFormat.FIXED; at++) {
            if (bytes[at] == 'B') {
                View view = new View(bytes, at);
                if (view.hasValidHeader(segment, at) && view.hasValidPayload()) {
                    return at;
                }
            }
        }
        return -1;
    }

    private static void tornTail(Segment segment, int at, int end, Loading loading) {
        loading.damaged(
                segment.path,
                at,
                (long) end - at,
                "torn tail: was being written when the process or the machine stopped, and never acknowledged",
                null,
                null,
                new long[0]);
    }

    private static void damagedPayload(Segment segment, View view, int at, Loading loading) {
        PayloadLog.Header header = view.header();
        segment.lost(view.sequence());
        loading.damaged(
                segment.path,
                at,
                view.length(),
                "the payload's checksum is wrong",
                header.id(),
                header.collectorType(),
                new long[] {view.sequence()});
    }

    private static void damaged(Segment segment, int at, int next, long lastBefore, long firstAfter, Loading loading) {
        // Within a segment sequences have no gaps, so those missing between two good records are what was here.
        // Before the first good one it can't be more than fit in: the others were in segments that are deleted.
        long atMost = Math.max(1, (next - at) / RecordFormat.FIXED);
        long[] lost = LongStream.range(Math.max(lastBefore + 1, firstAfter - atMost), firstAfter)
                .toArray();
        for (long sequence : lost) {
            segment.lost(sequence);
        }
        loading.damaged(segment.path, at, (long) next - at, "no valid record", null, null, lost);
    }

    /** Cuts off what is behind the last whole record and seals. Every step can be repeated by the next opening. */
    private boolean repair(Segment segment, SegmentIndex index, int end) {
        try (DiskFile file = disk.open(segment.path)) {
            byte[] bytes = index.toBytes(segment.number, end);
            file.truncate(end);
            file.write(end, bytes, 0, bytes.length);
            file.force();
            segment.size = end + (long) bytes.length;
            return true;
        } catch (IOException e) {
            log.warn("{} could not be sealed: {}; it will be scanned again", segment.path, e.toString());
            return false;
        }
    }

    // ---- writing ---------------------------------------------------------------------------------

    @Override
    public EncodedRecord encode(NewBatch batch) {
        return RecordFormat.encode(
                batch, options.format(), options.compression(), IndexedBatchStore.idHash(batch.id()));
    }

    @Override
    public void write(List<Append> group) {
        int done = 0;
        while (done < group.size()) {
            done = writeChunk(group, done);
        }
    }

    /** Writes and forces as many as go into one segment; returns the first that did not. */
    private int writeChunk(List<Append> group, int from) {
        int to = from;
        Active into = null;
        try {
            into = activeFor(size(group.get(from)));
            long position = into.good;
            List<Location> locations = new ArrayList<>();
            int buffered = 0;
            while (to < group.size() && (to == from || fits(position, size(group.get(to))))) {
                EncodedRecord record = (EncodedRecord) group.get(to).encoded();
                byte[] target = buffer;
                if (record.size() > buffer.length - buffered) {
                    into.file.write(position - buffered, buffer, 0, buffered);
                    buffered = 0;
                    target = record.size() > buffer.length ? new byte[record.size()] : buffer;
                }
                RecordFormat.write(
                        record, group.get(to).sequence(), into.segment.number, (int) position, target, buffered);
                locations.add(
                        new Location(group.get(to).sequence(), into.segment.number, (int) position, record.size()));
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
            into.good = position;
            for (int i = from; i < to; i++) {
                stored(into, group.get(i), locations.get(i - from));
            }
        } catch (IOException | RuntimeException | Error e) {
            // Also when it was not the disk: bytes of these batches may be in the file, and must not turn up later.
            to = Math.max(to, from + 1);
            for (Append append : group.subList(from, to)) {
                append.failed(e instanceof IOException io ? io : new IOException(e));
            }
            if (into != null) {
                abandon(into);
            }
        }
        countRoom();
        return to;
    }

    private static int size(Append append) {
        return append.encoded().size();
    }

    private static void stored(Active into, Append append, Location location) {
        EncodedRecord record = (EncodedRecord) append.encoded();
        into.segment.added(location.sequence());
        into.index.add(new SegmentIndex.Entry(
                location.sequence(),
                record.createdAt(),
                location.offset(),
                location.length(),
                record.idHash(),
                record.collectorType()));
        append.stored(location);
    }

    private boolean fits(long position, int size) {
        return position + size <= options.segmentSize();
    }

    private Active activeFor(int size) throws IOException {
        Active current = active;
        if (current != null && current.good > FILE_HEADER && !fits(current.good, size)) {
            seal();
            current = null;
        }
        return current != null ? current : begin();
    }

    private Active begin() throws IOException {
        int number = Math.addExact(lastNumber, 1);
        Path path = path(number);
        Active begun = new Active(new Segment(number, path), disk.create(path));
        lastNumber = number;
        try {
            begun.file.write(0, fileHeader(number), 0, FILE_HEADER);
            if (options.sync() != SyncPolicy.NEVER) {
                disk.forceDirectory(options.directory());
            }
        } catch (IOException e) {
            close(begun.file);
            delete(path);
            throw e;
        }
        begun.segment.size = FILE_HEADER;
        segments.put(number, begun.segment);
        active = begun;
        return begun;
    }

    private static byte[] fileHeader(int number) {
        ByteBuffer header = ByteBuffer.allocate(FILE_HEADER).put(FILE_MAGIC).putInt(number);
        return header.putInt(headerCrc(header.array())).array();
    }

    private static int headerCrc(byte[] header) {
        CRC32C crc = new CRC32C();
        crc.update(header, 0, FILE_HEADER - 4);
        return (int) crc.getValue();
    }

    /** After the records, so that a disk without room for the reserve still takes the records. */
    private void reserve(Active into, long position) throws IOException {
        if (position <= into.allocated) {
            return;
        }
        into.allocated = position;
        long wanted = Math.min(reserve, options.segmentSize() - position);
        if (inactiveBytes + position + wanted > options.maxDiskUsage() / 4 * 3) {
            return; // the bound counts real bytes: near it, room that may never be used is too dear
        }
        if (wanted > 0) {
            try {
                into.file.write(position, new byte[(int) wanted], 0, (int) wanted);
                into.allocated = position + wanted;
            } catch (IOException e) {
                // Nearly full. What was written of the reserve must not look like a torn record: it is all zeros.
                log.debug("No room to reserve in {}", into.segment.path, e);
            }
        }
    }

    private void seal() {
        Active sealed = active;
        active = null;
        if (sealed == null) {
            return;
        }
        byte[] bytes = sealed.index.toBytes(sealed.segment.number, sealed.good);
        try {
            sealed.file.truncate(sealed.good);
            sealed.segment.size = sealed.good;
            sealed.file.write(sealed.good, bytes, 0, bytes.length);
            sealed.segment.size += bytes.length;
            if (options.sync() != SyncPolicy.NEVER) {
                sealed.file.force();
            }
        } catch (IOException e) {
            // The records are safe already; without its index the segment is scanned at the next opening.
            log.warn("{} could not be sealed: {}", sealed.segment.path, e.toString());
        }
        close(sealed.file);
        reclaimable |= sealed.segment.live == 0;
        countUsage();
    }

    /** Nothing written after {@code good} may ever be taken for accepted: its callers have been told otherwise. */
    private void abandon(Active failed) {
        log.warn(
                "Writing {} failed at {}; it is ended there, and a new segment will be begun",
                failed.segment.path,
                failed.good);
        active = null;
        fileEnds.put(failed.segment.number, failed.good);
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
                seal(); // nothing more into a file whose force has failed
                throw e;
            }
        }
    }

    // ---- reading ---------------------------------------------------------------------------------

    @Override
    public Header header(Location location) throws IOException {
        byte[] bytes = read(location, Math.min(HEADER_READ, location.length()));
        View view = new View(bytes, 0);
        if (bytes.length >= RecordFormat.FIXED
                && view.headerLength() > bytes.length - RecordFormat.FIXED
                && view.headerLength() <= location.length() - RecordFormat.FIXED) {
            view = new View(read(location, RecordFormat.FIXED + view.headerLength()), 0);
        }
        check(view, location);
        return view.header();
    }

    @Override
    public Content content(Location location) throws IOException {
        View view = new View(read(location, location.length()), 0);
        check(view, location);
        if (!view.hasValidPayload()) {
            throw new DamagedPayloadException("the payload's checksum is wrong", null);
        }
        return view.content();
    }

    private byte[] read(Location location, int length) throws IOException {
        return disk.read(file(location), location.offset(), length);
    }

    private static void check(View view, Location location) {
        if (!view.hasValidHeader(location.file(), location.offset()) || view.sequence() != location.sequence()) {
            throw new DamagedPayloadException("no valid record", null);
        }
    }

    @Override
    public Path file(Location location) {
        return path(location.file());
    }

    // ---- giving up -------------------------------------------------------------------------------

    @Override
    public void changed(Location location, Standing standing) {
        // The journal has it; payloads are never rewritten.
    }

    @Override
    public void removed(Location location) {
        Segment segment = segments.get(location.file());
        if (segment == null) {
            return;
        }
        segment.gone.set((int) (location.sequence() - segment.firstSequence));
        segment.live--;
        if (segment.live == 0 && (active == null || active.segment != segment)) {
            reclaimable = true;
        }
    }

    @Override
    public boolean isReclaimable() {
        return reclaimable;
    }

    @Override
    public void reclaim() {
        reclaimable = false;
        Active current = active;
        if (current != null && current.segment.live == 0 && current.good > FILE_HEADER) {
            active = null;
            close(current.file);
        }
        boolean deleted = false;
        for (Segment segment : segments.values()) {
            if (segment.live == 0 && (active == null || active.segment != segment)) {
                if (delete(segment.path)) {
                    deleted = true;
                    segments.remove(segment.number);
                    fileEnds.remove(segment.number);
                } // else it stays known: until it is deleted, the journal must say that what is in it is gone
            }
        }
        if (deleted && options.sync() != SyncPolicy.NEVER) {
            try {
                disk.forceDirectory(options.directory());
            } catch (IOException e) {
                // They may be back after a power cut; the journal knows that nothing in them is held.
                log.warn("{} could not be forced: {}", options.directory(), e.toString());
            }
        }
        countUsage();
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
    public long[] gone() {
        return segments.values().stream()
                .flatMapToLong(segment -> segment.gone.stream().mapToLong(i -> segment.firstSequence + i))
                .toArray();
    }

    @Override
    public Map<Integer, Long> fileEnds() {
        return fileEnds;
    }

    /** After the set of segments, or the size of one that is not being written, has changed. */
    private void countUsage() {
        long sum = 0;
        for (Segment segment : segments.values()) {
            if (active == null || active.segment != segment) {
                sum += segment.size;
            }
        }
        inactiveBytes = sum;
        countRoom();
    }

    private void countRoom() {
        Active current = active;
        diskUsage = inactiveBytes + (current == null ? 0 : current.allocated);
        room = current == null ? 0 : current.allocated - current.good - current.index.size();
    }

    @Override
    public long diskUsage() {
        return diskUsage;
    }

    @Override
    public long room() {
        return room;
    }

    @Override
    public void close() {
        seal();
    }
}
