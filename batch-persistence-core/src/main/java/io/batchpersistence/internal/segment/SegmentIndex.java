package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.codec.Crc32c;
import io.batchpersistence.spi.NewBatch;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The index at the end of a sealed segment, so that opening a store reads no payloads. It is only a hint: it repeats
 * what the records say, and a segment without a valid index is scanned. Big-endian.
 *
 * <pre>
 * "BPX\1", u32 number of collector types, each: u16 length, UTF-8 name
 * u32 number of records, each: u64 hash of id, and as varints: sequence - that of the record before, created at - that of
 *          the record before (zigzag), offset - end of the record before, length, number of entries, collector type
 * trailer, the last 20 bytes of the file:
 *          u64 offset of the index, u32 segment number, u32 CRC32C of all bytes from the index on up to here, "BPE\1"
 * </pre>
 *
 * <p>The hash of an id is cryptographic: ids that collide are hard to find.
 */
final class SegmentIndex {

    static final int MAGIC = 'B' << 24 | 'P' << 16 | 'X' << 8 | 1;
    static final int TRAILER = 20;

    private static final int TRAILER_MAGIC = 'B' << 24 | 'P' << 16 | 'E' << 8 | 1;
    /** Bytes of most entries, at most. */
    static final int USUAL_ENTRY = 20;

    /** The fewest and the most bytes of a record's entry. */
    private static final int MIN_ENTRY = 8 + 6;

    private static final int MAX_ENTRY = 8 + 2 * Varints.MAX_64 + 4 * Varints.MAX_32;

    /**
     * Limit on the bytes of an index; the segment of a larger one is scanned instead. An index is no larger than the
     * records, which say the same.
     */
    private static final int MAX_SIZE = 256 << 20;

    private final Map<String, Integer> collectors = new LinkedHashMap<>();
    private ByteBuffer entries = ByteBuffer.allocate(64 * MIN_ENTRY);
    private int count;
    private long lastSequence;
    private long lastCreatedAt;
    private int lastEnd;

    /** One record of a sealed segment. */
    record Entry(
            long sequence, long createdAt, int offset, int length, long idHash, int entryCount, String collectorType) {}

    /** Adds a record with a higher sequence and offset than those before. */
    void add(Entry entry) {
        if (entries.remaining() < MAX_ENTRY) {
            entries = ByteBuffer.allocate(entries.capacity() * 2).put(entries.flip());
        }
        Integer collector = collectors.get(entry.collectorType);
        if (collector == null) {
            collector = collectors.size();
            collectors.put(entry.collectorType, collector);
        }
        long age = entry.createdAt - lastCreatedAt;
        entries.putLong(entry.idHash);
        Varints.put(entries, entry.sequence - lastSequence);
        Varints.put(entries, (age << 1) ^ (age >> 63));
        Varints.put(entries, entry.offset - lastEnd);
        Varints.put(entries, entry.length);
        Varints.put(entries, entry.entryCount);
        Varints.put(entries, collector);
        count++;
        lastSequence = entry.sequence;
        lastCreatedAt = entry.createdAt;
        lastEnd = entry.offset + entry.length;
    }

    /** Its size in bytes. */
    int size() {
        int names = 0;
        for (String name : collectors.keySet()) {
            names += 2 + name.getBytes(StandardCharsets.UTF_8).length;
        }
        return 4 + 4 + names + 4 + entries.position() + TRAILER;
    }

    /** The bytes to write at that offset, where the records end. */
    byte[] toBytes(int segment, long offset) {
        List<byte[]> names = new ArrayList<>();
        for (String name : collectors.keySet()) {
            byte[] text = name.getBytes(StandardCharsets.UTF_8);
            names.add(text);
        }
        ByteBuffer out = ByteBuffer.allocate(size());
        out.putInt(MAGIC).putInt(names.size());
        for (byte[] name : names) {
            out.putShort((short) name.length).put(name);
        }
        out.putInt(count).put(entries.array(), 0, entries.position());
        out.putLong(offset).putInt(segment);
        out.putInt(Crc32c.of(out.array(), 0, out.position())).putInt(TRAILER_MAGIC);
        return out.array();
    }

    /** Where the index begins, according to the trailer; -1 if the trailer is invalid. */
    static long offset(byte[] trailer, long fileSize, int segment) {
        if (trailer.length != TRAILER) {
            return -1;
        }
        ByteBuffer in = ByteBuffer.wrap(trailer);
        long offset = in.getLong();
        boolean plausible = in.getInt() == segment
                && in.getInt(16) == TRAILER_MAGIC
                && offset >= 0
                && offset <= fileSize - TRAILER
                && fileSize - offset <= Math.min(offset, MAX_SIZE);
        return plausible ? offset : -1;
    }

    /** The records; {@code null} if the bytes, from the index's offset to the end of the file, are damaged. */
    static @Nullable List<Entry> parse(byte[] bytes, long offset) {
        int crcAt = bytes.length - 8;
        ByteBuffer in = ByteBuffer.wrap(bytes);
        if (bytes.length < 12 + TRAILER || in.getInt(crcAt) != Crc32c.of(bytes, 0, crcAt) || in.getInt() != MAGIC) {
            return null;
        }
        try {
            return entries(in.slice(4, crcAt - 12 - 4), offset);
        } catch (BufferUnderflowException e) {
            return null;
        }
    }

    /**
     * Reads the records. A correct checksum shows that nothing has changed by accident, not who wrote it: nothing else
     * is trusted.
     */
    private static @Nullable List<Entry> entries(ByteBuffer in, long recordsEnd) {
        List<String> names = new ArrayList<>();
        for (int left = in.getInt(); left > 0; left--) {
            byte[] name = new byte[Math.min(in.getShort() & 0xFFFF, in.remaining())];
            in.get(name);
            String text = new String(name, StandardCharsets.UTF_8);
            if (text.length() > NewBatch.MAX_NAME_LENGTH) {
                return null;
            }
            names.add(text);
        }
        int count = in.getInt();
        if (count < 0 || count > in.remaining() / MIN_ENTRY) {
            return null;
        }
        byte[] bytes = new byte[in.remaining()];
        in.get(bytes);
        Entry[] entries = new Entry[count];
        int at = 0;
        long sequence = 0;
        long createdAt = 0;
        long end = 0;
        for (int i = 0; i < count; i++) {
            if (bytes.length - at < MIN_ENTRY) {
                return null;
            }
            long idHash = ByteBuffer.wrap(bytes).getLong(at);
            Varints numbers = new Varints(bytes, at + 8);
            sequence += numbers.next64();
            long age = numbers.next64();
            createdAt += (age >>> 1) ^ -(age & 1);
            long offset = end + numbers.next32();
            int length = numbers.next32();
            int entryCount = numbers.next32();
            int collector = numbers.next32();
            end = offset + length;
            at = numbers.position();
            if (numbers.isDamaged()
                    || length < RecordFormat.MIN_RECORD
                    || length > RecordFormat.MAX_RECORD
                    || end > recordsEnd
                    || end > Integer.MAX_VALUE
                    || collector >= names.size()) {
                return null;
            }
            entries[i] = new Entry(sequence, createdAt, (int) offset, length, idHash, entryCount, names.get(collector));
        }
        return at == bytes.length ? Arrays.asList(entries) : null;
    }
}
