package io.batchpersistence.internal.codec;

import static io.batchpersistence.internal.codec.RandomEntries.assertSame;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import io.batchpersistence.BatchFormat;
import io.batchpersistence.LogEntry;
import io.batchpersistence.proto.v1.BatchPayload;
import io.batchpersistence.proto.v1.LabelSet;
import io.batchpersistence.proto.v1.ListValue;
import io.batchpersistence.proto.v1.ObjectValue;
import io.batchpersistence.proto.v1.Value;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ProtobufBatchCodecTest {

    /**
     * Never change this: disks hold payloads in this format. A new field changes what is written, but never what can be
     * read.
     */
    private static final String GOLDEN = ""
            + "0a0d6772c3b6c39f657220f09f98800a000a04626172650a046c6173741204494e464f12045741524e12001204"
            + "66696c651203617070120473686f701204686f737412057765622d3112056f7264657212026964120570726963"
            + "651204687567651205726174696f12047061696412046e6f746512047461677312122f7661722f6c6f672f7368"
            + "6f702e6c6f673a120361303018e49febd0c8bce5863120c0843d2a02181d3204020203063a040800070642060a"
            + "04050607084a03020001524d0a0109124842460a070a0b0c0d0e0f101202100e120832060a0200961004120b2a"
            + "090100000000000000001209190000000000000080120208011200120f3a0d0a032201610a023a000a0242005a"
            + "030200016a04a610021062042200021d72104bf92f3577b34da6a3ce929d0e0e47368201030200019201103030"
            + "66303637616130626139303262379201009a0103020203";

    private final BatchCodec codec = Formats.codec(BatchFormat.PROTOBUF);

    @Test
    void gives_back_what_was_put_in() {
        for (int seed = 0; seed < 4_000; seed++) {
            List<LogEntry> batch = new RandomEntries(seed).batch();
            assertSame(codec.decode(codec.encode(batch)), batch);
        }
    }

    @Test
    void writes_and_reads_the_golden_bytes() {
        List<LogEntry> batch = RandomEntries.oneOfEverything();
        assertThat(HexFormat.of().formatHex(codec.encode(batch))).isEqualTo(GOLDEN);
        assertSame(codec.decode(HexFormat.of().parseHex(GOLDEN)), batch);
    }

    @Test
    void can_be_read_from_the_schema_alone() throws Exception {
        for (int seed = 0; seed < 1_000; seed++) {
            List<LogEntry> batch = new RandomEntries(seed).batch();
            assertSame(new SchemaReader(BatchPayload.parseFrom(codec.encode(batch))).entries(), batch);
        }
    }

    @Test
    void reads_what_protobuf_itself_writes() throws Exception {
        List<LogEntry> batch = RandomEntries.oneOfEverything();
        BatchPayload payload = BatchPayload.parseFrom(codec.encode(batch));
        assertThat(payload.getUnknownFields().asMap()).isEmpty();
        assertSame(codec.decode(payload.toByteArray()), batch);
    }

    @Test
    void accepts_numbers_that_are_not_packed() {
        byte[] unpacked = BatchPayload.newBuilder()
                .addMessages("a")
                .addMessages("b")
                .addStrings("INFO")
                .setUnknownFields(UnknownFieldSet.newBuilder()
                        .addField(
                                BatchPayload.LEVELS_FIELD_NUMBER,
                                UnknownFieldSet.Field.newBuilder()
                                        .addVarint(2)
                                        .addVarint(1)
                                        .build())
                        .build())
                .build()
                .toByteArray();
        assertThat(codec.decode(unpacked)).extracting(LogEntry::level).containsExactly("INFO", null);
    }

    /** An entry trusts its decoder, so it is not checked for what no decoded text can contain. */
    @Test
    void whatever_the_bytes_are_texts_are_well_formed() {
        // An unpaired surrogate, as no UTF-8 has it.
        ByteString broken = ByteString.copyFrom(new byte[] {(byte) 0xED, (byte) 0xA0, (byte) 0x80, 'x'});
        UnknownFieldSet.Field text =
                UnknownFieldSet.Field.newBuilder().addLengthDelimited(broken).build();
        byte[] payload = BatchPayload.newBuilder()
                .setUnknownFields(UnknownFieldSet.newBuilder()
                        .addField(BatchPayload.MESSAGES_FIELD_NUMBER, text)
                        .addField(BatchPayload.STRINGS_FIELD_NUMBER, text)
                        .addField(BatchPayload.TRACE_ID_TEXTS_FIELD_NUMBER, text)
                        .addField(BatchPayload.SPAN_ID_TEXTS_FIELD_NUMBER, text)
                        .build())
                .addLevels(1)
                .addSourceTypes(1)
                .addSourceTexts(1)
                .addEntryTraceIds(1)
                .addEntrySpanIds(1)
                .addLabelSets(LabelSet.newBuilder().addLabels(1).addLabels(1))
                .addEntryLabelSets(1)
                .build()
                .toByteArray();
        LogEntry entry = codec.decode(payload).get(0);
        assertThat(entry.message()).startsWith("\uFFFD").endsWith("x");
        assertThat(List.of(entry.message(), entry.message(), entry.message(), entry.message(), entry.message()))
                .containsExactly(
                        String.valueOf(entry.level()),
                        String.valueOf(entry.sourceType()),
                        String.valueOf(entry.sourceId()),
                        String.valueOf(entry.traceId()),
                        String.valueOf(entry.spanId()));
        assertThat(entry.labels()).isEqualTo(Map.of(entry.message(), entry.message()));
        // Its labels do not vouch for the texts of another entry.
        LogEntry other =
                new LogEntry(Instant.EPOCH, "\uD800", "\uD800", entry.labels(), Map.of(), null, null, null, null);
        assertThat(other.message()).isEqualTo("\uFFFD").isEqualTo(other.level());
        assertThat(other.labels()).isSameAs(entry.labels());
    }

    @Test
    void a_label_that_is_there_twice_has_its_last_value() {
        byte[] payload = BatchPayload.newBuilder()
                .addAllMessages(List.of("a", "b", "c", "d", "e"))
                .addAllStrings(List.of("app", "shop", "till"))
                .addLabelSets(LabelSet.newBuilder().addAllLabels(List.of(1, 2, 3, 3)))
                .addLabelSets(LabelSet.newBuilder().addAllLabels(List.of(1, 2, 1, 3, 3, 3)))
                .addLabelSets(LabelSet.newBuilder().addAllLabels(List.of(1, 2, 1, 3)))
                .addLabelSets(LabelSet.newBuilder().addAllLabels(List.of(1, 3, 3, 1)))
                .addLabelSets(LabelSet.newBuilder().addAllLabels(List.of(3, 2, 1, 1)))
                .addAllEntryLabelSets(List.of(1, 1, 1, 1, 1))
                .build()
                .toByteArray();
        List<LogEntry> entries = codec.decode(payload);
        assertThat(entries.get(0).labels()).containsExactly(Map.entry("app", "shop"), Map.entry("till", "till"));
        assertThat(entries.get(1).labels()).containsExactly(Map.entry("app", "till"), Map.entry("till", "till"));
        assertThat(entries.get(2).labels()).containsExactly(Map.entry("app", "till"));
        assertThat(entries.get(3).labels()).containsExactly(Map.entry("app", "till"), Map.entry("till", "app"));
        assertThat(entries.get(4).labels()).containsExactly(Map.entry("till", "shop"), Map.entry("app", "app"));
    }

    /** With so many, they are found by a table, which sets with the same names share. */
    @Test
    void many_labels_with_the_names_of_the_set_before_are_found() {
        List<LogEntry> batch = new ArrayList<>();
        for (int entry = 0; entry < 3; entry++) {
            LogEntry.Builder builder = LogEntry.builder(Instant.EPOCH, "m");
            for (int label = 0; label < 20; label++) {
                builder.label("name" + label, "value" + label * entry);
            }
            batch.add(builder.build());
        }
        List<LogEntry> decoded = codec.decode(codec.encode(batch));
        assertSame(decoded, batch);
        assertThat(decoded.get(2).labels())
                .containsEntry("name19", "value38")
                .containsEntry("name0", "value0")
                .doesNotContainKey("name20");
    }

    @Test
    void skips_fields_it_does_not_know() throws Exception {
        List<LogEntry> batch = RandomEntries.oneOfEverything();
        BatchPayload.Builder payload = BatchPayload.parseFrom(codec.encode(batch)).toBuilder();
        UnknownFieldSet later = UnknownFieldSet.newBuilder()
                .addField(
                        500,
                        UnknownFieldSet.Field.newBuilder()
                                .addVarint(1)
                                .addFixed32(2)
                                .addFixed64(3)
                                .addLengthDelimited(ByteString.copyFromUtf8("later"))
                                .addGroup(UnknownFieldSet.newBuilder().build())
                                .build())
                .build();
        payload.setUnknownFields(later);
        payload.getLabelSetsBuilder(0).setUnknownFields(later);
        payload.getFieldSetsBuilder(0).setUnknownFields(later);
        payload.getFieldSetsBuilder(0).getValuesBuilder(0).setUnknownFields(later);
        assertSame(codec.decode(payload.build().toByteArray()), batch);
    }

    @Test
    void costs_nothing_for_what_is_absent() throws Exception {
        List<LogEntry> bare = IntStream.range(0, 1_000)
                .mapToObj(i -> LogEntry.of(Instant.EPOCH, null, "m"))
                .toList();
        // A tag, a length and a letter for each message; a tag and a zero for the first timestamp.
        assertThat(codec.encode(bare)).hasSize(3 * 1_000 + 2);
        List<LogEntry> uniform = IntStream.range(0, 1_000)
                .mapToObj(i -> LogEntry.builder(Instant.EPOCH, "m")
                        .level("I")
                        .label("k", "v")
                        .build())
                .toList();
        BatchPayload payload = BatchPayload.parseFrom(codec.encode(uniform));
        assertThat(payload.getLevelsList()).containsExactly(1);
        assertThat(payload.getEntryLabelSetsList()).containsExactly(1);
        assertThat(payload.getLabelSetsList()).hasSize(1);
    }

    @Test
    void shares_labels_and_texts_between_entries() {
        List<LogEntry> decoded = codec.decode(codec.encode(RandomEntries.oneOfEverything()));
        assertThat(decoded.get(0).sourceType()).isSameAs(decoded.get(1).sourceType());
        assertThat(decoded.get(0).traceId()).isSameAs(decoded.get(1).traceId());
    }

    @Test
    void keeps_fields_of_different_order_apart() {
        Map<String, Object> oneWay = new LinkedHashMap<>();
        oneWay.put("a", 1L);
        oneWay.put("b", 2L);
        Map<String, Object> otherWay = new LinkedHashMap<>();
        otherWay.put("b", 2L);
        otherWay.put("a", 1L);
        List<LogEntry> batch = List.of(
                LogEntry.builder(Instant.EPOCH, "m").fields(oneWay).build(),
                LogEntry.builder(Instant.EPOCH, "m").fields(otherWay).build(),
                LogEntry.builder(Instant.EPOCH, "m").field("a", 0.0).build(),
                LogEntry.builder(Instant.EPOCH, "m").field("a", -0.0).build());
        assertSame(codec.decode(codec.encode(batch)), batch);
    }

    @Test
    void many_different_texts_sets_and_ids() {
        List<LogEntry> batch = IntStream.range(0, 20_000)
                .mapToObj(i -> LogEntry.builder(Instant.ofEpochSecond(i), "m" + i)
                        .level("level-" + i)
                        .label("k" + i % 1_000, "v" + i)
                        .field("f" + i % 500, (long) i)
                        .source("t" + i, i + "-x")
                        .trace(String.format("%032x", i), String.format("%016x", i))
                        .build())
                .toList();
        assertSame(codec.decode(codec.encode(batch)), batch);
        // The codec keeps no state of the previous batch.
        List<LogEntry> small = RandomEntries.oneOfEverything();
        assertThat(HexFormat.of().formatHex(codec.encode(small))).isEqualTo(GOLDEN);
    }

    @Test
    void nested_as_deep_as_an_entry_allows() {
        List<LogEntry> batch = List.of(LogEntry.builder(Instant.EPOCH, "deep")
                .field("f", nested(199, "x".repeat(300)))
                .build());
        assertSame(codec.decode(codec.encode(batch)), batch);
    }

    static Object nested(int levels, Object innermost) {
        Object value = innermost;
        for (int i = 0; i < levels; i++) {
            value = i % 2 == 0 ? List.of(value) : Map.of("k", value);
        }
        return value;
    }

    @Test
    void message_of50_megabytes() {
        List<LogEntry> batch = List.of(
                LogEntry.of(Instant.EPOCH, "INFO", "ä\n".repeat(25 << 20)), LogEntry.of(Instant.EPOCH, "INFO", "b"));
        assertThat(codec.decode(codec.encode(batch)).equals(batch)).isTrue();
    }

    @Test
    void refuses_an_empty_batch() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> codec.encode(List.of()))
                .withMessageContaining("at least one entry");
        assertDamaged(new byte[0]);
    }

    @Test
    void every_truncation_and_bit_flip_is_harmless() {
        byte[] payload = codec.encode(RandomEntries.oneOfEverything());
        assertTimeoutPreemptively(Duration.ofSeconds(60), () -> {
            for (int length = 0; length < payload.length; length++) {
                decodeOrDamaged(Arrays.copyOf(payload, length));
            }
            for (int bit = 0; bit < payload.length * 8; bit++) {
                byte[] flipped = payload.clone();
                flipped[bit / 8] ^= (byte) (1 << bit % 8);
                decodeOrDamaged(flipped);
            }
        });
    }

    @Tag("slow")
    @Test
    void any_bytes_are_harmless() {
        Random random = new Random(42);
        assertTimeoutPreemptively(Duration.ofSeconds(60), () -> {
            for (int i = 0; i < 50_000; i++) {
                byte[] payload =
                        i % 2 == 0 ? new byte[random.nextInt(200)] : codec.encode(new RandomEntries(i % 500).batch());
                if (i % 2 == 0) {
                    random.nextBytes(payload);
                }
                for (int k = 0; k < 1 + random.nextInt(5) && payload.length > 0; k++) {
                    payload[random.nextInt(payload.length)] = (byte) random.nextInt(256);
                }
                decodeOrDamaged(payload);
            }
        });
    }

    private void decodeOrDamaged(byte[] bytes) {
        try {
            assertThat(codec.decode(bytes)).isNotEmpty();
        } catch (DamagedPayloadException e) {
            assertThat(e).hasMessageContaining("protobuf");
        }
    }

    private void assertDamaged(byte[] bytes) {
        assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> codec.decode(bytes));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                // A message that is longer than the payload.
                "0a01",
                // A message length of two gigabytes.
                "0affffffff07",
                // A negative length.
                "0affffffffffffffffff01",
                // A level that is not in the table.
                "0a0161" + "3201" + "04",
                // A negative reference.
                "0a0161" + "3201" + "01",
                // More levels than entries.
                "0a0161" + "3202" + "0000",
                // More timestamps than entries.
                "0a0161" + "2a01" + "02",
                // An empty label set.
                "0a0161" + "4201" + "00" + "4a01" + "02",
                // An empty field set.
                "0a0161" + "5200" + "5a01" + "02",
                // A trace id of three bytes.
                "0a0161" + "7203" + "000102",
                // A negative source number.
                "0a0161" + "1200" + "6201" + "02" + "6a01" + "01",
                // A wire type that messages do not have.
                "08",
                // The end of a group.
                "0a0161" + "0c",
                // A tag of zero.
                "0a0161" + "00",
            })
    void tells_damage(String hex) {
        assertDamaged(HexFormat.of().parseHex(hex));
    }

    @Test
    void nesting_that_never_ends_is_damage() {
        byte[] groups = new byte[1 << 20];
        // Wrong on purpose: a group in a group in a group ...
        Arrays.fill(groups, (byte) (100 << 3 | 3));
        assertDamaged(groups);

        // Encoded by hand, since the protobuf classes need too much stack for it.
        ByteString value = ByteString.EMPTY;
        for (int i = 0; i < 5_000; i++) {
            value = nest(Value.LIST_VALUE_FIELD_NUMBER, nest(ListValue.VALUES_FIELD_NUMBER, value));
        }
        ByteString fieldSet = ByteString.fromHex("0a0101").concat(nest(ObjectValue.VALUES_FIELD_NUMBER, value));
        ByteString payload = ByteString.fromHex("0a016d" + "120166" + "5a0102")
                .concat(nest(BatchPayload.FIELD_SETS_FIELD_NUMBER, fieldSet));
        assertThatExceptionOfType(DamagedPayloadException.class)
                .isThrownBy(() -> codec.decode(payload.toByteArray()))
                .withMessageContaining("nested too deep");
    }

    private static ByteString nest(int field, ByteString message) {
        ProtobufBuffer buffer = new ProtobufBuffer();
        buffer.bytes(field, message.toByteArray());
        return ByteString.copyFrom(buffer.toByteArray());
    }

    @Test
    void a_small_payload_never_stands_for_terabytes() {
        // One long text, and a number for each of many entries.
        BatchPayload.Builder payload =
                BatchPayload.newBuilder().addStrings("x".repeat(1 << 20)).addSourceTexts(1);
        for (int i = 0; i < 200_000; i++) {
            payload.addMessages("").addSourceNumbers(1);
        }
        assertDamaged(payload.build().toByteArray());
    }

    @Test
    void a_huge_set_shared_by_many_entries_is_not_copied() {
        LabelSet.Builder labels = LabelSet.newBuilder();
        BatchPayload.Builder payload = BatchPayload.newBuilder();
        for (int i = 1; i <= 20_000; i++) {
            payload.addStrings("label-" + i).addMessages("");
            labels.addLabels(i).addLabels(i);
        }
        byte[] bytes = payload.addLabelSets(labels).addEntryLabelSets(1).build().toByteArray();
        // With a copy per entry this would be 400 million labels.
        List<LogEntry> entries = codec.decode(bytes);
        assertThat(entries).hasSize(20_000);
        assertThat(entries.get(19_999).labels())
                .hasSize(20_000)
                .isSameAs(entries.get(0).labels());
    }

    /** Reads a payload with the classes that protoc generates, following only the comments of the schema. */
    private static final class SchemaReader {

        private final BatchPayload payload;

        SchemaReader(BatchPayload payload) {
            this.payload = payload;
        }

        List<LogEntry> entries() {
            int count = payload.getMessagesCount();
            List<Integer> levels = column(payload.getLevelsList(), count);
            List<Integer> sourceTypes = column(payload.getSourceTypesList(), count);
            List<Integer> labelSets = column(payload.getEntryLabelSetsList(), count);
            List<Integer> fieldSets = column(payload.getEntryFieldSetsList(), count);
            List<Integer> sourceTexts = column(payload.getSourceTextsList(), count);
            List<Integer> traceIds = column(payload.getEntryTraceIdsList(), count);
            List<Integer> spanIds = column(payload.getEntrySpanIdsList(), count);
            Map<Integer, Long> lastNumbers = new LinkedHashMap<>();
            long unit = payload.getTimestampUnit() == 0 ? 1 : payload.getTimestampUnit();
            long nanos = payload.getFirstTimestamp();
            List<LogEntry> entries = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                if (i > 0 && i - 1 < payload.getTimestampDeltasCount()) {
                    nanos += payload.getTimestampDeltas(i - 1) * unit;
                }
                Map<String, String> labels = new LinkedHashMap<>();
                if (labelSets.get(i) > 0) {
                    List<Integer> set =
                            payload.getLabelSets(labelSets.get(i) - 1).getLabelsList();
                    for (int k = 0; k < set.size(); k += 2) {
                        labels.put(string(set.get(k)), string(set.get(k + 1)));
                    }
                }
                String sourceId = string(sourceTexts.get(i));
                if (i < payload.getSourceNumbersCount()) {
                    lastNumbers.merge(sourceTexts.get(i), payload.getSourceNumbers(i), Long::sum);
                }
                long number = lastNumbers.getOrDefault(sourceTexts.get(i), 0L);
                if (sourceId != null && number > 0) {
                    sourceId += number - 1;
                }
                entries.add(new LogEntry(
                        Instant.ofEpochSecond(0, nanos),
                        string(levels.get(i)),
                        payload.getMessages(i),
                        labels,
                        fieldSets.get(i) == 0 ? Map.of() : object(payload.getFieldSets(fieldSets.get(i) - 1)),
                        string(sourceTypes.get(i)),
                        sourceId,
                        id(traceIds.get(i), payload.getTraceIds(), 16, payload.getTraceIdTextsList()),
                        id(spanIds.get(i), payload.getSpanIds(), 8, payload.getSpanIdTextsList())));
            }
            return entries;
        }

        private static List<Integer> column(List<Integer> differences, int count) {
            List<Integer> numbers = new ArrayList<>();
            int number = 0;
            for (int i = 0; i < count; i++) {
                number += i < differences.size() ? differences.get(i) : 0;
                numbers.add(number);
            }
            return numbers;
        }

        private String string(int reference) {
            return reference == 0 ? null : payload.getStrings(reference - 1);
        }

        private static String id(int reference, ByteString packed, int size, List<String> texts) {
            if (reference == 0) {
                return null;
            }
            if (packed.isEmpty()) {
                return texts.get(reference - 1);
            }
            ByteString id = packed.substring((reference - 1) * size, reference * size);
            return HexFormat.of().formatHex(id.toByteArray());
        }

        private Map<String, Object> object(ObjectValue object) {
            Map<String, Object> members = new LinkedHashMap<>();
            for (int i = 0; i < object.getNamesCount(); i++) {
                members.put(string(object.getNames(i)), value(object.getValues(i)));
            }
            return members;
        }

        private Object value(Value value) {
            return switch (value.getKindCase()) {
                case BOOL_VALUE -> value.getBoolValue();
                case INTEGER_VALUE -> value.getIntegerValue();
                case DOUBLE_VALUE -> value.getDoubleValue();
                case STRING_VALUE -> value.getStringValue();
                case BIG_INTEGER_VALUE ->
                    new BigInteger(value.getBigIntegerValue().toByteArray());
                case DECIMAL_VALUE ->
                    new BigDecimal(
                            new BigInteger(value.getDecimalValue().getUnscaled().toByteArray()),
                            value.getDecimalValue().getScale());
                case LIST_VALUE -> {
                    List<Object> list = new ArrayList<>();
                    value.getListValue().getValuesList().forEach(element -> list.add(value(element)));
                    yield list;
                }
                case OBJECT_VALUE -> object(value.getObjectValue());
                case KIND_NOT_SET -> null;
            };
        }
    }
}
