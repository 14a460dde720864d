package io.batchpersistence;

/**
 * Counts what an engine has done since it was built, beyond the accounting of its store. Immutable.
 *
 * @param refusedFull batches that were refused because the store was full
 * @param refusedError batches that were refused because they could not be written
 * @param replayed dead letters that were made pending again
 * @param timedOut attempts that failed because they were not settled within the batch timeout; they are also counted as
 *     failed attempts
 * @param sending batches that are being sent at the moment
 */
public record EngineCounters(long refusedFull, long refusedError, long replayed, long timedOut, int sending) {}
