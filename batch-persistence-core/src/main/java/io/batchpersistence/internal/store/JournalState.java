package io.batchpersistence.internal.store;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.internal.spi.RemovalReason;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/**
 * The state that the journals describe, read frame by frame. A snapshot replaces everything said before it. Not
 * thread-safe.
 *
 * <p>Frames are absolute ("is pending, due then"), never relative, so reading one twice, or one that repeats what a
 * snapshot already holds, changes nothing; the counters are guarded by the sequence of their checkpoint.
 */
final class JournalState {

    private static final String LOST_REASON = "(the reason was in a damaged part of the journal)";

    private final Map<Integer, String> reasonNames = new HashMap<>();
    private final Map<String, String> reasons = new HashMap<>();
    private final Map<String, Counters> staged = new HashMap<>();
    private final Map<String, Counters> counters = new HashMap<>();
    private final Map<String, Boolean> paused = new HashMap<>();
    private final PersistedStateTable persistedStates = new PersistedStateTable();
    private final LongList gone = new LongList();
    private final Map<Integer, PayloadLog.FileEnd> fileEnds = new HashMap<>();
    /** Earlier failures by sequence. */
    private final Map<Long, List<FailedAttempt>> earlier = new HashMap<>();

    /** Whether frames are missing before the next checkpoint, in this file. */
    private boolean torn;

    /** Whether frames are missing anywhere. */
    private boolean framesMissing;

    private long checkpoint;
    /** Whether every change since the checkpoint is known. */
    private boolean complete;

    private long nextSequence = 1;
    private int lastFile;
    /** The highest sequence mentioned; for all up to it, it is known whether they were accepted. */
    private long lastNamed;

    /** Begins a file: numbers of reasons are per file. */
    void beginFile() {
        reasonNames.clear();
        staged.clear();
        torn = false;
    }

    /** Frames are missing here. Counters whose checkpoint is missing must not be attributed to the next one. */
    void damaged() {
        framesMissing = true;
        staged.clear();
        torn = true;
    }

    /** Frames may be missing that the deletion of files relied on. */
    void incomplete() {
        framesMissing = true;
        complete = false;
    }

    void apply(byte kind, ByteBuffer body) {
        switch (kind) {
            case JournalFrames.SETTLED -> {
                long sequence = body.getLong();
                RemovalReason reason = RemovalReason.of(body.get());
                settled(sequence, JournalFrames.collectorType(body), reason);
            }
            case JournalFrames.WITHDRAWN -> {
                long sequence = body.getLong();
                withdrawn(sequence, JournalFrames.collectorType(body));
            }
            case JournalFrames.REASON -> reasonNames.put(body.getInt(), shared(JournalFrames.text(body)));
            case JournalFrames.PENDING -> {
                long sequence = seen(body.getLong());
                long since = body.getLong();
                int retries = body.getInt();
                long lastAttempt = body.getLong();
                long due = body.getLong();
                persistedStates.put(
                        sequence, new PersistedState(false, since, retries, lastAttempt, due, reason(body)));
            }
            case JournalFrames.DEAD -> {
                long sequence = seen(body.getLong());
                long since = body.getLong();
                int retries = body.getInt();
                long lastAttempt = body.getLong();
                persistedStates.put(
                        sequence,
                        new PersistedState(true, since, retries, lastAttempt, BatchIndex.NEVER, reason(body)));
            }
            case JournalFrames.EARLIER -> earlier(seen(body.getLong()), body);
            case JournalFrames.COUNTERS -> {
                Counters read = counters(body);
                staged.put(JournalFrames.collectorType(body), read);
            }
            case JournalFrames.CHECKPOINT -> {
                long upTo = seen(body.getLong());
                // If frames are missing, some of its counters may be, too, and the previous checkpoint is better.
                if (!torn) {
                    checkpoint = upTo;
                    complete = true;
                    counters.putAll(staged);
                }
                staged.clear();
                torn = false;
            }
            case JournalFrames.GONE -> {
                while (body.remaining() >= 8) {
                    gone.add(seen(body.getLong()));
                }
            }
            case JournalFrames.PAUSED -> {
                boolean isPaused = body.get() != 0;
                paused.put(JournalFrames.collectorType(body), isPaused);
            }
            case JournalFrames.FILE_END ->
                fileEnds.put(seenFile(body.getInt()), new PayloadLog.FileEnd(body.getLong(), body.getLong()));
            case JournalFrames.FILES -> seenFile(body.getInt());
            case JournalFrames.FORGOTTEN -> forgotten(JournalFrames.collectorType(body));
            case JournalFrames.SNAPSHOT_END -> nextSequence = Math.max(nextSequence, body.getLong());
            default -> throw new IllegalArgumentException("unknown kind of frame " + kind);
        }
    }

    private static Counters counters(ByteBuffer body) {
        Counters read = new Counters();
        read.accepted = body.getLong();
        for (RemovalReason reason : RemovalReason.values()) {
            read.count(reason, body.getLong());
        }
        return read;
    }

    private void settled(long sequence, String name, RemovalReason reason) {
        gone(sequence);
        Counters of = counters.computeIfAbsent(name, unknown -> new Counters());
        of.count(reason, 1);
        if (sequence > checkpoint) {
            of.accepted++;
        }
    }

    private void withdrawn(long sequence, String name) {
        gone(sequence);
        // Batches after the checkpoint are in no counters yet.
        if (sequence <= checkpoint) {
            counters.computeIfAbsent(name, unknown -> new Counters()).accepted--;
        }
    }

    /**
     * Moves a forgotten type's counters. Not if frames before it are missing: batches that those frames remove may be
     * held again, and are counted under their own type. The type's counters are then counted twice, since they are also
     * in those of {@link BatchIndex#OTHER}.
     */
    private void forgotten(String name) {
        Counters forgotten = framesMissing ? null : counters.remove(name);
        if (forgotten != null) {
            counters.computeIfAbsent(BatchIndex.OTHER, other -> new Counters()).add(forgotten);
        }
    }

    private void gone(long sequence) {
        gone.add(seen(sequence));
        persistedStates.remove(sequence);
        earlier.remove(sequence);
    }

    private void earlier(long sequence, ByteBuffer body) {
        List<FailedAttempt> failures = new ArrayList<>();
        while (body.remaining() >= 12 && failures.size() < FailedAttempt.MAX_EARLIER) {
            Instant at = Instant.ofEpochMilli(body.getLong());
            failures.add(new FailedAttempt(at, reasonNames.getOrDefault(body.getInt(), LOST_REASON)));
        }
        if (earlier.size() < BatchIndex.MAX_HISTORIES || earlier.containsKey(sequence)) {
            earlier.put(sequence, List.copyOf(failures));
        }
    }

    private @Nullable String reason(ByteBuffer body) {
        int number = body.getInt();
        return number == 0 ? null : reasonNames.getOrDefault(number, LOST_REASON);
    }

    /** Shares equal reasons: in an outage a million batches have the same one. */
    private String shared(String reason) {
        String known = reasons.get(reason);
        if (known == null && reasons.size() < ReasonTable.MAX) {
            reasons.put(reason, reason);
        }
        return known == null ? reason : known;
    }

    private long seen(long sequence) {
        lastNamed = Math.max(lastNamed, sequence);
        nextSequence = Math.max(nextSequence, sequence + 1);
        return sequence;
    }

    private int seenFile(int file) {
        lastFile = Math.max(lastFile, file);
        return file;
    }

    /** Completes the state; called when everything has been applied, before {@link #isGone}. */
    void finish() {
        gone.sort();
    }

    boolean isGone(long sequence) {
        return gone.contains(sequence);
    }

    /** The state of a batch, if it differs from how it was persisted. */
    @Nullable
    PersistedState persistedState(long sequence) {
        PersistedState persistedState = persistedStates.get(sequence);
        return persistedState == null ? null : persistedState.with(earlier.getOrDefault(sequence, List.of()));
    }

    Map<String, Counters> counters() {
        return counters;
    }

    /** Collector types that have been paused and not resumed. */
    List<String> paused() {
        return paused.entrySet().stream()
                .filter(Map.Entry::getValue)
                .map(Map.Entry::getKey)
                .toList();
    }

    /** The counters include the batches up to this sequence as accepted. */
    long checkpoint() {
        return checkpoint;
    }

    long nextSequence() {
        return nextSequence;
    }

    PayloadLog.@Nullable FileEnd fileEnd(int file) {
        return fileEnds.get(file);
    }

    /** The highest number of a payload file that any frame has named. */
    int lastFile() {
        return lastFile;
    }

    /** Whether all batches after the checkpoint that are gone, or were refused, are known. */
    boolean isCompleteSinceCheckpoint() {
        return complete;
    }

    /** The highest sequence mentioned. */
    long lastNamed() {
        return lastNamed;
    }

    /** The batches after the checkpoint that are known to be gone. */
    LongStream goneSinceCheckpoint() {
        return Arrays.stream(gone.toArray()).filter(sequence -> sequence > checkpoint);
    }
}
