package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * Damage found on disk. Immutable.
 *
 * @param file the damaged file
 * @param offset where the damage begins in the file, in bytes
 * @param length length of the damage, in bytes
 * @param reason what is wrong
 * @param batchId the id of the batch lost, if it could still be read
 * @param collectorType its collector type, if known
 * @param batches how many accepted batches were lost; 0 if none
 * @param quarantinedTo where the damaged bytes were copied; {@code null} if there was nothing to copy or no room
 */
public record Corruption(
        Path file,
        long offset,
        long length,
        String reason,
        @Nullable String batchId,
        @Nullable String collectorType,
        long batches,
        @Nullable Path quarantinedTo) {

    /** Makes the reason fit for one line. */
    public Corruption {
        reason = LogSanitizer.of(reason);
    }

    @Override
    public String toString() {
        return "Corruption[" + length + " bytes at " + offset + " of " + LogSanitizer.of(file) + ": " + reason + ", "
                + batches + " batches" + (collectorType == null ? "" : " for " + LogSanitizer.of(collectorType))
                + (batchId == null ? "" : ", id '" + LogSanitizer.of(batchId) + "'") + "]";
    }
}
