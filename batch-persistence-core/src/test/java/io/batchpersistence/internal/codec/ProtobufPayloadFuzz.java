package io.batchpersistence.internal.codec;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.LogEntry;
import java.util.List;

/** Any protobuf payload decodes to entries or is reported as damaged. Decoded entries can be written and read again. */
public final class ProtobufPayloadFuzz {

    @FuzzTest
    void fuzz(byte[] payload) {
        check(payload);
    }

    public static void check(byte[] payload) {
        List<LogEntry> entries;
        try {
            entries = ProtobufBatchCodec.INSTANCE.decode(payload);
        } catch (DamagedPayloadException e) {
            return;
        }
        byte[] again = ProtobufBatchCodec.INSTANCE.encode(entries);
        if (!ProtobufBatchCodec.INSTANCE.decode(again).equals(entries)) {
            throw new AssertionError("not the same when written and read again");
        }
    }
}
