package io.batchpersistence.internal.codec;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdCompressCtx;
import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class CompressionTest {

    private static byte[] sample(int seed) {
        Random random = new Random(seed);
        byte[] bytes = new byte[random.nextInt(20_000)];
        if (seed % 2 == 0) {
            random.nextBytes(bytes);
        } else {
            for (int i = 0; i < bytes.length; i++) {
                bytes[i] = (byte) ("log line ".charAt(i % 9) + i / 900);
            }
        }
        return bytes;
    }

    private static byte[] thereAndBack(Compression compression, byte[] raw) {
        return Compressions.decompress(compression, Compressions.compress(compression, raw), raw.length);
    }

    @ParameterizedTest
    @EnumSource
    void gives_back_what_was_put_in(Compression compression) {
        for (int seed = 0; seed < 500; seed++) {
            byte[] raw = sample(seed);
            assertThat(thereAndBack(compression, raw)).isEqualTo(raw);
        }
    }

    @ParameterizedTest
    @EnumSource
    void works_for_nothing_and_for_much(Compression compression) {
        byte[] much = new byte[40 << 20];
        Arrays.fill(much, (byte) 'x');
        assertThat(thereAndBack(compression, new byte[0])).isEmpty();
        assertThat(Arrays.equals(thereAndBack(compression, much), much)).isTrue();
    }

    @ParameterizedTest
    @EnumSource
    void many_threads_at_once(Compression compression) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try {
            List<Callable<Boolean>> work = IntStream.range(0, 400)
                    .<Callable<Boolean>>mapToObj(seed -> () -> {
                        byte[] raw = sample(seed);
                        return Arrays.equals(thereAndBack(compression, raw), raw);
                    })
                    .toList();
            for (Future<Boolean> result : threads.invokeAll(work)) {
                assertThat(result.get()).isTrue();
            }
        } finally {
            threads.shutdownNow();
        }
    }

    @Test
    void zstd_frames_are_ordinary_and_without_checksum() {
        byte[] raw = sample(1);
        byte[] frame = Compressions.compress(Compression.ZSTD, raw);
        assertThat(Zstd.decompress(frame, raw.length)).isEqualTo(raw);
        assertThat(frame[4] & 0b0000_0111).as("no checksum, no dictionary id").isZero();
        assertThat(frame.length).isLessThan(raw.length / 10);
    }

    @ParameterizedTest
    @EnumSource
    void a_wrong_length_is_damage(Compression compression) {
        byte[] raw = sample(1);
        byte[] compressed = Compressions.compress(compression, raw);
        for (int wrong : new int[] {0, raw.length - 1, raw.length + 1, Integer.MAX_VALUE}) {
            assertThatExceptionOfType(DamagedPayloadException.class)
                    .isThrownBy(() -> Compressions.decompress(compression, compressed, wrong));
        }
    }

    @Test
    void damaged_zstd_is_damage_and_later_ones_are_not_harmed() {
        byte[] raw = sample(3);
        byte[] frame = Compressions.compress(Compression.ZSTD, raw);
        for (int length = 0; length < frame.length; length++) {
            byte[] truncated = Arrays.copyOf(frame, length);
            assertThatExceptionOfType(DamagedPayloadException.class)
                    .isThrownBy(() -> Compressions.decompress(Compression.ZSTD, truncated, raw.length));
        }
        for (int bit = 0; bit < frame.length * 8; bit++) {
            byte[] flipped = frame.clone();
            flipped[bit / 8] ^= (byte) (1 << bit % 8);
            try {
                assertThat(Compressions.decompress(Compression.ZSTD, flipped, raw.length))
                        .hasSameSizeAs(raw);
            } catch (DamagedPayloadException e) {
                assertThat(e).hasMessageContaining("payload");
            }
            assertThat(Compressions.decompress(Compression.ZSTD, frame, raw.length))
                    .isEqualTo(raw);
        }
    }

    @Test
    void a_frame_that_does_not_say_its_length_is_damage() {
        try (ZstdCompressCtx context = new ZstdCompressCtx().setContentSize(false)) {
            byte[] frame = context.compress("some text".getBytes(UTF_8));
            assertThatExceptionOfType(DamagedPayloadException.class)
                    .isThrownBy(() -> Compressions.decompress(Compression.ZSTD, frame, 9));
        }
    }

    @Test
    void numbers_are_fixed() {
        assertThat(Compressions.of(0)).isEqualTo(Compression.NONE);
        assertThat(Compressions.of(1)).isEqualTo(Compression.ZSTD);
        assertThat(Formats.of(1)).isEqualTo(BatchFormat.PROTOBUF);
        assertThat(Formats.of(2)).isEqualTo(BatchFormat.JSON);
        assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> Compressions.of(2));
        assertThatExceptionOfType(DamagedPayloadException.class).isThrownBy(() -> Formats.of(0));
    }
}
