package io.batchpersistence;

/** The encoding of entries. */
public enum BatchFormat {
    /** Protobuf in columnar layout; the schema is shipped as {@code batch_payload.proto}. Compact and fast. */
    PROTOBUF,
    /** A JSON array of entries, readable by humans. */
    JSON
}
