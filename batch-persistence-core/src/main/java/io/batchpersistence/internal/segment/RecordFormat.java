package io.batchpersistence.internal.segment;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.EncodedPayload;
import io.batchpersistence.internal.codec.Formats;
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

    // Where the fields are.
    private static final int HEADER_CRC = 4;
    private static final int SEQUENCE = 8;
    private static final int CREATED_AT = 16;
    private static final int FORMAT = 24;
    private static final int COMPRESSION = 25;
    private static final int SEGMENT = 28;
    private static final int OFFSET = 32;
    private static final int ENTRY_COUNT = 36;
    private static final int HEADER_LENGTH = 40;
    private static final int PAYLOAD_LENGTH = 44;
    private static final int RAW_LENGTH = 48;
    private static final int PAYLOAD_CRC = 52;

    private static final int CRC_START = SEQUENCE;

    private RecordFormat() {}

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * A batch encoded on its caller's thread.
     *
     * @param bytes the whole record, without its sequence, its location and the checksum that covers them
     * @param headerLength bytes of the header
     */
    // Never compared, never shown.
    @SuppressWarnings("ArrayRecordComponent")
    record EncodedRecord(
            String collectorType, long idHash, long createdAt, int entryCount, byte[] bytes, int headerLength)
            implements PayloadLog.Encoded {

        @Override
        public int size() {
            return bytes.length;
        }
    }

    static EncodedRecord encode(NewBatch batch, BatchFormat format, Compression compression, long idHash) {
        byte[] header = new BatchHeader(batch.id(), batch.collectorType(), batch.context()).encode();
        return encode(header, batch, format, compression, idHash);
    }

    static EncodedRecord encode(
            byte[] header, NewBatch batch, BatchFormat format, Compression compression, long idHash) {
        int start = FIXED + header.length;
        EncodedPayload payload = EncodedPayload.of(batch.id(), batch.entries(), format, compression, start);
        byte[] bytes = payload.bytes();
        if (bytes.length > MAX_RECORD) {
            throw EncodedPayload.tooLarge(batch.id(), batch.entries(), bytes.length, MAX_RECORD, "on disk");
        }
        CRC32C crc = new CRC32C();
        crc.update(bytes, start, bytes.length - start);
        long createdAt = batch.createdAt().toEpochMilli();
        int entryCount = batch.entries().size();
        ByteBuffer.wrap(bytes)
                .putInt(MAGIC)
                .position(CREATED_AT)
                .putLong(createdAt)
                .put((byte) Formats.id(format))
                .put((byte) Compressions.id(payload.compression()))
                .position(ENTRY_COUNT)
                .putInt(entryCount)
                .putInt(header.length)
                .putInt(bytes.length - start)
                .putInt(payload.rawLength())
                .putInt((int) crc.getValue())
                .put(header);
        return new EncodedRecord(batch.collectorType(), idHash, createdAt, entryCount, bytes, header.length);
    }

    /** Writes the record into an array, with its location in the segment. */
    static void write(EncodedRecord record, long sequence, int segment, int offset, byte[] into, int at) {
        System.arraycopy(record.bytes, 0, into, at, record.bytes.length);
        ByteBuffer.wrap(into)
                .putLong(at + SEQUENCE, sequence)
                .putInt(at + SEGMENT, segment)
                .putInt(at + OFFSET, offset)
                .putInt(at + HEADER_CRC, headerCrc(into, at, record.headerLength));
    }

    /** Changes the location in a whole record, alone in an array. */
    static void move(byte[] record, int segment, int offset) {
        ByteBuffer bytes = ByteBuffer.wrap(record);
        bytes.putInt(SEGMENT, segment).putInt(OFFSET, offset);
        bytes.putInt(HEADER_CRC, headerCrc(record, 0, bytes.getInt(HEADER_LENGTH)));
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
            return int64(SEQUENCE);
        }

        long createdAt() {
            return int64(CREATED_AT);
        }

        int entryCount() {
            return int32(ENTRY_COUNT);
        }

        int headerLength() {
            return int32(HEADER_LENGTH);
        }

        private int payloadLength() {
            return int32(PAYLOAD_LENGTH);
        }

        /** Length of the whole record; only meaningful if the header is valid. */
        int length() {
            return FIXED + headerLength() + payloadLength();
        }

        /** Whether the fixed part of a record seems to begin here, and belongs here; it may be damaged. */
        boolean isPlausible(int segment, int offset) {
            if (bytes.length - at < FIXED
                    || int32(0) != MAGIC
                    || int32(SEGMENT) != segment
                    || int32(OFFSET) != offset) {
                return false;
            }
            int header = headerLength();
            int payload = payloadLength();
            int raw = int32(RAW_LENGTH);
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
            return header <= bytes.length - at - FIXED && int32(HEADER_CRC) == headerCrc(bytes, at, header);
        }

        boolean hasValidPayload() {
            int start = at + FIXED + headerLength();
            if (payloadLength() > bytes.length - start) {
                return false;
            }
            CRC32C crc = new CRC32C();
            crc.update(bytes, start, payloadLength());
            return int32(PAYLOAD_CRC) == (int) crc.getValue();
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
            byte[] raw = Compressions.decompress(Compressions.of(bytes[at + COMPRESSION]), payload, int32(RAW_LENGTH));
            return new PayloadLog.Content(
                    header(), Formats.codec(Formats.of(bytes[at + FORMAT])).decode(raw));
        }
    }
}
