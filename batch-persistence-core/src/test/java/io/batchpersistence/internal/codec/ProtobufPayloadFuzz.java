package io.batchpersistence.internal.codec;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.LogEntry;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Any protobuf payload decodes to entries or is reported as damaged. Decoded entries can be written and read again. */
public final class ProtobufPayloadFuzz {

    @FuzzTest
    void fuzz(byte[] payload) {
        check(payload);
    }

    public static void check(byte[] payload) {
        entries(ProtobufBatchCodec.INSTANCE, payload);
    }

    /** The entries of a payload, which can be written and read again; {@code null} if it is damaged. */
    static @Nullable List<LogEntry> entries(BatchCodec codec, byte[] payload) {
        List<LogEntry> entries;
        try {
            entries = codec.decode(payload);
        } catch (DamagedPayloadException e) {
            return null;
        }
        if (!codec.decode(codec.encode(entries)).equals(entries)) {
            throw new AssertionError("not the same when written and read again");
        }
        return entries;
    }
}
