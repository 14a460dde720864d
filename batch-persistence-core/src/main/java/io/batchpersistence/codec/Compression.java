package io.batchpersistence.codec;

/**
 * How encoded bytes are made smaller. The number is part of the storage format and never changes its meaning. Thread-safe.
 */
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
    /**
     * Zstandard (RFC 8878), level 1: on log batches higher levels cost more than they save. Needs a native library, which is
     * loaded when it is first needed.
     */
    ZSTD(1) {
        @Override
        public void requireAvailable() {
            ZstdLibrary.load();
        }

        @Override
        public byte[] compress(byte[] raw) {
            return ZstdContexts.compress(raw);
        }

        @Override
        public byte[] decompress(byte[] compressed, int rawLength) {
            return ZstdContexts.decompress(compressed, rawLength);
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
     * Returns if it can be used in this process. To be asked before batches are taken that are to be compressed.
     *
     * @throws io.batchpersistence.CompressionUnavailableException if not, with what to do
     */
    public void requireAvailable() {}

    /**
     * Compresses.
     *
     * @param raw any bytes
     * @return the compressed bytes; for {@link #NONE} the same array
     * @throws IllegalArgumentException if they are more than can be compressed at once (about 2 GB)
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public abstract byte[] compress(byte[] raw);

    /**
     * Decompresses. Allocates at most {@code rawLength} bytes, and none if the compressed bytes say they stand for another
     * number.
     *
     * @param compressed exactly the compressed bytes
     * @param rawLength how many bytes they stand for, not negative; checked by the caller
     * @return the raw bytes; for {@link #NONE} the same array
     * @throws DamagedPayloadException if they are not such bytes
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded; the bytes may be good
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
