package io.batchpersistence.internal.segment;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.Formats;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.store.PayloadLog;
import io.batchpersistence.spi.NewBatch;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Arrays;
import java.util.zip.CRC32C;

/**
 * The bytes of one batch in a segment. This is the only place that knows them; golden bytes in a test pin them. Numbers
 * are big-endian and unsigned unless stated otherwise.
 *
 * <pre>
 *  0         4          8            16           24      25           26        28
 * ┌─────────┬──────────┬────────────┬────────────┬───────┬────────────┬─────────┬─────────────┐
 * │ "BPR\1" │ header   │ sequence   │ created at │ format│ compression│ 0       │ segment     │
 * │         │ CRC32C   │ (64)       │ (64, ms)   │ (8)   │ (8)        │ (16)    │ number (32) │
 * ├─────────┼──────────┼────────────┼────────────┼───────┴──┬─────────┴─────────┴─────────────┘
 * │ offset  │ entries  │ header     │ payload    │ payload  │ payload    48
 * │ (32)    │ (32)     │ length (32)│ length (32)│ raw (32) │ CRC32C
 * └─32──────┴─36───────┴─40─────────┴─44─────────┴─48───────┴─52─────── 56
 *   56: header, a protobuf BatchHeader (id, collector type, context)
 *       payload, a BatchPayload or JSON array, compressed
 * </pre>
 *
 * <p>The header CRC covers bytes 8 to 55 and the protobuf header; the payload CRC covers the payload as it is on disk.
 * A record contains its own location (segment number and offset): bytes found elsewhere, such as a log line that quotes
 * a record, or an old block that the file system reused, are not mistaken for one.
 */
final class RecordFormat {

    static final int FIXED = 56;
    static final int MAGIC = 'B' << 24 | 'P' << 16 | 'R' << 8 | 1;

    /** The largest record, everything included: 256 MiB. Larger batches are refused when they are persisted. */
    static final int MAX_RECORD = 256 << 20;

    /** The largest payload before compression. */
    static final int MAX_RAW = BatchLimits.MAX_BYTES;

    private static final int CRC_START = 8;

    private RecordFormat() {}

    // ---- writing ---------------------------------------------------------------------------------

    /** A batch encoded on its caller's thread: the whole record except its location. */
    // Never compared, never shown.
    @SuppressWarnings("ArrayRecordComponent")
    record EncodedRecord(
            String collectorType,
            long idHash,
            long createdAt,
            int entryCount,
            BatchFormat format,
            Compression compression,
            byte[] header,
            byte[] payload,
            int rawLength,
            int payloadCrc)
            implements PayloadLog.Encoded {

        @Override
        public int size() {
            return FIXED + header.length + payload.length;
        }
    }

    static EncodedRecord encode(NewBatch batch, BatchFormat format, Compression compression, long idHash) {
        byte[] raw = Formats.codec(format).encode(batch.entries());
        if (raw.length > MAX_RAW) {
            throw tooLarge(batch, raw.length, MAX_RAW, "before compression");
        }
        byte[] payload = Compressions.compress(compression, raw);
        byte[] header = new BatchHeader(batch.id(), batch.collectorType(), batch.context()).encode();
        long size = (long) FIXED + header.length + payload.length;
        if (size > MAX_RECORD) {
            throw tooLarge(batch, size, MAX_RECORD, "on disk");
        }
        CRC32C crc = new CRC32C();
        crc.update(payload);
        return new EncodedRecord(
                batch.collectorType(),
                idHash,
                batch.createdAt().toEpochMilli(),
                batch.entries().size(),
                format,
                compression,
                header,
                payload,
                raw.length,
                (int) crc.getValue());
    }

    private static IllegalArgumentException tooLarge(NewBatch batch, long size, long bound, String where) {
        return new IllegalArgumentException(
                "the batch '" + LogSanitizer.of(batch.id()) + "' has " + size + " bytes " + where
                        + ", but a batch can have at most " + bound + "; split its "
                        + batch.entries().size()
                        + " entries into several batches");
    }

    /** Writes the record into an array, with its location in the segment. */
    static void write(EncodedRecord record, long sequence, int segment, int offset, byte[] into, int at) {
        ByteBuffer.wrap(into, at, FIXED)
                .putInt(MAGIC)
                .putInt(0)
                .putLong(sequence)
                .putLong(record.createdAt)
                .put((byte) Formats.id(record.format))
                .put((byte) Compressions.id(record.compression))
                .putShort((short) 0)
                .putInt(segment)
                .putInt(offset)
                .putInt(record.entryCount)
                .putInt(record.header.length)
                .putInt(record.payload.length)
                .putInt(record.rawLength)
                .putInt(record.payloadCrc);
        System.arraycopy(record.header, 0, into, at + FIXED, record.header.length);
        System.arraycopy(record.payload, 0, into, at + FIXED + record.header.length, record.payload.length);
        int crc = headerCrc(into, at, record.header.length);
        ByteBuffer.wrap(into).putInt(at + 4, crc);
    }

    /** Changes the location in a whole record, alone in an array. */
    static void move(byte[] record, int segment, int offset) {
        ByteBuffer bytes = ByteBuffer.wrap(record);
        bytes.putInt(28, segment).putInt(32, offset);
        bytes.putInt(4, headerCrc(record, 0, bytes.getInt(40)));
    }

    private static int headerCrc(byte[] bytes, int at, int headerLength) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, at + CRC_START, FIXED - CRC_START + headerLength);
        return (int) crc.getValue();
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * The fixed part of a record that begins at {@code at} in {@code bytes}; unchecked until {@link #hasValidHeader}.
     */
    static final class View {

        private final byte[] bytes;
        private final int at;

        View(byte[] bytes, int at) {
            this.bytes = bytes;
            this.at = at;
        }

        private int int32(int offset) {
            return ByteBuffer.wrap(bytes).getInt(at + offset);
        }

        private long int64(int offset) {
            return ByteBuffer.wrap(bytes).getLong(at + offset);
        }

        long sequence() {
            return int64(8);
        }

        long createdAt() {
            return int64(16);
        }

        int entryCount() {
            return int32(36);
        }

        int headerLength() {
            return int32(40);
        }

        private int payloadLength() {
            return int32(44);
        }

        /** Length of the whole record; only meaningful if the header is valid. */
        int length() {
            return FIXED + headerLength() + payloadLength();
        }

        /** Whether the fixed part of a record seems to begin here, and belongs here; it may be damaged. */
        boolean isPlausible(int segment, int offset) {
            if (bytes.length - at < FIXED || int32(0) != MAGIC || int32(28) != segment || int32(32) != offset) {
                return false;
            }
            int header = headerLength();
            int payload = payloadLength();
            int raw = int32(48);
            return entryCount() >= 0
                    && header >= 0
                    && payload >= 0
                    && raw >= 0
                    && raw <= MAX_RAW
                    && (long) FIXED + header + payload <= MAX_RECORD;
        }

        /** Whether an undamaged header begins here, and belongs here. Reads only the fixed part and the header. */
        boolean hasValidHeader(int segment, int offset) {
            if (!isPlausible(segment, offset)) {
                return false;
            }
            int header = headerLength();
            return header <= bytes.length - at - FIXED && int32(4) == headerCrc(bytes, at, header);
        }

        boolean hasValidPayload() {
            int start = at + FIXED + headerLength();
            if (payloadLength() > bytes.length - start) {
                return false;
            }
            CRC32C crc = new CRC32C();
            crc.update(bytes, start, payloadLength());
            return int32(52) == (int) crc.getValue();
        }

        PayloadLog.Header header() {
            int start = at + FIXED;
            BatchHeader header = BatchHeader.decode(Arrays.copyOfRange(bytes, start, start + headerLength()));
            return new PayloadLog.Header(
                    header.id(),
                    header.collectorType(),
                    Instant.ofEpochMilli(createdAt()),
                    header.context(),
                    entryCount());
        }

        PayloadLog.Content content() {
            int start = at + FIXED + headerLength();
            byte[] payload = Arrays.copyOfRange(bytes, start, start + payloadLength());
            byte[] raw = Compressions.decompress(Compressions.of(bytes[at + 25]), payload, int32(48));
            return new PayloadLog.Content(
                    header(), Formats.codec(Formats.of(bytes[at + 24])).decode(raw));
        }
    }
}
