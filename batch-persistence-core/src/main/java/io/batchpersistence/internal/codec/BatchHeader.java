package io.batchpersistence.internal.codec;

import io.batchpersistence.internal.log.FrozenLabels;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spi.NewBatch;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What a store writes about a batch in addition to its payload: the message {@code BatchHeader} of {@code
 * batch_payload.proto}. Immutable.
 *
 * @param id the batch's id
 * @param collectorType the destination's name
 * @param context free text of the application, in its original order
 */
public record BatchHeader(String id, String collectorType, Map<String, String> context) {

    /**
     * Copies the context.
     *
     * @param id the batch's id
     * @param collectorType the destination's name
     * @param context free text of the application, in its original order
     */
    public BatchHeader {
        if (!(context instanceof FrozenLabels)) {
            context = context.isEmpty() ? Map.of() : Collections.unmodifiableMap(new LinkedHashMap<>(context));
        }
    }

    @Override
    public String toString() {
        return "BatchHeader['" + LogSanitizer.of(id) + "' for " + LogSanitizer.of(collectorType) + "]";
    }

    /**
     * Encodes the header.
     *
     * @return the encoded bytes
     */
    public byte[] encode() {
        // Enough for usual names without a context.
        ProtobufBuffer header = new ProtobufBuffer(96);
        header.string(PayloadSchema.HEADER_ID, id);
        header.string(PayloadSchema.HEADER_COLLECTOR_TYPE, collectorType);
        context.forEach((name, value) -> {
            int entry = header.beginMessage(PayloadSchema.HEADER_CONTEXT);
            header.string(PayloadSchema.CONTEXT_NAME, name);
            header.string(PayloadSchema.CONTEXT_VALUE, value);
            header.endMessage(entry);
        });
        return header.toByteArray();
    }

    /**
     * Decodes what {@link #encode} of this or any earlier version returned. Skips what it does not know.
     *
     * @param bytes exactly the encoded bytes
     * @return a header equal to the one encoded
     * @throws DamagedPayloadException if the bytes are not a valid encoding, or have no id or collector type; no other
     *     exception is thrown
     */
    public static BatchHeader decode(byte[] bytes) {
        ProtobufReader in = new ProtobufReader(bytes);
        String id = "";
        String collectorType = "";
        Map<String, String> context = new LinkedHashMap<>();
        int tag;
        while ((tag = in.tag()) != 0) {
            switch (tag >>> 3) {
                case PayloadSchema.HEADER_ID -> id = in.string(tag);
                case PayloadSchema.HEADER_COLLECTOR_TYPE -> collectorType = in.string(tag);
                case PayloadSchema.HEADER_CONTEXT -> contextEntry(in, tag, context);
                default -> in.skip(tag);
            }
        }
        if (id.isEmpty() || collectorType.isEmpty()) {
            throw new DamagedPayloadException("header without " + (id.isEmpty() ? "id" : "collector type"), null);
        }
        if (id.length() > NewBatch.MAX_NAME_LENGTH || collectorType.length() > NewBatch.MAX_NAME_LENGTH) {
            throw new DamagedPayloadException(
                    "an id or collector type of more than " + NewBatch.MAX_NAME_LENGTH + " characters", null);
        }
        return new BatchHeader(id, collectorType, context);
    }

    private static void contextEntry(ProtobufReader in, int tag, Map<String, String> context) {
        int outer = in.begin(tag);
        String name = "";
        String value = "";
        int inner;
        while ((inner = in.tag()) != 0) {
            switch (inner >>> 3) {
                case PayloadSchema.CONTEXT_NAME -> name = in.string(inner);
                case PayloadSchema.CONTEXT_VALUE -> value = in.string(inner);
                default -> in.skip(inner);
            }
        }
        in.end(outer);
        context.put(name, value);
    }
}
