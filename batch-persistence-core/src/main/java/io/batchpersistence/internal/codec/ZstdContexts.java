package io.batchpersistence.internal.codec;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdCompressCtx;
import com.github.luben.zstd.ZstdDecompressCtx;
import com.github.luben.zstd.ZstdException;
import io.batchpersistence.BatchPersistenceException;
import java.util.concurrent.ArrayBlockingQueue;
import org.jspecify.annotations.Nullable;

/**
 * Zstandard with pooled contexts, because creating one allocates and clears a few hundred kilobytes of native memory,
 * which for a batch costs more than the compression itself. Thread-safe.
 *
 * <p>At most as many contexts are kept as there are processors; they are not thread-local, because there may be a large
 * number of (virtual) threads and native memory is not garbage collected.
 */
final class ZstdContexts {

    static final int LEVEL = 1;

    /** A larger output buffer is not kept, so that one huge batch does not occupy memory for ever. */
    private static final int MAX_REUSED_BYTES = 1 << 20;

    /**
     * A block has at least 4 bytes and represents at most 128 KiB (RFC 8878, 3.1.1.2), which limits the compression
     * ratio.
     */
    private static final long MAX_RATIO = (128 << 10) / 4;

    private static final ArrayBlockingQueue<Compressor> COMPRESSORS = pool();
    private static final ArrayBlockingQueue<Decompressor> DECOMPRESSORS = pool();
    // Of their own, so that no context has to be reset for a payload without dictionary.
    private static final ArrayBlockingQueue<Compressor> DICTIONARY_COMPRESSORS = pool();
    private static final ArrayBlockingQueue<Decompressor> DICTIONARY_DECOMPRESSORS = pool();

    private ZstdContexts() {}

    private static <T> ArrayBlockingQueue<T> pool() {
        return new ArrayBlockingQueue<>(Runtime.getRuntime().availableProcessors());
    }

    /** Compresses to a frame that declares its length. */
    static byte[] compress(byte[] raw, int length, int room) {
        ZstdLibrary.require();
        return compressLoaded(raw, length, room);
    }

    static byte[] compressLoaded(byte[] raw, int length, int room) {
        return compress(COMPRESSORS, null, raw, length, room);
    }

    /** Compresses to a frame without the bytes that are the same in all frames, or repeat what the record says. */
    static byte[] compress(ZstdDictionary dictionary, byte[] raw, int length, int room) {
        ZstdLibrary.require();
        return compress(DICTIONARY_COMPRESSORS, dictionary, raw, length, room);
    }

    private static byte[] compress(
            ArrayBlockingQueue<Compressor> pool,
            @Nullable ZstdDictionary dictionary,
            byte[] raw,
            int length,
            int room) {
        Compressor compressor = pool.poll();
        if (compressor == null) {
            compressor = new Compressor(dictionary != null);
        }
        boolean kept = false;
        try {
            byte[] compressed = compressor.compress(dictionary, raw, length, room);
            kept = pool.offer(compressor);
            return compressed;
        } finally {
            if (!kept) {
                compressor.close();
            }
        }
    }

    static byte[] decompress(byte[] compressed, int rawLength) {
        ZstdLibrary.require();
        return decompressLoaded(compressed, rawLength);
    }

    static byte[] decompressLoaded(byte[] compressed, int rawLength) {
        long declared = compressed.length == 0 ? -1 : Zstd.getFrameContentSize(compressed);
        if (declared != rawLength) {
            // These frames declare their length, so nothing is allocated for a length that is wrong anyway.
            throw new DamagedPayloadException(
                    "payload is not a zstd frame of " + rawLength + " bytes (it declares " + declared + ")", null);
        }
        return decompress(DECOMPRESSORS, null, compressed, rawLength);
    }

    static byte[] decompress(ZstdDictionary dictionary, byte[] compressed, int rawLength) {
        ZstdLibrary.require();
        return decompress(DICTIONARY_DECOMPRESSORS, dictionary, compressed, rawLength);
    }

    private static byte[] decompress(
            ArrayBlockingQueue<Decompressor> pool,
            @Nullable ZstdDictionary dictionary,
            byte[] compressed,
            int rawLength) {
        if (rawLength > compressed.length * MAX_RATIO) {
            throw new DamagedPayloadException(
                    "payload of " + compressed.length + " bytes can't stand for " + rawLength, null);
        }
        Decompressor decompressor = pool.poll();
        if (decompressor == null) {
            decompressor = new Decompressor(dictionary != null);
        }
        boolean kept = false;
        try {
            byte[] raw = decompressor.decompress(dictionary, compressed, rawLength);
            kept = pool.offer(decompressor);
            return raw;
        } catch (ZstdException e) {
            if (e.getErrorCode() == Zstd.errMemoryAllocation()) {
                throw new BatchPersistenceException("there is no native memory left to decompress a batch", e);
            }
            throw new DamagedPayloadException("payload is not valid zstd: " + e.getMessage(), e);
        } finally {
            if (!kept) {
                decompressor.close();
            }
        }
    }

    private static final class Decompressor {

        private final ZstdDecompressCtx context = new ZstdDecompressCtx();
        private @Nullable ZstdDictionary loaded;

        Decompressor(boolean withDictionary) {
            context.setMagicless(withDictionary);
        }

        byte[] decompress(@Nullable ZstdDictionary dictionary, byte[] compressed, int rawLength) {
            if (dictionary != null && dictionary != loaded) {
                context.loadDict(dictionary.forDecompression());
                loaded = dictionary;
            }
            byte[] raw = new byte[rawLength];
            int length = context.decompressByteArray(raw, 0, rawLength, compressed, 0, compressed.length);
            if (length != rawLength) {
                throw new DamagedPayloadException("payload has " + length + " bytes instead of " + rawLength, null);
            }
            return raw;
        }

        void close() {
            context.close();
        }
    }

    private static final class Compressor {

        // No checksum: stored records have their own.
        private final ZstdCompressCtx context =
                new ZstdCompressCtx().setLevel(LEVEL).setChecksum(false);
        private @Nullable ZstdDictionary loaded;
        private byte[] output = {};

        Compressor(boolean withDictionary) {
            context.setContentSize(!withDictionary).setDictID(!withDictionary).setMagicless(withDictionary);
        }

        byte[] compress(@Nullable ZstdDictionary dictionary, byte[] raw, int rawLength, int room) {
            long bound = Zstd.compressBound(rawLength);
            if (bound > Integer.MAX_VALUE - 8 - room) {
                throw new IllegalArgumentException("payload of " + rawLength
                        + " bytes is too large to be compressed; send the entries in smaller batches");
            }
            if (dictionary != null && dictionary != loaded) {
                context.loadDict(dictionary.forCompression());
                loaded = dictionary;
            }
            if (output.length < bound) {
                output = new byte[(int) bound];
            }
            int length = context.compressByteArray(output, 0, output.length, raw, 0, rawLength);
            byte[] compressed = new byte[room + length];
            System.arraycopy(output, 0, compressed, room, length);
            if (output.length > MAX_REUSED_BYTES) {
                output = new byte[0];
            }
            return compressed;
        }

        void close() {
            context.close();
        }
    }
}
