package io.batchpersistence.codec;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.LogEntry;
import java.util.List;

/** A protobuf payload is entries or damaged, and entries that were read can be written and read again. */
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
