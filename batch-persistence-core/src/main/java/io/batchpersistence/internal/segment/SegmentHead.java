package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.codec.Crc32c;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.segment.RecordFormat.View;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The beginning of a segment. Big-endian.
 *
 * <pre>
 * "BPSEGMT\1", u32 segment number, u32 CRC32C of these 12 bytes
 * if records are compressed with a dictionary, twice, directly behind it and at the next boundary of a block:
 *     "BPD\1", u32 length, u32 offset of the second copy,
 *     u32 CRC32C of: segment number, u32 offset of the dictionary's first byte, the two numbers before, bytes; bytes
 * </pre>
 *
 * <p>The dictionary is there twice because without it no record can be read: damage in one place must not lose the
 * others. The copies share no block of the device: 4 KiB, or 512 bytes in a segment of less than 64 KiB. The dictionary
 * is in each segment, so that a segment needs no other file.
 *
 * @param dictionary the dictionary; {@code null} if there is none, or both copies are damaged
 * @param end where the records begin
 * @param damaged whether the first copy of the dictionary is damaged, and the second one is used
 */
record SegmentHead(@Nullable ZstdDictionary dictionary, int end, boolean damaged) {

    /** Bytes without a dictionary. */
    static final int SIZE = 16;

    /** Limit on the bytes of a dictionary. */
    static final int MAX_DICTIONARY = 64 << 10;

    private static final byte[] MAGIC = "BPSEGMT\1".getBytes(StandardCharsets.ISO_8859_1);
    private static final int DICTIONARY_MAGIC = 'B' << 24 | 'P' << 16 | 'D' << 8 | 1;
    private static final int DICTIONARY_FIXED = 16;

    /** What a device may lose at once. */
    private static final int SMALL_BLOCK = 512;

    private static final int LARGE_BLOCK = 4096;

    /** Bytes that cover the header of a usual first record. */
    private static final int FIRST_READ = 1024;

    /** The size of the blocks that the copies in segments of that size share none of. */
    static int block(long segmentSize) {
        return segmentSize < 16 * LARGE_BLOCK ? SMALL_BLOCK : LARGE_BLOCK;
    }

    static int size(@Nullable ZstdDictionary dictionary, int block) {
        return dictionary == null ? SIZE : secondCopy(dictionary, block) + DICTIONARY_FIXED + dictionary.bytes().length;
    }

    private static int secondCopy(ZstdDictionary dictionary, int block) {
        return (SIZE + DICTIONARY_FIXED + dictionary.bytes().length + block - 1) / block * block;
    }

    static byte[] toBytes(int segment, @Nullable ZstdDictionary dictionary, int block) {
        byte[] bytes = new byte[size(dictionary, block)];
        ByteBuffer out = ByteBuffer.wrap(bytes).put(MAGIC).putInt(segment);
        out.putInt(Crc32c.of(bytes, 0, SIZE - 4));
        if (dictionary != null) {
            int second = secondCopy(dictionary, block);
            putDictionary(bytes, SIZE, segment, second, dictionary.bytes());
            putDictionary(bytes, second, segment, second, dictionary.bytes());
        }
        return bytes;
    }

    private static void putDictionary(byte[] bytes, int at, int segment, int second, byte[] dictionary) {
        System.arraycopy(dictionary, 0, bytes, at + DICTIONARY_FIXED, dictionary.length);
        ByteBuffer out = ByteBuffer.wrap(bytes);
        out.putInt(at, DICTIONARY_MAGIC).putInt(at + 4, dictionary.length).putInt(at + 8, second);
        out.putInt(at + 12, dictionaryCrc(bytes, at, dictionary.length, segment));
    }

    /**
     * Whether a later version wrote the file. Everything else is found and checked without the header, but its version
     * must be trusted.
     */
    static boolean isOfLaterVersion(Disk disk, Path path) throws IOException {
        byte[] header = disk.read(path, 0, SIZE);
        int version = MAGIC.length - 1;
        return header.length == SIZE
                && Arrays.equals(header, 0, version, MAGIC, 0, version)
                && header[version] != MAGIC[version]
                && ByteBuffer.wrap(header).getInt(SIZE - 4) == Crc32c.of(header, 0, SIZE - 4);
    }

    /** Reads it. Whether the first 16 bytes are valid does not matter. */
    static SegmentHead read(Disk disk, Path path, int segment) throws IOException {
        byte[] start = disk.read(path, 0, SIZE + FIRST_READ);
        View first = new View(start, SIZE);
        if (first.isPlausible(segment, SIZE) && SIZE + first.headerEnd() > start.length) {
            first = new View(disk.read(path, 0, SIZE + first.headerEnd()), SIZE);
        }
        if (first.hasValidHeader(segment, SIZE)) {
            // What looks like a dictionary behind it is quoted content.
            return new SegmentHead(null, SIZE, false);
        }
        int length = dictionaryLength(start, SIZE);
        if (length > 0) {
            byte[] bytes = disk.read(path, 0, SIZE + DICTIONARY_FIXED + length);
            if (isDictionary(bytes, SIZE, length, segment)) {
                return of(bytes, SIZE, length, false);
            }
        }
        // The first copy is damaged, or there is none. The second one tells where it has to be.
        byte[] bytes = disk.read(path, 0, 2 * (LARGE_BLOCK + MAX_DICTIONARY));
        for (int at = SMALL_BLOCK; at < bytes.length; at += SMALL_BLOCK) {
            int second = dictionaryLength(bytes, at);
            if (second > 0 && secondCopy(bytes, at) == at && isDictionary(bytes, at, second, segment)) {
                return of(bytes, at, second, true);
            }
        }
        return new SegmentHead(null, SIZE, false);
    }

    private static SegmentHead of(byte[] bytes, int at, int length, boolean isSecond) {
        int from = at + DICTIONARY_FIXED;
        return new SegmentHead(
                new ZstdDictionary(Arrays.copyOfRange(bytes, from, from + length)),
                secondCopy(bytes, at) + DICTIONARY_FIXED + length,
                isSecond);
    }

    /** The length of the dictionary that seems to begin there; otherwise 0. */
    private static int dictionaryLength(byte[] bytes, int at) {
        if (bytes.length - at < DICTIONARY_FIXED) {
            return 0;
        }
        ByteBuffer in = ByteBuffer.wrap(bytes);
        int length = in.getInt(at + 4);
        return in.getInt(at) == DICTIONARY_MAGIC && length > 0 && length <= MAX_DICTIONARY ? length : 0;
    }

    /** Where the second copy is, according to one of them. */
    private static int secondCopy(byte[] bytes, int at) {
        return ByteBuffer.wrap(bytes).getInt(at + 8);
    }

    private static boolean isDictionary(byte[] bytes, int at, int length, int segment) {
        return length <= bytes.length - at - DICTIONARY_FIXED
                && ByteBuffer.wrap(bytes).getInt(at + 12) == dictionaryCrc(bytes, at, length, segment);
    }

    private static int dictionaryCrc(byte[] bytes, int at, int length, int segment) {
        CRC32C crc = new CRC32C();
        crc.update(ByteBuffer.allocate(8)
                .putInt(segment)
                .putInt(at + DICTIONARY_FIXED)
                .flip());
        crc.update(bytes, at + 4, 8);
        crc.update(bytes, at + DICTIONARY_FIXED, length);
        return (int) crc.getValue();
    }
}
