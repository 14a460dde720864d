package io.batchpersistence.codec;

/** How entries are written. The number is part of the storage format and never changes its meaning. */
public enum BatchFormat {
    /** Protobuf, laid out by column; the schema is shipped as {@code batch_payload.proto}. Small and fast. */
    PROTOBUF(1),
    /** A JSON array of entries, readable by a person. */
    JSON(2);

    private final int id;

    BatchFormat(int id) {
        this.id = id;
    }

    /**
     * Its number in a record.
     *
     * @return 1 to 127
     */
    public int id() {
        return id;
    }

    /**
     * What writes and reads it.
     *
     * @return a codec, thread-safe
     */
    public BatchCodec codec() {
        return switch (this) {
            case PROTOBUF -> ProtobufBatchCodec.INSTANCE;
            case JSON -> JsonBatchCodec.INSTANCE;
        };
    }

    /**
     * By number.
     *
     * @param id the number in a record
     * @return the format
     * @throws DamagedPayloadException if there is none with that number
     */
    public static BatchFormat of(int id) {
        for (BatchFormat format : values()) {
            if (format.id == id) {
                return format;
            }
        }
        throw new DamagedPayloadException("unknown payload format " + id, null);
    }
}
