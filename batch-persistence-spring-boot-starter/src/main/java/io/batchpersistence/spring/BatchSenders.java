package io.batchpersistence.spring;

import io.batchpersistence.BatchSender;
import org.jspecify.annotations.Nullable;

/**
 * Finds the sender of a collector type. The starter's own bean finds {@link BatchSender} beans, see {@link
 * CollectorType}; replace it to find senders elsewhere, for instance if collectors are added and removed at run time.
 * Thread-safe.
 */
@FunctionalInterface
public interface BatchSenders {

    /**
     * Looks up the sender of a collector type. Called again in every round, so the result may change.
     *
     * @param collectorType the collector type
     * @return its sender, or {@code null} if it has none
     */
    @Nullable
    BatchSender find(String collectorType);
}
