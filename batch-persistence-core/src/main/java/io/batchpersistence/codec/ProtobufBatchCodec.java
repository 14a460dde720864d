package io.batchpersistence.codec;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;

/**
 * Reads and writes {@code batch_payload.proto} without generated classes, which would make an object for everything on the
 * way. The schema's comments are the description of the format.
 */
final class ProtobufBatchCodec implements BatchCodec {

    static final ProtobufBatchCodec INSTANCE = new ProtobufBatchCodec();

    /** Not thread-local: there may be very many (virtual) threads, and no more encoders than processors are of use. */
    private final ArrayBlockingQueue<ProtobufEncoder> encoders =
            new ArrayBlockingQueue<>(Runtime.getRuntime().availableProcessors());

    private ProtobufBatchCodec() {}

    @Override
    public byte[] encode(List<LogEntry> entries) {
        ProtobufEncoder encoder = encoders.poll();
        if (encoder == null) {
            encoder = new ProtobufEncoder();
        }
        byte[] encoded = encoder.encode(entries);
        if (encoder.isWorthKeeping()) {
            encoders.offer(encoder);
        }
        BatchLimits.check(entries, encoded.length);
        return encoded;
    }

    @Override
    public List<LogEntry> decode(byte[] bytes) {
        try {
            return new ProtobufDecoder(bytes).decode();
        } catch (DamagedPayloadException e) {
            throw e;
        } catch (IOException | RuntimeException e) {
            // RuntimeException: what LogEntry or a number refuses. Nothing a payload contains may surface as something
            // else, since the caller sets it aside and goes on.
            throw new DamagedPayloadException("payload is not valid protobuf: " + e.getMessage(), e);
        }
    }
}
