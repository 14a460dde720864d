package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.RecordFormat.EncodedRecord;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.test.Batches;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The dictionary at the beginning of a segment: its bytes, and that no damage in one place loses it. */
class SegmentHeadTest {

    private static final Path FILE = Path.of("0000000007.segment");
    private static final byte[] DICTIONARY = "what payloads have in common".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] HEAD = SegmentHead.toBytes(7, new ZstdDictionary(DICTIONARY), 4_096);

    private static SegmentHead read(byte[] file) throws IOException {
        MemoryDisk disk = new MemoryDisk();
        disk.put(FILE, file);
        return SegmentHead.read(disk, FILE, 7);
    }

    private static void assertHasDictionary(SegmentHead head, String what) {
        assertThat(Objects.requireNonNull(head.dictionary(), what).bytes()).isEqualTo(DICTIONARY);
        assertThat(head.end()).as(what).isEqualTo(HEAD.length);
    }

    @Test
    void its_bytes_are_those_of_version_1() {
        String dictionary = HexFormat.of().formatHex(DICTIONARY);
        assertThat(HexFormat.of().formatHex(HEAD))
                .isEqualTo("42505345474d540100000007" + "99837dc8" + "42504401" + "0000001c00001000" + "23f0709d"
                        + dictionary
                        + "00".repeat(4_096 - 32 - DICTIONARY.length)
                        + "42504401" + "0000001c00001000" + "4885e829" + dictionary);
    }

    @Test
    void a_segment_without_one_is_16_bytes() throws IOException {
        byte[] head = SegmentHead.toBytes(7, null, 4_096);
        assertThat(head).hasSize(SegmentHead.SIZE);
        assertThat(read(head)).isEqualTo(new SegmentHead(null, SegmentHead.SIZE, false));
        assertThat(read(Arrays.copyOf(head, 4_096))).isEqualTo(new SegmentHead(null, SegmentHead.SIZE, false));
        assertThat(read(new byte[0])).isEqualTo(new SegmentHead(null, SegmentHead.SIZE, false));
    }

    @Test
    void it_survives_any_flipped_byte() throws IOException {
        for (int at = 0; at < HEAD.length; at++) {
            byte[] damaged = HEAD.clone();
            damaged[at] ^= 0x10;
            assertHasDictionary(read(damaged), "byte " + at);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {512, 4_096})
    void it_survives_the_loss_of_any_block(int block) throws IOException {
        byte[] large = new byte[16_352];
        new Random(1).nextBytes(large);
        for (byte[] dictionary :
                List.of(DICTIONARY, Arrays.copyOf(large, 3_000), large, Arrays.copyOf(large, 16_353))) {
            byte[] head = SegmentHead.toBytes(7, new ZstdDictionary(dictionary), block);
            for (int at = 0; at < head.length; at += block) {
                byte[] damaged = head.clone();
                Arrays.fill(damaged, at, Math.min(at + block, head.length), (byte) 0);
                SegmentHead read = read(damaged);
                assertThat(Objects.requireNonNull(read.dictionary(), "block at " + at)
                                .bytes())
                        .isEqualTo(dictionary);
                assertThat(read.end()).isEqualTo(head.length);
            }
        }
    }

    @Test
    void it_survives_the_loss_of_a_whole_copy_and_what_is_before_it() throws IOException {
        byte[] first = HEAD.clone();
        Arrays.fill(first, 0, 4_096, (byte) 0);
        assertHasDictionary(read(first), "first");
        assertThat(read(first).damaged()).isTrue();
        byte[] second = HEAD.clone();
        Arrays.fill(second, 4_096, second.length, (byte) 0);
        assertHasDictionary(read(second), "second");
        assertThat(read(second).damaged()).isFalse();
    }

    @Test
    void with_both_copies_damaged_there_is_none() throws IOException {
        byte[] damaged = HEAD.clone();
        damaged[SegmentHead.SIZE + 20] ^= 1;
        damaged[HEAD.length - 1] ^= 1;
        assertThat(read(damaged)).isEqualTo(new SegmentHead(null, SegmentHead.SIZE, false));
    }

    @Test
    void that_of_another_segment_is_not_taken() throws IOException {
        MemoryDisk disk = new MemoryDisk();
        disk.put(FILE, HEAD);
        assertThat(SegmentHead.read(disk, FILE, 8).dictionary()).isNull();
    }

    /** A log line may contain the bytes of a second copy, at the very offset where one would be. */
    @ParameterizedTest
    @ValueSource(ints = {0, 5_000})
    void a_quoted_one_behind_a_record_is_not_taken(int context) throws IOException {
        Instant now = Instant.parse("2026-01-02T03:04:05Z");
        NewBatch batch = new NewBatch("id", "loki", Batches.entries(1), Map.of("of", "x".repeat(context)), now, now);
        EncodedRecord record =
                RecordFormat.encode(batch, BatchFormat.PROTOBUF, Compression.NONE, (raw, length) -> null, 0);
        byte[] file = SegmentHead.toBytes(7, new ZstdDictionary(new byte[record.size() + 64]), 4_096);
        assertThat(read(file).dictionary()).isNotNull();
        RecordFormat.write(record, 1, 7, SegmentHead.SIZE, file, SegmentHead.SIZE);
        assertThat(read(file)).isEqualTo(new SegmentHead(null, SegmentHead.SIZE, false));
    }
}
