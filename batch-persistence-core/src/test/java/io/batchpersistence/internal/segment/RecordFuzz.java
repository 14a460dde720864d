package io.batchpersistence.internal.segment;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.segment.RecordFormat.View;
import java.nio.ByteBuffer;
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

    public static void check(byte[] input) {
        if (input.length < 8) {
            return;
        }
        ByteBuffer in = ByteBuffer.wrap(input);
        byte format = in.get();
        byte compression = in.get();
        int headerLength = in.getShort();
        int rawLength = in.getInt();
        byte[] record = Arrays.copyOf(new byte[RecordFormat.FIXED], RecordFormat.FIXED + input.length - 8);
        System.arraycopy(input, 8, record, RecordFormat.FIXED, input.length - 8);
        ByteBuffer out = ByteBuffer.wrap(record);
        out.putInt(0, RecordFormat.MAGIC).put(24, format).put(25, compression).putInt(28, 1);
        out.putInt(40, headerLength).putInt(44, input.length - 8 - headerLength).putInt(48, rawLength);
        if (headerLength >= 0 && headerLength <= input.length - 8) {
            CRC32C payload = new CRC32C();
            payload.update(
                    record, RecordFormat.FIXED + headerLength, record.length - RecordFormat.FIXED - headerLength);
            out.putInt(52, (int) payload.getValue());
            CRC32C header = new CRC32C();
            header.update(record, 8, RecordFormat.FIXED - 8 + headerLength);
            out.putInt(4, (int) header.getValue());
        }
        View view = new View(record, 0);
        if (!view.hasValidHeader(1, 0) || !view.hasValidPayload()) {
            return;
        }
        try {
            view.header();
            view.content();
        } catch (DamagedPayloadException e) {
            return;
        }
    }
}
