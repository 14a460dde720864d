package io.batchpersistence.internal.codec;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import io.batchpersistence.proto.v1.ContextEntry;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

class BatchHeaderTest {

    private static BatchHeader sample() {
        Map<String, String> context = new LinkedHashMap<>();
        context.put("tenant", "ä");
        context.put("", "");
        context.put("a", "x".repeat(200));
        return new BatchHeader("b-1", "loki", context);
    }

    @Test
    void gives_back_what_was_put_in() {
        BatchHeader decoded = BatchHeader.decode(sample().encode());
        assertThat(decoded).isEqualTo(sample());
        assertThat(decoded.context().keySet()).containsExactly("tenant", "", "a");
        BatchHeader bare = new BatchHeader("b", "c", Map.of());
        assertThat(BatchHeader.decode(bare.encode())).isEqualTo(bare);
    }

    /** Never change these bytes: disks hold headers in this format. */
    @Test
    void golden_bytes() {
        BatchHeader header = new BatchHeader("b-1", "loki", Map.of("k", "v"));
        String golden = "0a03622d3112046c6f6b691a060a016b120176";
        assertThat(HexFormat.of().formatHex(header.encode())).isEqualTo(golden);
        assertThat(BatchHeader.decode(HexFormat.of().parseHex(golden))).isEqualTo(header);
    }

    @Test
    void agrees_with_the_schema_and_skips_what_is_new() throws Exception {
        io.batchpersistence.proto.v1.BatchHeader header =
                io.batchpersistence.proto.v1.BatchHeader.parseFrom(sample().encode());
        assertThat(header.getId()).isEqualTo("b-1");
        assertThat(header.getCollectorType()).isEqualTo("loki");
        assertThat(header.getContextList()).extracting(ContextEntry::getName).containsExactly("tenant", "", "a");
        UnknownFieldSet later = UnknownFieldSet.newBuilder()
                .addField(
                        99,
                        UnknownFieldSet.Field.newBuilder()
                                .addLengthDelimited(ByteString.copyFromUtf8("later"))
                                .build())
                .build();
        io.batchpersistence.proto.v1.BatchHeader.Builder builder =
                header.toBuilder().setUnknownFields(later);
        builder.getContextBuilder(0).setUnknownFields(later);
        assertThat(BatchHeader.decode(builder.build().toByteArray())).isEqualTo(sample());
    }

    @Test
    void every_truncation_and_bit_flip_is_harmless() {
        byte[] header = sample().encode();
        for (int length = 0; length < header.length; length++) {
            decodeOrDamaged(Arrays.copyOf(header, length));
        }
        for (int bit = 0; bit < header.length * 8; bit++) {
            byte[] flipped = header.clone();
            flipped[bit / 8] ^= (byte) (1 << bit % 8);
            decodeOrDamaged(flipped);
        }
        assertThatExceptionOfType(DamagedPayloadException.class)
                .isThrownBy(() -> BatchHeader.decode(new byte[0]))
                .withMessageContaining("without id");
    }

    private static void decodeOrDamaged(byte[] bytes) {
        try {
            assertThat(BatchHeader.decode(bytes).id()).isNotEmpty();
        } catch (DamagedPayloadException e) {
            assertThat(e.getMessage()).containsAnyOf("protobuf", "header without");
        }
    }
}
