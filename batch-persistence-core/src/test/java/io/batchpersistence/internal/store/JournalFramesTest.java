package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import java.nio.BufferOverflowException;
import java.util.Arrays;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/** What is written as frames is what the state says after reading them. */
class JournalFramesTest {

    private static final long GENERATION = 7;

    private final JournalFrames frames = new JournalFrames(GENERATION);

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
            int length = JournalFrames.validLength(GENERATION, bytes, at);
            assertThat(length).as("frame at %s", at).isPositive();
            state.apply(bytes[at + 1], JournalFrames.body(bytes, at, length));
            at += length;
        }
    }

    @Test
    void standingsComeBackAndTheLastOneCounts() {
        frames.pending(5, 100, 2, 90, 200, "Überlast ☃");
        frames.dead(6, 300, 10, 299, "rejected");
        frames.pending(7, 1, 1, BatchIndex.NEVER, BatchIndex.NEVER, null);
        frames.pending(7, 1, 2, 3, 4, "later");

        JournalState state = read();

        assertThat(state.takeStanding(5)).isEqualTo(new Standing(false, 100, 2, 90, 200, "Überlast ☃"));
        assertThat(state.takeStanding(6)).isEqualTo(new Standing(true, 300, 10, 299, BatchIndex.NEVER, "rejected"));
        assertThat(state.takeStanding(7)).isEqualTo(new Standing(false, 1, 2, 3, 4, "later"));
        assertThat(state.takeStanding(8)).isNull();
        assertThat(state.takeStanding(7)).as("taken once").isNull();
        assertThat(state.nextSequence()).isEqualTo(8);
    }

    @Test
    void noReasonAndNoAttemptComeBackAsNone() {
        frames.pending(1, 0, 0, BatchIndex.NEVER, BatchIndex.NEVER, null);

        assertThat(read().takeStanding(1))
                .isEqualTo(new Standing(false, 0, 0, BatchIndex.NEVER, BatchIndex.NEVER, null));
    }

    @Test
    void equalReasonsAreOneObject() {
        frames.pending(1, 0, 1, 0, 0, "connection refused");
        frames.dead(2, 0, 1, 0, "connection refused");

        JournalState state = read();

        assertThat(state.takeStanding(1).reason())
                .isSameAs(state.takeStanding(2).reason());
    }

    @Test
    void whatIsSettledAfterTheCheckpointWasAlsoAccepted() {
        Counters counters = new Counters();
        counters.accepted = 100;
        counters.count(Cause.DELIVERED, 90);
        counters.count(Cause.EVICTED, 3);
        frames.collector(4, "loki");
        frames.counters(4, counters);
        frames.checkpoint(50);
        frames.snapshotEnd(60);
        frames.pending(50, 0, 1, 0, 0, "once");
        frames.settled(50, 4, Cause.EXPIRED);
        frames.settled(51, 4, Cause.DELIVERED);

        JournalState state = read();

        Counters read = state.counters().get("loki");
        assertThat(read.accepted).isEqualTo(101);
        assertThat(read.gone(Cause.DELIVERED)).isEqualTo(91);
        assertThat(read.gone(Cause.EXPIRED)).isEqualTo(1);
        assertThat(read.gone(Cause.EVICTED)).isEqualTo(3);
        assertThat(read.gone()).isEqualTo(95);
        assertThat(state.checkpoint()).isEqualTo(50);
        assertThat(state.nextSequence()).isEqualTo(60);
        assertThat(state.isGone(50)).isTrue();
        assertThat(state.isGone(51)).isTrue();
        assertThat(state.isGone(52)).isFalse();
        assertThat(state.takeStanding(50)).isNull();
    }

    @Test
    void countersCountOnlyWithTheirCheckpoint() {
        Counters counters = new Counters();
        counters.accepted = 5;
        frames.collector(0, "loki");
        frames.counters(0, counters);

        assertThat(read().counters()).doesNotContainKey("loki");
    }

    @Test
    void numbersOfCollectorTypesAreThoseOfTheirFile() {
        JournalFrames other = new JournalFrames(GENERATION);
        frames.collector(0, "loki");
        frames.settled(1, 0, Cause.DELIVERED);
        other.collector(0, "elasticsearch");
        other.settled(2, 0, Cause.DELIVERED);
        other.settled(3, 9, Cause.DELIVERED);
        JournalState state = new JournalState();
        state.beginFile();
        readInto(state, frames);
        state.beginFile();
        readInto(state, other);
        state.finish();

        assertThat(state.counters().get("loki").gone(Cause.DELIVERED)).isEqualTo(1);
        assertThat(state.counters().get("elasticsearch").gone(Cause.DELIVERED)).isEqualTo(1);
        assertThat(state.counters().get(IndexedBatchStore.UNKNOWN_COLLECTOR).gone(Cause.DELIVERED))
                .as("whose name was damaged")
                .isEqualTo(1);
    }

    @Test
    void moreGoneBatchesThanFitIntoAFrameAreAllGone() {
        long[] gone = LongStream.range(0, 20_000).map(i -> 1 + i * 3).toArray();
        frames.gone(gone);
        frames.fileEnd(12, 3_456_789_012L);

        JournalState state = read();

        assertThat(LongStream.of(gone)).allMatch(state::isGone);
        assertThat(LongStream.of(gone).map(sequence -> sequence + 1)).noneMatch(state::isGone);
        assertThat(state.fileEnd(12)).isEqualTo(3_456_789_012L);
        assertThat(state.fileEnd(13)).isEqualTo(Long.MAX_VALUE);
    }

    @Test
    void aFrameOfAnotherGenerationOrWithAnyBitFlippedIsNone() {
        frames.settled(123, 4, Cause.DELIVERED);
        byte[] frame = Arrays.copyOf(frames.array(), frames.length());
        assertThat(JournalFrames.validLength(GENERATION, frame, 0)).isEqualTo(frame.length);
        assertThat(JournalFrames.validLength(GENERATION + 1, frame, 0)).isZero();
        for (int bit = 0; bit < 8 * frame.length; bit++) {
            frame[bit / 8] ^= (byte) (1 << bit % 8);
            assertThat(JournalFrames.validLength(GENERATION, frame, 0))
                    .as("bit %s", bit)
                    .isZero();
            frame[bit / 8] ^= (byte) (1 << bit % 8);
        }
        for (int length = 0; length < frame.length; length++) {
            assertThat(JournalFrames.validLength(GENERATION, Arrays.copyOf(frame, length), 0))
                    .isZero();
        }
    }

    @Test
    void aBodyThatDoesNotFitIsRefusedAndLeavesTheRestAsItIs() {
        frames.settled(1, 0, Cause.DELIVERED);
        int before = frames.length();
        assertThatExceptionOfType(BufferOverflowException.class)
                .isThrownBy(() -> frames.dead(2, 0, 0, 0, "x".repeat(JournalFrames.MAX_BODY)));
        assertThat(frames.length()).isEqualTo(before);
        frames.dead(2, 0, 0, 0, "x".repeat(JournalFrames.MAX_BODY - 28));
        assertThat(read().takeStanding(2)).isNotNull();
    }

    @Test
    void clearingLeavesNothing() {
        frames.gone(LongStream.range(0, 300_000).toArray());
        frames.clear();
        assertThat(frames.isEmpty()).isTrue();
        frames.settled(1, 0, Cause.DELIVERED);
        assertThat(read().isGone(1)).isTrue();
        assertThat(read().isGone(2)).isFalse();
    }
}
