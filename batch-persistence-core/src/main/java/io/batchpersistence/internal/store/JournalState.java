package io.batchpersistence.internal.store;

import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What state journals say, frame by frame. A snapshot replaces everything said before it. Not thread-safe.
 *
 * <p>Frames are absolute ("is pending, due then"), never relative, so reading one twice, or one that repeats what a snapshot
 * already holds, changes nothing; the counters are guarded by the sequence of their checkpoint.
 */
final class JournalState {

    private final Map<Integer, String> names = new HashMap<>();
    private final Map<String, String> reasons = new HashMap<>();
    private final Map<Integer, Counters> staged = new HashMap<>();
    private Map<String, Counters> counters = new HashMap<>();
    private Map<Long, Standing> standings = new HashMap<>();
    private LongList gone = new LongList();
    private Map<Integer, Long> fileEnds = new HashMap<>();
    /** Of batches whose collector type was in a damaged frame, by sequence. */
    private final Map<Long, Cause> ends = new HashMap<>();

    private final Deque<Cause> nameless = new ArrayDeque<>();
    private long checkpoint;
    private long nextSequence = 1;

    /** Numbers of collector types are per file. */
    void beginFile() {
        names.clear();
        staged.clear();
    }

    void apply(byte kind, ByteBuffer body) {
        switch (kind) {
            case JournalFrames.COLLECTOR -> names.put(body.getInt(), JournalFrames.text(body));
            case JournalFrames.SETTLED -> settled(body.getLong(), body.getInt(), Cause.of(body.get()));
            case JournalFrames.PENDING ->
                standings.put(
                        seen(body.getLong()),
                        new Standing(
                                false, body.getLong(), body.getInt(), body.getLong(), body.getLong(), reason(body)));
            case JournalFrames.DEAD ->
                standings.put(
                        seen(body.getLong()),
                        new Standing(
                                true, body.getLong(), body.getInt(), body.getLong(), BatchIndex.NEVER, reason(body)));
            case JournalFrames.COUNTERS -> {
                int collector = body.getInt();
                if (!names.containsKey(collector)) {
                    return; // the frame with its name is damaged: older counters are better than those of nobody
                }
                Counters read = new Counters();
                read.accepted = body.getLong();
                for (Cause cause : Cause.values()) {
                    read.count(cause, body.getLong());
                }
                staged.put(collector, read);
            }
            case JournalFrames.CHECKPOINT -> {
                checkpoint = seen(body.getLong());
                staged.forEach((collector, read) -> counters.put(names.get(collector), read));
                staged.clear();
            }
            case JournalFrames.GONE -> {
                while (body.remaining() >= 8) {
                    gone.add(seen(body.getLong()));
                }
            }
            case JournalFrames.FILE_END -> fileEnds.put(body.getInt(), body.getLong());
            case JournalFrames.SNAPSHOT_END -> nextSequence = Math.max(nextSequence, body.getLong());
            default -> throw new IllegalArgumentException("unknown kind of frame " + kind);
        }
    }

    private void settled(long sequence, int collector, Cause cause) {
        seen(sequence);
        gone.add(sequence);
        standings.remove(sequence);
        String name = names.get(collector);
        if (name == null) {
            ends.put(sequence, cause);
            return;
        }
        Counters of = counters.computeIfAbsent(name, unknown -> new Counters());
        of.count(cause, 1);
        if (sequence > checkpoint) {
            of.accepted++;
        }
    }

    /** In an outage a million batches share one reason. */
    private @Nullable String reason(ByteBuffer body) {
        String reason = JournalFrames.text(body);
        if (reason.isEmpty()) {
            return null;
        }
        String known = reasons.get(reason);
        if (known == null && reasons.size() < ReasonTable.MAX) {
            reasons.put(reason, reason);
        }
        return known == null ? reason : known;
    }

    /** The ends of batches that some collector type has accepted, but it is not known which: for whoever misses one. */
    Deque<Cause> nameless() {
        return nameless;
    }

    private long seen(long sequence) {
        nextSequence = Math.max(nextSequence, sequence + 1);
        return sequence;
    }

    /** To be called when everything has been applied, before {@link #isGone}. */
    void finish() {
        gone.sort();
        ends.forEach((sequence, cause) -> {
            if (sequence <= checkpoint) {
                nameless.add(cause);
            } else { // in nobody's counters yet
                Counters unknown =
                        counters.computeIfAbsent(IndexedBatchStore.UNKNOWN_COLLECTOR, name -> new Counters());
                unknown.accepted++;
                unknown.count(cause, 1);
            }
        });
        ends.clear();
    }

    boolean isGone(long sequence) {
        return gone.contains(sequence);
    }

    /** Removes it here, so that while the index grows this shrinks. */
    @Nullable
    Standing takeStanding(long sequence) {
        return standings.remove(sequence);
    }

    Map<String, Counters> counters() {
        return counters;
    }

    /** Batches up to this one are in the counters as accepted. */
    long checkpoint() {
        return checkpoint;
    }

    long nextSequence() {
        return nextSequence;
    }

    long fileEnd(int file) {
        return fileEnds.getOrDefault(file, Long.MAX_VALUE);
    }

    /** A growing array of numbers. */
    static final class LongList {
        private long[] values = new long[16];
        private int size;

        void add(long value) {
            if (size == values.length) {
                values = Arrays.copyOf(values, size * 2);
            }
            values[size++] = value;
        }

        void sort() {
            Arrays.sort(values, 0, size);
        }

        boolean contains(long value) {
            return Arrays.binarySearch(values, 0, size, value) >= 0;
        }

        long[] toArray() {
            return Arrays.copyOf(values, size);
        }
    }
}
