package io.batchpersistence.sample;

import java.nio.file.Path;
import java.time.Duration;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * The built-in collector for trying things out.
 *
 * @param enabled whether the collector is enabled
 * @param file the file for received entries, one JSON object per line; grows without limit
 * @param slowDelay how long a response takes in the mode {@code slow}
 * @param retryAfter the delay that the collector asks for in the mode {@code throttle}
 */
@ConfigurationProperties("collector")
record BuiltInCollectorProperties(
        @DefaultValue("true") boolean enabled,
        @DefaultValue("./collector/received.ndjson") Path file,
        @DefaultValue("2s") Duration slowDelay,
        @DefaultValue("2s") Duration retryAfter) {

    BuiltInCollectorProperties {
        if (slowDelay.isNegative() || retryAfter.isNegative()) {
            throw new IllegalArgumentException(
                    "collector.slow_delay and collector.retry_after must not be negative, but are " + slowDelay
                            + " and " + retryAfter);
        }
    }
}
