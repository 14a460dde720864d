package io.batchpersistence.internal.codec;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.LogEntry;
import java.util.List;

/** Any JSON payload decodes to entries or is reported as damaged. Decoded entries can be written and read again. */
public final class JsonPayloadFuzz {

    @FuzzTest
    void fuzz(byte[] payload) {
        check(payload);
    }

    public static void check(byte[] payload) {
        List<LogEntry> entries;
        try {
            entries = JsonBatchCodec.INSTANCE.decode(payload);
        } catch (DamagedPayloadException e) {
            return;
        }
        byte[] again = JsonBatchCodec.INSTANCE.encode(entries);
        if (!JsonBatchCodec.INSTANCE.decode(again).equals(entries)) {
            throw new AssertionError("not the same when written and read again");
        }
        byte[] protobuf = ProtobufBatchCodec.INSTANCE.encode(entries);
        if (!ProtobufBatchCodec.INSTANCE.decode(protobuf).equals(entries)) {
            throw new AssertionError("not the same as protobuf");
        }
    }
}
