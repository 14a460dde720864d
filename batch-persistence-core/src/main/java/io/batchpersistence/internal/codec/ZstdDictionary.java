package io.batchpersistence.internal.codec;

import com.github.luben.zstd.ZstdDictCompress;
import com.github.luben.zstd.ZstdDictDecompress;
import com.github.luben.zstd.ZstdDictTrainer;
import com.github.luben.zstd.ZstdException;
import io.batchpersistence.BatchPersistenceException;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A zstd dictionary: what payloads of a store have in common, so that a small one need not repeat it. Immutable,
 * thread-safe.
 */
public final class ZstdDictionary {

    private final byte[] bytes;
    // Native memory, which zstd-jni releases when this object is garbage. Two threads may both load it: one is dropped.
    private volatile @Nullable ZstdDictCompress forCompression;
    private volatile @Nullable ZstdDictDecompress forDecompression;

    /**
     * Wraps the bytes of a dictionary.
     *
     * @param bytes in zstd's own format (RFC 8878, 5); not copied
     */
    public ZstdDictionary(byte[] bytes) {
        this.bytes = bytes;
    }

    /**
     * Trains a dictionary.
     *
     * @param samples typical payloads before compression, at least eight
     * @param size limit on its size in bytes
     * @return a dictionary ready for use; {@code null} if zstd finds nothing in common
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public static @Nullable ZstdDictionary train(List<byte[]> samples, int size) {
        ZstdLibrary.require();
        int total = samples.stream().mapToInt(sample -> sample.length).sum();
        ZstdDictTrainer trainer = new ZstdDictTrainer(total, size, ZstdContexts.LEVEL);
        samples.forEach(trainer::addSample);
        try {
            ZstdDictionary trained = new ZstdDictionary(trainer.trainSamples());
            return trained.prepare() ? trained : null;
        } catch (ZstdException e) {
            return null;
        }
    }

    /**
     * Its content.
     *
     * @return the array itself, not to be changed
     */
    public byte[] bytes() {
        return bytes;
    }

    /**
     * Prepares compressing with it, so that nothing can go wrong later.
     *
     * @return whether it can be used
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public boolean prepare() {
        ZstdLibrary.require();
        try {
            forCompression();
            return true;
        } catch (IllegalStateException e) {
            return false;
        }
    }

    ZstdDictCompress forCompression() {
        ZstdDictCompress loaded = forCompression;
        if (loaded == null) {
            loaded = new ZstdDictCompress(bytes, ZstdContexts.LEVEL);
            forCompression = loaded;
        }
        return loaded;
    }

    ZstdDictDecompress forDecompression() {
        ZstdDictDecompress loaded = forDecompression;
        if (loaded == null) {
            loaded = load();
            forDecompression = loaded;
        }
        return loaded;
    }

    private ZstdDictDecompress load() {
        try {
            return new ZstdDictDecompress(bytes);
        } catch (IllegalStateException e) {
            if (isMemoryLeft()) {
                throw new DamagedPayloadException("its dictionary is not one of zstd", e);
            }
            // Not damage: the batch can be read when there is memory again.
            throw new BatchPersistenceException("there is no native memory left for a dictionary", e);
        }
    }

    /** zstd does not tell why it can't load a dictionary, but it takes any bytes that don't look like one. */
    private static boolean isMemoryLeft() {
        try {
            new ZstdDictDecompress(new byte[8]).close();
            return true;
        } catch (IllegalStateException e) {
            return false;
        }
    }
}
