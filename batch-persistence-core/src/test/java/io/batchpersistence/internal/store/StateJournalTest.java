package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.internal.disk.MemoryDisk;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class StateJournalTest {

    private static final Path DIRECTORY = Path.of("/store");

    private final MemoryDisk disk = new MemoryDisk();

    private StateJournal read(JournalState state) throws IOException {
        return read(disk, state);
    }

    private static StateJournal read(MemoryDisk disk, JournalState state) throws IOException {
        return StateJournal.read(disk, DIRECTORY, state, (file, offset, length, reason) -> {
            throw new AssertionError(file + " at " + offset + ": " + reason);
        });
    }

    private static JournalFrames gone(long generation, long batch) {
        JournalFrames frames = new JournalFrames(generation, new JournalFrames.Reasons());
        frames.gone(new long[] {batch});
        return frames;
    }

    /** The maintenance thread creates a journal, the journal fails, and the writer replaces it in the meantime. */
    @Test
    void a_log_that_was_overtaken_takes_nothing_from_the_one_that_is_written() throws IOException {
        try (StateJournal journal = read(new JournalState())) {
            StateJournal.Prepared first = journal.prepare();
            StateJournal.Prepared second = journal.prepare();
            assertThat(second.path()).isNotEqualTo(first.path());
            assertThat(journal.isOvertaken(first)).isFalse();
            journal.begin(second);
            journal.write(gone(second.generation(), 1));
            assertThat(journal.isOvertaken(first)).isTrue();
            journal.discard(first);
            journal.write(gone(second.generation(), 2));
            journal.force();
        }
        assertThat(disk.files()).hasSize(1);
        JournalState state = new JournalState();
        read(state).close();
        assertThat(state.isGone(1) && state.isGone(2)).isTrue();
    }

    @Test
    void a_log_made_earlier_than_the_one_that_is_written_is_still_next() throws IOException {
        try (StateJournal journal = read(new JournalState())) {
            StateJournal.Prepared first = journal.prepare();
            StateJournal.Prepared second = journal.prepare();
            journal.begin(first);
            journal.write(gone(first.generation(), 1));
            assertThat(journal.isOvertaken(second)).isFalse();
            journal.begin(second);
            journal.write(gone(second.generation(), 2));
            journal.force();
        }
        JournalState state = new JournalState();
        read(state).close();
        assertThat(state.isGone(1) && state.isGone(2)).isTrue();
    }

    @Test
    void what_is_forced_into_a_log_that_was_just_begun_outlives_a_power_cut() throws IOException {
        MemoryDisk left;
        try (StateJournal journal = read(new JournalState())) {
            StateJournal.Prepared prepared = journal.prepare();
            journal.begin(prepared);
            journal.write(gone(prepared.generation(), 1));
            journal.force();
            left = disk.afterPowerCut();
        }
        JournalState state = new JournalState();
        read(left, state).close();
        assertThat(state.isGone(1)).isTrue();
    }

    /** Else marks of a process that starts on a full disk would be lost, and files deleted that no journal says are. */
    @Test
    void killed_at_any_moment_it_leaves_a_newest_log_that_can_be_resumed() throws IOException {
        List<MemoryDisk> moments = new ArrayList<>();
        try (StateJournal journal = read(new JournalState())) {
            journal.begin(journal.prepare());
            JournalFrames checkpoint = new JournalFrames(journal.generation(), new JournalFrames.Reasons());
            checkpoint.checkpoint(0);
            journal.write(checkpoint);
            disk.beforeChange(() -> moments.add(disk.copy()));
            for (int round = 0; round < 3; round++) {
                journal.write(gone(journal.generation(), 1));
                journal.write(goneManyTimes(journal.generation(), StateJournal.RESERVE + 1));
                journal.write(goneManyTimes(journal.generation(), 3 * StateJournal.RESERVE));
                journal.begin(journal.prepare());
            }
        }
        assertThat(moments).hasSizeGreaterThan(20);
        for (MemoryDisk moment : moments) {
            moment.beforeChange(() -> {});
            JournalState state = new JournalState();
            long left;
            try (StateJournal journal = StateJournal.read(moment, DIRECTORY, state, new OnlyTornTails())) {
                journal.resume();
                assertThat(state.isCompleteSinceCheckpoint()).isTrue();
                journal.write(gone(journal.generation(), 2));
                left = journal.generation();
                journal.discard(journal.prepare());
            }
            JournalState resumed = new JournalState();
            try (StateJournal journal = read(moment, resumed)) {
                assertThat(journal.generation()).isEqualTo(left);
            }
            assertThat(resumed.isGone(2) && resumed.isCompleteSinceCheckpoint()).isTrue();
        }
    }

    private static final class OnlyTornTails implements StateJournal.Damage {
        @Override
        public void found(Path file, long offset, long length, String reason) {
            throw new AssertionError(file + " at " + offset + ": " + reason);
        }

        @Override
        public void tornTail(Path file, long offset, long length) {
            // The process was killed while it wrote this.
        }
    }

    private static JournalFrames goneManyTimes(long generation, int bytes) {
        JournalFrames frames = new JournalFrames(generation, new JournalFrames.Reasons());
        while (frames.length() < bytes) {
            frames.gone(new long[] {1});
        }
        return frames;
    }
}
