package io.batchpersistence;

/** When bytes are forced to the device. */
public enum SyncPolicy {
    /** Before {@code persistBatch} returns; callers that wait at the same time share one force (group commit). */
    ALWAYS,
    /** Every sync interval: a power cut loses up to that much; a killed process loses nothing. */
    INTERVAL,
    /** When the operating system decides to: a power cut may lose any amount; a killed process loses nothing. */
    NEVER
}
