package io.batchpersistence.internal.codec;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.log.LogSanitizer;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The entries of a batch, encoded and compressed.
 *
 * @param bytes some bytes that are free, for what a store writes in front of it, and the payload
 * @param compression how it is compressed: not at all if that would gain nothing
 * @param dictionary with which dictionary
 * @param rawLength bytes before compression
 */
// Never compared, never shown.
@SuppressWarnings("ArrayRecordComponent")
public record EncodedPayload(
        byte[] bytes, Compression compression, @Nullable ZstdDictionary dictionary, int rawLength) {

    /**
     * Bytes below which compressing without a dictionary gains next to nothing, and takes a third of the time of
     * persisting: one entry with four labels is 235 bytes before compression, and 233 after it.
     */
    private static final int MIN_COMPRESSED = 320;

    /** Chooses dictionaries. Thread-safe. */
    @FunctionalInterface
    public interface Dictionaries {

        /**
         * Chooses the dictionary for a payload.
         *
         * @param raw begins with the payload before compression; to be copied if it is kept
         * @param length bytes of the payload
         * @return {@code null} for none
         */
        @Nullable
        ZstdDictionary dictionaryFor(byte[] raw, int length);
    }

    /**
     * Encodes and compresses the entries of a batch.
     *
     * @param batchId its id, for the message of an exception
     * @param entries at least one
     * @param format how to encode them
     * @param compression how to compress that, if it is large enough
     * @param dictionaries which dictionary to compress it with; not asked if it is not compressed
     * @param room how many bytes to leave free in front
     * @return the payload
     * @throws IllegalArgumentException if it is too large to be read again
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public static EncodedPayload of(
            String batchId,
            List<LogEntry> entries,
            BatchFormat format,
            Compression compression,
            Dictionaries dictionaries,
            int room) {
        return Formats.codec(format).encode(entries, (bytes, length) -> {
            if (length > BatchLimits.MAX_BYTES) {
                throw tooLarge(batchId, entries, length, BatchLimits.MAX_BYTES, "before compression");
            }
            ZstdDictionary dictionary =
                    compression == Compression.ZSTD ? dictionaries.dictionaryFor(bytes, length) : null;
            if (dictionary != null) {
                byte[] compressed = Compressions.compress(dictionary, bytes, length, room);
                if (compressed.length - room < length) {
                    return new EncodedPayload(compressed, compression, dictionary, length);
                }
            }
            return withoutDictionary(bytes, length, dictionary == null ? compression : Compression.NONE, room);
        });
    }

    /**
     * Compresses the first bytes of an array without a dictionary.
     *
     * @param raw begins with the encoded entries
     * @param length bytes of them
     * @param compression how to compress them, if they are large enough
     * @param room how many bytes to leave free in front
     * @return the payload
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public static EncodedPayload withoutDictionary(byte[] raw, int length, Compression compression, int room) {
        Compression used = length < MIN_COMPRESSED ? Compression.NONE : compression;
        return new EncodedPayload(Compressions.compress(used, raw, length, room), used, null, length);
    }

    /**
     * Says that a batch is too large.
     *
     * @param batchId its id
     * @param entries its entries
     * @param size its size in bytes
     * @param limit the largest possible size in bytes
     * @param where where it has that size
     * @return to be thrown
     */
    public static IllegalArgumentException tooLarge(
            String batchId, List<LogEntry> entries, long size, int limit, String where) {
        return new IllegalArgumentException(
                "the batch '" + LogSanitizer.of(batchId) + "' has " + size + " bytes " + where
                        + ", but a batch can have at most " + limit + "; split its " + entries.size()
                        + " entries into several batches");
    }
}
