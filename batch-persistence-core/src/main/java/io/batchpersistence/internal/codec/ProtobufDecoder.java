package io.batchpersistence.internal.codec;

import static io.batchpersistence.internal.codec.BatchLimits.MAX_ENTRIES;
import static io.batchpersistence.internal.codec.BatchLimits.MAX_VALUES;
import static io.batchpersistence.internal.codec.ProtobufReader.damaged;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.codec.BatchLimits.Budget;
import io.batchpersistence.internal.log.DecodedLabels;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Reads {@code batch_payload.proto}. For one payload and one thread.
 *
 * <p>Does not trust its input: memory is allocated for bytes that exist, never for a declared number, and within {@link
 * BatchLimits}.
 */
final class ProtobufDecoder {

    /** Slightly more than a {@link LogEntry} allows, whose own check then gives the error message. */
    private static final int MAX_DEPTH = 220;

    /** Limit of shared texts: names and values of labels, names of fields; levels, source types and source ids. */
    private static final int MAX_STRINGS = 2 * MAX_VALUES + 3 * MAX_ENTRIES;

    private final ProtobufReader in;
    private final List<String> messages = new ArrayList<>();
    private final List<String> strings = new ArrayList<>();
    /** References to the names and values of all label sets, one set after the other. */
    private int[] labels = {};

    private int labelCount;
    /** Where in {@link #labels} each set ends. */
    private int[] labelSetEnds = {};

    private int labelSetCount;
    /** A set that was resolved, none of whose names is there twice; the next one mostly has the same names. */
    private @Nullable DecodedLabels lastLabels;

    private int lastLabelsStart;
    private final List<byte[]> fieldSets = new ArrayList<>();
    private final List<String> traceIdTexts = new ArrayList<>();
    private final List<String> spanIdTexts = new ArrayList<>();
    private final Column timestampDeltas = new Column(MAX_ENTRIES);
    private final Column levels = new Column(MAX_ENTRIES);
    private final Column sourceTypes = new Column(MAX_ENTRIES);
    private final Column entryLabelSets = new Column(MAX_ENTRIES);
    private final Column entryFieldSets = new Column(MAX_ENTRIES);
    private final Column sourceTexts = new Column(MAX_ENTRIES);
    private final Column sourceNumbers = new Column(MAX_ENTRIES);
    private final Column entryTraceIds = new Column(MAX_ENTRIES);
    private final Column entrySpanIds = new Column(MAX_ENTRIES);
    private final Budget budget = new Budget();
    private byte[] traceIds = {};
    private byte[] spanIds = {};
    private long firstTimestamp;
    private long timestampUnit;

    ProtobufDecoder(byte[] bytes) {
        in = new ProtobufReader(bytes);
    }

    List<LogEntry> decode() {
        int tag;
        while ((tag = in.tag()) != 0) {
            switch (tag >>> 3) {
                case PayloadSchema.MESSAGES -> add(messages, in.string(tag), MAX_ENTRIES);
                case PayloadSchema.STRINGS -> add(strings, in.string(tag), MAX_STRINGS);
                case PayloadSchema.FIRST_TIMESTAMP -> firstTimestamp = in.zigZag(tag);
                case PayloadSchema.TIMESTAMP_UNIT -> timestampUnit = in.varint(tag);
                case PayloadSchema.TIMESTAMP_DELTAS -> timestampDeltas.read(in, tag);
                case PayloadSchema.LEVELS -> levels.read(in, tag);
                case PayloadSchema.SOURCE_TYPES -> sourceTypes.read(in, tag);
                case PayloadSchema.LABEL_SETS -> labelSet(tag);
                case PayloadSchema.ENTRY_LABEL_SETS -> entryLabelSets.read(in, tag);
                case PayloadSchema.FIELD_SETS -> add(fieldSets, in.bytes(tag), MAX_ENTRIES);
                case PayloadSchema.ENTRY_FIELD_SETS -> entryFieldSets.read(in, tag);
                case PayloadSchema.SOURCE_TEXTS -> sourceTexts.read(in, tag);
                case PayloadSchema.SOURCE_NUMBERS -> sourceNumbers.read(in, tag);
                case PayloadSchema.TRACE_IDS -> traceIds = in.bytes(tag);
                case PayloadSchema.TRACE_ID_TEXTS -> add(traceIdTexts, in.string(tag), MAX_ENTRIES);
                case PayloadSchema.ENTRY_TRACE_IDS -> entryTraceIds.read(in, tag);
                case PayloadSchema.SPAN_IDS -> spanIds = in.bytes(tag);
                case PayloadSchema.SPAN_ID_TEXTS -> add(spanIdTexts, in.string(tag), MAX_ENTRIES);
                case PayloadSchema.ENTRY_SPAN_IDS -> entrySpanIds.read(in, tag);
                default -> in.skip(tag);
            }
        }
        return entries();
    }

    private static <T> void add(List<T> list, T element, int max) {
        if (list.size() == max) {
            throw damaged("more than " + max + " elements in a table");
        }
        list.add(element);
    }

    private List<LogEntry> entries() {
        int count = messages.size();
        if (count == 0) {
            throw damaged("no entries");
        }
        if (timestampDeltas.size() >= count) {
            throw damaged("more timestamps than entries");
        }
        // The tables with their references resolved: entries that refer to the same element share it.
        int[] levelOf = levels.references(count, strings.size());
        int[] sourceTypeOf = sourceTypes.references(count, strings.size());
        int[] labelSetOf = entryLabelSets.references(count, labelSetCount);
        int[] fieldSetOf = entryFieldSets.references(count, fieldSets.size());
        @Nullable String[] sourceIds = sourceIds(count);
        @Nullable String[] traceIdOf = ids(traceIds, traceIdTexts, PayloadSchema.TRACE_ID_BYTES, entryTraceIds, count);
        @Nullable String[] spanIdOf = ids(spanIds, spanIdTexts, PayloadSchema.SPAN_ID_BYTES, entrySpanIds, count);
        @Nullable DecodedLabels[] labelSets = new @Nullable DecodedLabels[labelSetCount];
        // Generic arrays can't be created otherwise.
        @SuppressWarnings({"unchecked", "rawtypes"})
        @Nullable
        Map<String, @Nullable Object>[] fields = new Map[fieldSets.size()];

        LogEntry[] entries = new LogEntry[count];
        long unit = timestampUnit == 0 ? 1 : timestampUnit;
        long nanos = firstTimestamp;
        for (int i = 0; i < count; i++) {
            if (i > 0) {
                nanos += timestampDeltas.get(i - 1) * unit;
            }
            int labelSet = labelSetOf[i] - 1;
            int fieldSet = fieldSetOf[i] - 1;
            DecodedLabels entryLabels = labelSet < 0 ? DecodedLabels.NONE : labelSets[labelSet];
            if (entryLabels == null) {
                entryLabels = labels(labelSet);
                labelSets[labelSet] = entryLabels;
            }
            Map<String, @Nullable Object> entryFields = fieldSet < 0 ? Map.of() : fields[fieldSet];
            String level = levelOf[i] == 0 ? null : strings.get(levelOf[i] - 1);
            String sourceType = sourceTypeOf[i] == 0 ? null : strings.get(sourceTypeOf[i] - 1);
            budget.text(level);
            budget.text(sourceType);
            budget.text(traceIdOf[i]);
            budget.text(spanIdOf[i]);
            LogEntry entry = new LogEntry(
                    Instant.ofEpochSecond(Math.floorDiv(nanos, 1_000_000_000L), Math.floorMod(nanos, 1_000_000_000L)),
                    level,
                    messages.get(i),
                    entryLabels,
                    entryFields == null ? fields(fieldSets.get(fieldSet)) : entryFields,
                    sourceType,
                    sourceIds[i],
                    traceIdOf[i],
                    spanIdOf[i]);
            // Keep the entry's own map rather than that passed to it: LogEntry recognizes it and shares it instead of
            // copying.
            if (entryFields == null) {
                fields[fieldSet] = entry.fields();
            }
            entries[i] = entry;
        }
        return List.of(entries);
    }

    private @Nullable String[] sourceIds(int count) {
        int[] textOf = sourceTexts.references(count, strings.size());
        sourceNumbers.checkSize(count);
        @Nullable String[] sourceIds = new @Nullable String[count];
        long[] last = new long[strings.size() + 1];
        for (int i = 0; i < count; i++) {
            int reference = textOf[i];
            long number = last[reference] + sourceNumbers.get(i);
            last[reference] = number;
            if (reference == 0) {
                continue;
            }
            String text = strings.get(reference - 1);
            if (number < 0 || (number > 0 && text.length() > PayloadSchema.MAX_SPLIT_SOURCE_ID)) {
                throw damaged("impossible source id");
            }
            sourceIds[i] = text;
            if (number > 0) {
                sourceIds[i] = text + (number - 1);
            }
            budget.text(sourceIds[i]);
        }
        return sourceIds;
    }

    private static @Nullable String[] ids(byte[] packed, List<String> texts, int bytesEach, Column column, int count) {
        if (packed.length % bytesEach != 0
                || packed.length / bytesEach > MAX_ENTRIES
                || (packed.length > 0 && !texts.isEmpty())) {
            throw damaged("impossible trace or span ids");
        }
        List<String> table = texts;
        if (packed.length > 0) {
            table = new ArrayList<>(packed.length / bytesEach);
            for (int from = 0; from < packed.length; from += bytesEach) {
                table.add(Hex.text(packed, from, bytesEach));
            }
        }
        @Nullable String[] ids = new @Nullable String[count];
        if (column.size() > 0) {
            int[] references = column.references(count, table.size());
            for (int i = 0; i < count; i++) {
                ids[i] = references[i] == 0 ? null : table.get(references[i] - 1);
            }
        }
        return ids;
    }

    private void labelSet(int tag) {
        if (labelSetCount == MAX_ENTRIES) {
            throw damaged("more than " + MAX_ENTRIES + " elements in a table");
        }
        int outer = in.begin(tag);
        int start = labelCount;
        int inner;
        while ((inner = in.tag()) != 0) {
            if (inner >>> 3 != PayloadSchema.LABEL_SET_LABELS) {
                in.skip(inner);
            } else if ((inner & 7) == ProtobufBuffer.VARINT) {
                readLabel();
            } else {
                int packed = in.begin(inner);
                readLabels();
                in.end(packed);
            }
        }
        in.end(outer);
        budget.values((labelCount - start) / 2);
        if (labelSetCount == labelSetEnds.length) {
            labelSetEnds = Arrays.copyOf(labelSetEnds, Math.max(16, labelSetCount * 2));
        }
        labelSetEnds[labelSetCount++] = labelCount;
    }

    private void readLabels() {
        int bytes = in.remaining();
        if (bytes > 2 * MAX_VALUES - labelCount) {
            // Perhaps not that many labels: most numbers may take several bytes.
            while (in.remaining() > 0) {
                readLabel();
            }
            return;
        }
        makeRoom(bytes);
        labelCount = in.unsignedInts(labels, labelCount);
    }

    private void readLabel() {
        if (labelCount == 2 * MAX_VALUES) {
            throw damaged("more than " + MAX_VALUES + " labels");
        }
        makeRoom(1);
        labels[labelCount++] = Math.toIntExact(in.varint());
    }

    private void makeRoom(int more) {
        if (more > labels.length - labelCount) {
            labels = Arrays.copyOf(labels, Math.max(16, Math.max(labelCount + more, labelCount * 2)));
        }
    }

    /** Called only at the end, because texts may come after the labels. */
    private DecodedLabels labels(int set) {
        int start = set == 0 ? 0 : labelSetEnds[set - 1];
        String[] texts = new String[labelSetEnds[set] - start];
        if (texts.length == 0 || texts.length % 2 != 0) {
            throw damaged("impossible label set");
        }
        for (int i = 0; i < texts.length; i++) {
            texts[i] = text(labels[start + i]);
        }
        DecodedLabels last = lastLabels;
        if (last != null && haveSameNames(lastLabelsStart, start, last.size(), texts.length / 2)) {
            return last.withTexts(texts);
        }
        DecodedLabels decoded = DecodedLabels.of(texts);
        // No name is there twice.
        if (2 * decoded.size() == texts.length) {
            lastLabels = decoded;
            lastLabelsStart = start;
        }
        return decoded;
    }

    private boolean haveSameNames(int start, int otherStart, int count, int otherCount) {
        if (count != otherCount) {
            return false;
        }
        for (int i = 0; i < 2 * count; i += 2) {
            if (labels[start + i] != labels[otherStart + i]) {
                return false;
            }
        }
        return true;
    }

    private String text(int reference) {
        if (reference < 1 || reference > strings.size()) {
            throw damaged("reference to a missing text");
        }
        return strings.get(reference - 1);
    }

    /** Decodes a field set. Called only at the end, because texts may come after the fields. */
    private Map<String, @Nullable Object> fields(byte[] encoded) {
        Map<String, @Nullable Object> fields = object(new ProtobufReader(encoded), 1);
        if (fields.isEmpty()) {
            throw damaged("empty field set");
        }
        return fields;
    }

    private Map<String, @Nullable Object> object(ProtobufReader from, int depth) {
        Column names = new Column(MAX_VALUES);
        List<@Nullable Object> values = new ArrayList<>();
        int tag;
        while ((tag = from.tag()) != 0) {
            switch (tag >>> 3) {
                case PayloadSchema.OBJECT_NAMES -> names.readUnsigned(from, tag);
                case PayloadSchema.OBJECT_VALUES -> values.add(value(from, tag, depth));
                default -> from.skip(tag);
            }
        }
        if (names.size() != values.size()) {
            throw damaged("object with " + names.size() + " names for " + values.size() + " values");
        }
        int[] references = names.toIntArray();
        Map<String, @Nullable Object> object = new LinkedHashMap<>(references.length * 4 / 3 + 1);
        for (int i = 0; i < references.length; i++) {
            object.put(text(references[i]), values.get(i));
        }
        return object;
    }

    private @Nullable Object value(ProtobufReader from, int tag, int depth) {
        if (depth > MAX_DEPTH) {
            throw damaged("fields nested too deep");
        }
        budget.values(1);
        int outer = from.begin(tag);
        Object value = null;
        int inner;
        while ((inner = from.tag()) != 0) {
            switch (inner >>> 3) {
                case PayloadSchema.VALUE_BOOL -> value = from.varint(inner) != 0;
                case PayloadSchema.VALUE_INTEGER -> value = from.zigZag(inner);
                case PayloadSchema.VALUE_DOUBLE -> value = from.fixed64(inner);
                case PayloadSchema.VALUE_STRING -> value = from.string(inner);
                case PayloadSchema.VALUE_BIG_INTEGER -> value = new BigInteger(from.bytes(inner));
                case PayloadSchema.VALUE_DECIMAL -> value = decimal(from, inner);
                case PayloadSchema.VALUE_LIST -> value = list(from, inner, depth + 1);
                case PayloadSchema.VALUE_OBJECT -> {
                    int limit = from.begin(inner);
                    value = object(from, depth + 1);
                    from.end(limit);
                }
                default -> from.skip(inner);
            }
        }
        from.end(outer);
        return value;
    }

    private List<@Nullable Object> list(ProtobufReader from, int tag, int depth) {
        int outer = from.begin(tag);
        List<@Nullable Object> list = new ArrayList<>();
        int inner;
        while ((inner = from.tag()) != 0) {
            if (inner >>> 3 == PayloadSchema.LIST_VALUES) {
                list.add(value(from, inner, depth));
            } else {
                from.skip(inner);
            }
        }
        from.end(outer);
        return list;
    }

    private static BigDecimal decimal(ProtobufReader from, int tag) {
        int outer = from.begin(tag);
        byte[] unscaled = {};
        int scale = 0;
        int inner;
        while ((inner = from.tag()) != 0) {
            switch (inner >>> 3) {
                case PayloadSchema.DECIMAL_UNSCALED -> unscaled = from.bytes(inner);
                case PayloadSchema.DECIMAL_SCALE -> scale = (int) from.zigZag(inner);
                default -> from.skip(inner);
            }
        }
        from.end(outer);
        return new BigDecimal(new BigInteger(unscaled), scale);
    }

    /** A growing list of numbers, packed or not. */
    private static final class Column {

        private final int max;
        private long[] numbers = {};
        private int size;

        Column(int max) {
            this.max = max;
        }

        int size() {
            return size;
        }

        /** Returns the number at an index, or 0 if it was omitted at the end. */
        long get(int index) {
            return index < size ? numbers[index] : 0;
        }

        void read(ProtobufReader from, int tag) {
            if ((tag & 7) == ProtobufBuffer.VARINT) {
                add(from.zigZag());
                return;
            }
            int outer = from.begin(tag);
            reserve(from.remaining());
            if (from.remaining() <= numbers.length - size) {
                size = from.signedLongs(numbers, size);
            }
            while (from.remaining() > 0) {
                add(from.zigZag());
            }
            from.end(outer);
        }

        void readUnsigned(ProtobufReader from, int tag) {
            if ((tag & 7) == ProtobufBuffer.VARINT) {
                add(from.varint());
                return;
            }
            int outer = from.begin(tag);
            reserve(from.remaining());
            while (from.remaining() > 0) {
                add(from.varint());
            }
            from.end(outer);
        }

        void checkSize(int entryCount) {
            if (size > entryCount) {
                throw damaged("a column of " + size + " numbers for " + entryCount + " entries");
            }
        }

        /** Sums up the differences to references into a table. */
        int[] references(int entryCount, int tableSize) {
            checkSize(entryCount);
            int[] references = new int[entryCount];
            long reference = 0;
            for (int i = 0; i < size; i++) {
                reference += numbers[i];
                if (reference < 0 || reference > tableSize) {
                    throw damaged("reference to a missing element");
                }
                references[i] = (int) reference;
            }
            Arrays.fill(references, size, entryCount, (int) reference);
            return references;
        }

        int[] toIntArray() {
            int[] ints = new int[size];
            for (int i = 0; i < size; i++) {
                ints[i] = Math.toIntExact(numbers[i]);
            }
            return ints;
        }

        /**
         * Allocates for bytes that exist: a limit beyond the end has been refused before. Each number takes at least
         * one byte.
         */
        private void reserve(int bytes) {
            if (size == 0) {
                numbers = new long[Math.min(bytes, max)];
            }
        }

        private void add(long number) {
            if (size == max) {
                throw damaged("a column of more than " + max + " numbers");
            }
            if (size == numbers.length) {
                numbers = Arrays.copyOf(numbers, Math.max(16, size * 2));
            }
            numbers[size++] = number;
        }
    }
}
