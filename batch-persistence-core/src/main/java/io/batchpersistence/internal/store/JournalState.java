package io.batchpersistence.internal.store;

import io.batchpersistence.FailedAttempt;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/**
 * What state journals say, frame by frame. A snapshot replaces everything said before it. Not thread-safe.
 *
 * <p>Frames are absolute ("is pending, due then"), never relative, so reading one twice, or one that repeats what a snapshot
 * already holds, changes nothing; the counters are guarded by the sequence of their checkpoint.
 */
final class JournalState {

    private static final String LOST_REASON = "(the reason was in a damaged part of the journal)";

    /** Numbers of collector types, in files in which they have numbers. */
    private final Map<Integer, String> names = new HashMap<>();

    private final Map<Integer, String> reasonNames = new HashMap<>();
    private final Map<String, String> reasons = new HashMap<>();
    private final Map<String, Counters> staged = new HashMap<>();
    private final Map<String, Counters> counters = new HashMap<>();
    private final Map<String, Boolean> paused = new HashMap<>();
    private final StandingTable standings = new StandingTable();
    private final LongList gone = new LongList();
    private final Map<Integer, PayloadLog.FileEnd> fileEnds = new HashMap<>();
    /** By sequence. */
    private final Map<Long, List<FailedAttempt>> earlier = new HashMap<>();

    /** Of batches whose collector type was named in another frame, which is damaged; by sequence. */
    private final Map<Long, Cause> ends = new HashMap<>();

    private final Deque<Cause> nameless = new ArrayDeque<>();
    /** Whether no counters of the next checkpoint are missing. */
    private boolean stagedAll = true;
    /** Whether frames are missing before the next checkpoint, in this file. */
    private boolean torn;

    /** Whether frames are missing anywhere. */
    private boolean framesMissing;

    private long checkpoint;
    /** Whether every change since the checkpoint is known. */
    private boolean complete;

    private long nextSequence = 1;
    private int lastFile;
    /** The highest number of which something is said; of all up to it is known whether they were accepted. */
    private long lastNamed;

    /** Numbers of collector types and reasons are per file. */
    void beginFile() {
        names.clear();
        reasonNames.clear();
        staged.clear();
        stagedAll = true;
        torn = false;
    }

    /** Frames are missing here. Counters without their checkpoint must not be taken for those of the next. */
    void damaged() {
        framesMissing = true;
        staged.clear();
        stagedAll = false;
        torn = true;
    }

    /** Frames may be missing that files were deleted relying on. */
    void incomplete() {
        framesMissing = true;
        complete = false;
    }

    void apply(byte kind, ByteBuffer body) {
        switch (kind) {
            case JournalFrames.COLLECTOR_BEFORE -> names.put(body.getInt(), JournalFrames.collectorType(body));
            case JournalFrames.SETTLED -> {
                long sequence = body.getLong();
                Cause cause = Cause.of(body.get());
                settled(sequence, JournalFrames.collectorType(body), cause);
            }
            case JournalFrames.SETTLED_BEFORE ->
                settled(body.getLong(), names.get(body.getInt()), Cause.of(body.get()));
            case JournalFrames.WITHDRAWN -> {
                long sequence = body.getLong();
                withdrawn(sequence, JournalFrames.collectorType(body));
            }
            case JournalFrames.REASON -> reasonNames.put(body.getInt(), shared(JournalFrames.text(body)));
            case JournalFrames.PENDING, JournalFrames.PENDING_V1 -> {
                long sequence = seen(body.getLong());
                long since = body.getLong();
                int retries = body.getInt();
                long lastAttempt = body.getLong();
                long due = body.getLong();
                standings.put(sequence, new Standing(false, since, retries, lastAttempt, due, reason(kind, body)));
            }
            case JournalFrames.DEAD, JournalFrames.DEAD_V1 -> {
                long sequence = seen(body.getLong());
                long since = body.getLong();
                int retries = body.getInt();
                long lastAttempt = body.getLong();
                standings.put(
                        sequence,
                        new Standing(true, since, retries, lastAttempt, BatchIndex.NEVER, reason(kind, body)));
            }
            case JournalFrames.EARLIER -> earlier(seen(body.getLong()), body);
            case JournalFrames.COUNTERS -> {
                Counters read = counters(body);
                staged.put(JournalFrames.collectorType(body), read);
            }
            case JournalFrames.COUNTERS_BEFORE -> {
                String name = names.get(body.getInt());
                if (name == null) {
                    stagedAll = false; // the frame with it is damaged: older counters are better than those of nobody
                } else {
                    staged.put(name, counters(body));
                }
            }
            case JournalFrames.CHECKPOINT -> {
                long upTo = seen(body.getLong());
                if (!torn) { // else some of its counters may be missing, and the one before it is the better one
                    checkpoint = upTo;
                    complete = true;
                    counters.putAll(staged);
                    if (stagedAll) {
                        ends.clear(); // they are in these counters
                    }
                }
                staged.clear();
                stagedAll = true;
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
            case JournalFrames.PAUSED_BEFORE -> {
                String name = names.get(body.getInt());
                if (name != null) {
                    paused.put(name, body.get() != 0);
                }
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
        for (Cause cause : Cause.values()) {
            read.count(cause, body.getLong());
        }
        return read;
    }

    private void settled(long sequence, @Nullable String name, Cause cause) {
        gone(sequence);
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

    private void withdrawn(long sequence, String name) {
        gone(sequence);
        if (sequence <= checkpoint) { // else it is in nobody's counters
            counters.computeIfAbsent(name, unknown -> new Counters()).accepted--;
        }
    }

    /**
     * Not if frames before it are missing: batches that they say are gone may be held again, and are counted by their own name. What
     * that had counted is then counted twice, since it is in the counters of {@link BatchIndex#OTHER}, too.
     */
    private void forgotten(String name) {
        Counters forgotten = framesMissing ? null : counters.remove(name);
        if (forgotten != null) {
            counters.computeIfAbsent(BatchIndex.OTHER, other -> new Counters()).add(forgotten);
        }
    }

    private void gone(long sequence) {
        gone.add(seen(sequence));
        standings.remove(sequence);
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

    private @Nullable String reason(byte kind, ByteBuffer body) {
        if (kind == JournalFrames.PENDING_V1 || kind == JournalFrames.DEAD_V1) {
            String text = JournalFrames.text(body);
            return text.isEmpty() ? null : shared(text);
        }
        int number = body.getInt();
        return number == 0 ? null : reasonNames.getOrDefault(number, LOST_REASON);
    }

    /** In an outage a million batches share one reason. */
    private String shared(String reason) {
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
        lastNamed = Math.max(lastNamed, sequence);
        nextSequence = Math.max(nextSequence, sequence + 1);
        return sequence;
    }

    private int seenFile(int file) {
        lastFile = Math.max(lastFile, file);
        return file;
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

    /** How the batch stood, if that is not how it was persisted. */
    @Nullable
    Standing standing(long sequence) {
        Standing standing = standings.get(sequence);
        return standing == null ? null : standing.with(earlier.getOrDefault(sequence, List.of()));
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

    /** Batches up to this one are in the counters as accepted. */
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

    /** Whether every batch after the checkpoint that is gone, or was refused, is known to be. */
    boolean isCompleteSinceCheckpoint() {
        return complete;
    }

    /** The highest number of a batch of which something is said. */
    long lastNamed() {
        return lastNamed;
    }

    /** The batches after the checkpoint that are known to be gone. */
    LongStream goneSinceCheckpoint() {
        return Arrays.stream(gone.toArray()).filter(sequence -> sequence > checkpoint);
    }
}
