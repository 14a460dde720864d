package io.batchpersistence;

/** The compression of encoded entries. */
public enum Compression {
    /** No compression. */
    NONE,
    /**
     * Zstandard (RFC 8878), level 1: on log batches higher levels cost more than they save. Needs a native library,
     * which is loaded on first use.
     */
    ZSTD
}
