package io.batchpersistence;

/**
 * How much there is in some batches. Immutable.
 *
 * @param entries log entries in them
 * @param bytes of their payloads on disk
 */
public record BatchVolume(long entries, long bytes) {

    /** Nothing at all. */
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
