package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.LogEntry;
import io.batchpersistence.benchmarks.Candidate.Kind;
import io.batchpersistence.benchmarks.Candidate.Limit;
import io.batchpersistence.benchmarks.Candidate.Stored;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * A benchmark of a store that does not do its work is worthless: this test checks that every store keeps what it is
 * given.
 */
class CandidateTest {

    private static final int BATCHES = 7;

    @TempDir
    Path directory;

    private final List<List<LogEntry>> payloads = corpus();

    private static List<List<LogEntry>> corpus() {
        try {
            return Corpus.of(null, false).batches(20);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static Stream<Kind> candidates() {
        return Candidates.ALL.stream();
    }

    static Stream<Kind> thatCanMark() {
        return candidates().filter(kind -> !kind.has(Limit.NO_MARK));
    }

    static Stream<Kind> shared() {
        return Candidates.SHARED.stream();
    }

    @AfterEach
    void dropSchema() throws IOException {
        Scenarios.delete(directory);
    }

    private Candidate open(Kind kind) throws Exception {
        if (kind.has(Limit.NEEDS_DATABASE)) {
            DatabasePlace.prepare(directory, TestUrl.postgresqlOrH2(), 8);
        }
        try {
            return kind.opener().open(directory, !kind.has(Limit.NEVER_SYNCS));
        } catch (LinkageError e) {
            // IllegalAccessError, UnsatisfiedLinkError, NoClassDefFoundError
            Assumptions.abort(
                    kind.title() + " does not run on JDK " + Runtime.version().feature() + ": " + e);
            throw e;
        }
    }

    private static String id(int i) {
        return "batch-00000000000" + i;
    }

    private void fill(Kind kind) throws Exception {
        try (Candidate store = open(kind)) {
            for (int i = 0; i < BATCHES; i++) {
                store.persist(id(i), payloads.get(i));
            }
        }
    }

    private static List<Stored> readAll(Candidate store) throws Exception {
        List<Stored> all = new ArrayList<>();
        for (Stored stored = store.next(); stored != null; stored = store.next()) {
            all.add(stored);
            store.mark(stored.id());
        }
        return all;
    }

    @ParameterizedTest
    @MethodSource("candidates")
    void what_was_persisted_is_read_back_by_the_next_process(Kind kind) throws Exception {
        fill(kind);

        try (Candidate store = open(kind)) {
            if (kind.has(Limit.PENDING_UNKNOWN)) {
                assertThatThrownBy(store::pending).isInstanceOf(UnsupportedOperationException.class);
            } else {
                assertThat(store.pending()).isEqualTo(BATCHES);
            }
            List<Stored> all = readAll(store);
            assertThat(all).hasSize(BATCHES);
            for (int i = 0; i < BATCHES; i++) {
                assertThat(all.get(i).id()).isEqualTo(kind.has(Limit.NO_ID) ? "" : id(i));
                assertThat(all.get(i).entries()).isEqualTo(payloads.get(i));
            }
        }
    }

    @ParameterizedTest
    @MethodSource("candidates")
    void what_was_read_and_marked_is_gone(Kind kind) throws Exception {
        fill(kind);
        try (Candidate store = open(kind)) {
            readAll(store);
        }

        try (Candidate store = open(kind)) {
            // A file, or a queue with a read position.
            boolean readsOnly = kind.has(Limit.NO_MARK) && !kind.has(Limit.NO_ID);
            assertThat(readAll(store)).hasSize(readsOnly ? BATCHES : 0);
        }
    }

    @ParameterizedTest
    @MethodSource("thatCanMark")
    void one_is_marked_while_others_wait(Kind kind) throws Exception {
        try (Candidate store = open(kind)) {
            for (int i = 0; i < BATCHES; i++) {
                store.persist(id(i), payloads.get(i));
            }
            store.mark(id(3));
            assertThat(store.pending()).isEqualTo(BATCHES - 1);
        }

        try (Candidate store = open(kind)) {
            int gone = kind.has(Limit.MARKS_IN_ORDER) ? 0 : 3;
            assertThat(store.pending()).isEqualTo(BATCHES - 1);
            assertThat(readAll(store))
                    .hasSize(BATCHES - 1)
                    .extracting(Stored::id)
                    .doesNotContain(id(gone));
        }
    }

    @ParameterizedTest
    @MethodSource("shared")
    void several_workers_recover_each_batch_once(Kind kind) throws Exception {
        if (kind.equals(DbScheduler.KIND)) {
            // Only PostgreSQL supports lock-and-fetch.
            TestUrl.postgresql();
        }
        fill(kind);

        try (Candidate.Shared store = (Candidate.Shared) open(kind)) {
            assertThat(store.recover(3)).isEqualTo(new Candidate.Recovered(BATCHES, 20L * BATCHES));
            assertThat(store.pending()).isZero();
        }
    }

    @Test
    void an_application_delivers_what_it_persists() throws Exception {
        try (Candidate store = open(SpringStore.KIND)) {
            for (int i = 0; i < BATCHES; i++) {
                assertThat(store.persistAndMark(id(i), payloads.get(i))).isPositive();
            }
            assertThat(store.pending()).isZero();
            store.persist(id(BATCHES), payloads.get(BATCHES));
            assertThat(store.pending()).isEqualTo(1);
            store.mark(id(BATCHES));
            assertThat(store.pending()).isZero();
        }
    }

    @ParameterizedTest
    @MethodSource("candidates")
    void a_batch_has_a_size_in_the_stores_own_encoding(Kind kind) throws Exception {
        try (Candidate store = open(kind)) {
            assertThat(store.encodedSize(payloads.get(0))).isPositive();
        }
    }
}
