package io.batchpersistence.sample;

import java.nio.file.Path;
import java.time.Duration;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * The collector built in for trying things out.
 *
 * @param enabled whether there is one
 * @param file where it writes what it receives, one JSON object a line; grows without bound
 * @param slowDelay how long an answer takes in the mode {@code slow}
 * @param retryAfter what it asks for in the mode {@code throttle}
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
