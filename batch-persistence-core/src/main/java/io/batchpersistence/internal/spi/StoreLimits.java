package io.batchpersistence.internal.spi;

/** Limits that all stores share. */
public final class StoreLimits {

    /** Characters of a failure reason that are kept: what fits in a frame of the journal. */
    public static final int MAX_REASON = 4_096;

    /** Limit on the collector types without batches that are known by name: those that had some most recently. */
    public static final int MAX_IDLE_TYPES = 1_000;

    /** Collector type that collects the counters of the forgotten ones. */
    public static final String OTHER_TYPES = "other";

    private StoreLimits() {}

    /** Shortens a failure reason of any length to what is kept of it: at most {@link #MAX_REASON} characters. */
    public static String shortened(String reason) {
        return reason.length() <= MAX_REASON ? reason : reason.substring(0, MAX_REASON - 1) + "\u2026";
    }
}
