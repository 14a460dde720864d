package io.batchpersistence.internal.codec;

import static io.batchpersistence.internal.codec.ProtobufBuffer.FIXED64;
import static io.batchpersistence.internal.codec.ProtobufBuffer.VARINT;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.log.FrozenLabels;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Writes the columns of {@code batch_payload.proto}, one after the other. Not thread-safe. Reusable, which saves
 * allocating the buffers, but not after an exception.
 */
final class ProtobufEncoder {

    /** A larger buffer is not kept for the next batch, so that one huge batch does not occupy memory for ever. */
    private static final int MAX_REUSED_BYTES = 1 << 20;

    /** The same limit for tables and columns, whose elements take 8 to 16 bytes. */
    private static final int MAX_REUSED_ELEMENTS = 1 << 16;

    private final ProtobufBuffer payload = new ProtobufBuffer();
    private final ProtobufBuffer columns = new ProtobufBuffer();
    private final ProtobufBuffer deltas = new ProtobufBuffer();
    private final ProtobufBuffer nested = new ProtobufBuffer();
    private final StringTable strings = new StringTable();
    private final StringTable ids = new StringTable();
    private final MessageTable sets = new MessageTable();
    // Of the last label set: names and values, and their references.
    private @Nullable String[] labelTexts = new @Nullable String[32];
    private int[] labelReferences = new int[32];
    private int labelTextCount;
    private int maxLabelTextCount;
    private long[] column = new long[128];
    private long[] sourceNumbers = new long[128];
    // Indexed by the reference of the text.
    private long[] lastSourceNumbers = new long[32];

    /** Returns the encoding, which is overwritten by the next one. */
    ProtobufBuffer encode(List<LogEntry> list) {
        LogEntry[] entries = list.toArray(new LogEntry[0]);
        if (entries.length == 0) {
            throw new IllegalArgumentException("entries must not be empty: a batch has at least one entry");
        }
        if (column.length < entries.length) {
            column = new long[entries.length];
        }
        payload.clear();
        columns.clear();
        strings.clear();
        for (LogEntry entry : entries) {
            payload.string(PayloadSchema.MESSAGES, entry.message());
        }
        // Everything that refers to the table of texts is encoded before the table is written, but placed after it.
        timestamps(entries);
        levelsAndSourceTypes(entries);
        labels(entries);
        fields(entries);
        sourceIds(entries);
        traceIds(entries);
        spanIds(entries);
        for (int reference = 1; reference <= strings.size(); reference++) {
            payload.string(PayloadSchema.STRINGS, strings.text(reference));
        }
        payload.raw(columns.bytes(), 0, columns.length());
        // So that the texts can be garbage collected.
        strings.clear();
        return payload;
    }

    boolean isWorthKeeping() {
        return payload.capacity() <= MAX_REUSED_BYTES
                && columns.capacity() <= MAX_REUSED_BYTES
                && deltas.capacity() <= MAX_REUSED_BYTES
                && nested.capacity() <= MAX_REUSED_BYTES
                && sets.capacity() <= MAX_REUSED_BYTES
                && strings.capacity() <= MAX_REUSED_ELEMENTS
                && ids.capacity() <= MAX_REUSED_ELEMENTS
                && labelTexts.length <= MAX_REUSED_ELEMENTS
                && column.length <= MAX_REUSED_ELEMENTS;
    }

    private void timestamps(LogEntry[] entries) {
        long first = nanos(entries[0].timestamp());
        long unit = 1_000_000_000;
        long before = first;
        for (int i = 1; i < entries.length; i++) {
            long now = nanos(entries[i].timestamp());
            long delta = now - before;
            if (((now ^ before) & (now ^ delta)) < 0) {
                // Overflow: only with unit 1 does the sum modulo 2^64 restore the timestamp.
                unit = 1;
            }
            while (delta % unit != 0) {
                unit /= 1000;
            }
            column[i - 1] = delta;
            before = now;
        }
        int count = entries.length - 1;
        while (count > 0 && column[count - 1] == 0) {
            count--;
        }
        columns.tag(PayloadSchema.FIRST_TIMESTAMP, VARINT);
        columns.zigZag(first);
        if (count == 0) {
            return;
        }
        if (unit != 1) {
            columns.tag(PayloadSchema.TIMESTAMP_UNIT, VARINT);
            columns.varint(unit);
        }
        deltas.clear();
        for (int i = 0; i < count; i++) {
            deltas.zigZag(column[i] / unit);
        }
        columns.bytes(PayloadSchema.TIMESTAMP_DELTAS, deltas);
    }

    /** May overflow in an intermediate step, but the range of timestamps is such that the result does not. */
    private static long nanos(Instant instant) {
        return instant.getEpochSecond() * 1_000_000_000 + instant.getNano();
    }

    private void levelsAndSourceTypes(LogEntry[] entries) {
        String last = null;
        long reference = 0;
        for (int i = 0; i < entries.length; i++) {
            String level = entries[i].level();
            if (level == null || !level.equals(last)) {
                reference = strings.referenceOrZero(level);
                last = level;
            }
            column[i] = reference;
        }
        column(PayloadSchema.LEVELS, entries.length);

        last = null;
        reference = 0;
        for (int i = 0; i < entries.length; i++) {
            String sourceType = entries[i].sourceType();
            if (sourceType == null || !sourceType.equals(last)) {
                reference = strings.referenceOrZero(sourceType);
                last = sourceType;
            }
            column[i] = reference;
        }
        column(PayloadSchema.SOURCE_TYPES, entries.length);
    }

    private void labels(LogEntry[] entries) {
        sets.clear();
        labelTextCount = 0;
        Map<String, String> last = Map.of();
        long reference = 0;
        for (int i = 0; i < entries.length; i++) {
            Map<String, String> labels = entries[i].labels();
            if (labels != last) {
                reference = labels instanceof FrozenLabels texts ? labelSet(texts, reference) : 0;
                last = labels;
            }
            column[i] = reference;
        }
        // So that the texts can be garbage collected.
        Arrays.fill(labelTexts, 0, maxLabelTextCount, null);
        maxLabelTextCount = 0;
        sets.writeTo(columns, PayloadSchema.LABEL_SETS);
        column(PayloadSchema.ENTRY_LABEL_SETS, entries.length);
    }

    /** Consecutive entries usually have the same labels, or the same names with some other values. */
    private long labelSet(FrozenLabels labels, long lastSet) {
        int count = labels.length();
        boolean same = lastSet != 0 && labelTextCount == count;
        if (labelTexts.length < count) {
            labelTexts = Arrays.copyOf(labelTexts, 2 * count);
            labelReferences = Arrays.copyOf(labelReferences, 2 * count);
        }
        for (int i = 0; i < count; i++) {
            String text = labels.text(i);
            if (i >= labelTextCount || !text.equals(labelTexts[i])) {
                labelTexts[i] = text;
                labelReferences[i] = strings.reference(text);
                same = false;
            }
        }
        labelTextCount = count;
        maxLabelTextCount = Math.max(maxLabelTextCount, count);
        if (same) {
            return lastSet;
        }
        nested.clear();
        for (int i = 0; i < count; i++) {
            nested.varint(labelReferences[i]);
        }
        sets.data().bytes(PayloadSchema.LABEL_SET_LABELS, nested);
        return sets.reference();
    }

    private void fields(LogEntry[] entries) {
        sets.clear();
        for (int i = 0; i < entries.length; i++) {
            Map<String, @Nullable Object> fields = entries[i].fields();
            if (fields.isEmpty()) {
                column[i] = 0;
            } else {
                object(sets.data(), fields);
                column[i] = sets.reference();
            }
        }
        sets.writeTo(columns, PayloadSchema.FIELD_SETS);
        column(PayloadSchema.ENTRY_FIELD_SETS, entries.length);
    }

    private void object(ProtobufBuffer to, Map<?, ?> members) {
        if (members.isEmpty()) {
            return;
        }
        nested.clear();
        for (Object name : members.keySet()) {
            nested.varint(strings.reference((String) Objects.requireNonNull(name)));
        }
        to.bytes(PayloadSchema.OBJECT_NAMES, nested);
        for (Object value : members.values()) {
            value(to, PayloadSchema.OBJECT_VALUES, value);
        }
    }

    private void value(ProtobufBuffer to, int field, @Nullable Object value) {
        int start = to.beginMessage(field);
        if (value instanceof String text) {
            to.string(PayloadSchema.VALUE_STRING, text);
        } else if (value instanceof Long number) {
            to.tag(PayloadSchema.VALUE_INTEGER, VARINT);
            to.zigZag(number);
        } else if (value instanceof Double number) {
            to.tag(PayloadSchema.VALUE_DOUBLE, FIXED64);
            to.fixed64(Double.doubleToRawLongBits(number));
        } else if (value instanceof Boolean flag) {
            to.tag(PayloadSchema.VALUE_BOOL, VARINT);
            to.varint(flag ? 1 : 0);
        } else if (value instanceof BigInteger number) {
            to.bytes(PayloadSchema.VALUE_BIG_INTEGER, number.toByteArray());
        } else if (value instanceof BigDecimal number) {
            int decimal = to.beginMessage(PayloadSchema.VALUE_DECIMAL);
            to.bytes(PayloadSchema.DECIMAL_UNSCALED, number.unscaledValue().toByteArray());
            if (number.scale() != 0) {
                to.tag(PayloadSchema.DECIMAL_SCALE, VARINT);
                to.zigZag(number.scale());
            }
            to.endMessage(decimal);
        } else if (value instanceof List<?> elements) {
            int list = to.beginMessage(PayloadSchema.VALUE_LIST);
            for (Object element : elements) {
                value(to, PayloadSchema.LIST_VALUES, element);
            }
            to.endMessage(list);
        } else if (value instanceof Map<?, ?> members) {
            int object = to.beginMessage(PayloadSchema.VALUE_OBJECT);
            object(to, members);
            to.endMessage(object);
        } else if (value != null) {
            throw new IllegalArgumentException(
                    "not a JSON value: " + value.getClass().getName());
        }
        to.endMessage(start);
    }

    private void sourceIds(LogEntry[] entries) {
        // The text part of the last source id that was split: the next id usually begins with it.
        String text = null;
        int reference = 0;
        if (sourceNumbers.length < entries.length) {
            sourceNumbers = new long[entries.length];
        }
        long[] numbers = sourceNumbers;
        boolean anyNumber = false;
        for (int i = 0; i < entries.length; i++) {
            String id = entries[i].sourceId();
            numbers[i] = 0;
            if (id == null) {
                column[i] = 0;
                continue;
            }
            int split = numberStart(id);
            if (text == null || text.length() != split || !id.startsWith(text)) {
                text = id.substring(0, split);
                reference = strings.reference(text);
            }
            column[i] = reference;
            if (split < id.length()) {
                numbers[i] = Long.parseLong(id, split, id.length(), 10) + 1;
                anyNumber = true;
            }
        }
        if (anyNumber) {
            sourceNumbers(numbers, entries.length);
        }
        column(PayloadSchema.SOURCE_TEXTS, entries.length);
    }

    private void sourceNumbers(long[] numbers, int entryCount) {
        if (lastSourceNumbers.length <= strings.size()) {
            lastSourceNumbers = new long[strings.size() * 2];
        } else {
            Arrays.fill(lastSourceNumbers, 0);
        }
        for (int i = 0; i < entryCount; i++) {
            long number = numbers[i];
            int reference = (int) column[i];
            numbers[i] = number - lastSourceNumbers[reference];
            lastSourceNumbers[reference] = number;
        }
        int count = entryCount;
        while (count > 0 && numbers[count - 1] == 0) {
            count--;
        }
        deltas.clear();
        for (int i = 0; i < count; i++) {
            deltas.zigZag(numbers[i]);
        }
        columns.bytes(PayloadSchema.SOURCE_NUMBERS, deltas);
    }

    /** Returns where the number at the end of a source id begins; the length of the id if there is none. */
    private static int numberStart(String id) {
        int length = id.length();
        if (length > PayloadSchema.MAX_SPLIT_SOURCE_ID) {
            return length;
        }
        int start = length;
        int earliest = Math.max(0, length - PayloadSchema.MAX_SOURCE_DIGITS);
        while (start > earliest && id.charAt(start - 1) >= '0' && id.charAt(start - 1) <= '9') {
            start--;
        }
        while (start < length - 1 && id.charAt(start) == '0') {
            start++;
        }
        return start;
    }

    private void traceIds(LogEntry[] entries) {
        ids.clear();
        for (int i = 0; i < entries.length; i++) {
            column[i] = ids.referenceOrZero(entries[i].traceId());
        }
        ids(PayloadSchema.TRACE_IDS, PayloadSchema.TRACE_ID_TEXTS, PayloadSchema.TRACE_ID_BYTES);
        column(PayloadSchema.ENTRY_TRACE_IDS, entries.length);
    }

    private void spanIds(LogEntry[] entries) {
        ids.clear();
        for (int i = 0; i < entries.length; i++) {
            column[i] = ids.referenceOrZero(entries[i].spanId());
        }
        ids(PayloadSchema.SPAN_IDS, PayloadSchema.SPAN_ID_TEXTS, PayloadSchema.SPAN_ID_BYTES);
        column(PayloadSchema.ENTRY_SPAN_IDS, entries.length);
    }

    private void ids(int bytesField, int textsField, int bytesEach) {
        if (ids.size() == 0) {
            return;
        }
        nested.clear();
        for (int reference = 1; reference <= ids.size(); reference++) {
            if (!Hex.append(ids.text(reference), bytesEach, nested)) {
                for (int text = 1; text <= ids.size(); text++) {
                    columns.string(textsField, ids.text(text));
                }
                ids.clear();
                return;
            }
        }
        columns.bytes(bytesField, nested);
        ids.clear();
    }

    private void column(int field, int entryCount) {
        int count = entryCount;
        while (count > 0 && column[count - 1] == (count == 1 ? 0 : column[count - 2])) {
            count--;
        }
        if (count == 0) {
            return;
        }
        deltas.clear();
        long before = 0;
        for (int i = 0; i < count; i++) {
            deltas.zigZag(column[i] - before);
            before = column[i];
        }
        columns.bytes(field, deltas);
    }
}
