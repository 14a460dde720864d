package io.batchpersistence.internal.store;

import java.nio.BufferOverflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The frames of a state journal, written one after the other into memory. Numbers are big-endian.
 *
 * <pre>
 *  0        1        2                4                         8
 * ┌────────┬────────┬────────────────┬─────────────────────────┬───────────────┐
 * │ marker │  kind  │ body length    │ CRC32C of generation,   │ body          │
 * │  0xB5  │        │ (unsigned 16)  │ kind, length and body   │               │
 * └────────┴────────┴────────────────┴─────────────────────────┴───────────────┘
 *
 * kind            body
 * 1 COLLECTOR     u32 number, UTF-8 name                     names a collector type for this file
 * 2 SETTLED       u64 sequence, u32 collector, u8 cause      the batch is gone
 * 3 PENDING       u64 sequence, u64 since, u32 retries, u64 last attempt, u64 due, UTF-8 reason
 * 4 DEAD          u64 sequence, u64 since, u32 retries, u64 last attempt, UTF-8 reason
 * 5 COUNTERS      u32 collector, u64 accepted, delivered, expired, evicted, discarded, corrupt
 * 6 CHECKPOINT    u64 sequence    the COUNTERS frames before it hold, for batches up to that sequence
 * 7 GONE          u64 sequences   batches that are gone although their bytes may still be there
 * 8 SNAPSHOT_END  u64 sequence    the frames before it are a whole snapshot; the next batch gets that sequence
 * 9 FILE_END      u32 file, u64 offset      what is in that payload file from there on was never accepted
 * </pre>
 *
 * Times are milliseconds since 1970; 2^63-1 in last attempt: none has failed; in due: not by itself. An empty reason: none.
 */
final class JournalFrames {

    static final int HEADER = 8;
    static final byte MARKER = (byte) 0xB5;
    static final int MAX_BODY = 0xFFFF;

    static final byte COLLECTOR = 1;
    static final byte SETTLED = 2;
    static final byte PENDING = 3;
    static final byte DEAD = 4;
    static final byte COUNTERS = 5;
    static final byte CHECKPOINT = 6;
    static final byte GONE = 7;
    static final byte SNAPSHOT_END = 8;
    static final byte FILE_END = 9;

    private static final int GONE_PER_FRAME = 4_096;

    private final long generation;
    private ByteBuffer buffer = ByteBuffer.allocate(1 << 12);

    JournalFrames(long generation) {
        this.generation = generation;
    }

    boolean isEmpty() {
        return buffer.position() == 0;
    }

    int length() {
        return buffer.position();
    }

    byte[] array() {
        return buffer.array();
    }

    void clear() {
        if (buffer.capacity() > 1 << 20) {
            buffer = ByteBuffer.allocate(1 << 12);
        }
        buffer.clear();
    }

    void collector(int number, String name) {
        byte[] text = name.getBytes(StandardCharsets.UTF_8);
        int start = begin(COLLECTOR, 4 + text.length);
        buffer.putInt(number).put(text);
        end(start);
    }

    void settled(long sequence, int collector, Cause cause) {
        int start = begin(SETTLED, 13);
        buffer.putLong(sequence).putInt(collector).put((byte) cause.id());
        end(start);
    }

    void pending(long sequence, long since, int retries, long lastAttempt, long due, @Nullable String reason) {
        byte[] text = bytes(reason);
        int start = begin(PENDING, 36 + text.length);
        buffer.putLong(sequence)
                .putLong(since)
                .putInt(retries)
                .putLong(lastAttempt)
                .putLong(due)
                .put(text);
        end(start);
    }

    void dead(long sequence, long since, int retries, long lastAttempt, @Nullable String reason) {
        byte[] text = bytes(reason);
        int start = begin(DEAD, 28 + text.length);
        buffer.putLong(sequence)
                .putLong(since)
                .putInt(retries)
                .putLong(lastAttempt)
                .put(text);
        end(start);
    }

    void counters(int collector, Counters counters) {
        int start = begin(COUNTERS, 12 + 8 * Cause.values().length);
        buffer.putInt(collector).putLong(counters.accepted);
        for (Cause cause : Cause.values()) {
            buffer.putLong(counters.gone(cause));
        }
        end(start);
    }

    void checkpoint(long sequence) {
        one(CHECKPOINT, sequence);
    }

    void gone(long[] sequences) {
        for (int from = 0; from < sequences.length; from += GONE_PER_FRAME) {
            int to = Math.min(sequences.length, from + GONE_PER_FRAME);
            int start = begin(GONE, 8 * (to - from));
            for (int i = from; i < to; i++) {
                buffer.putLong(sequences[i]);
            }
            end(start);
        }
    }

    void snapshotEnd(long nextSequence) {
        one(SNAPSHOT_END, nextSequence);
    }

    void fileEnd(int file, long offset) {
        int start = begin(FILE_END, 12);
        buffer.putInt(file).putLong(offset);
        end(start);
    }

    private void one(byte kind, long value) {
        int start = begin(kind, 8);
        buffer.putLong(value);
        end(start);
    }

    private static byte[] bytes(@Nullable String text) {
        return text == null ? new byte[0] : text.getBytes(StandardCharsets.UTF_8);
    }

    private int begin(byte kind, int bodyLength) {
        if (bodyLength > MAX_BODY) {
            throw new BufferOverflowException(); // names and reasons are bounded where they come in
        }
        int needed = buffer.position() + HEADER + bodyLength;
        if (needed > buffer.capacity()) {
            buffer =
                    ByteBuffer.allocate(Math.max(needed, buffer.capacity() * 2)).put(buffer.flip());
        }
        int start = buffer.position();
        buffer.put(MARKER).put(kind).putShort((short) bodyLength).putInt(0);
        return start;
    }

    private void end(int start) {
        buffer.putInt(start + 4, crc(generation, buffer.array(), start, buffer.position() - start));
    }

    static int crc(long generation, byte[] bytes, int start, int length) {
        CRC32C crc = new CRC32C();
        crc.update(ByteBuffer.allocate(8).putLong(0, generation));
        crc.update(bytes, start + 1, 3);
        crc.update(bytes, start + HEADER, length - HEADER);
        return (int) crc.getValue();
    }

    /** The frame's length if a whole, undamaged one begins there, else 0. */
    static int validLength(long generation, byte[] bytes, int start) {
        if (bytes.length - start < HEADER || bytes[start] != MARKER) {
            return 0;
        }
        ByteBuffer view = ByteBuffer.wrap(bytes);
        int length = HEADER + (view.getShort(start + 2) & MAX_BODY);
        return length <= bytes.length - start && view.getInt(start + 4) == crc(generation, bytes, start, length)
                ? length
                : 0;
    }

    static String text(ByteBuffer rest) {
        return StandardCharsets.UTF_8.decode(rest).toString();
    }

    /** A body cut out of a file, for reading. */
    static ByteBuffer body(byte[] bytes, int start, int length) {
        return ByteBuffer.wrap(Arrays.copyOfRange(bytes, start + HEADER, start + length));
    }
}
