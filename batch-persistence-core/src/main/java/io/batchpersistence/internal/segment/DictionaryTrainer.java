package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.codec.EncodedPayload;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.store.PayloadLog.MaintenanceTask;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Trains dictionaries from the store's own traffic. The first is trained as soon as there are enough samples, and from
 * time to time another one, since logs change. Until then payloads are compressed without. Thread-safe.
 */
final class DictionaryTrainer implements EncodedPayload.Dictionaries {

    private static final Logger log = LogSanitizer.logger(DictionaryTrainer.class);

    /** Fills the first four blocks of a segment. Twice as much gains 2 % of a batch of one entry, and nothing of others. */
    private static final int MAX_BYTES = (16 << 10) - 32;

    /** Bytes below which a dictionary has no room for anything useful. */
    private static final int MIN_BYTES = 1 << 10;

    /** How many times its size in samples a dictionary is trained from. */
    private static final int SAMPLES = 64;

    /** Payloads above this size have enough of their own to refer to. */
    private static final int MAX_PAYLOAD_BYTES = 64 << 10;

    /** Bytes of payloads after which the dictionary is renewed, from one of so many payloads. */
    private static final long RENEWAL_BYTES = 256L << 20;

    private static final int RENEWAL_SAMPLING = 16;

    /** The same after a start: otherwise a process that is often started again would never renew it. */
    private static final long RENEWAL_BYTES_AFTER_START = RENEWAL_BYTES / 16;

    private final int limit;
    private final int size;

    private volatile @Nullable ZstdDictionary current;
    private final AtomicLong untilSampling = new AtomicLong();
    private volatile boolean due;

    private final ReentrantLock lock = new ReentrantLock();
    // Guarded by the lock.
    private List<byte[]> samples = new ArrayList<>();
    private int sampledBytes;
    private int skipped;

    /**
     * Starts without a dictionary.
     *
     * @param segmentSize bytes of the segments that the dictionaries are for; 0 to have none
     */
    DictionaryTrainer(long segmentSize) {
        // Each segment has two copies: a fraction of a segment each.
        this.limit = (int) Math.min(segmentSize / 4, SegmentHead.MAX_DICTIONARY);
        int bytes = (int) Math.min(segmentSize / 64, MAX_BYTES);
        this.size = bytes < MIN_BYTES ? 0 : bytes;
    }

    /** Uses a dictionary that an earlier process has trained. */
    void adopt(ZstdDictionary dictionary) {
        if (dictionary.bytes().length <= limit && dictionary.prepare()) {
            current = dictionary;
            untilSampling.set(RENEWAL_BYTES_AFTER_START);
        }
    }

    /** The one that a new segment begins with. */
    @Nullable
    ZstdDictionary current() {
        return current;
    }

    @Override
    public @Nullable ZstdDictionary dictionaryFor(byte[] raw, int length) {
        if (length > MAX_PAYLOAD_BYTES) {
            return null;
        }
        if (size > 0 && !due && untilSampling.addAndGet(-length) < 0) {
            sample(raw, length);
        }
        return current;
    }

    private void sample(byte[] raw, int length) {
        // Another thread's sample will do.
        if (!lock.tryLock()) {
            return;
        }
        try {
            if (due || (current != null && ++skipped % RENEWAL_SAMPLING != 0)) {
                return;
            }
            byte[] sample = new byte[length];
            System.arraycopy(raw, 0, sample, 0, length);
            samples.add(sample);
            sampledBytes += length;
            due = sampledBytes >= size * SAMPLES;
        } finally {
            lock.unlock();
        }
    }

    /** Whether there are enough samples; cheap to call. */
    boolean isTrainingDue() {
        return due;
    }

    /** The training of a dictionary; {@code null} if none is due. */
    @Nullable
    MaintenanceTask nextTraining() {
        return due ? new Training(takeSamples()) : null;
    }

    private List<byte[]> takeSamples() {
        lock.lock();
        try {
            List<byte[]> taken = samples;
            samples = new ArrayList<>();
            sampledBytes = 0;
            return taken;
        } finally {
            lock.unlock();
        }
    }

    private final class Training implements MaintenanceTask {

        private final List<byte[]> samples;
        private @Nullable ZstdDictionary trained;

        Training(List<byte[]> samples) {
            this.samples = samples;
        }

        @Override
        public void run() {
            try {
                trained = ZstdDictionary.train(samples, size);
            } catch (RuntimeException | Error e) {
                log.warn("No dictionary could be trained; payloads are compressed as before", e);
            }
        }

        @Override
        public void finish() {
            if (trained != null) {
                current = trained;
            }
            untilSampling.set(RENEWAL_BYTES);
            due = false;
        }
    }
}
