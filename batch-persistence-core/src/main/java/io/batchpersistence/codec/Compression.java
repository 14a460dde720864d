package io.batchpersistence.codec;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdException;

/** How encoded bytes are made smaller. The number is part of the storage format and never changes its meaning. */
public enum Compression {
    /** As they are. */
    NONE(0) {
        @Override
        public byte[] compress(byte[] raw) {
            return raw;
        }

        @Override
        public byte[] decompress(byte[] compressed, int rawLength) {
            if (compressed.length != rawLength) {
                throw new DamagedPayloadException(
                        "payload has " + compressed.length + " bytes instead of " + rawLength, null);
            }
            return compressed;
        }
    },
    /** Zstandard (RFC 8878), level 1: on log batches higher levels cost more than they save. */
    ZSTD(1) {
        @Override
        public byte[] compress(byte[] raw) {
            return Zstd.compress(raw, 1);
        }

        @Override
        public byte[] decompress(byte[] compressed, int rawLength) {
            byte[] raw;
            try {
                raw = Zstd.decompress(compressed, rawLength);
            } catch (ZstdException e) {
                throw new DamagedPayloadException("payload is not valid zstd: " + e.getMessage(), e);
            }
            if (raw.length != rawLength) {
                throw new DamagedPayloadException(
                        "payload has " + raw.length + " bytes instead of " + rawLength, null);
            }
            return raw;
        }
    };

    private final int id;

    Compression(int id) {
        this.id = id;
    }

    /**
     * Its number in a record.
     *
     * @return 0 to 127
     */
    public int id() {
        return id;
    }

    /**
     * Compresses.
     *
     * @param raw any bytes
     * @return the compressed bytes; for {@link #NONE} the same array
     */
    public abstract byte[] compress(byte[] raw);

    /**
     * Decompresses.
     *
     * @param compressed exactly the compressed bytes
     * @param rawLength how many bytes they stand for
     * @return the raw bytes; for {@link #NONE} the same array
     * @throws DamagedPayloadException if they are not such bytes
     */
    public abstract byte[] decompress(byte[] compressed, int rawLength);

    /**
     * By number.
     *
     * @param id the number in a record
     * @return the compression
     * @throws DamagedPayloadException if there is none with that number
     */
    public static Compression of(int id) {
        for (Compression compression : values()) {
            if (compression.id == id) {
                return compression;
            }
        }
        throw new DamagedPayloadException("unknown compression " + id, null);
    }
}
