package io.batchpersistence.internal.codec;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.github.luben.zstd.Zstd;
import com.google.protobuf.CodedOutputStream;
import com.sun.management.ThreadMXBean;
import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.LogEntry;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Payloads that would make the reader allocate far more memory than their size. Rejected before allocation. */
class HostilePayloadTest {

    private static final ThreadMXBean MEMORY = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    private static long allocated(Runnable action) {
        long before = MEMORY.getThreadAllocatedBytes(Thread.currentThread().getId());
        action.run();
        return MEMORY.getThreadAllocatedBytes(Thread.currentThread().getId()) - before;
    }

    private static void refusesWithin(long bytes, Runnable action) {
        long allocated = allocated(
                () -> assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(action::run));
        assertThat(allocated).isLessThan(bytes);
    }

    /** The header of a frame that declares its content size in four bytes, without content. */
    private static byte[] frameOf(int declared, int length) {
        byte[] frame = Arrays.copyOf(new byte[] {0x28, (byte) 0xB5, 0x2F, (byte) 0xFD, (byte) 0xA0}, length);
        for (int i = 0; i < 4; i++) {
            frame[5 + i] = (byte) (declared >>> (8 * i));
        }
        return frame;
    }

    @Test
    void a_size_that_cant_be_true_is_not_allocated() {
        assertThat(Zstd.getFrameContentSize(frameOf(200 << 20, 100))).isEqualTo(200 << 20);
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, frameOf(200 << 20, 100), 200 << 20));
    }

    @Test
    void a_frame_that_declares_another_size_or_none_is_not_decompressed() {
        byte[] bomb = Zstd.compress(new byte[64 << 20]);
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, bomb, 1_000));
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, frameOf(1_000, 100), 64 << 20));
        byte[] undeclared = bomb.clone();
        // No content size.
        undeclared[4] = 0;
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, undeclared, 64 << 20));
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, new byte[0], 64 << 20));
    }

    /** Some libraries read concatenated frames as one content. */
    @Test
    void a_second_frame_adds_nothing() {
        byte[] one = Zstd.compress(new byte[1_000]);
        byte[] two = Arrays.copyOf(one, one.length * 2);
        System.arraycopy(one, 0, two, one.length, one.length);
        refusesWithin(1 << 20, () -> Compressions.decompress(Compression.ZSTD, two, 1_000));
    }

    @Test
    void the_highest_ratio_there_is_is_still_read() {
        byte[] same = new byte[16 << 20];
        Arrays.fill(same, (byte) 'x');
        assertThat(Compressions.decompress(
                        Compression.ZSTD, Compressions.compress(Compression.ZSTD, same), same.length))
                .isEqualTo(same);
    }

    private interface Fields {
        void writeTo(CodedOutputStream out) throws IOException;
    }

    private static byte[] protobuf(Fields fields) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(bytes);
        try {
            fields.writeTo(out);
            out.flush();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        return bytes.toByteArray();
    }

    private static byte[] repeat(byte[] field, int times) {
        byte[] all = new byte[field.length * times];
        for (int i = 0; i < times; i++) {
            System.arraycopy(field, 0, all, i * field.length, field.length);
        }
        return all;
    }

    private static byte[] join(byte[]... parts) {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            all.writeBytes(part);
        }
        return all.toByteArray();
    }

    private static byte[] message(String text) {
        return protobuf(out -> out.writeString(PayloadSchema.MESSAGES, text));
    }

    private static byte[] bytes(int field, byte[] content) {
        return protobuf(out -> out.writeByteArray(field, content));
    }

    private static void refused(byte[] payload, long within) {
        refusesWithin(within, () -> ProtobufBatchCodec.INSTANCE.decode(payload));
    }

    @Test
    void a_million_entries_are_read_and_one_more_is_not() {
        byte[] most = repeat(message(""), BatchLimits.MAX_ENTRIES);
        assertThat(ProtobufBatchCodec.INSTANCE.decode(most)).hasSize(BatchLimits.MAX_ENTRIES);
        refused(join(most, message("")), 64 << 20);
    }

    @Test
    void lengths_beyond_the_end_allocate_nothing() {
        for (int field = 1; field < 40; field++) {
            int number = field;
            refused(
                    join(message("m"), protobuf(out -> {
                        out.writeTag(number, 2);
                        out.writeUInt32NoTag(1 << 30);
                    })),
                    1 << 20);
        }
    }

    @Test
    void a_long_source_id_shared_by_many_entries_is_not_multiplied() {
        byte[] numbers = new byte[BatchLimits.MAX_ENTRIES];
        Arrays.fill(numbers, (byte) 2);
        // The limit is 256 MiB of objects, and each exists twice.
        refused(
                join(
                        repeat(message(""), BatchLimits.MAX_ENTRIES),
                        protobuf(out -> out.writeString(PayloadSchema.STRINGS, "x".repeat(1_024))),
                        bytes(PayloadSchema.SOURCE_TEXTS, new byte[] {2}),
                        bytes(PayloadSchema.SOURCE_NUMBERS, numbers)),
                800L << 20);
    }

    @Test
    void a_column_longer_than_any_batch_is_not_allocated() {
        byte[] column = new byte[64 << 20];
        refused(join(message("m"), bytes(PayloadSchema.LEVELS, column)), 32 << 20);
        refused(join(message("m"), bytes(PayloadSchema.TIMESTAMP_DELTAS, column)), 32 << 20);
    }

    @Test
    void sets_and_values_without_end_are_not_kept() {
        int more = BatchLimits.MAX_VALUES + 1;
        refused(join(message("m"), repeat(bytes(PayloadSchema.LABEL_SETS, new byte[0]), more)), 400 << 20);
        refused(join(message("m"), repeat(bytes(PayloadSchema.FIELD_SETS, new byte[0]), more)), 400 << 20);
        // An object whose single member is a list with more nulls than the limit for values.
        byte[] list = repeat(bytes(PayloadSchema.LIST_VALUES, new byte[0]), more);
        byte[] set = join(
                bytes(PayloadSchema.OBJECT_NAMES, new byte[] {1}),
                bytes(PayloadSchema.OBJECT_VALUES, bytes(PayloadSchema.VALUE_LIST, list)));
        refused(
                join(
                        message("m"),
                        protobuf(out -> out.writeString(PayloadSchema.STRINGS, "name")),
                        bytes(PayloadSchema.FIELD_SETS, set),
                        bytes(PayloadSchema.ENTRY_FIELD_SETS, new byte[] {2})),
                400 << 20);
    }

    private static byte[] sharingTwice(int entries, String text) {
        return join(
                repeat(message(""), entries),
                protobuf(out -> out.writeString(PayloadSchema.STRINGS, text)),
                bytes(PayloadSchema.LEVELS, new byte[] {2}),
                bytes(PayloadSchema.SOURCE_TEXTS, new byte[] {2}));
    }

    /** Shared values in the payload are shared in memory. Each entry still walks all of them, which takes time. */
    @Test
    void a_huge_text_shared_by_many_entries_is_there_once() {
        byte[] payload = sharingTwice(100, "x".repeat(1 << 20));
        assertThat(allocated(() -> assertThat(ProtobufBatchCodec.INSTANCE.decode(payload))
                        .hasSize(100)
                        .allMatch(entry -> String.valueOf(entry.level()).length() == 1 << 20)))
                .isLessThan(16 << 20);
        refused(sharingTwice(BatchLimits.MAX_ENTRIES, "x".repeat(1 << 20)), 400 << 20);
    }

    private static void jsonRefused(String json, long within) {
        byte[] payload = json.getBytes(UTF_8);
        refusesWithin(within, () -> JsonBatchCodec.INSTANCE.decode(payload));
    }

    private static final String ENTRY = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"\",";

    @Test
    void json_values_are_bounded_too() {
        int more = BatchLimits.MAX_VALUES + 1;
        jsonRefused("[" + ENTRY + "\"fields\":{\"a\":[" + "0,".repeat(more) + "0]}}]", 600 << 20);
        jsonRefused("[" + ENTRY + "\"fields\":{\"a\":" + "[".repeat(600), 1 << 20);
        jsonRefused("[" + ENTRY + "\"unknown\":" + "{\"a\":".repeat(600), 1 << 20);
    }

    @ParameterizedTest
    @EnumSource
    void what_could_not_be_read_again_is_not_written(BatchFormat format) {
        List<LogEntry> entries = Collections.nCopies(BatchLimits.MAX_ENTRIES + 1, LogEntry.of(Instant.EPOCH, null, ""));
        assertThatThrownBy(() -> Formats.codec(format).encode(entries))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("1048577 entries, but can have at most 1048576; split it");

        LogEntry wide = LogEntry.builder(Instant.EPOCH, "")
                .label("a", "b")
                .fields(Map.of("a", List.of(1, Map.of("b", new BigDecimal("1.5")))))
                // A label, then in JSON: a, 1, an object, b, and the object of b.
                .build();
        List<LogEntry> many = Collections.nCopies(BatchLimits.MAX_ENTRIES, wide);
        BatchLimits.check(many, BatchLimits.MAX_BYTES);
        List<LogEntry> nine = Collections.nCopies(
                BatchLimits.MAX_ENTRIES,
                LogEntry.builder(Instant.EPOCH, "")
                        .fields(Map.of("a", Collections.nCopies(8, 0)))
                        .build());
        assertThatThrownBy(() -> BatchLimits.check(nine, BatchLimits.MAX_BYTES))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("9437184 labels and values of fields, but can have at most 8388608");

        LogEntry located = LogEntry.builder(Instant.EPOCH, "")
                .source("file", "x".repeat(1_000))
                .build();
        assertThatThrownBy(() -> BatchLimits.check(Collections.nCopies(300_000, located), 2_000))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("characters, but can have at most");
    }

    @Test
    void numbers_without_end_are_no_log_entry() {
        BigInteger most = BigInteger.TEN.pow(100_000).subtract(BigInteger.TEN.pow(99_990));
        assertThat(LogEntry.builder(Instant.EPOCH, "")
                        .field("a", most.shiftRight(1))
                        .build()
                        .fields())
                .hasSize(1);
        assertThatThrownBy(() -> LogEntry.builder(Instant.EPOCH, "")
                        .field("a\nb", BigInteger.ONE.shiftLeft(400_000))
                        .build())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("fields.a\\u000Ab is a number of more than 100,000 digits");
    }
}
