package io.batchpersistence.spi;

import io.batchpersistence.BatchPersistenceException;
import java.time.Duration;
import java.util.Map;

/**
 * What the instances that share a store know about collectors that are down: part of the SPI, see {@link
 * BatchStore#sharedOutages()}. However many instances there are, a collector gets one probe at a time.
 *
 * <p>Times are relative to now, so the clocks of the instances need not agree. Each method is atomic. The methods throw
 * {@link BatchPersistenceException} when the store fails, in which case the call may or may not have taken effect, and
 * {@link IllegalStateException} once the store is closed. Thread-safe.
 */
public interface SharedOutages {

    /** Returned instead of a probe number: no probe is due. */
    int NOT_DUE = 0;

    /** Returned instead of a probe number: a probe is due, but no batch of the collector type is. */
    int NOTHING_TO_SEND = -1;

    /** Returned instead of a probe number: the collector is not known to be down. */
    int NOT_DOWN = -2;

    /** Passed instead of a probe number: the last probe, whatever its number. */
    int ANY_PROBE = 0;

    /**
     * A collector that is down.
     *
     * @param age for how long that has been known
     * @param untilProbe when it is to be probed next; zero or negative: now. While a probe is in progress, when that
     *     probe times out
     * @param probes how many probes have been taken
     * @param lastFailure the failure with which it was found to be down
     */
    record Outage(Duration age, Duration untilProbe, int probes, String lastFailure) {}

    /**
     * Returns the collectors that are down.
     *
     * @return a copy, by collector type
     */
    Map<String, Outage> current();

    /**
     * Records that a collector was found to be down. If that is known already, nothing changes.
     *
     * @param collectorType the collector's name
     * @param untilProbe when it is to be probed first
     * @param lastFailure the failure with which it was found to be down
     * @return whether that was not known before
     * @throws IllegalArgumentException see {@link NewBatch#checkedCollectorType}
     */
    boolean began(String collectorType, Duration untilProbe, String lastFailure);

    /**
     * Requests the right to the next probe, which is granted to one caller only, when the probe is due and there is a
     * batch to send.
     *
     * @param collectorType the collector's name
     * @param timeout if the result of the probe is not reported for that long, the next one is due
     * @return the number of the probe in this outage, starting at 1, or {@link #NOT_DUE}, {@link #NOTHING_TO_SEND} or
     *     {@link #NOT_DOWN}
     */
    int takeProbe(String collectorType, Duration timeout);

    /**
     * Records that a probe failed, or was not sent after all. Changes nothing if another probe has been taken since.
     *
     * @param collectorType the collector's name
     * @param probe its number, or {@link #ANY_PROBE}
     * @param untilProbe when the next one is due; not negative
     */
    void nextProbe(String collectorType, int probe, Duration untilProbe);

    /**
     * Records that the collector has answered, or that no batch waits for it any more.
     *
     * @param collectorType the collector's name
     * @return whether it was known to be down
     */
    boolean ended(String collectorType);
}
