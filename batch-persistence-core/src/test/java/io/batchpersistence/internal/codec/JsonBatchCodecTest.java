package io.batchpersistence.internal.codec;

import static io.batchpersistence.internal.codec.RandomEntries.assertSame;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.LogEntry;
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;

class JsonBatchCodecTest {

    /** Never change this: disks hold payloads in this format. */
    private static final String GOLDEN = """
            [{"timestamp":"2026-01-02T03:04:05.678901234Z","level":"INFO","message":"größer 😀",\
            "labels":{"app":"shop","host":"web-1"},\
            "fields":{"order":{"id":7,"price":{"$numberDecimal":"1.50"},"huge":18446744073709551616,"ratio":-0.0,\
            "paid":true,"note":null,"tags":["a",[],{}]}},\
            "source_type":"file","source_id":"/var/log/shop.log:1042",\
            "trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"},\
            {"timestamp":"2026-01-02T03:04:05.690901234Z","level":"WARN","message":"",\
            "labels":{"app":"shop","host":"web-1"},\
            "fields":{"order":{"id":7,"price":{"$numberDecimal":"1.50"},"huge":18446744073709551616,"ratio":-0.0,\
            "paid":true,"note":null,"tags":["a",[],{}]}},\
            "source_type":"file","source_id":"/var/log/shop.log:1043",\
            "trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":""},\
            {"timestamp":"2026-01-02T03:04:05.675901234Z","message":"bare","source_id":"a007"},\
            {"timestamp":"2026-01-02T03:04:05.675901234Z","level":"","message":"last",\
            "source_type":"","source_id":""}]""";

    private final BatchCodec codec = Formats.codec(BatchFormat.JSON);

    @Tag("slow")
    @Test
    void gives_back_what_was_put_in() {
        for (int seed = 0; seed < 4_000; seed++) {
            List<LogEntry> batch = new RandomEntries(seed).batch();
            assertSame(codec.decode(codec.encode(batch)), batch);
        }
    }

    @Test
    void writes_and_reads_the_golden_text() {
        List<LogEntry> batch = RandomEntries.oneOfEverything();
        assertThat(new String(codec.encode(batch), UTF_8)).isEqualTo(GOLDEN);
        assertSame(codec.decode(GOLDEN.getBytes(UTF_8)), batch);
    }

    @Test
    void keeps_numbers_of_different_kinds_apart() {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("long", 1L);
        fields.put("double", 1.0);
        fields.put("decimal", new BigDecimal("1"));
        fields.put("scaled", new BigDecimal("1.0"));
        fields.put("exponent", new BigDecimal("1E+2"));
        fields.put("smallest big", BigInteger.TWO.pow(63));
        fields.put("many digits", BigInteger.TEN.pow(5_000));
        fields.put("looks like one", Map.of("$numberDecimal", "1"));
        fields.put("looks like an escaped one", Map.of("$$numberDecimal", 1L));
        fields.put("does not", Map.of("$numberDecimal", "1", "more", true));
        List<LogEntry> batch =
                List.of(LogEntry.builder(Instant.EPOCH, "m").fields(fields).build());
        assertSame(codec.decode(codec.encode(batch)), batch);
        assertThat(codec.decode(codec.encode(batch)).get(0).fields().get("decimal"))
                .isEqualTo(new BigDecimal("1"));
    }

    @Test
    void an_outermost_field_named_like_the_mark_stays_a_field() {
        List<LogEntry> batch = List.of(LogEntry.builder(Instant.EPOCH, "m")
                .field("$numberDecimal", "1.50")
                .build());
        assertSame(codec.decode(codec.encode(batch)), batch);
    }

    @Test
    void message_of50_megabytes() {
        List<LogEntry> batch = List.of(LogEntry.of(Instant.EPOCH, "INFO", "ä\n".repeat(25 << 20)));
        assertThat(codec.decode(codec.encode(batch)).equals(batch)).isTrue();
    }

    @Test
    void long_names_and_deep_nesting() {
        List<LogEntry> batch = List.of(LogEntry.builder(Instant.EPOCH, "deep")
                .field("n".repeat(100_000), ProtobufBatchCodecTest.nested(198, new BigDecimal("1.0")))
                .label("l".repeat(100_000), "")
                .build());
        assertSame(codec.decode(codec.encode(batch)), batch);
    }

    @Test
    void refuses_an_empty_batch() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> codec.encode(List.of()))
                .withMessageContaining("at least one entry");
    }

    @Test
    void forgives_what_a_person_edits() {
        String edited = """
                [
                  {
                    "comment": "added by hand", "todo": [1, {"a": [2]}],
                    "message": "m", "timestamp": "2026-01-02 03:04+02:00",
                    "level": null, "labels": {"port": 8080, "tls": true, "none": null}, "fields": null,
                    "source_id": 17
                  }
                ]
                """;
        assertThat(codec.decode(edited.getBytes(UTF_8)))
                .containsExactly(LogEntry.builder(Instant.parse("2026-01-02T01:04:00Z"), "m")
                        .label("port", "8080")
                        .label("tls", "true")
                        .source(null, "17")
                        .build());
    }

    @Test
    void repairs_half_a_character_written_as_an_escape() {
        String edited = "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"\\ud83d!\"}]";
        assertThat(codec.decode(edited.getBytes(UTF_8)).get(0).message()).isEqualTo("\ufffd!");
    }

    @Test
    void keeps_an_edited_number_that_no_double_holds() {
        String edited = "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"fields\":{\"n\":1e400}}]";
        assertThat(codec.decode(edited.getBytes(UTF_8)).get(0).fields()).containsEntry("n", new BigDecimal("1e400"));
    }

    @ParameterizedTest
    @CsvSource({
        "2026-01-02T03:04:05.678901234Z, 2026-01-02T03:04:05.678901234Z",
        "2026-01-02T03:04:05.6Z,         2026-01-02T03:04:05.600Z",
        "2026-01-02T03:04:05Z,           2026-01-02T03:04:05Z",
        "2026-01-02t03:04:05z,           2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05,            2026-01-02T03:04:05Z",
        "2026-01-02T03:04,               2026-01-02T03:04:00Z",
        "2026-01-02T03:04:05+01:00,      2026-01-02T02:04:05Z",
        "2026-01-02T03:04:05.25-0530,    2026-01-02T08:34:05.250Z",
        "2026-01-02 03:04:05,            2026-01-02T03:04:05Z",
        "1677-09-21T00:12:43.145224192Z, 1677-09-21T00:12:43.145224192Z",
    })
    void reads_timestamps_of_all_shapes(String text, Instant expected) {
        assertThat(JsonBatchCodec.parseTimestamp(text)).isEqualTo(expected);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "yesterday", "1767323045", "2026-13-02T03:04:05Z", "2026-01-02", "2026-01-0203:04:05"})
    void refuses_other_timestamps(String text) {
        assertThatExceptionOfType(DamagedPayloadException.class)
                .isThrownBy(() -> JsonBatchCodec.parseTimestamp(text))
                .withMessageContaining("is not a timestamp such as");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "[]",
                "{}",
                "null",
                "[null]",
                "[1]",
                "[{}]",
                "[[]]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\"}]",
                "[{\"message\":\"m\"}]",
                "[{\"timestamp\":\"9999-01-02T03:04:05Z\",\"message\":\"m\"}]",
                "[{\"timestamp\":1767323045,\"message\":\"m\"}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":{}}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"labels\":[]}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"labels\":{\"a\":{}}}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"fields\":{\"a\":1e99999999999}}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"fields\":{\"a\":{\"$numberDecimal\":\"x\"}}}]",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\"}",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\"}] []",
                "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\"}] x",
            })
    void tells_damage(String json) {
        assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> codec.decode(json.getBytes(UTF_8)));
    }

    @Test
    void nesting_that_never_ends_is_damage() {
        byte[] brackets = new byte[1 << 20];
        Arrays.fill(brackets, (byte) '[');
        assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> codec.decode(brackets));
        String fields = "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"fields\":{\"a\":"
                + "[".repeat(300) + "]".repeat(300) + "}}]";
        assertThatExceptionOfType(DamagedPayloadException.class)
                .isThrownBy(() -> codec.decode(fields.getBytes(UTF_8)))
                .withMessageContaining("deeper than 200");
    }

    @Test
    void huge_numbers_take_no_minutes() {
        assertTimeoutPreemptively(Duration.ofSeconds(60), () -> {
            List<LogEntry> entries = codec.decode(numbers("7".repeat(100_000), "0." + "7".repeat(100_000)));
            assertThat(codec.decode(codec.encode(entries))).isEqualTo(entries);
            for (byte[] tooLong : List.of(
                    numbers("7".repeat(100_001), "1"),
                    numbers("7".repeat(20_000_000), "1"),
                    numbers("1", "0." + "7".repeat(100_001)),
                    numbers("1", "0." + "7".repeat(20_000_000)),
                    numbers("0." + "7".repeat(20_000_000), "1"))) {
                assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> codec.decode(tooLong));
            }
        });
    }

    private static byte[] numbers(String number, String decimal) {
        String json = "[{\"timestamp\":\"2026-01-02T03:04:05Z\",\"message\":\"m\",\"fields\":{\"a\":" + number
                + ",\"b\":{\"$numberDecimal\":\"" + decimal + "\"}}}]";
        return json.getBytes(UTF_8);
    }

    @Test
    void every_truncation_and_bit_flip_is_harmless() {
        byte[] payload = codec.encode(RandomEntries.oneOfEverything());
        assertTimeoutPreemptively(Duration.ofSeconds(60), () -> {
            for (int length = 0; length < payload.length; length++) {
                byte[] truncated = Arrays.copyOf(payload, length);
                assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> codec.decode(truncated));
            }
            for (int bit = 0; bit < payload.length * 8; bit++) {
                byte[] flipped = payload.clone();
                flipped[bit / 8] ^= (byte) (1 << bit % 8);
                try {
                    assertThat(codec.decode(flipped)).isNotEmpty();
                } catch (DamagedPayloadException e) {
                    assertThat(e.getMessage()).isNotBlank();
                }
            }
        });
    }

    @Test
    void entries_can_be_part_of_a_larger_file() {
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        try (JsonGenerator generator = JsonBatchCodec.factory().createGenerator(ObjectWriteContext.empty(), file)) {
            generator.writeStartObject();
            generator.writeStringProperty("id", "b-1");
            generator.writeName("entries");
            JsonBatchCodec.writeEntries(generator, RandomEntries.oneOfEverything());
            generator.writeName("context");
            JsonBatchCodec.writeTexts(generator, Map.of("tenant", "t1"));
            generator.writeEndObject();
        }
        try (JsonParser parser = JsonBatchCodec.factory().createParser(ObjectReadContext.empty(), file.toByteArray())) {
            parser.nextToken();
            assertThat(parser.nextName()).isEqualTo("id");
            parser.nextToken();
            assertThat(JsonBatchCodec.readText(parser, "id")).isEqualTo("b-1");
            assertThat(parser.nextName()).isEqualTo("entries");
            parser.nextToken();
            assertSame(JsonBatchCodec.readEntries(parser), RandomEntries.oneOfEverything());
            assertThat(parser.nextName()).isEqualTo("context");
            parser.nextToken();
            assertThat(JsonBatchCodec.readTexts(parser)).containsExactly(Map.entry("tenant", "t1"));
            assertThat(parser.nextToken().isStructEnd()).isTrue();
        }
    }
}
