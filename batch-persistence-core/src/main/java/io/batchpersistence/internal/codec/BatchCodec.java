package io.batchpersistence.internal.codec;

import io.batchpersistence.LogEntry;
import java.util.List;

/** Turns entries into bytes and back. Thread-safe. */
public interface BatchCodec {

    /**
     * Encodes entries.
     *
     * @param entries at least one
     * @return the encoded bytes
     * @throws IllegalArgumentException if the encoding is larger than an array can be
     */
    byte[] encode(List<LogEntry> entries);

    /**
     * Decodes what {@link #encode} of this or any earlier version returned. Skips what it does not know.
     *
     * @param bytes exactly the encoded bytes
     * @return entries equal to those encoded
     * @throws DamagedPayloadException if the bytes are not a valid encoding; no other exception is thrown
     */
    List<LogEntry> decode(byte[] bytes);
}
