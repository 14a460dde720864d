package io.batchpersistence.internal.codec;

/** The field numbers of {@code batch_payload.proto}, which documents them. */
final class PayloadSchema {

    static final int MESSAGES = 1;
    static final int STRINGS = 2;
    static final int FIRST_TIMESTAMP = 3;
    static final int TIMESTAMP_UNIT = 4;
    static final int TIMESTAMP_DELTAS = 5;
    static final int LEVELS = 6;
    static final int SOURCE_TYPES = 7;
    static final int LABEL_SETS = 8;
    static final int ENTRY_LABEL_SETS = 9;
    static final int FIELD_SETS = 10;
    static final int ENTRY_FIELD_SETS = 11;
    static final int SOURCE_TEXTS = 12;
    static final int SOURCE_NUMBERS = 13;
    static final int TRACE_IDS = 14;
    static final int TRACE_ID_TEXTS = 15;
    static final int ENTRY_TRACE_IDS = 16;
    static final int SPAN_IDS = 17;
    static final int SPAN_ID_TEXTS = 18;
    static final int ENTRY_SPAN_IDS = 19;

    static final int LABEL_SET_LABELS = 1;

    static final int OBJECT_NAMES = 1;
    static final int OBJECT_VALUES = 2;

    static final int VALUE_BOOL = 1;
    static final int VALUE_INTEGER = 2;
    static final int VALUE_DOUBLE = 3;
    static final int VALUE_STRING = 4;
    static final int VALUE_BIG_INTEGER = 5;
    static final int VALUE_DECIMAL = 6;
    static final int VALUE_LIST = 7;
    static final int VALUE_OBJECT = 8;

    static final int DECIMAL_UNSCALED = 1;
    static final int DECIMAL_SCALE = 2;

    static final int LIST_VALUES = 1;

    static final int HEADER_ID = 1;
    static final int HEADER_COLLECTOR_TYPE = 2;
    static final int HEADER_CONTEXT = 3;

    static final int CONTEXT_NAME = 1;
    static final int CONTEXT_VALUE = 2;

    static final int TRACE_ID_BYTES = 16;
    static final int SPAN_ID_BYTES = 8;

    /**
     * Longer source ids are not split: otherwise a damaged payload of a few megabytes could expand to terabytes, with
     * one long text and a number for each entry.
     */
    static final int MAX_SPLIT_SOURCE_ID = 1024;

    /** A number with more digits might not fit into a {@code long}. */
    static final int MAX_SOURCE_DIGITS = 18;

    private PayloadSchema() {}
}
