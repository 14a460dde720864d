package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Candidate.Kind;
import java.util.List;
import java.util.stream.Stream;

/** All measured stores, in the order of the tables. */
final class Candidates {

    /** The store that all others are compared to. */
    static final Kind BASELINE = PlainAppend.KIND;

    /** The stores that keep batches in files. */
    static final List<Kind> IN_FILES = List.of(
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

    static final List<Kind> IN_DATABASE = List.of(OwnStore.JDBC, PlainTable.KIND, DbScheduler.KIND);

    static final List<Kind> ALL =
            Stream.concat(IN_FILES.stream(), IN_DATABASE.stream()).toList();

    /** What is measured in {@code persist}: a store within an application persists as it does without one otherwise. */
    static final List<Kind> PERSISTING = Stream.concat(
                    Stream.of(OwnStore.SEGMENT, SpringStore.KIND), ALL.stream().skip(1))
            .toList();

    /** The stores whose pending batches can be claimed by several workers. */
    static final List<Kind> SHARED =
            Stream.concat(Stream.of(OwnStore.SEGMENT), IN_DATABASE.stream()).toList();

    private Candidates() {}

    static Kind named(String name) {
        return PERSISTING.stream()
                .flatMap(kind -> kind.own() ? Stream.of(kind, kind.before()) : Stream.of(kind))
                .filter(kind -> kind.name().equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException("there is no store '" + name + "'; there are "
                        + String.join(", ", PERSISTING.stream().map(Kind::name).toList())));
    }
}
