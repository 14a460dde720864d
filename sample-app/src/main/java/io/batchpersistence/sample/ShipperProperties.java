package io.batchpersistence.sample;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;
import org.springframework.core.convert.converter.Converter;
import org.springframework.util.unit.DataSize;

/**
 * Configures what is shipped, and how.
 *
 * @param enabled {@code false}: no files are followed, and {@code POST /logs} does not exist
 * @param files files or globs to follow
 * @param collector the destination of lines, unless the file or the request names another
 * @param batchSize maximum number of entries in a batch
 * @param batchBytes a batch is full when its lines have this many bytes
 * @param batchDelay how long a line waits for others in its batch
 * @param maxLineLength maximum length of a line in bytes; longer lines are split into parts
 * @param stateDirectory the directory of the positions
 * @param pollInterval how often files are checked for new lines
 * @param scanInterval how often to look for new, rotated and removed files
 * @param partialLineTimeout a last line without a line end is shipped after it has not changed for this long
 * @param rotatedFileTimeout a file that was renamed or removed is followed until it has not grown for this long
 * @param retryBackoffMax maximum wait after a batch was refused; the first wait is a second, then it doubles
 * @param maxRequestSize maximum size of the body of {@code POST /logs}
 * @param summaryInterval how often a log line summarizes what was shipped; 0: never
 */
@ConfigurationProperties("shipper")
record ShipperProperties(
        @DefaultValue("true") boolean enabled,
        @DefaultValue List<Source> files,
        @DefaultValue("loki") String collector,
        @DefaultValue("100") int batchSize,
        @DefaultValue("1MB") DataSize batchBytes,
        @DefaultValue("1s") Duration batchDelay,
        @DefaultValue("1MB") DataSize maxLineLength,
        @DefaultValue("./shipper-state") Path stateDirectory,
        @DefaultValue("250ms") Duration pollInterval,
        @DefaultValue("1s") Duration scanInterval,
        @DefaultValue("5s") Duration partialLineTimeout,
        @DefaultValue("30s") Duration rotatedFileTimeout,
        @DefaultValue("30s") Duration retryBackoffMax,
        @DefaultValue("10MB") DataSize maxRequestSize,
        @DefaultValue("0s") Duration summaryInterval) {

    private static final DataSize LARGEST = DataSize.ofMegabytes(16);

    ShipperProperties {
        files = List.copyOf(files);
        require(batchSize > 0, "shipper.batch_size must be at least 1, but is " + batchSize);
        size("shipper.batch_bytes", batchBytes);
        size("shipper.max_line_length", maxLineLength);
        require(
                maxRequestSize.toBytes() > 0 && maxRequestSize.toMegabytes() <= 256,
                "shipper.max_request_size must be between 1B and 256MB, but is " + maxRequestSize);
        positive("shipper.poll_interval", pollInterval);
        positive("shipper.scan_interval", scanInterval);
        positive("shipper.retry_backoff_max", retryBackoffMax);
        notNegative("shipper.batch_delay", batchDelay);
        notNegative("shipper.partial_line_timeout", partialLineTimeout);
        notNegative("shipper.rotated_file_timeout", rotatedFileTimeout);
        notNegative("shipper.summary_interval", summaryInterval);
    }

    private static void size(String key, DataSize size) {
        require(
                size.toBytes() > 0 && size.compareTo(LARGEST) <= 0,
                key + " must be between 1B and " + LARGEST.toMegabytes() + "MB, but is " + size);
    }

    private static void positive(String key, Duration duration) {
        require(!duration.isNegative() && !duration.isZero(), key + " must be longer than 0, but is " + duration);
    }

    private static void notNegative(String key, Duration duration) {
        require(!duration.isNegative(), key + " must not be negative, but is " + duration);
    }

    private static void require(boolean condition, String message) {
        if (!condition) {
            throw new IllegalArgumentException(message);
        }
    }

    /**
     * Files to follow; in YAML either a plain text, or {@code path} and {@code collector}.
     *
     * @param path a file or a glob
     * @param collector the destination of its lines; {@code null}: the value of {@code shipper.collector}
     */
    record Source(String path, @Nullable String collector) {

        Source {
            require(!path.isBlank(), "shipper.files must not have a blank path");
        }
    }

    /** Converts a plain text to a source. */
    static final class TextToSource implements Converter<String, Source> {

        @Override
        public Source convert(String path) {
            return new Source(path, null);
        }
    }
}
