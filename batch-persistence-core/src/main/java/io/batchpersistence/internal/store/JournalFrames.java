package io.batchpersistence.internal.store;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.internal.spi.RemovalReason;
import io.batchpersistence.spi.NewBatch;
import java.nio.BufferOverflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The frames of a state journal, written one after the other into memory. Numbers are big-endian. Not thread-safe.
 *
 * <pre>
 *  0        1        2                4                         8
 * ┌────────┬────────┬────────────────┬─────────────────────────┬───────────────┐
 * │ marker │  kind  │ body length    │ CRC32C of generation,   │ body          │
 * │  0xB5  │        │ (unsigned 16)  │ kind, length and body   │               │
 * └────────┴────────┴────────────────┴─────────────────────────┴───────────────┘
 *
 * kind            body
 *  1 SETTLED      u64 sequence, u8 cause, UTF-8 collector type               the batch is gone
 *  2 WITHDRAWN    u64 sequence, UTF-8 collector type         the batch is gone, and counts as never accepted
 *  3 PENDING      u64 sequence, u64 since, u32 retries, u64 last attempt, u64 due, u32 reason
 *  4 DEAD         u64 sequence, u64 since, u32 retries, u64 last attempt, u32 reason
 *  5 EARLIER      u64 sequence, up to four times: u64 time, u32 reason      the failures before the last attempt
 *  6 REASON       u32 number, UTF-8 text    names a reason for this file, until the number is given to another one
 *  7 GONE         u64 sequences   batches that are gone, or were refused, although their bytes may be there
 *  8 COUNTERS     u64 accepted, delivered, expired, evicted, discarded, corrupt, UTF-8 collector type
 *  9 CHECKPOINT   u64 sequence    the COUNTERS frames before it hold, for batches up to that sequence
 * 10 FORGOTTEN    UTF-8 collector type            no batch of it is held; its counters are part of those of "other" from here on
 * 11 PAUSED       u8 1 or 0, UTF-8 collector type            whether an operator has paused the collector type
 * 12 FILES        u32 file        payload files have had numbers up to this one, which are not assigned again
 * 13 FILE_END     u32 file, u64 offset, u64 sequence      what is in that payload file from there on was never accepted, if it is
 *                                 the same file: no batch in it has a higher sequence
 * 14 SNAPSHOT_END u64 sequence    the frames before it are a whole snapshot; the next batch gets that sequence
 * </pre>
 *
 * Times are milliseconds since 1970; 2^63-1 in last attempt: none has failed; in due: not automatically. Reason 0:
 * none.
 *
 * <p>A collector type is written out in every frame that affects counters: a power cut may destroy any frame that was
 * not forced and leave those behind it, and what is left must not be counted for another type.
 *
 * <p>A reason is written once for all batches that share it: in an outage a million batches may have failed with the
 * same page of HTML.
 */
final class JournalFrames {

    static final int HEADER = 8;
    static final byte MARKER = (byte) 0xB5;
    static final int MAX_BODY = 0xFFFF;

    static final byte SETTLED = 1;
    static final byte WITHDRAWN = 2;
    static final byte PENDING = 3;
    static final byte DEAD = 4;
    static final byte EARLIER = 5;
    static final byte REASON = 6;
    static final byte GONE = 7;
    static final byte COUNTERS = 8;
    static final byte CHECKPOINT = 9;
    static final byte FORGOTTEN = 10;
    static final byte PAUSED = 11;
    static final byte FILES = 12;
    static final byte FILE_END = 13;
    static final byte SNAPSHOT_END = 14;

    private static final int GONE_PER_FRAME = 4_096;

    private final byte[] generation;
    private final Reasons reasons;
    private ByteBuffer buffer = ByteBuffer.allocate(1 << 12);

    /**
     * The numbers of a file's reasons. Shared by all frames that go into one file, in the order in which they are
     * written.
     */
    static final class Reasons {

        /**
         * Limit on the reasons of one file that are known at a time. A number is four bytes, but readers have to
         * remember the reasons.
         */
        static final int MAX = 4_096;

        private final Map<String, Integer> numbers = new HashMap<>();

        /** Forgets all numbers: what is written from here on may be read without what was written before. */
        void clear() {
            numbers.clear();
        }
    }

    JournalFrames(long generation, Reasons reasons) {
        this.generation = seed(generation);
        this.reasons = reasons;
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

    /** The number of a reason. Writes a frame that names the reason first, if there is none yet. */
    private int reason(@Nullable String reason) {
        if (reason == null || reason.isEmpty()) {
            return 0;
        }
        Integer known = reasons.numbers.get(reason);
        if (known != null) {
            return known;
        }
        if (reasons.numbers.size() == Reasons.MAX) {
            reasons.numbers.clear();
        }
        int number = reasons.numbers.size() + 1;
        byte[] text = reason.getBytes(StandardCharsets.UTF_8);
        int start = begin(REASON, 4 + text.length);
        buffer.putInt(number).put(text);
        end(start);
        reasons.numbers.put(reason, number);
        return number;
    }

    void settled(long sequence, BatchIndex.Type type, RemovalReason reason) {
        byte[] name = name(type);
        int start = begin(SETTLED, 9 + name.length);
        buffer.putLong(sequence).put((byte) reason.id()).put(name);
        end(start);
    }

    /** The batch is gone: another store holds and counts it now. */
    void withdrawn(long sequence, BatchIndex.Type type) {
        byte[] name = name(type);
        int start = begin(WITHDRAWN, 8 + name.length);
        buffer.putLong(sequence).put(name);
        end(start);
    }

    /** The type is forgotten: its counters have been added to those of {@link BatchIndex#OTHER}. */
    void forgotten(BatchIndex.Type type) {
        byte[] name = name(type);
        int start = begin(FORGOTTEN, name.length);
        buffer.put(name);
        end(start);
    }

    private static byte[] name(BatchIndex.Type type) {
        return type.name.getBytes(StandardCharsets.UTF_8);
    }

    /** The failures before the last attempt; the frame with the batch's state follows. */
    private void earlier(long sequence, List<FailedAttempt> failures) {
        if (reasons.numbers.size() + failures.size() > Reasons.MAX) {
            // Otherwise, naming one of them could give the number of another away.
            reasons.numbers.clear();
        }
        int[] numbers =
                failures.stream().mapToInt(failure -> reason(failure.reason())).toArray();
        int start = begin(EARLIER, 8 + 12 * numbers.length);
        buffer.putLong(sequence);
        for (int i = 0; i < numbers.length; i++) {
            buffer.putLong(failures.get(i).at().toEpochMilli()).putInt(numbers[i]);
        }
        end(start);
    }

    /** The state of a batch now. */
    void persistedState(long sequence, PersistedState persistedState) {
        if (!persistedState.earlier().isEmpty()) {
            earlier(sequence, persistedState.earlier());
        }
        int reason = reason(persistedState.reason());
        int start = persistedState.dead() ? begin(DEAD, 32) : begin(PENDING, 40);
        buffer.putLong(sequence)
                .putLong(persistedState.since())
                .putInt(persistedState.retries())
                .putLong(persistedState.lastAttempt());
        if (!persistedState.dead()) {
            buffer.putLong(persistedState.due());
        }
        buffer.putInt(reason);
        end(start);
    }

    /** The counters as they are now; they hold from the next {@link #checkpoint} on. */
    void counters(BatchIndex.Type type) {
        byte[] name = name(type);
        int start = begin(COUNTERS, 8 + 8 * RemovalReason.values().length + name.length);
        buffer.putLong(type.counters.accepted);
        for (RemovalReason reason : RemovalReason.values()) {
            buffer.putLong(type.counters.gone(reason));
        }
        buffer.put(name);
        end(start);
    }

    /** Whether the collector type is paused now. */
    void paused(BatchIndex.Type type) {
        byte[] name = name(type);
        int start = begin(PAUSED, 1 + name.length);
        buffer.put((byte) (type.paused ? 1 : 0)).put(name);
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

    void fileEnd(int file, PayloadLog.FileEnd fileEnd) {
        int start = begin(FILE_END, 20);
        buffer.putInt(file).putLong(fileEnd.offset()).putLong(fileEnd.lastSequence());
        end(start);
    }

    /** The highest number that a payload file has had. */
    void files(int lastFile) {
        // 0 if payload files have no numbers.
        if (lastFile > 0) {
            int start = begin(FILES, 4);
            buffer.putInt(lastFile);
            end(start);
        }
    }

    private void one(byte kind, long value) {
        int start = begin(kind, 8);
        buffer.putLong(value);
        end(start);
    }

    private int begin(byte kind, int bodyLength) {
        if (bodyLength > MAX_BODY) {
            // Names and reasons are limited where they enter the store.
            throw new BufferOverflowException();
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

    /** What the checksum of every frame of a file begins with, so that a frame of another file is invalid here. */
    static byte[] seed(long generation) {
        return ByteBuffer.allocate(8).putLong(generation).array();
    }

    private static int crc(byte[] seed, byte[] bytes, int start, int length) {
        CRC32C crc = new CRC32C();
        crc.update(seed, 0, seed.length);
        crc.update(bytes, start + 1, 3);
        crc.update(bytes, start + HEADER, length - HEADER);
        return (int) crc.getValue();
    }

    /** The frame's length if a whole, undamaged one begins there and ends before {@code end}, else 0. */
    static int validLength(byte[] seed, byte[] bytes, int start, int end) {
        if (end - start < HEADER || bytes[start] != MARKER) {
            return 0;
        }
        ByteBuffer view = ByteBuffer.wrap(bytes);
        int length = HEADER + (view.getShort(start + 2) & MAX_BODY);
        return length <= end - start && view.getInt(start + 4) == crc(seed, bytes, start, length) ? length : 0;
    }

    /** A collector type, which must fit into every kind of frame when it is written again. */
    static String collectorType(ByteBuffer rest) {
        return NewBatch.checkedCollectorType(text(rest));
    }

    static String text(ByteBuffer rest) {
        return StandardCharsets.UTF_8.decode(rest).toString();
    }
}
