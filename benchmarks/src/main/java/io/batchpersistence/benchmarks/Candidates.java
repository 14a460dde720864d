package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Candidate.Kind;
import java.util.List;

/** All that are measured, in the order of the tables. */
final class Candidates {

    /** What all others are compared to. */
    static final Kind BASELINE = PlainAppend.KIND;

    static final List<Kind> ALL = List.of(
            OwnStore.SEGMENT,
            OwnStore.JSON_FILES,
            PlainAppend.KIND,
            JsonFilePerBatch.KIND,
            OtelDiskBuffering.KIND,
            RocksDbStore.KIND,
            MvStoreStore.KIND,
            ArtemisJournalStore.KIND,
            ChronicleQueueStore.KIND,
            TapeStore.KIND);

    private Candidates() {}

    static Kind named(String name) {
        return ALL.stream()
                .filter(kind -> kind.name().equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("there is no store '" + name + "'; there are "
                        + String.join(", ", ALL.stream().map(Kind::name).toList())));
    }
}
