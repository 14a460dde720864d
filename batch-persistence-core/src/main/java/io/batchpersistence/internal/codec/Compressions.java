package io.batchpersistence.internal.codec;

import io.batchpersistence.Compression;

/**
 * Compresses encoded bytes. The numbers of the compressions are part of the storage format and never change their
 * meaning. Thread-safe.
 */
public final class Compressions {

    private Compressions() {}

    /**
     * Returns normally if the compression can be used in this process. To be called before accepting batches that will
     * be compressed.
     *
     * @param compression the compression
     * @throws io.batchpersistence.CompressionUnavailableException if it can't be used, with a remedy
     */
    public static void requireAvailable(Compression compression) {
        if (compression == Compression.ZSTD) {
            ZstdLibrary.load();
        }
    }

    /**
     * Compresses bytes.
     *
     * @param compression the compression
     * @param raw any bytes
     * @return the compressed bytes
     * @throws IllegalArgumentException if there are more bytes than can be compressed at once (about 2 GB)
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public static byte[] compress(Compression compression, byte[] raw) {
        return compress(compression, raw, raw.length, 0);
    }

    /** Compresses the first bytes of an array, into one that begins with some that are free. */
    static byte[] compress(Compression compression, byte[] raw, int length, int room) {
        return switch (compression) {
            case NONE -> {
                byte[] copy = new byte[room + length];
                System.arraycopy(raw, 0, copy, room, length);
                yield copy;
            }
            case ZSTD -> ZstdContexts.compress(raw, length, room);
        };
    }

    /**
     * Compresses the first bytes of an array with a dictionary, into one that begins with some that are free. The frame
     * has no magic number, content size or dictionary id: the record says all of that.
     */
    static byte[] compress(ZstdDictionary dictionary, byte[] raw, int length, int room) {
        return ZstdContexts.compress(dictionary, raw, length, room);
    }

    /**
     * Decompresses bytes that were compressed with a dictionary. Allocates at most {@code rawLength} bytes.
     *
     * @param dictionary the same dictionary
     * @param compressed exactly the compressed bytes
     * @param rawLength the length after decompression, not negative; checked by the caller
     * @return the raw bytes
     * @throws DamagedPayloadException if the bytes are not valid
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded; the bytes may be
     *     valid
     */
    public static byte[] decompress(ZstdDictionary dictionary, byte[] compressed, int rawLength) {
        return ZstdContexts.decompress(dictionary, compressed, rawLength);
    }

    /**
     * Decompresses bytes. Allocates at most {@code rawLength} bytes, and none if the compressed bytes declare another
     * length.
     *
     * @param compression the compression
     * @param compressed exactly the compressed bytes
     * @param rawLength the length after decompression, not negative; checked by the caller
     * @return the raw bytes; for {@link Compression#NONE} the same array
     * @throws DamagedPayloadException if the bytes are not valid
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded; the bytes may be
     *     valid
     */
    public static byte[] decompress(Compression compression, byte[] compressed, int rawLength) {
        return switch (compression) {
            case NONE -> {
                if (compressed.length != rawLength) {
                    throw new DamagedPayloadException(
                            "payload has " + compressed.length + " bytes instead of " + rawLength, null);
                }
                yield compressed;
            }
            case ZSTD -> ZstdContexts.decompress(compressed, rawLength);
        };
    }

    /**
     * Returns the number of a compression in a record.
     *
     * @param compression the compression
     * @return 0 to 127
     */
    public static int id(Compression compression) {
        return switch (compression) {
            case NONE -> 0;
            case ZSTD -> 1;
        };
    }

    /**
     * Finds a compression by its number.
     *
     * @param id the number in a record
     * @return the compression
     * @throws DamagedPayloadException if there is none with that number
     */
    public static Compression of(int id) {
        return switch (id) {
            case 0 -> Compression.NONE;
            case 1 -> Compression.ZSTD;
            default -> throw new DamagedPayloadException("unknown compression " + id, null);
        };
    }
}
