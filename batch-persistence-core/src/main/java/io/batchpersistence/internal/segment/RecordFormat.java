package io.batchpersistence.internal.segment;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.Crc32c;
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
import java.util.function.LongFunction;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The bytes of one batch in a segment. This is the only place that knows them; golden bytes in a test pin them. Numbers
 * are unsigned; those of a fixed size are big-endian, the others varints ({@link Varints}).
 *
 * <pre>
 *  0          2        3          7          13       14
 * ┌──────────┬────────┬──────────┬──────────┬────────┬────────────┬─────────┬────────┬─────────┬─────────┬──────────┐
 * │ 0xBA 0x01│ locat. │ header   │ sequence │ format │ created at │ entries │ header │ payload │ payload │ payload  │
 * │          │ CRC    │ CRC32C   │ (48)     │ and    │ (ms)       │         │ length │ length  │ length  │ CRC32C   │
 * │          │ (8)    │ (32)     │          │ compr. │ varint     │ varint  │ varint │ varint  │ raw, v. │ (32)     │
 * └──────────┴────────┴──────────┴──────────┴────────┴────────────┴─────────┴────────┴─────────┴─────────┴──────────┘
 *   header, a protobuf BatchHeader (id, collector type, context)
 *   payload, a BatchPayload or JSON array, compressed
 * </pre>
 *
 * <p>Byte 13 is 16 × the format + the compression. The header CRC covers the record's location, segment number and offset,
 * 32 bits each, and then the bytes from 7 to the end of the header. So bytes found elsewhere, such as a log line that
 * quotes a record, or an old block that the file system reused, are not mistaken for one. The last byte of the CRC32C of
 * the location alone tells most of them without a look at the header. The payload CRC covers the payload as it is on disk.
 */
final class RecordFormat {

    static final short MAGIC = (short) 0xBA01;

    /** The fewest and the most bytes in front of the header. */
    static final int MIN_FIXED = 14 + 5 + 4;

    static final int MAX_FIXED = 14 + Varints.MAX_64 + 4 * Varints.MAX_32 + 4;

    /** The smallest record: one with an id and a collector type of one character. */
    static final int MIN_RECORD = MIN_FIXED + 6;

    /** The largest record, everything included: 256 MiB. Larger batches are refused when they are persisted. */
    static final int MAX_RECORD = 256 << 20;

    /** More than the largest header: the characters of id, collector type and context are limited. */
    private static final int MAX_HEADER = 1 << 20;

    /** The largest payload before compression. */
    static final int MAX_RAW = BatchLimits.MAX_BYTES;

    /** Compressed with the dictionary of the segment; the other numbers are those of {@link Compressions}. */
    static final int ZSTD_WITH_DICTIONARY = 2;

    // Where the fields are.
    private static final int LOCATION_CRC = 2;
    private static final int HEADER_CRC = 3;
    private static final int SEQUENCE = 7;
    private static final int ENCODING = 13;
    private static final int CREATED_AT = 14;

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
        EncodedPayload payload = EncodedPayload.of(
                batch.id(), batch.entries(), format, compression, dictionaries, MAX_FIXED + header.length);
        return new Encoder(
                        batch.collectorType(),
                        idHash,
                        batch.createdAt().toEpochMilli(),
                        batch.entries().size(),
                        Formats.id(format))
                .encode(
                        header,
                        payload,
                        size -> EncodedPayload.tooLarge(batch.id(), batch.entries(), size, MAX_RECORD, "on disk"));
    }

    /**
     * The same batch, compressed without a dictionary: for one that was encoded before the dictionary was replaced.
     *
     * @throws IllegalArgumentException if it is too large like this
     */
    static EncodedRecord withoutDictionary(EncodedRecord record) {
        byte[] bytes = Arrays.copyOfRange(record.bytes, record.start, record.bytes.length);
        View view = new View(bytes, 0);
        byte[] header = Arrays.copyOfRange(bytes, view.fixed, view.headerEnd());
        byte[] raw = view.raw(record.dictionary);
        EncodedPayload payload =
                EncodedPayload.withoutDictionary(raw, raw.length, Compression.ZSTD, MAX_FIXED + header.length);
        return new Encoder(record.collectorType, record.idHash, record.createdAt, record.entryCount, view.formatId())
                .encode(
                        header,
                        payload,
                        size -> new IllegalArgumentException(
                                "the batch has " + size + " bytes on disk, but can have at most " + MAX_RECORD));
    }

    /** Puts the parts of a record together. */
    private record Encoder(String collectorType, long idHash, long createdAt, int entryCount, int format) {

        /** The payload's array has room for the rest in front. */
        EncodedRecord encode(byte[] header, EncodedPayload payload, LongFunction<IllegalArgumentException> tooLarge) {
            byte[] bytes = payload.bytes();
            int headerEnd = MAX_FIXED + header.length;
            int payloadLength = bytes.length - headerEnd;
            int start = MAX_FIXED
                    - (CREATED_AT
                            + Varints.size(createdAt)
                            + Varints.size(entryCount)
                            + Varints.size(header.length)
                            + Varints.size(payloadLength)
                            + Varints.size(payload.rawLength())
                            + 4);
            if (bytes.length - start > MAX_RECORD) {
                throw tooLarge.apply(bytes.length - start);
            }
            ZstdDictionary dictionary = payload.dictionary();
            int compression = dictionary != null ? ZSTD_WITH_DICTIONARY : Compressions.id(payload.compression());
            ByteBuffer out = ByteBuffer.wrap(bytes).position(start).putShort(MAGIC);
            out.position(start + ENCODING).put((byte) ((format << 4) | compression));
            Varints.put(out, createdAt);
            Varints.put(out, entryCount);
            Varints.put(out, header.length);
            Varints.put(out, payloadLength);
            Varints.put(out, payload.rawLength());
            out.putInt(Crc32c.of(bytes, headerEnd, payloadLength)).put(header);
            return new EncodedRecord(collectorType, idHash, createdAt, entryCount, bytes, start, headerEnd, dictionary);
        }
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
        ByteBuffer.wrap(into).putShort(at + SEQUENCE, (short) (sequence >>> 32)).putInt(at + SEQUENCE + 2, (int)
                sequence);
        locate(into, at, record.headerEnd - record.start, segment, offset);
    }

    /** Changes the location of a whole, valid record, alone in an array. */
    static void move(byte[] record, int segment, int offset) {
        locate(record, 0, new View(record, 0).headerEnd(), segment, offset);
    }

    private static void locate(byte[] bytes, int at, int headerEnd, int segment, int offset) {
        CRC32C crc = locationCrc(segment, offset);
        bytes[at + LOCATION_CRC] = (byte) crc.getValue();
        crc.update(bytes, at + SEQUENCE, headerEnd - SEQUENCE);
        ByteBuffer.wrap(bytes).putInt(at + HEADER_CRC, (int) crc.getValue());
    }

    private static CRC32C locationCrc(int segment, int offset) {
        CRC32C crc = new CRC32C();
        // Byte by byte: an array for them would be an allocation for each record.
        for (int shift = 24; shift >= 0; shift -= 8) {
            crc.update(segment >>> shift);
        }
        for (int shift = 24; shift >= 0; shift -= 8) {
            crc.update(offset >>> shift);
        }
        return crc;
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
            plausible = whole
                    && headerLength <= MAX_HEADER
                    && rawLength <= MAX_RAW
                    && (long) fixed + headerLength + payloadLength <= MAX_RECORD;
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

        /** Whether a record seems to begin here, and belong here; it may be damaged. */
        boolean isPlausible(int segment, int offset) {
            return plausible
                    && bytes[at + LOCATION_CRC]
                            == (byte) locationCrc(segment, offset).getValue();
        }

        /** Whether an undamaged header begins here, and belongs here. Reads only the fixed part and the header. */
        boolean hasValidHeader(int segment, int offset) {
            if (!isPlausible(segment, offset) || headerEnd() > bytes.length - at) {
                return false;
            }
            CRC32C crc = locationCrc(segment, offset);
            crc.update(bytes, at + SEQUENCE, headerEnd() - SEQUENCE);
            return ByteBuffer.wrap(bytes).getInt(at + HEADER_CRC) == (int) crc.getValue();
        }

        boolean hasValidPayload() {
            int start = at + headerEnd();
            if (payloadLength > bytes.length - start) {
                return false;
            }
            return payloadCrc == Crc32c.of(bytes, start, payloadLength);
        }

        PayloadLog.Header header() {
            BatchHeader header = BatchHeader.decode(Arrays.copyOfRange(bytes, at + fixed, at + headerEnd()));
            return new PayloadLog.Header(
                    header.id(), header.collectorType(), Instant.ofEpochMilli(createdAt), header.context(), entryCount);
        }

        /** The whole batch, from a valid record in a segment with that dictionary. */
        PayloadLog.Content content(@Nullable ZstdDictionary dictionary) {
            return new PayloadLog.Content(
                    header(), Formats.codec(Formats.of(formatId())).decode(raw(dictionary)));
        }

        private int formatId() {
            return (bytes[at + ENCODING] & 0xFF) >>> 4;
        }

        private byte[] raw(@Nullable ZstdDictionary dictionary) {
            int start = at + headerEnd();
            byte[] payload = Arrays.copyOfRange(bytes, start, start + payloadLength);
            int compression = bytes[at + ENCODING] & 0xF;
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
