package io.batchpersistence.internal.spi;

import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.BatchStore;
import java.time.Instant;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** A store of this process alone, whose batches can be moved to another store. */
public interface LocalBatchStore extends BatchStore {

    /**
     * A batch that is not in flight.
     *
     * @param slot for this store
     * @param sequence greater than those of the batches persisted before it
     */
    record BatchRef(int slot, long sequence) {}

    /**
     * Everything known about a batch.
     *
     * @param batch as it is; pending or a dead letter
     * @param since what its age is measured from
     * @param bytes on disk
     */
    record StoredBatch(PersistedBatch batch, Instant since, long bytes) {}

    /** Whether a batch is held, or is being appended: one with that id would be refused. */
    boolean holds(String batchId);

    /** Whether no batch is held or being appended. */
    boolean isEmpty();

    /**
     * Lists pending batches and dead letters, the oldest first.
     *
     * @param after the sequence of the last one listed; 0 to begin
     * @param max how many at most
     * @return where they are, for {@link #read}, {@link #markDead} and {@link #withdraw}
     */
    List<BatchRef> refsAfter(long after, int max);

    /** Reads a batch; {@code null} if it is gone or in flight. A damaged batch is reported. */
    @Nullable
    StoredBatch read(BatchRef ref);

    /** Makes a batch a dead letter, if it is still pending. Returns whether it was. */
    boolean markDead(BatchRef ref, String reason, Instant at);

    /**
     * Removes a batch as if it had never been accepted, since it is held and counted elsewhere now; not while it is in
     * flight. As durable as a mark. Returns whether it was removed.
     */
    boolean withdraw(BatchRef ref);
}
