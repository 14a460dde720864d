package io.batchpersistence;

/**
 * The volume of a set of batches. Immutable.
 *
 * @param entries log entries in them
 * @param bytes bytes of their payloads on disk
 */
public record BatchVolume(long entries, long bytes) {

    /** No entries and no bytes. */
    public static final BatchVolume NONE = new BatchVolume(0, 0);

    /**
     * Adds up.
     *
     * @param other another one
     * @return the sum
     */
    public BatchVolume plus(BatchVolume other) {
        return new BatchVolume(entries + other.entries, bytes + other.bytes);
    }
}
