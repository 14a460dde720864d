package io.batchpersistence.codec;

import io.batchpersistence.LogEntry;
import java.math.BigDecimal;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * How large a batch may be, which is the same for whoever writes and whoever reads one: what was accepted can always be read,
 * and bytes from who knows where can't make their reader allocate without bound. A value that
 * takes two bytes in a payload takes a hundred in memory, and once compressed next to none on disk.
 */
public final class BatchLimits {

    /** Entries. */
    public static final int MAX_ENTRIES = 1 << 20;

    /** Labels, fields, and values within fields, of all entries. */
    public static final int MAX_VALUES = 1 << 23;

    /** Bytes of the payload before compression, and of a JSON document: 256 MiB. */
    public static final int MAX_BYTES = 256 << 20;

    /** Characters of a number in JSON. */
    static final int MAX_NUMBER_LENGTH = 100_100;

    /** Texts of an entry that are shared in a payload: level, source type, source id, trace id, span id. */
    private static final int TEXTS = 5;

    /** An encoded value takes at least that many bytes. */
    private static final int MIN_BYTES_A_VALUE = 2;

    private BatchLimits() {}

    /**
     * Refuses what could not be read again.
     *
     * @param entries what was encoded
     * @param encodedLength the bytes it took, by which nearly every batch is known to have few enough values
     * @throws IllegalArgumentException if they are too many, or too large
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
            count++; // an object around a text, in JSON
        }
        return count;
    }

    /** What one payload has used up of the limits while it is read. Not thread-safe. */
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

        /** A text that an entry has, and that others may share: each of them looks at all of it. */
        void text(@Nullable String text) {
            characters += length(text);
            if (characters > MAX_BYTES) {
                throw new DamagedPayloadException(
                        "levels, source and trace ids of more than " + MAX_BYTES + " characters", null);
            }
        }
    }
}
