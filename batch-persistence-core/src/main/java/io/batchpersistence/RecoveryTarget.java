package io.batchpersistence;

/**
 * Receives batches from recovery. A target that returns without settling the batch leaves it in flight, to be settled
 * later. A target that throws fails the attempt.
 */
@FunctionalInterface
public interface RecoveryTarget {

    /**
     * Receives a batch.
     *
     * @param batch the batch, to be settled now or later
     * @throws Exception if the attempt failed, see {@link BatchSender}
     */
    void handOver(RecoveredBatch batch) throws Exception;

    /**
     * Creates a target that sends and acknowledges.
     *
     * @param sender sends a batch
     * @return the target
     */
    static RecoveryTarget of(BatchSender sender) {
        return recovered -> {
            sender.send(recovered.batch());
            recovered.acknowledgeLater();
        };
    }
}
