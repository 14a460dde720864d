package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.internal.disk.MemoryDisk;
import java.io.IOException;
import java.nio.file.Path;
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
}
