package io.batchpersistence.internal.segment;

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
 *     "BPD\1", u32 length, u32 CRC32C of: segment number, u32 offset of the dictionary's first byte, length, bytes; bytes
 * </pre>
 *
 * <p>The dictionary is there twice because without it no record can be read: damage in one place must not lose the
 * others. The copies share no block, 4 KiB or 512 bytes, of the device. The dictionary is in each segment, so that a
 * segment needs no other file.
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
    private static final int DICTIONARY_FIXED = 12;

    /** What a device may lose at once. Small dictionaries are in segments too small for large blocks. */
    private static final int SMALL_BLOCK = 512;

    private static final int LARGE_BLOCK = 4096;

    /** Bytes that cover the header of a usual first record. */
    private static final int FIRST_READ = 1024;

    static int size(@Nullable ZstdDictionary dictionary) {
        if (dictionary == null) {
            return SIZE;
        }
        int length = dictionary.bytes().length;
        return secondCopy(length) + DICTIONARY_FIXED + length;
    }

    /** Where the second copy of a dictionary of that length begins. */
    private static int secondCopy(int length) {
        int block = length < LARGE_BLOCK ? SMALL_BLOCK : LARGE_BLOCK;
        return (SIZE + DICTIONARY_FIXED + length + block - 1) / block * block;
    }

    static byte[] toBytes(int segment, @Nullable ZstdDictionary dictionary) {
        ByteBuffer out = ByteBuffer.allocate(size(dictionary)).put(MAGIC).putInt(segment);
        out.putInt(crc(out.array(), 0, SIZE - 4));
        if (dictionary != null) {
            putDictionary(out, segment, dictionary.bytes());
            out.position(secondCopy(dictionary.bytes().length));
            putDictionary(out, segment, dictionary.bytes());
        }
        return out.array();
    }

    private static void putDictionary(ByteBuffer out, int segment, byte[] dictionary) {
        int at = out.position() + DICTIONARY_FIXED;
        out.putInt(DICTIONARY_MAGIC).putInt(dictionary.length);
        out.putInt(dictionaryCrc(segment, at, dictionary, 0, dictionary.length)).put(dictionary);
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
                && ByteBuffer.wrap(header).getInt(SIZE - 4) == crc(header, 0, SIZE - 4);
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
        byte[] bytes = disk.read(path, 0, secondCopy(MAX_DICTIONARY) + DICTIONARY_FIXED + MAX_DICTIONARY);
        for (int at = SMALL_BLOCK; at < bytes.length; at += SMALL_BLOCK) {
            int second = dictionaryLength(bytes, at);
            if (second > 0 && at == secondCopy(second) && isDictionary(bytes, at, second, segment)) {
                return of(bytes, at, second, true);
            }
        }
        return new SegmentHead(null, SIZE, false);
    }

    private static SegmentHead of(byte[] bytes, int at, int length, boolean isSecond) {
        int from = at + DICTIONARY_FIXED;
        ZstdDictionary dictionary = new ZstdDictionary(Arrays.copyOfRange(bytes, from, from + length));
        return new SegmentHead(dictionary, size(dictionary), isSecond);
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

    private static boolean isDictionary(byte[] bytes, int at, int length, int segment) {
        int from = at + DICTIONARY_FIXED;
        return length <= bytes.length - from
                && ByteBuffer.wrap(bytes).getInt(at + 8) == dictionaryCrc(segment, from, bytes, from, length);
    }

    private static int dictionaryCrc(int segment, int offset, byte[] bytes, int from, int length) {
        CRC32C crc = new CRC32C();
        crc.update(ByteBuffer.allocate(12)
                .putInt(segment)
                .putInt(offset)
                .putInt(length)
                .flip());
        crc.update(bytes, from, length);
        return (int) crc.getValue();
    }

    private static int crc(byte[] bytes, int from, int length) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, from, length);
        return (int) crc.getValue();
    }
}
