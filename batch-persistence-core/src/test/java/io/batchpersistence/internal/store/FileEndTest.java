package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.store.DiskStoreFixture;
import io.batchpersistence.store.StoreKind;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A recorded end of a file applies to that file only, not to another one with the same number. */
class FileEndTest extends DiskStoreFixture {

    private static final int BATCHES = 5;
    private static final int JOURNAL_HEADER = 20;
    private static final int SEGMENT_HEADER = 16;

    @ParameterizedTest
    @CsvSource({
        // The recorded file did not have the batch that is in this file.
        "0, 5",
        // The recorded file is this file.
        "5, 0"
    })
    void it_is_the_end_of_a_file_without_later_batches(long lastSequence, int held) {
        MemoryDisk disk = new MemoryDisk();
        MemoryDisk killed;
        try (BatchStore store = open(StoreKind.SEGMENT, disk)) {
            for (int i = 0; i < BATCHES; i++) {
                append(store, "batch " + i);
            }
            killed = disk.copy();
        }
        tellEnd(killed, new PayloadLog.FileEnd(SEGMENT_HEADER, lastSequence));
        try (BatchStore store = open(StoreKind.SEGMENT, killed)) {
            assertThat(store.count(BatchSelector.all(), clock.instant())).isEqualTo(held);
        }
    }

    /** Appends the end of the first segment to the journal. */
    private static void tellEnd(MemoryDisk disk, PayloadLog.FileEnd end) {
        Path journal = disk.last(".journal");
        long generation = Long.parseLong(journal.getFileName().toString().replaceAll("\\D", ""));
        byte[] bytes = disk.get(journal);
        int at = JOURNAL_HEADER;
        byte[] seed = JournalFrames.seed(generation);
        for (int length; (length = JournalFrames.validLength(seed, bytes, at, bytes.length)) > 0; ) {
            at += length;
        }
        JournalFrames frames = new JournalFrames(generation, new JournalFrames.Reasons());
        frames.fileEnd(1, end);
        byte[] more = Arrays.copyOf(frames.array(), frames.length());
        System.arraycopy(more, 0, bytes, at, more.length);
        disk.put(journal, bytes);
    }
}
