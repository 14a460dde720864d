package io.batchpersistence;

import java.time.Duration;
import java.util.Map;

/**
 * What the instances that share a store know together of collectors that are down: part of the SPI, see
 * {@link BatchStore#sharedOutages()}. However many they are, a collector gets one probe at a time.
 *
 * <p>Times are distances from now, so that the clocks of the instances need not agree. Each method is atomic. They throw
 * {@link BatchPersistenceException} when the store fails, of which it is then not known whether it has done it, and
 * {@link IllegalStateException} once it is closed. Thread-safe.
 */
public interface SharedOutages {

    /** Instead of a number of a probe: it is not due. */
    int NOT_DUE = 0;

    /** Instead of a number of a probe: it is due, but no batch of that collector type is. */
    int NOTHING_TO_SEND = -1;

    /** Instead of a number of a probe: the collector is not known to be down. */
    int NOT_DOWN = -2;

    /** Instead of a number of a probe: the last one, whichever that is. */
    int ANY_PROBE = 0;

    /**
     * A collector that is down.
     *
     * @param age how long that has been known
     * @param untilProbe when it is to be probed next; not positive: now. While a probe is out, when that is given up
     * @param probes how many have been taken
     * @param lastFailure what it failed with when that was found out
     */
    record Outage(Duration age, Duration untilProbe, int probes, String lastFailure) {}

    /**
     * The collectors that are down.
     *
     * @return a copy, by collector type
     */
    Map<String, Outage> current();

    /**
     * A collector was found to be down. If that is known already, nothing changes.
     *
     * @param collectorType its collector type
     * @param untilProbe when it is to be probed
     * @param lastFailure what it failed with
     * @return whether that was not known
     * @throws IllegalArgumentException see {@link NewBatch#checkedCollectorType}
     */
    boolean began(String collectorType, Duration untilProbe, String lastFailure);

    /**
     * Asks for the right to the next probe, which is given to one caller only, when it is due and there is a batch to send.
     *
     * @param collectorType its collector type
     * @param timeout if nothing is heard of the probe for that long, the next one is due
     * @return the number of the probe in this outage, from 1 on, or {@link #NOT_DUE}, {@link #NOTHING_TO_SEND} or
     *     {@link #NOT_DOWN}
     */
    int takeProbe(String collectorType, Duration timeout);

    /**
     * A probe has failed, or was not sent after all. Changes nothing if another one has been taken since.
     *
     * @param collectorType its collector type
     * @param probe its number, or {@link #ANY_PROBE}
     * @param untilProbe when the next one is due; not negative
     */
    void nextProbe(String collectorType, int probe, Duration untilProbe);

    /**
     * The collector has answered, or nobody waits for it any more.
     *
     * @param collectorType its collector type
     * @return whether it was known to be down
     */
    boolean ended(String collectorType);
}
