package io.batchpersistence;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;

import io.batchpersistence.internal.codec.JsonPayloadFuzz;
import io.batchpersistence.internal.codec.ProtobufPayloadFuzz;
import io.batchpersistence.internal.jsonfile.JsonFileFuzz;
import io.batchpersistence.internal.segment.RecordFuzz;
import io.batchpersistence.internal.segment.SegmentFuzz;
import io.batchpersistence.internal.store.JournalFuzz;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Replays the fuzzer's seed corpus and findings with some thousand mutations of each. Runs without the fuzzer, so in
 * every build. CONTRIBUTING.md explains how to fuzz. More mutations: {@code -Dfuzz.mutations=1000000}; other ones:
 * {@code -Dfuzz.seed=2}.
 */
class FuzzInputsTest {

    private static final int MUTATIONS = Integer.getInteger("fuzz.mutations", 3_000);
    private static final long SEED = Long.getLong("fuzz.seed", 1);

    enum Target {
        PROTOBUF(ProtobufPayloadFuzz.class),
        JSON(JsonPayloadFuzz.class),
        JSON_FILE(JsonFileFuzz.class),
        RECORD(RecordFuzz.class),
        SEGMENT(SegmentFuzz.class),
        JOURNAL(JournalFuzz.class);

        private final Class<?> type;

        Target(Class<?> type) {
            this.type = type;
        }

        private void check(byte[] input) {
            switch (this) {
                case PROTOBUF -> ProtobufPayloadFuzz.check(input);
                case JSON -> JsonPayloadFuzz.check(input);
                case JSON_FILE -> JsonFileFuzz.check(input);
                case RECORD -> RecordFuzz.check(input);
                case SEGMENT -> SegmentFuzz.check(input);
                case JOURNAL -> JournalFuzz.check(input);
            }
        }

        private List<byte[]> inputs() throws IOException, URISyntaxException {
            String name = type.getSimpleName() + "Inputs";
            Path directory =
                    Path.of(Objects.requireNonNull(type.getResource(name), name).toURI());
            try (Stream<Path> files = Files.walk(directory)) {
                return files.filter(Files::isRegularFile)
                        .sorted()
                        .map(file -> {
                            try {
                                return Files.readAllBytes(file);
                            } catch (IOException e) {
                                throw new AssertionError(e);
                            }
                        })
                        .toList();
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void inputs_and_mutations_are_harmless(Target target) throws Exception {
        List<byte[]> inputs = target.inputs();
        assertThat(inputs).isNotEmpty();
        inputs.forEach(target::check);
        assertTimeoutPreemptively(Duration.ofSeconds(60L + MUTATIONS / 100), () -> {
            SplittableRandom random = new SplittableRandom(SEED);
            for (int i = 0; i < MUTATIONS; i++) {
                byte[] mutated = inputs.get(random.nextInt(inputs.size())).clone();
                for (int steps = 1 + random.nextInt(4); steps > 0; steps--) {
                    mutated = mutate(mutated, inputs.get(random.nextInt(inputs.size())), random);
                }
                try {
                    target.check(mutated);
                } catch (Throwable e) {
                    throw new AssertionError(
                            target + ", -Dfuzz.seed=" + SEED + ", mutation " + i + ", input in Base64: "
                                    + Base64.getEncoder().encodeToString(mutated),
                            e);
                }
            }
        });
    }

    private static byte[] mutate(byte[] bytes, byte[] other, SplittableRandom random) {
        if (bytes.length == 0) {
            return other.clone();
        }
        int at = random.nextInt(bytes.length);
        int length = 1 + random.nextInt(Math.min(8, bytes.length - at));
        switch (random.nextInt(7)) {
            case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
            case 1 -> bytes[at] = (byte) random.nextInt(256);
            case 2 -> Arrays.fill(bytes, at, at + length, (byte) (random.nextBoolean() ? 0xFF : 0x7F));
            case 3 -> {
                return Arrays.copyOf(bytes, at);
            }
            // Removes a piece.
            case 4 -> {
                byte[] shorter = Arrays.copyOf(bytes, bytes.length - length);
                System.arraycopy(bytes, at + length, shorter, at, bytes.length - at - length);
                return shorter;
            }
            // Duplicates a piece.
            case 5 -> {
                byte[] longer = Arrays.copyOf(bytes, bytes.length + length);
                System.arraycopy(bytes, at, longer, at + length, bytes.length - at);
                return longer;
            }
            // Inserts a piece of another input.
            default -> {
                if (other.length > 0) {
                    int from = random.nextInt(other.length);
                    int count = Math.min(other.length - from, bytes.length - at);
                    System.arraycopy(other, from, bytes, at, count);
                }
            }
        }
        return bytes;
    }
}
