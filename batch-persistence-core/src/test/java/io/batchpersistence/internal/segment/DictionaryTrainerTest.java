package io.batchpersistence.internal.segment;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.internal.codec.Formats;
import io.batchpersistence.internal.codec.ZstdDictionary;
import io.batchpersistence.internal.store.PayloadLog.MaintenanceTask;
import io.batchpersistence.test.Batches;
import java.util.Arrays;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** When dictionaries are trained, from what, and when they are used. */
class DictionaryTrainerTest {

    private static final int MAX_PAYLOAD = 64 << 10;
    private static final int RENEWED_AFTER = 256 << 20;

    private final DictionaryTrainer trainer = new DictionaryTrainer(128 << 10);

    /** Offers payloads until a training is due; returns how many. */
    private int sample() {
        int offered = 0;
        while (!trainer.isTrainingDue()) {
            byte[] payload = Formats.codec(BatchFormat.PROTOBUF).encode(Batches.entries(1 + offered++ % 19));
            trainer.dictionaryFor(payload, payload.length);
        }
        return offered;
    }

    private ZstdDictionary train() {
        MaintenanceTask training = Objects.requireNonNull(trainer.nextTraining());
        training.run();
        training.finish();
        return Objects.requireNonNull(trainer.current());
    }

    @Test
    void there_is_none_before_the_first_training_and_the_same_until_the_next() {
        byte[] payload = new byte[100];
        assertThat(trainer.dictionaryFor(payload, 100)).isNull();
        assertThat(trainer.nextTraining()).isNull();
        sample();
        assertThat(trainer.dictionaryFor(payload, 100)).isNull();
        ZstdDictionary first = train();
        assertThat(first.bytes().length).isBetween(256, 2 << 10);
        assertThat(trainer.isTrainingDue()).isFalse();
        assertThat(trainer.dictionaryFor(payload, 100)).isSameAs(first);
    }

    @Test
    void it_is_renewed_after_256_MiB_from_one_of_sixteen() {
        int samples = sample();
        ZstdDictionary first = train();
        byte[] payload = new byte[MAX_PAYLOAD];
        for (int i = 0; i < RENEWED_AFTER / MAX_PAYLOAD; i++) {
            assertThat(trainer.dictionaryFor(payload, MAX_PAYLOAD)).isSameAs(first);
            assertThat(trainer.isTrainingDue()).isFalse();
        }
        assertThat(sample()).isBetween(samples * 15, samples * 17);
        assertThat(train()).isNotSameAs(first);
    }

    @Test
    void large_payloads_get_none_and_are_no_samples() {
        sample();
        train();
        byte[] payload = new byte[MAX_PAYLOAD + 1];
        assertThat(trainer.dictionaryFor(payload, MAX_PAYLOAD + 1)).isNull();
        assertThat(trainer.dictionaryFor(payload, MAX_PAYLOAD)).isNotNull();
    }

    @Test
    void payloads_that_have_nothing_in_common_give_none_and_do_no_harm() {
        Random random = new Random(1);
        while (!trainer.isTrainingDue()) {
            byte[] noise = new byte[20_000];
            random.nextBytes(noise);
            trainer.dictionaryFor(noise, noise.length);
        }
        MaintenanceTask training = Objects.requireNonNull(trainer.nextTraining());
        training.run();
        training.finish();
        assertThat(trainer.isTrainingDue()).isFalse();
    }

    @Test
    void one_that_zstd_does_not_take_is_not_used() {
        byte[] damaged = PlantedDictionary.dictionary().bytes().clone();
        Arrays.fill(damaged, 8, 200, (byte) 0xFF);
        trainer.adopt(new ZstdDictionary(damaged));
        assertThat(trainer.current()).isNull();
    }

    @Test
    void segments_too_small_for_one_have_none() {
        DictionaryTrainer none = new DictionaryTrainer(4 << 10);
        byte[] payload = new byte[MAX_PAYLOAD];
        for (int i = 0; i < 1_000; i++) {
            none.dictionaryFor(payload, MAX_PAYLOAD);
        }
        assertThat(none.isTrainingDue()).isFalse();
    }

    @Test
    void one_of_an_earlier_process_is_used_and_soon_renewed_unless_it_is_too_large_for_the_segments() {
        ZstdDictionary earlier = PlantedDictionary.dictionary();
        trainer.adopt(earlier);
        assertThat(trainer.current()).isSameAs(earlier);
        byte[] payload = new byte[MAX_PAYLOAD];
        for (int i = 0; i < RENEWED_AFTER / 16 / MAX_PAYLOAD; i++) {
            assertThat(trainer.dictionaryFor(payload, MAX_PAYLOAD)).isSameAs(earlier);
        }
        sample();
        assertThat(train()).isNotSameAs(earlier);
        DictionaryTrainer small = new DictionaryTrainer(2 << 10);
        small.adopt(earlier);
        assertThat(small.current()).isNull();
    }
}
