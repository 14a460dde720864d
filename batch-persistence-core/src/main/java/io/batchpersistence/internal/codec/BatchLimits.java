package io.batchpersistence.internal.codec;

import io.batchpersistence.LogEntry;
import java.math.BigDecimal;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The maximum size of a batch, which is the same for writers and readers: what was accepted can always be read, and
 * untrusted bytes can't make their reader allocate without limit. A value that takes two bytes in a payload takes about
 * a hundred in memory, and compressed next to none on disk.
 */
public final class BatchLimits {

    /** Maximum number of entries. */
    public static final int MAX_ENTRIES = 1 << 20;

    /** Maximum number of labels, fields, and values within fields, of all entries together. */
    public static final int MAX_VALUES = 1 << 23;

    /** Maximum number of bytes of the payload before compression, and of a JSON document: 256 MiB. */
    public static final int MAX_BYTES = 256 << 20;

    /** Maximum number of characters of a number in JSON. */
    static final int MAX_NUMBER_LENGTH = 100_100;

    /** Number of texts of an entry that a payload can share: level, source type, source id, trace id, span id. */
    private static final int TEXTS = 5;

    /** Minimum number of bytes that an encoded value takes. */
    private static final int MIN_BYTES_A_VALUE = 2;

    private BatchLimits() {}

    /**
     * Refuses a batch that could not be read again.
     *
     * @param entries the encoded entries
     * @param encodedLength the bytes that the encoding took, which for nearly every batch show that it has few enough
     *     values
     * @throws IllegalArgumentException if there are too many entries or values, or they are too large
     */
    public static void check(List<LogEntry> entries, int encodedLength) {
        if (entries.size() > MAX_ENTRIES) {
            throw new IllegalArgumentException("the batch has " + entries.size() + " entries, but can have at most "
                    + MAX_ENTRIES + "; split it into several batches");
        }
        if (encodedLength / MIN_BYTES_A_VALUE > MAX_VALUES) {
            long values = 0;
            for (LogEntry entry : entries) {
                values += entry.labels().size() + values(entry.fields());
            }
            if (values > MAX_VALUES) {
                throw new IllegalArgumentException("the batch has " + values
                        + " labels and values of fields, but can have at most " + MAX_VALUES + "; split its "
                        + entries.size() + " entries into several batches");
            }
        }
        if (entries.size() * (long) TEXTS * 2 * (encodedLength + PayloadSchema.MAX_SOURCE_DIGITS) > MAX_BYTES) {
            long characters = 0;
            for (LogEntry entry : entries) {
                characters += length(entry.level())
                        + length(entry.sourceType())
                        + length(entry.sourceId())
                        + length(entry.traceId())
                        + length(entry.spanId());
            }
            if (characters > MAX_BYTES) {
                throw new IllegalArgumentException("the levels, source and trace ids of the batch have " + characters
                        + " characters, but can have at most " + MAX_BYTES + "; split its " + entries.size()
                        + " entries into several batches");
            }
        }
    }

    private static int length(@Nullable String text) {
        return text == null ? 0 : text.length();
    }

    private static long values(@Nullable Object value) {
        long count = 0;
        if (value instanceof Map<?, ?> members) {
            for (Object member : members.values()) {
                count += 1 + values(member);
            }
        } else if (value instanceof List<?> elements) {
            for (Object element : elements) {
                count += 1 + values(element);
            }
        } else if (value instanceof BigDecimal) {
            // In JSON, an object around a text.
            count++;
        }
        return count;
    }

    /** Tracks how much of the limits one payload has used while it is read. Not thread-safe. */
    static final class Budget {

        private int entries;
        private int values;
        private long characters;

        void entry() {
            if (++entries > MAX_ENTRIES) {
                throw new DamagedPayloadException("more than " + MAX_ENTRIES + " entries", null);
            }
        }

        void values(int more) {
            values += more;
            if (values > MAX_VALUES || values < 0) {
                throw new DamagedPayloadException("more than " + MAX_VALUES + " labels and values of fields", null);
            }
        }

        /** Counts a text that entries may share, once for each entry, because each entry checks all of it. */
        void text(@Nullable String text) {
            characters += length(text);
            if (characters > MAX_BYTES) {
                throw new DamagedPayloadException(
                        "levels, source and trace ids of more than " + MAX_BYTES + " characters", null);
            }
        }
    }
}
