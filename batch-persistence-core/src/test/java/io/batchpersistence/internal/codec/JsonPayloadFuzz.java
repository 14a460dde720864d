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
        List<LogEntry> entries = ProtobufPayloadFuzz.entries(JsonBatchCodec.INSTANCE, payload);
        if (entries == null) {
            return;
        }
        byte[] protobuf = ProtobufBatchCodec.INSTANCE.encode(entries);
        if (!ProtobufBatchCodec.INSTANCE.decode(protobuf).equals(entries)) {
            throw new AssertionError("not the same as protobuf");
        }
    }
}
