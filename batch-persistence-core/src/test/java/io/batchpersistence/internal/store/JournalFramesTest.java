package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.internal.spi.RemovalReason;
import java.nio.BufferOverflowException;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/** Frames that are written and read again give the same state. */
class JournalFramesTest {

    private static final long GENERATION = 7;

    private final JournalFrames.Reasons reasons = new JournalFrames.Reasons();
    private final JournalFrames frames = new JournalFrames(GENERATION, reasons);
    private final BatchIndex index = new BatchIndex();
    private final BatchIndex.Type loki = index.type("loki");
    private final BatchIndex.Type elasticsearch = index.type("elasticsearch");

    private static PersistedState pending(
            long since, int retries, long lastAttempt, long due, @Nullable String reason) {
        return new PersistedState(false, since, retries, lastAttempt, due, reason);
    }

    private static PersistedState dead(long since, int retries, long lastAttempt, @Nullable String reason) {
        return new PersistedState(true, since, retries, lastAttempt, BatchIndex.NEVER, reason);
    }

    @Test
    void a_file_whose_end_is_told_has_had_its_number() {
        frames.files(3);
        frames.fileEnd(9, new PayloadLog.FileEnd(16, 5));

        assertThat(read().lastFile()).isEqualTo(9);
    }

    @Test
    void a_collector_type_that_would_not_fit_into_every_frame_makes_no_sense() {
        BatchIndex.Type huge = index.type("x".repeat(65_000));
        huge.paused = true;
        frames.paused(huge);
        assertThatIllegalArgumentException().isThrownBy(this::read);
        frames.clear();
        frames.counters(huge);
        assertThatIllegalArgumentException().isThrownBy(this::read);
        frames.clear();
        frames.settled(1, huge, RemovalReason.DELIVERED);
        assertThatIllegalArgumentException().isThrownBy(this::read);
        frames.clear();
        frames.withdrawn(1, huge);
        assertThatIllegalArgumentException().isThrownBy(this::read);
    }

    @Test
    void what_a_forgotten_collector_type_has_counted_is_added_to_the_others_once() {
        loki.counters.accepted = 5;
        loki.counters.count(RemovalReason.DELIVERED, 5);
        elasticsearch.counters.accepted = 1;
        frames.counters(loki);
        frames.counters(elasticsearch);
        frames.checkpoint(6);
        frames.settled(7, loki, RemovalReason.EXPIRED);
        frames.forgotten(loki);
        frames.forgotten(loki);
        frames.forgotten(index.type("never heard of"));
        frames.settled(8, loki, RemovalReason.DISCARDED);

        Map<String, Counters> counters = read().counters();
        assertThat(counters).containsOnlyKeys("elasticsearch", "loki", BatchIndex.OTHER);
        Counters other = Objects.requireNonNull(counters.get(BatchIndex.OTHER));
        assertThat(other.accepted).isEqualTo(6);
        assertThat(other.gone(RemovalReason.DELIVERED)).isEqualTo(5);
        assertThat(other.gone(RemovalReason.EXPIRED)).isOne();
        assertThat(Objects.requireNonNull(counters.get("loki")).accepted).isOne();
    }

    @Test
    void a_collector_type_is_not_forgotten_where_frames_of_it_may_be_missing() {
        loki.counters.accepted = 5;
        loki.counters.count(RemovalReason.DELIVERED, 4);
        frames.counters(loki);
        frames.checkpoint(5);
        JournalState state = new JournalState();
        state.beginFile();
        readInto(state, frames);
        // The end of the fifth frame was here.
        state.damaged();
        frames.clear();
        frames.forgotten(loki);
        readInto(state, frames);
        state.finish();
        assertThat(state.counters()).containsOnlyKeys("loki");
    }

    private JournalState read() {
        JournalState state = new JournalState();
        state.beginFile();
        readInto(state, frames);
        state.finish();
        return state;
    }

    private static void readInto(JournalState state, JournalFrames frames) {
        byte[] bytes = Arrays.copyOf(frames.array(), frames.length());
        int at = 0;
        while (at < bytes.length) {
            int length = JournalFrames.validLength(JournalFrames.seed(GENERATION), bytes, at, bytes.length);
            assertThat(length).as("frame at %s", at).isPositive();
            state.apply(
                    bytes[at + 1],
                    ByteBuffer.wrap(bytes, at + JournalFrames.HEADER, length - JournalFrames.HEADER)
                            .slice());
            at += length;
        }
    }

    @Test
    void standings_come_back_and_the_last_one_counts() {
        frames.persistedState(5, pending(100, 2, 90, 200, "Überlast ☃"));
        frames.persistedState(6, dead(300, 10, 299, "rejected"));
        frames.persistedState(7, pending(1, 1, BatchIndex.NEVER, BatchIndex.NEVER, null));
        frames.persistedState(7, pending(1, 2, 3, 4, "later"));

        JournalState state = read();

        assertThat(state.persistedState(5)).isEqualTo(new PersistedState(false, 100, 2, 90, 200, "Überlast ☃"));
        assertThat(state.persistedState(6))
                .isEqualTo(new PersistedState(true, 300, 10, 299, BatchIndex.NEVER, "rejected"));
        assertThat(state.persistedState(7)).isEqualTo(new PersistedState(false, 1, 2, 3, 4, "later"));
        assertThat(state.persistedState(8)).isNull();
        assertThat(state.nextSequence()).isEqualTo(8);
    }

    @Test
    void no_reason_and_no_attempt_come_back_as_none() {
        frames.persistedState(1, pending(0, 0, BatchIndex.NEVER, BatchIndex.NEVER, null));

        assertThat(read().persistedState(1))
                .isEqualTo(new PersistedState(false, 0, 0, BatchIndex.NEVER, BatchIndex.NEVER, null));
    }

    @Test
    void equal_reasons_are_one_object() {
        frames.persistedState(1, pending(0, 1, 0, 0, "connection refused"));
        frames.persistedState(2, dead(0, 1, 0, "connection refused"));

        JournalState state = read();

        assertThat(state.persistedState(1).reason())
                .isSameAs(state.persistedState(2).reason());
    }

    @Test
    void what_is_settled_after_the_checkpoint_was_also_accepted() {
        loki.counters.accepted = 100;
        loki.counters.count(RemovalReason.DELIVERED, 90);
        loki.counters.count(RemovalReason.EVICTED, 3);
        frames.counters(loki);
        frames.checkpoint(50);
        frames.snapshotEnd(60);
        frames.persistedState(50, pending(0, 1, 0, 0, "once"));
        frames.settled(50, loki, RemovalReason.EXPIRED);
        frames.settled(51, loki, RemovalReason.DELIVERED);

        JournalState state = read();

        Counters read = state.counters().get("loki");
        assertThat(read.accepted).isEqualTo(101);
        assertThat(read.gone(RemovalReason.DELIVERED)).isEqualTo(91);
        assertThat(read.gone(RemovalReason.EXPIRED)).isEqualTo(1);
        assertThat(read.gone(RemovalReason.EVICTED)).isEqualTo(3);
        assertThat(read.gone()).isEqualTo(95);
        assertThat(state.checkpoint()).isEqualTo(50);
        assertThat(state.nextSequence()).isEqualTo(60);
        assertThat(state.isGone(50)).isTrue();
        assertThat(state.isGone(51)).isTrue();
        assertThat(state.isGone(52)).isFalse();
        assertThat(state.persistedState(50)).isNull();
    }

    @Test
    void counters_count_only_with_their_checkpoint() {
        loki.counters.accepted = 5;
        frames.counters(loki);

        assertThat(read().counters()).doesNotContainKey("loki");
    }

    /** A power cut may lose any unforced frame and keep later ones. */
    @Test
    void whichever_frames_are_lost_the_others_count_for_their_own_collector_type() {
        List<JournalFrames> marks = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            JournalFrames mark = new JournalFrames(GENERATION, reasons);
            mark.settled(
                    i + 1, i % 2 == 0 ? loki : elasticsearch, i < 3 ? RemovalReason.DELIVERED : RemovalReason.EXPIRED);
            marks.add(mark);
        }
        for (int kept = 0; kept < 1 << marks.size(); kept++) {
            JournalState state = new JournalState();
            state.beginFile();
            Map<String, Counters> expected = new HashMap<>();
            for (int i = 0; i < marks.size(); i++) {
                if ((kept & 1 << i) == 0) {
                    state.damaged();
                    continue;
                }
                readInto(state, marks.get(i));
                Counters counters =
                        expected.computeIfAbsent(i % 2 == 0 ? "loki" : "elasticsearch", n -> new Counters());
                counters.accepted++;
                counters.count(i < 3 ? RemovalReason.DELIVERED : RemovalReason.EXPIRED, 1);
            }
            state.finish();
            assertThat(state.counters()).usingRecursiveComparison().isEqualTo(expected);
        }
    }

    @Test
    void more_gone_batches_than_fit_into_a_frame_are_all_gone() {
        long[] gone = LongStream.range(0, 20_000).map(i -> 1 + i * 3).toArray();
        frames.gone(gone);
        frames.files(17);
        frames.files(14);
        frames.fileEnd(12, new PayloadLog.FileEnd(3_456_789_012L, 55));

        JournalState state = read();

        assertThat(LongStream.of(gone)).allMatch(state::isGone);
        assertThat(LongStream.of(gone).map(sequence -> sequence + 1)).noneMatch(state::isGone);
        assertThat(state.fileEnd(12)).isEqualTo(new PayloadLog.FileEnd(3_456_789_012L, 55));
        assertThat(state.fileEnd(13)).isNull();
        assertThat(state.lastFile()).isEqualTo(17);
    }

    @Test
    void a_frame_of_another_generation_or_with_any_bit_flipped_is_none() {
        frames.settled(123, loki, RemovalReason.DELIVERED);
        byte[] frame = Arrays.copyOf(frames.array(), frames.length());
        assertThat(JournalFrames.validLength(JournalFrames.seed(GENERATION), frame, 0, frame.length))
                .isEqualTo(frame.length);
        assertThat(JournalFrames.validLength(JournalFrames.seed(GENERATION + 1), frame, 0, frame.length))
                .isZero();
        for (int bit = 0; bit < 8 * frame.length; bit++) {
            frame[bit / 8] ^= (byte) (1 << bit % 8);
            assertThat(JournalFrames.validLength(JournalFrames.seed(GENERATION), frame, 0, frame.length))
                    .as("bit %s", bit)
                    .isZero();
            frame[bit / 8] ^= (byte) (1 << bit % 8);
        }
        for (int length = 0; length < frame.length; length++) {
            assertThat(JournalFrames.validLength(JournalFrames.seed(GENERATION), frame, 0, length))
                    .isZero();
        }
    }

    @Test
    void a_body_that_does_not_fit_is_refused_and_leaves_the_rest_as_it_is() {
        frames.settled(1, loki, RemovalReason.DELIVERED);
        int before = frames.length();
        assertThatExceptionOfType(BufferOverflowException.class)
                .isThrownBy(() -> frames.persistedState(2, dead(0, 0, 0, "x".repeat(JournalFrames.MAX_BODY))));
        assertThat(frames.length()).isEqualTo(before);
        frames.persistedState(2, dead(0, 0, 0, "x".repeat(JournalFrames.MAX_BODY - 4)));
        assertThat(read().persistedState(2)).isNotNull();
    }

    @Test
    void clearing_leaves_nothing() {
        frames.gone(LongStream.range(0, 300_000).toArray());
        frames.clear();
        assertThat(frames.isEmpty()).isTrue();
        frames.settled(1, loki, RemovalReason.DELIVERED);
        assertThat(read().isGone(1)).isTrue();
        assertThat(read().isGone(2)).isFalse();
    }

    /** Any frame may be damaged. The others keep their meaning. */
    @Test
    void counters_whose_checkpoint_is_damaged_are_not_those_of_the_next() {
        loki.counters.accepted = 10;
        // The checkpoint of these counters and the counters of the next checkpoint are damaged.
        frames.counters(loki);
        JournalFrames behind = new JournalFrames(GENERATION, reasons);
        behind.settled(3, loki, RemovalReason.DELIVERED);
        JournalFrames last = new JournalFrames(GENERATION, reasons);
        last.checkpoint(20);
        JournalState state = new JournalState();
        state.beginFile();
        readInto(state, frames);
        state.damaged();
        readInto(state, behind);
        state.damaged();
        readInto(state, last);
        state.finish();

        assertThat(state.isGone(3)).isTrue();
        assertThat(state.counters().get("loki").gone(RemovalReason.DELIVERED)).isOne();
    }

    /** When there are too many reasons, their numbers are reassigned, but never within the failures of one batch. */
    @Test
    void earlier_failures_keep_their_reasons_however_many_there_are() {
        for (int i = 0; i < 3_000; i++) {
            List<FailedAttempt> earlier = List.of(
                    new FailedAttempt(Instant.ofEpochMilli(1), "a" + i),
                    new FailedAttempt(Instant.ofEpochMilli(2), "b" + i),
                    new FailedAttempt(Instant.ofEpochMilli(3), "c" + i));
            frames.persistedState(i + 1, new PersistedState(false, 0, 4, 4, 5, "d" + i, earlier));
        }
        JournalState state = read();
        for (int i = 0; i < 3_000; i++) {
            PersistedState persistedState = Objects.requireNonNull(state.persistedState(i + 1));
            assertThat(persistedState.reason()).isEqualTo("d" + i);
            assertThat(persistedState.earlier())
                    .extracting(FailedAttempt::reason)
                    .containsExactly("a" + i, "b" + i, "c" + i);
        }
    }

    @Test
    void what_is_withdrawn_is_gone_and_taken_from_what_was_accepted() {
        loki.counters.accepted = 5;
        frames.counters(loki);
        frames.checkpoint(7);
        frames.persistedState(6, pending(1, 1, 1, 1, "x"));
        frames.withdrawn(6, loki);
        // Accepted after the checkpoint, so the counters do not include it.
        frames.withdrawn(8, loki);

        JournalState state = read();

        assertThat(state.isGone(6)).isTrue();
        assertThat(state.isGone(8)).isTrue();
        assertThat(state.persistedState(6)).isNull();
        assertThat(state.nextSequence()).isEqualTo(9);
        assertThat(state.counters().get("loki").accepted).isEqualTo(4);
        assertThat(state.counters().get("loki").gone()).isZero();
    }
}
