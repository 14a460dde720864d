package io.batchpersistence.internal.codec;

import io.batchpersistence.BatchFormat;

/** The codecs of the formats. Their numbers are part of the storage format and never change their meaning. */
public final class Formats {

    private Formats() {}

    /**
     * Returns the codec of a format.
     *
     * @param format the format
     * @return a codec, thread-safe
     */
    public static BatchCodec codec(BatchFormat format) {
        return switch (format) {
            case PROTOBUF -> ProtobufBatchCodec.INSTANCE;
            case JSON -> JsonBatchCodec.INSTANCE;
        };
    }

    /**
     * Returns the number of a format in a record.
     *
     * @param format the format
     * @return 1 to 127
     */
    public static int id(BatchFormat format) {
        return switch (format) {
            case PROTOBUF -> 1;
            case JSON -> 2;
        };
    }

    /**
     * Finds a format by its number.
     *
     * @param id the number in a record
     * @return the format
     * @throws DamagedPayloadException if there is none with that number
     */
    public static BatchFormat of(int id) {
        return switch (id) {
            case 1 -> BatchFormat.PROTOBUF;
            case 2 -> BatchFormat.JSON;
            default -> throw new DamagedPayloadException("unknown payload format " + id, null);
        };
    }
}
