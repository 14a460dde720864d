package io.batchpersistence.internal.codec;

import io.batchpersistence.LogEntry;
import java.util.Arrays;
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
    default byte[] encode(List<LogEntry> entries) {
        return encode(entries, Arrays::copyOf);
    }

    /**
     * Encodes entries, and passes the encoding on without a copy of its own.
     *
     * @param entries at least one
     * @param receiver called once, with the encoded bytes, which it must not keep
     * @param <T> what becomes of them
     * @return what the receiver returned
     * @throws IllegalArgumentException if the encoding is larger than an array can be, or could not be read again
     */
    <T> T encode(List<LogEntry> entries, Receiver<T> receiver);

    /**
     * Receives an encoding.
     *
     * @param <T> what becomes of it
     */
    @FunctionalInterface
    interface Receiver<T> {
        /**
         * Receives an encoding.
         *
         * @param bytes the encoding, and perhaps more behind it
         * @param length how many of the bytes are the encoding
         * @return what becomes of it
         */
        T receive(byte[] bytes, int length);
    }

    /**
     * Decodes what {@link #encode} of this or any earlier version returned. Skips what it does not know.
     *
     * @param bytes exactly the encoded bytes
     * @return entries equal to those encoded
     * @throws DamagedPayloadException if the bytes are not a valid encoding; no other exception is thrown
     */
    List<LogEntry> decode(byte[] bytes);
}
