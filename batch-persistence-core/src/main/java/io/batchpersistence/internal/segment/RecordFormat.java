package io.batchpersistence.internal.segment;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.codec.EncodedPayload;
import io.batchpersistence.internal.codec.Formats;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.store.PayloadLog;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.Arrays;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The bytes of one batch in a segment. This is the only place that knows them; golden bytes in a test pin them. Numbers
 * are unsigned; those of a fixed size are big-endian, the others varints ({@link Varints}).
 *
 * <pre>
 *  0          2          6          12       13
 * ┌──────────┬──────────┬──────────┬────────┬────────────┬─────────┬────────┬─────────┬─────────┬──────────┐
 * │ 0xBA 0x01│ header   │ sequence │ format │ created at │ entries │ header │ payload │ payload │ payload  │
 * │          │ CRC32C   │ (48)     │ and    │ (ms)       │         │ length │ length  │ length  │ CRC32C   │
 * │          │ (32)     │          │ compr. │ varint     │ varint  │ varint │ varint  │ raw, v. │ (32)     │
 * └──────────┴──────────┴──────────┴────────┴────────────┴─────────┴────────┴─────────┴─────────┴──────────┘
 *   header, a protobuf BatchHeader (id, collector type, context)
 *   payload, a BatchPayload or JSON array, compressed
 * </pre>
 *
 * <p>Byte 12 is 16 × the format + the compression. The header CRC covers the bytes from 6 to the end of the header, and
 * then the record's location: segment number and offset, 32 bits each. So bytes found elsewhere, such as a log line that
 * quotes a record, or an old block that the file system reused, are not mistaken for one. The payload CRC covers the
 * payload as it is on disk.
 */
final class RecordFormat {

    static final short MAGIC = (short) 0xBA01;

    /** The fewest and the most bytes in front of the header. */
    static final int MIN_FIXED = 13 + 5 + 4;

    static final int MAX_FIXED = 13 + Varints.MAX_64 + 4 * Varints.MAX_32 + 4;

    /** The smallest record: one with an id and a collector type of one character. */
    static final int MIN_RECORD = MIN_FIXED + 6;

    /** The largest record, everything included: 256 MiB. Larger batches are refused when they are persisted. */
    static final int MAX_RECORD = 256 << 20;

    /** The largest payload before compression. */
    static final int MAX_RAW = BatchLimits.MAX_BYTES;

    /** Compressed with the dictionary of the segment; the other numbers are those of {@link Compressions}. */
    static final int ZSTD_WITH_DICTIONARY = 2;

    // Where the fields are.
    private static final int HEADER_CRC = 2;
    private static final int SEQUENCE = 6;
    private static final int ENCODING = 12;
    private static final int CREATED_AT = 13;

    private RecordFormat() {}

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * A batch encoded on its caller's thread.
     *
     * @param bytes ends with the whole record, without its sequence and the checksum that covers its location
     * @param start where the record begins
     * @param headerEnd where the payload begins
     * @param dictionary the one that its segment must have; {@code null} if any will do
     */
    // Never compared, never shown.
    @SuppressWarnings("ArrayRecordComponent")
    record EncodedRecord(
            String collectorType,
            long idHash,
            long createdAt,
            int entryCount,
            byte[] bytes,
            int start,
            int headerEnd,
            @Nullable ZstdDictionary dictionary)
            implements PayloadLog.Encoded {

        @Override
        public int size() {
            return bytes.length - start;
        }
    }

    static EncodedRecord encode(
            NewBatch batch,
            BatchFormat format,
            Compression compression,
            EncodedPayload.Dictionaries dictionaries,
            long idHash) {
        byte[] header = new BatchHeader(batch.id(), batch.collectorType(), batch.context()).encode();
        return encode(header, batch, format, compression, dictionaries, idHash);
    }

    static EncodedRecord encode(
            byte[] header,
            NewBatch batch,
            BatchFormat format,
            Compression compression,
            EncodedPayload.Dictionaries dictionaries,
            long idHash) {
        int headerEnd = MAX_FIXED + header.length;
        EncodedPayload payload =
                EncodedPayload.of(batch.id(), batch.entries(), format, compression, dictionaries, headerEnd);
        byte[] bytes = payload.bytes();
        int payloadLength = bytes.length - headerEnd;
        CRC32C crc = new CRC32C();
        crc.update(bytes, headerEnd, payloadLength);
        long createdAt = batch.createdAt().toEpochMilli();
        int entryCount = batch.entries().size();
        int fixed = CREATED_AT
                + Varints.size(createdAt)
                + Varints.size(entryCount)
                + Varints.size(header.length)
                + Varints.size(payloadLength)
                + Varints.size(payload.rawLength())
                + 4;
        int start = MAX_FIXED - fixed;
        if (bytes.length - start > MAX_RECORD) {
            throw EncodedPayload.tooLarge(batch.id(), batch.entries(), bytes.length - start, MAX_RECORD, "on disk");
        }
        ByteBuffer out = ByteBuffer.wrap(bytes).position(start).putShort(MAGIC);
        out.position(start + ENCODING).put((byte) (Formats.id(format) << 4
                | (payload.dictionary() != null ? ZSTD_WITH_DICTIONARY : Compressions.id(payload.compression()))));
        Varints.put(out, createdAt);
        Varints.put(out, entryCount);
        Varints.put(out, header.length);
        Varints.put(out, payloadLength);
        Varints.put(out, payload.rawLength());
        out.putInt((int) crc.getValue()).put(header);
        return new EncodedRecord(
                batch.collectorType(), idHash, createdAt, entryCount, bytes, start, headerEnd, payload.dictionary());
    }

    /**
     * Writes the record into an array, for its location in the segment.
     *
     * @throws IOException if the sequence is too large for a record: there have been 2^48 batches
     */
    static void write(EncodedRecord record, long sequence, int segment, int offset, byte[] into, int at)
            throws IOException {
        if (sequence >>> 48 != 0) {
            throw new IOException("there are no batch numbers left");
        }
        System.arraycopy(record.bytes, record.start, into, at, record.size());
        ByteBuffer out = ByteBuffer.wrap(into);
        out.putShort(at + SEQUENCE, (short) (sequence >>> 32)).putInt(at + SEQUENCE + 2, (int) sequence);
        out.putInt(at + HEADER_CRC, headerCrc(into, at, record.headerEnd - record.start, segment, offset));
    }

    /** Changes the location of a whole, valid record, alone in an array. */
    static void move(byte[] record, int segment, int offset) {
        int headerEnd = new View(record, 0).headerEnd();
        ByteBuffer.wrap(record).putInt(HEADER_CRC, headerCrc(record, 0, headerEnd, segment, offset));
    }

    private static int headerCrc(byte[] bytes, int at, int headerEnd, int segment, int offset) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, at + SEQUENCE, headerEnd - SEQUENCE);
        // Byte by byte: an array for them would be an allocation for each record.
        for (int shift = 24; shift >= 0; shift -= 8) {
            crc.update(segment >>> shift);
        }
        for (int shift = 24; shift >= 0; shift -= 8) {
            crc.update(offset >>> shift);
        }
        return (int) crc.getValue();
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * The fixed part of a record that begins at {@code at} in {@code bytes}; unchecked until {@link #hasValidHeader}.
     */
    static final class View {

        private final byte[] bytes;
        private final int at;
        /** Whether the fixed part is all there, and makes sense. */
        private final boolean plausible;

        private final long createdAt;
        private final int entryCount;
        private final int headerLength;
        private final int payloadLength;
        private final int rawLength;
        private final int payloadCrc;
        /** Bytes in front of the header. */
        private final int fixed;

        View(byte[] bytes, int at) {
            this.bytes = bytes;
            this.at = at;
            boolean whole =
                    bytes.length - at >= MIN_FIXED && ByteBuffer.wrap(bytes).getShort(at) == MAGIC;
            Varints in = new Varints(bytes, whole ? at + CREATED_AT : bytes.length);
            createdAt = in.next64();
            entryCount = in.next32();
            headerLength = in.next32();
            payloadLength = in.next32();
            rawLength = in.next32();
            int end = in.position();
            whole &= !in.isDamaged() && bytes.length - end >= 4;
            payloadCrc = whole ? ByteBuffer.wrap(bytes).getInt(end) : 0;
            fixed = end + 4 - at;
            plausible = whole && rawLength <= MAX_RAW && (long) fixed + headerLength + payloadLength <= MAX_RECORD;
        }

        long sequence() {
            ByteBuffer in = ByteBuffer.wrap(bytes);
            return (in.getShort(at + SEQUENCE) & 0xFFFFL) << 32 | (in.getInt(at + SEQUENCE + 2) & 0xFFFFFFFFL);
        }

        long createdAt() {
            return createdAt;
        }

        int entryCount() {
            return entryCount;
        }

        /** Bytes up to the end of the header; only meaningful if the record is plausible. */
        int headerEnd() {
            return fixed + headerLength;
        }

        /** Length of the whole record; only meaningful if the header is valid. */
        int length() {
            return headerEnd() + payloadLength;
        }

        /** Whether a record seems to begin here; it may be damaged, or belong elsewhere. */
        boolean isPlausible() {
            return plausible;
        }

        /** Whether an undamaged header begins here, and belongs here. Reads only the fixed part and the header. */
        boolean hasValidHeader(int segment, int offset) {
            return plausible
                    && headerEnd() <= bytes.length - at
                    && ByteBuffer.wrap(bytes).getInt(at + HEADER_CRC)
                            == headerCrc(bytes, at, headerEnd(), segment, offset);
        }

        boolean hasValidPayload() {
            int start = at + headerEnd();
            if (payloadLength > bytes.length - start) {
                return false;
            }
            CRC32C crc = new CRC32C();
            crc.update(bytes, start, payloadLength);
            return payloadCrc == (int) crc.getValue();
        }

        PayloadLog.Header header() {
            BatchHeader header = BatchHeader.decode(Arrays.copyOfRange(bytes, at + fixed, at + headerEnd()));
            return new PayloadLog.Header(
                    header.id(), header.collectorType(), Instant.ofEpochMilli(createdAt), header.context(), entryCount);
        }

        /** The whole batch, from a valid record in a segment with that dictionary. */
        PayloadLog.Content content(@Nullable ZstdDictionary dictionary) {
            int start = at + headerEnd();
            byte[] payload = Arrays.copyOfRange(bytes, start, start + payloadLength);
            int encoding = bytes[at + ENCODING] & 0xFF;
            return new PayloadLog.Content(
                    header(),
                    Formats.codec(Formats.of(encoding >>> 4)).decode(raw(payload, encoding & 0xF, dictionary)));
        }

        private byte[] raw(byte[] payload, int compression, @Nullable ZstdDictionary dictionary) {
            if (compression != ZSTD_WITH_DICTIONARY) {
                return Compressions.decompress(Compressions.of(compression), payload, rawLength);
            }
            if (dictionary == null) {
                throw new DamagedPayloadException(
                        "the dictionary that it is compressed with is missing in its segment, or damaged", null);
            }
            return Compressions.decompress(dictionary, payload, rawLength);
        }
    }
}
