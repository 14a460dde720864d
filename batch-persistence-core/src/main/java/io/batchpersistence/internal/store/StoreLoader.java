package io.batchpersistence.internal.store;

import io.batchpersistence.Corruption;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.UnreadableFileException;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.spi.RemovalReason;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/** Builds the index from what the payload log finds and what the journal says, and balances the counters. */
final class StoreLoader implements PayloadLog.Loading {

    private static final Logger log = LogSanitizer.logger(StoreLoader.class);

    private final DiskStoreOptions options;
    private final PayloadLog payload;
    private final BatchIndex index;
    private final JournalState state;
    private final Quarantine quarantine;
    private final Consumer<Corruption> report;
    private final long now;
    private final List<RecordPointer> replaced = new ArrayList<>();
    private long sequence;
    private final LongList damaged = new LongList();
    /** Numbers after the checkpoint that were found in payload files. */
    private final LongList foundSinceCheckpoint = new LongList();
    /** The highest number found under a checksum. */
    private long lastWritten;

    private long lostUnknown;
    /** Numbers assigned while opening. */
    private final Set<Long> given = new HashSet<>();
    /** Earlier batches whose id a later batch has, by number. */
    private final Map<Long, BatchIndex.Type> predecessors = new HashMap<>();

    private StoreLoader(
            DiskStoreOptions options,
            PayloadLog payload,
            BatchIndex index,
            JournalState state,
            Quarantine quarantine,
            Consumer<Corruption> report) {
        this.options = options;
        this.payload = payload;
        this.index = index;
        this.state = state;
        this.quarantine = quarantine;
        this.report = report;
        this.now = options.clock().millis();
        this.sequence = state.nextSequence() - 1;
        state.counters().forEach((name, counters) -> {
            index.type(name, counters);
        });
        state.paused().forEach(name -> index.pause(index.type(name), true));
    }

    /**
     * What else was found.
     *
     * @param sequence the highest number of a batch so far
     * @param gone batches that are gone, which the journal does not know yet
     */
    record Loaded(long sequence, LongList gone) {}

    /** Fills the index. */
    static Loaded load(
            DiskStoreOptions options,
            PayloadLog payload,
            BatchIndex index,
            JournalState state,
            Quarantine quarantine,
            Consumer<Corruption> report)
            throws IOException {
        StoreLoader loader = new StoreLoader(options, payload, index, state, quarantine, report);
        payload.load(loader);
        return new Loaded(loader.sequence, loader.finish());
    }

    @Override
    public boolean isGone(long sequence) {
        return state.isGone(sequence);
    }

    @Override
    public PayloadLog.@Nullable FileEnd fileEnd(int file) {
        return state.fileEnd(file);
    }

    @Override
    public int lastFile() {
        return state.lastFile();
    }

    @Override
    public long newSequence() {
        given.add(++sequence);
        return sequence;
    }

    @Override
    public void found(
            RecordPointer pointer,
            long idHash,
            String collectorType,
            long createdAt,
            int entryCount,
            @Nullable PersistedState fromPayload) {
        sequence = Math.max(sequence, pointer.sequence());
        if (pointer.sequence() > state.checkpoint()) {
            foundSinceCheckpoint.add(pointer.sequence());
        }
        // A document has no checksum, so it may contain any number.
        if (fromPayload == null) {
            lastWritten = Math.max(lastWritten, pointer.sequence());
        }
        if (predecessors.containsKey(pointer.sequence())) {
            // Another copy of it.
            replaced.add(pointer);
            return;
        }
        if (isKnown(pointer, idHash)) {
            return;
        }
        BatchIndex.Type type = index.type(collectorType);
        if (pointer.sequence() > state.checkpoint()) {
            type.counters.accepted++;
        }
        if (hasSuccessor(pointer, idHash, type)) {
            return;
        }
        restore(
                pointer,
                idHash,
                collectorType,
                createdAt,
                entryCount,
                fromPayload != null ? fromPayload : state.persistedState(pointer.sequence()));
    }

    private void restore(
            RecordPointer pointer,
            long idHash,
            String collectorType,
            long createdAt,
            int entryCount,
            @Nullable PersistedState persistedState) {
        BatchIndex.Type type = index.type(collectorType);
        if (persistedState == null) {
            index.markPending(index.restore(pointer, idHash, entryCount, type, createdAt, createdAt), now);
            return;
        }
        int slot = index.restore(pointer, idHash, entryCount, type, createdAt, persistedState.since());
        index.noteFailure(slot, persistedState.lastAttempt(), persistedState.retries(), persistedState.reason());
        index.earlierFailures(slot, persistedState.earlier());
        if (persistedState.dead()) {
            index.markDead(slot, persistedState.since());
        } else {
            index.markPending(slot, persistedState.due() == PersistedState.DUE_NOW ? now : persistedState.due());
        }
    }

    /** Whether the same batch was found before: one of the two is a copy whose original was about to be deleted. */
    private boolean isKnown(RecordPointer pointer, long idHash) {
        List<Integer> same = new ArrayList<>(0);
        index.candidates(idHash, same::add);
        for (int slot : same) {
            RecordPointer other = index.location(slot);
            if (other.sequence() == pointer.sequence()) {
                index.relocate(slot, pointer);
                payload.superseded(other);
                return true;
            }
        }
        return false;
    }

    /**
     * Whether a later batch has the same id. Either the earlier batch had ended when the later one was accepted, and
     * its mark is lost; or it is an append that failed after its bytes were written, and was tried again. The later one
     * counts. Files are not read in that order: the earlier one may have been moved since.
     */
    private boolean hasSuccessor(RecordPointer pointer, long idHash, BatchIndex.Type type) {
        List<Integer> same = new ArrayList<>(0);
        index.candidates(idHash, same::add);
        for (int slot : same) {
            RecordPointer other = index.location(slot);
            String id = idAt(other);
            if (id == null || !id.equals(idAt(pointer))) {
                continue;
            }
            if (other.sequence() > pointer.sequence()) {
                replaced(pointer, type, other.sequence());
                return true;
            }
            replaced(other, index.typeOf(slot), pointer.sequence());
            index.remove(slot);
        }
        return false;
    }

    private void replaced(RecordPointer pointer, BatchIndex.Type type, long by) {
        replaced.add(pointer);
        if (given.contains(by)) {
            // It was replaced by a person.
            type.counters.accepted--;
        } else {
            predecessors.put(pointer.sequence(), type);
        }
    }

    @Override
    public void tornTail(Path file, long offset, long length) {
        log.info(
                "{} ends in {} bytes at {} that were being written when the process or the machine stopped. They were not"
                        + " acknowledged, so no batch is lost with them. {}",
                file,
                length,
                offset,
                Quarantine.describe(quarantine.keep(file, offset, length)));
    }

    @Override
    public boolean damaged(
            Path file,
            long offset,
            long length,
            String reason,
            @Nullable String id,
            @Nullable String collectorType,
            long[] lost) {
        long batches = 0;
        for (long number : lost) {
            sequence = Math.max(sequence, number);
            if (state.isGone(number)) {
                continue;
            }
            if (number > 0) {
                damaged.add(number);
            }
            // A batch without a number was most likely counted, too.
            boolean counted = number <= state.checkpoint();
            if (counted && collectorType == null && number > 0) {
                // Accepted under a collector type that only finish can find, by its missing batches.
                continue;
            }
            batches++;
            if (counted && collectorType == null) {
                lostUnknown++;
                continue;
            }
            Counters counters =
                    index.type(collectorType == null ? IndexedBatchStore.UNKNOWN_COLLECTOR : collectorType).counters;
            if (!counted) {
                counters.accepted++;
            }
            counters.count(RemovalReason.CORRUPT, 1);
        }
        Path kept = quarantine.keep(file, offset, length);
        report.accept(new Corruption(file, offset, length, reason, id, collectorType, batches, kept));
        return kept != null;
    }

    /** Counts, and reports as lost, what was accepted and is neither held nor known to be gone. */
    private LongList finish() {
        LongList gone = new LongList();
        for (RecordPointer pointer : replaced) {
            payload.removed(pointer);
            gone.add(pointer.sequence());
        }
        long[] lost = notHeld(damaged);
        payload.lost(lost);
        Arrays.stream(lost).forEach(gone::add);
        for (BatchIndex.Type type : index.types()) {
            // Sort the lists now, while no caller has to wait for it.
            type.live.oldest();
            type.dead.oldest();
        }
        for (BatchIndex.Type type : index.types()) {
            Counters counters = type.counters;
            long missing = counters.accepted - type.held() - counters.gone();
            long ended =
                    predecessors.values().stream().filter(each -> each == type).count();
            // Nearly always delivered: their marks are lost, but their ids were free again.
            if (missing > 0 && ended > 0) {
                counters.count(RemovalReason.DELIVERED, Math.min(missing, ended));
                missing -= Math.min(missing, ended);
            }
            if (missing > 0) {
                counters.count(RemovalReason.CORRUPT, missing);
                long reported = Math.min(missing, lostUnknown);
                lostUnknown -= reported;
                if (missing > reported) {
                    report.accept(new Corruption(
                            options.directory(),
                            0,
                            0,
                            "batches are missing; they were in damaged bytes, or their file was removed or cut off",
                            null,
                            type.name,
                            missing - reported,
                            null));
                }
            } else {
                // More are held than were counted: a power cut took back marks. These batches were accepted once, and
                // are held again.
                counters.accepted -= missing;
            }
        }
        countMissingNumbers();
        if (lostUnknown > 0) {
            Counters unknown = index.type(IndexedBatchStore.UNKNOWN_COLLECTOR).counters;
            unknown.accepted += lostUnknown;
            unknown.count(RemovalReason.CORRUPT, lostUnknown);
        }
        return gone;
    }

    /**
     * Counts batches that are missing by their number. Numbers are consecutive, and the journal knows which of them are
     * gone or were refused. So one that is neither found nor known to be gone, while a later one is, was accepted, and
     * has been lost with its file.
     */
    private void countMissingNumbers() {
        if (!state.isCompleteSinceCheckpoint()) {
            // What was delivered since can't be told from what is lost.
            return;
        }
        long last = Math.max(lastWritten, state.lastNamed());
        LongStream known = LongStream.concat(
                LongStream.concat(Arrays.stream(foundSinceCheckpoint.toArray()), Arrays.stream(damaged.toArray())),
                state.goneSinceCheckpoint());
        long accounted = known.filter(number -> number > state.checkpoint() && number <= last)
                .distinct()
                .count();
        // Batches whose bytes are damaged, including the number, are reported and counted already.
        long missing = last - state.checkpoint() - accounted - lostUnknown;
        if (missing > 0) {
            Counters unknown = index.type(IndexedBatchStore.UNKNOWN_COLLECTOR).counters;
            unknown.accepted += missing;
            unknown.count(RemovalReason.CORRUPT, missing);
            report.accept(new Corruption(
                    options.directory(),
                    0,
                    0,
                    "batches are missing between others, by their numbers; their file was removed, emptied or cut off",
                    null,
                    null,
                    missing,
                    null));
        }
    }

    private long[] notHeld(LongList candidates) {
        candidates.sort();
        Set<Long> held = new HashSet<>();
        if (candidates.size() > 0) {
            index.forEach(slot -> {
                if (candidates.contains(index.sequence(slot))) {
                    held.add(index.sequence(slot));
                }
            });
        }
        return Arrays.stream(candidates.toArray())
                .filter(sequence -> !held.contains(sequence))
                .toArray();
    }

    private @Nullable String idAt(RecordPointer pointer) {
        try {
            return payload.header(pointer).id();
        } catch (UnreadableFileException e) {
            // Without the id, a batch that was replaced would be held twice.
            throw new UncheckedIOException(e);
        } catch (IOException | DamagedPayloadException e) {
            // Reading its content reports the problem.
            return null;
        }
    }
}
