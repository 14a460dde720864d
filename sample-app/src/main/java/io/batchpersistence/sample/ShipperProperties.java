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
 * What is shipped, and how.
 *
 * @param enabled {@code false}: no files are followed and {@code POST /logs} is not there
 * @param files files or globs to follow
 * @param collector where lines go unless the file or the request says otherwise
 * @param batchSize entries in a batch at most
 * @param batchBytes a batch is full when its lines have this many bytes
 * @param batchDelay how long a line waits for others
 * @param maxLineLength longer lines are cut into parts
 * @param stateDirectory where the positions are kept
 * @param pollInterval how often files are looked at for new lines
 * @param scanInterval how often new, rotated and removed files are looked for
 * @param partialLineTimeout a last line without a line end is taken when it has not changed for so long
 * @param rotatedFileTimeout a file that was renamed or removed is followed until it has not grown for so long
 * @param retryBackoffMax longest wait after a batch was refused; the first is a second, then it doubles
 * @param maxRequestSize largest body of {@code POST /logs}
 * @param summaryInterval how often a line in the log says what was shipped; 0: never
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
     * Files to follow; in YAML a plain text, or {@code path} and {@code collector}.
     *
     * @param path a file or a glob
     * @param collector where its lines go; {@code null}: where {@code shipper.collector} says
     */
    record Source(String path, @Nullable String collector) {

        Source {
            require(!path.isBlank(), "shipper.files must not have a blank path");
        }
    }

    /** Makes a source of a plain text. */
    static final class TextToSource implements Converter<String, Source> {

        @Override
        public Source convert(String path) {
            return new Source(path, null);
        }
    }
}
