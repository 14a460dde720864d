package io.batchpersistence.codec;

import io.batchpersistence.LogEntry;
import java.util.List;

final class JsonBatchCodec implements BatchCodec {

    static final JsonBatchCodec INSTANCE = new JsonBatchCodec();

    @Override
    public byte[] encode(List<LogEntry> entries) {
        throw new UnsupportedOperationException();
    }

    @Override
    public List<LogEntry> decode(byte[] bytes) {
        throw new UnsupportedOperationException();
    }
}
