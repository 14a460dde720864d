package io.batchpersistence.internal.codec;

import io.batchpersistence.LogEntry;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;

/**
 * Reads and writes {@code batch_payload.proto} without generated classes, which would allocate an object for every
 * message. The comments of the schema describe the format.
 */
final class ProtobufBatchCodec implements BatchCodec {

    static final ProtobufBatchCodec INSTANCE = new ProtobufBatchCodec();

    /**
     * Not thread-local: there may be a large number of (virtual) threads, and more encoders than processors are
     * useless.
     */
    private final ArrayBlockingQueue<ProtobufEncoder> encoders =
            new ArrayBlockingQueue<>(Runtime.getRuntime().availableProcessors());

    private ProtobufBatchCodec() {}

    @Override
    public <T> T encode(List<LogEntry> entries, Receiver<T> receiver) {
        ProtobufEncoder encoder = encoders.poll();
        if (encoder == null) {
            encoder = new ProtobufEncoder();
        }
        ProtobufBuffer encoded = encoder.encode(entries);
        BatchLimits.check(entries, encoded.length());
        T received = receiver.receive(encoded.bytes(), encoded.length());
        if (encoder.isWorthKeeping()) {
            encoders.offer(encoder);
        }
        return received;
    }

    @Override
    public List<LogEntry> decode(byte[] bytes) {
        try {
            return new ProtobufDecoder(bytes).decode();
        } catch (DamagedPayloadException e) {
            throw e;
        } catch (RuntimeException e) {
            // Thrown by LogEntry or a number for an invalid value. Invalid content must not surface
            // as any other exception, because the caller sets the payload aside and goes on.
            throw new DamagedPayloadException("payload is not valid protobuf: " + e.getMessage(), e);
        }
    }
}
