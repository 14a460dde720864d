package io.batchpersistence.internal.codec;

import com.github.luben.zstd.ZstdDictCompress;
import com.github.luben.zstd.ZstdDictDecompress;
import com.github.luben.zstd.ZstdDictTrainer;
import com.github.luben.zstd.ZstdException;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A zstd dictionary: what payloads of a store have in common, so that a small one need not repeat it. Immutable,
 * thread-safe.
 */
public final class ZstdDictionary {

    private final byte[] bytes;
    private final ReentrantLock lock = new ReentrantLock();
    // Native memory, which is released when this object is garbage. Guarded by the lock for writing.
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
     * @return the dictionary; {@code null} if zstd finds nothing in common
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public static @Nullable ZstdDictionary train(List<byte[]> samples, int size) {
        ZstdLibrary.require();
        int total = samples.stream().mapToInt(sample -> sample.length).sum();
        ZstdDictTrainer trainer = new ZstdDictTrainer(total, size, ZstdContexts.LEVEL);
        samples.forEach(trainer::addSample);
        try {
            return new ZstdDictionary(trainer.trainSamples());
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

    ZstdDictCompress forCompression() {
        ZstdDictCompress loaded = forCompression;
        if (loaded != null) {
            return loaded;
        }
        lock.lock();
        try {
            loaded = forCompression;
            if (loaded == null) {
                loaded = new ZstdDictCompress(bytes, ZstdContexts.LEVEL);
                forCompression = loaded;
            }
            return loaded;
        } finally {
            lock.unlock();
        }
    }

    ZstdDictDecompress forDecompression() {
        ZstdDictDecompress loaded = forDecompression;
        if (loaded != null) {
            return loaded;
        }
        lock.lock();
        try {
            loaded = forDecompression;
            if (loaded == null) {
                loaded = new ZstdDictDecompress(bytes);
                forDecompression = loaded;
            }
            return loaded;
        } catch (IllegalStateException e) {
            throw new DamagedPayloadException("its dictionary is not one of zstd", e);
        } finally {
            lock.unlock();
        }
    }
}
