package io.batchpersistence.codec;

import io.batchpersistence.LogEntry;
import java.util.List;

/** Turns entries into bytes and back. Thread-safe. */
public interface BatchCodec {

    /**
     * Encodes.
     *
     * @param entries at least one
     * @return the bytes
     * @throws IllegalArgumentException if they are more than an array can hold
     */
    byte[] encode(List<LogEntry> entries);

    /**
     * Decodes what {@link #encode} made, now or in any earlier version. What it doesn't know, it skips.
     *
     * @param bytes exactly the bytes
     * @return entries equal to those encoded
     * @throws DamagedPayloadException if they are not such bytes; never another exception
     */
    List<LogEntry> decode(byte[] bytes);
}
