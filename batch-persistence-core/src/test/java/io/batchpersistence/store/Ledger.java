package io.batchpersistence.store;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * What the callers of a store were promised, in order: a simple model to check crashes against. Every call is noted
 * before and after, so that at any moment the ledger knows which batches must, may and must not be there. Batches have
 * unique keys, see {@link StoreCalls#id}. Thread-safe.
 */
final class Ledger {

    /** How a batch can end other than by damage. */
    enum End {
        DELIVERED,
        EXPIRED,
        EVICTED,
        DISCARDED
    }

    record ExpectedState(@Nullable End end, boolean dead, int retries) {
        static final ExpectedState NEW = new ExpectedState(null, false, 0);

        static ExpectedState ended(End how) {
            return new ExpectedState(how, false, 0);
        }
    }

    /** How the process ended that made the promises. */
    enum Left {
        /** It is running: everything that was done is visible. */
        RUNNING,
        /** What was written is there. */
        KILLED,
        /** What was forced is there. */
        POWER_CUT
    }

    private enum Kind {
        CARRIED,
        ASKED,
        ACCEPTED,
        REFUSED,
        MARKING,
        MARKED,
        NOT_MARKED,
        WRITTEN,
        MARK_FORCED,
        FORCED
    }

    private record Event(
            Kind kind, String id, String type, @Nullable ExpectedState state, int of) {}

    private final List<Event> events = new ArrayList<>();

    /** The current position. Later notes come after it. */
    synchronized int position() {
        return events.size();
    }

    private synchronized int note(Kind kind, String id, String type, @Nullable ExpectedState state, int of) {
        events.add(new Event(kind, id, type, state, of));
        return events.size() - 1;
    }

    void asked(String id, String collectorType) {
        note(Kind.ASKED, id, collectorType, null, 0);
    }

    /**
     * Notes a batch that existed when this ledger began.
     *
     * @param owed whether it was accepted; not if it is there although it was refused or never acknowledged
     */
    void carried(String id, String collectorType, ExpectedState state, boolean owed) {
        note(Kind.CARRIED, id, collectorType, state, owed ? 1 : 0);
    }

    void accepted(String id) {
        note(Kind.ACCEPTED, id, "", null, 0);
    }

    void refused(String id) {
        note(Kind.REFUSED, id, "", null, 0);
    }

    /** Returns the argument for {@link #marked} or {@link #notMarked}. */
    int marking(String id, ExpectedState after) {
        return note(Kind.MARKING, id, "", after, 0);
    }

    void marked(String id, int marking) {
        note(Kind.MARKED, id, "", null, marking);
    }

    /** The store has reported that it changed nothing. */
    void notMarked(String id, int marking) {
        note(Kind.NOT_MARKED, id, "", null, marking);
    }

    /** Marks made before that position are written: a kill does not lose them. */
    void written(int before) {
        note(Kind.WRITTEN, "", "", null, before);
    }

    /** This mark and all marks before that position are durable. */
    void forced(int marking, int before) {
        note(Kind.MARK_FORCED, "", "", null, marking);
        note(Kind.FORCED, "", "", null, before);
    }

    /** What a store must and may contain. */
    record Expectation(Map<String, Batch> batches) {

        /**
         * One batch.
         *
         * @param carried whether it existed before
         * @param accepted whether its caller knows that it was accepted
         * @param standings the possible states; empty if it must not be there
         */
        record Batch(
                String id,
                String type,
                boolean carried,
                boolean accepted,
                boolean refused,
                Set<ExpectedState> standings) {
            boolean mustBeHeld() {
                return accepted && standings.stream().allMatch(state -> state.end() == null);
            }

            boolean mayStand(boolean dead, int retries) {
                return standings.contains(new ExpectedState(null, dead, retries));
            }

            boolean mayHaveEnded() {
                return standings.stream().anyMatch(state -> state.end() != null);
            }

            private boolean mayHaveEnded(End how) {
                return standings.stream().anyMatch(state -> state.end() == how);
            }

            private boolean mustHaveEnded(End how) {
                return !standings.isEmpty() && standings.stream().allMatch(state -> state.end() == how);
            }
        }

        Set<String> types() {
            return batches.values().stream().map(Batch::type).collect(Collectors.toSet());
        }

        long accepted(String type) {
            return of(type).filter(batch -> batch.accepted() && !batch.carried())
                    .count();
        }

        long maybeAccepted(String type) {
            return of(type).filter(
                            batch -> !batch.carried() && !batch.standings().isEmpty())
                    .count();
        }

        long ended(String type, End how) {
            return of(type).filter(batch -> batch.mustHaveEnded(how)).count();
        }

        long maybeEnded(String type, End how) {
            return of(type).filter(batch -> batch.mayHaveEnded(how)).count();
        }

        /**
         * The number of batches whose append is not finished. A power cut during a write can keep a later batch and
         * lose an earlier one. That one was never promised, but the disk does not show this, so it is reported as lost.
         */
        long undecided() {
            return batches.values().stream()
                    .filter(batch -> !batch.accepted() && !batch.refused())
                    .count();
        }

        /**
         * The number of refused batches. If the journal cannot be forced either, it does not durably record that their
         * numbers are void. After a power cut they look like batches that were lost with their file, and are reported.
         */
        long refused() {
            return batches.values().stream().filter(Batch::refused).count();
        }

        /**
         * The number of batches that have ended as far as their callers know. On a failing disk their bytes may be
         * deleted to free space before the end is durable. After a power cut they are reported as lost, or missing in
         * the counters.
         */
        long mayHaveEnded() {
            return batches.values().stream().filter(Batch::mayHaveEnded).count();
        }

        /** The number of batches that are held although they were marked as gone. */
        long again(String type, Set<String> held) {
            return of(type).filter(batch -> batch.mayHaveEnded() && held.contains(batch.id()))
                    .count();
        }

        private Stream<Batch> of(String type) {
            return batches.values().stream().filter(batch -> batch.type().equals(type));
        }
    }

    /**
     * The expectation at a position.
     *
     * @param refusedMayBeThere whether refused batches may be there, because the disk could not remove them either
     */
    synchronized Expectation expectation(int position, Left left, boolean refusedMayBeThere) {
        int durable = left == Left.RUNNING ? position : 0;
        Map<String, ExpectedState> first = new HashMap<>();
        Map<String, List<Integer>> marks = new HashMap<>();
        Map<Integer, Integer> done = new HashMap<>();
        Map<String, Expectation.Batch> batches = new LinkedHashMap<>();
        for (int i = 0; i < position; i++) {
            Event event = events.get(i);
            String id = event.id();
            switch (event.kind()) {
                case CARRIED -> {
                    first.put(id, Objects.requireNonNull(event.state()));
                    marks.put(id, new ArrayList<>());
                    batches.put(id, new Expectation.Batch(id, event.type(), true, event.of() == 1, false, Set.of()));
                }
                case ASKED -> {
                    marks.put(id, new ArrayList<>());
                    batches.put(id, new Expectation.Batch(id, event.type(), false, false, false, Set.of()));
                }
                case ACCEPTED ->
                    batches.computeIfPresent(
                            id, (same, b) -> new Expectation.Batch(id, b.type(), false, true, false, Set.of()));
                case REFUSED ->
                    batches.computeIfPresent(
                            id, (same, b) -> new Expectation.Batch(id, b.type(), false, false, true, Set.of()));
                case MARKING ->
                    marks.computeIfAbsent(id, same -> new ArrayList<>()).add(i);
                case MARKED -> done.putIfAbsent(event.of(), i);
                case NOT_MARKED ->
                    marks.computeIfAbsent(id, same -> new ArrayList<>()).remove((Integer) event.of());
                case WRITTEN -> durable = left == Left.KILLED ? Math.max(durable, event.of()) : durable;
                case MARK_FORCED -> done.put(event.of(), -1);
                case FORCED -> durable = Math.max(durable, event.of());
            }
        }
        int before = durable;
        batches.replaceAll((id, batch) -> {
            Set<ExpectedState> standings = new LinkedHashSet<>();
            if (!batch.refused() || refusedMayBeThere) {
                standings.add(first.getOrDefault(id, ExpectedState.NEW));
            }
            for (int mark : marks.getOrDefault(id, List.of())) {
                if (done.getOrDefault(mark, Integer.MAX_VALUE) < before) {
                    standings.clear();
                }
                standings.add(Objects.requireNonNull(events.get(mark).state()));
            }
            return new Expectation.Batch(
                    id, batch.type(), batch.carried(), batch.accepted(), batch.refused(), standings);
        });
        return new Expectation(batches);
    }
}
