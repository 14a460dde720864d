package io.batchpersistence;

/**
 * Where recovery hands a batch to. A target that returns without settling the batch leaves it in flight: somebody may settle
 * it later. One that throws fails the attempt.
 */
@FunctionalInterface
public interface RecoveryTarget {

    /**
     * Takes the batch.
     *
     * @param batch to be settled now or later
     * @throws Exception if the attempt failed, see {@link BatchSender}
     */
    void handOver(RecoveredBatch batch) throws Exception;

    /**
     * A target that sends and acknowledges.
     *
     * @param sender sends a batch
     * @return the target
     */
    static RecoveryTarget of(BatchSender sender) {
        return recovered -> {
            sender.send(recovered.batch());
            recovered.acknowledge();
        };
    }
}
