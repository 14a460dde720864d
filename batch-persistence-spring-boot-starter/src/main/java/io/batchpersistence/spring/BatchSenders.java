package io.batchpersistence.spring;

import io.batchpersistence.BatchSender;
import org.jspecify.annotations.Nullable;

/**
 * Finds the sender of a collector type. The bean that comes with the starter finds {@link BatchSender} beans, see {@link
 * CollectorType}; replace it to find them elsewhere, for instance when collectors come and go at run time. Thread-safe.
 */
@FunctionalInterface
public interface BatchSenders {

    /**
     * Looks it up. Asked anew for every round, so the answer may change.
     *
     * @param collectorType a collector type
     * @return its sender, or {@code null} if it has none
     */
    @Nullable
    BatchSender find(String collectorType);
}
