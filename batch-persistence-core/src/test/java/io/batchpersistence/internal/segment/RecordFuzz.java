package io.batchpersistence.internal.segment;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.segment.RecordFormat.View;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.zip.CRC32C;

/**
 * Any record with valid checksums is a batch or is reported as damaged. The input is format, compression, header
 * length, uncompressed length, header and payload. The checksums are added, since a fuzzer does not find them.
 */
public final class RecordFuzz {

    @FuzzTest
    void fuzz(byte[] input) {
        check(input);
    }

    // Raw content: zstd takes any bytes that do not begin with its magic number.
    private static final ZstdDictionary DICTIONARY =
            new ZstdDictionary("INFO /var/log/shop.log payment service is slow".getBytes(StandardCharsets.US_ASCII));

    public static void check(byte[] input) {
        if (input.length < 8) {
            return;
        }
        ByteBuffer in = ByteBuffer.wrap(input);
        byte format = in.get();
        byte compression = in.get();
        int headerLength = in.getShort();
        int rawLength = in.getInt();
        if (headerLength < 0 || headerLength > input.length - 8 || rawLength < 0) {
            return;
        }
        int payloadLength = input.length - 8 - headerLength;
        ByteBuffer out = ByteBuffer.allocate(RecordFormat.MAX_FIXED + input.length);
        out.putShort(RecordFormat.MAGIC).position(13).put((byte) ((format << 4) | (compression & 0xF)));
        Varints.put(out, 1_767_323_045_678L);
        Varints.put(out, 1);
        Varints.put(out, headerLength);
        Varints.put(out, payloadLength);
        Varints.put(out, rawLength);
        CRC32C payload = new CRC32C();
        payload.update(input, 8 + headerLength, payloadLength);
        out.putInt((int) payload.getValue()).put(input, 8, input.length - 8);
        byte[] record = Arrays.copyOf(out.array(), out.position());
        RecordFormat.move(record, 1, 0);
        View view = new View(record, 0);
        if (!view.hasValidHeader(1, 0) || !view.hasValidPayload()) {
            return;
        }
        try {
            view.header();
            view.content(DICTIONARY);
        } catch (DamagedPayloadException e) {
            return;
        }
    }
}
