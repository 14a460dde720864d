package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.SegmentLog;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.store.GeneratedBatch;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.Test;

/** Callers that encoded their batches before a new dictionary was trained are written after it. */
class DictionaryChangeTest {

    private final ManualClock clock = new ManualClock();
    private final MemoryDisk disk = new MemoryDisk();
    private int sequence;

    private SegmentLog log() {
        return new SegmentLog(
                disk,
                DiskStoreOptions.builder(Path.of("store"))
                        .segmentSize(64 << 10)
                        .clock(clock)
                        .build());
    }

    private NewBatch batch(String id) {
        return GeneratedBatch.of(id, clock.instant(), clock.instant());
    }

    private PayloadLog.Append append(String id, SegmentLog encodedBy) {
        return new PayloadLog.Append(batch(id), ++sequence, encodedBy.encode(batch(id), 0), 0, null);
    }

    /** Encodes until there are enough samples, and trains. */
    private void train(SegmentLog log, String traffic) {
        for (int i = 0; !log.hasMaintenance(); i++) {
            log.encode(batch(traffic + i), 0);
        }
        PayloadLog.MaintenanceTask training = Objects.requireNonNull(log.nextMaintenanceTask());
        training.run();
        training.finish();
        assertThat(log.hasMaintenance()).isFalse();
    }

    @Test
    void their_batches_are_encoded_again_and_begin_no_segments_of_their_own() throws IOException {
        SegmentLog log = log();
        SegmentLog other = log();
        List<PayloadLog.Append> group = new ArrayList<>();
        group.add(append("without", log));
        train(log, "one ");
        train(other, "other ");
        for (int i = 0; i < 3; i++) {
            group.add(append("first " + i, log));
            group.add(append("second " + i, other));
            group.add(append("second again " + i, other));
        }
        log.write(group);
        assertThat(disk.files(".segment")).hasSize(1);
        for (PayloadLog.Append append : group) {
            RecordPointer pointer = Objects.requireNonNull(append.pointer, append.id);
            assertThat(log.content(pointer).entries()).as(append.id).isEqualTo(GeneratedBatch.entries(append.id));
        }
    }
}
