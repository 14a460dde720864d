package io.batchpersistence.codec;

import io.batchpersistence.LogEntry;
import java.util.List;

final class ProtobufBatchCodec implements BatchCodec {

    static final ProtobufBatchCodec INSTANCE = new ProtobufBatchCodec();

    @Override
    public byte[] encode(List<LogEntry> entries) {
        throw new UnsupportedOperationException();
    }

    @Override
    public List<LogEntry> decode(byte[] bytes) {
        throw new UnsupportedOperationException();
    }
}
