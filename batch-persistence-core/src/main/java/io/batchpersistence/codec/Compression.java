package io.batchpersistence.codec;

/**
 * The compression of encoded bytes. The number is part of the storage format and never changes its meaning.
 * Thread-safe.
 */
public enum Compression {
    /** No compression. */
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
     * Zstandard (RFC 8878), level 1: on log batches higher levels cost more than they save. Needs a native library,
     * which is loaded on first use.
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
     * Returns its number in a record.
     *
     * @return 0 to 127
     */
    public int id() {
        return id;
    }

    /**
     * Returns normally if the compression can be used in this process. To be called before accepting batches that will
     * be compressed.
     *
     * @throws io.batchpersistence.CompressionUnavailableException if it can't be used, with a remedy
     */
    public void requireAvailable() {}

    /**
     * Compresses bytes.
     *
     * @param raw any bytes
     * @return the compressed bytes; for {@link #NONE} the same array
     * @throws IllegalArgumentException if there are more bytes than can be compressed at once (about 2 GB)
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded
     */
    public abstract byte[] compress(byte[] raw);

    /**
     * Decompresses bytes. Allocates at most {@code rawLength} bytes, and none if the compressed bytes declare another
     * length.
     *
     * @param compressed exactly the compressed bytes
     * @param rawLength the length after decompression, not negative; checked by the caller
     * @return the raw bytes; for {@link #NONE} the same array
     * @throws DamagedPayloadException if the bytes are not valid
     * @throws io.batchpersistence.CompressionUnavailableException if a native library can't be loaded; the bytes may be
     *     valid
     */
    public abstract byte[] decompress(byte[] compressed, int rawLength);

    /**
     * Finds a compression by its number.
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
