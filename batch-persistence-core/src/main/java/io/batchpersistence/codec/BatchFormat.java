package io.batchpersistence.codec;

/** The encoding of entries. The number is part of the storage format and never changes its meaning. */
public enum BatchFormat {
    /** Protobuf in columnar layout; the schema is shipped as {@code batch_payload.proto}. Compact and fast. */
    PROTOBUF(1),
    /** A JSON array of entries, readable by humans. */
    JSON(2);

    private final int id;

    BatchFormat(int id) {
        this.id = id;
    }

    /**
     * Returns its number in a record.
     *
     * @return 1 to 127
     */
    public int id() {
        return id;
    }

    /**
     * Returns the codec of this format.
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
     * Finds a format by its number.
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
